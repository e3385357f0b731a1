"""How long a pass takes, worked out by hand for a model of a few numbers, and what must hold."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.plan.test_roofline import SHAPE, WORKS

from packsweep.machine.devices import Device
from packsweep.plan import pass_time, roofline
from packsweep.plan.formats import Formats
from packsweep.plan.pass_time import (
    DECODE_STEP_S,
    PREFILL_STEP_S,
    TOKENIZE_S_PER_TOKEN,
    TOKENIZE_TOGETHER_S_PER_TOKEN,
    Engine,
    Pass,
    PassTime,
)
from packsweep.plan.roofline import Work

ENGINE = Engine(
    shape=SHAPE,
    device=Device(bf16_flops_per_s=1e5, memory_bytes_per_s=1e4, source="made up"),
    size=Formats(peak_dtype="bf16", layer_bytes=2.0, head_bytes=2.0, kv_bytes=2.0),
    peak_flops_per_s=1e5,
    mfu=0.5,
    mbu=0.25,
    max_num_batched_tokens=16,
    max_num_seqs=4,
)
LISTS = st.lists(WORKS, min_size=1, max_size=9)


def _work(prompt: int, cached: int = 0, output: int = 1) -> Work:
    return Work(prompt_tokens=prompt, cached_tokens=cached, output_tokens=output)


def _time(*works: Work, engine: Engine = ENGINE) -> PassTime:
    return pass_time.pass_time(engine, Pass(requests=works))


def test_pass_time_one_request() -> None:
    """3 tokens: 3 * 92 linear, 6 pairs of 8, 28 for the output; then 2 steps of 120 B and 72 B."""
    time = _time(_work(3, output=3))
    prefill_s = (3 * 92 + 6 * 8 + 28) / 0.5e5 + PREFILL_STEP_S
    decode_s = (2 * 120 + (4 + 5) * 8) / 2500 + 2 * DECODE_STEP_S
    assert time.prefill_s == pytest.approx(prefill_s)
    assert time.decode_s == pytest.approx(decode_s)
    assert time.duration_s == pytest.approx(prefill_s + decode_s + 3 * TOKENIZE_S_PER_TOKEN)


def test_long_prefill_reaches_its_share() -> None:
    """Where the steps' own time is nothing beside it, prefill runs at the share it was told."""
    works = [_work(50)] * 1000
    wide = replace(ENGINE, max_num_batched_tokens=10**6, max_num_seqs=10**6)
    flops = roofline.prefill_flops(SHAPE, works)
    assert flops / _time(*works, engine=wide).prefill_s == pytest.approx(0.5 * 1e5, rel=1e-3)


def test_pass_time_steps_of_prefill() -> None:
    """Steps that compute for longer than the host prepares one: the first two cost time."""
    together, alone = _time(*[_work(8)] * 5), _time(_work(40))
    compute_s = 5 * (8 * 92 + 36 * 8 + 28) / 0.5e5
    assert together.prefill_s == pytest.approx(compute_s + 2 * PREFILL_STEP_S)
    assert alone.prefill_s == pytest.approx((40 * 92 + 820 * 8 + 28) / 0.5e5 + 2 * PREFILL_STEP_S)


def test_pass_time_steps_too_short_to_prepare() -> None:
    """40 tokens in steps of at most 16 are 3 steps, and the first request goes ahead alone.

    Steps that compute for less than the host prepares one wait for it, all four of them.
    """
    fast = replace(ENGINE, peak_flops_per_s=1e9)
    compute_s = 5 * (8 * 92 + 36 * 8 + 28) / 0.5e9
    found = _time(*[_work(8)] * 5, engine=fast)
    assert found.prefill_s == pytest.approx(4 * PREFILL_STEP_S + compute_s / 2)


def test_pass_time_turns_of_decode() -> None:
    """Five answers of two tokens, four at once, are two turns: the weights are read twice."""
    time = _time(*[_work(3, output=2)] * 5)
    assert time.decode_s == pytest.approx((2 * 120 + 5 * 4 * 8) / 2500 + 2 * DECODE_STEP_S)


def test_pass_time_tokenized_before() -> None:
    """Texts tokenized together are ready sooner than one by one, and nothing computes meanwhile."""
    works = [_work(1_000)] * 400
    one_by_one = _time(*works)
    together = _time(*works, engine=replace(ENGINE, tokenized_before=True))
    assert together.first_text_s == together.feed_s > one_by_one.first_text_s
    assert together.feed_s == pytest.approx(400_000 * TOKENIZE_TOGETHER_S_PER_TOKEN)
    assert together.prefill_s == one_by_one.prefill_s
    assert together.feed_s < one_by_one.feed_s / 10


def test_pass_time_bound_by_feeding() -> None:
    """Texts that are tokenized more slowly than computed decide, and the last one is left over."""
    fast = replace(ENGINE, peak_flops_per_s=1e15, max_num_batched_tokens=10**9)
    works = [_work(100_000, cached=99_999)] * 4
    time = _time(*works, engine=fast)
    assert time.feed_s == pytest.approx(400_000 * TOKENIZE_S_PER_TOKEN)
    assert time.duration_s == pytest.approx(time.feed_s + PREFILL_STEP_S)


def test_pass_time_stages_share_prefill() -> None:
    """Two stages compute two of three steps at once, and the last waits for the first once."""
    works, two = [_work(8)] * 5, replace(ENGINE, num_stages=2)
    steps = 4  # of 16 tokens, and the first request goes ahead alone
    compute_s = 5 * (8 * 92 + 36 * 8 + 28) / 0.5e5 * (steps + 1) / (2 * steps)
    assert _time(*works, engine=two).prefill_s == pytest.approx(compute_s + 2 * PREFILL_STEP_S)


def test_pass_time_stages_of_one_request() -> None:
    """A single request is on one stage at a time: decoding is as slow as on one GPU."""
    two = replace(ENGINE, num_stages=2)
    assert _time(_work(3, output=3), engine=two).decode_s == _time(_work(3, output=3)).decode_s


def test_pass_time_stages_share_contexts() -> None:
    """Of several requests each stage reads its part of the contexts; the weights once a batch."""
    works, two = [_work(3, output=2)] * 4, replace(ENGINE, num_stages=2)
    expected = (120 + 4 * 4 * 8 / 2) / 2500 + DECODE_STEP_S
    assert _time(*works, engine=two).decode_s == pytest.approx(expected)


def test_pass_time_nothing() -> None:
    """Nothing to do takes no time."""
    assert _time().duration_s == 0


def test_copies_count_as_requests() -> None:
    """A pass of copies is the pass in which each is written out."""
    first, again = (_work(20), _work(30)), (_work(20, cached=16), _work(30, cached=16))
    short = Pass(requests=first, copies=again, num_copies=3)
    long = Pass(requests=first + 3 * again)
    assert short.num_requests == long.num_requests == 8
    assert (short.prompt_tokens, short.cached_tokens) == (200, 96)
    for name in ("prefill_s", "decode_s", "feed_s", "duration_s"):
        times = [getattr(pass_time.pass_time(ENGINE, load), name) for load in (short, long)]
        assert times[0] == pytest.approx(times[1])


@given(LISTS, st.integers(0, 8), st.integers(1, 20), st.integers(0, 5))
def test_duration_grows_with_tokens(
    works: list[Work], index: int, prompt: int, output: int
) -> None:
    """A longer prompt or a longer answer never makes a pass shorter."""
    at = index % len(works)
    more = replace(
        works[at],
        prompt_tokens=works[at].prompt_tokens + prompt,
        output_tokens=works[at].output_tokens + output,
    )
    longer = [*works[:at], more, *works[at + 1 :]]
    assert _time(*works).duration_s <= _time(*longer).duration_s * (1 + 1e-12)


@given(LISTS, LISTS)
def test_duration_grows_with_requests(works: list[Work], more: list[Work]) -> None:
    """A further request never makes a pass shorter."""
    assert _time(*works).duration_s <= _time(*works, *more).duration_s * (1 + 1e-12)


@given(LISTS)
def test_duration_cached(works: list[Work]) -> None:
    """What the cache serves never makes a pass longer."""
    cold = [replace(work, cached_tokens=0) for work in works]
    assert 0 < _time(*works).duration_s <= _time(*cold).duration_s * (1 + 1e-12)


@given(LISTS, st.floats(1, 4))
def test_duration_faster_device(works: list[Work], factor: float) -> None:
    """A faster GPU is never slower, and never by more than its factor."""
    device = replace(ENGINE.device, memory_bytes_per_s=factor * 1e4)
    fast = replace(ENGINE, peak_flops_per_s=factor * 1e5, device=device)
    slow_s, fast_s = _time(*works).duration_s, _time(*works, engine=fast).duration_s
    assert fast_s <= slow_s * (1 + 1e-12)
    assert slow_s <= factor * fast_s * (1 + 1e-12)

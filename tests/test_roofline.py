"""Work and time of a pass, worked out by hand for a model of a few numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packsweep import roofline
from packsweep.roofline import Device, Work
from packsweep.shapes import ModelShape

# q = kv = 2, so 4 * 2 * 2 + 3 * 2 * 5 = 46 entries a layer; tables of 7 * 2, tied.
SHAPE = ModelShape(
    num_layers=1,
    hidden_size=2,
    intermediate_size=5,
    num_heads=1,
    num_kv_heads=1,
    head_dim=2,
    vocab_size=7,
    max_position_embeddings=100,
    tie_word_embeddings=True,
    torch_dtype="bfloat16",
    model_type="llama",
)
DEVICE = Device(bf16_flops_per_s=1000.0, memory_bytes_per_s=100.0, source="made up")
WORKS = st.integers(1, 50).flatmap(
    lambda prompt: st.builds(
        Work,
        prompt_tokens=st.just(prompt),
        cached_tokens=st.integers(0, prompt - 1),
        output_tokens=st.integers(1, 9),
    )
)


def _work(prompt: int, cached: int = 0, output: int = 1) -> Work:
    return Work(prompt_tokens=prompt, cached_tokens=cached, output_tokens=output)


def test_prefill_flops_by_hand() -> None:
    """3 tokens: 3 * 92 linear, 6 pairs of 8 attention, 28 for the output projection."""
    assert roofline.prefill_flops(SHAPE, [_work(3)]) == 3 * 92 + 6 * 8 + 28


def test_prefill_flops_cached() -> None:
    """2 of 3 tokens cached: 1 linear, and it attends to 3 tokens."""
    assert roofline.prefill_flops(SHAPE, [_work(3, cached=2)]) == 92 + 3 * 8 + 28


def test_decode_bytes_one_token() -> None:
    """The first output token ends prefill, so an answer of one token has no decode."""
    assert roofline.decode_bytes(SHAPE, [_work(3)]) == 0


def test_decode_bytes_by_hand() -> None:
    """3 output tokens are 2 steps: weights twice, and contexts of 4 and 5 tokens of 8 bytes."""
    parameters = 46 + 4 + 2 + 14  # linear, two norms, last norm, the tied table
    assert SHAPE.num_parameters == parameters
    assert roofline.decode_bytes(SHAPE, [_work(3, output=3)]) == 2 * parameters * 2 + (4 + 5) * 8


def test_decode_bytes_together() -> None:
    """Requests that decode together read the weights once a step."""
    one = roofline.decode_bytes(SHAPE, [_work(3, output=2)])
    weights = SHAPE.weight_bytes(2)
    assert roofline.decode_bytes(SHAPE, [_work(3, output=2)] * 5) == 5 * (one - weights) + weights


def test_duration_by_hand() -> None:
    """FLOPs over the reached FLOP/s, plus bytes over the reached bandwidth."""
    work = [_work(3, output=3)]
    expected = (3 * 92 + 6 * 8 + 28) / 500 + (2 * 66 * 2 + 72) / 25
    assert roofline.duration_s(SHAPE, work, DEVICE, mfu=0.5, mbu=0.25) == pytest.approx(expected)


def test_no_requests() -> None:
    """Nothing to do takes no time."""
    assert roofline.duration_s(SHAPE, [], DEVICE, mfu=1, mbu=1) == 0


@given(st.lists(WORKS, min_size=1, max_size=5))
def test_duration_cached(works: list[Work]) -> None:
    """What the cache serves never makes a pass longer."""
    cold = [_work(work.prompt_tokens, output=work.output_tokens) for work in works]
    times = [roofline.duration_s(SHAPE, each, DEVICE, mfu=0.5, mbu=0.5) for each in (works, cold)]
    assert 0 < times[0] <= times[1]


@given(st.lists(WORKS, max_size=5), st.lists(WORKS, max_size=5))
def test_prefill_adds_up(first: list[Work], second: list[Work]) -> None:
    """Prefill work of two groups is the sum of theirs."""
    apart = roofline.prefill_flops(SHAPE, first) + roofline.prefill_flops(SHAPE, second)
    assert roofline.prefill_flops(SHAPE, [*first, *second]) == apart


@pytest.mark.parametrize("name", sorted(roofline.DEVICES))
def test_devices(name: str) -> None:
    """Every device has a source and figures of a plausible size."""
    device = roofline.DEVICES[name]
    assert device.source
    assert 1e14 < device.bf16_flops_per_s < 1e16
    assert 1e11 < device.memory_bytes_per_s < 1e13

"""Block arithmetic, by hand and against a slow model that keeps whole prefixes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packsweep.models.architecture.kv_cache import KvLayout
from packsweep.plan.prefix_cache import (
    FULL_ATTENTION,
    CacheKind,
    PrefixCache,
    Submitted,
    expected_cached_tokens,
    kind_of,
)

# Few token ids and short prompts, so that shared prefixes happen.
PROMPTS = st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=9), max_size=8)


def _twice(length: int, block_size: int) -> int:
    """Return what the second of two equal prompts of ``length`` tokens finds."""
    cache = PrefixCache(block_size)
    assert cache.submit(range(length)) == 0
    return cache.submit(range(length))


@pytest.mark.parametrize(
    ("length", "block_size", "cached"),
    [
        (512, 16, 496),  # all 32 blocks are there, and the last one is computed again
        (511, 16, 496),
        (513, 16, 512),
        (497, 16, 496),
        (496, 16, 480),
        (17, 16, 16),
        (16, 16, 0),
        (1, 16, 0),
        (2, 1, 1),
    ],
)
def test_submit_duplicate(length: int, block_size: int, cached: int) -> None:
    """A repeated prompt of L tokens finds floor((L-1)/block) blocks."""
    assert _twice(length, block_size) == cached


def test_submit_shared_prefix() -> None:
    """Another prompt finds the whole blocks that it shares from its start, and no part of one."""
    cache = PrefixCache(4)
    cache.submit([1, 2, 3, 4, 5, 6, 7, 8, 9])
    assert cache.submit([1, 2, 3, 4, 5, 6, 7, 0, 9]) == 4


def test_submit_shared_middle() -> None:
    """Equal blocks after different ones are not found."""
    cache = PrefixCache(2)
    cache.submit([1, 1, 5, 5, 6])
    assert cache.submit([2, 2, 5, 5, 6]) == 0


def test_submit_unfinished_block() -> None:
    """Only whole blocks are kept."""
    cache = PrefixCache(4)
    cache.submit([1, 2, 3])
    assert cache.submit([1, 2, 3, 4, 5]) == 0


def test_num_taken() -> None:
    """Blocks are taken for the prompt and its output, less those found."""
    cache = PrefixCache(4)
    cache.submit(range(9), 4)  # 13 tokens: 4 blocks
    assert cache.num_taken == 4
    cache.submit(range(9), 4)  # two of them are found
    assert cache.num_taken == 6


def _submitted(*prompts: list[int]) -> list[Submitted]:
    return [Submitted(prompt, 1) for prompt in prompts]


def test_expected_last_pass() -> None:
    """The counts are those of the last pass, with the earlier ones in the cache."""
    one = _submitted([1, 2, 3], [4, 5, 6])
    assert expected_cached_tokens([one], block_size=2, num_blocks=None) == [0, 0]
    assert expected_cached_tokens([one, one], block_size=2, num_blocks=None) == [2, 2]


def test_expected_within_pass() -> None:
    """A copy finds the blocks of a request of the same pass."""
    one = _submitted([1, 2, 3], [1, 2, 3])
    assert expected_cached_tokens([one], block_size=2, num_blocks=None) == [0, 2]


@pytest.mark.parametrize(("num_blocks", "known"), [(5, True), (4, False), (3, False), (None, True)])
def test_expected_capacity(num_blocks: int | None, known: bool) -> None:  # noqa: FBT001
    """Four blocks need an engine of five, which keeps one to itself; else nothing is known."""
    one = _submitted([1, 2, 3], [4, 5, 6])  # two blocks each
    found = expected_cached_tokens([one], block_size=2, num_blocks=num_blocks)
    assert found == ([0, 0] if known else None)


def _slow(prompts: list[list[int]], block_size: int) -> list[int]:
    """Return the counts by comparing with every earlier prompt, token by token."""
    counts = []
    for index, prompt in enumerate(prompts):
        best = 0
        for earlier in prompts[:index]:
            same = 0
            while same < min(len(prompt), len(earlier)) and prompt[same] == earlier[same]:
                same += 1
            best = max(best, same)
        whole = best - best % block_size
        while whole > len(prompt) - 1:
            whole -= block_size
        counts.append(whole)
    return counts


@given(PROMPTS, st.integers(1, 4))
def test_submit_as_slow_model(prompts: list[list[int]], block_size: int) -> None:
    """The hashes find exactly what comparing all prompts finds."""
    cache = PrefixCache(block_size)
    assert [cache.submit(prompt) for prompt in prompts] == _slow(prompts, block_size)


@given(PROMPTS, st.integers(1, 4))
def test_submit_laws(prompts: list[list[int]], block_size: int) -> None:
    """Whole blocks are served, and at least one token of a prompt is computed."""
    cache = PrefixCache(block_size)
    for prompt in prompts:
        found = cache.submit(prompt)
        assert found % block_size == 0
        assert 0 <= found < len(prompt)


GEMMA = CacheKind(groups={64: 3, None: 1})


def _shared(num_shared: int, own: int, length: int) -> list[int]:
    """Return a prompt of ``length`` that begins like the others and continues as no other does."""
    return list(range(1, num_shared + 1)) + [1000 * own + j for j in range(length - num_shared)]


def test_windows_leave_the_end_of_a_shared_prefix_to_the_third() -> None:
    """The second prompt finds that 32 tokens are shared, and registers what leads up to them."""
    cache = PrefixCache(32, GEMMA)
    hits = [cache.submit(_shared(40, own, 200)) for own in range(1, 9)]
    assert hits == [0, 0, 32, 32, 32, 32, 32, 32]
    assert sum(hits) == 192  # as vLLM reported of the small Gemma 3; plain blocks would say 224
    plain = PrefixCache(32)
    assert sum(plain.submit(_shared(40, own, 200)) for own in range(1, 9)) == 224


def test_windows_serve_the_same_prompt_again() -> None:
    """A prompt that is sent again finds all of itself but the block of its last token."""
    cache = PrefixCache(16, GEMMA)
    prompt = _shared(0, 1, 161)
    assert [cache.submit(prompt) for _ in range(3)] == [0, 160, 160]


def test_windows_alone_share_no_beginning() -> None:
    """Where every layer has a window nothing tells that more is shared, and little is kept."""
    cache = PrefixCache(16, CacheKind(groups={64: 1}))
    assert [cache.submit(_shared(48, own, 200)) for own in range(1, 5)] == [0] * 4


def test_windows_kept_everywhere_are_as_full_attention() -> None:
    """vLLM before 0.29 registers every block."""
    kind = CacheKind(groups=GEMMA.groups, retention_interval=None)
    dense, plain = PrefixCache(16, kind), PrefixCache(16)
    for own in range(1, 6):
        prompt = _shared(40 * (own % 2), own, 200)
        assert dense.submit(prompt) == plain.submit(prompt)


def test_taken_blocks_are_of_every_group() -> None:
    """Each of four groups takes blocks of its own, 13 for 200 tokens."""
    cache = PrefixCache(16, GEMMA)
    cache.submit(_shared(0, 1, 200), 1)
    assert cache.num_taken == 4 * 13


def _layout(*windows: int | None) -> KvLayout:
    return KvLayout(windows=windows, num_kv_heads=1, elements_per_head=8, latent=False)


@pytest.mark.parametrize(
    ("layout", "resolved", "expected"),
    [
        (None, {}, None),
        (_layout(None, None), {"prefix_cache_retention_interval": 0}, CacheKind(groups={None: 1})),
        (
            _layout(8, 8, None),
            {"prefix_cache_retention_interval": 0},
            CacheKind(groups={8: 2, None: 1}),
        ),
        (_layout(8, None), {}, CacheKind(groups={8: 1, None: 1}, retention_interval=None)),
        (
            _layout(8, None),
            {"prefix_cache_retention_interval": 0, "disable_hybrid_kv_cache_manager": True},
            FULL_ATTENTION,
        ),
    ],
)
def test_kind_of(
    layout: KvLayout | None, resolved: dict[str, Any], expected: CacheKind | None
) -> None:
    """What vLLM's manager does follows from the layers and by the settings in force."""
    assert kind_of(layout, resolved) == expected

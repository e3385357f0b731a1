"""Block arithmetic, by hand and against a slow model that keeps whole prefixes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packsweep.plan.prefix_cache import PrefixCache, Submitted, expected_cached_tokens

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

"""How many tokens of each request the prefix cache should serve.

vLLM keeps whole blocks of ``block_size`` tokens, found again by the hash of everything up to the
block's end, and registers a request's blocks when it schedules it: a request that is scheduled
later finds the blocks of every earlier one, in the same step as well. The order is that of
submission, but for constrained answers: such a request waits until a thread of the engine has made
its grammar ready, and others pass it by; within a step the order is again that of submission. At
least one token of a prompt is always computed: a prompt whose every token is cached recomputes its
last block.

Source: vLLM 0.26 to 0.33, ``v1/core/kv_cache_manager.py`` (``get_computed_blocks``, the limit of
``num_tokens - 1``, and ``allocate_slots``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

TokenIds = Sequence[int]


class PrefixCache:
    """A model of the cache without eviction: the block hashes seen, and the blocks taken for them.

    Attributes:
        num_taken: blocks taken from the free list since the cache was emptied. Past the engine's
            number of blocks the oldest cached ones are given up, and this model ends.
    """

    __slots__ = ("_block_size", "_blocks", "num_taken")

    def __init__(self, block_size: int) -> None:
        """Start empty, with blocks of ``block_size`` tokens."""
        self._block_size = block_size
        self._blocks: set[int] = set()
        self.num_taken = 0

    def submit(self, prompt: TokenIds, num_output_tokens: int = 0) -> int:
        """Register ``prompt`` and return how many of its tokens the cache serves."""
        hashes = self._hashes(prompt)
        hits = 0
        for block in hashes[: (len(prompt) - 1) // self._block_size]:
            if block not in self._blocks:
                break
            hits += 1
        self._blocks.update(hashes)
        self.num_taken += math.ceil((len(prompt) + num_output_tokens) / self._block_size) - hits
        return hits * self._block_size

    def _hashes(self, prompt: TokenIds) -> list[int]:
        """Return the hash of each whole block, chained to all before it."""
        size, chain, hashes = self._block_size, 0, []
        for end in range(size, len(prompt) + 1, size):
            chain = hash((chain, tuple(prompt[end - size : end])))
            hashes.append(chain)
        return hashes


@dataclass(frozen=True, slots=True)
class Submitted:
    """A request as the cache sees it.

    Attributes:
        prompt: its token ids.
        num_output_tokens: how many tokens it generates.
        scheduled_s: when it was scheduled, on a clock that stands still within a step; None: in
            the order of submission.
    """

    prompt: TokenIds
    num_output_tokens: int
    scheduled_s: float | None = None


def expected_cached_tokens(
    passes: Sequence[Sequence[Submitted]], *, block_size: int, num_blocks: int | None
) -> list[int] | None:
    """Return the cached tokens of each request of the last pass, in order of submission.

    Args:
        passes: every request since the cache was emptied, pass by pass, in order of submission.
        block_size: tokens in a block.
        num_blocks: blocks the engine has, or None where it is not known to be limited.

    Returns:
        One count per request of the last pass; None where more blocks are taken than there are,
        since what is then given up depends on timing.
    """
    cache = PrefixCache(block_size)
    counts: list[int] = []
    for requests in passes:
        counts = [0] * len(requests)
        for index in sorted(range(len(requests)), key=lambda i: requests[i].scheduled_s or 0.0):
            request = requests[index]
            counts[index] = cache.submit(request.prompt, request.num_output_tokens)
    if num_blocks is not None and cache.num_taken >= num_blocks:
        return None  # vLLM keeps one block to itself, hence not ">"
    return counts

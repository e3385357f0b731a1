"""How many tokens of each request the prefix cache should serve.

vLLM keeps whole blocks of ``block_size`` tokens, found again by the hash of everything up to the
block's end, and registers a request's blocks when it schedules it. Requests are scheduled in the
order of submission, so a later request finds the blocks of every earlier one, in the same step as
well. At least one token of a prompt is always computed: a prompt whose every token is cached
recomputes its last block.

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
    """A request as the cache sees it: the prompt's token ids and how many tokens it generates."""

    prompt: TokenIds
    num_output_tokens: int


def expected_cached_tokens(
    passes: Sequence[Sequence[Submitted]], *, block_size: int, num_blocks: int | None
) -> list[int] | None:
    """Return the cached tokens of each request of the last pass, in order of submission.

    Args:
        passes: every request since the cache was emptied, pass by pass.
        block_size: tokens in a block.
        num_blocks: blocks the engine has, or None where it is not known to be limited.

    Returns:
        One count per request of the last pass; None where more blocks are taken than there are,
        since what is then given up depends on timing.
    """
    cache = PrefixCache(block_size)
    counts: list[int] = []
    for requests in passes:
        counts = [cache.submit(request.prompt, request.num_output_tokens) for request in requests]
    if num_blocks is not None and cache.num_taken >= num_blocks:
        return None  # vLLM keeps one block to itself, hence not ">"
    return counts

"""How many tokens of each request the prefix cache should serve.

vLLM keeps whole blocks of ``block_size`` tokens, found again by the hash of everything up to the
block's end, and registers a request's blocks when it schedules it: a request that is scheduled
later finds the blocks of every earlier one, in the same step as well. The order is that of
submission, but for constrained answers: such a request waits until a thread of the engine has made
its grammar ready, and others pass it by; within a step the order is again that of submission. At
least one token of a prompt is always computed: a prompt whose every token is cached recomputes its
last block.

Layers with a sliding window have blocks of their own, and a prefix is served as far as every kind
of layer can follow it: with a window that takes the blocks that the window reaches back into,
no more. So vLLM registers only those before the places where it expects a prompt to continue: its
last token, where the same prompt would, and the end of a prefix that layers without a window have
found and those with one have not. The first prompt that shares a prefix with another one therefore
leaves it behind for the third.

Source: vLLM 0.26 to 0.33, ``v1/core/kv_cache_manager.py`` (``get_computed_blocks``, the limit of
``num_tokens - 1``, and ``allocate_slots``), ``v1/core/kv_cache_coordinator.py``
(``find_longest_cache_hit``, ``replay_boundaries``) and ``v1/core/single_type_kv_cache_manager.py``
(``SlidingWindowManager``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from packsweep.models.architecture.kv_cache import KvLayout

TokenIds = Sequence[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheKind:
    """What vLLM's manager of the KV cache does with a model's layers.

    Attributes:
        groups: window -> groups of layers, each with blocks of its own; None has no window.
        retention_interval: vLLM's ``prefix_cache_retention_interval``: every so many tokens the
            blocks of a window stay found, 0 at the places above alone, None everywhere.
    """

    groups: Mapping[int | None, int]
    retention_interval: int | None = 0


FULL_ATTENTION = CacheKind(groups={None: 1})


def kind_of(layout: KvLayout | None, resolved: Mapping[str, Any]) -> CacheKind | None:
    """Return what an engine does with the layers of ``layout``, by its settings in force.

    vLLM before 0.29 has no such interval and keeps every block of a window.

    Returns:
        None where the layers are not described.
    """
    if layout is None:
        return None
    groups = layout.groups
    if None in groups and resolved.get("disable_hybrid_kv_cache_manager"):
        return FULL_ATTENTION  # windows are then kept as if there were none
    interval = resolved.get("prefix_cache_retention_interval")
    return CacheKind(groups=groups, retention_interval=interval)


class PrefixCache:
    """A model of the cache without eviction: the block hashes seen, and the blocks taken for them.

    Attributes:
        num_taken: blocks taken from the free list since the cache was emptied, at most. Past the
            engine's number of blocks the oldest cached ones are evicted, and this model ends.
    """

    __slots__ = ("_block_size", "_blocks", "_kind", "num_taken")

    def __init__(self, block_size: int, kind: CacheKind = FULL_ATTENTION) -> None:
        """Start empty, with blocks of ``block_size`` tokens."""
        self._block_size = block_size
        self._kind = kind
        self._blocks: dict[int | None, set[int]] = {window: set() for window in kind.groups}
        self.num_taken = 0

    def submit(self, prompt: TokenIds, num_output_tokens: int = 0) -> int:
        """Register ``prompt`` and return how many of its tokens the cache serves."""
        hashes = self._hashes(prompt)
        last = (len(prompt) - 1) // self._block_size
        hits, junction = self._hits(hashes[:last])
        for window, blocks in self._blocks.items():
            ends = (last, junction) if junction > hits and len(self._blocks) > 1 else (last,)
            kept = self._kept(window, len(hashes), ends)
            blocks.update(each for each, keep in zip(hashes, kept, strict=True) if keep)
        new = math.ceil((len(prompt) + num_output_tokens) / self._block_size) - hits
        self.num_taken += new * sum(self._kind.groups.values())
        return hits * self._block_size

    def _hits(self, hashes: Sequence[int]) -> tuple[int, int]:
        """Return the blocks that all kinds of layers find, and the most that one of them does."""
        hits = longest = 0
        candidate = len(hashes)
        while True:
            hits = candidate
            for window in sorted(self._blocks, key=lambda each: each is not None):
                hits = self._found(window, hashes[:hits])
                longest = max(longest, hits)
            if hits == candidate:
                return hits, longest
            candidate = hits

    def _found(self, window: int | None, hashes: Sequence[int]) -> int:
        """Return up to which block layers of one kind can continue: the longest such prefix."""
        blocks = self._blocks[window]
        if window is None:
            return next((i for i, each in enumerate(hashes) if each not in blocks), len(hashes))
        run, needed = 0, self._needed(window)
        for index in range(len(hashes) - 1, -1, -1):
            run = run + 1 if hashes[index] in blocks else 0
            if run and run >= needed:
                return index + run
        return run  # from the first block on: nothing lies before them

    def _kept(self, window: int | None, num_blocks: int, ends: Sequence[int]) -> list[bool]:
        """Tell of each block of a prompt whether it is registered."""
        if window is None:
            return [True] * num_blocks
        interval = self._kind.retention_interval
        segment = 1 if interval is None else interval // self._block_size
        needed = self._needed(window)
        return [
            any(end - needed <= index < end for end in ends)
            or (segment > 0 and index % segment >= segment - needed)
            for index in range(num_blocks)
        ]

    def _needed(self, window: int) -> int:
        """Return the blocks that the window before a new token reaches back into."""
        return math.ceil((window - 1) / self._block_size)

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
    passes: Sequence[Sequence[Submitted]],
    *,
    block_size: int,
    num_blocks: int | None,
    kind: CacheKind = FULL_ATTENTION,
) -> list[int] | None:
    """Return the cached tokens of each request of the last pass, in order of submission.

    Args:
        passes: every request since the cache was emptied, pass by pass, in order of submission.
        block_size: tokens in a block.
        num_blocks: blocks the engine has, or None where it is not known to be limited.
        kind: what its manager does with the model's layers.

    Returns:
        One count per request of the last pass; None where more blocks are taken than there are,
        since what is then evicted depends on timing.
    """
    cache = PrefixCache(block_size, kind)
    counts: list[int] = []
    for requests in passes:
        counts = [0] * len(requests)
        for index in sorted(range(len(requests)), key=lambda i: requests[i].scheduled_s or 0.0):
            request = requests[index]
            counts[index] = cache.submit(request.prompt, request.num_output_tokens)
    if num_blocks is not None and cache.num_taken >= num_blocks:
        return None  # vLLM keeps one block to itself, hence not ">"
    return counts

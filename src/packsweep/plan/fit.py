"""What fits a GPU: the room that weights leave for the KV cache, and the requests in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from packsweep.models.kv_cache import BlockPool, KvLayout
from packsweep.models.resolve import Model
from packsweep.plan import formats

# vLLM's own on CUDA devices, where nothing else is asked.
BLOCK_SIZE = 16
# The same on the CPU. Source: vLLM 0.32, platforms/cpu.py.
BLOCK_SIZE_CPU = 128
# Concurrent steps with async scheduling, whose tokens a window keeps until they are settled.
# Source: vLLM 0.32, VllmConfig.max_in_flight_tokens; without async scheduling it is one.
_STEPS_IN_FLIGHT = 2


def in_flight_tokens(max_num_batched_tokens: int) -> int:
    """Return the most tokens that are scheduled and not settled."""
    return _STEPS_IN_FLIGHT * max_num_batched_tokens


def pool(
    layout: KvLayout, kv_bytes: float, settings: Mapping[str, Any], tensor_parallel_size: int = 1
) -> BlockPool:
    """Return the pool of blocks under an engine's settings.

    Raises:
        ModelError: the heads cannot be divided so.
    """
    return BlockPool(
        layout=layout,
        layer_bytes_per_token=layout.layer_bytes_per_token(kv_bytes, tensor_parallel_size),
        block_size=int(settings["block_size"] or BLOCK_SIZE),
        in_flight_tokens=in_flight_tokens(int(settings["max_num_batched_tokens"] or 0)),
    )


def model_pool(model: Model, settings: Mapping[str, Any]) -> BlockPool | None:
    """Return the pool that a cell's engine will have; None where the model is not described."""
    used = formats.before_start(settings, model.torch_dtype, model.quantization)
    if model.kv_layout is None or model.parameters is None or used.kv_bytes is None:
        return None
    return pool(model.kv_layout, used.kv_bytes, settings)


def room_bytes(memory_bytes: int, weights: int, settings: Mapping[str, Any]) -> int:
    """Return what is left for the cache on one GPU; below 0 where the weights do not fit.

    What activations and CUDA graphs take is not known and left out: an upper bound.
    """
    offloaded = float(settings.get("cpu_offload_gb") or 0) * 2**30
    weights = max(0, weights - int(offloaded))
    if settings.get("kv_cache_memory_bytes") is not None:
        return min(memory_bytes - weights, int(settings["kv_cache_memory_bytes"]))
    return int(memory_bytes * float(settings["gpu_memory_utilization"] or 0)) - weights


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """Whether an engine of ``max_model_len`` starts: vLLM wants room for one such request.

    Attributes:
        needed_bytes: of that request.
        longest_tokens: of the longest request that fits, at most ``max_model_len``.
    """

    room_bytes: int
    needed_bytes: int
    longest_tokens: int

    @property
    def starts(self) -> bool:
        return self.needed_bytes <= self.room_bytes

    def holds(self, num_tokens: int) -> bool:
        """Return whether the engine starts and can run a request of ``num_tokens``."""
        return self.starts and num_tokens <= self.longest_tokens


def of(blocks: BlockPool, room: int, max_model_len: int) -> Fit:
    """Return whether a request of ``max_model_len`` fits into ``room`` bytes, and what would.

    Source: vLLM 0.32, v1/core/kv_cache_utils.py, _check_enough_kv_cache_memory.
    """
    return Fit(
        room_bytes=room,
        needed_bytes=blocks.request_bytes(max_model_len),
        longest_tokens=blocks.longest_request(room, max_model_len),
    )

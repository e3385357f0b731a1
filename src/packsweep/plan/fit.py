"""What fits a GPU: the room that weights leave for the KV cache, and the requests in it.

Of an engine of several GPUs every pipeline stage is looked at: the one with room for the fewest
blocks decides, since blocks have the same numbers on all. The GPUs of a stage are alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from packsweep.models.architecture import parameters
from packsweep.models.architecture.kv_cache import BlockPool, KvLayout
from packsweep.models.architecture.parameters import Parameters
from packsweep.models.architecture.split import Split
from packsweep.models.resolve import Model
from packsweep.plan import formats
from packsweep.plan.formats import Formats

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A GPU of each pipeline stage.

    Attributes:
        weight_bytes: None where they are not known.
    """

    blocks: BlockPool
    weight_bytes: int | None

    def room_bytes(self, memory_bytes: int, settings: Mapping[str, Any]) -> int:
        """Return what is left for the cache on the GPU; below 0 where the weights do not fit."""
        assert self.weight_bytes is not None
        return room_bytes(memory_bytes, self.weight_bytes, settings)


def stages(
    layout: KvLayout,
    shard: Parameters | None,
    used: Formats,
    settings: Mapping[str, Any],
) -> tuple[Stage, ...]:
    """Return a GPU of each stage under an engine's settings.

    Args:
        layout: of the whole model.
        shard: what one GPU would have of the parameters if it had all layers; None: not known.
        used: the formats; that of the cache is known.
        settings: of the engine.
    """
    assert used.kv_bytes is not None
    split, num_layers = Split.of(settings), len(layout.windows)
    ranges = split.stages(num_layers)
    parts: Sequence[Parameters | None] = (
        [None] * len(ranges) if shard is None else shard.stages(split, num_layers)
    )
    layer_bytes = layout.layer_bytes_per_token(used.kv_bytes, split.tensor_parallel_size)
    return tuple(
        Stage(
            blocks=BlockPool(
                layout=layout,
                layer_bytes_per_token=layer_bytes,
                block_size=int(settings["block_size"] or BLOCK_SIZE),
                in_flight_tokens=in_flight_tokens(int(settings["max_num_batched_tokens"] or 0)),
                num_layers=layout.layers_in_block(stage),
            ),
            weight_bytes=formats.weight_bytes(part, used),
        )
        for stage, part in zip(ranges, parts, strict=True)
    )


def of_model(model: Model, settings: Mapping[str, Any]) -> tuple[Stage, ...]:
    """Return the GPUs that a cell's engine will have; none where the model is not described."""
    used = formats.before_start(settings, model.torch_dtype, model.quantization)
    if model.kv_layout is None or model.parameters is None or used.kv_bytes is None:
        return ()
    shard = parameters.count(model.config.shard(Split.of(settings).tensor_parallel_size))
    return stages(model.kv_layout, shard, used, settings)


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
        stage: with room for the fewest blocks.
        room_bytes: on each of its GPUs.
        needed_bytes: of that request, likewise.
        longest_tokens: of the longest request that fits, at most ``max_model_len``.
    """

    stage: Stage
    room_bytes: int
    needed_bytes: int
    longest_tokens: int

    @property
    def starts(self) -> bool:
        return self.needed_bytes <= self.room_bytes

    def holds(self, num_tokens: int) -> bool:
        """Return whether the engine starts and can run a request of ``num_tokens``."""
        return self.starts and num_tokens <= self.longest_tokens


def of(found: Sequence[Stage], rooms: Sequence[int], max_model_len: int) -> Fit:
    """Return whether a request of ``max_model_len`` fits into ``rooms``, bytes on each stage.

    Source: vLLM 0.32, v1/core/kv_cache_utils.py, _check_enough_kv_cache_memory, and
    get_kv_cache_configs: every GPU has as many blocks as the one with the fewest.
    """
    tightest, room = min(
        zip(found, rooms, strict=True), key=lambda pair: pair[1] / pair[0].blocks.block_bytes
    )
    return Fit(
        stage=tightest,
        room_bytes=room,
        needed_bytes=tightest.blocks.request_bytes(max_model_len),
        longest_tokens=tightest.blocks.longest_request(room, max_model_len),
    )

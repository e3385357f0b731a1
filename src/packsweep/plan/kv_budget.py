"""How much KV cache a model takes on a GPU, and what fits: tokens, the longest prompt, packed n."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from packsweep.errors import ModelError
from packsweep.models import known as known_models
from packsweep.models import kv_cache, parameters
from packsweep.models.config import BYTE_WIDE, stored_quantization, text_part
from packsweep.models.kv_cache import BlockPool, KvLayout
from packsweep.models.resolve import is_there, read_config
from packsweep.plan.formats import ELEMENT_BYTES

# Concurrent steps with async scheduling, whose tokens a window keeps until they are settled.
# Source: vLLM 0.32, VllmConfig.max_in_flight_tokens; without async scheduling it is one.
_STEPS_IN_FLIGHT = 2
# Source: 400 IMDB rows with the original instruction are 115,419 tokens of Llama 3's tokenizer.
TOKENS_PER_REVIEW = 288.5
_WIDTH = 80
# A text takes these and, in its answer, one output token.
_OUTPUT_TOKENS_PER_REVIEW = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the calculation is for, in vLLM's names.

    Attributes:
        prompt_tokens: lengths of prompts whose cache is asked for.
        num_parameters: where the design's cannot be counted.
        memory_bytes: of one GPU; None: only what does not depend on it.
    """

    dtype: str = "auto"
    kv_cache_dtype: str = "auto"
    tensor_parallel_size: int = 1
    gpu_memory_utilization: float = 0.92
    max_model_len: int | None = None
    max_num_batched_tokens: int = 16384
    block_size: int = 16
    prompt_tokens: tuple[int, ...] = ()
    tokens_per_text: float = TOKENS_PER_REVIEW
    num_parameters: int | None = None
    device: str | None = None
    memory_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What fits one GPU.

    Attributes:
        kv_bytes: left for the cache beside the weights; below 0 where those do not fit.
        capacity_tokens: as vLLM logs it: in requests of the full length.
        longest_request_tokens: prompt and output of one request alone.
        longest_packed_n: texts of ``tokens_per_text`` in such a request, an output token each.
    """

    device: str
    memory_bytes: int
    kv_bytes: int
    capacity_tokens: int
    longest_request_tokens: int
    longest_packed_n: int
    tokens_per_text: float


@dataclass(frozen=True, slots=True, kw_only=True)
class KvBudget:
    """The KV cache of a model; bytes are of one GPU.

    Attributes:
        bytes_per_token: of a short prompt, every layer counted.
        bytes_per_token_beyond_windows: of each token past all sliding windows.
        layers: window -> layers; ``full`` attend to everything.
        prompts: prompt tokens -> bytes of the blocks held.
        weight_bytes: parameters x bytes / GPUs; None where they cannot be counted.
        assumptions: what was taken for granted, a sentence each.
    """

    model: str
    source: str
    dtype: str
    kv_cache_dtype: str
    tensor_parallel_size: int
    max_model_len: int
    bytes_per_token: float
    bytes_per_token_beyond_windows: float
    layers: dict[str, int]
    num_parameters: int | None
    weight_bytes: int | None
    prompts: dict[int, int]
    room: Room | None
    assumptions: tuple[str, ...]

    def to_json(self) -> str:
        """Return the values as JSON."""
        return json.dumps(asdict(self), indent=2)


def config_of(name: str) -> tuple[Mapping[str, Any], str]:
    """Return a model's config and where it stands; known models need no hub.

    Raises:
        ModelError: there is no such model, or no config of it here or on the hub.
    """
    repos = {model.repo.casefold(): model for model in known_models.KNOWN.values()}
    known = known_models.find(name) or repos.get(name.casefold())
    if known is not None:
        return known.config, known.source
    near = known_models.nearest(name)
    if near and "/" not in name and ":" not in name and not is_there(name):
        names = ", ".join(known_models.KNOWN)
        raise ModelError(f"no model {name}: did you mean {near}? By short name: {names}")
    return read_config(name)


def of(name: str, asked: Asked) -> KvBudget:
    """Return the KV cache of the model called ``name``.

    Raises:
        ModelError: the model is not there, its cache is of a design that is not described, or it
            cannot be divided among the GPUs.
    """
    config, source = config_of(name)
    layout = kv_cache.from_config(config)
    dtype = _dtype(asked.dtype, config)
    kv_dtype = _kv_dtype(asked.kv_cache_dtype, config)
    limit = _limit(asked, layout)
    per_layer = layout.layer_bytes_per_token(ELEMENT_BYTES[kv_dtype], asked.tensor_parallel_size)
    pool = BlockPool(
        layout=layout,
        layer_bytes_per_token=per_layer,
        block_size=asked.block_size,
        in_flight_tokens=_STEPS_IN_FLIGHT * asked.max_num_batched_tokens,
    )
    num_parameters = asked.num_parameters or parameters.count(config)
    weights = _weight_bytes(num_parameters, dtype, asked.tensor_parallel_size)
    return KvBudget(
        model=name,
        source=source,
        dtype=dtype,
        kv_cache_dtype=kv_dtype,
        tensor_parallel_size=asked.tensor_parallel_size,
        max_model_len=limit,
        bytes_per_token=len(layout.windows) * per_layer,
        bytes_per_token_beyond_windows=layout.kinds.get(None, 0) * per_layer,
        layers={_kind(window): num for window, num in layout.kinds.items()},
        num_parameters=num_parameters,
        weight_bytes=weights,
        prompts={num: pool.request_bytes(num) for num in asked.prompt_tokens or (limit,)},
        room=_room(asked, pool, weights, limit),
        assumptions=tuple(_assumptions(asked, layout, config)),
    )


def _dtype(asked: str, config: Mapping[str, Any]) -> str:
    """Return the dtype of the weights: what was asked, or how the model is stored."""
    if asked != "auto":
        return asked
    stored = stored_quantization(config)
    return stored if stored in BYTE_WIDE else _stored(config)


def _kv_dtype(asked: str, config: Mapping[str, Any]) -> str:
    """Return the cache's dtype; ``auto`` is the one that the model computes in."""
    return _stored(config) if asked == "auto" else asked


def _stored(config: Mapping[str, Any]) -> str:
    """Return the dtype that vLLM's ``auto`` computes in; what is stored in float32 is halved.

    Source: vLLM 0.32, config/model.py, _resolve_auto_dtype.
    """
    text = text_part(config)
    stored = str(text.get("dtype") or text.get("torch_dtype") or "float32")
    if stored not in ELEMENT_BYTES:
        raise ModelError(f"config.json: dtype {stored!r} is not known; name one with --dtype")
    return "bfloat16" if stored == "float32" else stored


def _limit(asked: Asked, layout: KvLayout) -> int:
    if asked.max_model_len is None:
        return layout.max_model_len
    if asked.max_model_len > layout.max_model_len:
        raise ModelError(
            f"--max-model-len: {asked.max_model_len} is more than the {layout.max_model_len} "
            "positions of the model"
        )
    return asked.max_model_len


def _weight_bytes(num_parameters: int | None, dtype: str, ranks: int) -> int | None:
    return None if num_parameters is None else round(num_parameters * ELEMENT_BYTES[dtype] / ranks)


def _kind(window: int | None) -> str:
    return "full" if window is None else f"window {window}"


def _room(asked: Asked, pool: BlockPool, weights: int | None, limit: int) -> Room | None:
    if asked.memory_bytes is None or weights is None:
        return None
    room = int(asked.memory_bytes * asked.gpu_memory_utilization) - weights
    longest = pool.longest_request(room, limit)
    each = asked.tokens_per_text + _OUTPUT_TOKENS_PER_REVIEW
    return Room(
        device=asked.device or "",
        memory_bytes=asked.memory_bytes,
        kv_bytes=room,
        capacity_tokens=pool.capacity_tokens(room, limit),
        longest_request_tokens=longest,
        longest_packed_n=int(longest / each),
        tokens_per_text=asked.tokens_per_text,
    )


def _assumptions(asked: Asked, layout: KvLayout, config: Mapping[str, Any]) -> Sequence[str]:
    """Say what the figures take for granted."""
    said = []
    if None not in layout.kinds or len(layout.kinds) > 1:
        kept = _STEPS_IN_FLIGHT * asked.max_num_batched_tokens
        said.append(
            "sliding windows as vLLM's hybrid cache manager keeps them, in blocks, with up to "
            f"{kept} tokens in flight before they are given up"
        )
    if layout.latent:
        said.append("latents are held whole on every GPU")
    elif asked.tensor_parallel_size > layout.num_kv_heads:
        said.append(f"{layout.num_kv_heads} KV heads: GPUs beyond that many hold copies")
    if asked.kv_cache_dtype == "fp8":
        said.append("fp8: one scale a tensor, no scales per token or head")
    if text_part(config) is not config:
        said.append("the language model alone: no vision or audio part")
    if asked.memory_bytes is not None:
        said.append(
            "activations and CUDA graphs are not subtracted: vLLM's log shows what is left of "
            "this upper bound"
        )
    return said


def to_text(budget: KvBudget) -> str:
    """Return the values as lines."""
    kinds = ", ".join(f"{num} {kind}" for kind, num in budget.layers.items())
    where = f" on each of {budget.tensor_parallel_size} GPUs" * (budget.tensor_parallel_size > 1)
    lines = [
        f"model: {budget.model} ({budget.source})",
        f"layers: {kinds}",
        f"KV cache in {budget.kv_cache_dtype}{where}: {budget.bytes_per_token:,.0f} B a token",
    ]
    if budget.bytes_per_token_beyond_windows != budget.bytes_per_token:
        beyond = budget.bytes_per_token_beyond_windows
        lines.append(f"  past the sliding windows: {beyond:,.0f} B a token")
    lines += [
        f"  {num:,} tokens: {num_bytes:,} B ({num_bytes / 2**30:.2f} GiB)"
        for num, num_bytes in budget.prompts.items()
    ]
    if budget.num_parameters is None:
        lines.append("weights: cannot be counted for this design; give --parameters")
    else:
        assert budget.weight_bytes is not None
        lines.append(
            f"weights in {budget.dtype}{where}: {budget.num_parameters:,} parameters, "
            f"{budget.weight_bytes / 2**30:.2f} GiB"
        )
    lines += _room_lines(budget)
    lines += [f"assumed: {each}" for each in budget.assumptions]
    return "\n".join(textwrap.fill(line, _WIDTH, subsequent_indent="  ") for line in lines)


def _room_lines(budget: KvBudget) -> list[str]:
    room = budget.room
    if room is None:
        return ["what fits: name a GPU with --device, e.g. --device H200"]
    head = f"{room.device}, {room.memory_bytes / 2**30:.2f} GiB"
    if room.longest_request_tokens == 0:
        return [f"{head}: no room for a KV cache beside the weights"]
    each = f"{room.tokens_per_text:g}"
    left = f"{room.kv_bytes / 2**30:.2f} GiB for the KV cache, {room.capacity_tokens:,} tokens"
    said = [
        f"{head}: {left}",
        f"longest request, prompt and output: {room.longest_request_tokens:,} tokens",
        f"longest packed n: {room.longest_packed_n:,} texts of {each} tokens, one more answered",
    ]
    if room.longest_request_tokens < budget.max_model_len:
        said.insert(
            2,
            f"max_model_len {budget.max_model_len:,} does not fit: lower it to "
            f"{room.longest_request_tokens}",
        )
    return said

"""How much KV cache a model takes on a GPU, and what fits: tokens, the longest prompt, packed n."""

from __future__ import annotations

import json
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from packsweep.errors import ModelError
from packsweep.models import known as known_models
from packsweep.models.architecture import kv_cache, parameters
from packsweep.models.architecture.config import ModelConfig
from packsweep.models.architecture.kv_cache import KvLayout
from packsweep.models.architecture.parameters import Parameters
from packsweep.models.architecture.split import ONE_GPU, Split, refusal
from packsweep.models.resolve import is_there, read_config
from packsweep.plan import fit
from packsweep.plan.fit import Stage
from packsweep.plan.formats import Formats, before_start

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
    pipeline_parallel_size: int = 1
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
    """The KV cache of a model; bytes are of one GPU, of pipeline stages that with the least room.

    Attributes:
        bytes_per_token: of a short prompt, every layer counted.
        bytes_per_token_beyond_windows: of each token past all sliding windows.
        layers: window -> layers; ``full`` attend to everything.
        prompts: prompt tokens -> bytes of the blocks held.
        weight_bytes: with the copies of what is not divided; None where they cannot be counted.
        assumptions: what was taken for granted, a sentence each.
    """

    model: str
    source: str
    dtype: str
    kv_cache_dtype: str
    tensor_parallel_size: int
    pipeline_parallel_size: int
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
        return json.dumps(asdict(self), indent=2)


def config_of(name: str) -> tuple[ModelConfig, str]:
    """Return a model's config and where it stands; known models need no hub.

    Raises:
        ModelError: there is no such model, or no config of it here or on the hub.
    """
    known = known_models.find(name)
    if known is not None:
        return ModelConfig.of(known.config), known.source
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
    used = _formats(asked, config)
    if used.kv_bytes is None:
        raise ModelError(
            f"the bytes of a KV cache in {asked.kv_cache_dtype} of a model in {config.dtype} are "
            "not known; name another with --kv-cache-dtype"
        )
    limit = _limit(asked, config)
    settings = {name: getattr(asked, name) for name in _SETTINGS}
    split = Split.of(settings)
    refused = refusal(config, split)
    if refused is not None:
        raise ModelError(f"--{refused[0].replace('_', '-')}: {refused[1]}")
    shard = _parameters(asked, config.shard(split.tensor_parallel_size), split)
    stages = fit.stages(layout, shard, used, settings)
    tightest, room = _tightest(asked, stages, settings, limit)
    pool, whole = tightest.blocks, _parameters(asked, config)
    held = split.stages(len(layout.windows))[stages.index(tightest)]
    kinds = Counter(layout.windows[index] for index in held)
    return KvBudget(
        model=name,
        source=source,
        dtype=_dtype(asked, config),
        kv_cache_dtype=_kv_dtype(asked, config),
        tensor_parallel_size=split.tensor_parallel_size,
        pipeline_parallel_size=split.pipeline_parallel_size,
        max_model_len=limit,
        bytes_per_token=len(held) * pool.layer_bytes_per_token,
        bytes_per_token_beyond_windows=kinds[None] * pool.layer_bytes_per_token,
        layers={_kind(window): num for window, num in layout.kinds.items()},
        num_parameters=None if whole is None else whole.total,
        weight_bytes=tightest.weight_bytes,
        prompts={num: pool.request_bytes(num) for num in asked.prompt_tokens or (limit,)},
        room=room,
        assumptions=tuple(_assumptions(asked, layout, config)),
    )


_SETTINGS = (
    "block_size",
    "max_num_batched_tokens",
    "gpu_memory_utilization",
    "tensor_parallel_size",
    "pipeline_parallel_size",
)


def _formats(asked: Asked, config: ModelConfig) -> Formats:
    """Return the formats asked for; ``auto`` is how the model is stored."""
    fp8 = asked.dtype == "fp8"
    settings = {
        "dtype": "auto" if fp8 else asked.dtype,
        "quantization": "fp8" if fp8 else None,
        "kv_cache_dtype": asked.kv_cache_dtype,
    }
    stored = config.quantization if asked.dtype == "auto" else None
    return before_start(settings, config.dtype, stored)


def _dtype(asked: Asked, config: ModelConfig) -> str:
    """Return the word for the weights' format."""
    if asked.dtype != "auto":
        return asked.dtype
    return config.quantization.name if config.quantization else _computed(config)


def _kv_dtype(asked: Asked, config: ModelConfig) -> str:
    """Return the cache's dtype; ``auto`` is the checkpoint's own, or what it computes in."""
    if asked.kv_cache_dtype != "auto":
        return asked.kv_cache_dtype
    if asked.dtype not in {"auto", "fp8"}:
        return asked.dtype
    own = config.quantization.kv_dtype if config.quantization and asked.dtype == "auto" else None
    return own or _computed(config)


def _computed(config: ModelConfig) -> str:
    """Return the dtype that vLLM's ``auto`` computes in; what is stored in float32 is halved."""
    return "bfloat16" if config.dtype == "float32" else config.dtype


def _parameters(asked: Asked, config: ModelConfig, split: Split = ONE_GPU) -> Parameters | None:
    """Return the parameters; of a number that was given all but the tables are matrices.

    ``config`` is that of a part where the model is divided.
    """
    if asked.num_parameters is None:
        return parameters.count(config)
    table, num_tables = parameters.table(config), parameters.num_tables(config)
    others = table * num_tables
    given = asked.num_parameters // split.tensor_parallel_size
    if others > given:
        return Parameters(matrices=0, experts=0, vectors=given, table=0, num_tables=0)
    return Parameters(
        matrices=given - others, experts=0, vectors=0, table=table, num_tables=num_tables
    )


def _limit(asked: Asked, config: ModelConfig) -> int:
    longest = config.need("max_model_len")
    if asked.max_model_len is None:
        return longest
    if asked.max_model_len > longest:
        raise ModelError(
            f"--max-model-len: {asked.max_model_len} is more than the {longest} "
            "positions of the model"
        )
    return asked.max_model_len


def _kind(window: int | None) -> str:
    return "full" if window is None else f"window {window}"


def _tightest(
    asked: Asked, stages: Sequence[Stage], settings: Mapping[str, Any], limit: int
) -> tuple[Stage, Room | None]:
    """Return the stage that decides what fits, and what does; without a GPU the heaviest."""
    if asked.memory_bytes is None or stages[0].weight_bytes is None:
        heaviest = max(stages, key=lambda each: (each.weight_bytes or 0, each.blocks.block_bytes))
        return heaviest, None
    rooms = [stage.room_bytes(asked.memory_bytes, settings) for stage in stages]
    found = fit.of(stages, rooms, limit)
    each = asked.tokens_per_text + _OUTPUT_TOKENS_PER_REVIEW
    return found.stage, Room(
        device=asked.device or "",
        memory_bytes=asked.memory_bytes,
        kv_bytes=found.room_bytes,
        capacity_tokens=found.stage.blocks.capacity_tokens(found.room_bytes, limit),
        longest_request_tokens=found.longest_tokens,
        longest_packed_n=int(found.longest_tokens / each),
        tokens_per_text=asked.tokens_per_text,
    )


def _assumptions(asked: Asked, layout: KvLayout, config: ModelConfig) -> Sequence[str]:
    """Say what the figures take for granted."""
    said = []
    if None not in layout.kinds or len(layout.kinds) > 1:
        kept = fit.in_flight_tokens(asked.max_num_batched_tokens)
        said.append(
            "sliding windows as vLLM's hybrid cache manager keeps them, in blocks, with up to "
            f"{kept} tokens in flight before they are freed"
        )
    if layout.latent:
        said.append("latents are replicated on every GPU")
    elif asked.tensor_parallel_size > layout.num_kv_heads:
        said.append(
            f"{layout.num_kv_heads} KV heads: with more GPUs than that, they are replicated"
        )
    if asked.pipeline_parallel_size > 1:
        said.append(
            f"of {asked.pipeline_parallel_size} stages, the one with the least room; a stage's "
            f"layers are assumed to be equally large"
        )
    if asked.kv_cache_dtype == "fp8":
        said.append("fp8: one scale per tensor, no scales per token or head")
    if config.quantization and config.quantization.scheme and asked.dtype == "auto":
        said.append(f"{config.quantization.name}: embeddings, output projection, norms in 16 bits")
    if config.multimodal:
        said.append("the language model alone: no vision or audio part")
    if asked.memory_bytes is not None:
        said.append(
            "activations and CUDA graphs are not subtracted: this is an upper bound; vLLM's log "
            "shows the actual size"
        )
    return said


def to_text(budget: KvBudget) -> str:
    kinds = ", ".join(f"{num} {kind}" for kind, num in budget.layers.items())
    num_gpus = budget.tensor_parallel_size * budget.pipeline_parallel_size
    where = f" on each of {num_gpus} GPUs" * (num_gpus > 1)
    lines = [
        f"model: {budget.model} ({budget.source})",
        f"layers: {kinds}",
        f"KV cache in {budget.kv_cache_dtype}{where}: {budget.bytes_per_token:,.0f} B per token",
    ]
    if budget.bytes_per_token_beyond_windows != budget.bytes_per_token:
        beyond = budget.bytes_per_token_beyond_windows
        lines.append(f"  past the sliding windows: {beyond:,.0f} B per token")
    lines += [
        f"  {num:,} tokens: {num_bytes:,} B ({num_bytes / 2**30:.2f} GiB)"
        for num, num_bytes in budget.prompts.items()
    ]
    lines.append(_weights_line(budget, where))
    lines += _room_lines(budget)
    lines += [f"assumed: {assumption}" for assumption in budget.assumptions]
    return "\n".join(textwrap.fill(line, _WIDTH, subsequent_indent="  ") for line in lines)


def _weights_line(budget: KvBudget, where: str) -> str:
    if budget.num_parameters is None:
        return "weights: unknown for this architecture; give --parameters"
    weights = f"weights in {budget.dtype}{where}: {budget.num_parameters:,} parameters"
    if budget.weight_bytes is None:
        return f"{weights}; the bytes of this format are not known, name one with --dtype"
    return f"{weights}, {budget.weight_bytes / 2**30:.2f} GiB"


def _room_lines(budget: KvBudget) -> list[str]:
    room = budget.room
    if budget.weight_bytes is None:
        return ["what fits: not known without the bytes of the weights"]
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
        f"longest packed n: {room.longest_packed_n:,} texts of {each} tokens, an output token each",
    ]
    if room.longest_request_tokens < budget.max_model_len:
        said.insert(
            2,
            f"max_model_len {budget.max_model_len:,} does not fit: lower it to "
            f"{room.longest_request_tokens}",
        )
    return said

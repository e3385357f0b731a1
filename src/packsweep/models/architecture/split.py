"""How vLLM divides a model among the GPUs of one engine, and what it refuses to divide.

Tensor parallelism gives every GPU a part of each matrix, and a copy of what it does not divide;
pipeline parallelism gives every stage a part of the layers. ``ModelConfig.shard`` is such a part.

Source: vLLM 0.32: ``config/model.py`` (``verify_with_parallel_config``), ``distributed/utils.py``
(``get_pp_indices``, ``divide``, ``verify_group_size_divides_partition``),
``model_executor/models/llama.py``, ``model_executor/layers/linear.py``,
``model_executor/layers/vocab_parallel_embedding.py``.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from packsweep.models.architecture.config import ModelConfig, padded_vocabulary

# Model types whose class in vLLM is not SupportsPP.
# Source: vLLM 0.32, model_executor/models/registry.py (is_pp_supported_model) and these modules.
_IN_ONE_STAGE = frozenset(
    {
        "gemma3n",
        "gemma3n_text",
        "hrm_text",
        "mamba2",
        "paddleocr_vl",
        "paddleocr_vl_text",
        "phi4mm",
        "zamba2",
    }
)
# Schemes whose groups of entries must not lie across GPUs. Groups of experts may: vLLM takes
# smaller ones (model_executor/layers/quantization/moe_wna16.py), or pads (mxfp4).
# Source: vLLM 0.32, model_executor/layers/quantization/utils/marlin_utils.py, modelopt.py and
# compressed_tensors/schemes.
_WHOLE_GROUPS = frozenset({"int", "fp4"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Among how many GPUs an engine divides a model.

    Attributes:
        tensor_parallel_size: GPUs that share each layer.
        pipeline_parallel_size: stages of layers, each of so many GPUs.
    """

    tensor_parallel_size: int = 1
    pipeline_parallel_size: int = 1

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Split:
        """Return that of an engine's settings; those of one GPU may leave it out."""
        return cls(
            tensor_parallel_size=int(settings.get("tensor_parallel_size") or 1),
            pipeline_parallel_size=int(settings.get("pipeline_parallel_size") or 1),
        )

    @property
    def num_gpus(self) -> int:
        return self.tensor_parallel_size * self.pipeline_parallel_size

    def stages(self, num_layers: int) -> tuple[range, ...]:
        """Return the layers of each stage; those left over go to the stages before the last.

        Source: vLLM 0.32, ``distributed/utils.py``, ``get_pp_indices``.
        """
        num_stages = self.pipeline_parallel_size
        each, left = divmod(num_layers, num_stages)
        sizes = [
            each + (num_stages - 1 - left <= stage < num_stages - 1) for stage in range(num_stages)
        ]
        ends = list(itertools.accumulate(sizes, initial=0))
        return tuple(range(*pair) for pair in itertools.pairwise(ends))


ONE_GPU = Split()


def refusal(config: ModelConfig, split: Split) -> tuple[str, str] | None:
    """Return which setting vLLM refuses and why, with the nearest sizes that it takes, or None."""
    for name, size, why in (
        ("tensor_parallel_size", split.tensor_parallel_size, _tensor_refusal),
        ("pipeline_parallel_size", split.pipeline_parallel_size, _pipeline_refusal),
    ):
        said = why(config, size)
        if said is not None:
            return name, f"{said}; {_nearest(config, size, why)}"
    return None


def _nearest(config: ModelConfig, size: int, why: Callable[[ModelConfig, int], str | None]) -> str:
    """Name the next smaller and the next larger size that is not refused."""
    most = config.num_attention_heads or 1
    smaller = next((each for each in range(size - 1, 0, -1) if why(config, each) is None), 1)
    larger = next((each for each in range(size + 1, most + 1) if why(config, each) is None), None)
    return f"closest that it takes: {smaller}" + (f" and {larger}" if larger else "")


def _tensor_refusal(config: ModelConfig, size: int) -> str | None:
    whole = None if size == 1 else next(_undivided(config, size), None)
    return whole and f"vLLM cannot divide {whole} by {size}"


def _pipeline_refusal(config: ModelConfig, size: int) -> str | None:
    if size > 1 and config.model_type in _IN_ONE_STAGE:
        return f"vLLM has no pipeline parallelism for model_type {config.model_type!r}"
    layers = config.num_hidden_layers
    if layers is not None and size > layers:
        return f"vLLM has no layer for some of {size} stages, as the model has {layers}"
    return None


def _undivided(config: ModelConfig, size: int) -> Iterator[str]:
    """Yield what does not come out even on ``size`` GPUs."""
    heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
    if heads and heads % size:
        yield f"{heads} attention heads"
    if kv_heads and not config.kv_lora_rank and kv_heads % size and size % kv_heads:
        yield f"{kv_heads} KV heads"
    for name in _mlp_widths(config):
        if (getattr(config, name) or 0) % size:
            yield f"{name} {getattr(config, name)}"
    vocabulary = padded_vocabulary(config.vocab_size or 0)
    if vocabulary % size:
        yield f"a vocabulary of {vocabulary} (padded to a multiple of 64)"
    yield from _broken_groups(config, size)


def _broken_groups(config: ModelConfig, size: int) -> Iterator[str]:
    """Yield the groups of quantized entries that would lie across GPUs."""
    quantization = config.quantization
    if quantization is None:
        return
    groups: dict[str, int | None] = {}
    if quantization.scheme in _WHOLE_GROUPS:
        groups = dict.fromkeys(("attention heads", "intermediate_size"), quantization.group_size)
    elif quantization.block_size is not None:
        names = ("attention heads", "KV heads", "intermediate_size", "moe_intermediate_size")
        groups = dict.fromkeys(names, quantization.block_size)
    widths, of_a_gpu = _widths(config), _widths(config.shard(size))
    for name, group in groups.items():
        width, part = widths.get(name), of_a_gpu.get(name)
        if group and width and part and group < width and part % group:
            yield f"{name} of {width} columns, quantized in groups of {group},"


def _mlp_widths(config: ModelConfig) -> tuple[str, ...]:
    """Return the keys of the widths that some layer has, an expert's or an MLP's."""
    if config.moe_intermediate_size and _only_experts(config):
        return ("moe_intermediate_size",)
    return ("intermediate_size", "moe_intermediate_size")


def _widths(config: ModelConfig) -> dict[str, int | None]:
    """Return the widths that are divided, as far as they are known."""
    found = {
        "moe_intermediate_size": config.moe_intermediate_size,
        "intermediate_size": None if _only_experts(config) else config.intermediate_size,
    }
    if config.num_attention_heads and config.hidden_size and not config.kv_lora_rank:
        found["attention heads"] = config.num_attention_heads * config.head_width
        found["KV heads"] = config.num_kv_heads * config.head_width
    return found


def _only_experts(config: ModelConfig) -> bool:
    """Tell a mixture whose ``intermediate_size`` is an expert's, or that of no layer."""
    return bool(config.num_experts) and not config.first_k_dense_replace

"""Numeric formats: the bytes of weights and of the KV cache, and whose peak applies.

The one table of both. What stands in neither table is not known: None, never the bytes of another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from packsweep.models.architecture.parameters import Parameters
from packsweep.models.architecture.quantization import Quantization

# vLLM's word for a dtype -> bytes of an element, and whose peak applies to computing in it.
DTYPES: dict[str, tuple[float, str]] = {
    "bfloat16": (2.0, "bf16"),
    "float16": (2.0, "bf16"),
    "half": (2.0, "bf16"),
    "float32": (4.0, "fp32"),
    "float": (4.0, "fp32"),
}
# vLLM's word for a dtype of the KV cache alone -> bytes of an element. In nvfp4 sixteen elements
# have a scale of a byte; formats with scales per token and head depend on the head's width.
# Source: vLLM 0.32, config/cache.py (CacheDType), utils/torch_utils.py (nvfp4_kv_cache_full_dim).
CACHE_DTYPES: dict[str, float] = {
    "fp8": 1.0,
    "fp8_e4m3": 1.0,
    "fp8_e5m2": 1.0,
    "fp8_inc": 1.0,
    "int8": 1.0,
    "nvfp4": 0.5 + 1 / 16,
    "nvfp4_4over6": 0.5 + 1 / 16,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """How quantized matrices lie in memory.

    Attributes:
        peak_dtype: whose peak applies; None where the share of it that is reached was not measured.
        scale_bytes: of the scale of a group; a scale for a whole row is not counted.
        experts_only: all other matrices stay as they are.
    """

    peak_dtype: str | None = None
    scale_bytes: float = 0.0
    experts_only: bool = False


# Source: vLLM 0.32, model_executor/layers/quantization: the tensors that each method creates.
SCHEMES: dict[str, Scheme] = {
    "fp8": Scheme(peak_dtype="fp8"),
    "int8": Scheme(peak_dtype="int8"),
    "int": Scheme(scale_bytes=2.0),  # AWQ, GPTQ, compressed-tensors: integers, 16-bit scales
    "bitsandbytes": Scheme(scale_bytes=4.0),
    "fp4": Scheme(scale_bytes=1.0),  # NVFP4, and MXFP4 of compressed-tensors
    "mxfp4-experts": Scheme(scale_bytes=1.0, experts_only=True),
}
_FP8 = Quantization(name="fp8", scheme="fp8")
# vLLM's word -> what it makes of an unquantized checkpoint while loading it.
# Source: vLLM 0.32, config/quantization.py and model_executor/layers/quantization/online.
ONLINE: dict[str, Quantization] = {
    **dict.fromkeys(("fp8", "fp8_per_block", "fp8_per_channel", "fp8_per_tensor"), _FP8),
    "bitsandbytes": Quantization(name="bitsandbytes", scheme="bitsandbytes", bits=4, group_size=64),
    "int8_per_channel_weight_only": Quantization(name="int8_per_channel_weight_only", scheme="int"),
    "mxfp8": Quantization(name="mxfp8", scheme="fp4", bits=8, group_size=32),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Formats:
    """In which formats a pass computes and reads; None where it is not known.

    Attributes:
        peak_dtype: bf16, fp8, int8 or fp32: whose peak FLOP/s apply.
        layer_bytes: of an entry of a layer's matrices; None where not all are alike.
        expert_bytes: of an entry of the experts' matrices, where these alone are quantized.
        head_bytes: of an entry of the output projection, which quantization leaves as it is.
        kv_bytes: of an element of the KV cache.
    """

    peak_dtype: str | None
    layer_bytes: float | None
    head_bytes: float | None
    kv_bytes: float | None
    expert_bytes: float | None = None


def formats(
    settings: Mapping[str, Any], stored_dtype: str, stored: Quantization | None = None
) -> Formats:
    """Return the formats behind an engine's settings in force, by vLLM's names.

    Args:
        settings: of the engine; a quantization there is what is loaded.
        stored_dtype: of the checkpoint, as ``Model.torch_dtype``.
        stored: likewise; vLLM calls what it loads from such a checkpoint by the name of its writer.

    Attention is computed in the model's dtype under fp8 and int8 as well; its share is small and
    the peak taken is that of the matrices.
    """
    dtype = str(settings.get("dtype") or "auto")
    element, peak = DTYPES.get(stored_dtype if dtype == "auto" else dtype, (None, None))
    kv_bytes = _kv_bytes(str(settings.get("cache_dtype") or "auto"), element, stored)
    quantization = _loaded(settings.get("quantization"), stored)
    if quantization is None:
        return Formats(peak_dtype=peak, layer_bytes=element, head_bytes=element, kv_bytes=kv_bytes)
    scheme = SCHEMES.get(quantization.scheme or "", Scheme())
    num_bytes = _entry_bytes(quantization)
    return Formats(
        peak_dtype=scheme.peak_dtype,
        layer_bytes=None if scheme.experts_only else num_bytes,
        head_bytes=element,
        kv_bytes=kv_bytes,
        expert_bytes=num_bytes if scheme.experts_only else None,
    )


def before_start(
    settings: Mapping[str, Any], stored_dtype: str, stored: Quantization | None
) -> Formats:
    """Return the formats that vLLM would choose; a model stored in float32 is run in bf16.

    Source: vLLM 0.32, config/model.py, _resolve_auto_dtype.
    """
    stored_dtype = "bfloat16" if stored_dtype == "float32" else stored_dtype
    asked = {**settings, "cache_dtype": settings["kv_cache_dtype"]}
    return formats(asked, stored_dtype, stored)


def _loaded(asked: object, stored: Quantization | None) -> Quantization | None:
    """Return how the matrices lie in memory, by what is asked of the engine and what is stored."""
    online = ONLINE.get(str(asked))
    if online is not None and (stored is None or online is _FP8):
        return online
    return stored or (Quantization(name=str(asked)) if asked else None)


def _entry_bytes(quantization: Quantization) -> float | None:
    """Return the bytes of a matrix's entry, with its part of a group's scale and zero point."""
    scheme = SCHEMES.get(quantization.scheme or "")
    if scheme is None:
        return None
    entry = quantization.bits / 8
    if quantization.group_size is None:
        return entry
    zero = entry if quantization.zero_points else 0.0
    return entry + (scheme.scale_bytes + zero) / quantization.group_size


def _kv_bytes(cache_dtype: str, element: float | None, stored: Quantization | None) -> float | None:
    if cache_dtype == "auto" and stored and stored.kv_dtype:
        cache_dtype = stored.kv_dtype
    if cache_dtype == "auto":
        return element
    plain = DTYPES.get(cache_dtype)
    return plain[0] if plain else CACHE_DTYPES.get(cache_dtype)


def weight_bytes(parameters: Parameters | None, used: Formats) -> int | None:
    """Return the bytes of all weights; quantization leaves tables, norms and biases as they are."""
    if parameters is None or used.head_bytes is None:
        return None
    if used.expert_bytes is not None:
        plain = parameters.total - parameters.experts
        return round(parameters.experts * used.expert_bytes + plain * used.head_bytes)
    if used.layer_bytes is None:
        return None
    return round(parameters.matrices * used.layer_bytes + parameters.others * used.head_bytes)

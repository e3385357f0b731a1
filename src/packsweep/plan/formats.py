"""Numeric formats: the bytes of weights and KV cache, and whose peak applies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from packsweep.models.config import BYTE_WIDE
from packsweep.models.shape import ModelShape

# vLLM's words for a dtype -> bytes of an element and whose peak applies.
_DTYPES = {
    "bfloat16": (2.0, "bf16"),
    "float16": (2.0, "bf16"),
    "half": (2.0, "bf16"),
    "float32": (4.0, "fp32"),
    "float": (4.0, "fp32"),
}
# vLLM's word -> bytes of an element.
ELEMENT_BYTES = {"bfloat16": 2.0, "float16": 2.0, "float32": 4.0, "fp8": 1.0, "int8": 1.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Formats:
    """In which formats a pass computes and reads; None where it cannot be told.

    Attributes:
        peak_dtype: bf16, fp8, int8 or fp32: whose peak FLOP/s apply.
        layer_bytes: of an entry of a layer's matrices.
        head_bytes: of an entry of the output projection, which fp8 and int8 leave as it is.
        kv_bytes: of an element of the KV cache.
    """

    peak_dtype: str | None
    layer_bytes: float | None
    head_bytes: float | None
    kv_bytes: float | None


def formats(
    settings: Mapping[str, Any], stored_dtype: str, stored_quantization: str | None = None
) -> Formats:
    """Return the formats behind an engine's settings in force, by vLLM's names.

    Args:
        settings: of the engine; a quantization there is what is loaded.
        stored_dtype: of the checkpoint, as ``Model.torch_dtype``.
        stored_quantization: likewise; vLLM calls what it loads from such a checkpoint by the name
            of its writer.

    Attention is computed in the model's dtype under fp8 and int8 as well; its share is small and
    the peak taken is that of the matrices.
    """
    dtype = str(settings.get("dtype") or "auto")
    element, peak = _DTYPES.get(stored_dtype if dtype == "auto" else dtype, (None, None))
    kv_bytes = _kv_bytes(str(settings.get("cache_dtype") or "auto"), element)
    quantization = str(settings.get("quantization") or stored_quantization or "")
    byte = "fp8" if "fp8" in quantization else stored_quantization
    if byte in BYTE_WIDE:
        return Formats(peak_dtype=byte, layer_bytes=1.0, head_bytes=element, kv_bytes=kv_bytes)
    if quantization:
        return Formats(peak_dtype=None, layer_bytes=None, head_bytes=element, kv_bytes=kv_bytes)
    return Formats(peak_dtype=peak, layer_bytes=element, head_bytes=element, kv_bytes=kv_bytes)


def _kv_bytes(cache_dtype: str, element: float | None) -> float | None:
    if cache_dtype == "auto":
        return element
    if cache_dtype.startswith("fp8"):
        return 1.0
    return _DTYPES.get(cache_dtype, (None, None))[0]


def kv_element_bytes(settings: Mapping[str, Any]) -> float:
    """Return the bytes of an element of the KV cache under a cell's settings."""
    if str(settings["kv_cache_dtype"]).startswith("fp8"):
        return 1.0
    return 4.0 if settings["dtype"] in {"float32", "float"} else 2.0


def weight_bytes(shape: ModelShape, used: Formats) -> int | None:
    """Return the bytes of the weights; quantization leaves the tables of tokens as they are."""
    if used.layer_bytes is None or used.head_bytes is None:
        return None
    tables = (1 if shape.tie_word_embeddings else 2) * shape.vocab_size * shape.hidden_size
    layers = shape.num_parameters - tables
    return round(layers * used.layer_bytes + tables * used.head_bytes)

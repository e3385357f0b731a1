"""What a model's ``config.json`` says, whoever wrote it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from packsweep.errors import ModelError

# Of ``stored_quantization``: a byte for each entry of a matrix, and units that multiply such bytes.
BYTE_WIDE = frozenset({"fp8", "int8"})


def text_part(config: Mapping[str, object]) -> Mapping[str, object]:
    """Return the language model's part; what it does not say, the outer config says."""
    text = config.get("text_config")
    if not isinstance(text, Mapping):
        return config
    shared = ("tie_word_embeddings", "torch_dtype", "dtype")
    return {key: config[key] for key in shared if key in config} | dict(text)


def stored_quantization(config: Mapping[str, Any]) -> str | None:
    """Return how a checkpoint is quantized: None if it is not, else the config's own word for it.

    That is ``fp8`` wherever both weights and activations of the layers are 8-bit floats, whoever
    wrote the checkpoint, and ``int8`` where both are 8-bit integers (W8A8).

    Source: vLLM 0.32, model_executor/layers/quantization, which reads the same keys.
    """
    stored = config.get("quantization_config") or text_part(config).get("quantization_config")
    if not isinstance(stored, Mapping):
        return None
    method = str(stored.get("quant_method"))
    if method == "fbgemm_fp8" or (method == "modelopt" and stored.get("quant_algo") == "FP8"):
        return "fp8"
    if method == "compressed-tensors":
        return _byte_wide(stored.get("config_groups")) or method
    return method


def _byte_wide(groups: object) -> str | None:
    """Return fp8 or int8 where all groups of compressed-tensors have that for both factors."""
    if not isinstance(groups, Mapping):
        return None
    factors = [
        group.get(name) or {}
        for group in groups.values()
        for name in ("weights", "input_activations")
    ]
    found = {(each.get("num_bits"), each.get("type")) for each in factors}
    if found == {(8, "float")}:
        return "fp8"
    return "int8" if found == {(8, "int")} else None


def integer(text: Mapping[str, object], key: str, *, default: int | None = None) -> int:
    """Return a positive figure; null counts as missing."""
    value = text.get(key)
    if value is None and default is not None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ModelError(f"config.json: {key} must be a positive whole number, not {value!r}")
    return value


def flag(text: Mapping[str, object], key: str, *, default: bool) -> bool:
    value = text.get(key)
    return default if value is None else bool(value)


def bias(text: Mapping[str, object], key: str, fixed: bool | None) -> bool:  # noqa: FBT001  # three states, not a switch
    """Return what the family fixes, or else what the config says."""
    return flag(text, key, default=False) if fixed is None else fixed


def stored_dtype(text: Mapping[str, object]) -> str:
    """Return the stored dtype; a config without one means float32.

    Source: PretrainedConfig of transformers; ``dtype`` is the newer spelling.
    """
    return str(text.get("dtype") or text.get("torch_dtype") or "float32")


# What Gemma3TextConfig takes for what a config leaves out.
_GEMMA3_DEFAULTS: dict[str, object] = {
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "sliding_window": 4096,
    "vocab_size": 262208,
    "max_position_embeddings": 131072,
}


def language_part(config: Mapping[str, object]) -> Mapping[str, Any]:
    """Return the language model's part, with what Gemma 3 leaves to its class."""
    text = text_part(config)
    if str(text.get("model_type")) in {"gemma3", "gemma3_text"}:
        return {**_GEMMA3_DEFAULTS, **text}
    return text

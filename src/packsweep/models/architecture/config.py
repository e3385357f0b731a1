"""What a model's ``config.json`` says, read and checked once.

``ModelConfig`` is the one home of its keys: shapes, parameters, the KV cache and the context length
are computed from it. A key that is missing, null, 0 or given layer by layer is None; one of another
type than it must be is a ``ModelError`` that names it.
"""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from packsweep.errors import ModelError
from packsweep.models.architecture.quantization import Quantization
from packsweep.models.architecture.quantization import read as read_quantization

Table = Mapping[str, object]

# A word of ours in config.json, true where a checkpoint is noise; vLLM passes it over.
RANDOM_WEIGHTS = "random_weights"
# Where older ModelOpt checkpoints say how they are quantized, beside config.json.
QUANTIZATION = "hf_quant_config.json"
# vLLM pads the tables of tokens to a multiple of so many rows.
# Source: vLLM 0.32, model_executor/layers/vocab_parallel_embedding.py (DEFAULT_VOCAB_PADDING_SIZE).
_VOCABULARY_PADDING = 64
# Beyond any model; a larger figure is a damaged file.
_MOST = 2**31
_MOST_LAYERS = 10_000
# Of a value of another type, so many characters are shown.
_SHOWN = 60
# Where a multimodal model keeps its language model.
_TEXT_PARTS = ("text_config", "llm_config", "language_config")
_NUM_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")
# Keys that show a cache of other parts than keys and values of equal width in every layer.
_FOREIGN_CACHES = {
    "attention_chunk_size": "chunked attention",
    "attn_type_list": "linear attention",
    "block_configs": "layers of different designs",
    "block_types": "layers of different designs",
    "compress_ratios": "compressed keys and values",
    "full_attention_interval": "linear attention",
    "global_head_dim": "heads of different widths",
    "hybrid_override_pattern": "a state space model",
    "index_topk": "sparse attention with an index of its own",
    "layers_block_type": "layers of different designs",
    "linear_num_key_heads": "linear attention",
    "mamba_d_state": "a state space model",
    "multi_query": "keys that all heads share, under a key of its own",
    "num_global_key_value_heads": "heads of different widths",
    "num_kv_shared_layers": "layers that share their cache",
    "ssm_cfg": "a state space model",
    "ssm_state_size": "a state space model",
    "swa_head_dim": "heads of different widths",
    "swa_num_key_value_heads": "heads of different widths",
}
# What a model type's class takes for a key that the file leaves out.
# Source: configuration_*.py of these model types in transformers 5.19.
_POSITIONS = {
    "deepseek_v3": 4096,
    "gemma2": 8192,
    "gpt_oss": 131072,
    "granite": 2048,
    "llama": 2048,
    "ministral3": 262144,
    "mistral": 131072,
    "mixtral": 131072,
    "phi3": 4096,
    "qwen2": 32768,
    "qwen3": 32768,
    "qwen3_moe": 32768,
    "smollm3": 32768,
}
_GEMMA3: Table = {
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "sliding_window": 4096,
    "vocab_size": 262208,
    "max_position_embeddings": 131072,
    "sliding_window_pattern": 6,
}
_DEFAULTS: dict[str, Table] = {
    **{name: {"max_position_embeddings": num} for name, num in _POSITIONS.items()},
    "gemma2": {"max_position_embeddings": 8192, "sliding_window_pattern": 2},
    "gemma3": _GEMMA3,
    "gemma3_text": _GEMMA3,
    "gpt_oss": {"max_position_embeddings": 131072, "sliding_window_pattern": 2},
    **{
        name: {"max_position_embeddings": 32768, "use_sliding_window": False}
        for name in ("qwen2", "qwen3", "qwen3_moe")
    },
}
# What tensor parallelism divides.
_DIVIDED = (
    "num_attention_heads",
    "num_key_value_heads",
    "intermediate_size",
    "moe_intermediate_size",
)
# vLLM's keys of a context length: the smallest counts, and model_max_length before all.
_LENGTHS = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "seq_length",
    "model_max_length",
    "max_target_positions",
    "max_sequence_length",
    "max_seq_length",
    "seq_len",
)
# Kinds of RoPE whose max_position_embeddings is the stretched length already.
_STRETCHED = frozenset(
    {
        "deepseek_llama_scaling",
        "deepseek_yarn",
        "llama3",
        "longrope",
        "su",
        "telechat3-yarn",
        "yarn",
    }
)
_LONGROPE = frozenset({"longrope", "su"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """The language model's part of a ``config.json``, by its own names.

    What ``of`` does not name is a positive whole number, read as it stands.

    Attributes:
        dtype: that the weights are stored in, by the config's own word.
        quantization: of the stored matrices; None: they are not quantized.
        max_model_len: the longest context, in tokens, that vLLM allows; None: no key says it.
        default_model_len: the context that vLLM takes where none is asked for.
        num_experts: under any of its names; ``experts_key`` is the one.
        layer_types: a word for each layer.
        foreign_cache: what the KV cache has that no formula here describes, or None.
        multimodal: the language model is a part of the whole.
    """

    model_type: str
    dtype: str
    quantization: Quantization | None
    max_model_len: int | None
    default_model_len: int | None
    random_weights: bool
    multimodal: bool
    num_hidden_layers: int | None
    hidden_size: int | None
    intermediate_size: int | None
    num_attention_heads: int | None
    num_key_value_heads: int | None
    head_dim: int | None
    v_head_dim: int | None
    vocab_size: int | None
    tie_word_embeddings: bool | None
    attention_bias: bool | None
    mlp_bias: bool | None
    num_experts: int | None
    experts_key: str | None
    num_experts_per_tok: int | None
    n_shared_experts: int | None
    moe_intermediate_size: int | None
    decoder_sparse_step: int | None
    mlp_only_layers: frozenset[int]
    first_k_dense_replace: int | None
    kv_lora_rank: int | None
    q_lora_rank: int | None
    qk_nope_head_dim: int | None
    qk_rope_head_dim: int | None
    sliding_window: int | None
    use_sliding_window: bool | None
    max_window_layers: int | None
    sliding_window_pattern: int | None
    layer_types: tuple[str, ...]
    foreign_cache: str | None

    @classmethod
    def read(cls, path: Path) -> ModelConfig:
        """Read the file.

        Raises:
            ModelError: it cannot be read, or is no such file.
        """
        config = read_table(path)
        apart = path.with_name(QUANTIZATION)
        if "quantization_config" not in config and apart.is_file():
            config = {**config, "quantization_config": read_table(apart)}
        return cls.of(config)

    @classmethod
    def of(cls, config: Table) -> ModelConfig:
        """Take the content of the file.

        Raises:
            ModelError: a value is of another type than it must be.
        """
        text = _language_part(config)
        limit, default = _context(text)
        experts_key = next((key for key in _NUM_EXPERTS if text.get(key)), None)
        named: dict[str, Any] = {
            "model_type": _word(text, "model_type"),
            "dtype": _word(text, "dtype") or _word(text, "torch_dtype") or "float32",
            "quantization": _quantization(config) or _quantization(text),
            "max_model_len": limit,
            "default_model_len": default,
            "random_weights": config.get(RANDOM_WEIGHTS) is True,
            "multimodal": _inner(config) is not None,
            "num_hidden_layers": _figure(text, "num_hidden_layers", most=_MOST_LAYERS),
            "tie_word_embeddings": _flag(text, "tie_word_embeddings"),
            "attention_bias": _flag(text, "attention_bias"),
            "mlp_bias": _flag(text, "mlp_bias"),
            "num_experts": _figure(text, experts_key) if experts_key else None,
            "experts_key": experts_key,
            "mlp_only_layers": _layers(text, "mlp_only_layers"),
            "use_sliding_window": _flag(text, "use_sliding_window"),
            "sliding_window_pattern": _pattern(text),
            "layer_types": _words(text, "layer_types"),
            "foreign_cache": _foreign_cache(text),
        }
        figures = [field.name for field in fields(cls) if field.name not in named]
        return cls(**named | {name: _figure(text, name) for name in figures})

    def need(self, name: str) -> int:
        """Return a figure that is computed with.

        Raises:
            ModelError: the config does not say it.
        """
        value = getattr(self, name)
        if value is None and name.endswith("_model_len"):
            raise ModelError(
                f"config.json says no context length: it has none of {', '.join(_LENGTHS)}"
            )
        if value is None:
            raise ModelError(f"config.json: {name} must be a positive whole number, and is missing")
        return int(value)

    def shard(self, tensor_parallel_size: int = 1) -> ModelConfig:
        """Return the part of every layer that one of so many GPUs has, as the config of a model.

        Heads, the widths of MLPs and the tables of tokens, padded as vLLM pads them, are divided;
        KV heads fewer than GPUs are copied. Norms, routers and latents are whole on every GPU.
        ``split.refusal`` says what cannot be divided.
        """
        divided: dict[str, Any] = {
            name: None if value is None else max(1, value // tensor_parallel_size)
            for name in _DIVIDED
            for value in (getattr(self, name),)
        }
        if self.vocab_size is not None:
            divided["vocab_size"] = padded_vocabulary(self.vocab_size) // tensor_parallel_size
        if self.hidden_size is not None and self.num_attention_heads is not None:
            divided["head_dim"] = self.head_width
        return replace(self, **divided)

    @property
    def head_width(self) -> int:
        return self.head_dim or self.need("hidden_size") // self.need("num_attention_heads")

    @property
    def num_kv_heads(self) -> int:
        """Heads of keys and values; without grouped queries as many as of queries."""
        return self.num_key_value_heads or self.need("num_attention_heads")


def padded_vocabulary(vocab_size: int) -> int:
    """Return the rows of a table of tokens as vLLM lays it out."""
    return math.ceil(vocab_size / _VOCABULARY_PADDING) * _VOCABULARY_PADDING


def read_table(path: Path) -> dict[str, object]:
    """Return the content of a JSON file that must hold a table.

    Raises:
        ModelError: it cannot be read, or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot read {path}: {error}") from error
    except RecursionError:
        raise ModelError(f"cannot read {path}: it is nested too deep") from None
    if not isinstance(content, dict):
        raise ModelError(f"{path} must hold a table, not a {type(content).__name__}")
    return content


def _quantization(table: Table) -> Quantization | None:
    return read_quantization(table.get("quantization_config") or table.get("compression_config"))


def _inner(config: Table) -> Table | None:
    parts = (config.get(key) for key in _TEXT_PARTS)
    return next((part for part in parts if isinstance(part, Mapping)), None)


def _language_part(config: Table) -> Table:
    """Return the language model's part; what it leaves out, the outer config or its class says."""
    text = _inner(config)
    if text is None:
        text = config
    else:
        shared = ("tie_word_embeddings", "torch_dtype", "dtype")
        text = {key: config[key] for key in shared if key in config} | dict(text)
    defaults = _DEFAULTS.get(_word(text, "model_type"), {})
    return {**defaults, **{key: value for key, value in text.items() if value is not None}}


def _figure(text: Table, key: str, *, most: int = _MOST) -> int | None:
    """Return a positive whole number; None where it is missing, 0 or given layer by layer."""
    value = text.get(key)
    if value is None or value is False or value == 0 or isinstance(value, list | dict):
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value < most:
        below = f" below {most}" if isinstance(value, int) and value >= most else ""
        raise _odd(key, value, f"a positive whole number{below}")
    return value


def _flag(text: Table, key: str) -> bool | None:
    value = text.get(key)
    if value is None or isinstance(value, bool):
        return value
    raise _odd(key, value, "true or false")


def _word(text: Table, key: str) -> str:
    value = text.get(key)
    if value is None or isinstance(value, str):
        return value or ""
    raise _odd(key, value, "a word")


def _words(text: Table, key: str) -> tuple[str, ...]:
    value = text.get(key)
    if value is None:
        return ()
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return tuple(value[:_MOST_LAYERS])
    raise _odd(key, value, "a list of words")


def _layers(text: Table, key: str) -> frozenset[int]:
    """Return the numbers of layers."""
    value = text.get(key)
    if value is None:
        return frozenset()
    if isinstance(value, list) and all(isinstance(each, int) for each in value):
        return frozenset(value)
    raise _odd(key, value, "a list of layers")


def _odd(key: str, value: object, expected: str) -> ModelError:
    """Return the error for a value of another type or size."""
    shown = f"a {type(value).__name__}"
    if isinstance(value, bool | float | str) or (isinstance(value, int) and abs(value) < 2**63):
        shown = textwrap.shorten(repr(value), _SHOWN)
    return ModelError(f"config.json: {key} must be {expected}, not {shown}")


def _pattern(text: Table) -> int | None:
    """Return every how many layers one attends to everything; the class's own if not a number."""
    value = text.get("sliding_window_pattern")
    return value if isinstance(value, int) and 1 <= value < _MOST_LAYERS else None


def _foreign_cache(text: Table) -> str | None:
    for key, design in _FOREIGN_CACHES.items():
        if text.get(key):
            return f"it has {design} ({key})"
    return None


def _number(text: Table, key: str) -> float | None:
    """Return a positive number; None where it is missing."""
    value = text.get(key)
    if value is None:
        return None
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    if not plain or not 0 < value < math.inf:  # type: ignore[operator]  # a number, as just seen
        raise _odd(key, value, "a positive number")
    return min(float(value), float(_MOST))  # type: ignore[arg-type]  # likewise


def _context(text: Table) -> tuple[int | None, int | None]:
    """Return the longest context and the one that vLLM takes by itself.

    The smallest of the keys counts, but model_max_length before all of them. RoPE's ``factor``
    stretches it, except where the keys say the stretched length already, as YaRN, Llama 3 and
    LongRoPE do and all Gemma 3. With LongRoPE vLLM stays within the length of pre-training unless a
    longer one is asked for. The tokenizer's ``model_max_length`` counts for pooling models alone,
    and a sliding window only where it is switched off: neither happens here.

    Source: vLLM 0.32, ``config/model.py`` (``_get_and_verify_max_len``) and
    ``transformers_utils/model_arch_config_convertor.py`` (``derive_max_model_len_and_key``).
    """
    lengths = {key: length for key in _LENGTHS if (length := _number(text, key)) is not None}
    if not lengths:
        return None, None
    length = lengths.get("model_max_length", min(lengths.values()))
    ropes = _ropes(text)
    if "gemma3" not in _word(text, "model_type"):
        for rope in ropes:
            if _rope_type(rope) not in _STRETCHED:
                length *= _number(rope, "factor") or 1.0
                break
    limit = max(1, int(min(length, _MOST)))
    if any(_rope_type(rope) in _LONGROPE for rope in ropes):
        trained = _number(text, "original_max_position_embeddings")
        return limit, limit if trained is None else int(trained)
    return limit, limit


def _ropes(text: Table) -> list[Table]:
    """Return RoPE's parameters, a table for each kind of layer where they differ."""
    found = text.get("rope_scaling") or text.get("rope_parameters")
    if not isinstance(found, Mapping):
        return []
    nested = [part for part in found.values() if isinstance(part, Mapping)]
    return nested if len(nested) == len(found) else [found]


def _rope_type(rope: Table) -> str:
    return _word(rope, "rope_type") or _word(rope, "type") or "default"

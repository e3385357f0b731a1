"""How many parameters a language model has, from its ``config.json``: no weights are read.

Most designs stand in ``shape``; here are those that it does not describe.

Source: modeling_*.py of these model types in transformers, whose counts a test compares.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from packsweep.errors import DesignError
from packsweep.models.config import integer, language_part
from packsweep.models.shape import FAMILIES, ModelShape

Config = Mapping[str, Any]


def count(config: Mapping[str, object]) -> int | None:
    """Return the parameters of the language model; None for a design that is not known.

    Raises:
        ModelError: a figure is missing.
    """
    text = language_part(config)
    model_type = str(text.get("model_type"))
    if model_type in FAMILIES:
        with contextlib.suppress(DesignError):
            return ModelShape.from_config(text).num_parameters
        return None
    layers = _LAYERS.get(model_type)
    if layers is None:
        return None
    hidden = integer(text, "hidden_size")
    tied = text.get("tie_word_embeddings", model_type in _TIED)
    tables = (1 if tied else 2) * integer(text, "vocab_size") * hidden
    return layers(text) + tables + hidden


def _heads(text: Config) -> int:
    """Entries of the projections of grouped-query attention in a layer."""
    hidden, heads = integer(text, "hidden_size"), integer(text, "num_attention_heads")
    width = integer(text, "head_dim", default=hidden // heads)
    kv_heads = integer(text, "num_key_value_heads", default=heads)
    return 2 * hidden * width * (heads + kv_heads)


def _mlp(text: Config, key: str = "intermediate_size") -> int:
    """Entries of a gated MLP: gate, up and down."""
    return 3 * integer(text, "hidden_size") * integer(text, key)


def _gemma(text: Config) -> int:
    """Entries of all layers: four norms each, in Gemma 3 two more of the head's width."""
    norms = 4 * integer(text, "hidden_size")
    if text["model_type"] != "gemma2":
        norms += 2 * integer(text, "head_dim")
    return integer(text, "num_hidden_layers") * (_heads(text) + _mlp(text) + norms)


def _deepseek_v3(text: Config) -> int:
    """Entries of all layers: latent attention, the first layers dense, the rest of experts.

    Layers that predict further tokens (``num_nextn_predict_layers``) are not counted: vLLM loads
    them for speculative decoding alone.
    """
    layers, hidden = integer(text, "num_hidden_layers"), integer(text, "hidden_size")
    num_dense = min(int(text.get("first_k_dense_replace") or 0), layers)
    experts = integer(text, "n_routed_experts")
    num_mlps = experts + int(text.get("n_shared_experts") or 0)
    sparse = num_mlps * _mlp(text, "moe_intermediate_size") + experts * hidden
    attention = _latent_attention(text, hidden) + 2 * hidden
    return layers * attention + num_dense * _mlp(text) + (layers - num_dense) * sparse


def _latent_attention(text: Config, hidden: int) -> int:
    heads, rank = integer(text, "num_attention_heads"), integer(text, "kv_lora_rank")
    nope, rope, value = (
        integer(text, key) for key in ("qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")
    )
    query_rank = text.get("q_lora_rank")
    query = hidden * heads * (nope + rope)
    if query_rank:
        query = query_rank * (hidden + 1 + heads * (nope + rope))
    keys = hidden * (rank + rope) + rank + rank * heads * (nope + value)
    return int(query) + keys + heads * value * hidden


_TIED = {"gemma2", "gemma3", "gemma3_text"}
_LAYERS: dict[str, Callable[[Config], int]] = {
    "deepseek_v3": _deepseek_v3,
    "gemma2": _gemma,
    "gemma3_text": _gemma,
}

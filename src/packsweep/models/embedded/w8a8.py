"""Llama 3.1 8B's shape with random weights in int8, as checkpoints of W8A8 are stored.

``load_format="dummy"`` leaves integers as the memory held them, and matrices of zeros draw less
power than real ones, so a card under its power limit would multiply them faster. Here every matrix
is noise of the spread that quantized weights have.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packsweep.models.embedded import hub_format, llama3
from packsweep.models.embedded.hub_format import Tensor

if TYPE_CHECKING:
    import numpy as np

# A matrix of normal weights, each row scaled by its largest: some 4.5 standard deviations are 127.
_STEPS = 28.0
_SPREAD = 0.02  # of the weights themselves, about as in a trained model
_SEED = 0
# Noise is drawn once and repeated; no matrix has a row of a length that divides this prime.
_NUM_DRAWN = 16_777_259


def _factor(*, dynamic: bool) -> dict[str, Any]:
    """Return how one factor of a product is quantized: a scale for each row, or for each token."""
    return {
        "num_bits": 8,
        "type": "int",
        "symmetric": True,
        "strategy": "token" if dynamic else "channel",
        "dynamic": dynamic,
        "observer": None if dynamic else "minmax",
    }


# Source: compressed-tensors, its config in the checkpoints that llm-compressor writes.
QUANTIZATION: dict[str, Any] = {
    "quant_method": "compressed-tensors",
    "format": "int-quantized",
    "quantization_status": "compressed",
    "ignore": ["lm_head"],
    "kv_cache_scheme": None,
    "config_groups": {
        "group_0": {
            "targets": ["Linear"],
            "weights": _factor(dynamic=False),
            "input_activations": _factor(dynamic=True),
            "output_activations": None,
        }
    },
}


def write(source: Path, folder: Path) -> None:
    """Write config, tokenizer, and 9.1 GB of weights."""
    llama3.write(source, folder, config())
    write_weights(folder / "model.safetensors", config())


def config() -> dict[str, Any]:
    return llama3.CONFIG | {"quantization_config": QUANTIZATION, "random_weights": True}


def write_weights(path: Path, shape: dict[str, Any]) -> None:
    """Write noise for every tensor of a model of Llama's design; ``shape`` is its config."""
    tensors = list(_tensors(shape))
    hub_format.write_safetensors(path, tensors, _values(tensors))


def _tensors(shape: dict[str, Any]) -> Iterator[Tensor]:
    """Yield every tensor, by the names of LlamaForCausalLM; a matrix has a scale for each row."""
    hidden, inner = shape["hidden_size"], shape["intermediate_size"]
    q_size, kv_size = (
        shape[name] * shape["head_dim"] for name in ("num_attention_heads", "num_key_value_heads")
    )
    matrices = {
        "self_attn.q_proj": (q_size, hidden),
        "self_attn.k_proj": (kv_size, hidden),
        "self_attn.v_proj": (kv_size, hidden),
        "self_attn.o_proj": (hidden, q_size),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
    }
    for name in ("model.embed_tokens", "lm_head"):
        yield Tensor(name=f"{name}.weight", dtype="BF16", shape=(shape["vocab_size"], hidden))
    yield Tensor(name="model.norm.weight", dtype="BF16", shape=(hidden,))
    for layer in range(shape["num_hidden_layers"]):
        place = f"model.layers.{layer}"
        for norm in ("input_layernorm", "post_attention_layernorm"):
            yield Tensor(name=f"{place}.{norm}.weight", dtype="BF16", shape=(hidden,))
        for name, (rows, columns) in matrices.items():
            yield Tensor(name=f"{place}.{name}.weight", dtype="I8", shape=(rows, columns))
            yield Tensor(name=f"{place}.{name}.weight_scale", dtype="BF16", shape=(rows, 1))


def _values(tensors: list[Tensor]) -> Iterator[np.ndarray[Any, Any]]:
    """Yield the content of each tensor: norms of 1, equal scales, and noise."""
    import numpy as np

    draws = np.random.default_rng(_SEED).standard_normal(_NUM_DRAWN, dtype=np.float32)
    integers = np.clip(np.rint(draws * _STEPS), -127, 127).astype(np.int8)
    floats = hub_format.bf16(draws * _SPREAD)
    begin = 0
    for tensor in tensors:
        size = math.prod(tensor.shape)
        if tensor.name.endswith("norm.weight"):
            yield hub_format.bf16(np.ones(size))
        elif tensor.name.endswith("_scale"):
            yield hub_format.bf16(np.full(size, _SPREAD / _STEPS))
        else:
            noise = integers if tensor.dtype == "I8" else floats
            yield np.resize(np.roll(noise, -begin), size)
            begin = (begin + size) % _NUM_DRAWN

"""Shapes, against figures worked out by hand and against transformers' own parameter counts."""

from __future__ import annotations

from typing import Any

import pytest

from packsweep.errors import DesignError, ModelError
from packsweep.models.architecture.config import ModelConfig
from packsweep.models.architecture.shape import FAMILIES, ModelShape

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "num_hidden_layers": 32,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "torch_dtype": "bfloat16",
}
TINY: dict[str, Any] = {
    "model_type": "llama",
    "num_hidden_layers": 3,
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 32,
    "max_position_embeddings": 64,
}


def _shape(config: dict[str, Any]) -> ModelShape:
    return ModelShape.from_config(ModelConfig.of(config))


def test_num_parameters_llama_3_1_8b() -> None:
    """Llama 3.1 8B has 8,030,261,248 parameters."""
    assert _shape(LLAMA).num_parameters == 8_030_261_248


def test_num_parameters_smollm2_135m() -> None:
    """A tied embedding table counts once."""
    config = TINY | {
        "num_hidden_layers": 30,
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "vocab_size": 49152,
        "tie_word_embeddings": True,
    }
    assert _shape(config).num_parameters == 134_515_008


def test_matmul_flops_per_token_llama_3_1_8b() -> None:
    """32 layers of 2 * (2 * 4096^2 + 2 * 4096 * 1024 + 3 * 4096 * 14336) are 13.96 GFLOP."""
    assert _shape(LLAMA).matmul_flops_per_token == 13_958_643_712


def test_lm_head_flops_llama_3_1_8b() -> None:
    """A sampled token costs 2 * 4096 * 128256."""
    assert _shape(LLAMA).lm_head_flops == 1_050_673_152


def test_kv_cache_bytes_per_token_bf16() -> None:
    """Keys and values of 32 layers of 8 heads of 128 are 128 KiB per token."""
    assert _shape(LLAMA).kv_cache_bytes_per_token(2) == 131_072


def test_attention_flops_small_prompt() -> None:
    """Three tokens see 1 + 2 + 3 = 6 pairs; 4 heads of 2 in 3 layers, 4 FLOPs each."""
    assert _shape(TINY).attention_flops(3, 3) == 4 * 3 * 8 * 6


def test_attention_flops_cached_prefix() -> None:
    """Computing a prompt in two parts costs what computing it at once does."""
    shape = _shape(TINY)
    whole = shape.attention_flops(10, 10)
    assert shape.attention_flops(7, 7) + shape.attention_flops(3, 10) == whole


def test_attention_flops_more_new_than_context() -> None:
    """A prompt cannot be shorter than its uncached part."""
    with pytest.raises(ValueError, match="4 new tokens do not fit in 3"):
        _shape(TINY).attention_flops(4, 3)


def test_from_config_head_dim_given() -> None:
    """An explicit head width wins over hidden size by heads."""
    assert _shape(TINY | {"head_dim": 6}).head_dim == 6


def test_from_config_head_dim_null() -> None:
    """A null counts as missing."""
    assert _shape(TINY | {"head_dim": None}).head_dim == 2


def test_from_config_no_kv_heads() -> None:
    """Without grouped queries every head has its own keys."""
    config = {key: value for key, value in TINY.items() if key != "num_key_value_heads"}
    assert _shape(config).num_kv_heads == 4


def test_from_config_multimodal() -> None:
    """The text part is read; what it leaves out is taken from around it."""
    config = {"model_type": "mistral3", "dtype": "bfloat16", "text_config": TINY}
    shape = _shape(config)
    assert (shape.model_type, shape.hidden_size) == ("llama", 8)
    assert ModelConfig.of(config).dtype == "bfloat16"


def test_from_config_mixture_of_experts() -> None:
    """A mixture of experts is refused in one line that says so."""
    with pytest.raises(DesignError, match="mixture of experts") as caught:
        _shape(TINY | {"model_type": "granitemoe", "num_local_experts": 8})
    assert "\n" not in str(caught.value)


EXPERTS = {"model_type": "qwen3_moe", "num_experts": 8, "num_experts_per_tok": 2}
EXPERTS |= {"moe_intermediate_size": 5, "num_hidden_layers": 4}


def test_matmul_flops_of_experts() -> None:
    """A token multiplies with two experts of eight and the router, worked by hand."""
    attention = 8 * (2 * 8 + 2 * 4)  # query and output, keys and values: 8 and 4 wide
    routed = 2 * 3 * 8 * 5 + 8 * 8  # gate, up, down of two experts, and the router
    shape = _shape(TINY | EXPERTS)
    assert shape.matmul_flops_per_token == 2 * 4 * (attention + routed)


def test_matmul_flops_of_dense_layers_among_experts() -> None:
    """Every second layer has experts, the fourth of them not: three dense ones of four."""
    mixed = EXPERTS | {"decoder_sparse_step": 2, "mlp_only_layers": [3]}
    shape = _shape(TINY | mixed)
    attention, dense, routed = 8 * (2 * 8 + 2 * 4), 3 * 8 * 16, 2 * 3 * 8 * 5 + 8 * 8
    assert shape.matmul_flops_per_token == 2 * (4 * attention + 3 * dense + routed)


def test_from_config_no_experts_per_token() -> None:
    """A mixture that does not say how many experts a token takes is refused by that key."""
    with pytest.raises(ModelError, match="num_experts_per_tok must be"):
        _shape(TINY | EXPERTS | {"num_experts_per_tok": None})


def test_from_config_latent_attention() -> None:
    """Latent attention is refused."""
    with pytest.raises(DesignError, match="latent attention"):
        _shape(TINY | {"model_type": "minicpm3", "kv_lora_rank": 256})


def test_from_config_unknown_type() -> None:
    """An unknown design is refused with the known ones."""
    with pytest.raises(DesignError, match="for model_type 'gpt2'"):
        _shape({"model_type": "gpt2"})


@pytest.mark.parametrize("value", [None, 0, [8, 8]])
def test_from_config_missing_figure(value: object) -> None:
    """A figure that is missing, or told layer by layer, is named."""
    with pytest.raises(ModelError, match=r"hidden_size must be .* is missing"):
        _shape(TINY | {"hidden_size": value})


@pytest.mark.slow
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("model_type", FAMILIES)
def test_num_parameters_as_transformers(model_type: str, *, bias: bool) -> None:
    """Every family has as many parameters as transformers makes of the same config."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    options = {"attention_bias": bias, "mlp_bias": bias, "head_dim": 6, "pad_token_id": 0}
    if model_type == "phi3":
        options["head_dim"] = 2
    config = transformers.AutoConfig.for_model(**TINY | options | {"model_type": model_type})
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config)
    shape = _shape(config.to_dict())
    assert shape.num_parameters == sum(parameter.numel() for parameter in model.parameters())

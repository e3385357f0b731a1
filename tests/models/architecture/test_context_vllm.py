"""The context length against vLLM's own rule, where vLLM is installed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from packsweep.errors import ModelError
from packsweep.models.architecture.config import ModelConfig

SMALL: dict[str, Any] = {
    "num_hidden_layers": 2,
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 64,
    "vocab_size": 1000,
}
LONGROPE = {"short_factor": [1.0] * 32, "long_factor": [4.0] * 32}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
TEXT = {"model_type": "gemma3_text", **SMALL}
# Name -> what config.json says besides SMALL, in the form of a published model's.
CONFIGS: dict[str, dict[str, Any]] = {
    "llama-3.1": {"max_position_embeddings": 131072, "rope_scaling": LLAMA3},
    "llama-2-dynamic": {
        "max_position_embeddings": 2048,
        "rope_scaling": {"type": "dynamic", "factor": 2.0},
    },
    "longchat-linear": {
        "max_position_embeddings": 4096,
        "rope_scaling": {"type": "linear", "factor": 4.0},
    },
    "linear-in-new-form": {
        "max_position_embeddings": 4096,
        "rope_parameters": {"rope_type": "linear", "factor": 2.5, "rope_theta": 10000.0},
    },
    "no-scaling": {"max_position_embeddings": 4096, "rope_scaling": None},
    "null-factor": {
        "max_position_embeddings": 4096,
        "rope_scaling": {"type": "linear", "factor": None},
    },
    "class-default": {},
    "several-keys": {"max_position_embeddings": 4096, "seq_length": 2048, "seq_len": 8192},
    "several-keys-scaled": {
        "max_position_embeddings": 4096,
        "max_sequence_length": 3000,
        "rope_scaling": {"type": "linear", "factor": 2.0},
    },
    "command-r": {
        "model_type": "cohere",
        "max_position_embeddings": 8192,
        "model_max_length": 131072,
    },
    "qwen2.5-yarn": {
        "model_type": "qwen2",
        "max_position_embeddings": 32768,
        "rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768},
        "sliding_window": 131072,
        "use_sliding_window": False,
    },
    "qwen3-yarn": {"model_type": "qwen3", "max_position_embeddings": 40960, "rope_scaling": YARN},
    "phi-3-longrope": {
        "model_type": "phi3",
        "max_position_embeddings": 131072,
        "original_max_position_embeddings": 4096,
        "pad_token_id": 0,
        "rope_scaling": {"type": "longrope", **LONGROPE},
    },
    "mistral-0.1": {
        "model_type": "mistral",
        "max_position_embeddings": 32768,
        "sliding_window": 4096,
    },
    "mistral-0.3": {
        "model_type": "mistral",
        "max_position_embeddings": 32768,
        "sliding_window": None,
    },
    "gemma-2": {"model_type": "gemma2", "max_position_embeddings": 8192, "sliding_window": 4096},
    "gemma-3-1b": {
        "model_type": "gemma3_text",
        "max_position_embeddings": 32768,
        "sliding_window": 512,
    },
    "gemma-3-scaled": {
        "model_type": "gemma3_text",
        "max_position_embeddings": 131072,
        "rope_scaling": {"rope_type": "linear", "factor": 8.0},
    },
    "gemma-3-multimodal": {
        "model_type": "gemma3",
        "text_config": {**TEXT, "rope_scaling": {"rope_type": "linear", "factor": 8.0}},
    },
    "gpt-oss": {
        "model_type": "gpt_oss",
        "max_position_embeddings": 131072,
        "num_local_experts": 4,
        "rope_scaling": {
            "rope_type": "yarn",
            "factor": 32.0,
            "original_max_position_embeddings": 4096,
            "beta_fast": 32.0,
            "beta_slow": 1.0,
            "truncate": False,
        },
    },
    "deepseek-v3": {
        "model_type": "deepseek_v3",
        "max_position_embeddings": 163840,
        "kv_lora_rank": 16,
        "qk_rope_head_dim": 8,
        "rope_scaling": {
            "type": "yarn",
            "factor": 40,
            "original_max_position_embeddings": 4096,
            "mscale": 1.0,
            "mscale_all_dim": 1.0,
        },
    },
    "granite": {"model_type": "granite", "max_position_embeddings": 131072},
    "smollm3": {"model_type": "smollm3", "max_position_embeddings": 65536},
    "mixtral": {"model_type": "mixtral", "max_position_embeddings": 32768},
    "gpt-2": {"model_type": "gpt2", "n_positions": 1024},
    "opt": {"model_type": "opt", "max_position_embeddings": 2048},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_context_as_vllm(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both the longest context and the one taken by itself are vLLM's."""
    model = pytest.importorskip("vllm.config.model")
    transformers_utils = pytest.importorskip("vllm.transformers_utils.config")
    convertors = pytest.importorskip("vllm.transformers_utils.model_arch_config_convertor")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    config = {"model_type": "llama", "architectures": ["AnyForCausalLM"], **SMALL, **CONFIGS[name]}
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config), encoding="utf-8")
    theirs = transformers_utils.get_config(str(tmp_path), trust_remote_code=False)
    text = transformers_utils.get_hf_text_config(theirs)
    kind = convertors.MODEL_ARCH_CONFIG_CONVERTORS.get(
        theirs.model_type, convertors.ModelArchConfigConvertorBase
    )
    derived = kind(theirs, text).convert()

    def verified(max_model_len: int | None) -> int:
        return int(
            model._get_and_verify_max_len(
                text,
                derived,
                None,
                max_model_len,
                disable_sliding_window=False,
                sliding_window=None,
            )
        )

    ours = ModelConfig.read(path)
    assert ours.default_model_len == verified(None)
    longest = ours.need("max_model_len")
    assert verified(longest) == longest
    with pytest.raises(ValueError, match="greater than the derived max_model_len"):
        verified(longest + 1)


@pytest.mark.parametrize(
    ("name", "longest", "default"),
    [
        ("llama-2-dynamic", 4096, 4096),
        ("longchat-linear", 16384, 16384),
        ("linear-in-new-form", 10240, 10240),
        ("command-r", 131072, 131072),
        ("several-keys", 2048, 2048),
        ("phi-3-longrope", 131072, 4096),
        ("gemma-3-multimodal", 131072, 131072),
        ("qwen3-yarn", 40960, 40960),
        ("class-default", 2048, 2048),
    ],
)
def test_context_by_hand(name: str, longest: int, default: int) -> None:
    """The factor stretches some kinds of RoPE, and LongRoPE stays within its training."""
    found = ModelConfig.of({"model_type": "llama", **SMALL, **CONFIGS[name]})
    assert (found.max_model_len, found.default_model_len) == (longest, default)


def test_context_unknown() -> None:
    """A design that is not known and says no length has none."""
    found = ModelConfig.of({"model_type": "brand_new"})
    with pytest.raises(ModelError, match="says no context length: it has none of max_position_emb"):
        found.need("max_model_len")

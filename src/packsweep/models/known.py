"""Configurations of well-known models by short name: what sizes need, as their makers publish it.

Facts of each repository's ``config.json`` on the hub, read there or in a copy of it; keys that no
size depends on are left out. A figure that could not be read is no entry here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from packsweep import errors

HUB = "https://huggingface.co"


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownModel:
    """A model's repository on the hub and the keys of its config that sizes depend on."""

    repo: str
    config: Mapping[str, object]

    @property
    def source(self) -> str:
        """Where the figures stand."""
        return f"{HUB}/{self.repo}/blob/main/config.json"


def _config(model_type: str, figures: tuple[int, ...], **more: object) -> dict[str, object]:
    """Return a config from its figures in the order below and from what else it says."""
    keys = (
        "num_hidden_layers",
        "hidden_size",
        "intermediate_size",
        "num_attention_heads",
        "num_key_value_heads",
        "vocab_size",
        "max_position_embeddings",
    )
    shared = {"model_type": model_type, "torch_dtype": "bfloat16"}
    return {**shared, **dict(zip(keys, figures, strict=True)), **more}


_QWEN3_MOE = {"num_experts": 128, "num_experts_per_tok": 8, "head_dim": 128}
_DEEPSEEK_V3 = {
    "kv_lora_rank": 512,
    "q_lora_rank": 1536,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "first_k_dense_replace": 3,
    "moe_intermediate_size": 2048,
    "n_routed_experts": 256,
    "n_shared_experts": 1,
    "num_experts_per_tok": 8,
    "quantization_config": {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128]},
}
# Short name -> model. The figures: layers, hidden size, MLP size, heads, KV heads, vocabulary,
# positions.
KNOWN: dict[str, KnownModel] = {
    "llama-3.1-8b": KnownModel(
        repo="meta-llama/Llama-3.1-8B",
        config=_config("llama", (32, 4096, 14336, 32, 8, 128256, 131072)),
    ),
    "llama-3.1-70b": KnownModel(
        repo="meta-llama/Llama-3.1-70B",
        config=_config("llama", (80, 8192, 28672, 64, 8, 128256, 131072)),
    ),
    "qwen2.5-7b": KnownModel(
        repo="Qwen/Qwen2.5-7B-Instruct",
        config=_config("qwen2", (28, 3584, 18944, 28, 4, 152064, 32768)),
    ),
    "qwen2.5-72b": KnownModel(
        repo="Qwen/Qwen2.5-72B-Instruct",
        config=_config("qwen2", (80, 8192, 29568, 64, 8, 152064, 32768)),
    ),
    "qwen3-8b": KnownModel(
        repo="Qwen/Qwen3-8B",
        config=_config("qwen3", (36, 4096, 12288, 32, 8, 151936, 40960), head_dim=128),
    ),
    "qwen3-32b": KnownModel(
        repo="Qwen/Qwen3-32B",
        config=_config("qwen3", (64, 5120, 25600, 64, 8, 151936, 40960), head_dim=128),
    ),
    "qwen3-30b-a3b": KnownModel(
        repo="Qwen/Qwen3-30B-A3B",
        config=_config(
            "qwen3_moe",
            (48, 2048, 6144, 32, 4, 151936, 40960),
            moe_intermediate_size=768,
            **_QWEN3_MOE,
        ),
    ),
    "qwen3-235b-a22b": KnownModel(
        repo="Qwen/Qwen3-235B-A22B",
        config=_config(
            "qwen3_moe",
            (94, 4096, 12288, 64, 4, 151936, 40960),
            moe_intermediate_size=1536,
            **_QWEN3_MOE,
        ),
    ),
    "mistral-7b-v0.3": KnownModel(
        repo="mistralai/Mistral-7B-v0.3",
        config=_config("mistral", (32, 4096, 14336, 32, 8, 32768, 32768)),
    ),
    "mixtral-8x7b": KnownModel(
        repo="mistralai/Mixtral-8x7B-v0.1",
        config=_config(
            "mixtral",
            (32, 4096, 14336, 32, 8, 32000, 32768),
            num_local_experts=8,
            num_experts_per_tok=2,
        ),
    ),
    "gemma-2-9b": KnownModel(
        repo="google/gemma-2-9b",
        config=_config(
            "gemma2", (42, 3584, 14336, 16, 8, 256000, 8192), head_dim=256, sliding_window=4096
        ),
    ),
    "gemma-2-27b": KnownModel(
        repo="google/gemma-2-27b",
        config=_config(
            "gemma2", (46, 4608, 36864, 32, 16, 256000, 8192), head_dim=128, sliding_window=4096
        ),
    ),
    "gemma-3-1b": KnownModel(
        repo="google/gemma-3-1b-it",
        config=_config(
            "gemma3_text",
            (26, 1152, 6912, 4, 1, 262144, 32768),
            head_dim=256,
            sliding_window=512,
            sliding_window_pattern=6,
        ),
    ),
    "gemma-3-12b": KnownModel(
        repo="google/gemma-3-12b-it",
        config=_config(
            "gemma3_text",
            (48, 3840, 15360, 16, 8, 262208, 131072),
            head_dim=256,
            sliding_window=1024,
        ),
    ),
    "gemma-3-27b": KnownModel(
        repo="google/gemma-3-27b-it",
        config=_config(
            "gemma3_text",
            (62, 5376, 21504, 32, 16, 262208, 131072),
            head_dim=128,
            sliding_window=1024,
        ),
    ),
    "deepseek-v3": KnownModel(
        repo="deepseek-ai/DeepSeek-V3",
        config=_config("deepseek_v3", (61, 7168, 18432, 128, 128, 129280, 163840), **_DEEPSEEK_V3),
    ),
}


def find(name: str) -> KnownModel | None:
    """Return the model of that short name, whatever its case; None if there is none."""
    return KNOWN.get(name.casefold())


def nearest(name: str) -> str | None:
    """Return the short name that is spelt most like ``name``; None if none is."""
    return errors.nearest(name.casefold(), KNOWN)

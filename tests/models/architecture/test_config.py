"""What ``config.json`` says: odd values are one line or unknown, never a traceback."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packsweep.errors import ModelError
from packsweep.models.architecture import kv_cache, parameters
from packsweep.models.architecture.config import ModelConfig
from packsweep.models.architecture.shape import ModelShape
from packsweep.models.known import KNOWN
from packsweep.models.resolve import resolve

TINY: dict[str, Any] = {
    "model_type": "llama",
    "num_hidden_layers": 2,
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_attention_heads": 2,
    "vocab_size": 32,
    "max_position_embeddings": 64,
}
KEYS = sorted({key for model in KNOWN.values() for key in model.config})
ODD = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([0, -1, 10**400, 2**31, 1e308])
    | st.floats()
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)
MORE = ["rope_scaling", "layer_types", "mlp_only_layers", "text_config", "tie_word_embeddings"]
MORE += ["attention_bias", "use_sliding_window", "max_window_layers", "dtype", "head_dim"]
INNER = ["quant_method", "config_groups", "rope_type", "factor", "bits", "ignore", "group_size"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"hidden_size": "8"}, "hidden_size must be a positive whole number, not '8'"),
        ({"hidden_size": True}, "hidden_size must be a positive whole number, not True"),
        ({"hidden_size": 8.5}, "hidden_size must be a positive whole number, not 8.5"),
        ({"num_hidden_layers": 10**9}, "a positive whole number below 10000, not 1000000000"),
        ({"vocab_size": 10**500}, "vocab_size must be a positive whole number below 2147483648"),
        ({"tie_word_embeddings": "no"}, "tie_word_embeddings must be true or false, not 'no'"),
        ({"model_type": ["llama"]}, "model_type must be a word, not a list"),
        ({"torch_dtype": {"a": 1}}, "torch_dtype must be a word, not a dict"),
        ({"layer_types": "full"}, "layer_types must be a list of words, not 'full'"),
        ({"layer_types": [1]}, "layer_types must be a list of words, not a list"),
        ({"mlp_only_layers": ["a"]}, "mlp_only_layers must be a list of layers, not a list"),
        ({"max_position_embeddings": -1}, "must be a positive number, not -1"),
        ({"max_position_embeddings": float("inf")}, "must be a positive number, not inf"),
        (
            {"rope_scaling": {"type": "linear", "factor": "two"}},
            "factor must be a positive number, not 'two'",
        ),
        ({"rope_scaling": {"type": 3}}, "type must be a word, not 3"),
    ],
)
def test_odd_values(changes: dict[str, Any], said: str) -> None:
    """A value of another type is named with its key."""
    with pytest.raises(ModelError) as caught:
        ModelConfig.of(TINY | changes)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 200


@given(
    st.dictionaries(st.sampled_from(KEYS + MORE), ODD, max_size=4),
    st.dictionaries(st.sampled_from(INNER), ODD, max_size=4),
    st.sampled_from([None, "quantization_config", "rope_scaling", "text_config"]),
    st.sampled_from(sorted(KNOWN)),
)
def test_any_values_are_one_line(
    changes: dict[str, Any], inner: dict[str, Any], where: str | None, name: str
) -> None:
    """Whatever stands in a config, what is made of it is a value or a ``ModelError``."""
    config = {**KNOWN[name].config, **changes} | ({where: inner} if where else {})
    lines: list[str] = []
    for make in (ModelShape.from_config, kv_cache.from_config, parameters.count):
        try:
            make(ModelConfig.of(config))
        except ModelError as error:
            lines.append(str(error))
    assert not any("\n" in line for line in lines)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 100_000 + "]" * 100_000, "it is nested too deep"),
        ('{"a":' * 100_000 + "1" + "}" * 100_000, "it is nested too deep"),
        ('{"vocab_size": ' + "9" * 5000 + "}", "cannot read"),
        ("[1]", "must hold a table, not a list"),
        ("{", "cannot read"),
    ],
)
def test_damaged_files(tmp_path: Path, text: str, said: str) -> None:
    """A file that cannot be read is one line."""
    (tmp_path / "config.json").write_text(text, encoding="utf-8")
    (tmp_path / "tokenizer.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ModelError) as caught:
        resolve(str(tmp_path), load_format="dummy")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_language_part_of_a_multimodal_model() -> None:
    """What the text part leaves out is taken from around it, or from its class."""
    text = {"model_type": "gemma3_text", "num_hidden_layers": 2, "hidden_size": 8}
    config = ModelConfig.of(
        {"model_type": "gemma3", "torch_dtype": "bfloat16", "text_config": text}
    )
    assert (config.model_type, config.dtype, config.multimodal) == ("gemma3_text", "bfloat16", True)
    assert (config.num_attention_heads, config.head_dim, config.sliding_window) == (8, 256, 4096)
    assert config.max_model_len == 131_072


def test_dtype_without_a_word() -> None:
    """A config that says no dtype means float32."""
    assert ModelConfig.of(TINY).dtype == "float32"
    assert ModelConfig.of(TINY | {"dtype": "float16", "torch_dtype": "bfloat16"}).dtype == "float16"


def test_quantization_in_a_file_of_its_own(tmp_path: Path) -> None:
    """Older ModelOpt checkpoints say beside config.json how they are quantized."""
    (tmp_path / "config.json").write_text(json.dumps(TINY), encoding="utf-8")
    assert ModelConfig.read(tmp_path / "config.json").quantization is None
    stored = {
        "producer": {"name": "modelopt"},
        "quantization": {"quant_algo": "FP8", "kv_cache_quant_algo": "FP8"},
    }
    (tmp_path / "hf_quant_config.json").write_text(json.dumps(stored), encoding="utf-8")
    found = ModelConfig.read(tmp_path / "config.json").quantization
    assert found is not None
    assert (found.name, found.kv_dtype) == ("fp8", "fp8")


def test_windows_that_qwen_switches_off() -> None:
    """Qwen2 and 3 have a window in their config and use it only where they say so."""
    config = TINY | {"model_type": "qwen2", "sliding_window": 32}
    assert kv_cache.from_config(ModelConfig.of(config)).windows == (None, None)
    on = config | {"use_sliding_window": True, "max_window_layers": 1}
    assert kv_cache.from_config(ModelConfig.of(on)).windows == (None, 32)


def test_heads_of_different_widths_are_not_described() -> None:
    """Gemma 4's full layers have wider heads, so no formula here is its cache."""
    config = TINY | {"layer_types": ["sliding_attention", "full_attention"], "global_head_dim": 512}
    with pytest.raises(ModelError, match="heads of different widths"):
        kv_cache.from_config(ModelConfig.of(config))

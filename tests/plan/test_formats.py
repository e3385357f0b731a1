"""Every format in every place that uses it: weights, KV cache, plan, forecast and calc kv."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.fakes import sweep, write_byte_model

from packsweep.machine.devices import DEVICES
from packsweep.models.architecture import parameters
from packsweep.models.architecture.config import ModelConfig
from packsweep.models.architecture.quantization import read
from packsweep.models.known import KNOWN
from packsweep.plan import cells, forecast, kv_budget
from packsweep.plan.formats import CACHE_DTYPES, DTYPES, SCHEMES, formats, weight_bytes
from packsweep.plan.kv_budget import Asked

L4: dict[str, Any] = {"device": "L4", "memory_bytes": DEVICES["L4"].memory_bytes}
FP8 = {"num_bits": 8, "type": "float"}
INT8 = {"num_bits": 8, "type": "int"}


def _compressed(weights: dict[str, Any], activations: dict[str, Any] | None) -> dict[str, Any]:
    """Return a compressed-tensors checkpoint of one group."""
    group = {"targets": ["Linear"], "weights": weights, "input_activations": activations}
    return {
        "quant_method": "compressed-tensors",
        "config_groups": {"group_0": group},
        "ignore": ["lm_head"],
    }


def _int4(**more: Any) -> dict[str, Any]:
    return _compressed({"num_bits": 4, "type": "int", "group_size": 128, **more}, None)


AWQ = {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True}
GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 128}
# Bytes of a matrix's entry: half a byte, and a group's share of a 16-bit scale and a zero point.
INT4_AND_ZEROS = 0.5 + 2.5 / 128
# Name, the config's word, bytes of a matrix's entry, and whose peak applies.
STORED: list[tuple[dict[str, Any] | None, str | None, float | None, str | None]] = [
    (None, None, 2.0, "bf16"),
    ({"quant_method": "fp8", "activation_scheme": "static"}, "fp8", 1.0, "fp8"),
    ({"quant_method": "fbgemm_fp8"}, "fp8", 1.0, "fp8"),
    ({"quant_method": "modelopt", "quant_algo": "FP8"}, "fp8", 1.0, "fp8"),
    (_compressed(FP8, FP8 | {"dynamic": True}), "fp8", 1.0, "fp8"),
    (_compressed(FP8, None), "compressed-tensors", 1.0, None),
    (_compressed(INT8, INT8 | {"strategy": "token"}), "int8", 1.0, "int8"),
    (_compressed(INT8, FP8), "compressed-tensors", 1.0, None),
    (_compressed(INT8, None), "compressed-tensors", 1.0, None),
    (_int4(), "compressed-tensors", 0.5 + 2 / 128, None),
    (_int4(symmetric=False), "compressed-tensors", INT4_AND_ZEROS, None),
    (_int4(group_size=-1, strategy="channel"), "compressed-tensors", 0.5, None),
    (
        _compressed({"num_bits": 4, "type": "float", "group_size": 16}, None),
        "compressed-tensors",
        0.5 + 1 / 16,
        None,
    ),
    (AWQ, "awq", INT4_AND_ZEROS, None),
    (AWQ | {"zero_point": False}, "awq", 0.5 + 2 / 128, None),
    (GPTQ, "gptq", INT4_AND_ZEROS, None),
    (GPTQ | {"bits": 8, "group_size": -1}, "gptq", 1.0, None),
    ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bitsandbytes", 0.5 + 4 / 64, None),
    ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "bitsandbytes", 1.0, None),
    ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "modelopt", 0.5 + 1 / 16, None),
    ({"quant_method": "modelopt_fp4", "quant_algo": "NVFP4"}, "modelopt_fp4", 0.5 + 1 / 16, None),
    # Not known: a method, a width, groups that differ, and modules of layers that are left out.
    ({"quant_method": "aqlm"}, "aqlm", None, None),
    ({"quant_method": "compressed-tensors"}, "compressed-tensors", None, None),
    (GPTQ | {"bits": 5}, "gptq", None, None),
    (GPTQ | {"lm_head": True}, "gptq", None, None),
    (AWQ | {"modules_to_not_convert": ["model.layers.0.mlp"]}, "awq", None, None),
    ({"quant_method": "fp8", "ignored_layers": ["re:.*self_attn.*"]}, "fp8", None, None),
    ({"quant_method": {"odd": 1}}, "unknown", None, None),
    ({"quant_method": "mxfp4"}, "mxfp4", None, None),  # the experts' alone, and there are none
]


def _llama(stored: dict[str, Any] | None) -> dict[str, Any]:
    return {**KNOWN["llama-3.1-8b"].config, "quantization_config": stored}


@pytest.mark.parametrize(("stored", "name", "entry_bytes", "peak"), STORED)
def test_stored_formats(
    tmp_path: Path,
    stored: dict[str, Any] | None,
    name: str | None,
    entry_bytes: float | None,
    peak: str | None,
) -> None:
    """A format's bytes are the same for a pass, for a forecast and for ``calc kv``, or unknown."""
    config = ModelConfig.of(_llama(stored))
    assert (config.quantization.name if config.quantization else None) == name
    used = formats({}, "bfloat16", config.quantization)
    assert (used.layer_bytes, used.peak_dtype) == (entry_bytes, peak)
    (tmp_path / "config.json").write_text(json.dumps(_llama(stored)), encoding="utf-8")
    budget = kv_budget.of(str(tmp_path), Asked(**L4))
    assert budget.weight_bytes == weight_bytes(parameters.count(config), used)
    if entry_bytes is not None:
        tables = 2 * 128_256 * 4096 + 65 * 4096  # of tokens; norms
        assert budget.weight_bytes == round((8_030_261_248 - tables) * entry_bytes + 2 * tables)
    elif name != "mxfp4":
        assert budget.weight_bytes is None
        text = " ".join(kv_budget.to_text(budget).split())
        assert "the bytes of this format are not known" in text
        assert "name a GPU" not in text


def test_llama_in_awq_fits_an_l4(tmp_path: Path) -> None:
    """Llama-3.1-8B in four bits takes 5.3 GiB and leaves an L4 room for its cache."""
    (tmp_path / "config.json").write_text(json.dumps(_llama(AWQ)), encoding="utf-8")
    found = kv_budget.of(str(tmp_path), Asked(**L4))
    assert found.weight_bytes is not None
    assert found.weight_bytes / 2**30 == pytest.approx(5.3, abs=0.05)
    assert found.room is not None
    assert found.room.longest_request_tokens > 100_000


GPT_OSS: dict[str, Any] = {
    "model_type": "gpt_oss",
    "num_hidden_layers": 24,
    "hidden_size": 2880,
    "intermediate_size": 2880,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "vocab_size": 201_088,
    "max_position_embeddings": 131_072,
    "sliding_window": 128,
    "num_local_experts": 32,
    "num_experts_per_tok": 4,
    "torch_dtype": "bfloat16",
    "quantization_config": {
        "quant_method": "mxfp4",
        "modules_to_not_convert": ["model.layers.*.self_attn", "model.layers.*.mlp.router"],
    },
}


def test_gpt_oss_by_hand(tmp_path: Path) -> None:
    """The experts' matrices alone are in mxfp4: 17 bytes for 32 entries; all else in 16 bits."""
    experts = 24 * 32 * 3 * 2880 * 2880
    total = 20_914_757_184  # as published
    (tmp_path / "config.json").write_text(json.dumps(GPT_OSS), encoding="utf-8")
    found = kv_budget.of(str(tmp_path), Asked(**L4))
    assert found.num_parameters == total
    assert found.weight_bytes == experts // 32 * 17 + 2 * (total - experts)
    assert found.layers == {"window 128": 12, "full": 12}
    assert "L4, 22.49 GiB" in kv_budget.to_text(found)


# vLLM's word for the cache's dtype -> bytes of an element of a model in bf16.
CACHES = [
    ("auto", 2.0),
    ("bfloat16", 2.0),
    ("float16", 2.0),
    ("float32", 4.0),
    ("fp8", 1.0),
    ("fp8_e4m3", 1.0),
    ("fp8_e5m2", 1.0),
    ("fp8_inc", 1.0),
    ("int8", 1.0),
    ("nvfp4", 0.5625),
    ("nvfp4_4over6", 0.5625),
    ("fp8_per_token_head", None),
    ("fp8_ds_mla", None),
    ("int4", None),
    ("turboquant_k8v4", None),
]


@pytest.mark.parametrize(("word", "element_bytes"), CACHES)
def test_cache_formats(tmp_path: Path, word: str, element_bytes: float | None) -> None:
    """An element of the cache takes the same in a pass, a plan and ``calc kv``, or is unknown."""
    assert formats({"cache_dtype": word}, "bfloat16").kv_bytes == element_bytes
    folder = write_byte_model(tmp_path / "model", torch_dtype="bfloat16")
    engine = {"kind": "vllm", "kv_cache_dtype": word}
    made = cells.make(sweep(model={"name": str(folder)}, engine=engine))
    per_token = None if element_bytes is None else round(16 * element_bytes)
    assert made.cells[0].kv_bytes_per_token == per_token
    (found,) = forecast.make(made, forecast.target("H200")).cells
    assert (found.pass_s is None) == (element_bytes is None)
    if element_bytes is not None:
        budget = kv_budget.of(str(folder), Asked(kv_cache_dtype=word))
        assert budget.bytes_per_token == 16 * element_bytes


def test_every_format_is_tested() -> None:
    """A row that is added to a table is added to the tests."""
    assert {word for word, _ in CACHES} >= CACHE_DTYPES.keys()
    found = {read(stored) for stored, *_ in STORED}
    assert {each.scheme for each in found if each and each.scheme} == SCHEMES.keys()
    assert DTYPES.keys() == {"bfloat16", "float16", "half", "float32", "float"}


@pytest.mark.parametrize(
    ("word", "entry_bytes"),
    [
        ("fp8", 1.0),
        ("fp8_per_tensor", 1.0),
        ("fp8_per_block", 1.0),
        ("fp8_per_channel", 1.0),
        ("bitsandbytes", 0.5625),
        ("int8_per_channel_weight_only", 1.0),
        ("mxfp8", 1 + 1 / 32),
        ("awq", None),
        ("nvfp4_per_token", None),
    ],
)
def test_quantized_while_loading(word: str, entry_bytes: float | None) -> None:
    """What vLLM quantizes itself is counted so; what it cannot make of 16 bits is unknown."""
    assert formats({"quantization": word}, "bfloat16").layer_bytes == entry_bytes


def test_cache_that_a_checkpoint_asks_for() -> None:
    """vLLM's ``auto`` takes the cache's dtype from the checkpoint, where that says one."""
    stored = {"quant_method": "modelopt", "quant_algo": "NVFP4"}
    for said, expected in (("FP8", 1.0), ("NVFP4", 0.5625), (None, 2.0)):
        checkpoint = read(stored | {"kv_cache_quant_algo": said})
        assert formats({}, "bfloat16", checkpoint).kv_bytes == expected
    scheme = _compressed(FP8, FP8) | {"kv_cache_scheme": FP8}
    assert formats({}, "bfloat16", read(scheme)).kv_bytes == 1.0
    assert formats({"cache_dtype": "bfloat16"}, "bfloat16", read(scheme)).kv_bytes == 2.0

"""How a model is divided among GPUs: by hand, and what vLLM refuses."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.models.architecture.test_shape import LLAMA

from packsweep.models.architecture import parameters
from packsweep.models.architecture.config import ModelConfig
from packsweep.models.architecture.shape import ModelShape
from packsweep.models.architecture.split import Split, refusal
from packsweep.models.known import KNOWN

THIRDS = {"num_attention_heads": 24, "num_key_value_heads": 3, "intermediate_size": 14400}
AWQ = {"quant_method": "awq", "bits": 4, "group_size": 128}
FP8_BLOCKS = {"quant_method": "fp8", "weight_block_size": [128, 128]}


def _shard(size: int, **changes: Any) -> ModelShape:
    return ModelShape.from_config(ModelConfig.of(LLAMA | changes).shard(size))


def _refused(config: dict[str, Any], **sizes: int) -> str | None:
    found = refusal(ModelConfig.of(config), Split(**sizes))
    return None if found is None else f"{found[0]}: {found[1]}"


def test_of_settings() -> None:
    """A setting that is left out is 1."""
    assert Split.of({"max_num_seqs": 8}) == Split()
    found = Split.of({"tensor_parallel_size": 4, "pipeline_parallel_size": 2})
    assert (found.num_gpus, found.tensor_parallel_size) == (8, 4)


@pytest.mark.parametrize(
    ("num_layers", "num_stages", "sizes"),
    [
        (32, 1, [32]),
        (32, 2, [16, 16]),
        (31, 2, [16, 15]),
        (32, 3, [11, 11, 10]),
        (30, 4, [7, 8, 8, 7]),
        (61, 8, [7, 7, 8, 8, 8, 8, 8, 7]),
    ],
)
def test_stages(num_layers: int, num_stages: int, sizes: list[int]) -> None:
    """The last stage has least, and of few layers left over the first has none (get_pp_indices)."""
    found = Split(pipeline_parallel_size=num_stages).stages(num_layers)
    assert [len(stage) for stage in found] == sizes


@given(st.integers(1, 200), st.data())
def test_stages_hold_every_layer_once(num_layers: int, data: st.DataObject) -> None:
    num_stages = data.draw(st.integers(1, num_layers))
    found = Split(pipeline_parallel_size=num_stages).stages(num_layers)
    assert [layer for stage in found for layer in stage] == list(range(num_layers))
    assert max(map(len, found)) - min(map(len, found)) <= 1


def test_shard_by_hand() -> None:
    """Half of every matrix of Llama 3.1 8B, and all of the norms."""
    norms = 32 * 2 * 4096 + 4096
    assert _shard(2).num_parameters == (8_030_261_248 - norms) // 2 + norms


def test_shard_copies_kv_heads() -> None:
    """Sixteen GPUs have two query heads and one of eight KV heads each, so two hold the same."""
    found = _shard(16)
    assert (found.num_heads, found.num_kv_heads, found.head_dim) == (2, 1, 128)
    attention = 4096 * 128 * (2 * 2 + 2 * 1)
    assert found.num_matrix_entries == 32 * (attention + 3 * 4096 * 14336 // 16)
    assert found.kv_elements_per_token == 32 * 2 * 128


def test_shard_pads_the_vocabulary() -> None:
    """Tables have a multiple of 64 rows, on one GPU as on two."""
    assert _shard(1, vocab_size=32_001).vocab_size == 32_064
    assert _shard(2, vocab_size=32_001).vocab_size == 16_032
    assert _shard(2, vocab_size=32_001).lm_head_flops == 2 * 4096 * 16_032


def test_shard_of_experts() -> None:
    """Every GPU has a part of each expert, and the router whole."""
    config = ModelConfig.of(KNOWN["mixtral-8x7b"].config)
    whole, half = (parameters.count(config.shard(size)) for size in (1, 2))
    assert whole is not None
    assert half is not None
    routers = 32 * 4096 * 8
    assert half.experts == whole.experts // 2
    assert half.matrices == (whole.matrices - routers) // 2 + routers


def test_stages_of_parameters() -> None:
    """The first stage has the table of tokens, the last the output projection."""
    counted = parameters.count(ModelConfig.of(LLAMA))
    assert counted is not None
    first, middle, last = counted.stages(Split(pipeline_parallel_size=3), 32)
    assert [part.num_tables for part in (first, middle, last)] == [1, 0, 1]
    assert first.matrices + middle.matrices + last.matrices == counted.matrices
    assert first.matrices == middle.matrices == round(counted.matrices * 11 / 32)


def test_stages_of_tied_tables() -> None:
    """A tied table lies on the first stage and, as output projection, on the last."""
    counted = parameters.count(ModelConfig.of(LLAMA | {"tie_word_embeddings": True}))
    assert counted is not None
    parts = counted.stages(Split(pipeline_parallel_size=2), 32)
    assert sum(part.total for part in parts) == counted.total + counted.table


@pytest.mark.parametrize(
    ("changes", "size", "said"),
    [
        ({}, 2, None),
        ({}, 16, None),
        ({}, 3, "32 attention heads by 3; closest that it takes: 2 and 4"),
        ({}, 64, "32 attention heads by 64; closest that it takes: 32"),
        (
            {"num_key_value_heads": 6, "num_attention_heads": 24},
            4,
            "6 KV heads by 4; closest that it takes: 2",
        ),
        ({"kv_lora_rank": 512, "num_key_value_heads": 6, "num_attention_heads": 24}, 4, None),
        ({"intermediate_size": 14337}, 2, "intermediate_size 14337 by 2; closest"),
        (
            {"intermediate_size": 14337, "num_experts": 8, "moe_intermediate_size": 768},
            2,
            None,
        ),
        (
            {"num_experts": 8, "moe_intermediate_size": 769},
            2,
            "moe_intermediate_size 769 by 2; closest that it takes: 1",
        ),
        (
            {"vocab_size": 151_936, **THIRDS},
            3,
            "a vocabulary of 151936 (padded to a multiple of 64) by 3; closest",
        ),
        ({"quantization_config": AWQ}, 16, None),
        (
            {"quantization_config": AWQ},
            32,
            (
                "intermediate_size of 14336 columns, quantized in groups of 128, by 32; closest "
                "that it takes: 16"
            ),
        ),
        ({"quantization_config": FP8_BLOCKS}, 16, None),
        (
            {"quantization_config": FP8_BLOCKS},
            32,
            "intermediate_size of 14336 columns, quantized in groups of 128, by 32",
        ),
        ({"quantization_config": {"quant_method": "fp8"}}, 32, None),
    ],
)
def test_tensor_parallel_refused(changes: dict[str, Any], size: int, said: str | None) -> None:
    """What does not come out even is named, with the sizes that do."""
    found = _refused(LLAMA | changes, tensor_parallel_size=size)
    if said is None:
        assert found is None
    else:
        assert found is not None
        assert found.startswith(f"tensor_parallel_size: vLLM cannot divide {said}")


@pytest.mark.parametrize(
    ("changes", "size", "said"),
    [
        ({}, 32, None),
        ({}, 33, "vLLM has no layer for some of 33 stages, as the model has 32; closest"),
        ({"model_type": "phi4mm"}, 1, None),
        (
            {"model_type": "phi4mm"},
            2,
            "vLLM has no pipeline parallelism for model_type 'phi4mm'; closest that it takes: 1",
        ),
    ],
)
def test_pipeline_parallel_refused(changes: dict[str, Any], size: int, said: str | None) -> None:
    found = _refused(LLAMA | changes, pipeline_parallel_size=size)
    assert (found is None) == (said is None)
    assert found is None or found.startswith(f"pipeline_parallel_size: {said}")


@pytest.mark.parametrize("name", KNOWN)
def test_two_gpus_take_every_known_model(name: str) -> None:
    """Sizes that people use are not refused by mistake."""
    assert _refused(dict(KNOWN[name].config), tensor_parallel_size=2) is None

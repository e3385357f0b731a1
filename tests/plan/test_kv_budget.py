"""What the KV cache takes and what fits, as ``packsweep calc kv`` tells it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.fakes import Cli

from packsweep.errors import ModelError
from packsweep.machine.devices import DEVICES
from packsweep.models.known import KNOWN
from packsweep.plan import kv_budget
from packsweep.plan.kv_budget import Asked, KvBudget, Room

H200: dict[str, Any] = {"device": "H200", "memory_bytes": DEVICES["H200"].memory_bytes}


def _room(found: KvBudget) -> Room:
    assert found.room is not None
    return found.room


def test_llama_on_h200_by_hand() -> None:
    """0.92 of 143,771 MiB less 16.06 GB of weights are 58,476 blocks of 2 MiB."""
    found = kv_budget.of("llama-3.1-8b", Asked(**H200))
    room = _room(found)
    assert found.weight_bytes == 2 * 8_030_261_248
    assert room.kv_bytes == int(143_771 * 2**20 * 0.92) - 16_060_522_496
    assert room.capacity_tokens == room.kv_bytes // (16 * 131_072) * 16 == 935_616
    assert room.longest_request_tokens == 131_072  # the model's limit, not the GPU's
    assert room.longest_packed_n == int(131_072 / 289.5) == 452


def test_longest_request_of_a_small_gpu() -> None:
    """On an L4 the cache ends before the context does, and the budget says so."""
    asked = Asked(device="L4", memory_bytes=DEVICES["L4"].memory_bytes)
    found = kv_budget.of("llama-3.1-8b", asked)
    room = _room(found)
    assert room.longest_request_tokens == (room.kv_bytes // (16 * 131_072) - 1) * 16
    text = kv_budget.to_text(found)
    assert f"does not fit: lower it to {room.longest_request_tokens}" in text


def test_tensor_parallel_divides_weights_and_heads() -> None:
    """Eight GPUs hold an eighth of every matrix, all norms, and one KV head each."""
    found = kv_budget.of("llama-3.1-70b", Asked(tensor_parallel_size=8, **H200))
    norms = (80 * 2 + 1) * 8192
    assert found.weight_bytes == 2 * ((70_553_706_496 - norms) // 8 + norms)
    assert found.bytes_per_token == 327_680 / 8


def test_tensor_parallel_copies_kv_heads() -> None:
    """Beyond eight GPUs a token takes no less on each."""
    eight, sixteen = (
        kv_budget.of("llama-3.1-70b", Asked(tensor_parallel_size=size)) for size in (8, 16)
    )
    assert sixteen.bytes_per_token == eight.bytes_per_token
    assert "8 KV heads: with more GPUs than that, they are replicated" in sixteen.assumptions
    keys_and_values = 80 * 8192 * 2 * 128
    whole = 2 * 80 * 8192 * 1024
    norms = (80 * 2 + 1) * 8192
    divided = 70_553_706_496 - norms - whole
    assert sixteen.weight_bytes == 2 * (divided // 16 + keys_and_values + norms)


def test_pipeline_parallel_divides_layers() -> None:
    """Both stages have 16 of 32 layers and one of the two tables; the last has one norm more."""
    found = kv_budget.of("llama-3.1-8b", Asked(pipeline_parallel_size=2, **H200))
    vectors = round((32 * 2 + 1) * 4096 / 2)
    table = 128_256 * 4096
    matrices = 8_030_261_248 - 2 * table - (32 * 2 + 1) * 4096
    assert found.weight_bytes == 2 * (matrices // 2 + vectors + table)
    assert found.bytes_per_token == 131_072 / 2
    room = int(143_771 * 2**20 * 0.92) - found.weight_bytes
    assert _room(found).capacity_tokens == room // (16 * 65_536) * 16
    assert "on each of 2 GPUs" in kv_budget.to_text(found)


def test_pipeline_stage_with_the_least_room_decides() -> None:
    """Of 61 layers on two stages the first has 31, and the table of tokens."""
    config = KNOWN["deepseek-v3"].config
    found = kv_budget.of("deepseek-v3", Asked(pipeline_parallel_size=2, **H200))
    assert found.bytes_per_token == 31 * (512 + 64) * 2
    assert found.layers == {"full": config["num_hidden_layers"]}
    assert any(
        "a stage's layers are assumed to be equally large" in each for each in found.assumptions
    )


def test_stored_in_fp8() -> None:
    """DeepSeek-V3's matrices take a byte an entry; its cache is what it computes in."""
    found = kv_budget.of("deepseek-v3", Asked())
    assert (found.dtype, found.kv_cache_dtype) == ("fp8", "bfloat16")
    norms = 61 * (512 + 1536 + 2 * 7168) + 7168
    kept = 2 * 129_280 * 7168 + norms  # the tables of tokens are not quantized, norms neither
    assert found.num_parameters == 671_026_404_352
    assert found.weight_bytes == 671_026_404_352 + kept
    assert "latents are replicated on every GPU" in found.assumptions


def test_fp8_cache_holds_twice_as_much() -> None:
    """Half the bytes a token; the weights stay as they are."""
    plain, fp8 = (
        kv_budget.of("qwen3-8b", Asked(kv_cache_dtype=dtype, **H200)) for dtype in ("auto", "fp8")
    )
    assert fp8.bytes_per_token == plain.bytes_per_token / 2
    assert fp8.weight_bytes == plain.weight_bytes
    assert _room(fp8).capacity_tokens == pytest.approx(2 * _room(plain).capacity_tokens, abs=64)


def test_sliding_windows_are_named() -> None:
    """Past its windows Gemma 3 27B grows by its ten full layers alone."""
    found = kv_budget.of("gemma-3-27b", Asked(prompt_tokens=(1000,)))
    assert found.bytes_per_token_beyond_windows == found.bytes_per_token * 10 / 62
    text = kv_budget.to_text(found)
    assert "past the sliding windows: 81,920 B per token" in text
    assert "assumed: sliding windows as vLLM's hybrid cache manager keeps them" in text
    assert max(len(line) for line in text.splitlines() if "://" not in line) <= 80


def test_hub_name_of_a_known_model() -> None:
    """A repository whose config is shipped needs no hub."""
    found = kv_budget.of("qwen/qwen3-32B", Asked())
    assert found.source == "https://huggingface.co/Qwen/Qwen3-32B/blob/main/config.json"


def test_folder_of_the_user(byte_model: Path) -> None:
    """1 layer, 2 heads of 4, keys and values: 32 B per token; vLLM halves what is in float32."""
    found = kv_budget.of(str(byte_model), Asked())
    assert (found.bytes_per_token, found.dtype) == (32, "bfloat16")
    asked = Asked(kv_cache_dtype="float32")
    assert kv_budget.of(str(byte_model), asked).bytes_per_token == 64


def test_parameters_that_cannot_be_counted(byte_model: Path, tmp_path: Path) -> None:
    """A design that is not known needs its number of parameters before anything fits."""
    config = json.loads((byte_model / "config.json").read_text(encoding="utf-8"))
    text = json.dumps(config | {"model_type": "brand_new"})
    (tmp_path / "config.json").write_text(text, encoding="utf-8")
    unknown = kv_budget.of(str(tmp_path), Asked(**H200))
    assert (unknown.weight_bytes, unknown.room) == (None, None)
    assert "give --parameters" in kv_budget.to_text(unknown)
    found = kv_budget.of(str(tmp_path), Asked(num_parameters=10, **H200))
    assert (found.weight_bytes, found.room is None) == (20, False)


def test_weights_that_do_not_fit() -> None:
    """Nothing fits, and no count below 0 is shown."""
    found = kv_budget.of("llama-3.1-70b", Asked(**(H200 | {"memory_bytes": 80 * 2**30})))
    assert _room(found).longest_packed_n == _room(found).capacity_tokens == 0
    assert "no room for a KV cache beside the weights" in kv_budget.to_text(found)


def test_context_above_the_model() -> None:
    """A context that the model does not have is refused."""
    with pytest.raises(ModelError, match="40961 is more than the 40960 positions"):
        kv_budget.of("qwen3-8b", Asked(max_model_len=40_961))


def test_calc_kv_json(cli: Cli, tmp_path: Path) -> None:
    """A script gets every number; prompts by their length."""
    options = ("--device", "h200", "--tokens", "17", "--tokens", "1000", "--json")
    done = cli("calc", "kv", "llama-3.1-8b", *options, cwd=tmp_path)
    found = json.loads(done.stdout)
    assert found["bytes_per_token"] == 131_072
    assert found["prompts"] == {"17": 32 * 131_072, "1000": 1008 * 131_072}
    assert found["room"]["capacity_tokens"] == 935_616


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("lama-3.1-8b",), "no model lama-3.1-8b: did you mean llama-3.1-8b?"),
        (
            ("llama-3.1-8b", "--dtype", "bf16"),
            "dtype 'bf16' is unknown; known dtypes are auto, bfloat16",
        ),
        (("llama-3.1-8b", "--device", "H2000"), "--device H2000: no data sheet of that name"),
        (
            ("llama-3.1-8b", "--tp", "3"),
            (
                "--tensor-parallel-size: vLLM cannot divide 32 attention heads by 3; closest that "
                "it takes: 2 and 4"
            ),
        ),
        (("llama-3.1-8b", "--pp", "33"), "--pipeline-parallel-size: vLLM has no layer for some"),
    ],
)
def test_calc_kv_mistakes(cli: Cli, tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    """What a user gets wrong is one line and status 2."""
    done = cli("calc", "kv", *arguments, cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert said in done.stderr

"""Ceilings: FLOPs and bytes by hand and against torch, devices by name, energy and money."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.cli.commands.test_compare import said
from tests.cluster.conftest import executable
from tests.fakes import cell, cells, pass_row, sweep, task
from tests.plan.test_roofline import works

import packsweep
from packsweep.analysis import frames
from packsweep.analysis.frames import Overrides
from packsweep.errors import ResultsError, UserError
from packsweep.machine import devices
from packsweep.models.architecture.config import ModelConfig
from packsweep.models.architecture.quantization import Quantization
from packsweep.models.architecture.shape import ModelShape
from packsweep.models.embedded import llama3
from packsweep.plan import ceilings, roofline
from packsweep.plan.ceilings import Measured
from packsweep.plan.formats import Formats, formats
from packsweep.plan.roofline import Work
from packsweep.report.tables import cells_table, footer
from packsweep.results import schema
from packsweep.results.store import Store
from packsweep.run.measure import metrics
from packsweep.run.task import task_from_json

Cli = Callable[..., subprocess.CompletedProcess[str]]
LLAMA = ModelShape.from_config(ModelConfig.of(llama3.CONFIG))
INT8 = Quantization(name="int8", scheme="int8")
BF16 = Formats(peak_dtype="bf16", layer_bytes=2, head_bytes=2, kv_bytes=2)
# 2 layers of 8 * (2 * 8 + 2 * 4) + 3 * 8 * 16 = 576 entries; an output projection of 8 * 10.
TINY = ModelShape.from_config(
    ModelConfig.of(
        {
            "model_type": "llama",
            "num_hidden_layers": 2,
            "hidden_size": 8,
            "intermediate_size": 16,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "vocab_size": 10,
            "max_position_embeddings": 64,
        }
    )
)
WORKS = works(300)
MANY = st.lists(WORKS, max_size=6)


def request(prompt: int, cached: int = 0, output: int = 1) -> Work:
    return Work(prompt_tokens=prompt, cached_tokens=cached, output_tokens=output)


def test_flops_agree_with_the_measured_h200() -> None:
    """124,593 prompt tokens of 400 requests in 2.81 s are 619 TFLOP/s without attention."""
    lengths = [311] * 207 + [312] * 193
    assert sum(lengths) == 124_593
    works = [request(length) for length in lengths]
    without = roofline.flops(LLAMA, works) - sum(
        LLAMA.attention_flops(length, length) + LLAMA.lm_head_flops for length in lengths
    )
    assert without / 2.81 == pytest.approx(619e12, rel=1e-3)
    mfu = ceilings.utilization(roofline.flops(LLAMA, works), 2.81, 989e12)
    assert mfu == pytest.approx(0.63, abs=0.002)  # attention and logits are 0.6 % more


def test_utilization_is_that_of_all_devices() -> None:
    """Two devices that take 2 s for what one could do in 1 s are used to a quarter."""
    assert ceilings.utilization(5.0, 1.0, 5.0) == 1.0
    assert ceilings.utilization(5.0, 2.0, 5.0, 2) == 0.25
    assert ceilings.utilization(None, 2.0, 5.0, 2) is None


def test_flops_of_a_request_by_hand() -> None:
    """4 prompt tokens, 1 cached, 2 sampled: 4 tokens computed over a context of 5."""
    per_token, pairs = 2 * 2 * (8 * 24 + 3 * 8 * 16), 4 * 1 + 4 * 5 // 2
    expected = 4 * per_token + 4 * 2 * 8 * pairs + 2 * (2 * 8 * 10)
    assert roofline.flops(TINY, [request(4, cached=1, output=2)]) == expected


@given(MANY, MANY)
def test_flops_add_up_over_requests(some: list[Work], others: list[Work]) -> None:
    apart = roofline.flops(LLAMA, some) + roofline.flops(LLAMA, others)
    assert roofline.flops(LLAMA, [*some, *others]) == pytest.approx(apart, rel=1e-12)


@given(WORKS)
def test_caching_never_increases_flops(work: Work) -> None:
    cold = request(work.prompt_tokens, output=work.output_tokens)
    assert roofline.flops(LLAMA, [work]) <= roofline.flops(LLAMA, [cold])


@given(WORKS, st.integers(0, 5))
def test_answering_longer_is_more_work(work: Work, more: int) -> None:
    longer = request(work.prompt_tokens, work.cached_tokens, work.output_tokens + more)
    assert roofline.flops(LLAMA, [longer]) >= roofline.flops(LLAMA, [work])


@pytest.mark.parametrize(
    ("works", "expected"),
    [
        ([], 0),
        ([request(10)], 1),
        ([request(100)], 1),
        ([request(101)], 2),  # tokens of one prompt over the budget
        ([request(60), request(60)], 2),  # tokens together
        ([request(101, cached=32)], 1),
        ([request(10, output=7)], 7),  # a step a token
        ([request(150, output=7)], 8),  # the first token ends the second step
        ([request(1)] * 9, 3),  # no more than 4 requests a step
    ],
)
def test_least_steps(works: list[Work], expected: int) -> None:
    assert roofline.least_steps(works, max_num_batched_tokens=100, max_num_seqs=4) == expected


def test_read_bytes_by_hand() -> None:
    """Two steps of layers, two rows of logits, 16 cached tokens, and a context of 21 once."""
    layers, head, kv = 2 * (8 * 24 + 3 * 8 * 16) * 1, 8 * 10 * 2, 2 * 2 * 4 * 2
    fp8 = Formats(peak_dtype="fp8", layer_bytes=1, head_bytes=2, kv_bytes=2)
    found = roofline.read_bytes(TINY, [request(20, cached=16, output=2)], 2, fp8)
    assert found == 2 * layers + 2 * head + (16 + 21) * kv


@given(MANY)
def test_bytes_read_are_at_least_the_weights_once(works: list[Work]) -> None:
    steps = roofline.least_steps(works, max_num_batched_tokens=64, max_num_seqs=4)
    weights = (LLAMA.matmul_flops_per_token + LLAMA.lm_head_flops) if works else 0
    assert roofline.read_bytes(LLAMA, works, steps, BF16) >= weights


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"dtype": "bfloat16"}, ("bf16", 2, 2, 2)),
        ({"dtype": "auto"}, ("bf16", 2, 2, 2)),
        ({"dtype": "float32"}, ("fp32", 4, 4, 4)),
        ({"dtype": "bfloat16", "quantization": "fp8"}, ("fp8", 1, 2, 2)),
        ({"dtype": "bfloat16", "quantization": "fp8", "cache_dtype": "fp8_e4m3"}, ("fp8", 1, 2, 1)),
        ({"dtype": "float16", "cache_dtype": "bfloat16"}, ("bf16", 2, 2, 2)),
        ({"dtype": "bfloat16", "quantization": "awq"}, (None, None, 2, 2)),
        ({"dtype": "bfloat16", "cache_dtype": "int4"}, ("bf16", 2, 2, None)),
        ({"dtype": "float64"}, (None, None, None, None)),
    ],
)
def test_formats_in_force(settings: dict[str, Any], expected: tuple[Any, ...]) -> None:
    found = formats(settings, "bfloat16")
    assert (found.peak_dtype, found.layer_bytes, found.head_bytes, found.kv_bytes) == expected


@pytest.mark.parametrize(
    ("quantization", "stored", "expected"),
    [
        (None, "fp8", ("fp8", 1)),
        ("fp8", "fp8", ("fp8", 1)),
        ("compressed-tensors", "fp8", ("fp8", 1)),
        ("compressed-tensors", "int8", ("int8", 1)),
        ("fp8", "int8", ("fp8", 1)),
        ("compressed-tensors", "compressed-tensors", (None, None)),
        (None, "gptq", (None, None)),
        ("gptq_marlin", "gptq", (None, None)),
        (None, None, ("bf16", 2)),
    ],
)
def test_formats_of_a_quantized_checkpoint(
    quantization: str | None, stored: str | None, expected: tuple[str | None, float | None]
) -> None:
    """What is stored in fp8 counts as that before the start and under vLLM's name for it after."""
    scheme = stored if stored in {"fp8", "int8"} else None
    checkpoint = None if stored is None else Quantization(name=stored, scheme=scheme)
    found = formats({"quantization": quantization}, "bfloat16", checkpoint)
    assert (found.peak_dtype, found.layer_bytes) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("NVIDIA H200", "H200"),
        ("NVIDIA H200 NVL", "H200 NVL"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA H100 PCIe", "H100 PCIe"),
        ("NVIDIA H100 NVL", "H100 NVL"),
        ("NVIDIA H800", "H800"),
        ("NVIDIA H800 PCIe", "H800 PCIe"),
        ("NVIDIA H20", "H20"),
        ("NVIDIA A100-SXM4-80GB", "A100"),
        ("NVIDIA A100-SXM4-40GB", "A100 40GB"),
        ("NVIDIA A100-PCIE-40GB", "A100 40GB"),
        ("NVIDIA A100 80GB PCIe", "A100 PCIe"),
        ("NVIDIA L40S", "L40S"),
        ("NVIDIA L4", "L4"),
        ("NVIDIA B200", "B200"),
        ("NVIDIA GeForce RTX 4090", "RTX 4090"),
        ("simulated H200", "H200"),
        ("simulated H100 NVL", "H100 NVL"),
        ("NVIDIA GH200 480GB", None),
        ("NVIDIA GB200", None),
        ("NVIDIA H20-3e", None),
        ("NVIDIA L40", None),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", None),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("NVIDIA GeForce RTX 4090 D", None),
        ("AMD EPYC", None),
        ("simulated toaster", None),
        (None, None),
    ],
)
def test_device_is_found_by_its_whole_name(name: str | None, expected: str | None) -> None:
    wanted = None if expected is None else devices.DEVICES[expected]
    assert devices.find(name) is wanted


@pytest.mark.parametrize("device", devices.DEVICES.values(), ids=devices.DEVICES)
def test_peaks_are_dense_and_of_a_source(device: devices.Device) -> None:
    """fp8 and int8 are twice bf16 where there is any; with sparsity it would be four times.

    A card for games multiplies bf16 at half its rate where it adds in 32 bits.
    """
    assert device.source.startswith("NVIDIA")
    double = 2 * device.bf16_flops_per_s
    if device.fp8_flops_per_s is not None:
        assert device.fp8_flops_per_s == pytest.approx(double, rel=0.02)
    halved = "RTX" in device.source
    assert device.int8_ops_per_s == pytest.approx((1 + halved) * double, rel=0.02)
    assert (device.fp32_flops_per_s or 0) < device.bf16_flops_per_s
    assert 20 < device.bf16_flops_per_s / device.memory_bytes_per_s < 1000  # FLOP a byte


def test_ceiling_of_an_unknown_device_is_null() -> None:
    found = ceilings.data_sheet("AMD EPYC", BF16)
    assert (found.peak_flops_per_s, found.peak_bytes_per_s, found.ceiling_source) == (None,) * 3
    assert ceilings.utilization(1e12, 1.0, found.peak_flops_per_s) is None


def test_fp8_on_a_device_without_it_has_no_ceiling() -> None:
    fp8 = formats({"dtype": "bfloat16", "quantization": "fp8"}, "bfloat16")
    assert ceilings.data_sheet("NVIDIA A100-SXM4-80GB", fp8).peak_flops_per_s is None
    assert ceilings.data_sheet("NVIDIA H200", fp8).peak_flops_per_s == 1979e12


def test_int8_has_a_ceiling_where_fp8_has_none() -> None:
    int8 = formats({"quantization": "compressed-tensors"}, "bfloat16", INT8)
    found = ceilings.data_sheet("NVIDIA A100-SXM4-80GB", int8)
    assert (found.peak_dtype, found.peak_flops_per_s) == ("int8", 624e12)


def test_work_is_null_where_cached_tokens_are_not_known() -> None:
    found = ceilings.work_values(LLAMA, None, BF16, {})
    assert set(found.values()) == {None}


def test_bytes_are_null_where_a_format_is_not_known() -> None:
    used = formats({"dtype": "bfloat16", "quantization": "awq"}, "bfloat16")
    settings = {"max_num_batched_tokens": 100, "max_num_seqs": 4}
    found = ceilings.work_values(TINY, [request(4)], used, settings)
    assert found["read_bytes"] is None
    assert found["least_steps"] == 1
    assert found["flops"] > 0


def test_simulated_pass_has_its_mfu(cli: Cli, sweep_file: Path, tmp_path: Path) -> None:
    """A pass is reported with its share of an H200's peak, and with that ceiling's source.

    Next to nothing of it: with a model of a thousand parameters all time is the steps' own.
    """
    settings = ["--set", "simulated.spread=0", "--set", "grid.strategy=separate"]
    done = cli("run", sweep_file, "--results", "r", *settings, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    passes = packsweep.load(tmp_path / "r")
    reached = passes["flops"] / passes["duration_s"] / 989e12
    assert passes["mfu"].tolist() == pytest.approx(reached.tolist())
    assert passes["mfu"].between(1e-9, 1e-3).all()
    assert set(passes["ceiling_source"]) == {"NVIDIA H200 data sheet, SXM"}
    assert "MFU" in done.stdout


# Energy and money.


@pytest.mark.parametrize(
    ("energy_j", "right", "expected"),
    [
        (500.0, 10, (25_000.0, 50_000.0)),
        (500.0, 0, (25_000.0, None)),
        (500.0, None, (25_000.0, None)),
        (None, 10, (None, None)),
    ],
)
def test_energy_of_1000_reviews(
    energy_j: float | None, right: int | None, expected: tuple[float | None, float | None]
) -> None:
    found = metrics.energy_values(energy_j, {"num_texts": 20, "labels_right": right})
    assert tuple(found.values()) == expected


@pytest.fixture
def priced(tmp_path: Path) -> Store:
    """One cell on an H200 at 36 USD an hour: 10 texts a second, half of them right."""
    store, of = Store(tmp_path), cell(engine="vllm")
    store.prepare()
    row = pass_row(
        of,
        duration_s=2.0,
        texts_per_s=10.0,
        correct_texts_per_s=5.0,
        flops=989e12,
        read_bytes=4.8e12,
        mfu=0.5,
        mbu=0.5,
        peak_dtype="bf16",
        gpu_hour_usd=36.0,
    )
    store.write(of.cell_id, "a0", [{**row, "device": "NVIDIA H200", "device_uuid": "GPU-0"}], [])
    store.commit(of.cell_id, "a0")
    return store


def test_cost_is_gpu_time_of_the_passes(priced: Store) -> None:
    """1,000 texts at 10/s are 100 s of a GPU at 1 cent a second."""
    (row,) = frames.merge(priced)
    assert row["usd_per_1000_texts"] == pytest.approx(1.0)
    assert row["usd_per_1000_correct_texts"] == pytest.approx(2.0)


def test_price_can_be_replaced_at_summary_time(priced: Store) -> None:
    (row,) = frames.merge(priced, overrides=Overrides(gpu_hour_usd=72.0))
    assert row["gpu_hour_usd"] == 72.0
    assert row["usd_per_1000_texts"] == pytest.approx(2.0)


def test_cost_is_null_without_a_price(tmp_path: Path) -> None:
    store, of = Store(tmp_path), cell(engine="vllm")
    store.prepare()
    store.write(of.cell_id, "a0", [pass_row(of, texts_per_s=10.0)], [])
    store.commit(of.cell_id, "a0")
    (row,) = frames.merge(store)
    assert [row[column.name] for column in schema.COST] == [None, None, None]


def test_price_is_no_part_of_a_cell() -> None:
    assert cells() == cells(cost={"gpu_hour_usd": 3.0})
    assert sweep(cost={"gpu_hour_usd": 3}).cost.gpu_hour_usd == 3.0


def test_price_goes_with_the_task(tmp_path: Path) -> None:
    import dataclasses

    sent = dataclasses.replace(task(cell(), tmp_path), gpu_hour_usd=2.5)
    assert task_from_json(sent.to_json()).gpu_hour_usd == 2.5


def test_table_shows_ceilings_and_costs_where_known(priced: Store) -> None:
    rows = frames.merge(priced)
    headings = [column.heading for column in cells_table.summary(rows).columns]
    assert {"MFU", "MBU", "$/1000\ntexts"} <= set(headings)
    assert "J/1000\ntexts" not in headings
    assert any("$36 per GPU hour" in line for line in footer.conditions(rows))


# Measured ceilings.

FOUND = {
    "device": "NVIDIA H200",
    "matmul": [{"size": 2, "values": [1.0, 2.0, 3.0]}, {"size": 4, "values": [700e12, 800e12]}],
    "matmul_fp8": [],
    "copy": [{"size": 8, "values": [4.0e12, 4.0e12]}],
}


Ceiling = Callable[..., str]


@pytest.fixture
def ceiling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Ceiling:
    """Run ``calc ceiling`` where measuring is printing what was measured elsewhere."""
    pytest.importorskip("torch")

    def run(found: dict[str, Any], *options: str) -> str:
        (tmp_path / "found.json").write_text(json.dumps(found), encoding="utf-8")
        executable(tmp_path / "python", f"#!/bin/sh\ncat {tmp_path / 'found.json'}\n")
        monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
        return said(capsys, 0, "calc", "ceiling", *options)

    return run


def test_best_size_is_the_ceiling(ceiling: Ceiling) -> None:
    found = json.loads(ceiling(FOUND, "--json"))
    assert found["bf16_flops_per_s"]["median"] == 750e12
    assert found["bf16_flops_per_s"]["size"] == 4
    lines = ceiling(FOUND).splitlines()
    assert "750" in lines[1]
    assert "76% of 989" in lines[1]
    assert "not measured" in lines[2]
    assert "83% of 4,800" in lines[3]


def test_fp8_has_a_ceiling_of_its_own(ceiling: Ceiling) -> None:
    fp8 = FOUND | {"matmul_fp8": [{"size": 4, "values": [1.5e15, 1.5e15]}]}
    assert json.loads(ceiling(fp8, "--json"))["fp8_flops_per_s"]["median"] == 1.5e15
    assert "76% of 1,979" in ceiling(fp8).splitlines()[2]


def test_measured_ceiling_replaces_the_data_sheet(
    priced: Store, ceiling: Ceiling, tmp_path: Path
) -> None:
    """989 TFLOP in 2 s of 750 TFLOP/s, and 4.8 TB in 2 s of 4 TB/s."""
    path = tmp_path / "ceiling.json"
    path.write_text(ceiling(FOUND, "--json"), encoding="utf-8")
    (row,) = frames.merge(priced, overrides=Overrides(ceiling=ceilings.read(path)))
    assert row["mfu"] == pytest.approx(989 / 2 / 750)
    assert row["mbu"] == pytest.approx(0.6)
    assert row["ceiling_source"] == "measured, ceiling.json"


def test_measured_ceiling_of_another_device_is_refused(priced: Store) -> None:
    other = Measured(
        device="NVIDIA L4", bf16_flops_per_s=1.0, memory_bytes_per_s=1.0, source="made up"
    )
    with pytest.raises(ResultsError, match="on NVIDIA L4, the results on NVIDIA H200"):
        frames.merge(priced, overrides=Overrides(ceiling=other))


def test_measured_ceiling_counts_for_what_was_measured() -> None:
    found = Measured(device="x", bf16_flops_per_s=1.0, memory_bytes_per_s=2.0, source="made up")
    assert found.ceiling("fp8").peak_flops_per_s is None
    assert dataclasses.replace(found, fp8_flops_per_s=3.0).ceiling("fp8").peak_flops_per_s == 3.0
    assert found.ceiling("fp32").peak_flops_per_s is None
    assert found.ceiling("fp8").peak_bytes_per_s == 2.0


@pytest.mark.parametrize("text", [None, "no json", "{}", '{"device": "x", "bf16_flops_per_s": 1}'])
def test_file_that_is_no_ceiling_is_refused(text: str | None, tmp_path: Path) -> None:
    path = tmp_path / "ceiling.json"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r"--ceiling .*ceiling\.json"):
        ceilings.read(path)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "design",
    [
        {"model_type": "llama"},
        {"model_type": "mixtral", "num_local_experts": 6, "num_experts_per_tok": 2},
        {
            "model_type": "qwen3_moe",
            "num_experts": 6,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 48,
        },
    ],
    ids=lambda design: design["model_type"],
)
def test_flops_agree_with_those_that_torch_counts(design: dict[str, Any]) -> None:
    """Torch multiplies the whole square of scores, of which the causal half is counted here."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from torch.utils.flop_counter import FlopCounterMode

    config = design | {
        "num_hidden_layers": 3,
        "hidden_size": 64,
        "intermediate_size": 160,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 24,
        "vocab_size": 500,
        "max_position_embeddings": 512,
        "tie_word_embeddings": True,
    }
    shape, length = ModelShape.from_config(ModelConfig.of(config)), 200
    eager = {"attn_implementation": "eager", "experts_implementation": "eager"}
    made = transformers.AutoConfig.for_model(**config, **eager)
    model = transformers.AutoModelForCausalLM.from_config(made).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.ones(1, length, dtype=torch.long), logits_to_keep=1)
    upper_half = 4 * 3 * (4 * 24) * (length**2 - length * (length + 1) // 2)
    expected = roofline.flops(shape, [request(length)]) + upper_half
    assert counter.get_total_flops() == pytest.approx(expected, rel=1e-3)


@pytest.mark.engine
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_calc_ceiling_measures_this_machine(cli: Cli, tmp_path: Path) -> None:
    """Both values come with a spread, and the file is what ``--ceiling`` reads."""
    pytest.importorskip("torch")
    done = cli("calc", "ceiling", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (tmp_path / "ceiling.json").write_text(done.stdout, encoding="utf-8")
    found = ceilings.read(tmp_path / "ceiling.json")
    assert found.bf16_flops_per_s > 0
    assert found.memory_bytes_per_s > 0


@pytest.mark.parametrize("num_gpus", [1, 4])
def test_measured_ceiling_is_that_of_one_of_several_gpus(tmp_path: Path, num_gpus: int) -> None:
    """5 FLOP in 2 s are a quarter of what a GPU of 10 FLOP/s can do, and a 16th of four."""
    store, of = Store(tmp_path), cell(engine="vllm")
    store.prepare()
    row = pass_row(of, flops=5.0, read_bytes=5.0, duration_s=2.0, peak_dtype="bf16")
    row |= {"device": "NVIDIA H200", "device_uuid": "GPU-0", "num_gpus": num_gpus}
    store.write(of.cell_id, "a0", [row], [])
    store.commit(of.cell_id, "a0")
    measured = ceilings.Measured(
        device="NVIDIA H200", bf16_flops_per_s=10.0, memory_bytes_per_s=20.0, source="test"
    )
    (row,) = frames.merge(store, overrides=Overrides(ceiling=measured))
    assert row["mfu"] == pytest.approx(0.25 / num_gpus)
    assert row["mbu"] == pytest.approx(0.125 / num_gpus)

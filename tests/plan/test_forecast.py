"""What a sweep will cost: durations on a named GPU, the wall clock of several, money."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests import fakes
from tests.fakes import Cli

from packsweep.errors import SpecError
from packsweep.models.embedded import w8a8
from packsweep.plan import cells as plan_cells
from packsweep.plan import forecast, pass_time
from packsweep.plan.cells import Plan
from packsweep.plan.forecast import CellForecast, Forecast, Target
from packsweep.plan.roofline import Work
from packsweep.report.tables import plan_table
from packsweep.results.store import Store

COLD_S, WARM_S = pass_time.FORKED.cold_s, pass_time.FORKED.warm_s
CELLS = fakes.cells(grid={"n": [1, 2, 3, 4, 5, 6]})


def _plan(folder: Path, **tables: dict[str, Any]) -> Plan:
    return plan_cells.make(fakes.sweep(model={"name": str(folder)}, **tables))


def _on(name: str = "H200", **more: Any) -> Target:
    found = forecast.target(name)
    assert found is not None
    return replace(found, **more)


def _one(folder: Path, *, on: Target | None = None, **tables: dict[str, Any]) -> CellForecast:
    return forecast.make(_plan(folder, **tables), on or _on()).cells[0]


def _cells(*warm_s: float) -> list[CellForecast]:
    planned = (fakes.planned(each) for each in CELLS)
    return [
        CellForecast(planned=each, done=False, time=None, warm_s=seconds)
        for each, seconds in zip(planned, warm_s, strict=False)
    ]


def test_load_packed_copies(byte_model: Path) -> None:
    """A prompt of L tokens finds floor((L - 1) / 16) blocks of itself; the first copy none."""
    found = _one(byte_model, grid={"duplication": 3}).planned
    length = found.longest_prompt_tokens
    again = (length - 1) // 16 * 16
    (first,), (copy,) = found.load.requests, found.load.copies
    assert first == Work(prompt_tokens=length, cached_tokens=0, output_tokens=2)
    assert copy == replace(first, cached_tokens=again)
    assert (found.load.num_copies, found.cached_tokens) == (2, 2 * again)


@pytest.mark.parametrize(("state", "hits"), [("cold", 2), ("primed", 3), ("off", 0)])
def test_load_cache_states(byte_model: Path, state: str, hits: int) -> None:
    """Primed, the first copy finds itself too; without a cache nothing does."""
    found = _one(byte_model, grid={"duplication": 3}, measure={"cache_state": state}).planned
    assert found.cached_tokens == hits * ((found.longest_prompt_tokens - 1) // 16 * 16)


def test_load_shared_instruction(byte_model: Path) -> None:
    """With the instruction first, every prompt but one finds its whole blocks."""
    grid = {"strategy": "separate", "instruction": "before", "n": 3}
    first, *others = _one(byte_model, grid=grid).planned.load.requests
    assert first.cached_tokens == 0
    hits = {work.cached_tokens for work in others}
    assert len(hits) == 1
    assert hits.pop() >= 96


def test_kv_bytes(byte_model: Path) -> None:
    """The model of one token a byte keeps 32 B per token; a pass takes whole blocks."""
    found = _one(byte_model).planned
    needed = found.longest_prompt_tokens + 2
    assert found.kv_longest_bytes == 32 * needed
    assert found.kv_pass_bytes == 32 * -(-needed // 16) * 16


def test_cell_is_start_warmup_passes_and_shutdown(byte_model: Path) -> None:
    """Three repeats and a warm-up that submits each prompt once, tokenizing alone, both ends."""
    found = _one(byte_model)
    assert found.time is not None
    assert found.warm_s == pytest.approx(
        WARM_S + 4 * found.time.duration_s + found.time.feed_s + pass_time.SHUTDOWN_S
    )


def test_no_device(byte_model: Path) -> None:
    """Without a GPU nothing has a duration, and one line says how to ask."""
    found = forecast.make(_plan(byte_model), None)
    assert found.reason is not None
    assert found.reason.startswith("no durations: name a GPU with --device, e.g. --device H200")
    assert (found.wall_s, found.gpu_s, found.usd, found.cells[0].pass_s) == (None,) * 4


def test_no_formula(tmp_path: Path) -> None:
    """Of a design without a formula the forecast says what it is."""
    folder = fakes.write_byte_model(tmp_path / "latent", kv_lora_rank=512, qk_rope_head_dim=64)
    found = forecast.make(_plan(folder, engine={"kind": "vllm"}), _on())
    latent = "no durations: model_type 'llama' is multi-head latent attention (kv_lora_rank)"
    assert found.reason == latent
    assert (found.wall_s, found.cells[0].pass_s) == (None, None)


EXPERTS = {"model_type": "mixtral", "num_local_experts": 8, "num_experts_per_tok": 2}


def test_no_share_for_experts(tmp_path: Path) -> None:
    """Mixtures of experts have FLOPs, but nobody measured what share of the peak they reach."""
    folder = fakes.write_byte_model(tmp_path / "experts", **EXPERTS)
    found = forecast.make(_plan(folder), _on())
    assert found.reason == (
        "no durations: what share of the peak a mixture of experts reaches was not measured"
    )
    assert (found.wall_s, found.cells[0].pass_s) == (None, None)


def test_experts_that_do_not_fit(tmp_path: Path) -> None:
    """All experts are in memory, also those that a token is not routed to."""
    few = fakes.write_byte_model(tmp_path / "few", **EXPERTS)
    many = fakes.write_byte_model(tmp_path / "many", **EXPERTS | {"num_local_experts": 10**9})
    assert _one(few).too_big is None
    assert "no room beside" in str(_one(many).too_big)


@pytest.mark.parametrize("engine", [{"dtype": "float32"}, {"quantization": "awq"}])
def test_unmeasured_dtype(byte_model: Path, engine: dict[str, Any]) -> None:
    """A dtype whose share was not measured has no duration, rather than a guess."""
    found = forecast.make(_plan(byte_model, engine=engine), _on())
    assert "nothing is known of the dtype or quantization" in str(found.reason)


def test_checkpoint_of_bytes(byte_model: Path, tmp_path: Path) -> None:
    """A checkpoint stored in fp8 or int8 is foretold as that, one in four bits not at all."""
    computing_s = {}
    stored = {each: {"quant_method": each} for each in ("fp8", "gptq")} | {"": ""}
    for method, quantization in {**stored, "int8": w8a8.QUANTIZATION}.items():
        folder = shutil.copytree(byte_model, tmp_path / (method or "plain"))
        config = json.loads((folder / "config.json").read_text())
        config["quantization_config"] = quantization
        (folder / "config.json").write_text(json.dumps(config))
        found = _one(folder, grid={"strategy": "packed", "n": 4}).time
        if found is not None:
            computing_s[method] = found.prefill_s - pass_time.PREFILL_STEP_S
    assert computing_s.keys() == {"", "fp8", "int8"}
    for method in ("fp8", "int8"):
        faster = 2 * pass_time.MFU[method] / pass_time.MFU["bf16"]
        assert computing_s[method] == pytest.approx(computing_s[""] / faster, rel=0.01)


def test_too_big_for_the_context(byte_model: Path) -> None:
    """vLLM keeps room for max_model_len; what would do is named."""
    on = _on(memory_bytes=400_000)
    found = _one(byte_model, on=on)
    needed = found.planned.longest_request_tokens
    assert f"max_model_len 32768 (lower it: {needed} would do) needs" in str(found.too_big)
    assert (found.pass_s, found.due) == (None, False)
    lowered = _one(byte_model, on=on, engine={"max_model_len": needed})
    assert lowered.too_big is None


def test_too_big_for_the_weights(byte_model: Path) -> None:
    """Weights that fill the GPU leave nothing to lower."""
    assert "no room beside" in str(_one(byte_model, on=_on(memory_bytes=1000)).too_big)


def test_ranks_share_a_processor(byte_model: Path) -> None:
    """Two processes on the cores of one compute for as long as one does."""
    on = _on(is_processor=True)
    one, two = forecast.make(_plan(byte_model, engine={"tensor_parallel_size": [1, 2]}), on).cells
    assert one.time is not None
    assert two.time is not None
    assert two.time.prefill_s == pytest.approx(one.time.prefill_s)
    assert two.time.decode_s == pytest.approx(one.time.decode_s)


def test_too_big_for_one_gpu(byte_model: Path) -> None:
    """Two GPUs hold half of the weights and of the cache each."""
    needed = _one(byte_model).planned.longest_request_tokens
    engine = {"tensor_parallel_size": [1, 2], "max_model_len": needed}
    on = _on(memory_bytes=50_000)
    one, two = forecast.make(_plan(byte_model, engine=engine), on).cells
    assert one.too_big is not None
    assert two.too_big is None
    assert two.planned.kv_bytes_per_token == (one.planned.kv_bytes_per_token or 0) / 2


def test_target_spelling() -> None:
    """Case does not matter; a name that is not known is refused with the nearest."""
    assert _on("h200 nvl").name == "H200 NVL"
    with pytest.raises(SpecError, match=r"--device A100-40: .* did you mean A100 40GB\?"):
        forecast.target("A100-40")


def test_run_order_one_gpu() -> None:
    """The first start is cold, the others find its compile cache."""
    found = forecast.run_order(_cells(60.0, 70.0, 80.0), 1)
    assert found.wall_s == found.gpu_s == 210 + COLD_S - WARM_S
    assert found.num_cold == 1


def test_run_order_two_gpus() -> None:
    """Both GPUs start cold; the longest cell is not left for the end."""
    found = forecast.run_order(_cells(60.0, 70.0, 80.0), 2)
    cold = COLD_S - WARM_S
    assert (found.num_cold, found.wall_s) == (2, 60 + cold + 70)
    assert found.gpu_s == 210 + 2 * cold


def test_run_order_warm() -> None:
    """Engine settings of a cell that is done are compiled."""
    cells = _cells(50.0)
    settings = forecast._compiled(cells[0].planned.cell)
    assert forecast.run_order(cells, 1, {settings}).num_cold == 0


def _of_two_gpus(cell: CellForecast) -> CellForecast:
    wide = replace(cell.planned.cell, engine_settings=(("tensor_parallel_size", 2),))
    return replace(cell, planned=replace(cell.planned, cell=wide))


def _all_warm(cells: Sequence[CellForecast], num_gpus: int) -> forecast.Timeline:
    return forecast.run_order(
        cells, num_gpus, [forecast._compiled(each.planned.cell) for each in cells]
    )


def test_run_order_engines_of_two() -> None:
    """One of two GPUs waits until both are free, those after it wait; it counts twice as GPU time.

    80 s are taken before 70 s, as 150 s are left then and two GPUs take 160 s beside the longest.
    """
    one, two, three = _cells(60.0, 70.0, 50.0)
    found = _all_warm([one, _of_two_gpus(two), three], 2)
    assert (found.wall_s, found.gpu_s) == (60 + 70 + 50, 60 + 2 * 70 + 50)
    one, two, three = _cells(60.0, 70.0, 80.0)
    found = _all_warm([one, _of_two_gpus(two), three], 2)
    assert (found.wall_s, found.gpu_s, found.num_cold) == (80 + 70, 60 + 2 * 70 + 80, 0)


def test_run_order_only_engines_of_two() -> None:
    """On four GPUs two run at once: 20 and 70 s begin, then 60 s, before 50 s, after 20 s."""
    cells = [_of_two_gpus(each) for each in _cells(20.0, 70.0, 50.0, 60.0)]
    found = _all_warm(cells, 4)
    assert (found.wall_s, found.gpu_s) == (70 + 50, 2 * (20 + 70 + 50 + 60))


def test_run_order_one_at_a_time() -> None:
    """As on one machine: an engine that leaves a GPU free leaves it to nobody."""
    one, two, three = _cells(60.0, 70.0, 80.0)
    found = forecast.run_order([one, _of_two_gpus(two), three], 2, one_at_a_time=True)
    cold = COLD_S - WARM_S  # once for each of two settings
    assert (found.num_cold, found.wall_s) == (2, 210 + 2 * cold)
    assert found.gpu_s == 210 + 70 + 3 * cold


def test_without_gpus_one_machine_is_predicted(byte_model: Path) -> None:
    """The sum of its cells, and said where GPUs would be left; on a cluster they are used."""
    engine = {"tensor_parallel_size": [1, 2], "enforce_eager": [True, False]}
    made = _plan(byte_model, engine=engine)
    here, cluster = forecast.make(made, _on()), forecast.make(made, _on(), num_gpus=2)
    cells_s = sum(each.warm_s or 0.0 for each in here.cells)
    extra_s = sum(each.start.cold_s - each.start.warm_s for each in here.cells)
    assert here.wall_s == pytest.approx(cells_s + extra_s)
    assert cluster.wall_s is not None
    assert cluster.wall_s < (here.wall_s or 0.0)
    assert "predicted on 2 x H200, one cell at a time: " in _lines(made, here)
    assert "one cell at a time" not in _lines(made, cluster)


def test_num_gpus_of_the_largest_engine(byte_model: Path) -> None:
    """Without --gpus there are as many as the largest engine takes; fewer are refused."""
    made = _plan(byte_model, engine={"tensor_parallel_size": [1, 2]})
    assert forecast.make(made, _on()).num_gpus == 2
    with pytest.raises(SpecError, match=r"--gpus 1: the engine of packed-n2-.* takes 2; name as"):
        forecast.make(made, _on(), num_gpus=1)
    done = [each.cell.cell_id for each in made.cells if each.cell.num_gpus == 2]
    assert forecast.make(made, _on(), num_gpus=1, done=done).num_gpus == 1


def test_tensor_parallel_halves_the_work(byte_model: Path) -> None:
    """Half the FLOPs and bytes a GPU, the host's times as before; the plan says what is missing."""
    made = _plan(byte_model, engine={"tensor_parallel_size": [1, 2]})
    found = forecast.make(made, _on())
    one, two = (cell.time for cell in found.cells)
    assert one is not None
    assert two is not None
    assert two.feed_s == one.feed_s
    for name, fixed_s in (
        ("prefill_s", pass_time.PREFILL_STEP_S),
        ("decode_s", pass_time.DECODE_STEP_S),
    ):
        halved = (getattr(one, name) - fixed_s) / 2
        assert getattr(two, name) - fixed_s == pytest.approx(halved)
    said = _lines(made, found)
    assert "engines across 2 GPUs: communication between them is not modelled" in said
    assert "not modelled" not in _lines(made, forecast.make(_plan(byte_model), _on()))


def _shared(*warm_s: float) -> list[CellForecast]:
    return [
        replace(
            each, planned=replace(each.planned, cell=replace(each.planned.cell, isolation="engine"))
        )
        for each in _cells(*warm_s)
    ]


def test_run_order_shared_engine() -> None:
    """Cells that share an engine pay one start, which is cold, and one stop."""
    shared = _shared(60.0, 70.0, 80.0)
    found = forecast.run_order(shared, 1)
    again = WARM_S + pass_time.SHUTDOWN_S
    expected_s = [60 + COLD_S - WARM_S, 70 - again, 80 - again]
    assert list(found.held_s.values()) == pytest.approx(expected_s)
    assert found.wall_s == pytest.approx(sum(expected_s))
    assert (found.cold, found.warm.total()) == ({pass_time.FORKED: 1}, 0)


def test_run_order_shared_engine_on_two_gpus() -> None:
    """Four cells of one engine are two batches, as on a cluster, and each GPU starts an engine."""
    shared = _shared(60.0, 60.0, 60.0, 60.0)
    found = forecast.run_order(shared, 2)
    again = WARM_S + pass_time.SHUTDOWN_S
    assert found.num_cold == 2
    assert found.wall_s == pytest.approx(60 + COLD_S - WARM_S + 60 - again)


def test_engines_of_two_sizes_leave_no_gpu_idle(byte_model: Path) -> None:
    """On two GPUs those across both follow each other; what waits then waits for one small one."""
    made = _plan(
        byte_model,
        grid={"strategy": ["packed", "separate"], "n": [1, 2, 3]},
        engine={"tensor_parallel_size": [1, 2]},
        measure={"order_seed": 5},
    )
    found = forecast.make(made, _on(), num_gpus=2).timeline
    assert found is not None
    small_s = [found.held_s[each.cell.cell_id] for each in made.cells if each.cell.num_gpus == 1]
    assert 2 * found.wall_s - found.gpu_s <= max(small_s)
    in_any_order = forecast.run_order(_missing(made), 2)
    assert in_any_order.wall_s > found.wall_s


def _missing(made: Plan) -> list[CellForecast]:
    """Return the cells in the order of chance."""
    by_id = {each.planned.cell.cell_id: each for each in forecast.make(made, _on()).cells}
    return [by_id[each.cell.cell_id] for each in made.schedule]


@pytest.mark.parametrize(
    ("forked", "starts_s"),
    [(True, [(13.0, 105.0), (53.0, 170.0)]), (False, [(62.0, 105.0), (73.0, 190.0)])],
)
def test_start_by_its_way(
    byte_model: Path, *, forked: bool, starts_s: list[tuple[float, float]]
) -> None:
    """A fork spares one GPU's engine the imports; of two GPUs vLLM spawns core and ranks."""
    made = _plan(byte_model, engine={"tensor_parallel_size": [1, 2]})
    found = forecast.make(made, _on(), forked=forked)
    assert [(each.start.warm_s, each.start.cold_s) for each in found.cells] == starts_s
    one, two = found.cells
    assert one.time is not None
    assert one.warm_s == pytest.approx(
        starts_s[0][0] + 4 * one.time.duration_s + one.time.feed_s + pass_time.SHUTDOWN_S
    )
    said = _lines(made, found)
    assert (
        f"engine starts: 1 cold in {starts_s[0][1]:.0f} s, 1 cold in {starts_s[1][1]:.0f}" in said
    )
    warm = forecast.make(made, _on(), forked=forked, done=[two.planned.cell.cell_id])
    assert warm.timeline is not None
    assert warm.timeline.cold == {one.start: 1}


def test_starts_of_shared_engines_are_said(byte_model: Path) -> None:
    """How many cells share one, and that it starts once."""
    made = _plan(byte_model, grid={"n": [2, 3, 4]}, measure={"isolation": "engine"})
    said = _lines(made, forecast.make(made, _on()))
    assert "engine starts: 1 cold in 105 s; 2 cells share the engine of another" in said


def test_starts_on_a_processor() -> None:
    """Ten imports of torch in a new Python, two and a half in a fork; the first imports anyway."""
    found = forecast._starts_here(2.0)
    assert (found.forked.warm_s, found.forked.cold_s) == (5.0, 20.0)
    assert (found.spawned.warm_s, found.spawned.cold_s) == (20.0, 20.0)


def test_run_order_nothing() -> None:
    """Nothing to do takes no time."""
    assert forecast.run_order([], 3) == forecast.Timeline()


@given(st.lists(st.floats(WARM_S, 500), max_size=6), st.integers(1, 8))
def test_wall_clock_between_share_and_whole(warm_s: list[float], num_gpus: int) -> None:
    """G GPUs take no less than a G-th of the GPU time, no more than all, no less than a cell."""
    found = forecast.run_order(_cells(*warm_s), num_gpus)
    assert found.gpu_s / num_gpus <= found.wall_s * (1 + 1e-12)
    assert max(warm_s, default=0) <= found.wall_s <= found.gpu_s * (1 + 1e-12)


def test_done_cells_cost_nothing(byte_model: Path) -> None:
    """What is done is not counted, and its settings are compiled."""
    made = _plan(byte_model, grid={"strategy": ["packed", "separate"]})
    first = made.cells[0].cell.cell_id
    found = forecast.make(replace(made, gpu_hour_usd=7.2), _on(), done=[first])
    (due,) = [cell for cell in found.cells if cell.due]
    assert found.timeline is not None
    assert found.timeline.num_cold == 0
    assert found.wall_s == found.gpu_s == due.warm_s
    assert found.usd == pytest.approx((due.warm_s or 0) * 0.002)


def test_price_of_the_sweep_file(byte_model: Path) -> None:
    """[cost] of the sweep file holds where the command line names no price."""
    made = _plan(byte_model, cost={"gpu_hour_usd": 3600})
    found = forecast.make(made, _on())
    assert found.usd == found.gpu_s


def _lines(made: Plan, found: Forecast) -> str:
    return "\n".join(plan_table.lines(made, found, "results/x"))


def test_lines(byte_model: Path) -> None:
    """The lines say wall clock, GPU hours, money and what the shares rest on."""
    made = _plan(byte_model)
    said = _lines(made, forecast.make(replace(made, gpu_hour_usd=3.5), _on(), num_gpus=2))
    assert "1 cell, 1 missing" in said
    assert "predicted on 2 x H200: 106" in said
    assert "GPU hours, $0.1" in said
    assert "62% of its bf16 FLOP/s, 93% of its bandwidth" in said
    both = _plan(byte_model, engine={"quantization": [None, "fp8"]})
    said = _lines(both, forecast.make(both, _on()))
    assert "62% of its bf16 FLOP/s, 50% of its fp8 FLOP/s, 93% of its bandwidth" in said
    assert "engine.kind is simulated: these are the times of a real engine" in said
    real = _plan(byte_model, engine={"kind": "vllm"})
    assert "simulated" not in _lines(real, forecast.make(real, _on()))


def test_table_numbers_the_processes_of_a_cell(byte_model: Path) -> None:
    """Lines of one cell in several processes would look like a mistake without."""
    for replicates, numbers in ((1, None), (3, ("1", "2", "3"))):
        made = _plan(byte_model, grid={"strategy": "separate"}, measure={"replicates": replicates})
        columns = plan_table.table(forecast.make(made, _on())).columns
        assert {column.heading: column.cells for column in columns}.get("process") == numbers


def test_hindsight(byte_model: Path) -> None:
    """Where cells are done, the plan says how far it was off."""
    made = _plan(byte_model)
    cell_id = made.cells[0].cell.cell_id
    expected = forecast.make(made, _on()).cells[0].pass_s or 0.0
    found = forecast.make(made, _on(), done=[cell_id], measured_s={cell_id: 1.5 * expected})
    assert "1 measured cells took 1.50 to 1.50 times the predicted time" in _lines(made, found)


def test_measured_on_the_predicted_gpu_alone(tmp_path: Path) -> None:
    """Other GPUs' passes, simulated and failed ones say nothing of the prediction."""
    store = Store(tmp_path / "results")
    store.prepare()
    seen = {"NVIDIA H200": "vllm", "NVIDIA L4": "vllm", "simulated H200": "simulated"}
    for of, (device, engine) in zip(CELLS, seen.items(), strict=False):
        fakes.written(store, of, device=device, engine=engine, duration_s=2.0)
    fakes.written(store, fakes.cell(n=77), outcome="crashed", device=None, engine="vllm")
    assert plan_table.measured_s(store, _on()) == {CELLS[0].cell_id: 2.0}
    assert plan_table.measured_s(store, None) == {}
    none = Store(tmp_path / "simulated")
    none.prepare()
    fakes.written(none, CELLS[0], device="simulated H200", engine="simulated", duration_s=2.0)
    assert plan_table.measured_s(none, _on()) == {}


def test_plan_json_has_everything(cli: Cli, byte_model: Path, tmp_path: Path) -> None:
    """A script gets totals and every part of a pass; the table fits 80 columns."""
    text = f"""
[model]
name = "{byte_model}"
load_format = "dummy"
[grid]
strategy = ["packed", "separate"]
n = [2, 4]
duplication = [1, 10]
"""
    (tmp_path / "s.toml").write_text(text, encoding="utf-8")
    options = ("--device", "h200", "--gpus", "4", "--gpu-hour-usd", "2")
    found = json.loads(cli("plan", "s.toml", *options, "--json", cwd=tmp_path).stdout)
    assert (found["device"], found["num_gpus"], found["num_missing"]) == ("H200", 4, 8)
    assert found["usd"] == pytest.approx(found["gpu_s"] / 1800)
    assert len(found["cells"]) == 8
    assert set(found["cells"][0]["pass_parts"]) >= {"prefill_s", "decode_s", "feed_s"}
    table = cli("plan", "s.toml", *options, cwd=tmp_path).stdout.split("8 cells")[0]
    assert max(len(line.rstrip()) for line in table.splitlines()) <= 80


def _served(folder: Path, **online: Any) -> CellForecast:
    grid = {"strategy": "separate", "n": 50}
    return _one(folder, online={"window_s": 10.0, **online}, grid=grid)


def test_window_lasts_until_what_arrived_is_labelled(byte_model: Path) -> None:
    """Twice as much as is labelled offline takes twice the window."""
    slow = _served(byte_model, rate=1.0)
    assert slow.time is not None
    assert (slow.pass_s, slow.piles_up) == (10.0, False)
    offline_texts_per_s = 50 / slow.time.duration_s
    fast = _served(byte_model, rate=2 * offline_texts_per_s)
    assert fast.pass_s == pytest.approx(20.0)
    assert fast.piles_up
    assert fast.warm_s == pytest.approx((slow.warm_s or 0.0) + 3 * 10.0, rel=0.01)
    closed = _served(byte_model, concurrency=4)
    assert (closed.pass_s, closed.piles_up) == (10.0, False)


def test_plan_names_rates_above_what_is_labelled_offline(byte_model: Path) -> None:
    grid = {"strategy": "separate", "n": 50}
    plan = _plan(byte_model, online={"rate": [1.0, 1e5]}, grid=grid)
    said = plan_table.lines(plan, forecast.make(plan, _on()), "x")
    above = [line for line in said if "queue up" in line]
    assert len(above) == 1
    assert "rate100000" in above[0]
    assert "rate1.0" not in above[0]

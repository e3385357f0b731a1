"""Replicates: further processes of a cell, their order, and what they say of a ratio."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from packsweep import cli
from packsweep.analysis import contrasts, frames
from packsweep.errors import SpecError
from packsweep.report.tables import footer
from packsweep.results import schema
from packsweep.sweep import cells as sweep_cells
from packsweep.sweep import expansion, read
from packsweep.sweep.texts import LabelledText

OTHER_WORK: dict[str, Any] = {
    "strategy": "packed",
    "n": 40,
    "duplication": 10,
    "duplication_order": "interleaved",
    "cache_state": "primed",
    "texts_sha256": "other",
    "engine": "simulated",
    "simulated_settings": '{"device": "H100"}',
}
REVIEWS = tuple(LabelledText(text=f"text {i}", label="positive") for i in range(4))


def cells(**measure: Any) -> tuple[sweep_cells.Cell, ...]:
    tables = {"model": {"name": "m"}, "grid": {"n": [1, 2]}, "measure": measure}
    sweep = read.parse(tables, where="f.toml")
    return expansion.expand(sweep, REVIEWS, model_fingerprint="f", max_model_len=100)


def passes(**speeds: list[list[float]]) -> pd.DataFrame:
    """Return passes of one cell per strategy: processes, each a list of repeats."""
    rows: list[dict[str, Any]] = []
    names = [column.name for column in schema.PASSES]
    for strategy, processes in speeds.items():
        for process, repeats in enumerate(processes):
            for repeat, speed in enumerate(repeats):
                rows.append(
                    dict.fromkeys(names)
                    | {
                        "cell_id": f"{strategy}-{process}",
                        "group_id": f"{strategy}-x",
                        "attempt_id": f"{strategy}-{process}",
                        "outcome": "ok",
                        "strategy": strategy,
                        "replicate": process,
                        "repeat": repeat,
                        "texts_per_s": speed,
                        "cache_state": "cold",
                        "n": 4,
                        "duplication": 1,
                        "engine_settings": "{}",
                        "simulated_settings": "{}",
                    }
                )
    return pd.DataFrame(rows, columns=names)


def test_expand_replicates() -> None:
    """Each replicate is a cell of its own, and shares the group of replicate 0."""
    found = cells(replicates=3)
    assert len(found) == len({cell.cell_id for cell in found}) == 12
    assert len({cell.group_id for cell in found}) == 4
    assert {cell.group_id for cell in found} == {c.cell_id for c in found if not c.replicate}


@given(st.integers(0, 100), st.integers(1, 4))
def test_schedule_is_rounds(seed: int, replicates: int) -> None:
    """Every cell comes once in each round, replicate 0 first, whatever the order of the input."""
    found = cells(replicates=replicates)
    mixed = list(found)
    random.Random(seed).shuffle(mixed)
    ordered = expansion.schedule(mixed, seed)
    assert set(ordered) == set(found)
    assert [cell.replicate for cell in ordered] == sorted(cell.replicate for cell in found)


def test_schedule_depends_on_the_seed_alone() -> None:
    """The same seed gives the same order; among ten seeds there are others."""
    found = cells(replicates=2)
    assert expansion.schedule(found, 1) == expansion.schedule(found, 1)
    assert len({expansion.schedule(found, seed) for seed in range(10)}) > 1


def test_summary_of_replicates() -> None:
    """One row per cell; the interval is that of the process means."""
    row = frames.summarise(passes(separate=[[9.0, 11.0], [12.0, 12.0]]))[0]
    assert (row["num_repeats"], row["num_processes"]) == (4, 2)
    assert row["texts_per_s_mean"] == 11
    assert row["texts_per_s_ci_low"] == pytest.approx(11 - 12.706, abs=0.01)  # t(1) x 1


def test_compare_with_separate() -> None:
    """Packed is compared with separate, and the interval counts the processes."""
    (found,) = contrasts.of(passes(packed=[[5.0], [5.1]], separate=[[10.0], [10.2]]))
    assert (found.cell, found.baseline, found.axis) == ("packed-x", "separate-x", "strategy")
    assert found.ratio.value == pytest.approx(0.5)
    assert found.ratio.differs
    assert found.ratio.between_processes


def test_compare_one_repeat_each() -> None:
    """One repeat on each side is neither faster nor slower."""
    rows = passes(packed=[[5.0]], separate=[[10.0]])
    (found,) = contrasts.of(rows)
    (line,) = footer.comparisons([found], frames.summarise(rows))
    assert line == "packed vs separate, n=4: 0.50x, no interval"


def test_compare_across_gpus_says_so() -> None:
    """Where no GPU measured both sides they are compared all the same, and the line tells."""
    rows = passes(packed=[[5.0, 5.1]], separate=[[10.0, 10.2]])
    rows["device_uuid"] = ["GPU-a" if name == "packed-x" else "GPU-b" for name in rows["group_id"]]
    (found,) = contrasts.of(rows)
    assert found.ratio.value == pytest.approx(0.5)
    (line,) = footer.comparisons([found], frames.summarise(rows))
    assert line.endswith("slower (significant), on different GPUs")


def test_compare_on_shared_gpus_leaves_out_the_others() -> None:
    """A GPU that measured both sides decides, whatever a third process on another GPU says."""
    rows = passes(packed=[[5.0, 5.1], [50.0, 50.1]], separate=[[10.0, 10.2]])
    strange = rows["texts_per_s"] > 20
    rows["device_uuid"] = ["GPU-b" if other else "GPU-a" for other in strange]
    (found,) = contrasts.of(rows)
    assert found.ratio.value == pytest.approx(0.5)
    assert found.same_gpu


def of_settings(kinds: dict[str, dict[str, Any]]) -> dict[str, contrasts.Comparison]:
    """Compare cells of separate prompts that differ in ``kinds``, two processes each."""
    rows = []
    for name, values in kinds.items():
        speed = values.get("speed", 10.0)
        own = passes(separate=[[speed, speed + 0.1], [speed, speed + 0.2]])
        columns = {key: value for key, value in values.items() if key != "speed"}
        rows.append(own.assign(cell_id=own["cell_id"] + name, group_id=name, **columns))
    found = contrasts.of(pd.concat(rows))
    assert {each.axis for each in found} <= {"settings"}
    return {each.cell: each for each in found}


def test_compare_settings() -> None:
    """The baseline among settings is the closest to the defaults, in any order."""
    fp8, plain = '{"quantization": "fp8"}', '{"quantization": null}'
    kinds = {
        "fp8-x": {"engine_settings": fp8, "instruction": "before", "speed": 20.0},
        "plain-x": {"engine_settings": plain, "instruction": "after", "speed": 10.0},
        "chat-x": {"engine_settings": plain, "instruction": "before", "speed": 11.0},
    }
    found = of_settings(kinds)
    assert {each.baseline for each in found.values()} == {"plain-x"}
    assert set(found) == {"chat-x", "fp8-x"}
    assert found["fp8-x"].ratio.value == pytest.approx(2, rel=0.01)


def test_compare_settings_whatever_differs() -> None:
    """A cell of another setting, answer or model is compared."""
    fp8 = {"engine_settings": '{"quantization": "fp8"}'}
    free = {"answer": "free", "output_tokens_per_text": 1, "load_format": "auto"}
    found = of_settings(
        {
            "plain-x": free,
            "long-x": free | fp8 | {"output_tokens_per_text": 4},
            "dummy-x": free | {"load_format": "dummy", "model_fingerprint": "other"},
            "choice-x": free | {"answer": "choice", "output_tokens_per_text": 9},
            "model-x": free | {"model": "other", "load_format": "dummy"},
        }
    )
    assert set(found) == {"long-x", "dummy-x", "choice-x", "model-x"}
    assert {each.baseline for each in found.values()} == {"plain-x"}


def test_compare_settings_names_a_baseline_that_is_no_default() -> None:
    """Where none has the defaults the smallest value is the baseline, in any order."""
    kinds = {
        f"{size}-x": {"engine_settings": f'{{"max_num_batched_tokens": {size}}}'}
        for size in (8192, 10240, 4096)
    }
    found = of_settings(kinds)
    assert {each.baseline for each in found.values()} == {"4096-x"}


def test_compare_other_work_is_no_setting() -> None:
    """Cells of another strategy, size or cache state are not compared there."""
    own = passes(separate=[[1.0, 1.1]])
    fp8 = '{"quantization": "fp8"}'
    others = [
        own.assign(**{"engine_settings": fp8, name: value, "group_id": name})
        for name, value in OTHER_WORK.items()
    ]
    assert contrasts.of(pd.concat([own, own.assign(group_id="fp8", engine_settings=fp8)]))
    found = contrasts.of(pd.concat([own, *others]))
    assert [each for each in found if each.axis == "settings"] == []


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"max_repeats": 9}, "goes together with measure.max_repeats"),
        ({"stop_at_half_width": 0.1}, "goes together with measure.max_repeats"),
        ({"stop_at_half_width": 0.1, "max_repeats": 2, "repeats": 3}, "is less than repeats 3"),
    ],
)
def test_parse_stopping_rule(values: dict[str, Any], expected: str) -> None:
    """Half a stopping rule is refused."""
    tables = {"model": {"name": "m"}, "grid": {"n": 1}, "measure": values}
    with pytest.raises(SpecError, match=expected):
        read.parse(tables, where="f.toml")


@pytest.mark.parametrize(("width", "repeats"), [(0.5, 2), (0.000001, 5)])
def test_run_stops_when_narrow(
    sweep_file: Path, tmp_path: Path, width: float, repeats: int
) -> None:
    """Repeats end at the first narrow interval, or at the most that are allowed."""
    sets = [f"measure.stop_at_half_width={width}", "measure.max_repeats=5", "measure.repeats=2"]
    sets += ["grid.n=1", "grid.strategy=separate", "grid.pack_size=[]", "grid.duplication=1"]
    arguments = [part for value in sets for part in ("--set", value)]
    with pytest.raises(SystemExit) as ended:
        cli.main(["run", str(sweep_file), "--results", str(tmp_path / "r"), *arguments])
    assert ended.value.code == 0
    assert len(frames.load_table(tmp_path / "r", "passes")) == repeats

"""From passes to a row per cell, and what may not be put side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fakes import cell, pass_row, written

import packsweep
from packsweep.analysis import axes, frames
from packsweep.errors import ResultsError
from packsweep.results import schema
from packsweep.results.store import Store
from packsweep.sweep.cells import Cell

CELL = cell()


def _commit(store: Store, of: Cell, *values: dict[str, Any], **shared: Any) -> None:
    """Commit an attempt with a repeat for each of ``values``."""
    rows = [pass_row(of, **{**shared, "repeat": i, **each}) for i, each in enumerate(values)]
    store.write(of.cell_id, "a0", rows, [])
    store.commit(of.cell_id, "a0")


def _fail(store: Store, of: Cell, **values: Any) -> None:
    row = pass_row(of, outcome="crashed", reason="it broke", **values)
    store.write(of.cell_id, "a0", [row], [])


def _rows(store: Store) -> list[dict[str, Any]]:
    return frames.merge(store)


def test_summary_by_hand(store: Store) -> None:
    """1, 2 and 6 s: median 2, mean 3; counts are those of a repeat."""
    _commit(store, CELL, *({"duration_s": s, "prompt_tokens": 7} for s in (1.0, 2.0, 6.0)))
    row = _rows(store)[0]
    assert row["num_repeats"] == 3
    assert (row["duration_s_median"], row["duration_s_mean"]) == (2.0, 3.0)
    assert row["duration_s_ci_low"] == pytest.approx(-3.572, abs=0.001)
    assert row["duration_s_ci_high"] == pytest.approx(9.572, abs=0.001)
    assert row["prompt_tokens"] == 7
    assert (row["cell_id"], row["outcome"], row["reason"]) == (CELL.cell_id, "ok", None)


def test_summary_one_repeat(store: Store) -> None:
    """One repeat has no interval."""
    _commit(store, CELL, {"duration_s": 2.0})
    row = _rows(store)[0]
    assert (row["duration_s_median"], row["duration_s_ci_low"]) == (2.0, None)


def test_summary_failed(store: Store) -> None:
    """A failed cell has its reason and no measured number, also where a repeat was measured."""
    _fail(store, CELL, duration_s=1.0, prompt_tokens=7)
    row = _rows(store)[0]
    assert (row["outcome"], row["reason"], row["num_repeats"]) == ("crashed", "it broke", 0)
    measured = [name for name in row if name.startswith(schema.MEASURED)]
    assert measured
    constant = [column.name for column in schema.CONSTANT]
    assert {row[name] for name in (*measured, *constant)} == {None}


def test_summary_columns(store: Store) -> None:
    """A row has the columns of the schema, in its order."""
    written(store, CELL)
    assert list(_rows(store)[0]) == [column.name for column in schema.SUMMARY]


def test_summary_null_stays_null(store: Store) -> None:
    """An undefined number is None beside a defined one, and an integer stays an integer."""
    _commit(store, CELL, {"cached_tokens": None})
    _commit(store, cell(n=3, strategy="chunked", pack_size=2), {"cached_tokens": 0})
    rows = {row["n"]: row for row in _rows(store)}
    assert [rows[n]["cached_tokens"] for n in (2, 3)] == [None, 0]
    assert [rows[n]["pack_size"] for n in (2, 3)] == [None, 2]
    assert type(rows[3]["pack_size"]) is type(rows[3]["n"]) is int


def test_records_plain_values(store: Store) -> None:
    """Rows hold Python's own values, which JSON and the store can take."""
    _commit(store, CELL, {"duration_s": 1.0, "prompt_tokens": 7, "accuracy": 0.5})
    kinds = {type(value).__module__ for value in _rows(store)[0].values()}
    assert not {kind for kind in kinds if kind.startswith("numpy")}


def test_summary_order(store: Store) -> None:
    """Cells stand in the order of the grid, not of their names."""
    for strategy, n in [("separate", 2), ("chunked", 2), ("packed", 12), ("packed", 2)]:
        written(store, cell(strategy=strategy, n=n))
    found = [(row["strategy"], row["n"]) for row in _rows(store)]
    assert found == [("packed", 2), ("packed", 12), ("separate", 2), ("chunked", 2)]


def test_summary_order_of_sizes(store: Store) -> None:
    """Engines of one GPU stand before larger ones, whatever their settings are called."""
    for size in (16, 2, 1):
        sizes = {} if size == 1 else {"tensor_parallel_size": size}
        written(store, cell(engine_settings=tuple({"a": 1, **sizes, "z": 1}.items())))
    found = [axes.split(row).num_gpus for row in _rows(store)]
    assert found == [1, 2, 16]


def test_summary_order_rates(store: Store) -> None:
    """Rates stand by their size: 5 before 10."""
    for rate in (10.0, 5.0, 100.0):
        written(
            store,
            cell(
                mode="online", online=json.dumps({"rate": rate, "window_s": 1.0, "window_seed": 0})
            ),
        )
    rows = frames.merge(store)
    assert [json.loads(row["online"])["rate"] for row in rows] == [5.0, 10.0, 100.0]


CELLS = tuple(cell(n=n) for n in range(1, 5))


@settings(max_examples=15)
@given(order=st.permutations(CELLS))
def test_merge_order(order: list[Cell], tmp_path_factory: pytest.TempPathFactory) -> None:
    """The merge does not depend on the order in which cells ended."""
    store = Store(tmp_path_factory.mktemp("store"))
    store.prepare()
    for one in order:
        written(store, one, duration_s=float(one.n))
    found = [(row["n"], row["duration_s_median"]) for row in _rows(store)]
    assert found == [(1, 1.0), (2, 2.0), (3, 3.0), (4, 4.0)]


def test_merge_nothing(store: Store) -> None:
    """A folder without cells has an empty summary."""
    assert _rows(store) == []


@pytest.mark.parametrize("name", ["device", "driver_version", "vllm_version", "torch_version"])
def test_merge_mixed(store: Store, name: str) -> None:
    """Rows of different devices, drivers or versions are refused, with both names."""
    written(store, CELL, **{name: "one"})
    written(store, cell(n=3), **{name: "two"})
    with pytest.raises(ResultsError, match=f"results differ in {name}: one, two; .*--allow-mixed"):
        _rows(store)


def test_merge_mixed_allowed(store: Store) -> None:
    """Asked for, mixed rows are merged and the difference is reported."""
    written(store, CELL, device="one")
    written(store, cell(n=3), device="two")
    assert len(frames.merge(store, allow_mixed=True)) == 2
    passes = frames.to_pandas(store.read_passes())
    assert frames.check_alike(passes, allow_mixed=True) == ["device: one, two"]


def test_merge_mixed_failed(store: Store) -> None:
    """Where a failed attempt ran does not matter: it has no numbers."""
    written(store, CELL, device="one")
    _fail(store, cell(n=3), device="two")
    assert len(_rows(store)) == 2


def test_merge_simulated_with_real(store: Store) -> None:
    """Simulated rows are never merged with real ones, not even knowingly."""
    written(store, CELL)
    written(store, cell(engine="vllm"))
    with pytest.raises(ResultsError, match="simulated and real results"):
        frames.merge(store, allow_mixed=True)


def test_merge_refused_writes_nothing(store: Store) -> None:
    """A refused merge leaves no summary."""
    written(store, CELL, device="one")
    written(store, cell(n=3), device="two")
    with pytest.raises(ResultsError):
        _rows(store)
    assert not list(Path(store.root).glob("summary.*"))


@pytest.mark.parametrize(
    ("table", "columns", "num_rows"),
    [
        ("passes", schema.PASSES, 2),
        ("requests", schema.REQUESTS, 1),
        ("summary", schema.SUMMARY, 1),
    ],
)
def test_load(
    store: Store,
    table: Literal["passes", "requests", "summary"],
    columns: tuple[schema.Column, ...],
    num_rows: int,
) -> None:
    """Each of the three tables is a frame with the columns of the schema."""
    rows = [pass_row(CELL, repeat=repeat, duration_s=1.0) for repeat in (0, 1)]
    store.write(CELL.cell_id, "a0", rows, [{"cell_id": CELL.cell_id, "attempt_id": "a0"}])
    store.commit(CELL.cell_id, "a0")
    frame = packsweep.load(str(store.root), table)
    assert list(frame.columns) == [column.name for column in columns]
    assert len(frame) == num_rows


@pytest.mark.parametrize("table", ["passes", "summary"])
def test_load_null_integer(store: Store, table: Literal["passes", "summary"]) -> None:
    """An integer column with a missing value stays one of integers."""
    written(store, CELL)
    written(store, cell(strategy="chunked", pack_size=4))
    frame = packsweep.load(store.root, table)
    assert frame["pack_size"].dtype == pd.Int64Dtype()
    assert sorted(frame["pack_size"].dropna()) == [4]


def test_load_unknown_table(store: Store) -> None:
    """Another name is answered with the three that there are."""
    with pytest.raises(ResultsError, match="'cells' is not a table; there are passes, requests"):
        packsweep.load(store.root, "cells")  # type: ignore[arg-type]


def test_load_missing(tmp_path: Path) -> None:
    """Results that are not there are refused."""
    with pytest.raises(ResultsError, match="no such results folder"):
        packsweep.load(tmp_path / "no")

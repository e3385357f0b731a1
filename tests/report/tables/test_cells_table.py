"""The table of cells: which columns at which width, chosen columns, groups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from tests.report.test_format import _row, _settings

from packsweep.errors import ResultsError
from packsweep.report.tables import cells_table
from packsweep.report.tables import table as table_
from packsweep.report.tables.table import Column

FULL: dict[str, Any] = {
    "mfu": 0.55,
    "mbu": 0.2,
    "joules_per_1000_texts": 14000.0,
    "usd_per_1000_texts": 0.7,
}
ROWS = [
    _row(
        strategy=strategy,
        n=n,
        coverage=1.0,
        accuracy_ci_low=0.4,
        accuracy_ci_high=0.99,
        engine_settings=_settings(max_num_batched_tokens=tokens, max_num_seqs=size),
        **FULL,
    )
    for strategy, n, tokens, size in (
        ("packed", 4, 16384, 256),
        ("separate", 40, 65536, 1024),
        ("packed", 400, 16384, 1024),
    )
]


def headings(columns: Sequence[Column]) -> list[str]:
    return [column.heading for column in columns]


@pytest.mark.parametrize("width", [70, 80, 100, 120, 160])
def test_summary_fits(width: int) -> None:
    """With every column that there is, and two settings that vary, nothing is wider."""
    columns, gap, _ = table_.fit(cells_table.summary(ROWS).columns, width)
    assert table_.total(columns, gap) <= width
    assert {"texts/s\n(95% CI)", "outcome", "strategy", "n"} <= set(headings(columns))


def test_summary_shows_all_where_there_is_room() -> None:
    columns, _, left_out = table_.fit(cells_table.summary(ROWS).columns, 200)
    assert not left_out
    assert {"MFU", "MBU", "J/1000\ntexts", "requests/s"} <= set(headings(columns))


def _gpus(*sizes: int, **more: Any) -> list[str]:
    """Return the headings of a table of engines of ``sizes`` GPUs."""
    rows = [
        _row(
            num_gpus=size,
            texts_per_s_per_gpu=65.75 / size,
            engine_settings=_settings(tensor_parallel_size=size),
            **more,
        )
        for size in sizes
    ]
    return headings(cells_table.summary(rows).columns)


def test_columns_of_several_gpus() -> None:
    """Engines of one GPU have no column of it; where the sizes vary these are named."""
    one, same, several = _gpus(1, 1), _gpus(2, 2), _gpus(1, 2)
    assert "GPUs" not in one
    assert "texts/s\nper GPU" not in one
    assert {"GPUs", "texts/s\nper GPU"} <= set(same)
    assert "GPUs" not in several
    assert {"tensor\nparallel\nsize", "texts/s\nper GPU"} <= set(several)


def test_column_of_dashes_goes_first() -> None:
    """Answers that were not scored take no room from what was measured."""
    rows = [{**row, "coverage": None, "accuracy": None, "accuracy_ci_low": None} for row in ROWS]
    columns = cells_table.summary(rows).columns
    assert "mfu" not in table_.fit(columns, 120)[2]
    assert set(table_.fit(columns, 130)[2]) <= {"coverage", "accuracy"}


def test_chosen_columns_stand_beside_what_tells_cells_apart() -> None:
    columns = cells_table.chosen(ROWS, ["mfu", "kv_cache_dtype", "n", "texts_per_s"]).columns
    assert [column.name for column in columns] == [
        "strategy",
        "max_num_batched_tokens",
        "max_num_seqs",
        "n",
        "duplication",
        "mfu",
        "kv_cache_dtype",
        "texts_per_s",
    ]
    assert columns[5].cells == ("55%", "55%", "55%")
    assert columns[7].cells[0] == "65.75±5.0%"


def test_chosen_column_unknown() -> None:
    with pytest.raises(ResultsError, match=r"--columns: no column 'mfuu'; did you mean mfu\?"):
        cells_table.chosen(ROWS, ["mfuu"])


def test_groups_are_named_once_and_end_with_a_line() -> None:
    ordered, groups = cells_table.grouped(ROWS, ["strategy"])
    assert [row["n"] for row in ordered] == [4, 400, 40]
    (group,) = groups.columns
    assert (group.cells, group.once) == (("packed", "packed", "separate"), True)
    assert groups.sections == (1,)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("accuracy_ci_low", 0.4, "40%"),
        ("duration_s", 0.01234, "0.0123"),
        ("duration_s", 0.0, "0.00"),
        ("prompt_tokens", 129180, "129,180"),
        ("ignore_eos", True, "True"),
        ("warnings", [], "none"),
        ("warnings", ["short", "spread"], "short, spread"),
        ("driver_version", None, "-"),
    ],
)
def test_written(name: str, value: object, expected: str) -> None:
    assert cells_table.written(name, value) == expected


def test_time_fits_and_keeps_the_largest_parts() -> None:
    shares: dict[str, Any] = {
        "import_s": 15.0,
        "engine_start_s": 40.0,
        "passes_s": 9.0,
        "record_s": 0.1,
    }
    rest: dict[str, Any] = dict.fromkeys(
        ("spawn_s", "check_s", "resolve_s", "warmup_s", "cache_s"), 1.0
    )
    row = _row(wall_s=80.0, between_s=1.0, tokenize_probe_s=1.0, stop_s=1.0, **shares, **rest)
    columns, gap, left_out = table_.fit(cells_table.time_tables([row])[0].columns, 60)
    assert table_.total(columns, gap) <= 60
    assert "engine\nstart" in headings(columns)
    assert "record" in left_out

"""Warnings: when each applies, what is stored, what is printed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests import fabricated
from tests.fabricated import Way
from tests.fakes import cell, pass_row

from packsweep.analysis import frames
from packsweep.report.tables import footer
from packsweep.results.schema import Row
from packsweep.results.store import Store
from packsweep.results.warnings import WARNINGS, codes

SOUND: dict[str, Any] = {
    "duration_s": 2.0,
    "throttle_reasons": [],
    "foreign_gpu_pids": [],
    "other_cpu_share": 0.01,
    "memory_returned": True,
}


SERVED: dict[str, Any] = {"mode": "online", "cache_state": "cold", "num_requests": 9}


def passes(*changes: dict[str, Any]) -> list[dict[str, Any]]:
    """Return one sound pass of a real engine for each set of changes, with the changes made."""
    return [
        {"engine": "vllm", "repeat": repeat, **SOUND, **change}
        for repeat, change in enumerate(changes)
    ]


def lasting(*seconds: float) -> list[dict[str, Any]]:
    return passes(*({"duration_s": duration} for duration in seconds))


def answering(accuracy: float, *, num_texts: int) -> list[dict[str, Any]]:
    """Return two passes of that accuracy where 52 % of the texts are of the majority class."""
    scored = {"accuracy": accuracy, "majority_class_share": 0.52, "n": num_texts}
    # Each request ten times over: copies are no evidence.
    return passes(*2 * ({**scored, "num_texts": 10 * num_texts},))


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (lasting(2.0, 2.0, 2.0), []),
        (lasting(2.0), ["few_repeats"]),
        (lasting(2.0, 2.1, 2.19), []),
        (lasting(2.0, 2.0, 2.21), ["spread"]),
        (lasting(2.08, 2.0, 2.0), []),
        (lasting(2.12, 2.0, 2.0), ["slow_first"]),
        # Windows last as long as they are asked to, and a search needs no repeats.
        (passes(*({**SERVED, "cached_share": 0.0, "duration_s": s} for s in (40.0, 20.0))), []),
        (passes({**SERVED, "cached_share": 0.0, "max_rate_verdict": "bracketed"}), []),
        (lasting(2.0, 2.0, 2.12), []),
        ([*lasting(2.12, 2.0), *lasting(2.12, 2.0)], ["slow_first"]),  # two processes
        ([*lasting(2.12, 2.0), *lasting(2.0, 2.0), *lasting(2.0, 2.0)], []),
        (passes({}, {"num_errors": 2}), ["request_errors"]),
        (passes({}, {"num_errors": 0}), []),
        (passes(*2 * ({**SERVED, "cached_share": None},)), ["cache_untold"]),
        (passes(*2 * ({**SERVED, "cached_share": None, "cache_state": "off"},)), []),
        (passes(*2 * ({**SERVED, "cached_share": 0.0},)), []),
        (lasting(1.0, 1.0), []),
        (lasting(0.99, 1.0), ["short"]),
        (passes({}, {"throttle_reasons": ["sw_power_cap"]}), ["throttled"]),
        (passes({}, {"throttle_reasons": ["applications_clocks_setting"]}), []),
        (passes({}, {"other_cpu_share": 0.11}), ["host_busy"]),
        (passes({}, {"other_cpu_share": 0.10}), []),
        (passes({}, {"foreign_gpu_pids": ["7"]}), ["foreign_process"]),
        (passes({}, {"memory_returned": False}), ["memory_kept"]),
        (passes({}, {"labels_surplus": 1}), ["surplus_labels"]),
        (passes({}, {"labels_surplus": 0}), []),
        (answering(0.55, num_texts=200), ["guessing"]),  # 95 % interval 48 to 62 %
        (answering(0.60, num_texts=200), []),  # 53 to 67 %
        (answering(0.60, num_texts=100), ["guessing"]),  # 50 to 69 %
        (answering(0.30, num_texts=200), ["guessing"]),
        (passes({}, dict.fromkeys(SOUND)), []),
        ([], []),
    ],
)
def test_warning_applies(rows: list[dict[str, Any]], expected: list[str]) -> None:
    assert codes(rows) == expected


def test_simulated_passes_are_not_warned_about() -> None:
    assert codes([{**row, "engine": "simulated"} for row in lasting(0.1)]) == []


@given(st.permutations(lasting(0.5, 1.0, 3.0)))
def test_warnings_do_not_depend_on_the_order_of_the_rows(rows: list[dict[str, Any]]) -> None:
    assert codes(rows) == ["spread", "short"]


@given(st.floats(min_value=0.01, max_value=1e4), st.integers(min_value=2, max_value=9))
def test_equal_repeats_have_no_spread(seconds: float, count: int) -> None:
    assert not {"spread", "slow_first", "few_repeats"} & set(codes(lasting(*[seconds] * count)))


def test_codes_are_unique_and_every_text_has_a_remedy() -> None:
    assert len({warning.code for warning in WARNINGS}) == len(WARNINGS)
    assert all(warning.text and warning.remedy for warning in WARNINGS)


def test_summary_stores_the_codes(tmp_path: Path) -> None:
    """As a list in the Parquet file, as words in the CSV, null where nothing was measured."""
    store = Store(tmp_path)
    store.prepare()
    doubtful, failed = (cell(engine="vllm", n=n) for n in (2, 3))
    row = pass_row(doubtful, **SOUND | {"duration_s": 0.5})
    store.write(doubtful.cell_id, "a0", [row], [])
    store.commit(doubtful.cell_id, "a0")
    row = pass_row(failed, outcome="infeasible", reason="too long")
    store.write(failed.cell_id, "a0", [row], [])
    store.commit(failed.cell_id, "a0")
    merged = {each["n"]: each["warnings"] for each in frames.merge(store)}
    assert merged == {2: ["few_repeats", "short"], 3: None}
    assert "few_repeats short" in Path(f"{store.summary}.csv").read_text()


def row(n: int, *codes: str) -> Row:
    return {**fabricated.row(Way(accuracy=0.9), n), "warnings": list(codes)}


def test_a_warning_is_one_line_however_many_cells_have_it() -> None:
    rows = [*(row(n, "short") for n in range(1, 6)), row(6, "spread"), row(7)]
    lines = footer.warnings(rows)
    assert [line.split(":")[0] for line in lines] == ["separate n=6", "5 of 7 cells"]
    assert lines[0].endswith(" -> stop other load or raise measure.repeats")


def test_a_warning_of_all_cells_names_none() -> None:
    assert footer.warnings([row(1, "short"), row(2, "short")])[0].startswith("all cells:")


def test_nothing_is_printed_where_nothing_is_wrong() -> None:
    assert footer.warnings([row(1), {**row(2), "warnings": None}]) == []

"""The passes of a cell become its row of the summary."""

from __future__ import annotations

from typing import Any

import pytest
from tests.fakes import cell, pass_row

from packsweep.results import parquet, schema, summary


def test_accuracy_interval() -> None:
    """Copies and repeats are no new evidence: 6 of 8 texts, by Wilson's interval."""
    one = cell(n=8, duplication=10)
    rows = [pass_row(one, repeat=i, num_texts=80, accuracy=0.75) for i in range(3)]
    found = summary.of_cell(parquet.table(rows, schema.PASSES).to_pylist())
    assert found["accuracy"] == 0.75
    assert found["accuracy_ci_low"] == pytest.approx(0.4093, abs=1e-4)
    assert found["accuracy_ci_high"] == pytest.approx(0.9285, abs=1e-4)


def test_accuracy_interval_window() -> None:
    """A window that was over before all n texts came is evidence of those that did."""
    rows = [pass_row(cell(n=12), num_texts=8, accuracy=0.75)]
    found = summary.of_cell(parquet.table(rows, schema.PASSES).to_pylist())
    assert found["accuracy_ci_low"] == pytest.approx(0.4093, abs=1e-4)


def test_search_counts_what_passes() -> None:
    """A search is told by its windows at the rate that is shown to pass."""
    rates = ((2.0, 0.1), (4.0, 0.2), (8.0, 9.0))
    rows = [
        pass_row(
            cell(),
            repeat=repeat,
            rate_texts_per_s=rate,
            e2e_p99_s=seconds,
            max_rate_verdict="bracketed",
            max_rate_pass_texts_per_s=4.0,
            max_rate_fail_texts_per_s=8.0,
        )
        for repeat, (rate, seconds) in enumerate(rates)
    ]
    found = summary.of_cell(parquet.table(rows, schema.PASSES).to_pylist())
    assert (found["num_repeats"], found["e2e_p99_s_median"]) == (1, 0.2)
    ends = (found["max_rate_pass_texts_per_s"], found["max_rate_fail_texts_per_s"])
    assert ends == (4.0, 8.0)


def test_search_without_a_pass() -> None:
    """Where no rate is shown to pass, it is told by those at its lightest load."""
    rows = [
        pass_row(cell(), repeat=i, rate_texts_per_s=2.0 + i % 2, max_rate_verdict="undecided")
        for i in range(4)
    ]
    found = summary.of_cell(parquet.table(rows, schema.PASSES).to_pylist())
    assert (found["num_repeats"], found["max_rate_verdict"]) == (2, "undecided")


def _search(attempt: str, passes: float | None, fails: float | None) -> schema.Row:
    return pass_row(
        cell(),
        attempt,
        rate_texts_per_s=passes or 1.0,
        max_rate_verdict="bracketed",
        max_rate_pass_texts_per_s=passes,
        max_rate_fail_texts_per_s=fails,
    )


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ((10, 12), (9, 11), (9, 12)),
        ((10, None), (9, 11), (9, None)),
        ((None, 12), (9, 11), (None, 12)),
    ],
)
def test_search_across_servers(
    first: tuple[float | None, float | None],
    second: tuple[float | None, float | None],
    expected: tuple[float | None, float | None],
) -> None:
    """Of several servers the lowest rate that passes counts, and the highest that fails."""
    rows = [_search("a0", *first), _search("a1", *second)]
    found = summary.of_cell(parquet.table(rows, schema.PASSES).to_pylist())
    ends = (found["max_rate_pass_texts_per_s"], found["max_rate_fail_texts_per_s"])
    assert ends == expected


def _server(
    attempt: str, rates: list[float], passes: float | None, fails: float | None, **values: Any
) -> list[schema.Row]:
    """Return the windows of one server's search, which answered all that arrived."""
    shown = (passes is not None) + 2 * (fails is not None)
    return [
        pass_row(
            cell(),
            attempt,
            repeat=repeat,
            rate_texts_per_s=rate,
            texts_per_s=rate,
            max_rate_verdict=("undecided", "none_fails", "none_passes", "bracketed")[shown],
            max_rate_pass_texts_per_s=passes,
            max_rate_fail_texts_per_s=fails,
            **values,
        )
        for repeat, rate in enumerate(rates)
    ]


def _found(*servers: list[schema.Row]) -> schema.Row:
    rows = [row for server in servers for row in server]
    return summary.of_cell(parquet.table(rows, schema.PASSES).to_pylist())


def test_search_server_that_passes_nowhere() -> None:
    """A server that never came down to the rate at which another passes counts all the same."""
    found = _found(
        _server("a0", [20.0, 5.0, 10.0], 10.0, 20.0),
        _server("a1", [20.0, 10.0], None, None, max_rate_reason="too short"),
    )
    assert (found["max_rate_pass_texts_per_s"], found["max_rate_fail_texts_per_s"]) == (None, None)
    assert (found["max_rate_verdict"], found["max_rate_reason"]) == ("undecided", "too short")
    assert (found["num_processes"], found["rate_texts_per_s"]) == (2, 10.0)


def test_search_server_that_fails_lower() -> None:
    """The highest rate that fails counts, also of a server that tried none so low as another."""
    found = _found(
        _server("a0", [20.0, 10.0, 5.0], None, 5.0, max_rate_reason="first"),
        _server("a1", [20.0, 10.0], None, 10.0, max_rate_reason="second"),
    )
    assert (found["max_rate_fail_texts_per_s"], found["max_rate_verdict"]) == (10.0, "none_passes")
    assert found["max_rate_reason"] == "first; second"


def test_search_servers_at_one_rate() -> None:
    """Figures are of a rate that every server was driven at, and the estimate holds for all."""
    bounds = {"attainment": 1.0, "attainment_low": 0.9, "attainment_high": 1.0}
    found = _found(
        _server("a0", [10.0, 20.0, 25.0], 20.0, 25.0, max_rate_texts_per_s=22.0, **bounds),
        _server("a1", [10.0, 20.0, 12.0], 10.0, 12.0, max_rate_texts_per_s=11.0, **bounds),
    )
    ends = (found["max_rate_pass_texts_per_s"], found["max_rate_fail_texts_per_s"])
    assert (ends, found["max_rate_texts_per_s"]) == ((10.0, 25.0), 11.0)
    assert (found["rate_texts_per_s"], found["texts_per_s_median"]) == (10.0, 10.0)
    assert (found["num_processes"], found["attainment_ci_low"]) == (2, 0.9)


def test_search_server_without_estimate() -> None:
    """An estimate of one server says nothing of another that has none."""
    found = _found(
        _server("a0", [10.0, 20.0], 10.0, 20.0, max_rate_texts_per_s=12.0),
        _server("a1", [10.0, 20.0], 20.0, None),
    )
    assert (found["max_rate_verdict"], found["max_rate_texts_per_s"]) == ("none_fails", None)


def test_search_servers_without_a_common_rate() -> None:
    """Where servers have no rate in common each is told at its own."""
    found = _found(_server("a0", [20.0], 20.0, None), _server("a1", [5.0, 10.0], 5.0, 10.0))
    assert (found["num_processes"], found["num_repeats"]) == (2, 2)
    assert found["texts_per_s_mean"] == 12.5


def _window(attempt: str, kept: float, low: float, high: float) -> schema.Row:
    return pass_row(cell(), attempt, attainment=kept, attainment_low=low, attainment_high=high)


def test_attainment_interval_batches() -> None:
    """One server: over batches of its windows, where a t interval of equal windows has no width."""
    rows = [_window("a0", 1.0, 0.9, 1.0) for _ in range(3)]
    found = summary.of_cell(parquet.table(rows, schema.PASSES).to_pylist())
    assert (found["attainment_ci_low"], found["attainment_ci_high"]) == (0.9, 1.0)


def test_attainment_interval_servers() -> None:
    """Several servers: over them, at least as wide as what is known of one."""
    rows = [_window(f"a{i}", kept, 0.9, 1.0) for i, kept in enumerate((1.0, 0.8, 0.9))]
    found = summary.of_cell(parquet.table(rows, schema.PASSES).to_pylist())
    # t of 2 degrees of freedom: 4.303 x 0.1 / sqrt(3) to each side of 0.9.
    assert found["attainment_ci_low"] == pytest.approx(0.9 - 0.2484, abs=1e-4)
    assert found["attainment_ci_high"] == 1.0
    equal = [_window(f"a{i}", 1.0, 0.9, 1.0) for i in range(3)]
    found = summary.of_cell(parquet.table(equal, schema.PASSES).to_pylist())
    assert found["attainment_ci_low"] == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("num_gpus", "per_gpu", "usd"), [(None, None, 0.1), (1, 10, 0.1), (4, 2.5, 0.4)]
)
def test_all_gpus_cost(num_gpus: int | None, per_gpu: float | None, usd: float) -> None:
    """1,000 texts at 10 texts/s take 100 s of every GPU of the engine, at 3.60 USD an hour each."""
    row = pass_row(
        cell(), texts_per_s=10.0, correct_texts_per_s=5.0, num_gpus=num_gpus, gpu_hour_usd=3.6
    )
    found = summary.of_cell(parquet.table([row], schema.PASSES).to_pylist())
    assert found["texts_per_s_per_gpu"] == per_gpu
    assert found["usd_per_1000_texts"] == pytest.approx(usd)
    assert found["usd_per_1000_correct_texts"] == pytest.approx(2 * usd)

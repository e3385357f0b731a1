"""The passes of a cell become its row of the summary."""

from __future__ import annotations

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
    """Where no rate is shown to pass, all windows count."""
    rows = [pass_row(cell(), repeat=i, rate_texts_per_s=2.0 + i) for i in range(2)]
    assert summary.of_cell(parquet.table(rows, schema.PASSES).to_pylist())["num_repeats"] == 2


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

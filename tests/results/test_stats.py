"""Medians and intervals, against scipy and by hand."""

from __future__ import annotations

import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packsweep.results import stats

VALUES = st.lists(st.floats(0.001, 1e9), min_size=2, max_size=12)


def test_estimate_nothing() -> None:
    """Without repeats everything but the count is undefined."""
    assert stats.estimate([]) == stats.Estimate(
        count=0, median=None, mean=None, ci_low=None, ci_high=None
    )


def test_estimate_one() -> None:
    """One repeat has a median and a mean and no interval."""
    assert stats.estimate([3.0]) == stats.Estimate(
        count=1, median=3.0, mean=3.0, ci_low=None, ci_high=None
    )


def test_estimate_three() -> None:
    """1, 2, 6: median 2, mean 3, s = sqrt(7), t(2) = 4.303."""
    found = stats.estimate([6.0, 1.0, 2.0])
    half = 4.302653 * math.sqrt(7) / math.sqrt(3)
    assert (found.count, found.median, found.mean) == (3, 2.0, 3.0)
    assert found.ci_low == pytest.approx(3 - half)
    assert found.ci_high == pytest.approx(3 + half)


def test_estimate_equal() -> None:
    """Equal repeats have an interval of no width, which is not undefined."""
    found = stats.estimate([2.0, 2.0])
    assert (found.ci_low, found.ci_high) == (2.0, 2.0)


@given(VALUES)
def test_estimate_as_scipy(values: list[float]) -> None:
    """The interval is scipy's t interval."""
    from scipy.stats import t

    found = stats.estimate(values)
    error = statistics.stdev(values) / math.sqrt(len(values))
    low, high = t.interval(0.95, len(values) - 1, loc=statistics.fmean(values), scale=error or 1e-9)
    near = pytest.approx(float(high - low) / 2, rel=1e-6, abs=1e-6)
    assert stats.half_width(values) == near
    assert found.ci_low == pytest.approx(float(low), rel=1e-6, abs=1e-6)
    assert found.ci_high == pytest.approx(float(high), rel=1e-6, abs=1e-6)


@given(VALUES, st.randoms())
def test_estimate_order(values: list[float], random: object) -> None:
    """The order of the repeats does not matter."""
    shuffled = list(values)
    getattr(random, "shuffle")(shuffled)  # noqa: B009  (hypothesis gives an untyped generator)
    first, second = stats.estimate(values), stats.estimate(shuffled)
    assert first.median == second.median
    assert first.ci_low == pytest.approx(second.ci_low)


def test_estimate_coverage() -> None:
    """Of 2,000 intervals over four draws each, about 95 % hold the true mean."""
    import random

    generator = random.Random(1)
    hits = 0
    for _ in range(2000):
        found = stats.estimate([generator.gauss(5.0, 2.0) for _ in range(4)])
        assert found.ci_low is not None
        assert found.ci_high is not None
        hits += found.ci_low <= 5.0 <= found.ci_high
    assert 0.935 <= hits / 2000 <= 0.965


@pytest.mark.parametrize(
    ("p_values", "called"),
    [
        ([0.04, 0.01, 0.02], [True, True, True]),  # limits 0.05 / 3, / 2, / 1, the smallest first
        ([0.04, 0.01, 0.03], [False, True, False]),  # the first that is not called ends it
        ([0.02, 0.02, 0.02], [False, False, False]),
    ],
)
def test_holm(p_values: list[float], called: list[bool]) -> None:
    """The limit loosens with every test that is called."""
    assert stats.holm(p_values, 0.05) == called


def test_holm_most() -> None:
    """Where one hypothesis alone can be true, no limit is stricter than its own."""
    assert stats.holm([0.04, 0.06], 0.05, most=1) == [True, False]

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packsweep.errors import UserError
from packsweep.traffic.schedule import arrivals, requests_per_s


def test_constant_arrivals_lie_a_gap_apart() -> None:
    assert arrivals("constant", 4.0, duration_s=1.0) == (0.125, 0.375, 0.625, 0.875)


@given(rate=st.floats(0.1, 100), duration_s=st.floats(0.1, 10))
def test_constant_arrivals_hold_the_rate_in_any_window(rate: float, duration_s: float) -> None:
    assert abs(len(arrivals("constant", rate, duration_s=duration_s)) - rate * duration_s) <= 0.501


def test_rate_of_texts_becomes_one_of_requests() -> None:
    assert requests_per_s(100.0, 4) == 25.0


@pytest.mark.parametrize("rate", [0, -1, math.nan, math.inf])
def test_rate_that_is_not_above_0_is_refused(rate: float) -> None:
    with pytest.raises(UserError, match="must be above 0 texts/s"):
        requests_per_s(rate, 1)


def test_unknown_kind_is_refused() -> None:
    with pytest.raises(UserError, match="arrivals 'gamma': write poisson or constant"):
        arrivals("gamma", 1.0, duration_s=1.0)  # type: ignore[arg-type]


def test_seed_and_repeat_decide_the_draws() -> None:
    first = arrivals("poisson", 10.0, duration_s=10.0, seed=1, repeat=0)
    assert first == arrivals("poisson", 10.0, duration_s=10.0, seed=1, repeat=0)
    assert first[0] != arrivals("poisson", 10.0, duration_s=10.0, seed=1, repeat=1)[0]
    assert first[0] != arrivals("poisson", 10.0, duration_s=10.0, seed=2, repeat=0)[0]


def test_draws_are_common_to_all_rates_and_durations() -> None:
    slow = arrivals("poisson", 5.0, duration_s=1000.0)
    fast = arrivals("poisson", 20.0, duration_s=250.0)
    assert len(slow) == len(fast)
    assert [time_s / 4 for time_s in slow] == pytest.approx(fast, rel=1e-12)
    assert arrivals("poisson", 5.0, duration_s=10.0) == slow[: sum(t < 10 for t in slow)]


def test_poisson_counts_spread_as_poisson_does() -> None:
    """Mean and variance of the number in a window are both rate x duration: 50."""
    counts = [len(arrivals("poisson", 50.0, duration_s=1.0, repeat=n)) for n in range(400)]
    mean = sum(counts) / len(counts)
    variance = sum((count - mean) ** 2 for count in counts) / (len(counts) - 1)
    assert mean == pytest.approx(50, abs=1.5)  # 4 standard errors
    assert variance == pytest.approx(50, abs=15)


def test_poisson_gaps_are_exponential() -> None:
    times = arrivals("poisson", 1.0, duration_s=20_000.0)
    gaps = sorted(b - a for a, b in itertools.pairwise(times))
    for share in (0.1, 0.5, 0.9, 0.99):
        assert gaps[int(share * len(gaps))] == pytest.approx(-math.log(1 - share), rel=0.05)

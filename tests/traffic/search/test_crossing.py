from __future__ import annotations

import math

import pytest

from packsweep.traffic.search.attainment import Evidence
from packsweep.traffic.search.crossing import crossing


def shown(num_requests: int, num_violations: int, *, design_effect: float = 1.0) -> Evidence:
    return Evidence(
        num_requests=num_requests,
        num_violations=num_violations,
        ci_low=0.0,
        ci_high=1.0,
        design_effect=design_effect,
        length_s=60.0,
        backlog_per_s=0.0,
        backlog_ci_low=0.0,
    )


def test_violations_that_multiply_cross_in_the_middle_of_the_logarithms() -> None:
    """0.1 % at 10 and 10 % at 40 texts/s: 1 % halfway between, at 20."""
    many = 1_000_000
    limit = crossing([10.0, 40.0], [shown(many, many // 1000), shown(many, many // 10)], 0.99)
    assert limit == pytest.approx(20.0, rel=1e-3)


def test_rates_out_of_order_are_fitted_by_their_weighted_mean() -> None:
    """3 % of 1,000 and 0 of 2,000 become 1 % each: the crossing is the last of these two."""
    rates = [10.0, 20.0, 30.0]
    limit = crossing(rates, [shown(1000, 30), shown(2000, 0), shown(1000, 900)], 0.985)
    assert 20.0 < limit < 30.0


def test_requests_of_one_cluster_weigh_as_one() -> None:
    """900 violations that count as one move the fit by little; each for itself, to the end."""
    rates = [10.0, 20.0, 30.0]
    others = [shown(9000, 45), shown(9000, 900)]
    alone = crossing(rates, [shown(9000, 9), *others], 0.99)
    in_one = crossing(rates, [shown(9000, 900, design_effect=900.0), *others], 0.99)
    spread = crossing(rates, [shown(9000, 900), *others], 0.99)
    assert in_one == pytest.approx(alone, rel=0.02)
    assert spread == 10.0


def test_curve_that_does_not_cross_gives_the_nearest_rate() -> None:
    few = shown(10, 0)
    assert crossing([1.0, 2.0], [few, few], 0.99) == 1.0  # 10 are too few for 99 %
    assert crossing([1.0, 2.0], [shown(10_000, 0), shown(10_000, 1)], 0.99) == 2.0
    assert math.isfinite(crossing([1.0, 2.0], [shown(10_000, 0), shown(10_000, 10_000)], 0.99))

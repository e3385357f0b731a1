from __future__ import annotations

import numpy as np
import pytest
from tests.traffic.windows import response, window

from packsweep.traffic.search.attainment import Observation, evidence, interval, observe
from packsweep.traffic.slo import parse

SLO = parse("p99 e2e <= 100 ms")


@pytest.mark.parametrize(
    ("num", "violations", "is_enough"),
    [(298, 0, False), (299, 0, True), (472, 1, False), (600, 1, True)],
)
def test_independent_requests_count_one_each(
    num: int,
    violations: int,
    is_enough: bool,  # noqa: FBT001  (a case)
) -> None:
    """A p99 at 95 % takes 299 requests without a violation.

    With one it takes 473 if their spread is known; 16 batches know it less well.
    """
    latency_s = [0.2] * violations + [0.05] * (num - violations)
    answers = [response(n, n / 10, tokens=(each,)) for n, each in enumerate(latency_s)]
    observed = observe(window(*answers, duration_s=num / 10), SLO, 0.0)
    assert (evidence([observed], SLO, 0.05).ci_low >= 0.99) is is_enough


def test_violations_in_a_row_count_for_few() -> None:
    """20 violations of 2,000 requests, spread out or in one row: 1 % either way."""
    spread = [0.2 if n % 100 == 50 else 0.05 for n in range(2000)]
    row = [0.2 if 1000 <= n < 1020 else 0.05 for n in range(2000)]
    effects, highs = [], []
    for latency_s in (spread, row):
        answers = [response(n, n / 10, tokens=(each,)) for n, each in enumerate(latency_s)]
        shown = evidence([observe(window(*answers, duration_s=200.0), SLO, 0.0)], SLO, 0.025)
        assert shown.attainment == 0.99
        effects.append(shown.design_effect)
        highs.append(shown.ci_high)
    assert effects[0] == 1.0
    assert effects[1] > 15
    assert highs[1] > highs[0]


def test_requests_before_the_window_has_settled_do_not_count() -> None:
    answers = [response(n, float(n), tokens=(1.0 if n < 5 else 0.05,)) for n in range(20)]
    observed = observe(window(*answers, duration_s=20.0), SLO, 5.0)
    assert len(observed.latency_s) == 15
    assert evidence([observed], SLO, 0.05).num_violations == 0


def observation(in_flight: list[float], *, length_s: float = 60.0) -> Observation:
    """Return a window of 600 requests that keep the SLO."""
    return Observation(
        arrived_s=np.linspace(0, length_s, 600, endpoint=False),
        latency_s=np.full(600, 0.05),
        in_flight=np.array(in_flight),
        begins_s=0.0,
        ends_s=length_s,
    )


def test_backlog_is_the_slope_of_the_requests_in_flight() -> None:
    """From 0 to 30 requests in 60 s, give or take 2."""
    noise = np.random.default_rng(0).normal(0, 2, 512)
    shown = evidence([observation((np.linspace(0, 30, 512) + noise).tolist())], SLO, 0.025)
    assert shown.backlog_per_s == pytest.approx(0.5, abs=0.03)
    assert 0.45 < shown.backlog_ci_low < 0.5


def test_steady_queue_has_no_backlog() -> None:
    noise = np.random.default_rng(0).normal(20, 5, 512)
    shown = evidence([observation(noise.tolist()), observation(noise[::-1].tolist())], SLO, 0.025)
    assert shown.backlog_ci_low < 0


def test_windows_at_different_heights_are_no_backlog() -> None:
    low, high = observation([1.0] * 512), observation([50.0] * 512)
    shown = evidence([low, high], SLO, 0.025)
    assert shown.backlog_per_s == pytest.approx(0)
    assert shown.backlog_ci_low == pytest.approx(0)


def test_too_few_requests_show_nothing() -> None:
    """15 requests that all break it count as one."""
    answers = [response(n, float(n), tokens=(0.5,)) for n in range(15)]
    shown = evidence([observe(window(*answers, duration_s=15.0), SLO, 0.0)], SLO, 0.025)
    assert shown.design_effect == 15
    assert shown.ci_low == 0
    assert shown.ci_high > 0.9


def test_errors_are_violations() -> None:
    kinds = [None, "timeout"] * 50
    answers = [response(n, n / 10, tokens=(0.05,), error=kind) for n, kind in enumerate(kinds)]
    shown = evidence([observe(window(*answers), SLO, 0.0)], SLO, 0.025)
    assert shown.num_violations == 50
    assert shown.ci_high < 0.99


def test_interval_after_more_of_the_same_is_narrower() -> None:
    shown = evidence([observation([0.0] * 512)], SLO, 0.025)
    low, high = shown.interval_after(1.0, 0.025)
    assert (low, high) == (shown.ci_low, shown.ci_high)
    assert shown.interval_after(4.0, 0.025)[0] > low


def test_interval_over_batches_has_a_width_where_nothing_is_late() -> None:
    """299 requests in time show a p99 at 95 %; what had no request shows nothing."""
    answers = [response(n, n / 10, tokens=(0.05,)) for n in range(299)]
    low, high = interval([window(*answers, duration_s=30.0)], SLO) or (0.0, 0.0)
    assert low == pytest.approx(0.025 ** (1 / 299))
    assert high == 1.0
    assert interval([window(duration_s=30.0)], SLO) is None

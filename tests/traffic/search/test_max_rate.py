"""The search against queues whose limit is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from tests.traffic.queues import MD1, Batches, Queue, md1_attainment, md1_limit
from tests.traffic.windows import response, window

from packsweep.traffic.schedule import arrivals
from packsweep.traffic.search.attainment import Observation
from packsweep.traffic.search.max_rate import Result, Search, Step
from packsweep.traffic.slo import Slo, parse
from packsweep.traffic.window import Window

SLO = parse("p99 e2e <= 100 ms")
# Limit of ``BATCHES`` at a p99 of 150 ms: three simulations of 2 million customers each gave 321.7,
# 322.1 and 322.1 a second.
BATCHES = Batches(fixed_s=0.02, each_s=0.002, most=64)
BATCHES_SLO = parse("p99 e2e <= 150 ms")
BATCHES_LIMIT = 322.0


def drive(queue: Queue, step: Step, seed: int) -> Observation:
    """Return what a window shows of a queue, as ``attainment.observe`` does of responses."""
    times = arrivals(
        "poisson", step.rate, duration_s=step.duration_s, seed=seed, repeat=step.repeat
    )
    arrived_s = np.array(times)
    leave_s = queue.leave_s(arrived_s)
    at = np.linspace(step.settle_s, step.duration_s, 512)
    there = np.searchsorted(arrived_s, at, "right") - np.searchsorted(np.sort(leave_s), at, "right")
    judged = arrived_s >= step.settle_s
    return Observation(
        arrived_s=arrived_s[judged],
        latency_s=(leave_s - arrived_s)[judged],
        in_flight=there.astype(float),
        begins_s=step.settle_s,
        ends_s=step.duration_s,
    )


def searched(queue: Queue, search: Search, seed: int) -> Result:
    while step := search.next():
        search.observe([drive(queue, step, seed)])
    return search.result()


def holds(result: Result, limit: float) -> bool:
    assert result.passes is not None
    assert result.fails is not None
    return result.passes <= limit <= result.fails


def test_md1_limit_is_that_of_a_simulation() -> None:
    limit = md1_limit(0.01, 0.1, 0.99)
    assert md1_attainment(limit, 0.01, 0.1) == pytest.approx(0.99)
    arrived_s = np.cumsum(np.random.default_rng(0).exponential(1 / limit, 2_000_000))
    latency_s = MD1(0.01).leave_s(arrived_s) - arrived_s
    assert np.mean(latency_s <= 0.1) == pytest.approx(0.99, abs=0.0015)  # 4 standard errors


def test_search_holds_the_limit_of_md1_between_what_passes_and_what_fails() -> None:
    result = searched(MD1(0.01), Search(20.0, SLO, window_s=60.0), seed=1)
    assert result.verdict == "bracketed"
    assert holds(result, md1_limit(0.01, 0.1, 0.99))
    assert result.estimate is not None
    assert result.estimate == pytest.approx(md1_limit(0.01, 0.1, 0.99), rel=0.1)
    assert [rate.rate for rate in result.rates] == sorted(rate.rate for rate in result.rates)
    assert not result.is_cut


def test_search_holds_the_limit_of_batches_from_a_rate_that_is_too_high() -> None:
    result = searched(BATCHES, Search(1000.0, BATCHES_SLO, window_s=20.0), seed=2)
    assert holds(result, BATCHES_LIMIT)


def test_search_holds_a_p90_in_95_of_100_short_runs() -> None:
    """The cheap form of the long test below: 10 s a window."""
    slo, limit, wrong = parse("p90 e2e <= 100 ms"), md1_limit(0.01, 0.1, 0.9), 0
    for seed in range(100):
        first_rate = limit * math.exp(np.random.default_rng(seed).uniform(-1.5, 1.0))
        result = searched(MD1(0.01), Search(first_rate, slo, window_s=10.0), seed)
        assert result.verdict == "bracketed"
        wrong += not holds(result, limit)
    assert wrong <= 5


@pytest.mark.parametrize("times", [30.0, 1 / 30])
def test_search_finds_a_limit_far_from_its_first_rate(times: float) -> None:
    limit = md1_limit(0.01, 0.1, 0.99)
    result = searched(MD1(0.01), Search(times * limit, SLO, window_s=60.0), seed=3)
    assert result.verdict == "bracketed"
    assert holds(result, limit)


@pytest.mark.long
@pytest.mark.parametrize(
    ("queue", "limit_s", "limit", "window_s"),
    [
        (MD1(0.01), 0.1, md1_limit(0.01, 0.1, 0.99), 60.0),
        (MD1(0.01), 0.5, md1_limit(0.01, 0.5, 0.99), 60.0),
        (MD1(0.5), 5.0, md1_limit(0.5, 5.0, 0.99), 600.0),
        (BATCHES, 0.15, BATCHES_LIMIT, 30.0),
        (BATCHES, 0.5, 425.3, 30.0),  # as above; 425.0, 425.9 and 425.0
    ],
)
def test_search_holds_the_limit_in_95_of_100_runs(
    queue: Queue, limit_s: float, limit: float, window_s: float
) -> None:
    slo = Slo(percent=99, metric="e2e", limit_s=limit_s)
    results = []
    for seed in range(100):
        first_rate = limit * math.exp(np.random.default_rng(seed).uniform(-1.5, 1.0))
        results.append(searched(queue, Search(first_rate, slo, window_s=window_s), seed))
    bracketed = [result for result in results if result.verdict == "bracketed"]
    missed = sum(not holds(result, limit) for result in bracketed)
    undecided = len(results) - len(bracketed)
    assert missed <= 5, f"{missed} missed, {undecided} undecided"
    assert undecided <= 5, f"{missed} missed, {undecided} undecided"


def steady(step: Step, latencies_s: tuple[float, ...]) -> Window:
    """Return a window of evenly spaced requests whose latencies take turns."""
    times = [n / step.rate for n in range(int(step.duration_s * step.rate))]
    answers = [
        response(n, at, tokens=(latencies_s[n % len(latencies_s)],)) for n, at in enumerate(times)
    ]
    return window(*answers, duration_s=step.duration_s)


def looked_at(search: Search, latencies_s: tuple[float, ...]) -> list[Step]:
    """Drive a search on a steady server to its end and return its steps."""
    steps = []
    while step := search.next():
        assert step == search.next()  # asking changes nothing
        steps.append(step)
        search.tell([steady(step, latencies_s)])
    return steps


def test_rate_that_could_still_pass_is_looked_at_for_as_long_as_that_takes() -> None:
    """At the error of one of three looks a p99 takes 476 requests without a violation, 238 s."""
    search = Search(2.0, SLO, window_s=20.0, highest_rate=2.0)
    steps = looked_at(search, (0.05,))
    assert [step.repeat for step in steps] == [0, 1]
    assert steps[0] == Step(rate=2.0, duration_s=22.0, settle_s=2.0, repeat=0)
    judged_s = steps[1].duration_s - steps[1].settle_s
    needed_s = math.log(0.05 / 6) / math.log(0.99) / 2.0
    assert judged_s == pytest.approx(1.15 * needed_s - 20.0, rel=0.05)
    assert search.result().passes == 2.0


def test_look_that_decides_early_is_not_shorter_than_twice_the_one_before() -> None:
    """At 20 requests/s 24 s would do."""
    steps = looked_at(Search(20.0, SLO, window_s=20.0, highest_rate=20.0), (0.05,))
    assert [step.duration_s for step in steps] == [22.0, 44.0]


def test_pass_leaves_the_time_to_see_a_rate_fail() -> None:
    """Of 90 s, 22 are for a look at twice the rate: 46 s more may be judged, and 28 take that."""
    search = Search(10.0, SLO, window_s=20.0, longest_s=90.0)
    steps = looked_at(search, (0.05,))
    assert [step.rate for step in steps] == [10.0, 10.0, 20.0]
    assert sum(step.duration_s for step in steps) <= 90.0
    assert search.result().passes == 10.0


def test_rate_that_there_is_no_time_for_is_looked_at_once() -> None:
    """At 2 requests/s a verdict takes 238 s."""
    steps = looked_at(Search(2.0, SLO, window_s=20.0, longest_s=120.0, highest_rate=2.0), (0.05,))
    assert [step.duration_s for step in steps] == [22.0]


def test_rate_that_nothing_would_decide_is_looked_at_once() -> None:
    """Every second request is late, and every second may be."""
    search = Search(100.0, parse("p50 e2e <= 100 ms"), window_s=20.0, highest_rate=100.0)
    step = search.next()
    assert step is not None
    search.tell([steady(step, (0.05, 0.2))])
    assert search.result().rates[0].verdict == "undecided"
    following = search.next()
    assert following is not None
    assert following.rate == 50.0


def test_time_that_is_used_up_ends_the_search_with_what_is_shown() -> None:
    search = Search(20.0, SLO, window_s=60.0, longest_s=70.0)
    step = search.next()
    assert step is not None
    search.tell([steady(step, (0.05,))])
    assert search.next() is None
    result = search.result()
    assert result.is_cut
    assert result.driven_s == 66.0
    assert result.verdict == "none_fails"
    assert result.passes == 20.0


def test_highest_rate_ends_the_search_without_a_failure() -> None:
    result = searched(MD1(0.01), Search(20.0, SLO, highest_rate=50.0), seed=1)
    assert result.verdict == "none_fails"
    assert result.passes == 50.0
    assert not result.is_cut


def test_server_that_is_too_slow_alone_passes_at_no_rate() -> None:
    """Each request takes 200 ms, the limit is 100 ms."""
    result = searched(MD1(0.2), Search(4.0, SLO, window_s=60.0), seed=1)
    assert result.verdict == "none_passes"
    assert result.fails is not None
    assert result.fails < 4.0


def test_too_few_requests_leave_it_undecided_and_lower_rates_are_not_tried() -> None:
    """0.1 requests/s in at most 15 x 60 s are 90; a p99 takes more."""
    result = searched(MD1(0.01), Search(0.1, SLO, window_s=60.0, highest_rate=0.1), seed=1)
    assert result.verdict == "undecided"
    assert [rate.rate for rate in result.rates] == [0.1]


def test_requests_that_pile_up_fail_though_none_is_late_yet() -> None:
    """Twice the capacity for 20 s: the last waits 11 s, and a minute is allowed."""
    search = Search(200.0, parse("p99 e2e <= 60 s"), window_s=20.0, highest_rate=200.0)
    step = search.next()
    assert step is not None
    short = Step(rate=200.0, duration_s=22.0, settle_s=2.0, repeat=0)
    search.observe([drive(MD1(0.01), short, 1)])
    rate = search.result().rates[0]
    assert rate.verdict == "fail"
    assert rate.evidence is not None
    assert rate.evidence.num_violations == 0
    assert rate.evidence.backlog_per_s == pytest.approx(100, rel=0.1)


def test_rate_without_a_valid_window_is_given_up_and_no_higher_one_is_tried() -> None:
    search = Search(100.0, SLO, window_s=12.0)
    while step := search.next():
        search.tell([steady(step, (0.05,))] if step.rate < 300 else [])
    result = search.result()
    assert [rate.rate for rate in result.rates] == [100.0, 200.0, 400.0]
    assert result.rates[-1].verdict == "undecided"
    assert result.rates[-1].evidence is None
    assert result.verdict == "none_fails"
    assert result.passes == 200.0


def test_window_that_was_not_valid_once_is_driven_again() -> None:
    search = Search(100.0, SLO, window_s=12.0, highest_rate=100.0)
    search.tell([])
    step = search.next()
    assert step is not None
    assert (step.rate, step.repeat) == (100.0, 1)
    search.tell([steady(step, (0.05,))])
    assert search.result().passes == 100.0


def test_search_takes_windows_as_the_client_returns_them() -> None:
    """1,200 requests of 50 ms in 12 s: a p99 of 100 ms is kept."""
    search = Search(100.0, SLO, window_s=12.0, highest_rate=100.0, looks=1)
    step = search.next()
    assert step is not None
    search.tell([steady(step, (0.05,))])
    assert search.result().rates[0].verdict == "pass"


def test_search_says_how_long_it_would_take() -> None:
    """Of 3 requests none broke it; a p99 takes 476 at the error of one of three looks, 1,588 s."""
    search = Search(0.4, SLO, window_s=10.0, longest_s=12.0, highest_rate=0.4)
    step = search.next()
    assert step is not None
    search.tell([steady(step, (0.05,))])
    result = search.result()
    assert result.verdict == "undecided"
    assert result.reason is not None
    assert "at 0.4 texts/s 0 of 3 requests missed the limit in the 10 s judged" in result.reason
    told, _, remedy = result.reason.rpartition("at least ")[2].partition(" s: ")
    assert remedy == "raise online.window_s or online.search_s"
    told_s = float(told.replace(",", ""))
    assert told_s == pytest.approx(math.log(0.05 / 6) / math.log(0.99) / 0.3, rel=0.03)


def test_search_says_that_it_was_cut() -> None:
    search = Search(100.0, SLO, window_s=12.0, longest_s=20.0)
    step = search.next()
    assert step is not None
    search.tell([steady(step, (0.05,))])
    result = search.result()
    assert result.is_cut
    assert str(result.reason).startswith("stopped after 13 of at most 20 s")


def test_search_says_nothing_of_undecided_rates_below_one_that_passes() -> None:
    slo = parse("p90 e2e <= 2 s")
    result = searched(MD1(0.001), Search(20.0, slo, window_s=3.0, longest_s=30.0), seed=4)
    assert [rate.verdict for rate in result.rates] == ["undecided", "pass"]
    assert result.reason == "stopped after 22 of at most 30 s; raise online.search_s"


def test_search_with_a_narrow_bracket_has_no_more_to_say() -> None:
    result = searched(MD1(0.01), Search(20.0, SLO, window_s=60.0), seed=1)
    assert (result.verdict, result.reason) == ("bracketed", None)


def test_search_without_a_pass_says_that_lower_rates_are_too_short() -> None:
    search = Search(4.0, SLO, window_s=10.0, longest_s=30.0)
    while step := search.next():
        search.tell([steady(step, (0.5,))])
    result = search.result()
    assert result.verdict == "none_passes"
    assert "brings too few requests to pass" in str(result.reason)


def test_search_goes_on_where_a_look_brings_few_requests() -> None:
    """Of 10 requests a look nothing is known of how they depend on each other; of 150 it is."""
    slo = parse("p90 e2e <= 1 s")
    search = Search(1.0, slo, window_s=10.0, highest_rate=1.0)
    while step := search.next():
        if step.rate < 1.0:
            break
        search.tell([steady(step, (0.05,))])
    assert search.result().passes == 1.0

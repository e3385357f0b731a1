"""Intervals of ratios and of nested repeats, against SciPy and by coverage."""

from __future__ import annotations

import math
import random
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from packsweep.results import stats

VALUES = st.lists(st.floats(0.5, 100), min_size=2, max_size=8)
SPREAD = st.lists(st.integers(1, 1000).map(float), min_size=2, max_size=8, unique=True)


def noisy(source: random.Random, mean: float, processes: int, repeats: int) -> list[list[float]]:
    """Return repeats inside processes, with more spread between them than inside."""
    found = []
    for _ in range(processes):
        own = mean * source.gauss(1, 0.02)
        found.append([own * source.gauss(1, 0.005) for _ in range(repeats)])
    return found


@given(SPREAD, SPREAD)
def test_ratio_of_single_processes_is_welch_on_logarithms(a: list[float], b: list[float]) -> None:
    """The interval is SciPy's for the difference of the logarithms' means."""
    found = stats.ratio([a], [b])
    logs = [[math.log(value) for value in side] for side in (a, b)]
    expected = scipy_stats.ttest_ind(*logs, equal_var=False).confidence_interval(0.95)
    assert found.ci_low == pytest.approx(math.exp(expected.low), rel=1e-9)
    assert found.ci_high == pytest.approx(math.exp(expected.high), rel=1e-9)
    assert not found.between_processes


@given(VALUES, VALUES)
def test_ratio_turned_around_is_the_inverse(a: list[float], b: list[float]) -> None:
    """b / a has the inverse value and the inverse ends of a / b."""
    there, back = stats.ratio([a], [b]), stats.ratio([b], [a])
    assert there.value is not None
    assert back.value == pytest.approx(1 / there.value)
    assert back.ci_low == pytest.approx(1 / (there.ci_high or 0))


def test_ratio_of_one_value_each_has_no_interval() -> None:
    """One repeat on each side gives a ratio, no interval, and no difference."""
    found = stats.ratio([[2.0]], [[1.0]])
    assert found.value == pytest.approx(2)
    assert (found.ci_low, found.ci_high) == (None, None)
    assert not found.differs


def test_ratio_without_values_is_undefined() -> None:
    """A side that has no values makes everything None."""
    assert stats.ratio([], [[1.0]]).value is None


def test_ratio_of_processes_counts_the_spread_between_them() -> None:
    """Identical cells are called different in about 1 of 20, not more, in spite of nesting."""
    source = random.Random(1)
    pairs = [[noisy(source, 100, 4, 5) for _ in range(2)] for _ in range(400)]
    called = sum(stats.ratio(a, b).differs for a, b in pairs)
    assert 6 <= called <= 34  # 20 expected; four binomial standard deviations


def test_ratio_of_single_processes_misses_the_spread_between_them() -> None:
    """The same repeats from one process each exclude 1 far too often, so that calls nothing."""
    source = random.Random(1)
    pairs = [[noisy(source, 100, 1, 5) for _ in range(2)] for _ in range(200)]
    found = [stats.ratio(a, b) for a, b in pairs]
    excluded = [ratio for ratio in found if not (ratio.ci_low or 0) <= 1 <= (ratio.ci_high or 0)]
    assert len(excluded) > 60
    assert not any(ratio.differs or ratio.between_processes for ratio in found)


def test_verdicts_of_speeds_and_answers_share_a_correction() -> None:
    """Forty speeds that say nothing keep an answer from being called that would be alone."""
    unclear = stats.ratio([[1.0], [1.1], [0.9]], [[1.0], [1.1], [0.9]])
    likely = stats.ratio([[2.0], [2.3], [2.1]], [[1.0], [1.3], [1.1]])
    assert stats.verdicts([likely]) == ["up"]
    alone = stats.verdicts_of([unclear], [None])
    assert alone == [("not_shown", "no_interval")]
    found = stats.verdicts_of([unclear] * 40, [None] * 39 + [likely])
    assert found == [("not_shown", "no_interval")] * 39 + [("not_shown", "chance")]


def test_ratio_of_single_processes_is_called_beyond_the_margin() -> None:
    """Half as fast is more than processes differ by; 10 % slower is not."""
    fast, slower, half = [[10.0, 10.1]], [[9.0, 9.1]], [[5.0, 5.1]]
    assert stats.ratio(half, fast).differs
    assert stats.ratio(fast, half).differs
    assert not stats.ratio(slower, fast).differs
    assert stats.ratio([*slower, [9.0]], [*fast, [10.0]]).differs


def test_blocked_ratio_cancels_the_speed_of_each_gpu() -> None:
    """Two GPUs of different speed give the same ratio inside each, so a narrow interval."""
    slow, fast = ([[10.0], [10.0]], [[8.0], [8.0]]), ([[20.0], [20.0]], [[16.0], [16.0]])
    found = stats.blocked_ratio([slow, fast])
    assert found.value == pytest.approx(1.25)
    assert found.ci_low == pytest.approx(1.25)
    assert found.differs


def test_blocked_ratio_of_one_process_a_side_is_students_paired_test() -> None:
    pairs = [(10.0, 8.0), (21.0, 16.0), (5.1, 4.1)]
    found = stats.blocked_ratio([([[above]], [[below]]) for above, below in pairs])
    logs = [math.log(above / below) for above, below in pairs]
    error = statistics.stdev(logs) / math.sqrt(3)
    assert found.value == pytest.approx(math.exp(statistics.fmean(logs)))
    assert found.log_error == pytest.approx(error)
    assert found.freedom == 2.0


def test_blocked_ratio_is_that_of_a_linear_model_of_gpu_and_side() -> None:
    """Beside ordinary least squares, with unequal numbers of processes on three GPUs."""
    blocks = [([2.0, 2.1], [1.0]), ([4.3], [2.0, 2.05, 1.95]), ([3.0], [1.4])]
    rows, logs = [], []
    for gpu, block in enumerate(blocks):
        for is_above, side in zip((1.0, 0.0), block, strict=True):
            rows += [[is_above, *(float(gpu == each) for each in range(3))] for _ in side]
            logs += [math.log(value) for value in side]
    design = np.array(rows)
    fitted, squares, *_ = np.linalg.lstsq(design, np.array(logs), rcond=None)
    freedom = len(rows) - 4
    error = math.sqrt(squares[0] / freedom * np.linalg.inv(design.T @ design)[0, 0])
    found = stats.blocked_ratio([([[a] for a in x], [[b] for b in y]) for x, y in blocks])
    assert found.value == pytest.approx(math.exp(fitted[0]))
    assert found.log_error == pytest.approx(error)
    assert found.freedom == freedom


def test_blocked_ratio_of_one_block_is_the_plain_ratio() -> None:
    """A block without values on one side does not count."""
    block = ([[2.0, 2.2], [2.1]], [[1.0], [1.1, 1.2]])
    assert stats.blocked_ratio([block, ([[1.0]], [])]) == stats.ratio(*block)


@given(st.lists(st.lists(st.floats(1, 9), min_size=1, max_size=4), min_size=2, max_size=5))
def test_nested_estimate_is_that_of_the_process_means(processes: list[list[float]]) -> None:
    """With several processes the interval is Student's over their means."""
    found, across = stats.nested(processes)
    means = [statistics.fmean(repeats) for repeats in processes]
    assert across
    assert found.mean == pytest.approx(statistics.fmean(means))
    assert found.count == sum(len(repeats) for repeats in processes)
    assert found.ci_low == stats.estimate(means).ci_low


def test_nested_estimate_of_one_process_is_that_of_its_repeats() -> None:
    """With one process the repeats are the draws, and the estimate says so."""
    found, across = stats.nested([[1.0, 2.0, 3.0]])
    assert not across
    assert found == stats.estimate([1.0, 2.0, 3.0])


@given(VALUES, st.sampled_from([0.01, 0.05, 0.2]))
def test_repeats_for_is_the_least_count_that_suffices(values: list[float], share: float) -> None:
    """The answer's interval is narrow enough; where it is small, one fewer is not."""
    count = stats.repeats_for(values, share)
    assert count is not None
    spread, mean = statistics.stdev(values), statistics.fmean(values)

    def half(draws: int) -> float:
        return float(scipy_stats.t.ppf(0.975, draws - 1)) * spread / math.sqrt(draws)

    assert half(count) <= share * mean * (1 + 1e-9)
    if 2 < count < 50:
        assert half(count - 1) > share * mean * (1 - 1e-9)


def test_repeats_for_is_undefined_below_two_values() -> None:
    """One value tells nothing of the spread."""
    assert stats.repeats_for([1.0], 0.01) is None

"""Statistics of repeats.

Pure functions. One value has no spread: where an interval is undefined the answer is None, never 0.
"""

from __future__ import annotations

import dataclasses
import math
import operator
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

# ``up`` or ``down`` where a difference is called; ``chance`` where its interval excludes equality
# but the correction for all that was compared does not call it.
Verdict = Literal["up", "down", "not_shown", "chance", "no_interval"]

CONFIDENCE = 0.95
# Of two processes of one cell 95 in 100 lay closer than this where nothing differed (docs/LOG.md,
# "Are equal cells called equal?"). One process a side does not show that spread: it is allowed for.
ONE_PROCESS_MARGIN = 1.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What repeats of one quantity say about it.

    Attributes:
        count: repeats.
        median: middle value; None without repeats.
        mean: arithmetic mean; None without repeats.
        ci_low: lower end of the 95 % interval of the mean; None below two repeats.
        ci_high: upper end of it.
    """

    count: int
    median: float | None
    mean: float | None
    ci_low: float | None
    ci_high: float | None


def estimate(values: Sequence[float]) -> Estimate:
    """Return median, mean and the 95 % Student t interval of the mean.

    The values are taken as independent draws from one normal distribution.
    Source: Student (1908), The Probable Error of a Mean.
    """
    if not values:
        return Estimate(count=0, median=None, mean=None, ci_low=None, ci_high=None)
    mean = statistics.fmean(values)
    half = half_width(values)
    return Estimate(
        count=len(values),
        median=statistics.median(values),
        mean=mean,
        ci_low=None if half is None else mean - half,
        ci_high=None if half is None else mean + half,
    )


def wilson(successes: float, trials: int) -> tuple[float, float] | None:
    """Return the 95 % Wilson score interval of a share, or None without trials.

    Unlike the share plus or minus its standard error it stays within 0 and 1, and says something
    where all or none succeed.

    Args:
        successes: 0 to ``trials``; a mean over passes need not be whole.
        trials: independent ones.

    Source: Wilson (1927), Probable Inference, the Law of Succession, and Statistical Inference.
    """
    if trials < 1:
        return None
    from scipy import special

    z2 = float(special.ndtri((1 + CONFIDENCE) / 2)) ** 2
    share = successes / trials
    centre = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    half = math.sqrt(z2 * (share * (1 - share) / trials + z2 / (4 * trials**2))) / (1 + z2 / trials)
    # At either end the formula gives the end itself, up to rounding.
    low = 0.0 if successes <= 0 else max(0.0, centre - half)
    high = 1.0 if successes >= trials else min(1.0, centre + half)
    return low, high


def half_width(values: Sequence[float]) -> float | None:
    """Return half the 95 % t interval of the mean, in the unit of the values."""
    if len(values) < 2:  # noqa: PLR2004  (one value has no spread)
        return None
    from scipy import special

    t = special.stdtrit(len(values) - 1, (1 + CONFIDENCE) / 2)
    return float(t) * _spread(values) / math.sqrt(len(values))


def _spread(values: Sequence[float]) -> float:
    """Return the standard deviation; ``statistics.stdev`` computes in fractions, for 0.1 ms."""
    mean = statistics.fmean(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """How much larger one quantity is than another.

    Attributes:
        value: ratio of the geometric means; None without values on both sides.
        ci_low: lower end of the 95 % interval of the ratio; None where spread is unknown.
        ci_high: upper end of it.
        between_processes: the interval counts the spread between engine processes, not only that
            of the repeats inside one.
        log_error: standard error of the ratio's logarithm; None where there is no interval.
        freedom: degrees of freedom of that error.
    """

    value: float | None
    ci_low: float | None
    ci_high: float | None
    between_processes: bool
    log_error: float | None = None
    freedom: float | None = None

    @property
    def margin(self) -> float:
        """The ratio that equal quantities may have without chance between repeats; at least 1."""
        return 1.0 if self.between_processes else ONE_PROCESS_MARGIN

    @property
    def differs(self) -> bool:
        """The interval excludes 1, and what processes differ by; False without an interval."""
        if self.ci_low is None or self.ci_high is None:
            return False
        return self.ci_low > self.margin or self.ci_high < 1 / self.margin

    @property
    def is_larger(self) -> bool:
        return (self.value or 0) > 1

    @property
    def inverse(self) -> Ratio:
        value, low, high = (
            None if end is None else 1 / end for end in (self.value, self.ci_high, self.ci_low)
        )
        return dataclasses.replace(self, value=value, ci_low=low, ci_high=high)

    @property
    def p_differs(self) -> float | None:
        """How often equal quantities would come out as far apart; None without an interval.

        Two-sided t test on the logarithm, of what goes beyond the margin.
        """
        if self.value is None or self.log_error is None or self.freedom is None:
            return None
        from scipy import special

        distance = max(0.0, abs(math.log(self.value)) - math.log(self.margin))
        if not self.log_error:
            return 0.0 if distance else 1.0
        return float(2 * special.stdtr(self.freedom, -distance / self.log_error))


Processes = Sequence[Sequence[float]]


def nested(processes: Processes) -> tuple[Estimate, bool]:
    """Return the estimate of a quantity repeated inside processes, and whether it counts them.

    Repeats inside a process are alike in what differs between processes, so with two processes or
    more each counts as one draw: the mean of its repeats. With one, the repeats are the draws and
    the interval says nothing of another process.
    """
    pooled = [value for repeats in processes for value in repeats]
    across = len(processes) > 1
    found = estimate([statistics.fmean(repeats) for repeats in processes] if across else pooled)
    median = statistics.median(pooled) if pooled else None
    return dataclasses.replace(found, count=len(pooled), median=median), across


def ratio(numerator: Processes, denominator: Processes) -> Ratio:
    """Return numerator / denominator with Welch's 95 % t interval, taken on logarithms.

    Each side is a list of processes, each a list of positive repeats. With two processes or more on
    both sides a process is one draw, otherwise a repeat is.

    Source: Welch (1947), The generalization of "Student's" problem; the logarithm makes the ratio a
    difference and the interval of b / a the inverse of that of a / b.
    """
    across = min(len(numerator), len(denominator)) > 1
    above, below = (_draws(side, across=across) for side in (numerator, denominator))
    if not above or not below:
        return Ratio(value=None, ci_low=None, ci_high=None, between_processes=False)
    center = statistics.fmean(above) - statistics.fmean(below)
    return _ratio(center, _welch(above, below), between_processes=across)


def blocked_ratio(blocks: Sequence[tuple[Processes, Processes]]) -> Ratio:
    """Return the ratio where both sides were measured on several GPUs, a block each.

    A GPU's own speed cancels inside its block. With one block it is ``ratio``; with more a process
    is a draw, and the interval is that of a linear model of GPU and side. A block without values
    on both sides does not count.

    Source: Fisher (1935), The Design of Experiments, on randomized blocks; with unequal numbers of
    processes blocks weigh as much as they tell, and with one a side it is Student's paired test.
    """
    whole = [block for block in blocks if any(block[0]) and any(block[1])]
    if len(whole) < 2:  # noqa: PLR2004  (one block, or none, has no spread between blocks)
        return ratio(*whole[0]) if whole else ratio([], [])
    sides = [[_draws(side, across=True) for side in block] for block in whole]
    apart = [statistics.fmean(above) - statistics.fmean(below) for above, below in sides]
    weights = [len(a) * len(b) / (len(a) + len(b)) for a, b in sides]
    center = math.fsum(map(operator.mul, weights, apart)) / math.fsum(weights)
    between = math.fsum(w * (each - center) ** 2 for w, each in zip(weights, apart, strict=True))
    inside = math.fsum(_squares(side) for block in sides for side in block)
    freedom = sum(len(a) + len(b) for a, b in sides) - len(sides) - 1
    error = math.sqrt((between + inside) / freedom / math.fsum(weights))
    return _ratio(center, (error, float(freedom)), between_processes=True)


def _squares(values: Sequence[float]) -> float:
    """Return the sum of squared distances from the mean."""
    mean = statistics.fmean(values)
    return math.fsum((value - mean) ** 2 for value in values)


def holm(p_values: Sequence[float], chance: float, *, most: int | None = None) -> list[bool]:
    """Tell which of several tests may be called, with at most ``chance`` of any false call.

    Unlike Bonferroni's, the limit loosens as tests are called; they need not be independent.

    Args:
        p_values: of the tests.
        chance: of any false call.
        most: how many of the hypotheses can be true at once; None: all.

    Source: Holm (1979), A Simple Sequentially Rejective Multiple Test Procedure; ``most`` from
    Shaffer (1986), Modified Sequentially Rejective Multiple Test Procedures.
    """
    called = [False] * len(p_values)
    for num_called, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        left = len(p_values) - num_called
        if p_values[index] > chance / max(1, left if most is None else min(left, most)):
            break
        called[index] = True
    return called


class Tested(Protocol):
    """A comparison that may be called: of speeds (``Ratio``), or of answers."""

    @property
    def p_differs(self) -> float | None: ...

    @property
    def differs(self) -> bool: ...

    @property
    def is_larger(self) -> bool: ...


def verdicts(tests: Sequence[Tested]) -> list[Verdict]:
    """Return the verdict on each of several comparisons that are shown together."""
    known = [(index, p) for index, test in enumerate(tests) if (p := test.p_differs) is not None]
    called = holm([p for _, p in known], 1 - CONFIDENCE)
    of_index = {index: call for (index, _), call in zip(known, called, strict=True)}
    return [_verdict(test, of_index.get(index)) for index, test in enumerate(tests)]


def verdicts_of(
    speeds: Sequence[Tested], answers: Sequence[Tested | None]
) -> list[tuple[Verdict, Verdict]]:
    """Return the verdicts on the speed and on the answers of each of several comparisons.

    All are called under one correction; answers that were not compared have no interval.
    """
    known = [each for each in answers if each is not None]
    found = iter(verdicts([*speeds, *known]))
    of_speeds = [next(found) for _ in speeds]
    of_answers: list[Verdict] = ["no_interval" if each is None else next(found) for each in answers]
    return list(zip(of_speeds, of_answers, strict=True))


def num_tests(speeds: Sequence[Tested], answers: Sequence[Tested | None]) -> int:
    """Return how many comparisons ``verdicts_of`` corrects for."""
    tests = [*speeds, *(each for each in answers if each is not None)]
    return sum(test.p_differs is not None for test in tests)


def _verdict(test: Tested, called: bool | None) -> Verdict:  # noqa: FBT001
    if called is None:
        return "no_interval"
    if called:
        return "up" if test.is_larger else "down"
    return "chance" if test.differs else "not_shown"


def repeats_for(values: Sequence[float], share: float) -> int | None:
    """Return how many draws would make the 95 % interval ``share`` of the mean wide on each side.

    The spread of ``values`` is taken as known; the t quantile goes with the answer, so it is found
    by trying. None below two values. At least 2.
    """
    if len(values) < 2:  # noqa: PLR2004
        return None
    from scipy import special

    mean, spread = statistics.fmean(values), statistics.stdev(values)
    wanted, count = abs(mean) * share, 2
    while special.stdtrit(count - 1, (1 + CONFIDENCE) / 2) * spread > wanted * math.sqrt(count):
        count = max(count + 1, int(count * 1.02))
    return count


def _draws(processes: Processes, *, across: bool) -> list[float]:
    logs = [[math.log(value) for value in repeats] for repeats in processes if repeats]
    if across:
        return [statistics.fmean(repeats) for repeats in logs]
    return [value for repeats in logs for value in repeats]


def _ratio(center: float, spread: tuple[float, float] | None, *, between_processes: bool) -> Ratio:
    """Return the ratio whose logarithm is ``center``; ``spread`` is its error and freedom."""
    if spread is None:
        value = math.exp(center)
        return Ratio(value=value, ci_low=None, ci_high=None, between_processes=between_processes)
    from scipy import special

    error, freedom = spread
    half = float(special.stdtrit(freedom, (1 + CONFIDENCE) / 2)) * error
    return Ratio(
        value=math.exp(center),
        ci_low=math.exp(center - half),
        ci_high=math.exp(center + half),
        between_processes=between_processes,
        log_error=error,
        freedom=freedom,
    )


def _welch(above: Sequence[float], below: Sequence[float]) -> tuple[float, float] | None:
    """Return error and freedom of a difference of means; None where one side has no spread."""
    if min(len(above), len(below)) < 2:  # noqa: PLR2004
        return None
    parts = [statistics.variance(side) / len(side) for side in (above, below)]
    if not sum(parts):
        return 0.0, float(len(above) + len(below) - 2)
    freedom = sum(parts) ** 2 / sum(
        part**2 / (len(side) - 1) for part, side in zip(parts, (above, below), strict=True)
    )
    return math.sqrt(sum(parts)), freedom

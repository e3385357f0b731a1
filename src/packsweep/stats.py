"""Statistics of repeats.

Pure functions. One value has no spread: where an interval is undefined the answer is None, never 0.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95


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


def half_width(values: Sequence[float]) -> float | None:
    """Return half the 95 % t interval of the mean, in the unit of the values."""
    if len(values) < 2:  # noqa: PLR2004  (one value has no spread)
        return None
    from scipy import special

    t = special.stdtrit(len(values) - 1, (1 + CONFIDENCE) / 2)
    return float(t) * statistics.stdev(values) / math.sqrt(len(values))

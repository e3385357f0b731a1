"""Where attainment, which falls with the rate, crosses the share that an SLO asks for.

Between two rates the share of violations is taken to grow as a power of the rate: near the limit of
a queue it multiplies from one rate to the next, and a straight line would put the crossing too low.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from packsweep.traffic.attainment import Evidence

Array = NDArray[np.float64]

_DRAWS = 1000
# Jeffreys's prior: half a violation and half a request that kept the SLO. A share is then never 0.
_PRIOR = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Crossing:
    """A rate in texts/s, and the ends of its interval."""

    rate: float
    ci_low: float
    ci_high: float


def crossing(rates: Sequence[float], shown: Sequence[Evidence], share: float) -> Crossing:
    """Return where an isotonic fit through all rates crosses ``share``, with its 95 % interval.

    The interval is a parametric bootstrap: the violations at each rate are drawn anew, among as
    many requests as count as independent, and fitted again.

    Args:
        rates: ascending.
        shown: at each.
        share: that the SLO asks for.
    """
    requests = np.array([each.num_requests / each.design_effect for each in shown])
    broken = np.array([each.num_violations / each.design_effect for each in shown])
    random = np.random.default_rng(0)
    kept = requests - broken
    draws = random.beta(broken + _PRIOR, kept + _PRIOR, (_DRAWS, len(requests)))
    at = np.array(rates)
    crossings = [_crossed(at, _falling(1 - drawn, requests), share) for drawn in draws]
    low, high = np.quantile(crossings, [0.025, 0.975]).tolist()
    attainment = (kept + _PRIOR) / (requests + 2 * _PRIOR)
    return Crossing(
        rate=_crossed(at, _falling(attainment, requests), share), ci_low=low, ci_high=high
    )


def _falling(attainment: Array, weights: Array) -> Array:
    """Return the nearest attainment that falls with the rate."""
    fit = optimize.isotonic_regression(attainment, weights=weights, increasing=False)
    return np.asarray(fit.x, float)


def _crossed(rates: Array, attainment: Array, share: float) -> float:
    """Return the rate at which a falling curve reaches ``share``; the nearest if it does not."""
    last = int(np.sum(attainment >= share)) - 1
    if last < 0:
        return float(rates[0])
    if last == len(rates) - 1:
        return float(rates[-1])
    before, after = np.log(1 - attainment[last : last + 2])
    part = (np.log(1 - share) - before) / (after - before)
    return float(rates[last] * (rates[last + 1] / rates[last]) ** part)

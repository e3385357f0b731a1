"""Where attainment, which falls with the rate, crosses the share that an SLO asks for.

Between two rates the share of violations is taken to grow as a power of the rate: near the limit of
a queue it multiplies from one rate to the next, and a straight line would put the crossing too low.

The crossing has no interval of its own. Bootstraps over batches, and over violations that count as
independent, held the true limit of a simulated queue less often than they said (docs/LOG.md); the
rates that are shown to pass and to fail held it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from packsweep.traffic.search.attainment import Evidence

Array = NDArray[np.float64]

# Jeffreys's prior: half a violation and half a request that kept the SLO. A share is then never 0.
_PRIOR = 0.5


def crossing(rates: Sequence[float], shown: Sequence[Evidence], share: float) -> float:
    """Return the rate at which an isotonic fit through all rates crosses ``share``.

    A rate weighs as much as its requests that count as independent.

    Args:
        rates: ascending, at least one on each side.
        shown: at each.
        share: that the SLO asks for.
    """
    requests = np.array([each.num_requests / each.design_effect for each in shown])
    broken = np.array([each.num_violations / each.design_effect for each in shown])
    kept = (requests - broken + _PRIOR) / (requests + 2 * _PRIOR)
    fit = optimize.isotonic_regression(kept, weights=requests, increasing=False)
    return _crossed(np.array(rates), np.asarray(fit.x, float), share)


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

"""When requests arrive in an open loop.

The gaps of a seed are the same draws whatever the rate, so that strategies and rates compared at
one seed differ by what they do and not by their luck (common random numbers). They are not scaled
afterwards: ``vllm bench serve`` stretches them so that the last request arrives at exactly their
number over the rate, which takes away the spread that a Poisson process has.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Literal, get_args

import numpy as np

from packsweep.errors import UserError, shown

Arrivals = Literal["poisson", "constant"]


def requests_per_s(texts_per_s: float, texts_per_request: float) -> float:
    """Return the rate of requests that brings a rate of texts.

    Raises:
        UserError: the rate is not above 0.
    """
    if not (math.isfinite(texts_per_s) and texts_per_s > 0):
        raise UserError(f"rate {shown(texts_per_s)}: it must be above 0 texts/s")
    return texts_per_s / texts_per_request


def arrivals(
    kind: Arrivals, rate: float, *, duration_s: float, seed: int = 0, repeat: int = 0
) -> tuple[float, ...]:
    """Return the times below ``duration_s`` at which requests arrive, in seconds.

    Args:
        kind: ``poisson``: independent exponential gaps. ``constant``: equal gaps, the first request
            at half of one, so that any duration holds the rate.
        rate: requests/s: see ``requests_per_s``.
        duration_s: length of the window.
        seed: of the sweep.
        repeat: each has draws of its own.
    """
    if kind not in get_args(Arrivals):
        known = " or ".join(get_args(Arrivals))
        raise UserError(f"arrivals {shown(kind)}: write {known}")
    gaps = _exponential_gaps(seed, repeat) if kind == "poisson" else _equal_gaps()
    times = (units / rate for units in itertools.accumulate(gaps))
    return tuple(itertools.takewhile(lambda time_s: time_s < duration_s, times))


def _exponential_gaps(seed: int, repeat: int) -> Iterator[float]:
    """Give exponential draws of mean 1, one of each uniform draw, without end."""
    random = np.random.default_rng(np.random.SeedSequence((seed, repeat)))
    while True:
        yield from (-np.log1p(-random.random(1024))).tolist()


def _equal_gaps() -> Iterator[float]:
    yield 0.5
    yield from itertools.repeat(1.0)

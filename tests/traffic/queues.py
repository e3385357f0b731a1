"""Queues whose limit is known, to be searched by ``max_rate``.

Customers arrive as Poisson does. ``MD1`` serves them one by one, each in the same time; ``Batches``
serves all that wait, up to a number, in a time that grows with them, as an engine does in steps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Queue(Protocol):
    """Takes ascending times of arrival and returns the times at which customers leave."""

    def leave_s(self, arrived_s: Array) -> Array: ...


@dataclass(frozen=True)
class MD1:
    """One server, a constant time of service."""

    service_s: float

    def leave_s(self, arrived_s: Array) -> Array:
        """Customer i leaves ``service_s`` after it arrived or after the one before it left."""
        served_s = self.service_s * np.arange(len(arrived_s))
        begins_s: Array = np.maximum.accumulate(arrived_s - served_s) + served_s
        return begins_s + self.service_s


@dataclass(frozen=True)
class Batches:
    """One server; k customers at once take ``fixed_s`` + k x ``each_s``."""

    fixed_s: float
    each_s: float
    most: int

    def leave_s(self, arrived_s: Array) -> Array:
        leave = np.empty_like(arrived_s)
        first, free_s = 0, 0.0
        while first < len(arrived_s):
            begins_s = max(free_s, float(arrived_s[first]))
            waiting = int(np.searchsorted(arrived_s, begins_s, "right"))
            last = min(waiting, first + self.most)
            free_s = begins_s + self.fixed_s + self.each_s * (last - first)
            leave[first:last] = free_s
            first = last
        return leave


def md1_attainment(rate: float, service_s: float, limit_s: float) -> float:
    """Return the share of customers that leave within ``limit_s`` of their arrival.

    Source: Franx (2001), A Simple Solution for the M/D/c Waiting Time Distribution, for one server;
    the number in the system from its generating function, (1 - r)(1 - z)A(z) / (A(z) - z) with
    A(z) = exp(-r(1 - z)).
    """
    load, wait_s = rate * service_s, limit_s - service_s
    if wait_s < 0 or load >= 1:
        return 0.0
    z = np.exp(-2j * np.pi * np.arange(1, 1 << 14) / (1 << 14))
    of_services = np.exp(-load * (1 - z))
    values = (1 - load) * (1 - z) * of_services / (of_services - z)
    in_system = np.fft.ifft(np.concatenate([[1.0], values])).real
    in_queue_at_most = np.cumsum(in_system)[1:]
    steps = math.floor(wait_s / service_s) + 1
    mean = rate * (steps * service_s - wait_s)
    j = np.arange(steps)
    terms = np.exp(-mean + j * math.log(mean) - np.array([math.lgamma(n + 1) for n in j]))
    return float(np.sum(terms * in_queue_at_most[steps - 1 - j]))


def md1_limit(service_s: float, limit_s: float, share: float) -> float:
    """Return the rate at which exactly ``share`` of the customers leave within ``limit_s``."""
    low, high = 0.0, 1 / service_s
    for _ in range(60):
        middle = (low + high) / 2
        above = md1_attainment(middle, service_s, limit_s) >= share
        low, high = (middle, high) if above else (low, middle)
    return low

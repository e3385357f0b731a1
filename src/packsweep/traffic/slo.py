"""A service level objective, such as ``p99 e2e <= 500 ms``, and who keeps it.

A request keeps it if it is whole and its latency is within the limit. An error breaks it, and so
does a request without an end.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from packsweep.errors import UserError, shown
from packsweep.traffic.window import Response

_METRICS = ("ttft", "tpot", "e2e")  # ITL is no figure of a request
_PER_S = {"ms": 1000.0, "s": 1.0}
# Of the time that is judged, how much passes before it. Or so many times the limit, if that is
# longer: queues as long as allowed have built up.
_SETTLE_SHARE = 0.1
_SETTLE_LIMITS = 4.0
_LONGEST_S = 86_400.0  # a limit
_EXAMPLE = 'write it as "p99 e2e <= 500 ms"'
_SHAPE = re.compile(
    r"p(?P<percent>[\d.]+) \s+ (?P<metric>\w+) \s* <= \s* (?P<limit>[\d.]+) \s* (?P<unit>\w*)",
    re.VERBOSE | re.IGNORECASE | re.ASCII,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Slo:
    """What share of requests must have which latency within a limit.

    Attributes:
        percent: 99 of a p99.
        metric: ``ttft``, ``tpot`` or ``e2e``, from the scheduled arrival.
        limit_s: the longest that keeps it.
    """

    percent: float
    metric: str
    limit_s: float

    def __str__(self) -> str:
        """Return it as it is written."""
        small = self.limit_s < 1
        limit = f"{self.limit_s * 1000:g} ms" if small else f"{self.limit_s:g} s"
        return f"p{self.percent:g} {self.metric} <= {limit}"

    @property
    def share(self) -> float:
        return self.percent / 100

    def settle_s(self, judged_s: float) -> float:
        """Return how long a window runs before ``judged_s`` of it are judged."""
        return max(_SETTLE_SHARE * judged_s, _SETTLE_LIMITS * self.limit_s)

    def judged_s(self, window_s: float) -> float:
        """Return how much of a whole window is judged."""
        return min(window_s / (1 + _SETTLE_SHARE), window_s - _SETTLE_LIMITS * self.limit_s)

    def latency_s(self, response: Response) -> float:
        """Return the latency compared with the limit; infinite where the request failed.

        An answer of one token has no TPOT, so it keeps any limit: 0.
        """
        if response.error is not None:
            return float("inf")
        latency_s: float | None = getattr(response, f"{self.metric}_s")
        return 0.0 if latency_s is None else latency_s

    def applies_to(self, response: Response) -> bool:
        """Tell whether a request has the latency at all."""
        return getattr(response, f"{self.metric}_s") is not None

    def is_kept(self, response: Response) -> bool:
        return self.latency_s(response) <= self.limit_s

    def attainment(self, responses: Sequence[Response]) -> float | None:
        """Return the share of requests that keep it; None without requests."""
        return sum(map(self.is_kept, responses)) / len(responses) if responses else None


def parse(text: str) -> Slo:
    """Read an SLO.

    Raises:
        UserError: it cannot be read; says what is wrong.
    """
    parts = _SHAPE.fullmatch(text.strip())
    if parts is None:
        raise UserError(f"SLO {shown(text)}: it cannot be read; {_EXAMPLE}")
    metric, unit = parts["metric"].lower(), parts["unit"].lower()
    if metric not in _METRICS:
        raise UserError(f"SLO {shown(text)}: {metric} is not one of {', '.join(_METRICS)}")
    if unit not in _PER_S:
        problem = f"the unit {unit} is not known" if unit else "the limit has no unit"
        raise UserError(f"SLO {shown(text)}: {problem}; write ms or s")
    percent, limit = _number(text, parts["percent"]), _number(text, parts["limit"])
    if not 0 < percent < 100:  # noqa: PLR2004  (no sample shows that all requests keep a limit)
        raise UserError(f"SLO {shown(text)}: p{percent:g} must lie between p0 and p100; {_EXAMPLE}")
    if not 0 < limit / _PER_S[unit] <= _LONGEST_S:
        raise UserError(f"SLO {shown(text)}: the limit must be above 0 and at most a day")
    return Slo(percent=percent, metric=metric, limit_s=limit / _PER_S[unit])


def _number(text: str, digits: str) -> float:
    try:
        return float(digits)
    except ValueError:  # such as two points
        raise UserError(f"SLO {shown(text)}: {digits} is no number; {_EXAMPLE}") from None

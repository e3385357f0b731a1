"""Whether a window measured the server, or its own client."""

from __future__ import annotations

from packsweep.traffic.slo import Slo
from packsweep.traffic.window import Window

_DELAY_SHARE = 0.01  # of the SLO's limit: a request sent that late is judged wrong by as much
_RATE_SHARE = 0.01
# A client that could send five times as much does not queue: its CPU time a request is the measure,
# and that falls as the rate grows.
_CEILING = 5.0


def doubts(window: Window, slo: Slo | None = None) -> tuple[str, ...]:
    """Return why a window does not count, a line each; nothing of a valid one."""
    checks = (
        _limits(window),
        _undefined(window, slo),
        _delay(window, slo),
        _rate(window),
        _ceiling(window),
    )
    return tuple(doubt for doubt in checks if doubt is not None)


def rate_held(window: Window) -> float | None:
    """Return the rate of dispatch over that of the schedule; None of a closed loop.

    From the first request to the last. It falls below 1 where a client falls behind.
    """
    times = [
        (response.scheduled_s, response.dispatched_s)
        for response in window.responses
        if response.scheduled_s is not None
    ]
    if not times or times[-1][0] == times[0][0]:
        return None
    return (times[-1][0] - times[0][0]) / (times[-1][1] - times[0][1])


def _limits(window: Window) -> str | None:
    lacking = sum(response.error == "client_limit" for response in window.responses)
    if not lacking:
        return None
    return (
        f"this machine had no socket left for {lacking:,} requests: raise the limit on open files"
    )


def _undefined(window: Window, slo: Slo | None) -> str | None:
    """Return that nothing could break the SLO: an answer of one token has no TPOT."""
    whole = [response for response in window.responses if response.error is None]
    if slo is None or not whole or any(slo.applies_to(response) for response in whole):
        return None
    return f"no answer has a second token, so none has a {slo.metric}: set online.slo to e2e"


def _delay(window: Window, slo: Slo | None) -> str | None:
    delay_s = window.dispatch_delay_p99_s
    if slo is None or delay_s is None or delay_s < _DELAY_SHARE * slo.limit_s:
        return None
    return (
        f"requests were sent {delay_s * 1000:.3g} ms late (p99), "
        f"which is {_DELAY_SHARE:.0%} or more of the SLO's {slo.limit_s * 1000:g} ms: the client "
        "needs an idle processor, or the SLO a longer limit"
    )


def _rate(window: Window) -> str | None:
    held = rate_held(window)
    if held is None or held >= 1 - _RATE_SHARE:
        return None
    return f"the client sent {held:.1%} of the requested rate"


def _ceiling(window: Window) -> str | None:
    if window.busy_share * _CEILING <= 1:
        return None
    return (
        f"the client used {window.busy_share:.0%} of a processor, so it could send "
        f"{1 / window.busy_share:.1f} times the rate; it should be {_CEILING:g} times"
    )

"""What windows at one rate show about the share of requests that keep an SLO.

Requests of one window are not independent: a queue that is long for one is long for the next. So
the unit is a batch of time, and requests count for as many as the spread between batches allows:

    design effect = variance of violations between batches / variance if requests were independent

taken at the length of batch where it is largest, from the finest to the coarsest that leaves enough
batches, since batches shorter than the correlation time hide it. With few violations their own
spread says little; then the spread of the requests above a lower latency, which ten times as many
exceed, stands in for it. Queues stay above that for longer, so this errs on the safe side.

The interval of the share is Clopper and Pearson's, with requests and violations divided by the
design effect. Without a violation and with independent requests that is the known rule: a p99 takes
299 requests at 95 %.

What happens less often than a few times in all windows of a rate, such as a pause once in ten
minutes, is beyond them, and of any interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from packsweep.traffic.slo import Slo
from packsweep.traffic.window import Window, in_flight

Array = NDArray[np.float64]

CONFIDENCE = 0.95
_FINEST = 128  # batches, over all windows of a rate
_FEWEST = 16
_ENOUGH_VIOLATIONS = 10.0  # counted as independent; from here on their own spread is taken
_LEVEL = 10.0  # times as many requests exceed the lower latency as may exceed the limit
_IN_FLIGHT_SAMPLES = 512
# How many times what was judged may be missing, and in how many steps that is looked for.
_MOST_TIMES = 10_000.0
_NUM_TIMES = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One window as it is judged.

    Attributes:
        arrived_s: when each request arrived, ascending, from ``begins_s`` on.
        latency_s: of each, as the SLO takes it; infinite of an error.
        in_flight: requests that had arrived and not ended, at times evenly spaced.
        begins_s: when the window had settled.
        ends_s: when it ended.
    """

    arrived_s: Array
    latency_s: Array
    in_flight: Array
    begins_s: float
    ends_s: float

    @property
    def length_s(self) -> float:
        return self.ends_s - self.begins_s


def observe(window: Window, slo: Slo, settle_s: float) -> Observation:
    """Return what a window shows of an SLO after its first ``settle_s``."""
    responses = sorted(window.responses, key=lambda response: response.arrived_s)
    judged = [response for response in responses if response.arrived_s >= settle_s]
    times_s = np.linspace(settle_s, window.duration_s, _IN_FLIGHT_SAMPLES)
    return Observation(
        arrived_s=np.array([response.arrived_s for response in judged]),
        latency_s=np.array([slo.latency_s(response) for response in judged]),
        in_flight=np.array(in_flight(window.responses, times_s.tolist()), float),
        begins_s=settle_s,
        ends_s=window.duration_s,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What is known of one rate.

    Attributes:
        num_requests: requests that were judged.
        num_violations: of these, those that broke the SLO.
        ci_low: lower end of the interval of the attainment.
        ci_high: upper end of it.
        design_effect: requests that count as one.
        length_s: time that was judged.
        backlog_per_s: slope of the requests in flight, in requests/s.
        backlog_ci_low: lower end of its interval.
    """

    num_requests: int
    num_violations: int
    ci_low: float
    ci_high: float
    design_effect: float
    length_s: float
    backlog_per_s: float
    backlog_ci_low: float

    @property
    def attainment(self) -> float | None:
        return 1 - self.num_violations / self.num_requests if self.num_requests else None

    def needed_s(self, share: float, error: float) -> float | None:
        """Return how long a rate is to be judged until its verdict falls, if all stays the same.

        Returns:
            None where no time would tell: the attainment lies at the share that is asked for.
        """
        for times in np.geomspace(1.0, _MOST_TIMES, _NUM_TIMES).tolist():
            low, high = self.interval_after(times, error)
            if low >= share or high < share:
                return float(times * self.length_s)
        return None

    def interval_after(self, times: float, error: float) -> tuple[float, float]:
        """Return the interval of the attainment if ``times`` as much showed the same.

        Of too few requests it is not known how far they count as one: they may be independent.
        """
        effect = self.design_effect if self.num_requests >= _FEWEST else 1.0
        independent = times / effect
        violations = self.num_violations * independent
        low, high = _share(violations, self.num_requests * independent, error)
        return 1 - high, 1 - low


def evidence(observations: Sequence[Observation], slo: Slo, error: float) -> Evidence:
    """Return what the windows of one rate show.

    Args:
        observations: at least one.
        slo: what is to be kept.
        error: chance that an end of an interval is on the wrong side.
    """
    latency_s = np.concatenate([each.latency_s for each in observations])
    num_violations = int(np.sum(latency_s > slo.limit_s))
    effect = _design_effect(observations, slo, error)
    low, high = _share(num_violations / effect, len(latency_s) / effect, error)
    slope, slope_low = _backlog(observations, error)
    return Evidence(
        num_requests=len(latency_s),
        num_violations=num_violations,
        ci_low=1 - high,
        ci_high=1 - low,
        design_effect=effect,
        length_s=sum(each.length_s for each in observations),
        backlog_per_s=slope,
        backlog_ci_low=slope_low,
    )


def interval(windows: Sequence[Window], slo: Slo) -> tuple[float, float] | None:
    """Return the 95 % interval of the attainment over batches of windows; None without requests."""
    observations = [observe(window, slo, settle_s=0.0) for window in windows if window.responses]
    if not observations:
        return None
    shown = evidence(observations, slo, (1 - CONFIDENCE) / 2)
    return shown.ci_low, shown.ci_high


def _batches(observations: Sequence[Observation], level_s: float, num: int) -> tuple[Array, Array]:
    """Return of about ``num`` batches of time the requests, and those with a longer latency."""
    width_s = sum(each.length_s for each in observations) / num
    requests, longer = [], []
    for each in observations:
        num_here = max(1, round(each.length_s / width_s))
        edges = np.linspace(each.begins_s, each.ends_s, num_here + 1)
        requests.append(np.histogram(each.arrived_s, edges)[0])
        longer.append(np.histogram(each.arrived_s[each.latency_s > level_s], edges)[0])
    return np.concatenate(requests).astype(float), np.concatenate(longer).astype(float)


def _design_effect(observations: Sequence[Observation], slo: Slo, error: float) -> float:
    """Return how many requests count as one: all of them where there are too few to tell."""
    latency_s = np.concatenate([each.latency_s for each in observations])
    if len(latency_s) < _FEWEST:
        return max(1.0, len(latency_s))
    own = _largest_effect(observations, slo.limit_s, error)
    if np.sum(latency_s > slo.limit_s) / own >= _ENOUGH_VIOLATIONS:
        return own
    share = 1 - min(_LEVEL * (1 - slo.share), 0.5)
    level_s = float(np.quantile(latency_s, share, method="higher"))
    return max(own, _largest_effect(observations, level_s, error))


def _largest_effect(observations: Sequence[Observation], level_s: float, error: float) -> float:
    """Return the largest design effect over lengths of batch, at least 1."""
    num_requests = sum(len(each.arrived_s) for each in observations)
    num = max(_FEWEST, min(_FINEST, num_requests // 2))
    largest = 1.0
    while num >= _FEWEST:
        largest = max(largest, _effect(*_batches(observations, level_s, num), error))
        num //= 2
    return largest


def _effect(requests: Array, longer: Array, error: float) -> float:
    """Return the design effect of one length of batch.

    The variance is known from so many batches only; Student's t allows for that.
    """
    share = longer.sum() / requests.sum()
    if share in {0.0, 1.0}:
        return 1.0
    freedom = len(requests) - 1
    variance = np.sum((longer - share * requests) ** 2) * len(requests) / freedom
    independent = requests.sum() * share * (1 - share)
    allowance = (special.stdtrit(freedom, error) / special.ndtri(error)) ** 2
    return float(variance / independent * allowance)


def _share(successes: float, trials: float, error: float) -> tuple[float, float]:
    """Return the interval of a share; the counts need not be whole.

    Source: Clopper and Pearson (1934), The Use of Confidence or Fiducial Limits.
    """
    failures = trials - successes
    low = special.betaincinv(successes, failures + 1, error) if successes > 0 else 0.0
    high = special.betaincinv(successes + 1, failures, 1 - error) if failures > 0 else 1.0
    return float(low), float(high)


def _backlog(observations: Sequence[Observation], error: float) -> tuple[float, float]:
    """Return the slope of the requests in flight and the lower end of its interval.

    One line is fitted through all windows, each with a height of its own, to the means of
    batches. What a residual has in common with the next one widens the interval.
    """
    times, heights = [], []
    for each in observations:
        means = [part.mean() for part in np.array_split(each.in_flight, _FEWEST)]
        middles = (np.arange(_FEWEST) + 0.5) * each.length_s / _FEWEST
        times.append(middles - middles.mean())
        heights.append(np.array(means) - np.mean(means))
    x, y = np.concatenate(times), np.concatenate(heights)
    slope = float(x @ y / (x @ x))
    residuals = [here - slope * when for here, when in zip(heights, times, strict=True)]
    square = sum(float(each @ each) for each in residuals)
    following = sum(float(each[1:] @ each[:-1]) for each in residuals)
    freedom = len(y) - len(observations) - 1
    common = min(max(following / square, 0.0), 0.9) if square else 0.0
    deviation = np.sqrt(square / freedom / (x @ x) * (1 + common) / (1 - common))
    return slope, float(slope + special.stdtrit(freedom, error) * deviation)

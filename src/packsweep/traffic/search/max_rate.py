"""Searches the highest rate at which a server keeps an SLO.

    search = Search(first_rate=10.0, slo=slo)
    while step := search.next():
        search.tell([drive ... at step.rate, for step.duration_s, with the draws of step.repeat])
    search.result()

A rate passes if the lower end of the interval of its attainment reaches the SLO's share, and the
requests in flight do not grow. It fails if the upper end does not reach it, or if requests pile up,
which no latency survives. Otherwise it is looked at again, for as long as a verdict takes if all
stays as it is, unless there is no time for that; then it is undecided.

Rates double, or halve, until one passes and one fails. Then the gaps beside the highest that
passes and beside the lowest that fails are halved until they are as narrow as asked for. What is
published is these two. The estimate between them is where an isotonic fit crosses the SLO's share.

The chance of a false verdict is spent evenly over the looks at a rate, half of it on passing and
half on failing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Literal

from packsweep.traffic.search.attainment import Evidence, Observation, evidence, observe
from packsweep.traffic.search.crossing import crossing
from packsweep.traffic.slo import Slo
from packsweep.traffic.window import Window

_MOST_DOUBLINGS = 20
# Time judged at one rate, in first looks at most.
_MOST_WINDOWS = 15
# A look is longer than its verdict is predicted to take, as the next requests may be less kind.
_ALLOWANCE = 1.15
# Windows that were not valid, before the rate is given up, and with it all higher ones.
_INVALID_LOOKS = 2
# This share of what arrives stays: no server recovers from that at the same rate.
_OVERLOAD = 0.1

Verdict = Literal["pass", "fail", "undecided"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A window that is to be driven.

    Attributes:
        rate: texts/s.
        duration_s: how long requests arrive.
        settle_s: how long the first of them do not count.
        repeat: of the seed; windows of one rate have different ones.
    """

    rate: float
    duration_s: float
    settle_s: float
    repeat: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """A rate that was tried.

    Attributes:
        rate: texts/s.
        verdict: what was shown.
        evidence: by what; None if no window of it counted.
    """

    rate: float
    verdict: Verdict
    evidence: Evidence | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a search showed.

    Attributes:
        rates: all that were tried, ascending.
        passes: highest rate that is shown to pass; None if none is.
        fails: lowest rate that is shown to fail; None if none is.
        estimate: where an isotonic fit crosses the SLO's share; None without both.
        driven_s: time that requests arrived, in all windows.
        is_cut: the search ended for want of time.
        reason: why it shows no more, and how long that would take; None if the bracket is narrow.
    """

    rates: tuple[Rate, ...]
    passes: float | None
    fails: float | None
    estimate: float | None
    driven_s: float
    is_cut: bool
    reason: str | None = None

    @property
    def verdict(self) -> Literal["bracketed", "none_passes", "none_fails", "undecided"]:
        """Between which rates the limit lies: two, below the lowest, above the highest, unknown."""
        if self.passes is not None:
            return "none_fails" if self.fails is None else "bracketed"
        return "undecided" if self.fails is None else "none_passes"


@dataclass(slots=True)
class Search:
    """Says which window is due, and takes what became of it.

    Attributes:
        first_rate: in texts/s.
        slo: what is to be kept.
        window_s: time judged at the first look at a rate; a further one takes twice the one before
            or what a verdict takes, whichever is longer.
        confidence: that the limit lies between the rates that pass and fail.
        resolution: how far apart two rates are, as a share, before the gap is left alone.
        looks: at one rate, at most.
        longest_s: time driven, in all; then the search ends with what is shown.
        highest_rate: that the client can drive.
    """

    first_rate: float
    slo: Slo
    _: KW_ONLY
    window_s: float = 60.0
    confidence: float = 0.95
    resolution: float = 0.05
    looks: int = 3
    longest_s: float = math.inf
    highest_rate: float = math.inf
    _observations: dict[float, list[Observation]] = field(init=False, default_factory=dict)
    _shown: dict[float, Evidence | None] = field(init=False, default_factory=dict)
    _num_looks: dict[float, int] = field(init=False, default_factory=dict)
    _verdicts: dict[float, Verdict] = field(init=False, default_factory=dict)
    _driven_s: float = field(init=False, default=0.0)

    @property
    def _error(self) -> float:
        return (1 - self.confidence) / 2 / self.looks

    def next(self) -> Step | None:
        """Return the window that is due; None when the search is over."""
        rate = self._rate()
        if rate is None:
            return None
        judged_s = self._due_s(rate)
        settle_s = self.slo.settle_s(judged_s)
        if self._driven_s + judged_s + settle_s > self.longest_s:
            return None
        look = self._num_looks.get(rate, 0)
        return Step(rate=rate, duration_s=judged_s + settle_s, settle_s=settle_s, repeat=look)

    def _due_s(self, rate: float) -> float:
        """Return how long the next look at a rate is to be judged."""
        look = self._num_looks.get(rate, 0)
        shown = self._shown.get(rate)
        if shown is None:
            return self.window_s * 2.0**look
        needed_s = shown.needed_s(self.slo.share, self._error) or 0.0
        longer_s = max(self.window_s * 2.0**look, _ALLOWANCE * needed_s - shown.length_s)
        return min(longer_s, self._left_s(shown))

    def _left_s(self, shown: Evidence) -> float:
        """Return how long a rate may still be judged, with one look left for a rate to fail."""
        time_s = self.longest_s - self._driven_s
        if self._fails() is None:
            time_s -= self.window_s + self.slo.settle_s(self.window_s)
        return min(_MOST_WINDOWS * self.window_s - shown.length_s, self.slo.judged_s(time_s))

    def tell(self, windows: Sequence[Window]) -> None:
        """Take the windows of the step that is due; none if they were not valid."""
        step = self.next()
        assert step is not None
        self.observe([observe(window, self.slo, step.settle_s) for window in windows])

    def observe(self, observations: Sequence[Observation]) -> None:
        """Do the same with windows as they are judged."""
        step = self.next()
        assert step is not None
        self._driven_s += step.duration_s
        self._observations.setdefault(step.rate, []).extend(observations)
        self._num_looks[step.rate] = self._num_looks.get(step.rate, 0) + 1
        seen = self._observations[step.rate]
        shown = evidence(seen, self.slo, self._error) if seen else None
        self._shown[step.rate] = shown
        verdict = self._judge(shown)
        if verdict != "undecided" or self._is_futile(shown, step.repeat + 1):
            self._verdicts[step.rate] = verdict

    def result(self) -> Result:
        """Return what is shown so far."""
        rates = tuple(
            Rate(rate=rate, verdict=self._verdict(rate), evidence=self._shown[rate])
            for rate in sorted(self._num_looks)
        )
        known = [(rate.rate, rate.evidence) for rate in rates if rate.evidence is not None]
        estimate = None
        if not self._is_open():
            tried, shown = zip(*known, strict=True)
            estimate = crossing(tried, shown, self.slo.share)
        is_cut = self.next() is None and self._rate() is not None
        return Result(
            rates=rates,
            passes=self._passes(),
            fails=self._fails(),
            estimate=estimate,
            driven_s=self._driven_s,
            is_cut=is_cut,
            reason=self._reason(rates, is_cut=is_cut),
        )

    def _reason(self, rates: Sequence[Rate], *, is_cut: bool) -> str | None:
        """Return why no more is shown, and how long that would take."""
        passes = self._passes()
        undecided = [
            rate
            for rate in rates
            if rate.verdict == "undecided" and (passes is None or rate.rate > passes)
        ]
        reasons = []
        if is_cut:
            reasons.append(f"stopped after {self._driven_s:.0f} of at most {self.longest_s:g} s")
        if undecided and (is_cut or self._is_open() or self._between() is not None):
            # What is missing first: a rate that passes, else one that fails.
            reasons.append(self._undecided(undecided[0 if passes is None else -1]))
        elif passes is None and self._fails() is not None:
            reasons.append(
                f"a rate below {rates[0].rate:g} texts/s brings too few requests to pass"
            )
        elif is_cut:
            reasons.append("raise online.search_s")
        return "; ".join(reasons) or None

    def _undecided(self, at: Rate) -> str:
        where = f"at {at.rate:.4g} texts/s"
        if at.evidence is None:
            return f"{where} no window was valid"
        shown = at.evidence
        judged = (
            f"{where} {shown.num_violations:,} of {shown.num_requests:,} requests missed the limit"
        )
        needed_s = shown.needed_s(self.slo.share, self._error)
        if needed_s is None:
            return f"{judged}, so close to the SLO's share that no amount of time would decide"
        return (
            f"{judged} in the {shown.length_s:.0f} s judged; a verdict takes at least "
            f"{needed_s:,.0f} s: raise online.window_s or online.search_s"
        )

    def _rate(self) -> float | None:
        """Return the rate that is due: one that is looked at already, or a new one."""
        for rate in self._num_looks:
            if rate not in self._verdicts:
                return rate
        if not self._verdicts:
            return min(self.first_rate, self.highest_rate)
        return self._bracketing() if self._is_open() else self._between()

    def _is_open(self) -> bool:
        return self._passes() is None or self._fails() is None

    def _bracketing(self) -> float | None:
        """Return twice the highest rate, or half the lowest, while no rate fails, or passes.

        A rate without a valid window is the highest that the client can judge.
        """
        lowest, highest = min(self._verdicts), max(self._verdicts)
        most = min(self.highest_rate, self.first_rate * 2.0**_MOST_DOUBLINGS)
        least = self.first_rate / 2.0**_MOST_DOUBLINGS
        if self._fails() is None and highest < most and self._observations[highest]:
            return min(2 * highest, most)
        if self._passes() is None and lowest > least and not self._is_short(lowest):
            return lowest / 2
        return None

    def _is_short(self, rate: float) -> bool:
        """Tell whether all the time there is brings too few requests to pass at half the rate."""
        shown = self._shown[rate]
        if shown is None:
            return True
        left_s = self.slo.judged_s(self.longest_s - self._driven_s)
        most_s = min(_MOST_WINDOWS * self.window_s, left_s)
        most = shown.num_requests / shown.length_s / 2 * most_s
        return math.pow(self.slo.share, most) > self._error

    def _between(self) -> float | None:
        """Return the middle of a gap beside what passes or fails that is still too wide."""
        passes, fails = self._passes(), self._fails()
        assert passes is not None
        assert fails is not None
        above = min(rate for rate in self._verdicts if rate > passes)
        below = max(rate for rate in self._verdicts if rate < fails)
        for low, high in ((passes, above), (below, fails)):
            if high / low > 1 + self.resolution:
                return math.sqrt(low * high)
        return None

    def _passes(self) -> float | None:
        passing = self._with("pass")
        return max(passing) if passing else None

    def _fails(self) -> float | None:
        failing = self._with("fail")
        return min(failing) if failing else None

    def _with(self, verdict: Verdict) -> list[float]:
        return [rate for rate, reached in self._verdicts.items() if reached == verdict]

    def _verdict(self, rate: float) -> Verdict:
        return self._verdicts.get(rate, "undecided")

    def _is_futile(self, shown: Evidence | None, num_looks: int) -> bool:
        """Tell whether a rate would stay undecided if all further time showed the same."""
        if num_looks == self.looks:
            return True
        if shown is None:
            return num_looks == _INVALID_LOOKS
        needed_s = shown.needed_s(self.slo.share, self._error)
        left_s = self._left_s(shown)
        return needed_s is None or left_s < max(self.window_s, needed_s - shown.length_s)

    def _judge(self, shown: Evidence | None) -> Verdict:
        if shown is None:
            return "undecided"
        arrivals_per_s = shown.num_requests / shown.length_s
        if shown.ci_high < self.slo.share or shown.backlog_ci_low > _OVERLOAD * arrivals_per_s:
            return "fail"
        if shown.ci_low >= self.slo.share and shown.backlog_ci_low <= 0:
            return "pass"
        return "undecided"

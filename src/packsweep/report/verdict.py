"""What may be said of a ratio of two speeds, in one place for every table, line and chart.

Significance is that of ``results.stats.verdicts``: after Holm's correction over all differences
that are shown together, and beyond what two processes of one cell may differ by.
"""

from __future__ import annotations

from collections.abc import Sequence

from packsweep.report import format as fmt
from packsweep.results.stats import ONE_PROCESS_MARGIN, Ratio, Tested, Verdict, num_tests

SPEED = ("faster", "slower")
_CALLED = {"up": 0, "down": 1}


def word(ratio: Ratio, verdict: Verdict, up_down: tuple[str, str] = SPEED) -> str:
    """Return a verdict in a word or two; ``up_down`` are those of a larger and a smaller ratio."""
    if verdict in _CALLED:
        return up_down[_CALLED[verdict]]
    if ratio.ci_low is None or ratio.ci_high is None:
        return "no interval"
    return "inconclusive" if ratio.ci_low <= 1 <= ratio.ci_high else "not significant"


def text(ratio: Ratio, verdict: Verdict, *, per_gpu: bool = False) -> str:
    """Return ``0.69x [0.65, 0.73], slower (significant)``; ``per_gpu``: that is what it is of."""
    of = " per GPU" if per_gpu else ""
    return f"{times(ratio)}{of}, {said(ratio, verdict)}"


def times(ratio: Ratio) -> str:
    """Return ``0.69x [0.65, 0.73]``."""
    interval = "" if ratio.ci_low is None else f" {fmt.interval(ratio.ci_low, ratio.ci_high)}"
    return f"{fmt.number(ratio.value)}x{interval}"


def said(ratio: Ratio, verdict: Verdict) -> str:
    """Return ``slower (significant)``, or why there is no such word."""
    return word(ratio, verdict) + (" (significant)" if verdict in _CALLED else "")


def correction(speeds: Sequence[Tested], answers: Sequence[Tested | None]) -> str:
    """Return the level at which comparisons were called that are shown together."""
    number = num_tests(speeds, answers)
    return "at 5%" + (f" after Holm's correction over {number} comparisons" if number > 1 else "")


def explained(ratios: Sequence[Ratio], answers: Sequence[Tested | None] = ()) -> list[str]:
    """Return what the verdicts on ``ratios`` rest on, called together with those on ``answers``."""
    known = [ratio for ratio in ratios if ratio.ci_low is not None]
    if not known:
        return ["no interval: one repeat each shows no spread; set measure.repeats to 3 or more"]
    lines = [
        f"significant: {correction(ratios, answers)}",
        "inconclusive: the interval includes 1; not significant: it does not, which may be chance",
    ]
    if any(not ratio.between_processes for ratio in known):
        lines.append(
            f"one process per side: differences below {ONE_PROCESS_MARGIN - 1:.0%} are not "
            "significant; measure.replicates = 3 resolves smaller ones"
        )
    return lines

"""The first thing a reader of results sees: what to run, three numbers, and the frontier.

Values for the HTML page and for ``packsweep recommend``; they are drawn and printed in ``report``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from packsweep.results.shares import Figure

# What a setting's quality is: the share of right labels; where the texts have no labels, the
# share that agrees with the baseline; None where answers are not scored.
QualityKind = Literal["accuracy", "agreement"]

# ``recommended``: shown to lose no more than allowed, and the cheapest that is.
# ``provisional``: nothing is shown yet, and this one is the best measured.
# ``shown``: shown to lose no more than allowed, but dearer.
# ``not_shown``: may lose more than allowed. ``worse``: shown to lose more than allowed.
# ``not_compared``: too few prompts, or other texts; ``why`` says which.
Standing = Literal["recommended", "provisional", "shown", "not_shown", "worse", "not_compared"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One setting on the plane of quality and cost.

    Attributes:
        cell_id: the cell of the summary that measured it.
        name: what tells it from the other points, e.g. ``chunked 4, answer choice``.
        quality: accuracy, or agreement with the baseline.
        texts_per_s: median, with the interval of the mean.
        usd_per_1000_right: GPU time for 1,000 right labels; unknown without a price.
        on_frontier: no other point is at least as good in both quality and texts/s and better
            in one of them, by the values measured.
        why: why it stands as it does, in one line; empty for ``recommended``.
    """

    cell_id: str
    name: str
    quality: Figure
    texts_per_s: Figure
    usd_per_1000_right: Figure
    on_frontier: bool
    standing: Standing
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """One of the three numbers: ``91.2 %``, ``right labels``, ``95 % interval 88.0 to 93.6 %``."""

    value: str
    label: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """The first screen.

    Attributes:
        sentence: the recommendation, at most 25 words.
        numbers: quality, speed, cost (hours where there is no price).
        points: every setting that was measured with distinct texts, fastest first.
        quality_kind: None where answers are not scored: points then differ in speed alone.
        baseline: cell_id of what agreement is with; None where there is no agreement.
        not_shown: what was not shown and what would show it, a line each.
    """

    sentence: str
    numbers: tuple[Number, Number, Number] | None
    points: tuple[Point, ...]
    quality_kind: QualityKind | None
    baseline: str | None
    not_shown: tuple[str, ...]

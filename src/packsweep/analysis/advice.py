"""The first thing a reader of results sees: what to run, three numbers, and the frontier.

Values for the HTML page and for ``packsweep recommend``; they are drawn and printed in ``report``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from packsweep.analysis import recommend
from packsweep.analysis.quality import Answers
from packsweep.analysis.recommend import Choice, QualityKind, Setting, Standing, Terms
from packsweep.results import schema, summary
from packsweep.results.schema import Row
from packsweep.results.shares import Figure

__all__ = ["Advice", "Figure", "Number", "Point", "QualityKind", "Standing", "Terms", "advise"]

MOST_WORDS = 25


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One setting on the plane of quality and cost.

    Attributes:
        cell_id: the cell of the summary that measured it.
        name: what tells it from the other points, e.g. ``chunked 4, answer choice``.
        quality: accuracy, or agreement with the baseline.
        texts_per_s: median, with the interval of the mean.
        num_gpus: of the engine that reached it.
        usd_per_1000_right: GPU time for 1,000 correct labels; unknown without a price.
        on_frontier: no other point is at least as good in both quality and texts/s of a GPU and
            better in one of them, by the values measured. An engine of more GPUs than there are is
            neither on it nor such another point.
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
    num_gpus: int = 1

    @property
    def texts_per_s_per_gpu(self) -> Figure:
        return self.texts_per_s.over(self.num_gpus)


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """A number, e.g. ``91.2 %``, ``correct labels``, ``95 % interval 88.0 to 93.6 %``."""

    value: str
    label: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """The first screen.

    Attributes:
        sentence: the recommendation, at most 25 words.
        numbers: quality, speed, cost (GPU hours where there is no price); None without a cell.
        points: every setting that was measured with distinct texts, fastest first.
        quality_kind: None where answers are not scored: points then differ in speed alone.
        baseline: cell_id of what agreement is with; None where there is no agreement.
        not_shown: what was not shown and what would show it, a line each.
        cheaper_only: the settings in ``not_shown`` would all be cheaper than the recommended one.
    """

    sentence: str
    numbers: tuple[Number, Number, Number] | None
    points: tuple[Point, ...]
    quality_kind: QualityKind | None
    baseline: str | None
    not_shown: tuple[str, ...]
    cheaper_only: bool = False


def advise(
    rows: Sequence[Row], answers: Mapping[str, Answers], terms: Terms | None = None
) -> Advice:
    """Return the first screen of a results folder.

    Args:
        rows: of the summary.
        answers: by group_id, from ``frames.load_answers``.
        terms: what is allowed and planned; a loss of one point where None.

    Raises:
        ResultsError: ``recommend.choose`` finds nothing to choose from.
    """
    terms = terms or Terms()
    return of_choice(recommend.choose(rows, answers, terms), terms)


def of_choice(choice: Choice, terms: Terms) -> Advice:
    """Return the first screen of what was chosen."""
    best = _named(choice, terms)
    return Advice(
        sentence=_sentence(choice, terms),
        numbers=(_quality(best, choice.quality_kind), _speed(best), _cost(best, terms)),
        points=tuple(_point(each, choice, terms) for each in choice.settings),
        quality_kind=choice.quality_kind,
        baseline=choice.baseline,
        not_shown=(*_not_shown(choice), *_no_better_than_a_guess(best)),
        cheaper_only=best.standing == "recommended" and not _is_alone(choice),
    )


def _named(choice: Choice, terms: Terms) -> Setting:
    """Return what is recommended, or the fastest that there is room for; ``choose`` found one."""
    return choice.best or next(each for each in choice.settings if terms.have_room(each))


def _sentence(choice: Choice, terms: Terms) -> str:
    """Say what to run; a long name is cut to its strategy where the words would be too many."""
    best = _named(choice, terms)
    if choice.all_guess:
        share = _percent(best.row["majority_class_share"])
        return (
            f"No setting is shown to label better than the most frequent label alone ({share}): "
            "try a larger model or another wording."
        )
    for name in (best.name, best.name.partition(",")[0]):
        said = _said(choice, best, name, terms)
        if len(said.split()) <= MOST_WORDS:
            break
    return said


def _said(choice: Choice, best: Setting, name: str, terms: Terms) -> str:
    speed = f"{_number(best.texts_per_s.value)} texts/s"
    if best.num_gpus > 1:
        speed += f" on {best.num_gpus} GPUs"
    if choice.best is None:
        kind = f"Speed only, {recommend.why_unscored(best.row)}"
        if best.row["engine"] == schema.SIMULATED:
            kind = "Simulated, so accuracy is unknown"
        most = "most per GPU" if any(each.num_gpus > 1 for each in choice.settings) else "most"
        return f"{kind}: {name} labels {most}, {speed}."
    loss = f"at most {points_of(terms.max_loss)}"
    if choice.quality_kind == "agreement":
        share = f"{100 * terms.max_loss:.3g} %"
        if best.row["cell_id"] == choice.baseline:
            shown = f"no faster setting is shown to change at most {share} of labels"
            return f"Run {name}, {speed}: {shown}."
        return f"Run {name}, {speed}: shown to change at most {share} of the baseline's labels."
    correct = f"{_percent(best.quality.value)} correct"
    if choice.num_compared == 1:
        others = "no other setting can be compared" if choice.settings[1:] else "nothing to compare"
        return f"Run {name}, {speed}, {correct}: {others}."
    if best.standing == "recommended":
        return f"Run {name}, {speed}: shown to lose {loss} of accuracy to any other setting."
    return f"No setting is shown to lose {loss}; for now run {name}: {correct}, {speed}."


def _quality(best: Setting, kind: QualityKind | None) -> Number:
    if kind is None:
        return Number(value="-", label="correct labels", detail=recommend.why_unscored(best.row))
    label = "correct labels" if kind == "accuracy" else "labels equal to the baseline's"
    figure = best.quality
    detail = "no interval"
    if figure.ci_low is not None and figure.ci_high is not None:
        detail = f"95 % interval {100 * figure.ci_low:.1f} to {_percent(figure.ci_high)}"
    num_texts = len(best.answers.found) if best.answers else 0
    detail += f", {num_texts:,} texts"
    if kind == "accuracy" and best.guesses:
        detail += f"; the most frequent label alone: {_percent(best.row['majority_class_share'])}"
    return Number(value=_percent(figure.value), label=label, detail=detail)


def _speed(best: Setting) -> Number:
    figure = best.texts_per_s
    detail = "no interval: measured once"
    if figure.ci_low is not None and figure.ci_high is not None:
        detail = f"95 % interval {_number(figure.ci_low)} to {_number(figure.ci_high)}"
    processor, several = summary.processor(best.row), best.num_gpus
    label = f"texts/s on {several} {processor}s" if several > 1 else f"texts/s on one {processor}"
    return Number(value=_number(figure.value), label=label, detail=detail)


def _cost(best: Setting, terms: Terms) -> Number:
    """Return what the texts cost, or 1,000 correct labels, or the time of a million texts."""
    price, processor = price_of(best, terms), summary.processor(best.row)
    if terms.num_texts is not None:
        hours = hours_for(best, terms).value
        num_gpus = gpus_for(best, terms)
        several = "s" if num_gpus > 1 else ""
        took = f"{_number(hours)} hours on {num_gpus} {processor}{several}"
        label = f"for {terms.num_texts:,} texts"
        if price is None or hours is None:
            return Number(value=f"{_number(hours)} h", label=label, detail=took)
        usd = hours * num_gpus * price
        told = f"${usd:,.2f}" if usd >= 1 else f"${usd:.2g}"
        return Number(value=told, label=label, detail=f"{took}, engine start not included")
    per_1000 = _usd_per_1000_right(best, terms)
    if per_1000.value is not None:
        detail = f"at ${price:g} per hour"
        return Number(
            value=f"${per_1000.value:.2g}", label="per 1,000 correct labels", detail=detail
        )
    speed = best.texts_per_s_per_gpu.value
    hours = 1e6 / speed / 3600 if speed else None
    return Number(
        value=f"{_number(hours)} h",
        label=f"of a {processor} for a million texts",
        detail="no price given",
    )


def price_of(setting: Setting, terms: Terms) -> float | None:
    """Return the price of a GPU hour: the terms', else the sweep file's."""
    stored: float | None = setting.row["gpu_hour_usd"]
    return stored if terms.gpu_hour_usd is None else terms.gpu_hour_usd


def gpus_for(setting: Setting, terms: Terms) -> int:
    """Return how many of the terms' GPUs engines take; what no whole engine has is not used."""
    asked, own = terms.num_gpus or setting.num_gpus, setting.num_gpus
    return asked // own * own


def hours_for(setting: Setting, terms: Terms) -> Figure:
    """Return how long the terms' GPUs take for their texts."""
    num_gpus = gpus_for(setting, terms)
    if terms.num_texts is None or not num_gpus:
        return Figure()
    return _inverse(setting.texts_per_s_per_gpu, terms.num_texts / num_gpus / 3600)


def _usd_per_1000_right(setting: Setting, terms: Terms) -> Figure:
    """Return the price of 1,000 correct labels, with both intervals combined as independent."""
    price, share, speed = price_of(setting, terms), setting.quality, setting.texts_per_s_per_gpu
    answers = setting.answers
    if not price or not share.value or not speed.value or not (answers and answers.labelled):
        return Figure()
    value = price / 3600 * 1000 / (speed.value * share.value)
    widths = [_log_half_width(share), _log_half_width(speed)]
    if None in widths:
        return Figure(value=value)
    factor = math.exp(math.hypot(*(width or 0.0 for width in widths)))
    return Figure(value=value, ci_low=value / factor, ci_high=value * factor)


def _log_half_width(figure: Figure) -> float | None:
    if not figure.ci_low or not figure.ci_high or figure.ci_low <= 0:
        return None
    return math.log(figure.ci_high / figure.ci_low) / 2


def _inverse(figure: Figure, amount: float) -> Figure:
    value, low, high = (
        None if not end or end <= 0 else amount / end
        for end in (figure.value, figure.ci_high, figure.ci_low)
    )
    return Figure(value=value, ci_low=low, ci_high=high)


def _point(setting: Setting, choice: Choice, terms: Terms) -> Point:
    rivals = [each for each in choice.settings if terms.have_room(each)]
    return Point(
        cell_id=setting.row["cell_id"],
        name=setting.name,
        quality=setting.quality,
        texts_per_s=setting.texts_per_s,
        usd_per_1000_right=_usd_per_1000_right(setting, terms),
        on_frontier=terms.have_room(setting) and not any(_beats(each, setting) for each in rivals),
        standing=setting.standing,
        why=setting.why,
        num_gpus=setting.num_gpus,
    )


def _beats(one: Setting, other: Setting) -> bool:
    """Return whether ``one`` is as good in quality and speed, and better in one of them."""
    sides = [
        (each.quality.value or 0.0, each.texts_per_s_per_gpu.value or 0.0) for each in (one, other)
    ]
    pairs = list(zip(*sides, strict=True))
    return all(mine >= theirs for mine, theirs in pairs) and sides[0] != sides[1]


def _not_shown(choice: Choice) -> tuple[str, ...]:
    """Say what was not shown of the settings that would be cheaper than the one named.

    Where that one could be compared with none, of all others.
    """
    if choice.quality_kind is None:
        why = recommend.why_unscored(choice.settings[0].row)
        if why == recommend.REQUESTS_GONE:
            return (f"speed only: {why}, so accuracies cannot be compared; measure again",)
        more = "measure real weights, with strategy separate among the settings"
        return (f"speed only: {why}, so accuracy is unknown; {more}",)
    alone = _is_alone(choice)
    lines = []
    for each in choice.settings:
        if each is choice.best and each.standing == "recommended" and not alone:
            break
        if each.why:
            lines.append(f"{each.name}: {each.why}")
    if alone and not lines:
        lines.append("nothing to compare with: measure another setting over the same texts")
    return tuple(lines)


def _is_alone(choice: Choice) -> bool:
    """Tell whether the one named could be compared with none."""
    return choice.num_compared == 1 and choice.quality_kind == "accuracy"


def _no_better_than_a_guess(best: Setting) -> Iterator[str]:
    """Say where the setting named is not shown to beat one label for everything."""
    if best.answers and best.answers.labelled and best.guesses:
        share = _percent(best.row["majority_class_share"])
        yield (
            f"{best.name} is not shown to be right more often than the most frequent label for "
            f"every text, {share}: measure more texts, or a model that can do the task"
        )


def points_of(share: float) -> str:
    """Return a share in points, ``1 point``."""
    points = f"{100 * share:.3g}"
    return f"{points} point" if points == "1" else f"{points} points"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"  # noqa: PLR2004  (3 digits)

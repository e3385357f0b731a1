"""What ``packsweep recommend`` prints, and the same as JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from packsweep.analysis import advice
from packsweep.analysis.advice import Advice, Point, Terms
from packsweep.analysis.recommend import Choice
from packsweep.report import format as fmt
from packsweep.report.tables.table import Table, of_rows
from packsweep.results.shares import Figure

_STANDING = {
    "recommended": "recommended",
    "provisional": "for now",
    "shown": "shown",
    "not_shown": "not shown",
    "worse": "loses more",
    "not_compared": "not compared",
}


def lines_above(given: Advice) -> list[str]:
    """Return the sentence and the three numbers."""
    return [
        given.sentence,
        *(
            f"  {each.value} {each.label} ({each.detail})"
            for each in given.numbers or ()
            if each.value != fmt.DASH
        ),
    ]


def table(given: Advice) -> Table:
    """Return a line for every setting, fastest first; where answers have no score, of its speed."""
    several = any(point.num_gpus > 1 for point in given.points)
    priced = any(point.usd_per_1000_right.value is not None for point in given.points)
    speed = ("texts/s", *(("GPUs", "texts/s\nper GPU") if several else ()))
    headings: tuple[str, ...] = ("setting", *speed)
    body = [_speed(point, several=several) for point in given.points]
    if given.quality_kind is not None:
        price = ("$/1000\ncorrect",) if priced else ()
        headings += (f"{given.quality_kind}\n[95% CI]", *price, "frontier", "loss allowed")
        qualities = (_quality(point, priced=priced) for point in given.points)
        body = [speeds + own for speeds, own in zip(body, qualities, strict=True)]
    return of_rows(headings, body, ranks={"GPUs": 2, "frontier": 1})


def _speed(point: Point, *, several: bool) -> list[str]:
    """Return a setting and its speed; ``several``: with the GPUs of its engine."""
    speed = [fmt.small(point.texts_per_s.value)]
    if several:
        speed += [str(point.num_gpus), fmt.small(point.texts_per_s_per_gpu.value)]
    return [point.name, *speed]


def _quality(point: Point, *, priced: bool) -> list[str]:
    """Return a setting's quality and what may be said of it; ``priced``: with dollars."""
    return [
        fmt.figure(point.quality, digits=1, as_percent=True),
        *([fmt.small(point.usd_per_1000_right.value)] if priced else []),
        "on" if point.on_frontier else "",
        _STANDING[point.standing],
    ]


def lines_below(given: Advice, terms: Terms) -> list[str]:
    """Return what was not shown, and what the words in the table mean."""
    if given.quality_kind is None:
        return list(given.not_shown)
    why = [f"  {line}" for line in given.not_shown]
    heading = "not recommended, or for now only:"
    if given.cheaper_only:
        heading = "why no cheaper setting is recommended:"
    not_shown = [heading, *why] if why else []
    if given.points[1:]:
        meant = f"no other setting has as much {given.quality_kind} and speed"
        not_shown.append(f"on the frontier: {meant}")
    unexplained = {"recommended", "provisional", "not_compared"}
    if not {point.standing for point in given.points} - unexplained:
        return not_shown
    meant = f"loses at most {advice.points_of(terms.max_loss)} of accuracy to every other setting"
    if given.quality_kind == "agreement":
        share = f"{100 * terms.max_loss:.3g}"
        meant = f"labels at most {share} % of texts differently from the baseline {given.baseline}"
        not_shown.append("texts have no labels: agreement with the baseline replaces accuracy")
    chance = "wrong in at most 5 of 100 sweeps (paired over the same texts, Holm's correction)"
    return [*not_shown, f"shown: {meant}, {chance}"]


def to_record(choice: Choice, given: Advice, terms: Terms) -> dict[str, Any]:
    best = choice.best
    hours = advice.hours_for(best, terms) if best else Figure()
    price = advice.price_of(best, terms) if best else None
    per_hour = None if price is None or best is None else price * advice.gpus_for(best, terms)
    return {
        "terms": asdict(terms),
        "shown": best is not None and best.standing == "recommended",
        "cell_id": None if best is None else best.row["cell_id"],
        "num_gpus": None if best is None else advice.gpus_for(best, terms),
        "hours": asdict(hours),
        "usd": {
            name: None if end is None or per_hour is None else end * per_hour
            for name, end in asdict(hours).items()
        },
        "more_texts": {setting.row["cell_id"]: setting.more_texts for setting in choice.settings},
        **asdict(given),
    }

"""The table of ``show --quality``, and the lines that compare answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from packsweep.analysis import axes
from packsweep.analysis.contrasts import Comparison
from packsweep.analysis.quality import LabelQuality, Quality
from packsweep.report.table import Table, of_rows
from packsweep.results.schema import Row
from packsweep.results.shares import Figure, PairedDifference
from packsweep.results.stats import Verdict

_HEADINGS = (
    *("cell", "label", "texts", "accuracy", "macro F1"),
    *("precision", "recall", "predicted", "kappa"),
)
_SAID = {
    "up": "more right",
    "down": "fewer right",
    "chance": "not significant",
    "not_shown": "no difference shown",
    "no_interval": "no interval",
}


def table(found: Sequence[Quality], rows: Sequence[Row]) -> Table:
    """Return a line for every cell, and below it one for every label."""
    names = _names(rows)
    lines: list[list[str]] = []
    for quality in found:
        kappa = quality.agreement.kappa if quality.agreement else Figure()
        total = [f"{quality.num_texts:,}", _percent(quality.accuracy), _plain(quality.macro_f1)]
        lines.append([names[quality.group_id], "all", *total, "", "", "", _plain(kappa)])
        lines += [["", label.label, *_label(label), ""] for label in quality.labels]
    return of_rows(_HEADINGS, lines, text=2)


def _names(rows: Sequence[Row]) -> dict[str, str]:
    """Return what to call each cell: its slug, and its settings where another has the same slug."""
    slugs = [row["cell_id"].rpartition("-")[0] for row in rows]
    varied, names = axes.varying(rows), dict[str, str]()
    for index, (slug, row) in enumerate(zip(slugs, rows, strict=True)):
        settings = axes.unusual(varied, index).items() if slugs.count(slug) > 1 else ()
        names[row["group_id"]] = " ".join([slug, *(f"{name}={value}" for name, value in settings)])
    return names


def _label(label: LabelQuality) -> list[str]:
    shares = (label.precision, label.recall, label.found_share)
    return [f"{label.num_expected:,}", "", "", *(_percent(share) for share in shares)]


def _percent(figure: Figure) -> str:
    return _written(figure, 100, "%", digits=0)


def _plain(figure: Figure) -> str:
    return _written(figure, 1, "", digits=2)


def _written(figure: Figure, scale: float, unit: str, *, digits: int) -> str:
    if figure.value is None:
        return "-"
    value = f"{scale * figure.value:.{digits}f}{unit}"
    if figure.ci_low is None or figure.ci_high is None:
        return value
    low, high = (f"{scale * end:.{digits}f}" for end in (figure.ci_low, figure.ci_high))
    return f"{value} [{low}, {high}]"


def meaning(found: Sequence[Quality]) -> list[str]:
    """Return what the intervals and the columns mean."""
    lines = ["95% intervals: Wilson's, of macro F1 and kappa the delta method's; no label is wrong"]
    if any(quality.unit == "prompt" for quality in found):
        lines.append("texts of one prompt are not independent: intervals are over prompts")
    assumed = sum(quality.independence_assumed for quality in found)
    if assumed:
        lines.append(
            f"{assumed} cell(s) have fewer than 10 prompts: their intervals take texts as "
            "independent and are too narrow"
        )
    baselines = {quality.agreement.baseline for quality in found if quality.agreement}
    lines += [f"kappa: agreement with {name}" for name in sorted(baselines)]
    return lines


def comparisons(compared: Sequence[Comparison], rows: Sequence[Row]) -> list[str]:
    """Return a line for every comparison of answers."""
    slugs = {row["group_id"]: row["cell_id"].rpartition("-")[0] for row in rows}
    return [
        f"{_side(slugs[each.cell], each.change)} - {_side(slugs[each.baseline], each.instead)}: "
        f"{difference(each.answers, each.quality)}"
        for each in compared
        if each.answers is not None
    ]


def _side(slug: str, settings: Sequence[tuple[str, str]]) -> str:
    return slug + (f" with {', '.join(f'{n}={v}' for n, v in settings)}" if settings else "")


def difference(found: PairedDifference, said: Verdict) -> str:
    """Return ``-3.0 points [-5.1, -0.9] over 400 texts, fewer right``."""
    value, low, high = (100 * (end or 0.0) for end in (found.value, found.ci_low, found.ci_high))
    units = f"{found.num_units:,} {found.unit}s"
    if found.independence_assumed:
        units += " taken as independent"
    return f"{value:+.1f} points [{low:+.1f}, {high:+.1f}] over {units}, {_SAID[said]}"


def to_record(quality: Quality) -> dict[str, Any]:
    """Return a cell's quality for a script; the confusion as a list."""
    record = asdict(quality)
    record["confusion"] = [
        {"expected": expected, "found": found, "num_texts": count}
        for (expected, found), count in quality.confusion.items()
    ]
    return record

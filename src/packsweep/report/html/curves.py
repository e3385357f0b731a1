"""Throughput against n, against pack size and against duplication, each with its ceilings."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass

from packsweep.analysis import axes
from packsweep.report import format as fmt
from packsweep.report.cell import ceiling, names, strategy, texts_per_prompt
from packsweep.report.html import charts
from packsweep.report.html.charts import Axis, Limit, Point
from packsweep.report.html.parts import (
    MAX_PANELS,
    MAX_POINTS,
    Figure,
    Section,
    extremes,
    grouped,
    make_table,
)
from packsweep.report.tables import cells_table
from packsweep.report.tables.table import Table
from packsweep.results.schema import Row

_SPEED = "texts/s"
_ROOFLINE = (
    "Dotted: the ceiling, the lower of what the device's peak compute and peak memory bandwidth "
    "allow."
)
_CUT = "An interval that reaches 0 is drawn to half the lowest value; the table has its end."
_TOWARD = (
    "Of d copies of a request the prefix cache can serve d-1, so speed approaches that of a cache "
    "that already holds everything (cache state primed)."
)
_NOT_PRIMED = 'That was not measured: add "primed" to measure.cache_state to see the limit.'
_INTERVALS = "Points are medians, bars the 95 % interval of the mean."


@dataclass(frozen=True, slots=True, kw_only=True)
class _Curve:
    """What is drawn against what.

    Attributes:
        title: of every figure.
        x: a cell's place on the axis.
        axis: the title of the axis.
        series: a cell's line.
        fixed: a column that a figure has one value of, beside whatever else varies.
        none: why there is no curve, where the axis has fewer than two places.
    """

    title: str
    x: Callable[[Row], float]
    axis: str
    series: Callable[[Row], str]
    fixed: str
    none: str


_OVER_N = _Curve(
    title="texts/s against n",
    x=lambda row: row["n"],
    axis="n, texts",
    series=strategy,
    fixed="duplication",
    none="No curve over n: fewer than two values of grid.n were measured.",
)
_OVER_PACK_SIZE = _Curve(
    title="texts/s against pack size",
    x=texts_per_prompt,
    axis="texts per prompt (separate 1, packed n)",
    series=lambda row: f"n = {row['n']}",
    fixed="duplication",
    none="No curve over pack size: fewer than two numbers of texts per prompt were measured.",
)
_OVER_DUPLICATION = _Curve(
    title="texts/s against duplication",
    x=lambda row: row["duplication"],
    axis="times each request is submitted",
    series=lambda row: strategy(row) + (", cache off" if row["cache_state"] == "off" else ""),
    fixed="n",
    none="No duplication curve: fewer than two values of grid.duplication were measured.",
)


def throughput(rows: Sequence[Row]) -> Section:
    """Return texts per second against n and against the texts in a prompt; and every cell."""
    measured = _measured(rows)
    figures, lines = _panels(measured, _OVER_N)
    more, more_lines = _panels(measured, _OVER_PACK_SIZE)
    shown, note = extremes(rows, 100, by="texts_per_s_median")
    caption = "Every cell, as packsweep show prints it"
    return Section(
        key="throughput",
        title="Throughput",
        lines=(_INTERVALS, *_left_out(rows), *lines, *more_lines),
        figures=(*figures, *more),
        folded=(cells_table.summary(shown, caption=caption, note=note),) if rows else (),
    )


def duplication(rows: Sequence[Row]) -> Section:
    """Return texts per second against duplication, toward what a primed cache reaches."""
    key, title = "duplication", "Repeated requests and the prefix cache"
    measured = _measured(rows)
    primed = [row for row in measured if row["cache_state"] == "primed"]
    others = [row for row in measured if row["cache_state"] != "primed"]
    figures, lines = _panels(others, _OVER_DUPLICATION, primed)
    if lines == (_OVER_DUPLICATION.none,):
        return Section(key=key, title=title, lines=lines)
    limit = _TOWARD if primed else f"{_TOWARD} {_NOT_PRIMED}"
    return Section(key=key, title=title, lines=(limit, *lines), figures=figures)


def _panels(
    rows: Sequence[Row], curve: _Curve, primed: Sequence[Row] = ()
) -> tuple[tuple[Figure, ...], tuple[str, ...]]:
    """Return a figure for each set of other values, and what was left out.

    ``primed`` are cells whose value is what the lines run toward.
    """
    if len({curve.x(row) for row in rows}) < 2:  # noqa: PLR2004  (a curve has two points)
        return (), (curve.none,)
    conditions = _conditions([*rows, *primed], curve.fixed)
    panels = grouped(rows, lambda row: conditions[row["cell_id"]])
    several = {
        where: own for where, own in panels.items() if len({curve.x(row) for row in own}) > 1
    }
    all_series = list(dict.fromkeys(curve.series(row) for row in rows))
    words = names(rows)
    figures = []
    for where, own in list(several.items())[:MAX_PANELS]:
        points = _points(own[:MAX_POINTS], words, curve)
        alike = [row for row in primed if conditions[row["cell_id"]] == where]
        limits = _limits(alike, curve, {point.series for point in points})
        title = curve.title + (where and f": {where}")
        figures.append(_figure(title, curve.axis, points, limits, all_series))
    left = len(several) - len(figures)
    if not several:
        return (), (f"No curve of {curve.title}: no other setting was measured at two places.",)
    note = f"{curve.title}: {left} more charts are omitted; summary.csv has every cell."
    return tuple(figures), (note,) if left else ()


def _figure(
    title: str,
    axis: str,
    points: Sequence[Point],
    limits: Sequence[Limit],
    series: Sequence[str],
) -> Figure:
    cut = any(point.low is not None and point.low <= 0 for point in points)
    roofline = any(point.ceiling is not None for point in points)
    return Figure(
        title=title,
        described=f"{title}; {len(points)} points, the table below has each.",
        spec=charts.curve(
            points,
            x=Axis(title=axis, log=True),
            y=Axis(title=_SPEED, log=True),
            series=series,
            limits=limits,
        ),
        data=points_table(title, points, x_title=axis),
        notes=(_ROOFLINE,) * roofline + (_CUT,) * cut + limit_notes(limits),
    )


def limit_notes(limits: Sequence[Limit]) -> tuple[str, ...]:
    """Say what the dashed lines are, and where they lie."""
    by_meaning: dict[str, list[str]] = {}
    for limit in limits:
        by_meaning.setdefault(limit.meaning, []).append(f"{limit.series} {fmt.exact(limit.value)}")
    return tuple(f"Dashed: {meaning}; {', '.join(own)}." for meaning, own in by_meaning.items())


def points_table(
    title: str, points: Sequence[Point], *, x_title: str | None, value: str = _SPEED
) -> Table:
    """Return the data of a chart of points, columns without a value left out."""
    titles = {"value": value, "low": "95 % from", "high": "to", "ceiling": "ceiling"}
    titles = ({"x": x_title} if x_title else {}) | titles
    known = [name for name in titles if any(getattr(point, name) is not None for point in points)]
    rows = [[point.cell, *(fmt.exact(getattr(point, name)) for name in known)] for point in points]
    return make_table(f"Data of: {title}", ("cell", *(titles[name] for name in known)), rows)


def _points(rows: Sequence[Row], words: Mapping[str, str], curve: _Curve) -> list[Point]:
    return [
        Point(
            cell=words[row["cell_id"]],
            series=curve.series(row),
            x=float(curve.x(row)),
            value=row["texts_per_s_median"],
            low=row["texts_per_s_ci_low"],
            high=row["texts_per_s_ci_high"],
            ceiling=ceiling(row),
        )
        for row in rows
    ]


def _limits(primed: Sequence[Row], curve: _Curve, shown: Container[str]) -> list[Limit]:
    """Return the primed speed of each series that is shown, that of the least duplication."""
    least: dict[str, Row] = {}
    for row in sorted(primed, key=lambda row: int(row["duplication"])):
        least.setdefault(curve.series(row), row)
    meaning = "primed by the same pass"
    return [
        Limit(series=name, value=row["texts_per_s_median"], meaning=meaning)
        for name, row in least.items()
        if name in shown
    ]


def _conditions(rows: Sequence[Row], fixed: str) -> dict[str, str]:
    """Return what a panel is about, in words: cell_id -> the values that vary and are no axis.

    Values that a sweep file may omit are left out.
    """
    varied = axes.varying(rows, but=("cache_state",) if fixed == "n" else ())
    several = len({row[fixed] for row in rows}) > 1
    panels = {}
    for index, row in enumerate(rows):
        words = [f"{fixed} {row[fixed]}"] if several else []
        words += [f"{name} {value}" for name, value in axes.unusual(varied, index).items()]
        panels[str(row["cell_id"])] = ", ".join(words)
    return panels


def _measured(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row["texts_per_s_median"] is not None]


def _left_out(rows: Sequence[Row]) -> list[str]:
    without = [row for row in rows if row["texts_per_s_median"] is None]
    if not without:
        return []
    words = names(rows)
    listed = ", ".join(words[row["cell_id"]] for row in without[:5])
    more = f" and {len(without) - 5} more" if len(without) > 5 else ""  # noqa: PLR2004
    return [f"Not drawn, not measured: {listed}{more}; see Cells without a result."]

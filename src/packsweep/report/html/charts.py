"""Three kinds of chart as Vega-Lite, made with Altair: curves, dots with intervals, stacked bars.

Pure functions from plain values. Colours are the page's CSS variables, so that light, dark and
print need one drawing; a series has a shape of its own as well. An interval is an error bar. What
was not measured has no mark: it is never drawn as 0. A 0 has no place on a logarithmic axis, which
``undrawn`` says.

Altair is imported by the first chart, not with this module: it is an optional dependency.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import altair as alt

Spec = dict[str, Any]
NUM_COLOURS = 8
_SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down")
_HEIGHT = 260
_ROW_HEIGHT = 38
_BELOW_ROW_LABEL = 8
_NUMBER = ",.6~r"  # six significant digits: the exact value as far as anybody needs it
_DASHES = (8, 4)
_DOTS = (2, 3)
_STEP = 0.008  # of the width, between two series at one place


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One mark.

    Attributes:
        cell: what it stands for, in words.
        x: its place; unused by ``dots``.
        low: lower end of the 95 % interval; None where there is none.
        ceiling: the most that ``value`` could be; None where not known.
    """

    cell: str
    series: str
    value: float
    x: float | None = None
    low: float | None = None
    high: float | None = None
    ceiling: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A horizontal line that a series runs towards, or is held against."""

    series: str
    value: float
    meaning: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """An axis: its title, its scale, and its ends where they do not follow from the values."""

    title: str
    log: bool = False
    ends: tuple[float, float] | None = None


def undrawn(points: Sequence[Point]) -> tuple[str, ...]:
    """Say how many points have no place on a log axis."""
    number = sum(point.value <= 0 for point in points)
    return (f"{number} values of 0 have no place on this axis; the table has them.",) * (number > 0)


def curve(
    points: Sequence[Point],
    *,
    x: Axis,
    y: Axis,
    series: Sequence[str],
    limits: Sequence[Limit] = (),
) -> Spec:
    """Return a line for each series, with its error bars; dotted its ceiling, dashed its limit.

    ``series`` are those of the whole section, so that one keeps its colour in every chart.
    """
    import altair as alt

    shown = sorted({point.series for point in points}, key=list(series).index)
    drawn = _apart(_drawn(points, log=y.log), shown, log=x.log)
    base = alt.Chart(_data(drawn)).encode(
        x=alt.X("drawn_x:Q", title=x.title, scale=_scale(x, _places(points)), axis=_ticks(points)),
        color=_colour(shown, series),
    )
    extent = [each.value for each in limits] + _extent(drawn)
    at = alt.Y("value:Q", title=y.title, scale=_scale(y, extent))
    layers: list[Any] = [base.mark_line(strokeWidth=1.5, aria=False).encode(y=at)]
    if any(point.high is not None for point in points):
        bars_ = base.transform_filter("isValid(datum.high)").mark_rule(strokeWidth=1.5, aria=False)
        layers.append(bars_.encode(y=alt.Y("drawn_low:Q", title=y.title), y2="high:Q"))
    layers.append(
        base.mark_point(size=75, filled=True, opacity=1).encode(
            y=at,
            shape=_shape(shown, series),
            tooltip=_tooltip(points, x=x.title, value=y.title),
            description="said:N",
        )
    )
    if any(point.ceiling is not None for point in points):
        ceilings = base.transform_filter("isValid(datum.ceiling)")
        layers += _dotted(ceilings, "ceiling", y.title, ["cell", "ceiling"])
    if limits:
        layers.append(_limits(limits, shown, series, y.title))
    return _finished(alt.layer(*layers), height=_HEIGHT)


def _dotted(base: alt.Chart, field: str, title: str, told: Sequence[str]) -> list[Any]:
    import altair as alt

    place = alt.Y(f"{field}:Q", title=title)
    tooltip = [
        alt.Tooltip(f"{name}:{'Q' if name == field else 'N'}", format=_format(name, field))
        for name in told
    ]
    return [
        base.mark_line(strokeDash=list(_DOTS), strokeWidth=1.5, aria=False).encode(y=place),
        base.mark_tick(thickness=2, size=14, opacity=1, aria=False).encode(
            y=place, tooltip=tooltip
        ),
    ]


def _format(name: str, field: str) -> str:
    return _NUMBER if name == field else ""


def _limits(
    limits: Sequence[Limit], shown: Sequence[str], series: Sequence[str], title: str
) -> Any:  # noqa: ANN401  (Altair says no more)
    import altair as alt

    rules = alt.Chart(_data([asdict(each) for each in limits if each.series in shown]))
    return rules.mark_rule(strokeDash=list(_DASHES), strokeWidth=1.5).encode(
        y=alt.Y("value:Q", title=title),
        color=_colour(shown, series),
        tooltip=[
            alt.Tooltip("series:N"),
            alt.Tooltip("meaning:N"),
            alt.Tooltip("value:Q", format=_NUMBER),
        ],
    )


def dots(points: Sequence[Point], *, x: Axis, reference: float | None = None) -> Spec:
    """Return a row for each point, its name above it, its interval as a bar."""
    import altair as alt

    drawn = [{**each, "row": row} for row, each in enumerate(_drawn(points, log=x.log))]
    base = alt.Chart(_data(drawn)).encode(y=_rows_axis())
    extent = _extent(drawn) + ([] if reference is None else [reference])
    at = alt.X("value:Q", title=x.title, scale=_scale(x, extent))
    series = list(dict.fromkeys(point.series for point in points))
    colour = _colour(series, series, legend=False)
    layers: list[Any] = []
    if any(point.high is not None for point in points):
        known = base.transform_filter("isValid(datum.high)")
        intervals = known.mark_rule(strokeWidth=1.5, yOffset=_BELOW_ROW_LABEL, aria=False)
        place = alt.X("drawn_low:Q", title=x.title)
        layers.append(intervals.encode(x=place, x2="high:Q", color=colour))
    layers += [
        base.mark_point(size=75, filled=True, opacity=1, yOffset=_BELOW_ROW_LABEL).encode(
            x=at,
            color=colour,
            shape=_shape(series, series, legend=False),
            tooltip=_tooltip(points, value=x.title),
            description="said:N",
        ),
        _row_labels(base, "cell"),
    ]
    if reference is not None:
        line = alt.Chart(_data([{"value": reference}])).mark_rule(strokeDash=list(_DASHES))
        layers.insert(0, line.encode(x=alt.X("value:Q"), color=alt.value("var(--ink)")))
    return _finished(alt.layer(*layers), height=_ROW_HEIGHT * len(points))


def bars(shares: Sequence[Mapping[str, Any]], *, series: Sequence[str], title: str) -> Spec:
    """Return a stacked bar for each cell, each part a share of the whole.

    Args:
        shares: a mapping for each part with ``cell``, ``part``, ``seconds`` and ``share``.
        series: the parts, in the order in which they are stacked.
        title: of the axis.
    """
    import altair as alt

    cells = list(dict.fromkeys(each["cell"] for each in shares))
    rows = [
        {
            **each,
            "row": cells.index(each["cell"]),
            "order": list(series).index(each["part"]),
            "said": f"{each['cell']}, {each['part']}: {each['share']:.1%}",
        }
        for each in shares
    ]
    base = alt.Chart(_data(rows)).encode(y=_rows_axis())
    stacked = base.mark_bar(height=13, yOffset=_BELOW_ROW_LABEL).encode(
        x=alt.X("share:Q", title=title, stack="zero", scale=alt.Scale(domain=[0, 1], clamp=True)),
        color=_colour(series, series, field="part"),
        order=alt.Order("order:Q"),
        tooltip=[
            alt.Tooltip("cell:N"),
            alt.Tooltip("part:N"),
            alt.Tooltip("seconds:Q", format=_NUMBER),
            alt.Tooltip("share:Q", format=".1%"),
        ],
        description="said:N",
    )
    names = alt.Chart(_data([{"cell": cell, "row": row} for row, cell in enumerate(cells)]))
    labels = _row_labels(names.encode(y=_rows_axis()), "cell")
    return _finished(alt.layer(stacked, labels), height=_ROW_HEIGHT * len(cells))


def _rows_axis() -> alt.Y:
    import altair as alt

    return alt.Y("row:O", axis=None, scale=alt.Scale(type="band", paddingInner=0, paddingOuter=0))


def _row_labels(base: alt.Chart, field: str) -> Any:  # noqa: ANN401  (Altair says no more)
    """Return names above their rows, from the left edge: they fit on a narrow screen as well."""
    import altair as alt

    mark = base.mark_text(
        align="left",
        baseline="middle",
        yOffset=-_BELOW_ROW_LABEL,
        limit=alt.expr("width"),
        aria=False,
        stroke="var(--paper)",  # keeps the lines of the grid away from the letters
        strokeWidth=4,
    )
    return mark.encode(x=alt.value(0), text=f"{field}:N", color=alt.value("var(--ink)"))


def _drawn(points: Sequence[Point], *, log: bool) -> list[dict[str, Any]]:
    """Return what is drawn of the points: a log axis has no place for 0, nor for an end below."""
    shown = [point for point in points if point.value > 0] if log else points
    floor = 0.5 * min((point.value for point in shown), default=1.0)
    return [
        {
            **asdict(point),
            "drawn_low": _raised(point.low, floor) if log else point.low,
            "said": _said(point),
        }
        for point in shown
    ]


def _said(point: Point) -> str:
    """Return a point for those who do not see it."""
    interval = "" if point.high is None else f", 95 % from {point.low:.6g} to {point.high:.6g}"
    return f"{point.cell}: {point.value:.6g}{interval}"


def _apart(
    drawn: Sequence[Mapping[str, Any]], shown: Sequence[str], *, log: bool
) -> list[dict[str, Any]]:
    """Return the points with a place each, so that the error bars of two series do not meet."""
    places = [each["x"] for each in drawn]
    span = math.log(max(places) / min(places)) if log else max(places) - min(places)
    found = []
    for each in drawn:
        step = _STEP * span * (list(shown).index(each["series"]) - (len(shown) - 1) / 2)
        found.append({**each, "drawn_x": each["x"] * math.exp(step) if log else each["x"] + step})
    return found


def _raised(low: float | None, floor: float) -> float | None:
    return low if low is None or low > 0 else floor


def _extent(drawn: Sequence[Mapping[str, Any]]) -> list[float]:
    """Return every value that a chart draws."""
    fields = ("value", "drawn_low", "high", "ceiling")
    return [each[field] for each in drawn for field in fields if each[field] is not None]


def _scale(axis: Axis, extent: Sequence[float]) -> alt.Scale:
    """Return a scale around ``extent``, a little wider than it on either side."""
    import altair as alt

    if axis.ends is not None:
        return alt.Scale(domain=list(axis.ends))
    low, high = min(extent, default=1.0), max(extent, default=1.0)
    if axis.log:
        room = max((high / low) ** 0.06, 1.08)
        return alt.Scale(type="log", nice=False, domain=[low / room, high * room])
    room = max(0.04 * (high - low), 0.5)
    return alt.Scale(nice=False, zero=False, domain=[low - room, high + room])


def _places(points: Sequence[Point]) -> list[float]:
    return sorted({point.x for point in points if point.x is not None})


def _ticks(points: Sequence[Point]) -> alt.Axis:
    """Return an axis with a tick at each measured place, and nowhere else."""
    import altair as alt

    return alt.Axis(values=_places(points), grid=False, labelOverlap="greedy", format="~r")


def _colour(
    shown: Sequence[str], series: Sequence[str], *, legend: bool = True, field: str = "series"
) -> alt.Color:
    import altair as alt

    colours = [f"var(--c{list(series).index(name) % NUM_COLOURS + 1})" for name in shown]
    named = legend and len(shown) > 1
    told = alt.Legend(title=None, orient="top", columns=3, labelLimit=150) if named else None
    scale = alt.Scale(domain=list(shown), range=colours)
    return alt.Color(f"{field}:N", scale=scale, legend=told)


def _shape(shown: Sequence[str], series: Sequence[str], *, legend: bool = True) -> alt.Shape:
    import altair as alt

    shapes = [_SHAPES[list(series).index(name) % len(_SHAPES)] for name in shown]
    scale = alt.Scale(domain=list(shown), range=shapes)
    if legend and len(shown) > 1:
        return alt.Shape("series:N", scale=scale, title=None)
    return alt.Shape("series:N", scale=scale, legend=None)


def _tooltip(points: Sequence[Point], *, value: str, x: str | None = None) -> list[alt.Tooltip]:
    """Return what hovering shows: every value, as far as some point has it."""
    import altair as alt

    told = [alt.Tooltip("cell:N", title="cell")]
    fields = [("x", x), ("value", value), ("low", "95 % from"), ("high", "to")]
    fields.append(("ceiling", "ceiling"))
    for field, title in fields:
        if title and any(getattr(point, field) is not None for point in points):
            told.append(alt.Tooltip(f"{field}:Q", title=title, format=_NUMBER))
    return told


def _data(values: Sequence[Mapping[str, Any]]) -> alt.InlineData:
    import altair as alt

    return alt.InlineData(values=[dict(each) for each in values])


def _finished(chart: Any, *, height: int) -> Spec:  # noqa: ANN401  (layers, of several types)
    """Return the specification of an Altair chart, as wide as its place in the page."""
    import altair as alt

    sized: Any = chart.properties(
        width="container",
        height=height,
        autosize=alt.AutoSizeParams(type="fit-x", contains="padding"),
    )
    found: Spec = sized.to_dict()
    # The page has one configuration for all charts.
    return {name: value for name, value in found.items() if name != "config"}

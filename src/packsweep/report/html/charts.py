"""Four kinds of chart as Vega-Lite: curves, dots with intervals, a frontier, stacked bars.

Pure functions from plain values. Colours are the page's CSS variables, so that light, dark and
print need one drawing; a series has a shape of its own as well. An interval is an error bar. What
was not measured has no mark: it is never drawn as 0. A 0 has no place on a logarithmic axis, which
``undrawn`` says.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

Spec = dict[str, Any]
NUM_COLOURS = 8
_SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down")
_HEIGHT = 260
_ROW_HEIGHT = 38
_BELOW_ROW_LABEL = 8
_NUMBER = ",.6~r"  # six significant digits: the exact value as far as anybody needs it
_DASHES = [8, 4]
_DOTS = [2, 3]
_STEP = 0.008  # of the width, between two series at one place
_INTERVAL = {"type": "rule", "strokeWidth": 1.5, "aria": False}
_MARK = {"type": "point", "size": 75, "filled": True, "opacity": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One mark.

    Attributes:
        cell: what it stands for, in words.
        x: its place; unused by ``dots``.
        low: lower end of the 95 % interval; None where there is none.
        x_low: lower end of the interval of ``x``.
        ceiling: the most that ``value`` could be; None where not known.
    """

    cell: str
    series: str
    value: float
    x: float | None = None
    low: float | None = None
    high: float | None = None
    x_low: float | None = None
    x_high: float | None = None
    ceiling: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A horizontal line: what a series approaches, or a baseline."""

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
    shown = sorted({point.series for point in points}, key=list(series).index)
    drawn = _apart(_drawn(points, log=y.log), shown, log=x.log)
    scale = _scale(y, [limit.value for limit in limits] + _extent(drawn))
    shared: Spec = {
        "x": _number("drawn_x", x.title, scale=_scale(x, _places(points)), axis=_ticks(points)),
        "color": _colour(shown, series),
    }
    at = {**shared, "y": _number("value", y.title, scale=scale)}
    layers = [_layer({"type": "line", "strokeWidth": 1.5, "aria": False}, at)]
    if any(point.high is not None for point in points):
        layers.append(_interval(shared, "y", y.title))
    layers.append(_points(at, points, _shape(shown, series), {"x": x.title, "value": y.title}))
    if any(point.ceiling is not None for point in points):
        at = {**shared, "y": _number("ceiling", y.title)}
        line = {"type": "line", "strokeDash": _DOTS, "strokeWidth": 1.5, "aria": False}
        tick = {"type": "tick", "thickness": 2, "size": 14, "opacity": 1, "aria": False}
        hover = {"tooltip": [_tip("cell"), _tip("ceiling", number=True)]}
        layers += [
            _layer(line, at, known="ceiling"),
            _layer(tick, {**at, **hover}, known="ceiling"),
        ]
    own = [asdict(limit) for limit in limits if limit.series in shown]
    if own:
        hover = {"tooltip": [_tip("series"), _tip("meaning"), _tip("value", number=True)]}
        at = {**hover, "y": _number("value", y.title), "color": shared["color"]}
        rule = {"type": "rule", "strokeDash": _DASHES, "strokeWidth": 1.5}
        layers.append(_layer(rule, at, data=own))
    return _finished(drawn, layers, height=_HEIGHT)


def frontier(
    points: Sequence[Point],
    *,
    x: Axis,
    y: Axis,
    series: Sequence[str],
    baseline: float | None = None,
) -> Spec:
    """Return a mark for each point, with its interval on both axes; dashed a baseline of ``y``."""
    shown = sorted({point.series for point in points}, key=list(series).index)
    drawn = _drawn(points, log=y.log)
    lowest = 0.5 * min((each["x"] for each in drawn), default=1.0)
    drawn = [{**each, "x_low": _raised(each["x_low"], lowest)} for each in drawn]
    ends = [end for each in drawn for name in ("x", "x_low", "x_high") if (end := each[name])]
    across = _number("x", x.title, scale=_scale(x, ends))
    up = _number("value", y.title, scale=_scale(y, _extent(drawn)))
    colour = {"color": _colour(shown, series)}
    layers = [
        *_baseline("y", y.title, baseline),
        _interval({**colour, "x": across}, "y", y.title),
        _interval({**colour, "y": up}, "x", x.title, low="x_low", high="x_high"),
        _points(
            {"x": across, "y": up, **colour},
            points,
            _shape(shown, series),
            {"x": x.title, "value": y.title},
        ),
    ]
    return _finished(drawn, layers, height=_HEIGHT)


def dots(points: Sequence[Point], *, x: Axis, reference: float | None = None) -> Spec:
    """Return a row for each point, its name above it, its interval as a bar."""
    drawn = [{**each, "row": row} for row, each in enumerate(_drawn(points, log=x.log))]
    extent = _extent(drawn) + ([] if reference is None else [reference])
    series = list(dict.fromkeys(point.series for point in points))
    shared = {"y": _rows_axis(), "color": _colour(series, series, legend=False)}
    at = {**shared, "x": _number("value", x.title, scale=_scale(x, extent))}
    layers = _baseline("x", x.title, reference)
    if any(point.high is not None for point in points):
        layers.append(_interval(shared, "x", x.title, yOffset=_BELOW_ROW_LABEL))
    shape = _shape(series, series, legend=False)
    layers.append(_points(at, points, shape, {"value": x.title}, yOffset=_BELOW_ROW_LABEL))
    layers.append(_row_labels())
    return _finished(drawn, layers, height=_ROW_HEIGHT * len(points))


def bars(shares: Sequence[Mapping[str, Any]], *, series: Sequence[str], title: str) -> Spec:
    """Return a stacked bar for each cell, each part a share of the whole.

    Args:
        shares: a mapping for each part with ``cell``, ``part``, ``seconds`` and ``share``.
        series: the parts, in the order in which they are stacked.
        title: of the axis.
    """
    cells = list(dict.fromkeys(share["cell"] for share in shares))
    drawn = [
        {
            **share,
            "row": cells.index(share["cell"]),
            "order": list(series).index(share["part"]),
            "said": f"{share['cell']}, {share['part']}: {share['share']:.1%}",
        }
        for share in shares
    ]
    at = {
        "x": _number("share", title, stack="zero", scale={"domain": [0, 1], "clamp": True}),
        "y": _rows_axis(),
        "color": _colour(series, series, field="part"),
        "order": {"field": "order", "type": "quantitative"},
        "tooltip": [
            _tip("cell"),
            _tip("part"),
            _tip("seconds", number=True),
            {"field": "share", "type": "quantitative", "format": ".1%"},
        ],
        "description": {"field": "said", "type": "nominal"},
    }
    named = [{"cell": cell, "row": row} for row, cell in enumerate(cells)]
    stacked = _layer({"type": "bar", "height": 13, "yOffset": _BELOW_ROW_LABEL}, at)
    return _finished(drawn, [stacked, _row_labels(named)], height=_ROW_HEIGHT * len(cells))


def _layer(
    mark: Mapping[str, Any],
    encoding: Mapping[str, Any],
    *,
    known: str | None = None,
    data: Sequence[Mapping[str, Any]] | None = None,
) -> Spec:
    """Return a layer; of the points with a value for ``known`` alone, or of ``data`` of its own."""
    layer: Spec = {"mark": dict(mark), "encoding": dict(encoding)}
    if known:
        layer["transform"] = [{"filter": f"isValid(datum.{known})"}]
    if data is not None:
        layer["data"] = {"values": list(data)}
    return layer


def _baseline(channel: str, title: str, value: float | None) -> list[Spec]:
    """Return a dashed line across the chart at ``value``, where there is one."""
    if value is None:
        return []
    at = {channel: _number("value", title), "color": {"value": "var(--ink)"}}
    return [_layer({"type": "rule", "strokeDash": _DASHES}, at, data=[{"value": value}])]


def _interval(
    encoding: Mapping[str, Any],
    channel: str,
    title: str,
    *,
    low: str = "drawn_low",
    high: str = "high",
    **mark: Any,  # noqa: ANN401  (Vega-Lite's)
) -> Spec:
    ends = {channel: _number(low, title), f"{channel}2": {"field": high}}
    return _layer({**_INTERVAL, **mark}, {**encoding, **ends}, known=high)


def _points(
    at: Mapping[str, Any],
    points: Sequence[Point],
    shape: Mapping[str, Any],
    titles: Mapping[str, str],
    **mark: Any,  # noqa: ANN401  (Vega-Lite's)
) -> Spec:
    """Return the marks; hovering shows every value, as far as some point has it."""
    fields = {**titles, "low": "95 % from", "high": "to", "ceiling": "ceiling"}
    tooltip = [_tip("cell")] + [
        _tip(field, title, number=True)
        for field, title in fields.items()
        if any(getattr(point, field) is not None for point in points)
    ]
    said = {"field": "said", "type": "nominal"}
    return _layer(
        {**_MARK, **mark}, {**at, "shape": shape, "tooltip": tooltip, "description": said}
    )


def _number(field: str, title: str, **more: Any) -> Spec:  # noqa: ANN401  (Vega-Lite's)
    return {"field": field, "type": "quantitative", "title": title, **more}


def _tip(field: str, title: str | None = None, *, number: bool = False) -> Spec:
    if not number:
        return {"field": field, "type": "nominal"}
    return {"field": field, "type": "quantitative", "title": title or field, "format": _NUMBER}


def _rows_axis() -> Spec:
    scale = {"type": "band", "paddingInner": 0, "paddingOuter": 0}
    return {"field": "row", "type": "ordinal", "axis": None, "scale": scale}


def _row_labels(data: Sequence[Mapping[str, Any]] | None = None) -> Spec:
    """Return names above their rows, from the left edge: they fit on a narrow screen as well."""
    mark = {
        "type": "text",
        "align": "left",
        "baseline": "middle",
        "yOffset": -_BELOW_ROW_LABEL,
        "limit": {"expr": "width"},
        "aria": False,
        "stroke": "var(--paper)",  # keeps the lines of the grid away from the letters
        "strokeWidth": 4,
    }
    encoding = {
        "x": {"value": 0},
        "y": _rows_axis(),
        "text": {"field": "cell", "type": "nominal"},
        "color": {"value": "var(--ink)"},
    }
    return _layer(mark, encoding, data=data)


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


def _raised(low: float | None, floor: float) -> float | None:
    return low if low is None or low > 0 else floor


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
    moved = []
    for each in drawn:
        step = _STEP * span * (list(shown).index(each["series"]) - (len(shown) - 1) / 2)
        moved.append({**each, "drawn_x": each["x"] * math.exp(step) if log else each["x"] + step})
    return moved


def _extent(drawn: Sequence[Mapping[str, Any]]) -> list[float]:
    """Return every value that a chart draws."""
    fields = ("value", "drawn_low", "high", "ceiling")
    return [each[field] for each in drawn for field in fields if each[field] is not None]


def _scale(axis: Axis, extent: Sequence[float]) -> Spec:
    """Return a scale around ``extent``, a little wider than it on either side."""
    if axis.ends is not None:
        return {"domain": list(axis.ends)}
    low, high = min(extent, default=1.0), max(extent, default=1.0)
    if axis.log:
        room = max((high / low) ** 0.06, 1.08)
        return {"type": "log", "nice": False, "domain": [low / room, high * room]}
    room = max(0.04 * (high - low), 0.5)
    return {"nice": False, "zero": False, "domain": [low - room, high + room]}


def _places(points: Sequence[Point]) -> list[float]:
    return sorted({point.x for point in points if point.x is not None})


def _ticks(points: Sequence[Point]) -> Spec:
    """Return an axis with a tick at each measured place, and nowhere else."""
    return {"values": _places(points), "grid": False, "labelOverlap": "greedy", "format": "~r"}


def _colour(
    shown: Sequence[str], series: Sequence[str], *, legend: bool = True, field: str = "series"
) -> Spec:
    colours = [f"var(--c{list(series).index(name) % NUM_COLOURS + 1})" for name in shown]
    columns = {"expr": "width < 320 ? 2 : 3"}
    named = {"title": None, "orient": "top", "columns": columns, "labelLimit": 150}
    return {
        "field": field,
        "type": "nominal",
        "scale": {"domain": list(shown), "range": colours},
        "legend": named if legend and len(shown) > 1 else None,
    }


def _shape(shown: Sequence[str], series: Sequence[str], *, legend: bool = True) -> Spec:
    shapes = [_SHAPES[list(series).index(name) % len(_SHAPES)] for name in shown]
    scale = {"domain": list(shown), "range": shapes}
    spec: Spec = {"field": "series", "type": "nominal", "scale": scale, "title": None}
    return spec if legend and len(shown) > 1 else {**spec, "legend": None}


def _finished(data: Sequence[Mapping[str, Any]], layers: Sequence[Spec], *, height: int) -> Spec:
    """Return a chart as wide as its place in the page, which has one configuration for all."""
    return {
        "data": {"values": [dict(each) for each in data]},
        "layer": list(layers),
        "width": "container",
        "height": height,
        "autosize": {"type": "fit-x", "contains": "padding"},
    }

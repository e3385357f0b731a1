"""What charts draw, as Vega-Lite."""

from __future__ import annotations

import json
from typing import Any

import pytest

from packsweep.report.html import charts
from packsweep.report.html.charts import Axis, Limit, Point

POINTS = [
    Point(cell="packed n=4", series="packed", x=4, value=32.0, low=30.0, high=34.0, ceiling=100.0),
    Point(cell="packed n=40", series="packed", x=40, value=41.0, low=-1.0, high=83.0),
    Point(cell="separate n=4", series="separate", x=4, value=33.0),
]
X, Y = Axis(title="n", log=True), Axis(title="texts/s", log=True)


def _curve(points: list[Point] = POINTS, **more: Any) -> dict[str, Any]:
    return charts.curve(points, x=X, y=Y, series=["packed", "separate"], **more)


def _values(spec: dict[str, Any], mark: str = "point") -> list[dict[str, Any]]:
    """Return what the last layer of a mark draws."""
    data = _layers(spec, mark)[-1].get("data") or spec["data"]
    values: list[dict[str, Any]] = data["values"]
    return values


def _layers(spec: dict[str, Any], mark: str) -> list[dict[str, Any]]:
    return [layer for layer in spec["layer"] if layer["mark"]["type"] == mark]


def _tooltips(layer: dict[str, Any]) -> list[str]:
    return [each["field"] for each in layer["encoding"]["tooltip"]]


def test_curve_intervals() -> None:
    """An interval is a bar from its lower to its upper end."""
    bar = _layers(_curve(), "rule")[0]["encoding"]
    assert (bar["y"]["field"], bar["y2"]["field"]) == ("drawn_low", "high")
    assert _values(_curve())[0]["drawn_low"] == 30.0


def test_curve_end_below_0() -> None:
    """On a log axis an end below 0 is drawn above it; the value itself stays."""
    cut = _values(_curve())[1]
    assert cut["low"] == -1.0
    assert cut["drawn_low"] == pytest.approx(16.0)


def test_curve_no_interval() -> None:
    """Points without an interval have no bars, not bars of no length."""
    assert not _layers(_curve([POINTS[2]]), "rule")


def test_curve_hover() -> None:
    """Hovering shows the value, its interval and its ceiling."""
    shown = _tooltips(_layers(_curve(), "point")[0])
    assert shown == ["cell", "x", "value", "low", "high", "ceiling"]


def test_curve_is_said() -> None:
    """A screen reader hears the values, and not where a mark was moved to."""
    point = _layers(_curve(), "point")[0]["encoding"]
    assert point["description"]["field"] == "said"
    said = [each["said"] for each in _values(_curve())]
    assert said[0] == "packed n=4: 32, 95 % from 30 to 34"
    assert said[2] == "separate n=4: 33"
    assert not [layer for layer in _curve()["layer"] if layer["mark"].get("aria", True)][1:]


def test_curve_series_keep_their_colour() -> None:
    """A series has the colour of its place in the section, also where it is alone."""
    scale = _layers(_curve([POINTS[2]]), "line")[0]["encoding"]["color"]["scale"]
    assert scale == {"domain": ["separate"], "range": ["var(--c2)"]}


def test_curve_limits() -> None:
    """A limit is a line of its own, dashed."""
    limit = Limit(series="packed", value=90.0, meaning="primed")
    spec = _curve(limits=[limit])
    assert _layers(spec, "rule")[-1]["mark"]["strokeDash"]
    assert _values(spec, "rule") == [{"series": "packed", "value": 90.0, "meaning": "primed"}]


def test_curve_scale_holds_all() -> None:
    """The axis reaches from the lowest drawn end to the ceiling."""
    low, high = _layers(_curve(), "line")[0]["encoding"]["y"]["scale"]["domain"]
    assert low < 16
    assert high > 100


def test_dots_no_zero_on_a_log_axis() -> None:
    """A value of 0 has no mark on a log axis, and is counted."""
    points = [*POINTS, Point(cell="none", series="packed", value=0.0)]
    spec = charts.dots(points, x=Axis(title="J", log=True), reference=1.0)
    assert [each["value"] for each in _values(spec)] == [32.0, 41.0, 33.0]
    assert charts.undrawn(points) == (
        "1 values of 0 have no place on this axis; the table has them.",
    )


def test_frontier_has_an_interval_on_both_axes() -> None:
    point = Point(
        cell="a", series="packed", value=0.9, low=0.8, high=0.95, x=10.0, x_low=9.0, x_high=11.0
    )
    spec = charts.frontier([point], x=X, y=Axis(title="accuracy"), series=["packed"], baseline=0.5)
    baseline, up, across = (layer["encoding"] for layer in _layers(spec, "rule"))
    assert (up["y"]["field"], up["y2"]["field"]) == ("drawn_low", "high")
    assert (across["x"]["field"], across["x2"]["field"]) == ("x_low", "x_high")
    assert baseline["y"]["field"] == "value"
    assert _layers(spec, "rule")[0]["data"]["values"] == [{"value": 0.5}]


def test_bars_order() -> None:
    """Parts are stacked in the order of the phases."""
    shares = [
        {"cell": "a", "part": part, "seconds": 1.0, "share": 0.5} for part in ("decode", "prefill")
    ]
    spec = charts.bars(shares, series=["prefill", "decode"], title="share")
    orders = {each["part"]: each["order"] for each in _values(spec, "bar")}
    assert orders == {"prefill": 0, "decode": 1}


@pytest.mark.parametrize(
    "spec",
    [
        _curve(),
        charts.dots(POINTS, x=Axis(title="J")),
        charts.frontier(POINTS, x=X, y=Axis(title="accuracy"), series=["packed", "separate"]),
        charts.bars(
            [{"cell": "a", "part": "p", "seconds": 1.0, "share": 1.0}], series=["p"], title="s"
        ),
    ],
    ids=["curve", "dots", "frontier", "bars"],
)
def test_colours_are_the_pages(spec: dict[str, Any]) -> None:
    """Every colour is a variable of the page, so that a dark page has dark charts."""
    assert "#" not in json.dumps(spec)
    assert "config" not in spec

"""What the page says of servers under load."""

from __future__ import annotations

import json
from typing import Any

from packsweep.report.html import online
from packsweep.report.tables import footer
from packsweep.results import schema
from packsweep.results.schema import Row


def _row(strategy: str, load: dict[str, Any], **values: Any) -> Row:
    """Return a row of the summary of an online cell."""
    empty = dict.fromkeys(column.name for column in schema.SUMMARY)
    cell = {"cell_id": f"{strategy}-{load}", "strategy": strategy, "n": 4, "duplication": 1}
    kept = {"outcome": "ok", "mode": "online", "online": json.dumps(load), "cache_state": "off"}
    return {**empty, **cell, **kept, "engine_settings": "{}", **values}


def _curve(strategy: str, points: dict[float, float]) -> list[Row]:
    return [
        _row(strategy, {"rate": rate}, e2e_p99_s_median=seconds) for rate, seconds in points.items()
    ]


def _lines(rows: list[Row]) -> tuple[str, ...]:
    return online.sections(rows)[0].lines


def test_sections_offline() -> None:
    """A page without online cells has no such group."""
    assert online.sections([_row("packed", {}, mode="offline")]) == ()


def test_knee() -> None:
    """The knee is the first load past twice the latency of the lightest, whatever the order."""
    rows = _curve("separate", {4.0: 0.9, 1.0: 0.2, 2.0: 0.35, 8.0: 3.0})
    assert "Knee of separate n=4, off: at 4 (rate)." in _lines(rows)


def test_knee_not_reached() -> None:
    """A latency that stays is no knee."""
    rows = _curve("packed", {1.0: 0.2, 2.0: 0.3})
    assert "Knee of packed n=4, off: not up to 2 (rate)." in _lines(rows)


def test_knee_one_load() -> None:
    """One load has no knee."""
    assert not [line for line in _lines(_curve("packed", {1.0: 0.2})) if line.startswith("Knee of")]


def test_slo_missing() -> None:
    """Without an SLO the page says how to ask for one."""
    _, slo, _ = online.sections(_curve("packed", {1.0: 0.2}))
    assert slo.lines == ('No SLO was set: use online.slo = "p99 e2e <= 500 ms".',)


def test_beside() -> None:
    """An online cell stands beside the offline one of the same work, as a share of it."""
    rows = [
        _row("packed", {"rate": 2.0}, achieved_texts_per_s=2.0),
        _row("packed", {}, mode="offline", texts_per_s_median=8.0),
        _row("separate", {}, mode="offline", texts_per_s_median=4.0),
    ]
    *_, beside = online.sections(rows)
    assert [cells[1:] for cells in beside.tables[0].rows] == [("8.00", "2.00", "25%")]


def test_headline() -> None:
    """The best of the searches is told with its SLO."""
    load = {"max_rate": 1.0, "slo": "p99 e2e <= 2 s"}
    rows = [
        _row("packed", load, max_rate_pass_texts_per_s=3.0),
        _row("separate", load, max_rate_pass_texts_per_s=12.5),
        _row("chunked", load, pack_size=4),
    ]
    said = "Run separate: shown to meet p99 e2e <= 2 s at 12.5 texts/s, the highest rate here."
    assert online.headline(rows) == said
    assert online.headline(rows[2:]) == "No window under load has been measured yet."


def test_headline_without_a_rate_that_passes() -> None:
    """Where no rate is shown to keep the SLO, the quickest answers are told with their load."""
    load = {"max_rate": 1.0, "slo": "p99 e2e <= 2 s"}
    values = {"max_rate_verdict": "undecided", "achieved_texts_per_s": 7.0}
    rows = [
        _row("packed", load, e2e_p99_s_median=2.5, **values),
        _row("separate", load, e2e_p99_s_median=0.5, **values),
    ]
    said = "Lowest latency: separate, p99 E2E 0.5 s at 7.00 texts/s."
    assert online.headline(rows) == f"No rate was shown to meet its SLO. {said}"


def test_verdicts() -> None:
    """A line an SLO says between which rates each setting stops keeping it."""
    ends = {"packed": (None, None), "separate": (12.5, 25.0), "chunked": (None, 8.0)}
    rows = [
        _row(
            name,
            {"max_rate": 1.0, "slo": "p99 e2e <= 2 s"},
            pack_size=4 if name == "chunked" else None,
            max_rate_verdict="undecided",
            max_rate_pass_texts_per_s=passes,
            max_rate_fail_texts_per_s=fails,
            max_rate_reason="too short" if fails is None else None,
        )
        for name, (passes, fails) in ends.items()
    ]
    (line,) = online.verdicts(rows)
    assert line == (
        "p99 e2e <= 2 s: packed undecided; separate shown to meet it at 12.5 texts/s and to miss "
        "it at 25; chunked4 shown to meet it at no rate and to miss it at 8. "
        "Online, below, says how long a verdict takes."
    )
    assert online.verdicts([_row("packed", {"rate": 1.0})]) == ()


def test_verdicts_of_several_searches_are_one() -> None:
    """They differ in where they began and how long they took; a pass above a failure is none."""
    searches = [(70.0, None, 140.0), (35.0, 30.0, None), (20.0, 150.0, None)]
    rows = [
        _row(
            "separate",
            {"max_rate": first, "search_s": 9 * first, "slo": "p99 e2e <= 2 s"},
            max_rate_verdict="undecided",
            max_rate_pass_texts_per_s=passes,
            max_rate_fail_texts_per_s=fails,
            max_rate_reason=None,
        )
        for first, passes, fails in searches
    ]
    said = "separate shown to meet it at 30 texts/s and to miss it at 140."
    assert online.verdicts(rows) == (f"p99 e2e <= 2 s: {said}",)


def test_slo_undecided() -> None:
    """What a search has not shown is told in words, with the reason."""
    load = {"max_rate": 1.0, "slo": "p99 e2e <= 2 s"}
    values = {"attainment_median": 1.0, "attainment_ci_low": 0.9, "attainment_ci_high": 1.0}
    rows = [
        _row("packed", load, max_rate_verdict="undecided", max_rate_reason="too short", **values),
        _row(
            "separate",
            load,
            max_rate_verdict="none_passes",
            max_rate_fail_texts_per_s=8.0,
            **values,
        ),
    ]
    _, slo, _ = online.sections(rows)
    assert [cells[2:] for cells in slo.tables[0].rows] == [
        ("100% (90-100%)", "-", "undecided", "undecided"),
        ("100% (90-100%)", "-", "none", "8.00"),
    ]
    assert any(line.endswith(": too short.") for line in slo.lines)


def test_reasons_of_searches() -> None:
    """The lines below the table say why a search shows no more."""
    load = {"max_rate": 1.0, "slo": "p99 e2e <= 2 s"}
    row = _row("packed", load, max_rate_verdict="none_passes", max_rate_reason="too short")
    assert footer.reasons([row]) == ["packed n=4: no rate is shown to meet the SLO: too short"]

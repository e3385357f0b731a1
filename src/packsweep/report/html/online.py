"""Servers under load: latency against load, what share kept the SLO, offline beside online."""

from __future__ import annotations

import json
from collections.abc import Sequence

from packsweep.analysis import axes
from packsweep.report import format as fmt
from packsweep.report.cell import attainment, names, shown_rate, speed, strategy
from packsweep.report.html import charts
from packsweep.report.html.charts import Axis, Point
from packsweep.report.html.parts import Figure, Section, grouped, make_table
from packsweep.report.tables import cells_table
from packsweep.results.schema import Row

# A latency this many times that of the lightest load is past the knee.
KNEE = 2.0
# How a search goes about it, which is no part of what it asks.
_OF_A_SEARCH = ("max_rate", "search_s", "window_s", "window_seed")
# An interval of few windows may reach anywhere.
BOUNDED = 0.1
_LATENCY = (
    "Latency counts from the scheduled arrival, so a server that falls behind cannot hide it. The "
    f"knee of a strategy is the first load whose p99 E2E is more than {KNEE:g} times that of its "
    "lightest load."
)
_GOODPUT = "Goodput counts the texts of requests within the SLO's limit; failed requests never are."
_ATTAINED = (
    "Intervals are over batches of time in the windows of a server: requests of one queue are not "
    "independent. With several servers, each end is the more conservative of two: the mean of the "
    "servers' own ends, and that of the interval over servers. A search is represented by its "
    "windows at the rate shown to meet the SLO, or else at its lowest rate."
)
_INTERVALS = (
    "Points are medians over windows, bars the 95 % interval of their mean; an interval that "
    f"reaches below {BOUNDED:.0%} of the median is uninformative and not drawn."
)


def sections(rows: Sequence[Row]) -> tuple[Section, ...]:
    """Return what online cells say; nothing where there are none."""
    online = [row for row in rows if row["mode"] == "online"]
    if not online:
        return ()
    return (_latency(online), _slo(online), _beside(rows, online))


def headline(rows: Sequence[Row]) -> str:
    """Return the first sentence of a page that has online cells alone."""
    shown = sorted(
        (row for row in rows if row["max_rate_pass_texts_per_s"] is not None),
        key=lambda row: -float(row["max_rate_pass_texts_per_s"]),
    )
    if shown:
        best = shown[0]
        rate, slo = fmt.small(best["max_rate_pass_texts_per_s"]), axes.settings(best)["slo"]
        return (
            f"Run {strategy(best)}: shown to meet {slo} at {rate} texts/s, the highest rate here."
        )
    timed = [row for row in rows if row["e2e_p99_s_median"] is not None]
    if not timed:
        return "No window under load has been measured yet."
    quickest = min(timed, key=lambda row: float(row["e2e_p99_s_median"]))
    searched = any(row["max_rate_verdict"] is not None for row in rows)
    told = "No rate was shown to meet its SLO. " * searched
    return (
        f"{told}Lowest latency: {strategy(quickest)}, "
        f"p99 E2E {fmt.small(quickest['e2e_p99_s_median'])} s at "
        f"{fmt.number(quickest['achieved_texts_per_s'])} texts/s."
    )


def verdicts(rows: Sequence[Row]) -> tuple[str, ...]:
    """Return a line for each SLO: between which rates each setting stops keeping it."""
    searched = [row for row in rows if row["max_rate_verdict"] is not None]
    found = []
    for slo, members in grouped(searched, lambda row: str(axes.settings(row)["slo"])).items():
        asked = [_together(searches) for searches in grouped(members, _asked).values()]
        short = list(map(strategy, asked))
        words = names(asked) if len(set(short)) < len(short) else None
        ends = (
            f"{strategy(row) if words is None else words[str(row['cell_id'])]} {_ends(row)}"
            for row in asked
        )
        more = any(row["max_rate_reason"] is not None for row in members)
        where = " Online, below, says how long a verdict takes." if more else ""
        found.append(f"{slo}: {'; '.join(ends)}.{where}")
    return tuple(found)


def _asked(row: Row) -> tuple[object, ...]:
    """Return what was searched, without how."""
    settings = {name: str(value) for name, value in axes.settings(_searched(row)).items()}
    return (*(row.get(name) for name in axes.WORK), *sorted(settings.items()))


def _searched(row: Row) -> Row:
    """Return a row without the settings of its search."""
    load = axes.parsed(row, "online")
    kept = {name: value for name, value in load.items() if name not in _OF_A_SEARCH}
    return {**row, "online": json.dumps(kept)}


def _together(searches: Sequence[Row]) -> Row:
    """Return what several searches of a setting have shown: the widest rates that agree."""
    passes, fails = (
        [row[f"max_rate_{end}_texts_per_s"] for row in searches] for end in ("pass", "fail")
    )
    lowest = min((rate for rate in fails if rate is not None), default=None)
    below = [rate for rate in passes if rate is not None and (lowest is None or rate < lowest)]
    shown = {
        "max_rate_pass_texts_per_s": max(below, default=None),
        "max_rate_fail_texts_per_s": lowest,
    }
    return {**_searched(searches[0]), **shown}


def _ends(row: Row) -> str:
    """Return what a search has shown."""
    passes, fails = row["max_rate_pass_texts_per_s"], row["max_rate_fail_texts_per_s"]
    if passes is None and fails is None:
        return "undecided"
    kept = "no rate" if passes is None else f"{fmt.small(passes)} texts/s"
    missed = "" if fails is None else f" and to miss it at {fmt.small(fails)}"
    return f"shown to meet it at {kept}{missed}"


def _latency(online: Sequence[Row]) -> Section:
    """Return p99 E2E against the load, with each strategy's knee."""
    ok = [row for row in online if row["e2e_p99_s_median"] is not None]
    figures = [
        figure
        for unit, of in (("texts/s", "rate"), ("requests", "concurrency"))
        if (figure := _curve([row for row in ok if _load(row, of) is not None], of, unit))
    ]
    caption = "Every online cell, as packsweep show prints it"
    return Section(
        key="online",
        title="Latency against load",
        lines=(_LATENCY, _INTERVALS, *_knees(ok)),
        figures=tuple(figures),
        tables=(cells_table.summary(list(online), caption=caption),),
    )


def _load(row: Row, of: str) -> float | None:
    return axes.settings(row).get(of)


def _curve(rows: Sequence[Row], of: str, unit: str) -> Figure | None:
    if not rows:
        return None
    words = names(rows)
    points = [
        Point(
            cell=words[str(row["cell_id"])],
            series=strategy(row),
            x=_load(row, of),
            value=row["e2e_p99_s_median"],
            low=row["e2e_p99_s_ci_low"] if _is_bounded(row) else None,
            high=row["e2e_p99_s_ci_high"] if _is_bounded(row) else None,
        )
        for row in rows
    ]
    series = list(dict.fromkeys(point.series for point in points))
    title = f"p99 E2E against {of}" + (f", {series[0]}" if len(series) == 1 else "")
    return Figure(
        title=title,
        described=f"{title}: {len(points)} cells; upward is slower.",
        spec=charts.curve(
            points,
            x=Axis(title=f"{of}, {unit}", log=True),
            y=Axis(title="p99 E2E, s", log=True),
            series=series,
        ),
        data=make_table(
            f"Data of {title}",
            ("cell", of, "p99 TTFT s", "p99 E2E s"),
            [
                (
                    words[str(row["cell_id"])],
                    fmt.small(_load(row, of)),
                    fmt.small(row["ttft_p99_s_median"]),
                    fmt.small(row["e2e_p99_s_median"]),
                )
                for row in rows
            ],
        ),
    )


def _is_bounded(row: Row) -> bool:
    low, median = row["e2e_p99_s_ci_low"], row["e2e_p99_s_median"]
    return low is not None and low >= BOUNDED * median


def _knees(rows: Sequence[Row]) -> list[str]:
    """Say where each strategy's latency leaves its level, for every kind of load."""
    found = []
    for (name, of), members in grouped(rows, _series).items():
        ranked = sorted(
            ((load, row["e2e_p99_s_median"]) for row in members if (load := _load(row, of))),
        )
        if len(ranked) < 2:  # noqa: PLR2004  (a knee lies between two loads)
            continue
        base = ranked[0][1]
        past = next((load for load, seconds in ranked if seconds > KNEE * base), None)
        where = f"not up to {ranked[-1][0]:g}" if past is None else f"at {past:g}"
        found.append(f"Knee of {name}: {where} ({of}).")
    return found


def _series(row: Row) -> tuple[str, str]:
    """Return a strategy with all that varies beside the load, and the kind of load."""
    of = "rate" if _load(row, "rate") is not None else "concurrency"
    return f"{strategy(row)} n={row['n']}, {row['cache_state']}", of


def _slo(online: Sequence[Row]) -> Section:
    """Return attainment with its intervals, goodput, and what a search has shown."""
    key, title = "slo", "Which load meets the SLO"
    kept = [row for row in online if row["attainment_median"] is not None]
    if not kept:
        line = 'No SLO was set: use online.slo = "p99 e2e <= 500 ms".'
        return Section(key=key, title=title, lines=(line,))
    words = names(online)
    table = make_table(
        "Requests within the SLO's limit, and goodput",
        (
            "cell",
            "SLO",
            "met (95% CI)",
            "goodput texts/s",
            "shown to meet it",
            "shown not to",
        ),
        [
            (
                words[str(row["cell_id"])],
                str(axes.settings(row).get("slo")),
                attainment(row),
                fmt.number(row["goodput_texts_per_s_median"]),
                shown_rate(row, "pass"),
                shown_rate(row, "fail"),
            )
            for row in kept
        ],
        text=3,
    )
    searched = [row for row in kept if row["max_rate_reason"] is not None]
    why = [f"{words[str(row['cell_id'])]}: {row['max_rate_reason']}." for row in searched]
    return Section(key=key, title=title, lines=(_GOODPUT, _ATTAINED, *why), tables=(table,))


def _beside(rows: Sequence[Row], online: Sequence[Row]) -> Section:
    """Return each online cell beside the offline one that asks the same in the same way."""
    key, title = "beside", "Offline and online compared"
    offline = {_work(row): row for row in rows if row["mode"] != "online" and _is_ok(row)}
    pairs = [(row, offline[_work(row)]) for row in online if _is_ok(row) and _work(row) in offline]
    if not pairs:
        line = "No cell was measured offline with the same work: run the sweep with mode offline."
        return Section(key=key, title=title, lines=(line,))
    words = names(rows)
    table = make_table(
        "The same work offline and online",
        ("online cell", "offline texts/s", "online texts/s", "share"),
        [
            (
                words[str(row["cell_id"])],
                speed(other),
                fmt.number(row["achieved_texts_per_s"]),
                fmt.percent(row["achieved_texts_per_s"] / other["texts_per_s_median"]),
            )
            for row, other in pairs
            if row["achieved_texts_per_s"] is not None
        ],
    )
    line = "Offline is what the engine can do with all requests at once: no load can exceed it."
    return Section(key=key, title=title, lines=(line,), tables=(table,))


def _is_ok(row: Row) -> bool:
    return bool(row["outcome"] == "ok")


def _work(row: Row) -> tuple[object, ...]:
    """Return what an online and an offline cell share that do the same work."""
    return (*(row[name] for name in axes.WORK if name != "mode"), row["engine_settings"])

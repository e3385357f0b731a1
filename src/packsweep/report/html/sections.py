"""Where the time goes, accuracy, cost: what a cell's texts per second are made of and worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from packsweep.analysis.contrasts import SETTINGS, Comparison
from packsweep.report import cells_table, footer, labels_table
from packsweep.report import format as fmt
from packsweep.report.html import charts
from packsweep.report.html.charts import Axis, Limit, Point
from packsweep.report.html.curves import limit_notes, points_table, texts_per_prompt
from packsweep.report.html.parts import (
    MAX_MARKS,
    MAX_PANELS,
    Figure,
    Section,
    extremes,
    from_rich,
    from_shown,
    make_table,
    names,
)
from packsweep.results import schema
from packsweep.results.schema import Row

# What an attempt's bar is made of; phases of no interest in most attempts are one part.
_ATTEMPT = {
    "import": ("import_s",),
    "engine start": ("engine_start_s",),
    "warm-up": ("warmup_s",),
    "cache": ("cache_s",),
    "timed passes": ("passes_s",),
    "checks between": ("between_s",),
    "stop": ("stop_s",),
    "other": ("spawn_s", "check_s", "resolve_s", "tokenize_probe_s", "record_s"),
}
_PASS = {
    "before the engine": ("before_engine_s",),
    "prefill": ("prefill_span_s",),
    "decode": ("decode_span_s",),
    "after the engine": ("after_engine_s",),
}
_BY_CHANCE = (
    "Each interval is of one comparison; of twenty without a difference one would exclude 1 by "
    "chance."
)

_PLAINEST = "Settings are held against the cell that has most of them at their defaults."


def ratios(compared: Sequence[Comparison], rows: Sequence[Row]) -> Figure | None:
    """Return every comparison as a dot with its interval; None where there is none."""
    if not compared:
        return None
    words = names(rows)
    found, note = _most_telling(compared)
    order = {str(row["cell_id"]): place for place, row in enumerate(rows)}
    found.sort(key=lambda each: (each.axis != "strategy", order[each.baseline]))
    points = [
        Point(
            cell=_pair(words[each.cell], words[each.baseline]),
            series=each.axis,
            value=each.ratio.value,
            low=each.ratio.ci_low,
            high=each.ratio.ci_high,
        )
        for each in found
        if each.ratio.value is not None
    ]
    data = make_table(
        "Data of the comparisons",
        ("cell", "over", "ratio, 95 % interval and what may be said"),
        [(words[each.cell], words[each.baseline], footer.verdict(each)) for each in found],
        text=3,
    )
    title = "texts/s of a cell over that of its baseline"
    return Figure(
        title=title,
        described=f"{title}, {len(points)} ratios with intervals; left of 1 is slower.",
        spec=charts.dots(points, x=Axis(title="ratio, 1: no difference", log=True), reference=1.0),
        data=data,
        notes=(
            _BY_CHANCE,
            *([_PLAINEST] if any(each.axis == SETTINGS for each in found) else []),
            *_margin(compared),
            *([f"Shown: {note}."] if note else []),
        ),
    )


def _most_telling(compared: Sequence[Comparison]) -> tuple[list[Comparison], str | None]:
    """Return the largest and smallest ratios of too many, and a note."""
    if len(compared) <= MAX_MARKS:
        return list(compared), None
    ranked = sorted(compared, key=lambda each: each.ratio.value or 0.0, reverse=True)
    half = MAX_MARKS // 2
    note = f"the {half} largest and the {half} smallest of {len(ranked):,} ratios"
    return [*ranked[:half], *ranked[-half:]], note


def _margin(compared: Sequence[Comparison]) -> list[str]:
    """Say what some comparisons do not cover: the spread between processes, and between GPUs."""
    inside = [each.ratio for each in compared if not each.ratio.between_processes]
    said = [f"One process each: beyond {ratio.margin - 1:.0%} is called." for ratio in inside[:1]]
    apart = sum(not each.same_gpu for each in compared)
    return (
        [*said, f"{apart} of {len(compared)} between different GPUs of one kind."]
        if apart
        else said
    )


def _pair(cell: str, baseline: str) -> str:
    """Return two names in one, what they share said once."""
    shared = set(cell.split()) & set(baseline.split())
    mine, other = (
        " ".join(word for word in name.split() if word not in shared) for name in (cell, baseline)
    )
    told = " ".join(word for word in cell.split() if word in shared)
    return f"{mine or 'without'} / {other or 'without'}: {told}"


def time(rows: Sequence[Row]) -> Section:
    """Return the phases of an attempt and the split of a pass."""
    key, title = "time", "Where the time goes"
    measured = [row for row in rows if row["outcome"] == "ok"]
    shown, note = extremes(measured, MAX_MARKS, by="texts_per_s_median")
    figures = [
        figure
        for told, whole, parts in (
            ("Phases of an attempt", "wall_s", _ATTEMPT),
            ("Split of a pass", "duration_s_median", _PASS),
        )
        if (figure := _bars(shown, told, whole, parts)) is not None
    ]
    if not figures:
        return Section(key=key, title=title, lines=("No cell recorded its phases.",))
    tables = [
        from_shown(columns, f"Shares of the {whole}, as packsweep show --time prints them")
        for columns in cells_table.time_tables(shown)
        for whole in (each.heading.removesuffix("\ns") for each in columns)
        if f"{whole}\ns" in {each.heading for each in columns}
    ]
    told = (
        "An attempt is one process: most of it is no measurement. A pass is the timed window; its "
        "parts are medians, which need not add up."
    )
    lines = (told, *([f"Shown: {note}."] if note else []))
    return Section(key=key, title=title, lines=lines, figures=tuple(figures), folded=tuple(tables))


def _bars(
    rows: Sequence[Row], title: str, whole: str, parts: Mapping[str, Sequence[str]]
) -> Figure | None:
    words = names(rows)
    shares = [
        {"cell": words[row["cell_id"]], "part": part, "seconds": seconds, "share": seconds / total}
        for row in rows
        if (total := row[whole])
        for part, columns in parts.items()
        if (seconds := sum(row[name] or 0.0 for name in columns)) > 0
    ]
    if not shares:
        return None
    series = [part for part in parts if any(each["part"] == part for each in shares)]
    data = make_table(
        f"Data of: {title}",
        ("cell", "part", "seconds", "share"),
        [
            (each["cell"], each["part"], fmt.exact(each["seconds"]), f"{each['share']:.1%}")
            for each in shares
        ],
        text=2,
        most=len(shares),
    )
    return Figure(
        title=title,
        described=f"{title}: stacked shares for {len(rows)} cells, the table below has each.",
        spec=charts.bars(shares, series=series, title="share of the seconds"),
        data=data,
    )


def scored(rows: Sequence[Row]) -> list[str]:
    """Return the cells whose answers are looked into, those with several texts a prompt first."""
    known = [row for row in rows if row["accuracy"] is not None]
    several_first = sorted(known, key=lambda row: texts_per_prompt(row) == 1)
    return [str(row["cell_id"]) for row in several_first[:MAX_MARKS]]


def accuracy(rows: Sequence[Row], positions: Sequence[Row], confusion: Sequence[Row]) -> Section:
    """Return accuracy by position in a prompt, for the cells whose prompts hold several texts.

    Args:
        rows: of a summary.
        positions: of ``labels.by_position``, for the cells of ``scored``.
        confusion: of ``labels.confusion``, for the same.
    """
    key, title = "accuracy", "Accuracy by position in a prompt"
    looked_into = scored(rows)
    if not looked_into:
        line = "No answers were scored: random weights, or no cell ended ok."
        return Section(key=key, title=title, lines=(line,))
    few = [row for row in rows if row["cell_id"] in looked_into]
    own = {row["cell_id"]: [each for each in positions if _is_of(each, row)] for row in few}
    several = [row for row in few if len(own[row["cell_id"]]) > 1]
    words = names(rows)
    figures = tuple(
        _position_figure(row, own[row["cell_id"]], words[row["cell_id"]])
        for row in several[:MAX_PANELS]
    )
    number = sum(row["accuracy"] is not None for row in rows)
    lines = ["Labels found and right over the distinct texts of one pass; Wilson intervals."]
    lines += [] if several else ["No curve: every prompt held one text."]
    if len(several) > MAX_PANELS:
        lines.append(f"Drawn: {MAX_PANELS} of {len(several)} cells with several texts a prompt.")
    if number > len(few):
        lines.append(f"Looked into: {len(few)} of {number:,} scored cells.")
    tables = (
        from_rich(labels_table.positions(positions, few), "Right by position in the prompt"),
        from_rich(labels_table.confusion(confusion, few), "Expected labels against those found"),
    )
    return Section(key=key, title=title, lines=tuple(lines), figures=figures, folded=tables)


def _is_of(each: Row, row: Row) -> bool:
    return bool(each["cell_id"] == row["cell_id"])


def _position_figure(row: Row, own: Sequence[Row], words: str) -> Figure:
    points = [
        Point(
            cell=f"{words}, positions {each['first'] + 1} to {each['last'] + 1}",
            series="right",
            x=(each["first"] + each["last"]) / 2 + 1,
            value=each["accuracy"],
            low=each["accuracy_ci_low"],
            high=each["accuracy_ci_high"],
        )
        for each in own
    ]
    share = row["commoner_label_share"]
    meaning = "the commoner label for every text, unread"
    limits = [] if share is None else [Limit(series="right", value=share, meaning=meaning)]
    axis = Axis(title="position in the prompt, from 1")
    spec = charts.curve(
        points,
        x=axis,
        y=Axis(title="share right", ends=(0.0, 1.0)),
        series=["right"],
        limits=limits,
    )
    title = f"Share right by position: {words}"
    return Figure(
        title=title,
        described=f"{title}, in {len(own)} places with intervals.",
        spec=spec,
        data=points_table(title, points, x_title=axis.title, value="share right"),
        notes=limit_notes(limits),
    )


def cost(rows: Sequence[Row]) -> Section:
    """Return dollars and joules for 1,000 texts."""
    measured = [row for row in rows if row["outcome"] == "ok"]
    shown, note = extremes(measured, MAX_MARKS, by="texts_per_s_median")
    lines, figures = [], []
    dollars = _cost_figure(shown, "usd_per_1000_texts", "$ for 1,000 texts")
    joules = _cost_figure(shown, "joules_per_1000_texts", "J for 1,000 texts")
    if dollars is None:
        lines.append("No price: pass --gpu-hour-usd, or set [cost] gpu_hour_usd.")
    else:
        figures.append(dollars)
        lines.append("Dollars: GPU time of the timed passes; starting the engine is not counted.")
    if joules is None:
        lines.append("No energy: the device does not count it, or passes were below a second.")
    else:
        figures.append(joules)
        lines.append("Joules: the whole GPU in the timed window; the host is not in it.")
    lines += [f"Shown: {note}."] if note else []
    columns = [
        name
        for name in (column.name for column in (*schema.COST[1:], *schema.ENERGY))
        if any(row[name] is not None for row in shown)
    ]
    words = names(shown)
    body = [(words[row["cell_id"]], *(fmt.exact(row[name]) for name in columns)) for row in shown]
    headings = ("cell", *(name.replace("_", " ") for name in columns))
    tables = (make_table("Cost and energy of every cell", headings, body),) if columns else ()
    return Section(
        key="cost",
        title="Cost and energy",
        lines=tuple(lines),
        figures=tuple(figures),
        folded=tables,
    )


def _cost_figure(rows: Sequence[Row], name: str, title: str) -> Figure | None:
    words = names(rows)
    points = [
        Point(
            cell=words[row["cell_id"]],
            series=row["strategy"],
            value=row[name],
            low=_end(row, name, "ci_high"),
            high=_end(row, name, "ci_low"),
        )
        for row in rows
        if row[name] is not None
    ]
    if not points:
        return None
    known = any(point.high is not None for point in points)
    return Figure(
        title=title,
        described=f"{title}, {len(points)} cells, the table below has each.",
        spec=charts.dots(points, x=Axis(title=title, log=True)),
        data=points_table(title, points, x_title=None, value=title),
        notes=charts.undrawn(points)
        + (("Bars: the price at the ends of the interval of texts/s.",) * known),
    )


def _end(row: Row, name: str, end: str) -> float | None:
    """Return a cost at one end of the interval of the speed; energy has no interval."""
    speed, median = row[f"texts_per_s_{end}"], row["texts_per_s_median"]
    if not name.startswith("usd") or speed is None or speed <= 0:
        return None
    return float(row[name] * median / speed)

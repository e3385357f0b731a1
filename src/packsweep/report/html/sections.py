"""Where the time goes, accuracy, cost: what a cell's texts per second are made of and worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from packsweep.analysis.contrasts import SETTINGS, Comparison
from packsweep.report import format as fmt
from packsweep.report import verdict
from packsweep.report.cell import names, pair, texts_per_prompt
from packsweep.report.format import DASH
from packsweep.report.html import charts
from packsweep.report.html.charts import Axis, Limit, Point
from packsweep.report.html.curves import limit_notes, points_table
from packsweep.report.html.parts import (
    MAX_MARKS,
    MAX_PANELS,
    Figure,
    Section,
    bounded,
    extremes,
    grouped,
    make_table,
)
from packsweep.report.tables import cells_table, footer, quality_table
from packsweep.report.tables.table import Table
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
_BASELINE_SETTINGS = (
    "The baseline of settings is the cell closest to the defaults among those of the same work."
)

_PER_GPU = "Where engines have different numbers of GPUs, the ratio is of the texts/s of a GPU."


def comparisons(compared: Sequence[Comparison], rows: Sequence[Row]) -> Section:
    """Return every comparison as a dot with its interval."""
    key, title = "compared", "Every comparison"
    if not compared:
        line = "No two cells do the same work in different ways."
        return Section(key=key, title=title, lines=(line,))
    shown, note = _most_telling(compared)
    order = {str(row["cell_id"]): place for place, row in enumerate(rows)}
    shown.sort(key=lambda each: (each.axis != "strategy", order[each.baseline]))
    notes = (f"Shown: {note}.",) if note else ()
    figure = _ratios_figure(shown, names(rows), notes)
    return Section(
        key=key, title=title, lines=_how_compared(compared, shown, rows), figures=(figure,)
    )


def _ratios_figure(
    shown: Sequence[Comparison], words: Mapping[str, str], notes: tuple[str, ...]
) -> Figure:
    points = [
        Point(
            cell=pair(words[each.cell], words[each.baseline]),
            series=each.axis,
            value=each.ratio.value,
            low=each.ratio.ci_low,
            high=each.ratio.ci_high,
        )
        for each in shown
        if each.ratio.value is not None
    ]
    scored = any(each.answers is not None for each in shown)
    data = [
        (
            words[each.cell],
            words[each.baseline],
            verdict.text(each.ratio, each.speed, per_gpu=each.per_gpu),
            *([_difference(each)] if scored else []),
        )
        for each in shown
    ]
    heading = "texts/s of a cell over that of its baseline"
    axis = Axis(title="ratio; 1 is no difference", log=True)
    columns = (
        *("cell", "baseline", "ratio, 95 % interval and verdict"),
        *(["accuracy, difference on the same texts"] if scored else []),
    )
    return Figure(
        title=heading,
        described=f"{heading}, {len(points)} ratios with intervals; left of 1 is slower.",
        spec=charts.dots(points, x=axis, reference=1.0),
        data=make_table("Data of the comparisons", columns, data, text=len(columns)),
        notes=notes,
    )


def _difference(compared: Comparison) -> str:
    if compared.answers is None:
        return DASH
    return quality_table.difference(compared.answers, compared.quality)


def _how_compared(
    compared: Sequence[Comparison], shown: Sequence[Comparison], rows: Sequence[Row]
) -> tuple[str, ...]:
    """Return sentences on what the verdicts mean and between which cells they are."""
    explained = verdict.explained([c.ratio for c in compared], [c.answers for c in compared])
    apart = sum(not comparison.same_gpu for comparison in compared)
    return (
        *map(_sentence, explained),
        *([_BASELINE_SETTINGS] if any(each.axis == SETTINGS for each in shown) else []),
        *map(_sentence, footer.several_gpus(compared, rows)),
        *([_PER_GPU] if any(each.per_gpu for each in shown) else []),
        *([f"{apart} of {len(compared)} between different GPUs of one kind."] if apart else []),
    )


def _sentence(line: str) -> str:
    return f"{line[0].upper()}{line[1:]}."


def _most_telling(compared: Sequence[Comparison]) -> tuple[list[Comparison], str | None]:
    """Return the largest and smallest ratios of too many, and a note."""
    if len(compared) <= MAX_MARKS:
        return list(compared), None
    ranked = sorted(compared, key=lambda each: each.ratio.value or 0.0, reverse=True)
    half = MAX_MARKS // 2
    note = f"the {half} largest and the {half} smallest of {len(ranked):,} ratios"
    return [*ranked[:half], *ranked[-half:]], note


def time(rows: Sequence[Row]) -> Section:
    """Return the phases of an attempt and the split of a pass."""
    key, title = "time", "Where the time goes"
    measured = [row for row in rows if row["outcome"] == "ok"]
    shown, note = extremes(measured, MAX_MARKS, by="texts_per_s_median")
    figures = [
        figure
        for heading, whole, parts in (
            ("Phases of an attempt", "wall_s", _ATTEMPT),
            ("Split of a pass", "duration_s_median", _PASS),
        )
        if (figure := _bars(shown, heading, whole, parts)) is not None
    ]
    if not figures:
        return Section(key=key, title=title, lines=("No cell recorded its phases.",))
    what = (
        "An attempt is one engine process; only its timed passes are measured. A pass is the timed "
        "window; its parts are medians, which need not add up."
    )
    lines = (what, *([f"Shown: {note}."] if note else []))
    tables = tuple(cells_table.time_tables(shown))
    return Section(key=key, title=title, lines=lines, figures=tuple(figures), folded=tables)


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
    series = [part for part in parts if any(share["part"] == part for share in shares)]
    data = make_table(
        f"Data of: {title}",
        ("cell", "part", "seconds", "share"),
        [
            (share["cell"], share["part"], fmt.exact(share["seconds"]), f"{share['share']:.1%}")
            for share in shares
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
    """Return the cells whose answers are shown, those with several texts a prompt first."""
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
    own = grouped(positions, lambda position: str(position["cell_id"]))
    several = [row for row in few if len(own.get(row["cell_id"], ())) > 1]
    words = names(rows)
    figures = tuple(
        _position_figure(row, own[row["cell_id"]], words[row["cell_id"]])
        for row in several[:MAX_PANELS]
    )
    number = sum(row["accuracy"] is not None for row in rows)
    lines = ["Over the distinct texts of one pass, with 95 % Wilson intervals."]
    lines += [] if several else ["No curve: every prompt held one text."]
    if len(several) > MAX_PANELS:
        lines.append(f"Drawn: {MAX_PANELS} of {len(several)} cells with several texts per prompt.")
    if number > len(few):
        lines.append(f"Shown: {len(few)} of {number:,} scored cells.")
    tables = (
        _captioned(quality_table.positions(positions, few), "Accuracy by position in the prompt"),
        _captioned(quality_table.confusion(confusion, few), "Expected against predicted labels"),
    )
    return Section(key=key, title=title, lines=tuple(lines), figures=figures, folded=tables)


def _captioned(whole: Table, caption: str) -> Table:
    return bounded(replace(whole, caption=caption))


def _position_figure(row: Row, own: Sequence[Row], words: str) -> Figure:
    points = [
        Point(
            cell=f"{words}, position {quality_table.span(each)}",
            series="accuracy",
            x=(each["first"] + each["last"]) / 2 + 1,
            value=each["accuracy"],
            low=each["accuracy_ci_low"],
            high=each["accuracy_ci_high"],
        )
        for each in own
    ]
    share = row["majority_class_share"]
    meaning = "always giving the most frequent label"
    limits = [] if share is None else [Limit(series="accuracy", value=share, meaning=meaning)]
    axis = Axis(title="position in the prompt, from 1")
    spec = charts.curve(
        points,
        x=axis,
        y=Axis(title="accuracy", ends=(0.0, 1.0)),
        series=["accuracy"],
        limits=limits,
    )
    title = f"Accuracy by position: {words}"
    return Figure(
        title=title,
        described=f"{title}, in {len(own)} places with intervals.",
        spec=spec,
        data=points_table(title, points, x_title=axis.title, value="accuracy"),
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
        lines.append("No price was given: pass --gpu-hour-usd, or set [cost] gpu_hour_usd.")
    else:
        figures.append(dollars)
        lines.append("Dollars: GPU time of the timed passes, without engine start.")
    if joules is None:
        lines.append(
            "No energy: the device does not measure it, or passes were shorter than a second."
        )
    else:
        figures.append(joules)
        lines.append("Joules: all GPUs of the engine in the timed window, without the host.")
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

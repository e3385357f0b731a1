"""What failed and why, the conditions of what was measured, and how to measure it again."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from packsweep.report import format as fmt
from packsweep.report.cell import names
from packsweep.report.html.parts import Listing, Section, make_table
from packsweep.report.tables import footer
from packsweep.report.tables.table import Table
from packsweep.results import schema
from packsweep.results.schema import Row
from packsweep.sweep import read

_CONDITIONS = (
    ("sm_clock_p50_mhz", "SM clock, MHz"),
    ("sm_clock_min_mhz", "lowest"),
    ("temperature_max_c", "hottest, °C"),
    ("power_mean_w", "power, W"),
    ("other_cpu_share", "others' share of the CPUs"),
    ("gc_s", "garbage collection, s"),
)
_NOT_LISTED = {"versions", "engine_resolved", "device_uuid"}
_MAX_LISTINGS = 3


def failed(rows: Sequence[Row], absent: Sequence[str] | None) -> Section:
    """Return the cells without numbers, and those without a row at all.

    Args:
        rows: of a summary.
        absent: cells of the sweep file without a row; None where they are not known.
    """
    without = [row for row in rows if row["outcome"] != "ok"]
    partly = [row for row in rows if row["outcome"] == "ok" and row["reason"]]
    counted = Counter(row["outcome"] for row in without)
    outcomes = "".join(f", {number} {outcome}" for outcome, number in sorted(counted.items()))
    lines = [f"{len(rows)} cells: {len(rows) - len(without)} ok{outcomes}."]
    tables = []
    if without or partly:
        words = names(rows)
        body = [
            (words[row["cell_id"]], row["outcome"], row["reason"] or "no reason was left")
            for row in (*without, *partly)
        ]
        caption = "Cells without a result, or with replicates that failed"
        tables.append(make_table(caption, ("cell", "outcome", "reason"), body, text=3))
    if absent is None:
        lines.append("Missing cells are not known: the folder does not list those of its sweep.")
    elif absent:
        lines.append(f"{len(absent)} cells of the sweep file were not measured, or left no row.")
        caption = "Missing cells of the sweep file"
        tables.append(make_table(caption, ("cell",), [(line,) for line in absent]))
    else:
        lines.append("No cell of the sweep file is missing.")
    return Section(
        key="failed",
        title="Cells without a result",
        lines=tuple(lines),
        tables=tuple(tables),
    )


def conditions(rows: Sequence[Row], mixed: Sequence[str]) -> Section:
    """Return warnings first, then the conditions under which each cell was timed."""
    measured = [row for row in rows if row["outcome"] == "ok"]
    warnings = [f"Measured under different conditions: {line}" for line in mixed]
    warnings += footer.warnings(rows)
    lines = ["No warnings."] if measured and not warnings else []
    lines += footer.conditions(rows) if rows else []
    return Section(
        key="conditions",
        title="Conditions and warnings",
        lines=tuple(lines),
        warnings=tuple(warnings),
        folded=(_seen(measured),) if measured else (),
    )


def _seen(rows: Sequence[Row]) -> Table:
    words = names(rows)
    known = [
        condition for condition in _CONDITIONS if any(row[condition[0]] is not None for row in rows)
    ]
    headings = ("cell", "warnings", "throttled by", "started, UTC", "repeats", "processes")
    body = [
        (
            words[row["cell_id"]],
            ", ".join(row["warnings"] or ()) or fmt.DASH,
            ", ".join(row["throttle_reasons"] or ()) or fmt.DASH,
            f"{row['started_at']:%Y-%m-%d %H:%M}",
            str(row["num_repeats"]),
            str(row["num_processes"]),
            *(fmt.exact(row[name]) for name, _ in known),
        )
        for row in rows
    ]
    heads = (*headings, *(heading for _, heading in known))
    return make_table("Conditions of every measured cell", heads, body, text=4)


def repeat(rows: Sequence[Row], sweep: str | None) -> Section:
    """Return what is needed to measure the same again."""
    how = "Save the sweep file below as sweep.toml and run the command."
    lines = [how] if sweep else ["The folder has no sweep.toml."]
    listings = [Listing(title="Command", text=_command(sweep or ""))]
    listings += [Listing(title="Sweep file", text=sweep)] if sweep else []
    listings += _settings(rows)
    tables = (_environment(rows), _hashes(rows)) if rows else ()
    return Section(
        key="repeat",
        title="Sweep file, command, environment",
        lines=tuple(lines),
        tables=tables[:1],
        folded=tables[1:],
        listings=tuple(listings),
    )


def _command(sweep: str) -> str:
    import shlex

    sets = [f"--set {shlex.quote(each)}" for each in read.kept_overrides(sweep)]
    return " ".join(["packsweep run sweep.toml", *sets])


def _settings(rows: Sequence[Row]) -> list[Listing]:
    """Return each set of settings in force once, those of few cells last."""
    resolved = Counter(row["engine_resolved"] for row in rows if row["engine_resolved"])
    listings = [
        Listing(
            title=f"Engine settings in force in {number} of {len(rows)} cells",
            text=json.dumps(dict(schema.parsed(settings)), indent=1),
        )
        for settings, number in resolved.most_common(_MAX_LISTINGS)
    ]
    more = len(resolved) - len(listings)
    if more > 0:
        text = f"{more} more in the column engine_resolved of summary.csv"
        listings.append(Listing(title="Further settings", text=text))
    return listings


def _environment(rows: Sequence[Row]) -> Table:
    """Return the values of the environment, each with all that occur."""
    names_ = ["model", "model_revision", "tokenizer", "load_format", "engine"]
    names_ += [column.name for column in schema.ENVIRONMENT if column.name not in _NOT_LISTED]
    body = [(name, _values(row[name] for row in rows)) for name in names_]
    starts = sorted(f"{row['started_at']:%Y-%m-%d %H:%M}" for row in rows)
    body.append(("first and last attempt, UTC", f"{starts[0]}, {starts[-1]}"))
    packages: dict[str, set[str]] = {}
    for row in rows:
        for name, version in schema.parsed(row["versions"]).items():
            packages.setdefault(name, set()).add(str(version))
    body += [(f"version of {name}", ", ".join(sorted(each))) for name, each in packages.items()]
    body.append(("schema version", str(schema.SCHEMA_VERSION)))
    known = [(name, value) for name, value in body if value]
    return make_table("Environment", ("what", "value"), known, text=2)


def _values(values: Iterable[Any]) -> str:
    known = sorted({str(value) for value in values if value is not None})
    if len(known) <= 3:  # noqa: PLR2004
        return ", ".join(known)
    return f"{known[0]} to {known[-1]}, {len(known)} values"


def _hashes(rows: Sequence[Row]) -> Table:
    headings = ("cell_id", "attempt_id", "model_fingerprint", "texts_sha256", "prompts_sha256")
    body = [[str(row[name]) for name in headings] for row in rows]
    return make_table("Ids and hashes of every cell", headings, body, text=5)

"""``packsweep export``: results in the forms that other tools read."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from packsweep.cli.options import ColumnsOpt, MixedOpt, ResultsArg, SortOpt, WhereOpt, split
from packsweep.cli.output import write_file
from packsweep.cli.results import open_results, open_store, selected
from packsweep.errors import ResultsError, UserError, printable


class Format(StrEnum):
    csv = "csv"
    markdown = "markdown"
    parquet = "parquet"
    vllm_bench = "vllm-bench"


class Table(StrEnum):
    summary = "summary"
    passes = "passes"
    requests = "requests"


def export_command(
    results: ResultsArg,
    format_: Annotated[
        Format,
        typer.Option(
            "--format", help="vllm-bench: JSON with the field names of vLLM's benchmarks."
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="Output file; standard output by default."
        ),
    ] = None,
    table: Annotated[
        Table, typer.Option("--table", help="One row per cell, per timed pass, or per request.")
    ] = Table.summary,
    where: WhereOpt = None,
    sort: SortOpt = None,
    columns: ColumnsOpt = None,
    allow_mixed: MixedOpt = False,
) -> None:
    """Write results as CSV, Markdown, Parquet or vLLM's benchmark JSON."""
    if format_ is Format.parquet and output is None and sys.stdout.isatty():
        raise UserError("--format parquet: binary output; name a file with -o")
    if format_ is Format.vllm_bench and (columns or table is not Table.summary):
        raise UserError("--format vllm-bench has one record per timed pass and fixed columns")
    wanted = Table.passes if format_ is Format.vllm_bench else table
    rows = _rows(results, wanted, where or [], sort, allow_mixed=allow_mixed)
    _write(_content(rows, format_, wanted, columns), output)


def _rows(
    results: str, table: Table, where: list[str], sort: str | None, *, allow_mixed: bool
) -> list[dict[str, Any]]:
    """Return the rows that are wanted of a table.

    Raises:
        ResultsError: the table has none.
    """
    from packsweep.analysis import frames

    if table is Table.requests:
        rows = list(open_store(results).read_requests().to_pylist())
    else:
        found = open_results(results, allow_mixed=allow_mixed)
        rows = found.rows if table is Table.summary else frames.plain_rows(found.passes)
    if not rows:
        raise ResultsError(f"{results}: no {table} to export")
    return selected(rows, where, sort)


def _content(
    rows: list[dict[str, Any]], format_: Format, table: Table, columns: str | None
) -> str | bytes:
    from packsweep.analysis import selection
    from packsweep.report import export

    if format_ is Format.vllm_bench:
        return export.vllm_bench(rows)
    wide = selection.widened(rows)
    words = split(columns)
    names = [selection.name_of(word, wide, option="--columns") for word in words] if rows else words
    every = names or [column.name for column in export.COLUMNS[table]]
    if format_ is Format.parquet:
        return export.parquet(wide, every, table)
    if format_ is Format.csv:
        return export.comma_separated(wide, every)
    as_shown = table is Table.summary and not names
    return export.markdown(wide, None if as_shown else every)


def _write(content: str | bytes, output: Path | None) -> None:
    if output is not None:
        write_file(output, content.encode() if isinstance(content, str) else content)
    elif isinstance(content, bytes):
        sys.stdout.buffer.write(content)
        sys.stdout.flush()
    else:
        sys.stdout.write(printable(content) if sys.stdout.isatty() else content)

"""``packsweep export``: results in the forms that other tools read."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from packsweep.cli.options import (
    ColumnsOpt,
    MixedOpt,
    ResultsArg,
    SortOpt,
    WhereOpt,
    selected,
    split,
)
from packsweep.errors import ResultsError, UserError

if TYPE_CHECKING:
    from packsweep.results.store import Store


class Format(StrEnum):
    """What can be written."""

    csv = "csv"
    markdown = "markdown"
    parquet = "parquet"
    vllm_bench = "vllm-bench"


class Table(StrEnum):
    """What is written of a folder."""

    summary = "summary"
    passes = "passes"
    requests = "requests"


def export_command(
    results: ResultsArg,
    format_: Annotated[
        Format, typer.Option("--format", help="vllm-bench: JSON by vLLM's names, as it plots it.")
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Where to; standard output if not."),
    ] = None,
    table: Annotated[
        Table, typer.Option("--table", help="A row per cell, per timed pass, or per request.")
    ] = Table.summary,
    where: WhereOpt = None,
    sort: SortOpt = None,
    columns: ColumnsOpt = None,
    allow_mixed: MixedOpt = False,
) -> None:
    """Write results as CSV, Markdown, Parquet, or as vLLM's benchmarks write theirs."""
    from packsweep.results.store import Store

    if format_ is Format.parquet and output is None and sys.stdout.isatty():
        raise UserError("--format parquet: is no text for a terminal; name a file with -o")
    if format_ is Format.vllm_bench and (columns or table is not Table.summary):
        raise UserError("--format vllm-bench has a record per timed pass, and columns of its own")
    store = Store(results)
    store.check()
    wanted = Table.passes if format_ is Format.vllm_bench else table
    rows = _rows(store, wanted, allow_mixed=allow_mixed)
    if not rows:
        raise ResultsError(f"{results}: no {wanted} to export yet")
    _write(_content(selected(rows, where or [], sort), format_, wanted, columns), output)


def _rows(store: Store, table: Table, *, allow_mixed: bool) -> list[dict[str, Any]]:
    from packsweep.analysis import frames

    if table is Table.requests:
        return list(store.read_requests().to_pylist())
    passes = store.read_passes()
    frame = frames.to_pandas(passes)
    frames.check_alike(frame, allow_mixed=allow_mixed)
    if table is Table.passes:
        return list(passes.to_pylist())
    return frames.summarise(frame)


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
    from packsweep.files import replace_file

    data = content.encode() if isinstance(content, str) else content
    if output is None:
        sys.stdout.buffer.write(data)
        sys.stdout.flush()
        return
    try:
        replace_file(output, data)
    except OSError as error:
        raise UserError(f"--output {output}: cannot be written: {error.strerror}") from None

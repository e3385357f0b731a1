"""``packsweep report``: one HTML file of a results folder, and the same at the end of a run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from packsweep.cli.options import CeilingOpt, MixedOpt, PriceOpt, ResultsArg, overrides
from packsweep.cli.output import open_console, say, write_file
from packsweep.cli.results import open_store

if TYPE_CHECKING:
    import pandas as pd

    from packsweep.analysis.frames import Overrides
    from packsweep.results.store import Store

NAME = "report.html"
# Up to so many cells a report takes less than two seconds: then a run writes it unasked.
_FEW_CELLS = 100

OutputOpt = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Output file; report.html in the results folder by default.",
    ),
]


def report_command(
    results: ResultsArg,
    output: OutputOpt = None,
    ceiling: CeilingOpt = None,
    gpu_hour_usd: PriceOpt = None,
    allow_mixed: MixedOpt = False,
) -> None:
    """Write an HTML report of a results folder: one file, readable offline."""
    from packsweep.analysis import frames

    store = open_store(results)
    replaced = overrides(ceiling, gpu_hour_usd)
    passes = frames.to_pandas(store.read_passes())
    page = _page(store, passes, replaced, output, allow_mixed=allow_mixed)
    _write(store, output, page)
    where = output or f"{store.root}/{NAME}"
    say(open_console(), f"{where}: {len(page) / 2**20:.1f} MiB")


def is_small(passes: pd.DataFrame) -> bool:
    """Return whether a run of these writes a report by itself."""
    return bool(passes["cell_id"].nunique() <= _FEW_CELLS)


def after_run(store: Store, passes: pd.DataFrame, replaced: Overrides, *, allow_mixed: bool) -> str:
    """Write the report of a small sweep; return the line that says where it is, or how to get it.

    ``passes`` are those of the sweep that was run; the report is about them alone.
    """
    from packsweep.report import html

    if not is_small(passes) or not html.installed():
        return f"report: packsweep report {store.root}"
    _write(store, None, _page(store, passes, replaced, None, allow_mixed=allow_mixed))
    return f"report: {store.root}/{NAME}"


def _page(
    store: Store,
    passes: pd.DataFrame,
    replaced: Overrides,
    output: Path | None,
    *,
    allow_mixed: bool,
) -> bytes:
    """Return the page.

    Raises:
        ResultsError: rows do not belong together.
        UserError: what draws the charts is not installed.
    """
    from packsweep.analysis import frames
    from packsweep.report import html

    found = html.collect(
        passes,
        lambda cell_ids: frames.to_pandas(store.read_requests(cell_ids)),
        name=store.absolute.rstrip("/").rpartition("/")[2],
        sweep=store.kept_sweep(),
        overrides=replaced,
        allow_mixed=allow_mixed,
    )
    return html.render(html.build(found), folder=_folder(store, output)).encode()


def _folder(store: Store, output: Path | None) -> str | None:
    """Return where the results lie, seen from the page; None where no link leads there."""
    if output is None:
        return ""
    root = store.storage.local("")
    return None if root is None else os.path.relpath(root.resolve(), output.resolve().parent)


def _write(store: Store, output: Path | None, page: bytes) -> None:
    """Write the page beside the results, or to a file of the user's.

    Raises:
        UserError: it cannot be written.
    """
    if output is None:
        store.storage.write(NAME, page)
    else:
        write_file(output, page)

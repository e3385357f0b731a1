"""Arguments and options that several commands share, declared once."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from packsweep.analysis.frames import Against
    from packsweep.plan.cells import Plan
    from packsweep.results.store import Store
    from packsweep.sweep.spec import Sweep

SweepArg = Annotated[
    Path, typer.Argument(metavar="SWEEP", help="Sweep file, e.g. sweeps/quick.toml.")
]
ResultsArg = Annotated[
    str,
    typer.Argument(metavar="RESULTS", help="Results of a sweep: a folder or s3://bucket/prefix."),
]
SetOpt = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override a value of the sweep file, e.g. engine.max_num_seqs=512. May be repeated.",
    ),
]
ResultsOpt = Annotated[
    str | None,
    typer.Option(
        "--results",
        metavar="FOLDER",
        help="Results folder or s3://bucket/prefix; results/<name of the sweep file> by default.",
    ),
]
JsonOpt = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
WhereOpt = Annotated[
    list[str] | None,
    typer.Option(
        "--where",
        metavar="NAME=VALUE",
        help="Only these cells; also != > >= < <=. May be repeated: the same name again means "
        "either, another name means both.",
    ),
]
SortOpt = Annotated[
    str | None,
    typer.Option(
        "--sort",
        metavar="NAME",
        help="Order by a column: best first where it has a best, else the smallest.",
    ),
]
ColumnsOpt = Annotated[
    str | None,
    typer.Option("--columns", metavar="A,B,C", help="These columns beside what tells cells apart."),
]
CeilingOpt = Annotated[
    Path | None,
    typer.Option(
        "--ceiling",
        metavar="FILE",
        help="Hold MFU and MBU against what calc ceiling --json measured, not a data sheet.",
    ),
]
PriceOpt = Annotated[
    float | None,
    typer.Option(
        "--gpu-hour-usd",
        metavar="USD",
        min=0.0,
        help="Price of a GPU for an hour, for the cost of texts; else [cost] of the sweep file.",
    ),
]
AcceleratorOpt = Annotated[
    str | None,
    typer.Option(
        "--accelerator",
        metavar="NAMES",
        help="Use these GPUs of the Ray cluster alone, by Ray's names, e.g. H800,H200.",
    ),
]
MaxGpusOpt = Annotated[
    int | None,
    typer.Option(
        "--max-gpus",
        metavar="N",
        min=1,
        help="The Ray cluster starts nodes on demand, up to N GPUs: wait for them.",
    ),
]
MixedOpt = Annotated[
    bool,
    typer.Option("--allow-mixed", help="Merge rows of different devices, drivers or versions."),
]


def held_against(ceiling: Path | None, gpu_hour_usd: float | None) -> Against:
    """Return what ``--ceiling`` and ``--gpu-hour-usd`` replace."""
    from packsweep.analysis.frames import Against
    from packsweep.plan import ceilings

    measured = None if ceiling is None else ceilings.read(ceiling)
    return Against(ceiling=measured, gpu_hour_usd=gpu_hour_usd)


def split(words: str | None) -> list[str]:
    """Return what stands between commas."""
    return [word.strip() for word in (words or "").split(",") if word.strip()]


def selected(
    rows: list[dict[str, Any]], where: list[str], sort: str | None, *, reverse: bool = False
) -> list[dict[str, Any]]:
    """Return the rows that ``--where`` and ``--sort`` ask for.

    Raises:
        ResultsError: they name no column.
    """
    from packsweep.analysis import selection

    if not rows or not (where or sort or reverse):
        return rows
    wide = selection.widened(rows)
    places = {id(each): row for each, row in zip(wide, rows, strict=True)}
    found = selection.where(wide, where)
    if sort:
        name = selection.name_of(sort, wide, option="--sort")
        found = selection.sort(found, name, reverse=reverse)
    elif reverse:
        found.reverse()
    return [places[id(each)] for each in found]


def selection_is_empty(rows: list[dict[str, Any]], where: list[str]) -> str:
    """Say that no row is left, and what values the named columns have."""
    from packsweep.analysis import selection

    return selection.nothing_matches(selection.widened(rows), where)


_RAY_COPY = "working_dir_files"  # Source: Ray 2.57 to 2.60, _private/runtime_env/packaging.py


def prepare(
    path: Path, overrides: list[str] | None, results: str | None
) -> tuple[Sweep, Plan, Store, bytes]:
    """Read and work out a sweep; everything that a user can get wrong comes out here.

    Returns:
        The sweep, its plan, where its results go, and the bytes of the sweep file.
    """
    from packsweep.plan import cells as plan_cells
    from packsweep.results.store import Store
    from packsweep.sweep import read as sweep_read

    content = None
    with contextlib.suppress(OSError):
        content = sweep_read.content_of(path)
    sweep = sweep_read.load(path, overrides or (), content)
    store = Store(place(results or f"results/{path.stem}"))
    return sweep, plan_cells.make(sweep), store, content or b""


def place(results: str) -> str | Path:
    from packsweep.results import storage

    return results if storage.is_uri(results) else _results_root() / results


def _results_root() -> Path:
    """Return where a relative results folder starts: here, or at home inside a Ray job.

    A Ray job runs in a copy of its working directory that Ray deletes afterwards.
    """
    return Path.home() / "packsweep" if _RAY_COPY in Path.cwd().parts else Path()

"""Arguments and options that several commands share, declared once."""

from __future__ import annotations

import contextlib
import math
import re
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from packsweep.errors import UserError

if TYPE_CHECKING:
    from packsweep.analysis.frames import Overrides
    from packsweep.plan.cells import Plan
    from packsweep.results.store import Store
    from packsweep.sweep.spec import Sweep

MOST_TOKENS = 1_000_000_000
MOST_GPUS = 100_000


class Start(StrEnum):
    """How a worker's process begins."""

    FORK = "fork"
    SPAWN = "spawn"


def finite(parameter: typer.CallbackParam, value: float | None) -> float | None:
    """Refuse nan, which no bound excludes."""
    if value is not None and not math.isfinite(value):
        raise UserError(f"{parameter.opts[0]} {value}: expected a finite number")
    return value


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
        help="Show only matching cells; also != > >= < <=. Conditions on the same name are "
        "alternatives; conditions on different names must all hold.",
    ),
]
SortOpt = Annotated[
    str | None,
    typer.Option(
        "--sort",
        metavar="NAME",
        help="Sort by a column, best first; where no direction is better, smallest first.",
    ),
]
ColumnsOpt = Annotated[
    str | None,
    typer.Option(
        "--columns",
        metavar="A,B,C",
        help="Show these columns (see docs/METRICS.md) or engine settings.",
    ),
]
CeilingOpt = Annotated[
    Path | None,
    typer.Option(
        "--ceiling",
        metavar="FILE",
        help="Use peaks measured by calc ceiling --json for MFU and MBU, not the data sheet's.",
    ),
]
PriceOpt = Annotated[
    float | None,
    typer.Option(
        "--gpu-hour-usd",
        metavar="USD",
        min=0.0,
        max=1e6,
        callback=finite,
        help="Price of one GPU hour; [cost] of the sweep file by default.",
    ),
]
AcceleratorOpt = Annotated[
    str | None,
    typer.Option(
        "--accelerator",
        metavar="NAMES",
        help="Use only these GPUs of the Ray cluster, by Ray's names, e.g. H800,H200.",
    ),
]
MaxGpusOpt = Annotated[
    int | None,
    typer.Option(
        "--max-gpus",
        metavar="N",
        min=1,
        max=MOST_GPUS,
        help="Let an autoscaling Ray cluster start nodes, up to N GPUs in all.",
    ),
]
StartOpt = Annotated[
    Start,
    typer.Option(
        help="How to start a cell's process: fork, from a process that has imported vLLM and "
        "touched no GPU; or spawn, a new Python, which is slower.",
    ),
]
MixedOpt = Annotated[
    bool,
    typer.Option(
        "--allow-mixed", help="Allow different devices, drivers or versions in one table."
    ),
]


def overrides(ceiling: Path | None, gpu_hour_usd: float | None) -> Overrides:
    from packsweep.analysis.frames import Overrides
    from packsweep.plan import ceilings

    measured = None if ceiling is None else ceilings.read(ceiling)
    return Overrides(ceiling=measured, gpu_hour_usd=gpu_hour_usd)


def split(words: str | None) -> list[str]:
    """Return what stands between commas."""
    return [word.strip() for word in (words or "").split(",") if word.strip()]


def prepare(
    path: Path, set_: list[str] | None, results: str | None, *, on_gpu: bool = False
) -> tuple[Sweep, Plan, Store, bytes]:
    """Read and work out a sweep; everything that a user can get wrong comes out here.

    With ``on_gpu`` it is worked out for a GPU, whatever this machine has.

    Returns:
        The sweep, its plan, where its results go, and the bytes of the sweep file.
    """
    from packsweep.plan import cells as plan_cells
    from packsweep.results.store import Store
    from packsweep.sweep import read as sweep_read

    where = place(f"results/{path.stem}" if results is None else results)
    content = None
    with contextlib.suppress(OSError):
        content = sweep_read.content_of(path)
    sweep = sweep_read.load(path, set_ or (), content)
    return sweep, plan_cells.make(sweep, on_gpu=on_gpu), Store(where), content or b""


# What begins with a scheme is an address, however it is spelled.
_ADDRESS = re.compile(
    r"(s3|gs|az|file|https?|hdfs|abfss?|wasbs?|hf)(:/*)(.*)", re.IGNORECASE | re.DOTALL
)
_RAY_COPY = "working_dir_files"  # Source: Ray 2.57 to 2.60, _private/runtime_env/packaging.py


def place(results: str) -> str | Path:
    """Return where results lie, as the store takes it.

    Raises:
        UserError: it is neither a folder nor a whole address.
    """
    from packsweep.results import storage

    if not results.strip():
        raise UserError("the results folder is empty; name one, e.g. results/quick")
    if "\0" in results:
        raise UserError("the results folder has a NUL character in its name")
    found = _ADDRESS.fullmatch(results)
    if found is None:
        return _results_root() / results
    scheme, separator, rest = found.groups()
    if scheme != scheme.lower():
        raise UserError(f"{results}: write {scheme.lower()}:// in lower case")
    if "/" not in separator or not rest.strip("/"):
        raise UserError(f"{results}: is not a whole address; write {scheme}://bucket/prefix")
    assert storage.is_uri(results)
    return results


def _results_root() -> Path:
    """Return where a relative results folder starts: here, or at home inside a Ray job.

    A Ray job runs in a copy of its working directory that Ray deletes afterwards.
    """
    return Path.home() / "packsweep" if _RAY_COPY in Path.cwd().parts else Path()

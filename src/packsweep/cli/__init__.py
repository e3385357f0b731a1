"""The command line.

Registers commands and turns their arguments into calls; every import that costs time stands inside
the command that needs it. What a user can cause is one line on stderr and exit status 2.

Exit status: 0 all cells ok or infeasible as planned, 1 some failed, 2 wrong use, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from packsweep.cli.calc import app as calc_app
from packsweep.cli.compare import compare_command
from packsweep.cli.compare_tool import compare_tool_command
from packsweep.cli.doctor import doctor_command
from packsweep.cli.export import export_command
from packsweep.cli.options import (
    AcceleratorOpt,
    CeilingOpt,
    JsonOpt,
    MaxGpusOpt,
    MixedOpt,
    PriceOpt,
    ResultsOpt,
    SetOpt,
    SweepArg,
    held_against,
)
from packsweep.cli.output import open_console, print_columns, print_json, say
from packsweep.cli.report import after_run, is_small, report_command
from packsweep.cli.show import merge_command, print_summary, show_command
from packsweep.errors import UserError
from packsweep.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from packsweep.analysis.frames import Against
    from packsweep.plan.cells import Plan
    from packsweep.results.store import Store
    from packsweep.run.executors import Executor
    from packsweep.sweep.spec import Sweep

FAILED, WRONG_USE, INTERRUPTED = 1, 2, 130
_RAY_COPY = "working_dir_files"  # Source: Ray 2.57 to 2.60, _private/runtime_env/packaging.py
# Set for the entry of a Ray job and nothing else; RAY_JOB_ID is taken away from it.
# Source: Ray 2.57 to 2.60, dashboard/modules/job/job_supervisor.py.
_RAY_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"

app = typer.Typer(
    name="packsweep",
    help="Measure how to ask an LLM to label many short texts: join them, or send them one by one?",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(calc_app)


@app.callback(invoke_without_command=True)
def packsweep(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Measure how to ask an LLM to label many short texts: join them, or send them one by one?"""
    if version:
        print(__version__)
        raise typer.Exit


@app.command("plan")
def plan_command(
    sweep: SweepArg,
    set_: SetOpt = None,
    results: ResultsOpt = None,
    device: Annotated[
        str | None,
        typer.Option(
            "--device", metavar="GPU", help="Predict durations on this GPU, e.g. H200; else here."
        ),
    ] = None,
    gpus: Annotated[
        int, typer.Option("--gpus", metavar="G", min=1, help="Predict the wall clock on G GPUs.")
    ] = 1,
    gpu_hour_usd: PriceOpt = None,
    json: JsonOpt = False,
) -> None:
    """Show what a sweep will do: requests, tokens, memory, time, money. Runs nothing."""
    from packsweep.plan import forecast
    from packsweep.report import plan_table

    on = forecast.target(device)
    _, planned, store = _prepare(sweep, set_, results)
    done = store.done([each.cell.cell_id for each in planned.cells])
    found = forecast.make(
        planned,
        on,
        num_gpus=gpus,
        done=done,
        measured_s=plan_table.measured_s(store, on) if done else {},
        gpu_hour_usd=gpu_hour_usd,
    )
    if json:
        print_json(plan_table.record(planned, found))
        return
    console = open_console()
    print_columns(console, plan_table.columns(found))
    for line in plan_table.lines(planned, found, store.root):
        say(console, line)


@app.command("run")
def run_command(
    sweep: SweepArg,
    set_: SetOpt = None,
    results: ResultsOpt = None,
    local: Annotated[
        bool, typer.Option("--local", help="Run on this machine, even inside a Ray job.")
    ] = False,
    ray: Annotated[
        str | None,
        typer.Option(
            "--ray",
            metavar="ADDRESS",
            help="Run on a Ray cluster; 'auto' finds the one "
            "on this machine. Inside a Ray job that is the default.",
        ),
    ] = None,
    accelerator: AcceleratorOpt = None,
    max_gpus: MaxGpusOpt = None,
    ceiling: CeilingOpt = None,
    gpu_hour_usd: PriceOpt = None,
    allow_mixed: MixedOpt = False,
) -> None:
    """Run what is missing of a sweep, one isolated engine per cell, and print the table.

    Running the same command again goes on where it was: nothing is measured twice.
    """
    if local and ray:
        raise UserError("--local and --ray exclude each other")
    address = ray or ("auto" if _RAY_JOB in os.environ and not local else None)
    if address is None and (accelerator or max_gpus):
        raise UserError("--accelerator and --max-gpus choose nodes of a Ray cluster: add --ray")
    read, planned, store = _prepare(sweep, set_, results)
    _check_engine(read, store, in_ray=address is not None)
    make_executor = _executor(address, accelerator, max_gpus)
    store.prepare()
    _keep_sweep(store, sweep, set_ or ())
    against = held_against(ceiling, gpu_hour_usd or read.cost.gpu_hour_usd)
    code = _measure(read, planned, store, make_executor)
    if code == INTERRUPTED:
        raise typer.Exit(code)
    _print_measured(planned, store, against, allow_mixed)
    raise typer.Exit(code)


app.command("show")(show_command)
app.command("merge")(merge_command)
app.command("report")(report_command)
app.command("compare-tool")(compare_tool_command)
app.command("compare")(compare_command)
app.command("export")(export_command)
app.command("doctor")(doctor_command)


def _prepare(
    path: Path, overrides: list[str] | None, results: str | None
) -> tuple[Sweep, Plan, Store]:
    """Read and work out a sweep; everything that a user can get wrong comes out here."""
    from packsweep.plan import cells as plan_cells
    from packsweep.results.store import Store
    from packsweep.sweep import spec

    sweep = spec.load(path, overrides or ())
    return sweep, plan_cells.make(sweep), Store(_place(results or f"results/{path.stem}"))


def _place(results: str) -> str | Path:
    from packsweep.results import storage

    return results if storage.is_uri(results) else _results_root() / results


def _results_root() -> Path:
    """Return where a relative results folder starts: here, or at home inside a Ray job.

    A Ray job runs in a copy of its working directory that Ray deletes afterwards.
    """
    return Path.home() / "packsweep" if _RAY_COPY in Path.cwd().parts else Path()


def _check_engine(sweep: Sweep, store: Store, *, in_ray: bool) -> None:
    """Refuse an engine that is not installed here, or other than that of the results."""
    from importlib.util import find_spec

    found = store.engine()
    if found not in {None, sweep.engine.kind}:
        raise UserError(
            f"{store.root}: simulated and real results are never merged, and it holds those of "
            f"engine {found}; name another --results folder"
        )
    if sweep.engine.kind == "vllm" and not in_ray and find_spec("vllm") is None:
        raise UserError(
            'vLLM is not installed in this Python; "make setup" installs it, or '
            "pip install vllm on a machine with a GPU"
        )


def _executor(
    address: str | None, accelerator: str | None, max_gpus: int | None
) -> Callable[[], Executor]:
    """Return what starts the executor, on the cluster at ``address`` or on this machine."""
    if address is None:
        from packsweep.run.executors.local import LocalExecutor

        return LocalExecutor
    from packsweep.run.executors.nodes import Demand
    from packsweep.run.executors.ray import RayExecutor

    named = tuple(name.strip() for name in (accelerator or "").split(",") if name.strip())
    demand = Demand(accelerators=named, max_gpus=max_gpus)
    return lambda: RayExecutor(address, demand)


def _keep_sweep(store: Store, path: Path, overrides: Sequence[str]) -> None:
    """Keep what was run beside its results: the sweep file, and what overrode it."""
    more = "".join(f"# --set {override}\n" for override in overrides)
    store.keep_sweep(path.read_bytes() + more.encode())


def _measure(
    sweep: Sweep,
    planned: Plan,
    store: Store,
    make_executor: Callable[[], Executor],
) -> int:
    """Run what is missing and return the exit status."""
    from packsweep.report.progress import reporter
    from packsweep.run.driver import Driver

    console = open_console()
    executor = make_executor()
    _interrupt_on_sigterm()
    progress = reporter(console)
    try:
        outcome = Driver(planned, store, executor, progress, sweep.limits).run()
    except KeyboardInterrupt:
        progress.close()
        print("interrupted; what was committed is kept, the same command goes on", file=sys.stderr)
        return INTERRUPTED
    finally:
        progress.close()
    return 0 if outcome.all_well else FAILED


def _print_measured(planned: Plan, store: Store, against: Against, allow_mixed: bool) -> None:
    from packsweep.analysis import contrasts, frames
    from packsweep.models.tokenizer import give_back_memory

    console = open_console()
    give_back_memory()
    passes = frames.to_pandas(store.read_passes(keep=True))
    frames.check_alike(passes, allow_mixed=allow_mixed)
    passes = against.apply(passes)
    wanted = passes["cell_id"].isin({cell.cell.cell_id for cell in planned.cells})
    own = passes if wanted.all() else passes[wanted]
    compared = contrasts.of(own)  # before there are rows: of thousands of cells 100 MB
    give_back_memory()
    merged = frames.summarise(passes)
    rows = merged if own is passes else frames.summarise(own)
    passes = own if is_small(own) else own[["cell_id"]]  # the others are 100 MB as well
    del own
    give_back_memory()
    store.write_summary(merged)
    print_summary(console, rows, [], compared, brief=True)
    say(console, f"results: {store.root} (summary.csv, summary.parquet, cells/)")
    say(console, after_run(store, passes, against, allow_mixed=allow_mixed))


def _interrupt_on_sigterm() -> None:
    """Treat SIGTERM as Ctrl-C; after ray.init, which installs its own handler."""
    import signal

    def interrupt(_signum: int, _frame: object) -> NoReturn:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its status."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        status = app(args=given or ["--help"], standalone_mode=False)
    except UserError as error:
        print(f"packsweep: {error}", file=sys.stderr)
        sys.exit(WRONG_USE)
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILED)
    except Exception as error:
        # A wrong option; which package the class lives in depends on Typer's version.
        if not hasattr(error, "format_message"):
            raise
        told = " ".join(str(error.format_message()).split()) or "a command is missing"
        print(f"packsweep: {told} (packsweep --help)", file=sys.stderr)
        sys.exit(WRONG_USE)
    sys.exit(status if isinstance(status, int) else 0)

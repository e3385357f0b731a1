"""The command line.

Registers commands and turns their arguments into calls; every import that costs time stands inside
the command that needs it. What a user can cause is one line on stderr and exit status 2.

Exit status: 0 all cells ok or infeasible as planned, 1 some failed, 2 wrong use, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from packsweep.cli_calc import calc
from packsweep.errors import UserError
from packsweep.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.console import Console, RenderableType

    from packsweep.analysis import Against, Comparison
    from packsweep.executors import Executor
    from packsweep.plan import Plan
    from packsweep.spec import Sweep
    from packsweep.store import Store

FAILED, WRONG_USE, INTERRUPTED = 1, 2, 130
_PIPE_WIDTH = 160
_NUM_RANGES = 10  # of positions: what fits a screen beside other cells
_RAY_COPY = "working_dir_files"  # Source: Ray 2.57 to 2.60, _private/runtime_env/packaging.py

app = typer.Typer(
    name="packsweep",
    help="Measure how to ask an LLM to label many short texts: join them, or send them one by one?",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(calc)

SweepArg = Annotated[
    Path, typer.Argument(metavar="SWEEP", help="Sweep file, e.g. sweeps/quick.toml.")
]
ResultsArg = Annotated[Path, typer.Argument(metavar="RESULTS", help="Results folder of a sweep.")]
SetOpt = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override a value of the sweep file, e.g. engine.max_num_seqs=512. May be repeated.",
    ),
]
ResultsOpt = Annotated[
    Path | None,
    typer.Option(
        "--results",
        metavar="FOLDER",
        help="Results folder; results/<name of the sweep file> by default.",
    ),
]
JsonOpt = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
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
        help="Price of a GPU for an hour, for the cost of reviews; else [cost] of the sweep file.",
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
    sweep: SweepArg, set_: SetOpt = None, results: ResultsOpt = None, json: JsonOpt = False
) -> None:
    """Show what a sweep will do: cells, requests, prompt tokens, what cannot fit. Runs nothing."""
    from packsweep import table

    _, planned, store = _prepare(sweep, set_, results)
    done = [store.is_done(cell.cell.cell_id) for cell in planned.cells]
    if json:
        _print_json(
            [_plan_record(cell, is_done) for cell, is_done in zip(planned.cells, done, strict=True)]
        )
        return
    console = _console()
    _print_table(console, table.plan(planned, done))
    for cell in planned.cells:
        if cell.infeasible:
            _say(console, f"{cell.cell.cell_id}: infeasible: {cell.infeasible}")
    if planned.advice:
        _say(console, planned.advice)
    missing = [cell for cell, is_done in zip(planned.cells, done, strict=True) if not is_done]
    tokens = sum(cell.prompt_tokens for cell in missing if not cell.infeasible)
    _say(
        console,
        f"{len(planned.cells)} cells, {len(missing)} missing; {tokens:,} prompt tokens "
        f"in one pass of each missing cell; model {planned.model.name}; "
        f"results in {store.root}",
    )


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
    address = ray or ("auto" if "RAY_JOB_ID" in os.environ and not local else None)
    if address is None and (accelerator or max_gpus):
        raise UserError("--accelerator and --max-gpus choose nodes of a Ray cluster: add --ray")
    read, planned, store = _prepare(sweep, set_, results)
    _check_engine(read, store, in_ray=address is not None)
    make_executor = _executor(address, accelerator, max_gpus)
    store.prepare()
    _keep_sweep(store, sweep, set_ or ())
    against = _against(ceiling, gpu_hour_usd or read.cost.gpu_hour_usd)
    code = _measure(read, planned, store, make_executor)
    if code == INTERRUPTED:
        raise typer.Exit(code)
    _print_measured(planned, store, against, allow_mixed)
    raise typer.Exit(code)


@app.command("show")
def show_command(
    results: ResultsArg,
    vllm: Annotated[
        bool, typer.Option("--vllm", help="Print every cell as vllm bench throughput does.")
    ] = False,
    positions: Annotated[
        bool,
        typer.Option("--positions", help="Print labels found and right by position in the prompt."),
    ] = False,
    confusion: Annotated[
        bool, typer.Option("--confusion", help="Print expected labels against those found.")
    ] = False,
    time: Annotated[
        bool, typer.Option("--time", help="Print where the wall clock of every cell went.")
    ] = False,
    ceiling: CeilingOpt = None,
    gpu_hour_usd: PriceOpt = None,
    json: JsonOpt = False,
    allow_mixed: MixedOpt = False,
) -> None:
    """Show the table of a results folder."""
    from packsweep import analysis
    from packsweep.store import Store

    if vllm + positions + confusion > 1:
        raise UserError("--vllm, --positions and --confusion exclude each other")
    store = Store(results)
    store.check()
    passes = analysis.to_pandas(store.read_passes())
    mixed = analysis.check_alike(passes, allow_mixed=allow_mixed)
    regarded = _against(ceiling, gpu_hour_usd).apply(passes)
    rows = analysis.records(analysis.summarise(regarded))
    if positions or confusion:
        _print_labels(store, rows, by_position=positions, json=json)
    elif json:
        _print_json(rows)
    elif vllm:
        _print_vllm(rows)
    elif time:
        _print_time(_console(), rows)
    else:
        _print_summary(_console(), rows, mixed, analysis.compare(passes))


@app.command("merge")
def merge_command(
    results: ResultsArg,
    ceiling: CeilingOpt = None,
    gpu_hour_usd: PriceOpt = None,
    allow_mixed: MixedOpt = False,
) -> None:
    """Write summary.parquet and summary.csv of a results folder from its committed cells."""
    from packsweep import analysis
    from packsweep.store import Store

    store = Store(results)
    store.check()
    against = _against(ceiling, gpu_hour_usd)
    rows = analysis.merge(store, allow_mixed=allow_mixed, against=against)
    ok = sum(row["outcome"] == "ok" for row in rows)
    print(f"{store.summary}.parquet and .csv: {len(rows)} cells, {ok} ok")


def _against(ceiling: Path | None, gpu_hour_usd: float | None) -> Against:
    from packsweep import ceilings
    from packsweep.analysis import Against

    measured = None if ceiling is None else ceilings.read(ceiling)
    return Against(ceiling=measured, gpu_hour_usd=gpu_hour_usd)


def _prepare(
    path: Path, overrides: list[str] | None, results: Path | None
) -> tuple[Sweep, Plan, Store]:
    """Read and work out a sweep; everything that a user can get wrong comes out here."""
    from packsweep import plan, spec
    from packsweep.store import Store

    sweep = spec.load(path, overrides or ())
    store = Store(_results_root() / (results or Path("results") / path.stem))
    return sweep, plan.make(sweep), store


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
        from packsweep.executors.local import LocalExecutor

        return LocalExecutor
    from packsweep.executors.nodes import Demand
    from packsweep.executors.ray import RayExecutor

    named = tuple(name.strip() for name in (accelerator or "").split(",") if name.strip())
    demand = Demand(accelerators=named, max_gpus=max_gpus)
    return lambda: RayExecutor(address, demand)


def _keep_sweep(store: Store, path: Path, overrides: Sequence[str]) -> None:
    """Keep what was run beside its results: the sweep file, and what overrode it."""
    from packsweep.store import replace_file

    more = "".join(f"# --set {override}\n" for override in overrides)
    replace_file(store.root / "sweep.toml", path.read_bytes() + more.encode())


def _measure(
    sweep: Sweep,
    planned: Plan,
    store: Store,
    make_executor: Callable[[], Executor],
) -> int:
    """Run what is missing and return the exit status."""
    from packsweep.driver import Driver
    from packsweep.progress import reporter

    console = _console()
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
    from packsweep import analysis

    console = _console()
    passes = analysis.to_pandas(store.read_passes())
    analysis.merge_passes(store, passes, allow_mixed=allow_mixed, against=against)
    wanted = {cell.cell.cell_id for cell in planned.cells}
    passes = against.apply(passes[passes["cell_id"].isin(wanted)])
    rows = analysis.records(analysis.summarise(passes))
    _print_summary(console, rows, [], analysis.compare(passes))
    _say(console, f"results: {store.root} (summary.csv, summary.parquet, cells/)")


def _interrupt_on_sigterm() -> None:
    """Treat SIGTERM as Ctrl-C; after ray.init, which installs its own handler."""
    import signal

    def interrupt(_signum: int, _frame: object) -> NoReturn:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


def _print_summary(
    console: Console,
    rows: Sequence[dict[str, Any]],
    mixed: Sequence[str],
    compared: Sequence[Comparison],
) -> None:
    from packsweep import table

    if not rows:
        _say(console, "no cells yet")
        return
    _print_table(console, table.summary(rows))
    lines = [
        *table.reasons(rows),
        *table.warnings(rows),
        *(f"MIXED {line}" for line in mixed),
        *table.conditions(rows),
    ]
    if compared:
        lines += [
            "",
            "reviews/s compared, 95% interval of the ratio:",
            *table.comparisons(compared),
        ]
    for line in lines:
        _say(console, line)


def _print_labels(
    store: Store, cells: Sequence[dict[str, Any]], *, by_position: bool, json: bool
) -> None:
    """Print what the answers held; JSON has a row for each position, the table one for a range."""
    from packsweep import analysis, labels, table

    found = analysis.load_labels(store)
    if by_position:
        frame = labels.by_position(found, num_ranges=None if json else _NUM_RANGES)
    else:
        frame = labels.confusion(found)
    rows = [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]
    if json:
        _print_json(rows)
    elif not rows:
        _say(_console(), "no scored answers: random weights, or no cell ended ok yet")
    else:
        made = table.positions(rows, cells) if by_position else table.confusion(rows, cells)
        _print_table(_console(), made)


def _print_vllm(rows: Sequence[dict[str, Any]]) -> None:
    from packsweep import table

    for row in rows:
        print(row["cell_id"] + ("" if row["outcome"] == "ok" else f": {row['outcome']}"))
        if row["outcome"] == "ok":
            print("\n".join(table.vllm_form(row)))
        print()


def _print_time(console: Console, rows: Sequence[dict[str, Any]]) -> None:
    from packsweep import table, table_time

    for renderable in table_time.tables(rows):
        _print_table(console, renderable)
    for line in table.reasons(rows):
        _say(console, line)
    _say(console, "shares of the seconds to their left, once per attempt; a pass: medians")


def _print_table(console: Console, renderable: RenderableType) -> None:
    console.print(renderable, crop=False)


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _plan_record(planned: Any, is_done: bool) -> dict[str, Any]:  # noqa: ANN401
    cell = planned.cell
    return {
        "cell_id": cell.cell_id,
        "strategy": cell.strategy,
        "n": cell.n,
        "pack_size": cell.pack_size,
        "duplication": cell.duplication,
        "template": cell.template,
        "answer": cell.answer,
        "cache_state": cell.cache_state,
        "engine_settings": cell.settings,
        "num_requests": planned.num_requests,
        "prompt_tokens": planned.prompt_tokens,
        "longest_prompt_tokens": planned.longest_prompt_tokens,
        "output_tokens": planned.output_tokens,
        "infeasible": planned.infeasible,
        "done": is_done,
    }


def _print_json(value: object) -> None:
    import json

    print(json.dumps(value, indent=2, default=str))


def _console() -> Console:
    from rich.console import Console

    # A log or a pipe has no width that a table would have to fit.
    return Console(highlight=False, width=None if sys.stdout.isatty() else _PIPE_WIDTH)


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


if __name__ == "__main__":
    main()

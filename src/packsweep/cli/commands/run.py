"""``packsweep run``."""

from __future__ import annotations

import contextlib
import os
import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from packsweep.cli.commands.report import after_run, is_small
from packsweep.cli.commands.show import print_summary
from packsweep.cli.options import (
    AcceleratorOpt,
    CeilingOpt,
    MaxGpusOpt,
    MixedOpt,
    PriceOpt,
    ResultsOpt,
    SetOpt,
    Start,
    StartOpt,
    SweepArg,
    overrides,
    prepare,
)
from packsweep.cli.output import FAILED, INTERRUPTED, complain, open_console, say
from packsweep.cli.signals import interrupt_on_signals
from packsweep.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from packsweep.analysis.frames import Overrides
    from packsweep.plan.cells import Plan
    from packsweep.report.progress import Expected
    from packsweep.results.store import Store
    from packsweep.run.executors import Executor
    from packsweep.run.executors.nodes import Demand
    from packsweep.sweep.spec import Sweep


class Isolation(StrEnum):
    """What no two cells share."""

    PROCESS = "process"
    ENGINE = "engine"


# Set for the entry of a Ray job and nothing else; RAY_JOB_ID is taken away from it.
# Source: Ray 2.57 to 2.60, dashboard/modules/job/job_supervisor.py.
_RAY_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
# load_format -> the module that vLLM imports for it, and the package, which vLLM does not need.
_LOADERS = {
    "fastsafetensors": ("fastsafetensors", "fastsafetensors"),
    "runai_streamer": ("runai_model_streamer", "runai-model-streamer"),
}


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
            help="Run on a Ray cluster; 'auto' (the default inside a Ray job) finds the one on "
            "this machine.",
        ),
    ] = None,
    accelerator: AcceleratorOpt = None,
    max_gpus: MaxGpusOpt = None,
    ceiling: CeilingOpt = None,
    isolation: Annotated[
        Isolation | None,
        typer.Option(
            help="process: each cell has its own process and engine; engine: cells with equal "
            "engine settings share one. Default: the sweep file's value.",
        ),
    ] = None,
    start: StartOpt = Start.FORK,
    gpu_hour_usd: PriceOpt = None,
    allow_mixed: MixedOpt = False,
    url: Annotated[
        str | None,
        typer.Option(
            "--url",
            metavar="URL",
            help="Measure the server at this address (mode online) instead of starting one.",
        ),
    ] = None,
    api_key_env: Annotated[
        str | None,
        typer.Option(
            "--api-key-env",
            metavar="NAME",
            help="Environment variable that holds the API key of that server.",
        ),
    ] = None,
) -> None:
    """Measure the missing cells of a sweep, one isolated engine each, and print the table.

    Run the same command again to resume: nothing is measured twice.
    """
    from packsweep.sweep.read import with_overrides

    if ray is not None and not ray.strip():
        raise UserError("--ray: the address is empty; write auto or ray://HOST:10001")
    if local and ray:
        raise UserError("--local and --ray exclude each other")
    address = ray or ("auto" if _RAY_JOB in os.environ and not local else None)
    if address is None and (accelerator or max_gpus):
        raise UserError("--accelerator and --max-gpus choose nodes of a Ray cluster: add --ray")
    set_ = [*(set_ or ()), *_of_server(url, api_key_env)]
    if isolation is not None:
        set_.append(f"measure.isolation={isolation}")
    read, planned, store, content = prepare(sweep, set_, results)
    _check_engine(read, store, in_ray=address is not None)
    _check_server(read, in_ray=address is not None)
    prepared = f"{read.engine.kind}_server" if read.mode == "online" else read.engine.kind
    replaced = overrides(ceiling, gpu_hour_usd or read.cost.gpu_hour_usd)
    sizes = {each.cell.num_gpus for each in planned.cells}
    _check_gpus(read, max(sizes), in_ray=address is not None)
    demand = _demand(accelerator, max_gpus, sizes)
    forks = prepared if start == "fork" else None
    share = read.measure.isolation == "engine"
    executor = (
        _cluster(address, demand, forks, share_engines=share)
        if address
        else _machine(prepared, start)
    )
    interrupt_on_signals()  # anew: Ray installs its own handlers
    try:
        store.prepare()
        # Only now: what was refused above leaves the record of an earlier run as it is.
        cell_ids = [each.cell.cell_id for each in planned.cells]
        store.keep_sweep(with_overrides(content, set_), cell_ids)
        expected = {} if address else _expected(planned, store, start)
        status = _measure(read, planned, store, executor, expected)
    finally:
        executor.stop()
    if status != INTERRUPTED:
        _present(planned, store, replaced, allow_mixed=allow_mixed)
    raise typer.Exit(status)


def _of_server(url: str | None, api_key_env: str | None) -> list[str]:
    """Return the values of the sweep that ``--url`` and ``--api-key-env`` stand for."""
    key = [] if api_key_env is None else [f"online.api_key_env={api_key_env}"]
    return key if url is None else ["engine.kind=external", f"online.url={url}", *key]


def _check_server(sweep: Sweep, *, in_ray: bool) -> None:
    """Refuse a server that is not there, or does not take the key, before anything is run."""
    from packsweep.engines import external

    if sweep.online.url is None:
        return
    if in_ray:
        raise UserError("--url: an existing server is measured from this machine; use --local")
    key = external.api_key(sweep.online.api_key_env)
    external.served_model(sweep.online.url, key, sweep.model.name)


def _check_engine(sweep: Sweep, store: Store, *, in_ray: bool) -> None:
    """Refuse an engine that is not installed here, or other than that of the results."""
    from importlib.util import find_spec

    from packsweep.machine import environment

    found = store.engine()
    if found not in {None, sweep.engine.kind}:
        raise UserError(
            f"{store.root}: simulated and real results are never merged, and it holds results of "
            f"engine {found}; name another --results folder"
        )
    if sweep.engine.kind == "vllm" and not in_ray and find_spec("vllm") is None:
        raise UserError(
            'vLLM is not installed in this Python; "make setup" installs it, or '
            "pip install vllm on a machine with a GPU"
        )
    module, package = _LOADERS.get(sweep.model.load_format, (None, None))
    if sweep.engine.kind == "vllm" and not in_ray and module and find_spec(module) is None:
        raise UserError(
            f"model.load_format={sweep.model.load_format} needs a package that is not installed: "
            f"pip install {package}"
        )
    problem = environment.socket_problem()
    if sweep.engine.kind == "vllm" and not in_ray and problem:
        raise UserError(problem)


def _check_gpus(sweep: Sweep, num_gpus: int, *, in_ray: bool) -> None:
    """Refuse an engine of more GPUs than this machine has; on a processor, of more than cores."""
    from packsweep.machine import environment, nvml, processor

    if in_ray or sweep.engine.kind != "vllm" or num_gpus == 1:
        return
    num, what = len(nvml.visible_gpus()), "GPUs"
    if environment.on_cpu():
        num, what = processor.num_cores(), "cores"
    if 0 < num < num_gpus:
        raise UserError(
            "engine.tensor_parallel_size x engine.pipeline_parallel_size: the largest engine of "
            f"the sweep takes {num_gpus} {what} on one machine, and {num} can be used here"
        )


def _machine(engine: str, start: Start) -> Executor:
    """Return the executor on this machine."""
    from packsweep.run import launch
    from packsweep.run.executors.local import LocalExecutor

    return LocalExecutor(launch.launcher(engine, start.value))


def _demand(accelerator: str | None, max_gpus: int | None, sizes: set[int]) -> Demand:
    """Return what attempts of engines on so many GPUs each ask of a node."""
    from packsweep.run.executors.nodes import Demand

    named = tuple(name.strip() for name in (accelerator or "").split(",") if name.strip())
    return Demand(accelerators=named, max_gpus=max_gpus, num_gpus=max(sizes), least_gpus=min(sizes))


def _cluster(address: str, demand: Demand, forks: str | None, *, share_engines: bool) -> Executor:
    """Return the executor on the Ray cluster at ``address``."""
    from packsweep.run.executors.ray import RayExecutor

    return RayExecutor(address, demand, forks=forks, share_engines=share_engines)


def _measure(
    sweep: Sweep,
    planned: Plan,
    store: Store,
    executor: Executor,
    expected: Mapping[str, Expected],
) -> int:
    """Run what is missing and return the exit status."""
    from packsweep.plan import forecast
    from packsweep.report.progress import reporter
    from packsweep.run.driver import Driver

    console = open_console()
    for line in planned.advice:
        say(console, line)
    progress = reporter(console, expected)
    # Of several at once no long one should be left for the end.
    lengths = forecast.proportions_s(planned) if executor.num_at_once > 1 else None
    try:
        outcome = Driver(planned, store, executor, progress, sweep.limits, lengths).run()
    except KeyboardInterrupt:
        progress.close()
        print(
            "interrupted; committed cells are kept, run the same command again to resume",
            file=sys.stderr,
        )
        return INTERRUPTED
    finally:
        progress.close()
    return 0 if outcome.all_well else FAILED


def _expected(planned: Plan, store: Store, start: Start) -> dict[str, Expected]:
    """Return what each missing cell should take here; nothing where it cannot be predicted.

    Of engines over several GPUs only lower bounds are known.
    """
    from packsweep.plan import forecast
    from packsweep.report.progress import Expected

    if planned.cells[0].cell.engine != "vllm":
        return {}
    predicted = forecast.make(
        planned,
        forecast.target(None),
        done=store.done([each.cell.cell_id for each in planned.cells]),
        forked=start is Start.FORK,
    )
    held_s = {} if predicted.timeline is None else predicted.timeline.held_s
    return {
        each.planned.cell.cell_id: Expected(
            pass_s=each.pass_s,
            cell_s=held_s[each.planned.cell.cell_id],
            dtype=str(each.planned.cell.settings["dtype"]),
        )
        for each in predicted.cells
        if each.pass_s is not None
        and each.planned.cell.cell_id in held_s
        and each.planned.cell.num_gpus == 1
    }


def _present(planned: Plan, store: Store, replaced: Overrides, *, allow_mixed: bool) -> None:
    """Print what was measured; if that fails, the measurements and the exit status stay."""
    try:
        _print_measured(planned, store, replaced, allow_mixed=allow_mixed)
    except BrokenPipeError:
        return
    except Exception as error:  # noqa: BLE001  (whatever it is, it is about showing)
        kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
        with contextlib.suppress(OSError):
            complain(f"{store.root}: measured and saved, but not shown: {kind}{error}")


def _print_measured(planned: Plan, store: Store, replaced: Overrides, *, allow_mixed: bool) -> None:
    from packsweep.analysis import contrasts, frames
    from packsweep.models.tokenizer import give_back_memory

    console = open_console()
    give_back_memory()
    passes = frames.to_pandas(store.read_passes(keep=True))
    frames.check_alike(passes, allow_mixed=allow_mixed)
    passes = replaced.apply(passes)
    wanted = passes["cell_id"].isin({cell.cell.cell_id for cell in planned.cells})
    own = passes if wanted.all() else passes[wanted]
    answers = frames.load_answers(store, own)
    compared = contrasts.of(own, answers)  # before there are rows: of thousands of cells 100 MB
    del answers
    give_back_memory()
    merged = frames.summarise(passes)
    rows = merged if own is passes else frames.summarise(own)
    passes = own if is_small(own) else own[["cell_id"]]  # the others are 100 MB as well
    del own
    give_back_memory()
    store.write_summary(merged)
    print_summary(console, rows, [], compared, brief=True)
    say(console, f"\nresults: {store.root} (summary.csv, summary.parquet, cells/)")
    if any(row["outcome"] == "ok" and row["mode"] == "offline" for row in rows):
        say(console, f"recommendation: packsweep recommend {store.root}")
    say(console, after_run(store, passes, replaced, allow_mixed=allow_mixed))

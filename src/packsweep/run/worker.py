"""The whole life of one attempt at one cell, in a process of its own.

Check that the GPU is free, start the engine, warm up, run the passes, check what came back, stop
the engine, write one Parquet file, commit it. The timed window is the engine's (``engines.vllm``);
nothing else happens inside it. This is the one place where any exception becomes an outcome.

``python -m packsweep.run.worker FOLDER`` reads ``FOLDER/task.json``, keeps the name of the phase it
is in in ``FOLDER/phase`` and leaves ``FOLDER/status.json``. A supervisor watches
(``supervisor.py``).
"""

from __future__ import annotations

import itertools
import os
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

from packsweep import engines
from packsweep.engines import Engine, EngineInfo, PassResult, Request, causes, external
from packsweep.engines.server import Server, wait_until_idle
from packsweep.engines.start_log import jit_compilations, start_phases
from packsweep.errors import EngineError, PacksweepError, ResultsError
from packsweep.files import replace_file
from packsweep.machine import environment, nvml, process
from packsweep.machine.sampler import Conditions, ConditionSampler, NullSampler, own_pids
from packsweep.models.resolve import Model
from packsweep.models.tokenizer import load as load_tokenizer
from packsweep.results import schema, summary
from packsweep.run import lifeline, rows, session
from packsweep.run.measure import checks, metrics, window_metrics, windows
from packsweep.run.measure.metrics import PassContext
from packsweep.run.measure.phases import PhaseClock
from packsweep.run.measure.windows import Driven, NothingArrivesError, Step, Windows
from packsweep.run.measure.workload import Workload, needs_tokenizer
from packsweep.run.task import BEGAN, PHASE, STATUS, Status, Task, task_from_json

_MEMORY_TIMEOUT_S = 60.0


@dataclass(slots=True)
class Measured:
    """What an attempt has found out so far; complete when it ends well."""

    gpus: tuple[nvml.Gpu, ...] = ()
    info: EngineInfo | None = None
    engine_pids: frozenset[int] = frozenset()
    model: Model | None = None
    shares: bool = False
    memory_returned: bool | None = None
    passes: list[dict[str, Any]] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)
    course: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ending:
    """How an attempt ends, before its rows are written."""

    outcome: str = "ok"
    reason: str | None = None
    final: bool = False


class EngineLog:
    """What the processes of a kept engine print: it goes on into the log of their first attempt."""

    def __init__(self, path: Path) -> None:
        """Take that log; it stays open, as its folder may be removed."""
        self._file = path.open("rb")
        self.start = self.more().decode(errors="replace")

    def more(self) -> bytes:
        """Return what was printed since the last call."""
        return self._file.read()

    def close(self) -> None:
        self._file.close()


@dataclass(slots=True)
class KeptEngine:
    """The engine or server that cells of a session share; none before the first has ended.

    Attributes:
        warmed: warm-up passes and prompts that the server has had.
        log: what its processes print; None where its first attempt had no log any more.
    """

    engine: Engine | None = None
    server: Server | None = None
    warmed: set[tuple[int, str]] = field(default_factory=set)
    log: EngineLog | None = None

    @property
    def is_empty(self) -> bool:
        return self.engine is None and self.server is None


class Attempt:
    """One attempt, phase by phase."""

    def __init__(self, task: Task, folder: Path, kept: KeptEngine | None = None) -> None:
        """Take ``task``; phases are announced in ``folder``."""
        self._kept = kept or KeptEngine()
        self._spawn_s = seconds_since_start(folder)
        self._clock = PhaseClock("check")
        self._task = task
        self._folder = folder
        self._started_at = datetime.now(UTC)
        self.measured = Measured()

    def run(self) -> Status:
        """Measure and commit; whatever goes wrong is a row and a status, never an exception."""
        if self._kept.log is not None:
            self._kept.log.more()  # is of the attempts before
        try:
            self._measure()
            ending = Ending()
        except EngineError as error:
            traceback.print_exc()
            ending = self._diagnosed(error)
        except PacksweepError as error:
            traceback.print_exc()
            ending = Ending("crashed", checks.one_line(str(error)))
        except Exception as error:  # noqa: BLE001  (any failure of a cell is a row of the sweep)
            traceback.print_exc()
            ending = Ending("crashed", checks.one_line(f"{type(error).__name__}: {error}"))
        self._announce("commit", "record")
        return self._record(ending)

    def _measure(self) -> None:
        self._announce("check", "check")
        self._check_kept_server()
        gpus_before = self._check_gpus()
        self._announce("start", "resolve")
        model = self._task.resolve_model()
        self.measured.model = model
        self._workload = _workload(self._task, model)
        if self._task.cell.mode == "online":
            self._measure_online(model, gpus_before)
        else:
            self._measure_offline(model, gpus_before)

    def _measure_offline(self, model: Model, gpus_before: Sequence[nvml.GpuUse]) -> None:
        engine = self._start_engine(model)
        self._kept.engine = None
        try:
            self._check_caching(engine.info)
            self._run_passes(engine)
        except BaseException:
            self._stop(engine, gpus_before)
            raise
        if self._task.cell.isolation != "engine" or not self._keep_engine(engine):
            self._stop(engine, gpus_before)

    def _measure_online(self, model: Model, gpus_before: Sequence[nvml.GpuUse]) -> None:
        key = external.api_key(self._task.api_key_env)
        self._clock.enter("engine_start")
        server = self._kept.server
        self.measured.shares = server is not None
        if server is None:
            server = engines.start_server(self._task.cell, model, key)
            self._kept.warmed.clear()
        try:
            self._started(server.info)
            self._check_caching(server.info)
            self._run_windows(server, model, key)
        except BaseException as error:
            # A window that does not count is no fault of the server.
            lives = isinstance(error, EngineError) and error.outcome == "invalid"
            self._part_from(server, gpus_before, keep=lives)
            raise
        self._part_from(server, gpus_before, keep=True)

    def _part_from(self, server: Server, gpus_before: Sequence[nvml.GpuUse], *, keep: bool) -> None:
        """Keep a server for the next cell where cells share one, else stop it."""
        self._kept.server = server if keep and self._task.cell.isolation == "engine" else None
        if self._kept.server is None:
            self._stop(server, gpus_before)
        else:
            self._keep_log()

    def _check_kept_server(self) -> None:
        """Give up a kept server that is not as it was after its start; then another is started."""
        server = self._kept.server
        if server is None:
            return
        try:
            server.check()
            wait_until_idle(server)
            if self._task.cell.cache_state != "off":
                server.reset_prefix_cache()
        except EngineError as error:
            _say(f"the shared server is replaced: {error}")
            self._kept.server = None
            server.close()

    def _check_gpus(self) -> Sequence[nvml.GpuUse]:
        """Take the GPUs that the cell needs; return who uses each before the start: nobody."""
        if self._task.cell.engine != "vllm":
            return ()
        visible, num = nvml.visible_gpus(), self._task.cell.num_gpus
        self.measured.gpus = visible[:num]
        if not visible or not self._kept.is_empty:
            return ()
        if len(visible) < num:
            message = f"the engine has {num} GPUs, and {len(visible)} can be seen here"
            raise EngineError(message, outcome="infeasible")
        free = nvml.wait_until_free(visible, num, self._task.limits.gpu_free_timeout_s)
        if len(free) < num:
            raise EngineError(_who_uses(visible), outcome="gpu_busy")
        if free != visible[:num]:
            os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(gpu.visible_as for gpu in free)
        if len({gpu.name for gpu in free}) > 1:
            _say(f"the GPUs of the engine differ: {nvml.names(free)}")
        self.measured.gpus = free
        return [nvml.use(gpu) for gpu in free]

    def _start_engine(self, model: Model) -> Engine:
        self._clock.enter("engine_start")
        engine = self._kept.engine
        self.measured.shares = engine is not None
        if engine is None:
            engine = engines.start(self._task.cell, model)
            self._clock.carve("import", engine.info.import_s)
        self._started(engine.info)
        return engine

    def _started(self, info: EngineInfo) -> None:
        self.measured.info = info
        on_gpus = {pid for gpu in self.measured.gpus for pid in nvml.use(gpu).processes}
        self.measured.engine_pids = own_pids(on_gpus)

    def _check_caching(self, info: EngineInfo) -> None:
        """Refuse an engine that vLLM started without the prefix cache that the cell is about."""
        asked = self._task.cell.cache_state != "off"
        if asked and info.resolved.get("enable_prefix_caching") is False:
            message = (
                "vLLM keeps prefix caching off for this model here: set measure.cache_state=off"
            )
            raise EngineError(message, outcome="invalid")

    def _run_passes(self, engine: Engine) -> None:
        self._announce("warmup", "warmup")
        for _ in range(self._task.cell.warmup_passes):
            engine.run(self._workload.warmup)
        requests = self._workload.requests
        for repeat in itertools.takewhile(self._is_due, itertools.count()):
            self._announce(f"pass {repeat}", "cache")
            earlier = self._set_cache_state(engine, requests)
            self._clock.enter("between")
            sampler = self._sampler()
            result = self._timed(engine, requests, sampler)
            self._keep(repeat, [*earlier, result], sampler.conditions())
        self._announce("tokenize", "tokenize_probe")
        tokenize_s = engine.tokenize([request.text for request in requests])
        for values in self.measured.passes:
            values["tokenize_s"] = tokenize_s

    def _run_windows(self, server: Server, model: Model, key: str | None) -> None:
        cell = self._task.cell
        timeout_s = windows.timeout_s(cell, self._task.limits.pass_timeout_s)
        target = windows.target_of(server, key, timeout_s)
        tokenizer = load_tokenizer(model)
        driver = windows.Windows(server, self._workload, tokenizer, self._folder, target)
        self._warm_up(server, driver)
        course = windows.course(cell)
        for number, step in enumerate(iter(course.next, None)):
            repeat = len(self.measured.passes)
            self._announce(f"pass {number}", "cache")
            earlier = self._set_server_cache(server, driver)
            self._clock.enter("between")
            sampler = self._sampler()
            try:
                driven = self._drive(driver, repeat, step, sampler)
            except NothingArrivesError as error:
                course.pass_over(error)
                continue
            server.check()
            doubts = window_metrics.doubts(cell, driven)
            if doubts:
                _say(f"window {number} does not count: {'; '.join(doubts)}")
            if not doubts or not course.leaves_out:
                self._keep_window(repeat, earlier, driven, sampler.conditions())
            course.tell(driven, doubts)
        self.measured.course = course.result()

    def _warm_up(self, server: Server, driver: Windows) -> None:
        """Warm a server up; one that was warmed with the same prompts is warm."""
        self._announce("warmup", "warmup")
        warmed = self._task.cell.warmup_passes, self._task.cell.prompts_sha256
        for _ in range(0 if warmed in self._kept.warmed else warmed[0]):
            driver.warm_up()
            server.check()
        self._kept.warmed.add(warmed)

    def _drive(
        self, driver: Windows, repeat: int, step: Step, sampler: ConditionSampler | NullSampler
    ) -> Driven:
        """Drive a timed window; nobody waits for its end where the last answer came before it."""
        began = time.perf_counter()
        with sampler:
            driven = driver.drive(repeat, step)
        spent_s = time.perf_counter() - began
        self._clock.carve("passes", min(driven.window.ended_s, spent_s))
        return driven

    def _set_server_cache(self, server: Server, driver: Windows) -> list[PassResult]:
        """Put the server's cache into the cell's state; return the passes that are in it."""
        if self._task.cell.cache_state == "off":
            return []
        if self._task.cell.cache_state == "cold":
            server.reset_prefix_cache()
            return []
        return [driver.prime()]

    def _is_due(self, repeat: int) -> bool:
        durations_s = [values["duration_s"] for values in self.measured.passes]
        return metrics.is_due(self._task.cell, repeat, durations_s)

    def _set_cache_state(self, engine: Engine, requests: Sequence[Request]) -> list[PassResult]:
        """Put the cache into the cell's state; return the passes that are in it."""
        if self._task.cell.cache_state == "off":
            return []
        engine.reset_prefix_cache()
        return [engine.run(requests)] if self._task.cell.cache_state == "primed" else []

    def _sampler(self) -> ConditionSampler | NullSampler:
        if not self._task.cell.sample_conditions:
            return NullSampler()
        gpus = self.measured.gpus
        gauges = nvml.gauges(gpus) if gpus else None
        return ConditionSampler(gauges, engine_pids=self.measured.engine_pids)

    def _timed(
        self, engine: Engine, requests: Sequence[Request], sampler: ConditionSampler | NullSampler
    ) -> PassResult:
        """Run a timed pass; its window alone counts as such, what the engine does around it not."""
        began = time.perf_counter()
        result = engine.run(requests, sampler)
        computed = self._task.cell.engine == schema.SIMULATED  # then duration_s is no wall clock
        self._clock.carve("passes", time.perf_counter() - began if computed else result.duration_s)
        return result

    def _keep(self, repeat: int, passes: Sequence[PassResult], conditions: Conditions) -> None:
        """Keep the values of the last of ``passes``, and refuse one that is not as asked."""
        context = self._context()
        assert context is not None, "a pass comes from a started engine"
        answered = metrics.answered(context, passes)
        values = metrics.pass_row(context, repeat, passes[-1], answered, conditions)
        self.measured.passes.append(values)
        self.measured.requests.extend(
            metrics.request_values(repeat, index, item) for index, item in enumerate(answered)
        )
        problem = checks.disagreement(self._task.cell, answered)
        if problem:
            raise EngineError(f"repeat {repeat}: {problem}", outcome="invalid")

    def _keep_window(
        self,
        repeat: int,
        earlier: Sequence[PassResult],
        driven: Driven,
        conditions: Conditions,
    ) -> None:
        """Keep the values of a window, and refuse one that is not as asked."""
        context = self._context()
        assert context is not None, "a window comes from a started server"
        own = replace(context, workload=driven.workload)
        answered = window_metrics.answered(own, driven)
        values = window_metrics.row(own, repeat, driven, answered, conditions)
        self.measured.passes.append(values)
        self.measured.requests.extend(window_metrics.request_values(repeat, driven, answered))
        problem = window_metrics.problem(own, earlier, driven, answered)
        if problem:
            raise EngineError(f"repeat {repeat}: {problem}", outcome="invalid")
        for kind, detail in window_metrics.details(driven.window).items():
            _say(f"repeat {repeat}: {kind}: {detail}")
        if not window_metrics.whole(answered) and not self._has_answered():
            raise EngineError(
                f"repeat {repeat}: no request completed: {', '.join(values['errors'])}; "
                f"the first: {driven.window.responses[0].detail}"
            )

    def _has_answered(self) -> bool:
        """Tell whether a search has seen answers: then none at a higher rate is what it is for."""
        searches = self._task.cell.load.max_rate is not None
        return searches and any(values["num_requests"] for values in self.measured.passes)

    def _context(self) -> PassContext | None:
        """Return what the passes have in common; None where no engine started."""
        found = self.measured
        if found.info is None or found.model is None:
            return None
        return PassContext(
            workload=self._workload,
            model=found.model,
            info=found.info,
            device=nvml.names(found.gpus) or found.info.device,
            num_gpus=len(found.gpus) or found.info.num_gpus or 1,
        )

    def _keep_engine(self, engine: Engine) -> bool:
        """Put the engine back into the state in which it started, for the next cell.

        False where that fails: what was measured counts, but nobody else gets this engine.
        """
        self._announce("stop", "stop")
        try:
            if self._task.cell.cache_state != "off":
                engine.reset_prefix_cache()  # which it refuses where a request is left
        except EngineError as error:
            _say(f"the shared engine is discarded: {error}")
            return False
        self._kept.engine = engine
        self._keep_log()
        return True

    def _keep_log(self) -> None:
        """Remember where the processes of an engine that started here go on printing."""
        if not self.measured.shares:
            if self._kept.log is not None:
                self._kept.log.close()
            log = self._log()
            self._kept.log = None if log is None else EngineLog(log)

    def _stop(self, engine: Engine | Server, gpus_before: Sequence[nvml.GpuUse]) -> None:
        self._announce("stop", "stop")
        engine.close()
        if gpus_before:
            gpus = self.measured.gpus
            returned = nvml.wait_until_returned(gpus, gpus_before, _MEMORY_TIMEOUT_S)
            self.measured.memory_returned = returned
            if not returned:
                _say(f"{nvml.names(gpus)}: memory was not freed within {_MEMORY_TIMEOUT_S:.0f} s")

    def _diagnosed(self, error: EngineError) -> Ending:
        """Return how a failed engine ends; the engine core's own words are in the log alone."""
        if error.outcome != "crashed":
            return Ending(error.outcome, checks.one_line(str(error)))
        cause = causes.diagnose(str(error), self._log_text())
        return Ending(cause.outcome, cause.reason, cause.final)

    def _record(self, ending: Ending) -> Status:
        """Write the attempt's files, commit them if it ended well, and say how it went."""
        task, cell_id = self._task, self._task.cell.cell_id
        passes = self._pass_rows(ending)
        unwritten = rows.write(task, passes, self._request_rows())
        ended_well = ending.outcome == "ok" and unwritten is None
        if ended_well:
            try:
                task.store.commit(cell_id, task.attempt_id)
            except ResultsError as error:
                traceback.print_exc()
                ended_well, unwritten = False, f"its result could not be committed: {error}"
        before = "" if ending.outcome == "ok" else f"{ending.outcome}: {ending.reason}; "
        condensed = _condensed(passes) if ended_well else {}
        return Status(
            cell_id=cell_id,
            attempt_id=task.attempt_id,
            attempt=task.attempt,
            outcome="crashed" if unwritten else ending.outcome,
            reason=f"{before}{unwritten}" if unwritten else ending.reason,
            final=ending.final,
            unwritten=unwritten is not None,
            texts_per_s=condensed.get("texts_per_s_median"),
            cached_share=condensed.get("cached_share"),
            wall_s=self._phases()["wall_s"] or 0.0,
            log=task.log,
        )

    def _pass_rows(self, ending: Ending) -> list[dict[str, Any]]:
        context, found = self._context(), self.measured
        shared = {
            **rows.identity(self._task, ending.outcome, ending.reason, self._started_at),
            **environment.describe(found.gpus),
            **({"start_method": "shared"} if found.shares else {}),
            **({} if found.info is None else rows.engine_values(found.info, found.gpus)),
            **start_phases(self._log_text()),
            "jit_compilations": jit_compilations(self._log_text(), self._started_before()),
            **({} if context is None else asdict(context.ceiling)),
            "gpu_hour_usd": self._task.gpu_hour_usd,
            "memory_returned": found.memory_returned,
            **found.course,
            **self._phases(),
        }
        return [{**shared, **values} for values in found.passes or [{}]]

    def _request_rows(self) -> list[dict[str, Any]]:
        ids = {"cell_id": self._task.cell.cell_id, "attempt_id": self._task.attempt_id}
        return [{**ids, **values} for values in self.measured.requests]

    def _phases(self) -> dict[str, float | None]:
        """Return the attempt's time up to now, and its parts; called last before writing."""
        spent = {f"{name}_s": seconds for name, seconds in self._clock.spent().items()}
        wall_s = seconds_since_start(self._folder) or sum(spent.values())
        return {"spawn_s": self._spawn_s, **spent, "wall_s": wall_s}

    def _log_text(self) -> str:
        """Return what was printed up to now; nothing where it was deleted with the results."""
        self._copy_engine_log()
        log = self._log()
        return "" if log is None else log.read_text(encoding="utf-8", errors="replace")

    def _log(self) -> Path | None:
        try:
            log = self._task.log_path(self._folder)
        except ResultsError:
            return None
        return log if log.exists() else None

    def _copy_engine_log(self) -> None:
        """Print here what a shared engine has printed meanwhile into the log of another attempt."""
        printed = self._kept.log.more() if self.measured.shares and self._kept.log else b""
        if printed:
            sys.stdout.buffer.write(printed if printed.endswith(b"\n") else printed + b"\n")
            sys.stdout.flush()

    def _started_before(self) -> str:
        """Return what a shared engine printed at its start, in another attempt."""
        return self._kept.log.start if self.measured.shares and self._kept.log else ""

    def _announce(self, phase: str, column: str) -> None:
        """Tell the supervisor the phase that begins, and let its time count for ``column``."""
        self._clock.enter(column)
        self._copy_engine_log()
        _say(phase)
        replace_file(self._folder / PHASE, phase.encode())


def _condensed(passes: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the row that the summary has of an attempt's passes alone."""
    undefined = dict.fromkeys(column.name for column in schema.PASSES)
    return summary.of_cell([{**undefined, **row} for row in passes])


def _say(text: str) -> None:
    """Write a line into the log, between those of the engine."""
    print(f"packsweep: {text}", flush=True)  # noqa: T201  (stdout is the attempt's log)


def _who_uses(gpus: Sequence[nvml.Gpu]) -> str:
    """Say which processes compute on which of ``gpus``."""
    told = [(gpu.name, nvml.use_if_told(gpu)) for gpu in gpus]
    parts = [
        f"{name} is used by process "
        + ", ".join(f"{pid} ({size >> 20} MiB)" for pid, size in use.processes.items())
        if use
        else f"NVML does not tell who uses {name}"
        for name, use in told
        if use is None or use.processes
    ]
    return "; ".join(parts) or "too few GPUs were free"


def _workload(task: Task, model: Model) -> Workload:
    tokenizer = load_tokenizer(model) if needs_tokenizer(task.cell) else None
    return Workload.of(task.cell, task.texts, task.chat, tokenizer)


def seconds_since_start(folder: Path) -> float | None:
    """Return the seconds since the supervisor started this process; None where a person did."""
    path = folder / BEGAN
    return process.seconds_since(path.read_text(encoding="ascii")) if path.exists() else None


def main() -> None:
    """Run the task in the folder that the command line names."""
    run(Path(sys.argv[1]))


def run(folder: Path) -> NoReturn:
    """Run the task in ``folder``, in this process, and end it."""
    lifeline.guard_children(session.folder() or folder)
    lifeline.guard_forks()
    kept = KeptEngine()
    for each in itertools.chain([folder], session.further_attempts()):
        _attempt(each, kept)
        if kept.is_empty:
            break
    _end()


def _end() -> NoReturn:
    """Leave without tearing down all that was imported, which takes half a second.

    All engines have ended; what they did not clean up, their resource trackers do.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _attempt(folder: Path, kept: KeptEngine) -> None:
    task = task_from_json((folder / "task.json").read_text(encoding="utf-8"))
    status = Attempt(task, folder, kept).run()
    if not kept.is_empty:
        session.announce_kept(folder)
    replace_file(folder / STATUS, status.to_json().encode())


if __name__ == "__main__":
    main()

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
import statistics
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from packsweep import engines
from packsweep.engines import Engine, EngineInfo, PassResult, Request
from packsweep.engines.start_log import start_phases
from packsweep.errors import EngineError, PacksweepError, ResultsError
from packsweep.files import replace_file
from packsweep.machine import environment, nvml
from packsweep.machine.sampler import Conditions, Unwatched, Watch, own_pids
from packsweep.models.resolve import Model
from packsweep.plan import ceilings
from packsweep.plan.formats import Formats, formats
from packsweep.results import schema, stats
from packsweep.run import checks, lifeline, metrics, rows
from packsweep.run.metrics import Answered
from packsweep.run.phases import PhaseClock
from packsweep.run.task import BEGAN, Status, Task, task_from_json
from packsweep.run.workload import Workload

_MEMORY_TIMEOUT_S = 60.0


@dataclass(slots=True)
class Measured:
    """What an attempt has found out so far; complete when it ends well."""

    gpu: nvml.Gpu | None = None
    info: EngineInfo | None = None
    engine_pids: frozenset[int] = frozenset()
    model: Model | None = None
    memory_returned: bool | None = None
    passes: list[dict[str, Any]] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)


class Attempt:
    """One attempt, phase by phase."""

    def __init__(self, task: Task, folder: Path) -> None:
        """Take ``task``; phases are announced in ``folder``."""
        self._clock = PhaseClock("check")
        self._began = process_began(folder)
        self._spawn_s = None if self._began is None else time.time() - self._began
        self._task = task
        self._folder = folder
        self._workload = Workload.of(task.cell, task.texts, task.chat)
        self._started_at = datetime.now(UTC)
        self.measured = Measured()

    def run(self) -> Status:
        """Measure and commit; whatever goes wrong is a row and a status, never an exception."""
        began = time.perf_counter()
        try:
            self._measure()
            outcome, reason = "ok", None
        except EngineError as error:
            traceback.print_exc()
            outcome, reason = self._root_cause(error)
        except PacksweepError as error:
            traceback.print_exc()
            outcome, reason = "crashed", checks.one_line(str(error))
        except Exception as error:  # noqa: BLE001  (any failure of a cell is a row of the sweep)
            traceback.print_exc()
            outcome, reason = "crashed", checks.one_line(f"{type(error).__name__}: {error}")
        self._announce("commit", "record")
        return self._record(outcome, reason, time.perf_counter() - began)

    def _measure(self) -> None:
        self._announce("check", "check")
        gpu_before = self._check_gpu()
        self._announce("start", "resolve")
        model = self._task.resolve_model()
        self.measured.model = model
        self._clock.enter("engine_start")
        engine = engines.start(self._task.cell, model)
        self._clock.carve("import", engine.info.import_s)
        self.measured.info = engine.info
        if self.measured.gpu is not None:
            self.measured.engine_pids = own_pids(nvml.use(self.measured.gpu).processes)
        try:
            self._check_caching(engine.info)
            self._run_passes(engine)
        finally:
            self._stop(engine, gpu_before)

    def _check_caching(self, info: EngineInfo) -> None:
        """Refuse an engine that vLLM started without the prefix cache that the cell is about."""
        asked = self._task.cell.cache_state != "off"
        if asked and info.resolved.get("enable_prefix_caching") is False:
            message = (
                "vLLM keeps prefix caching off for this model here: set measure.cache_state=off"
            )
            raise EngineError(message, outcome="invalid")

    def _check_gpu(self) -> nvml.GpuUse | None:
        """Return who uses the GPU before the start, which must be nobody."""
        if self._task.cell.engine == "simulated":
            return None
        gpu = nvml.visible_gpu()
        self.measured.gpu = gpu
        if gpu is None:
            return None
        busy = nvml.wait_until_free(gpu, self._task.limits.gpu_free_timeout_s)
        if busy is not None:
            pids = ", ".join(f"{pid} ({used >> 20} MiB)" for pid, used in busy.processes.items())
            raise EngineError(f"{gpu.name} is used by process {pids}", outcome="gpu_busy")
        return nvml.use(gpu)

    def _run_passes(self, engine: Engine) -> None:
        self._announce("warmup", "warmup")
        for _ in range(self._task.cell.warmup_passes):
            engine.run(self._workload.warmup)
        requests = self._workload.requests
        for repeat in itertools.takewhile(self._wanted, itertools.count()):
            self._announce(f"pass {repeat}", "cache")
            earlier = self._set_cache_state(engine, requests)
            self._clock.enter("between")
            watch = self._watch()
            result = self._timed(engine, requests, watch)
            self._keep(repeat, result, earlier, watch.conditions())
        self._announce("tokenize", "tokenize_probe")
        tokenize_s = engine.tokenize([request.text for request in requests])
        for values in self.measured.passes:
            values["tokenize_s"] = tokenize_s

    def _wanted(self, repeat: int) -> bool:
        """Tell whether another timed pass is due; see ``spec.MeasureTable`` for when it stops."""
        cell = self._task.cell
        if repeat < cell.repeats or cell.stop_at_half_width is None:
            return repeat < cell.repeats
        durations = [values["duration_s"] for values in self.measured.passes]
        half = stats.half_width(durations)
        narrow = half is not None and half <= cell.stop_at_half_width * statistics.fmean(durations)
        return not narrow and repeat < (cell.max_repeats or 0)

    def _set_cache_state(self, engine: Engine, requests: Sequence[Request]) -> list[PassResult]:
        """Put the cache into the cell's state; return the passes that are in it."""
        if self._task.cell.cache_state == "off":
            return []
        engine.reset_prefix_cache()
        return [engine.run(requests)] if self._task.cell.cache_state == "primed" else []

    def _watch(self) -> Watch | Unwatched:
        if not self._task.cell.sample_conditions:
            return Unwatched()
        gpu = self.measured.gpu
        gauges = None if gpu is None else nvml.gauges(gpu)
        return Watch(gauges, engine_pids=self.measured.engine_pids)

    def _timed(
        self, engine: Engine, requests: Sequence[Request], watch: Watch | Unwatched
    ) -> PassResult:
        """Run a timed pass; its window alone counts as such, what the engine does around it not."""
        began = time.perf_counter()
        result = engine.run(requests, watch)
        computed = self._task.cell.engine == schema.SIMULATED  # then duration_s is no wall clock
        self._clock.carve("passes", time.perf_counter() - began if computed else result.duration_s)
        return result

    def _keep(
        self, repeat: int, result: PassResult, earlier: Sequence[PassResult], seen: Conditions
    ) -> None:
        """Check a pass and keep its values."""
        assert self.measured.info is not None, "a pass comes from a started engine"
        assert self.measured.model is not None
        state = self._task.cell.cache_state
        expected = metrics.expected_cached(state, [*earlier, result], self.measured.info)
        scored = not self.measured.model.random_weights
        answered = metrics.answered(self._workload, result, expected, scored=scored)
        values = metrics.pass_values(repeat, result, answered, tokenize_s=None)
        work = self._work(answered, result.duration_s)
        energy = metrics.energy_values(seen.energy_j, values)
        self.measured.passes.append({**values, **work, **asdict(seen), **energy})
        self.measured.requests.extend(
            metrics.request_values(repeat, index, item) for index, item in enumerate(answered)
        )
        problem = checks.disagreement(self._task.cell, answered)
        if problem:
            raise EngineError(f"repeat {repeat}: {problem}", outcome="invalid")

    def _work(self, answered: Sequence[Answered], duration_s: float) -> dict[str, Any]:
        """Return the columns of ``schema.UTILIZATION``; none for a design that is not described."""
        info, model = self.measured.info, self.measured.model
        assert info is not None
        assert model is not None
        if model.shape is None:
            return {}
        return metrics.work_values(
            model.shape, answered, duration_s, self._formats(), self._ceiling(), info.resolved
        )

    def _formats(self) -> Formats:
        info, model = self.measured.info, self.measured.model
        assert info is not None
        assert model is not None
        return formats(info.resolved, model.torch_dtype, model.quantization)

    def _ceiling(self) -> ceilings.Ceiling:
        """Return what the device can do in the formats in force; empty before the start."""
        gpu, info = self.measured.gpu, self.measured.info
        if info is None:
            return ceilings.Ceiling()
        return ceilings.data_sheet(gpu.name if gpu else info.device, self._formats())

    def _stop(self, engine: Engine, gpu_before: nvml.GpuUse | None) -> None:
        self._announce("stop", "stop")
        engine.close()
        gpu = self.measured.gpu
        if gpu is not None and gpu_before is not None:
            returned = nvml.wait_until_returned(gpu, gpu_before, _MEMORY_TIMEOUT_S)
            self.measured.memory_returned = returned
            if not returned:
                _say(f"{gpu.name}: memory is not back after {_MEMORY_TIMEOUT_S:.0f} s")

    def _root_cause(self, error: EngineError) -> tuple[str, str]:
        """Return outcome and reason; the engine core's own words are in the log alone."""
        text = checks.one_line(str(error))
        if error.outcome != "crashed":
            return error.outcome, text
        cause = checks.engine_core_cause(self._task.log_path(self._folder))
        if cause is None:
            return error.outcome, text
        return ("oom" if engines.is_oom(cause) else "crashed"), cause

    def _record(self, outcome: str, reason: str | None, wall_s: float) -> Status:
        """Write the attempt's files, commit them if it ended well, and say how it went."""
        task, cell_id = self._task, self._task.cell.cell_id
        try:
            passes = self._rows(outcome, reason)
            task.store.write(cell_id, task.attempt_id, passes, self._request_rows())
            if outcome == "ok":
                task.store.commit(cell_id, task.attempt_id)
        except ResultsError as error:
            traceback.print_exc()
            before = "" if outcome == "ok" else f"{outcome}: {reason}; "
            outcome, reason = "crashed", f"{before}its row could not be written: {error}"
        speeds = [row["texts_per_s"] for row in self.measured.passes]
        return Status(
            cell_id=cell_id,
            attempt_id=task.attempt_id,
            attempt=task.attempt,
            outcome=outcome,
            reason=reason,
            texts_per_s=statistics.median(speeds) if outcome == "ok" else None,
            cached_share=self.measured.passes[-1]["cached_share"] if outcome == "ok" else None,
            wall_s=wall_s,
            log=task.log,
        )

    def _rows(self, outcome: str, reason: str | None) -> list[dict[str, Any]]:
        shared = {
            **rows.identity(self._task, outcome, reason, self._started_at),
            **environment.describe(self.measured.gpu),
            **_engine_values(self.measured),
            **start_phases(self._log_text()),
            **asdict(self._ceiling()),
            "gpu_hour_usd": self._task.gpu_hour_usd,
            "memory_returned": self.measured.memory_returned,
            **self._phases(),
        }
        return [{**shared, **values} for values in self.measured.passes or [{}]]

    def _request_rows(self) -> list[dict[str, Any]]:
        ids = {"cell_id": self._task.cell.cell_id, "attempt_id": self._task.attempt_id}
        return [{**ids, **values} for values in self.measured.requests]

    def _phases(self) -> dict[str, float | None]:
        """Return the attempt's wall clock up to now, and its parts; called last before writing."""
        spent = {f"{name}_s": seconds for name, seconds in self._clock.spent().items()}
        wall_s = sum(spent.values()) if self._began is None else time.time() - self._began
        return {"spawn_s": self._spawn_s, **spent, "wall_s": wall_s}

    def _log_text(self) -> str:
        log = self._task.log_path(self._folder)
        return log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""

    def _announce(self, phase: str, column: str) -> None:
        """Tell the supervisor the phase that begins, and let its time count for ``column``."""
        self._clock.enter(column)
        _say(phase)
        replace_file(self._folder / "phase", phase.encode())


def _say(text: str) -> None:
    """Write a line into the log, between those of the engine."""
    print(f"packsweep: {text}", flush=True)  # noqa: T201  (stdout is the attempt's log)


def _engine_values(measured: Measured) -> dict[str, Any]:
    """Return the columns that the started engine fills; empty if it did not start."""
    info = measured.info
    if info is None:
        return {}
    import json

    return {
        "engine_resolved": json.dumps(info.resolved),
        "block_size": info.block_size,
        "num_gpu_blocks": info.num_blocks,
        "versions": json.dumps(info.versions),
        "vllm_version": info.versions.get("vllm"),
        "torch_version": info.versions.get("torch"),
        **({} if measured.gpu else {"device": info.device}),
    }


def process_began(folder: Path) -> float | None:
    """Return when the supervisor started this process; None where a person did."""
    path = folder / BEGAN
    return float(path.read_text(encoding="ascii")) if path.exists() else None


def main() -> None:
    """Run the task in the folder that the command line names."""
    folder = Path(sys.argv[1])
    lifeline.guard_children(folder)
    task = task_from_json((folder / "task.json").read_text(encoding="utf-8"))
    status = Attempt(task, folder).run()
    replace_file(folder / "status.json", status.to_json().encode())


if __name__ == "__main__":
    main()

"""What an attempt is at and has found out: what its parts share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from packsweep.engines import EngineInfo
from packsweep.errors import EngineError
from packsweep.files import replace_file
from packsweep.machine import nvml, process
from packsweep.machine.sampler import own_pids
from packsweep.models.resolve import Model
from packsweep.run.attempt.kept import KeptEngine
from packsweep.run.attempt.log import AttemptLog, say
from packsweep.run.measure.metrics import PassContext
from packsweep.run.measure.phases import PhaseClock
from packsweep.run.measure.workload import Workload
from packsweep.run.task import BEGAN, PHASE, Task


@dataclass(slots=True)
class Found:
    """What an attempt has found out so far; complete when it ends well.

    Attributes:
        gpus: of the engine.
        gpus_before: who used each before the engine started; nothing where nobody looked.
        engine_pids: the processes of the engine.
        shares: the engine or server was started by an attempt before.
        memory_returned: the GPUs' memory, after the engine's end; None where nobody looked.
        passes: a row for each pass or window, by column.
        requests: a row for each request, by column.
        course: what a search over rates has found, by column.
    """

    gpus: tuple[nvml.Gpu, ...] = ()
    gpus_before: Sequence[nvml.GpuUse] = ()
    model: Model | None = None
    workload: Workload | None = None
    info: EngineInfo | None = None
    engine_pids: frozenset[int] = frozenset()
    shares: bool = False
    memory_returned: bool | None = None
    passes: list[dict[str, Any]] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)
    course: dict[str, Any] = field(default_factory=dict)


class Attempt:
    """One attempt at the cell of a task."""

    def __init__(self, task: Task, folder: Path, kept: KeptEngine) -> None:
        """Begin it; phases are announced in ``folder``."""
        self.spawn_s = _seconds_since_start(folder)
        self.clock = PhaseClock("check")
        self.started_at = datetime.now(UTC)
        self.task = task
        self.kept = kept
        self.found = Found()
        self.log = AttemptLog(task, folder)
        self.folder = folder
        if kept.log is not None:
            kept.log.more()  # is of the attempts before

    def announce(self, phase: str, column: str) -> None:
        """Tell the supervisor the phase that begins, and let its time count for ``column``."""
        self.clock.enter(column)
        self.log.copy_engine()
        say(phase)
        replace_file(self.folder / PHASE, phase.encode())

    def share(self) -> None:
        """Note that the engine or server is the one that an attempt before has started."""
        self.found.shares = True
        self.log.engine = self.kept.log

    def keep_log(self) -> None:
        """Remember where the processes of an engine that started here go on printing."""
        if not self.found.shares:
            self.kept.read_on(self.log.path())

    def engine_runs(self, info: EngineInfo) -> None:
        """Take note of a started engine.

        Raises:
            EngineError: vLLM started it without the prefix cache that the cell is about.
        """
        self.found.info = info
        on_gpus = {pid for gpu in self.found.gpus for pid in nvml.use(gpu).processes}
        self.found.engine_pids = own_pids(on_gpus)
        asked = self.task.cell.cache_state != "off"
        if asked and info.resolved.get("enable_prefix_caching") is False:
            message = (
                "vLLM keeps prefix caching off for this model here: set measure.cache_state=off"
            )
            raise EngineError(message, outcome="invalid")

    def context(self) -> PassContext | None:
        """Return what the passes have in common; None where no engine started."""
        found = self.found
        if found.info is None or found.model is None or found.workload is None:
            return None
        return PassContext(
            workload=found.workload,
            model=found.model,
            info=found.info,
            device=nvml.names(found.gpus) or found.info.device,
            num_gpus=len(found.gpus) or found.info.num_gpus or 1,
        )

    def phases(self) -> dict[str, float | None]:
        """Return the attempt's time up to now, and its parts, in seconds, by column."""
        spent = {f"{name}_s": seconds for name, seconds in self.clock.spent().items()}
        wall_s = _seconds_since_start(self.folder) or sum(spent.values())
        return {"spawn_s": self.spawn_s, **spent, "wall_s": wall_s}


def _seconds_since_start(folder: Path) -> float | None:
    """Return the seconds since the supervisor started this process; None where a person did."""
    path = folder / BEGAN
    return process.seconds_since(path.read_text(encoding="ascii")) if path.exists() else None

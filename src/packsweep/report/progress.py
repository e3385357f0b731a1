"""Progress of a running sweep: live on a terminal, plain lines in a log.

A terminal always shows what the running cells are at. A log gets a line for each cell that ends,
and one at least every minute in between.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from packsweep.errors import counted, printable
from packsweep.machine.slowness import likely_cause
from packsweep.report.format import number, percent
from packsweep.report.wrap import fitted
from packsweep.run.task import Activity, Status

_LINE_EVERY_S = 60.0
# A pass is slow that takes so many times what was predicted, and so long.
_SLOW_RATIO, _SLOW_S = 10.0, 15.0
_PHASES = {
    "spawn": "starting the process",
    "check": "waiting for the GPU",
    "start": "starting the engine",
    "warmup": "warm-up",
    "tokenize": "tokenizing",
    "stop": "stopping the engine",
    "commit": "writing",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What a cell should take, in seconds, where it could be predicted.

    Attributes:
        pass_s: one timed pass.
        cell_s: all of it, the engine's start included.
        dtype: in which its engine computes; None where that is vLLM's choice.
    """

    pass_s: float
    cell_s: float
    dtype: str | None = None


@dataclass(slots=True)
class _Remaining:
    """Cells that have not ended, and how long they should take together."""

    cells: dict[str, float | None] = field(default_factory=dict)

    def text(self, running_s: float) -> str:
        """Return how many are left, and the predicted time if it is known of all of them."""
        known = [seconds for seconds in self.cells.values() if seconds is not None]
        num_left = f"{len(self.cells)} cell{'s' if len(self.cells) != 1 else ''} left"
        if len(known) < len(self.cells) or not known:
            return num_left
        return f"{num_left}, about {_duration(max(sum(known) - running_s, 0.0))}"


class LineReporter:
    """Plain lines, for logs and pipes."""

    def __init__(
        self,
        console: Console,
        expected: Mapping[str, Expected] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console = console
        self._expected = expected or {}
        self._clock = clock
        self._total = self._ended = 0
        self._left = _Remaining()
        self._began: dict[str, float] = {}
        self._slow: set[str] = set()
        self._said_s = clock()

    def began(self, *, num_cells: int, num_done: int) -> None:
        self._total, self._ended = num_cells, num_done
        kept = f", {num_done} done before" if num_done else ""
        self.say(f"{counted(num_cells, 'cell')}{kept}, {num_cells - num_done} to do")

    def started(self, cell_id: str, attempt: int) -> None:  # noqa: ARG002  (as the reporter)
        """Note when; a line when it ends is enough."""
        self._began[cell_id] = self._clock()

    def running(self, activities: Sequence[Activity], waiting: Sequence[str]) -> None:
        """Say what runs, at least once a minute; say at once of a pass that is far too slow."""
        for activity in activities:
            self._check_pace(activity)
        if activities and self._clock() - self._said_s >= _LINE_EVERY_S:
            self.say(self._now(activities, waiting))

    def ended(self, status: Status, *, again: bool) -> None:
        """Print the attempt's line."""
        self._ended += not again
        self._began.pop(status.cell_id, None)
        position = f"[{self._ended}/{self._total}]"
        self.say(status_line(status, position=position, again=again))

    def stopped(self, reason: str) -> None:
        """Say why the sweep stops early."""
        self.say(f"stopped early: {reason}")

    def close(self) -> None:
        """Nothing is open."""

    def say(self, text: str) -> None:
        """Print a line; a terminal that is gone does not stop the sweep."""
        self._said_s = self._clock()
        with contextlib.suppress(OSError):
            line = printable(text, one_line=True)
            for part in fitted(line, self._console):
                self._console.print(part, markup=False, highlight=False, soft_wrap=True)

    def _now(self, activities: Sequence[Activity], waiting: Sequence[str]) -> str:
        """Return what runs and what is left, in one line."""
        ids = {*(activity.cell_id for activity in activities), *waiting}
        self._left.cells = {
            cell_id: (known.cell_s if (known := self._expected.get(cell_id)) else None)
            for cell_id in ids
        }
        spent = sum(
            min(
                self._clock() - self._began[activity.cell_id],
                self._left.cells[activity.cell_id] or 0.0,
            )
            for activity in activities
            if activity.cell_id in self._began
        )
        running = "; ".join(map(_activity, activities))
        return f"[{self._ended}/{self._total}] {running}; {self._left.text(spent)}"

    def _check_pace(self, activity: Activity) -> None:
        expected = self._expected.get(activity.cell_id)
        timed = activity.phase == "warmup" or activity.phase.startswith("pass ")
        if expected is None or not timed or activity.cell_id in self._slow:
            return
        if activity.seconds < max(_SLOW_RATIO * expected.pass_s, _SLOW_S):
            return
        self._slow.add(activity.cell_id)
        self.say(
            f"{_slug(activity.cell_id)}: {_phase(activity.phase)} has taken "
            f"{_duration(activity.seconds)}, more than {_SLOW_RATIO:.0f} times the "
            f"{_duration(expected.pass_s)} predicted; likely cause: {likely_cause(expected.dtype)}"
        )


class BarReporter(LineReporter):
    """The same lines above a live line that says what runs."""

    def __init__(self, console: Console, expected: Mapping[str, Expected] | None = None) -> None:
        super().__init__(console, expected)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=12),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )
        self._task = self._bar.add_task("starting", total=None)

    def began(self, *, num_cells: int, num_done: int) -> None:
        super().began(num_cells=num_cells, num_done=num_done)
        self._bar.update(self._task, total=num_cells, completed=num_done)
        self._bar.start()

    def running(self, activities: Sequence[Activity], waiting: Sequence[str]) -> None:
        """Bring the live line up to date."""
        for activity in activities:
            self._check_pace(activity)
        if activities:
            _, _, now = self._now(activities, waiting).partition("] ")
            self._bar.update(self._task, description=now)

    def ended(self, status: Status, *, again: bool) -> None:
        """Print the line and move the bar."""
        super().ended(status, again=again)
        self._bar.update(self._task, completed=self._ended)

    def close(self) -> None:
        """Take the bar away."""
        self._bar.stop()


def reporter(console: Console, expected: Mapping[str, Expected] | None = None) -> LineReporter:
    """Return the reporter that suits where the output goes."""
    return (BarReporter if console.is_terminal else LineReporter)(console, expected)


def status_line(status: Status, *, position: str = "", again: bool = False) -> str:
    """Return one line on how an attempt ended."""
    line = f"{position} {status.cell_id}: {status.outcome}"
    if status.texts_per_s is not None:
        line += f", {number(status.texts_per_s)} texts/s, {percent(status.cached_share)} cached"
    if status.reason:
        line += f": {status.reason}"
    line += f" [{status.wall_s:.0f} s]"
    return f"{line}; will retry" if again else line


def _activity(activity: Activity) -> str:
    speed = "" if activity.tokens_per_s is None else f", {activity.tokens_per_s:,.0f} tokens/s"
    phase = f"{_phase(activity.phase)} for {_duration(activity.seconds)}"
    return f"{_slug(activity.cell_id)}: {phase}{speed}"


def _phase(phase: str) -> str:
    """Return a phase in words; passes count from 1, as people do."""
    word, _, index = phase.partition(" ")
    return f"pass {int(index) + 1}" if word == "pass" else _PHASES.get(phase, phase)


def _slug(cell_id: str) -> str:
    return cell_id.rpartition("-")[0]


def _duration(seconds: float) -> str:
    if seconds < 120:  # noqa: PLR2004  (two minutes)
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"  # noqa: PLR2004

"""Progress of a running sweep: a bar on a terminal, a line per ended cell in a log."""

from __future__ import annotations

import contextlib

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from packsweep.errors import printable
from packsweep.report.format import number, percent
from packsweep.run.task import Status


class LineReporter:
    """One plain line per event, for logs and pipes."""

    def __init__(self, console: Console) -> None:
        """Print to ``console``."""
        self._console = console
        self._total = self._ended = 0

    def began(self, *, num_cells: int, num_done: int) -> None:
        """Say how much is missing."""
        self._total, self._ended = num_cells, num_done
        kept = f", {num_done} done before" if num_done else ""
        self._say(f"{num_cells} cells{kept}, {num_cells - num_done} to do")

    def started(self, cell_id: str, attempt: int) -> None:
        """Say nothing: a line when it ends is enough."""

    def ended(self, status: Status, *, again: bool) -> None:
        """Print the attempt's line."""
        self._ended += not again
        position = f"[{self._ended}/{self._total}]"
        self._say(status_line(status, position=position, again=again))

    def stopped(self, reason: str) -> None:
        """Say why the sweep stops early."""
        self._say(f"stopped early: {reason}")

    def close(self) -> None:
        """Nothing is open."""

    def _say(self, text: str) -> None:
        """Print a line; a terminal that is gone does not stop the sweep."""
        with contextlib.suppress(OSError):
            line = printable(text, one_line=True)
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)


class BarReporter(LineReporter):
    """The same lines above a progress bar that names the running cell."""

    def __init__(self, console: Console) -> None:
        """Draw the bar on ``console``."""
        super().__init__(console)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )
        self._task = self._bar.add_task("starting", total=None)

    def began(self, *, num_cells: int, num_done: int) -> None:
        """Show the bar."""
        super().began(num_cells=num_cells, num_done=num_done)
        self._bar.update(self._task, total=num_cells, completed=num_done)
        self._bar.start()

    def started(self, cell_id: str, attempt: int) -> None:  # noqa: ARG002  (as the reporter)
        """Name the cell."""
        self._bar.update(self._task, description=cell_id.rpartition("-")[0])

    def ended(self, status: Status, *, again: bool) -> None:
        """Print the line and move the bar."""
        super().ended(status, again=again)
        self._bar.update(self._task, completed=self._ended)

    def close(self) -> None:
        """Take the bar away."""
        self._bar.stop()


def reporter(console: Console) -> LineReporter:
    """Return the reporter that suits where the output goes."""
    return BarReporter(console) if console.is_terminal else LineReporter(console)


def status_line(status: Status, *, position: str, again: bool) -> str:
    """Return the one line that a log shows for an attempt that ended."""
    line = f"{position} {status.cell_id}: {status.outcome}"
    if status.texts_per_s is not None:
        line += f", {number(status.texts_per_s)} texts/s, {percent(status.cached_share)} cached"
    if status.reason:
        line += f": {status.reason}"
    line += f" [{status.wall_s:.0f} s]"
    return f"{line}; will retry" if again else line

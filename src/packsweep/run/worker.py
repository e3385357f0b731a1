"""The process that makes attempts: one, or several that share an engine or a server.

``python -m packsweep.run.worker FOLDER`` reads ``FOLDER/task.json``, keeps the name of the phase it
is in in ``FOLDER/phase`` and leaves ``FOLDER/status.json``. A supervisor watches
(``supervisor.py``).
"""

from __future__ import annotations

import itertools
import os
import sys
from pathlib import Path
from typing import NoReturn

from packsweep.files import replace_file
from packsweep.run import attempt, lifeline, session
from packsweep.run.attempt.kept import KeptEngine
from packsweep.run.task import STATUS, task_from_json


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


def _attempt(folder: Path, kept: KeptEngine) -> None:
    task = task_from_json((folder / "task.json").read_text(encoding="utf-8"))
    status = attempt.run(task, folder, kept)
    if not kept.is_empty:
        session.announce_kept(folder)
    replace_file(folder / STATUS, status.to_json().encode())


def _end() -> NoReturn:
    """Leave without tearing down all that was imported, which takes half a second.

    All engines have ended; what they did not clean up, their resource trackers do.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    run(Path(sys.argv[1]))

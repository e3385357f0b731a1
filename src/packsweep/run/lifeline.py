"""Start a program that dies with the process that started it.

``python -m packsweep.run.lifeline PARENT PROGRAM ARG...`` asks Linux for SIGKILL when the parent
ends, then becomes PROGRAM: the request outlives the exec. vLLM's engine core does not notice its
parent's death, so a killed worker would leave it behind with all of the GPU's memory, and the core
starts processes of its own. ``guard_children`` makes every child that multiprocessing spawns pass
through here, and each of those guards its own children in turn.

Elsewhere than on Linux this is a plain exec: the supervisor then kills what it can find.
"""

from __future__ import annotations

import ctypes
import fcntl
import multiprocessing.spawn
import os
import select
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from packsweep.machine.process import tracks_resources

_PR_SET_PDEATHSIG = 1  # Source: linux/prctl.h
_F_SETSIG = 10  # Source: asm-generic/fcntl.h
# What multiprocessing gives a new Python to do.
# Source: CPython 3.11 to 3.14, ``multiprocessing/spawn.py`` (``get_command_line``).
_SPAWNED = "from multiprocessing.spawn import spawn_main"
_PARENT = "PACKSWEEP_LIFELINE_PARENT"
_WRAPPER = "PACKSWEEP_LIFELINE_WRAPPER"


def command(*program: str) -> list[str]:
    """Return the command line that runs ``program`` under a lifeline.

    ``-P``: whatever lies in the working directory is imported by no process of ours.
    """
    return [sys.executable, "-P", "-m", "packsweep.run.lifeline", str(os.getpid()), *program]


def guard_children(folder: Path) -> None:
    """Make children that multiprocessing spawns from this process, and theirs, die with it.

    Args:
        folder: where the small program that multiprocessing starts instead of Python is written.
    """
    if sys.platform != "linux":
        return
    wrapper = folder / "python-with-lifeline"
    python = f"'{sys.executable}'"
    line = f'exec {python} -P -m packsweep.run.lifeline "${_PARENT}" {python} "$@"'
    wrapper.write_text(f"#!/bin/sh\n{line}\n", encoding="utf-8")
    wrapper.chmod(0o700)
    if not os.access(wrapper, os.X_OK):
        return  # mounted noexec: the supervisor kills what it has seen
    os.environ[_WRAPPER] = str(wrapper)
    guard_own_children()


def guard_forks() -> None:
    """Make children that are forked by this process's main thread, and theirs, die with it.

    Linux sends the signal when the *thread* ends that forked, so other threads' are left alone.
    """
    if sys.platform == "linux":
        os.register_at_fork(before=_note_parent, after_in_child=_die_with_parent)


_forking: list[int] = []


def _note_parent() -> None:
    _forking[:] = [os.getpid()] if threading.current_thread() is threading.main_thread() else []


def _die_with_parent() -> None:
    if _WRAPPER in os.environ:
        os.environ[_PARENT] = str(os.getpid())  # what this child spawns is its own
    for parent in _forking:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


def die_at_end_of(pipe: int) -> None:
    """Ask for SIGKILL when nobody holds the other end of ``pipe`` any more.

    The kernel sends it, whatever this process is busy with. Nothing may ever be written into it.
    Source: fcntl(2), F_SETSIG; the owner and the signal are the open file's, so also its copies'.
    """
    fcntl.fcntl(pipe, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(pipe, _F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(pipe, fcntl.F_SETFL, fcntl.fcntl(pipe, fcntl.F_GETFL) | os.O_ASYNC)
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    if poll.poll(0):  # it closed before we asked
        os._exit(1)


def guard_own_children() -> None:
    """Do the same in a child, with the program that its parent wrote."""
    os.environ[_PARENT] = str(os.getpid())
    multiprocessing.spawn.set_executable(os.environ[_WRAPPER])


def die_with(parent: int) -> None:
    """Ask for SIGKILL when the parent ends; end now if ``parent`` is already gone."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)


def guarding(arguments: Sequence[str]) -> list[str]:
    """Return a child's command line with the guard of its own children in it."""
    guard = "from packsweep.run import lifeline; lifeline.guard_own_children(); "
    return [guard + each if each.startswith(_SPAWNED) else each for each in arguments]


def main() -> None:
    """Run ``PARENT PROGRAM ARG...`` from the command line."""
    if not tracks_resources(sys.argv):  # which outlives all of us, and ends then
        die_with(int(sys.argv[1]))
    os.execv(sys.argv[2], guarding(sys.argv[2:]))  # noqa: S606  (becoming it is the point)


if __name__ == "__main__":
    main()

"""Start a program that dies with the process that started it.

``python -m packsweep.run.lifeline PROGRAM ARG...`` asks Linux for SIGKILL when the parent ends,
then becomes PROGRAM: the request outlives the exec. vLLM's engine core does not notice its parent's
death, so a killed worker would leave it behind with all of the GPU's memory; ``guard_children``
makes every child that multiprocessing spawns pass through here.

Elsewhere than on Linux this is a plain exec: the supervisor then kills what it can find.
"""

from __future__ import annotations

import ctypes
import multiprocessing.spawn
import os
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1  # Source: linux/prctl.h


def command(*program: str) -> list[str]:
    """Return the command line that runs ``program`` under a lifeline."""
    return [sys.executable, "-m", "packsweep.run.lifeline", str(os.getpid()), *program]


def guard_children(folder: Path) -> None:
    """Make children that multiprocessing spawns from this process die with it.

    Args:
        folder: where the small program that multiprocessing starts instead of Python is written.
    """
    if sys.platform != "linux":
        return
    wrapper = folder / "python-with-lifeline"
    line = " ".join(f"'{part}'" for part in command(sys.executable))
    wrapper.write_text(f'#!/bin/sh\nexec {line} "$@"\n', encoding="utf-8")
    wrapper.chmod(0o700)
    if not os.access(wrapper, os.X_OK):
        return  # mounted noexec: the supervisor kills what it has seen
    multiprocessing.spawn.set_executable(str(wrapper))


def die_with(parent: int) -> None:
    """Ask for SIGKILL when the parent ends; end now if ``parent`` is already gone."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)


def main() -> None:
    """Run ``PARENT PROGRAM ARG...`` from the command line."""
    die_with(int(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606  (becoming it is the point)


if __name__ == "__main__":
    main()

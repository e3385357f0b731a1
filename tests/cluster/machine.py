"""Commands that run as if on a machine of their own.

Linux namespaces give a command its own processes and its own network: ``ray stop`` there ends no
Ray but its own, ports are free, and nothing that it started outlives it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

NAMESPACES = (
    *("unshare", "--map-root-user", "--pid", "--net", "--mount"),
    *("--fork", "--mount-proc", "--kill-child"),
)
INSIDE = Path(__file__).with_name("inside.py")


def can_be_made() -> bool:
    """Return whether this machine lets a user make namespaces."""
    if shutil.which("unshare") is None:
        return False
    done = subprocess.run([*NAMESPACES, "true"], capture_output=True, check=False)
    return done.returncode == 0


@dataclass(frozen=True, slots=True)
class Run:
    """A command that runs on a machine of its own, and where its files are."""

    process: subprocess.Popen[str]
    scratch: Path

    def said(self, timeout_s: float) -> tuple[int, str]:
        """Wait for the end; return the exit status and what was printed."""
        text, _ = self.process.communicate(timeout=timeout_s)
        return self.process.returncode, text

    def clean(self) -> None:
        """End what still runs and remove the scratch folder."""
        with self.process:
            self.process.kill()
        shutil.rmtree(self.scratch, ignore_errors=True)


def start(command: Sequence[str], cwd: Path, environ: Mapping[str, str] | None = None) -> Run:
    """Start ``command`` in ``cwd``, with a home and a place for temporary files of its own."""
    # Short, because Ray's socket paths end at 107 letters.
    scratch = Path(tempfile.mkdtemp(prefix="ps-", dir="/tmp"))
    own = {"HOME": str(scratch), "TMPDIR": str(scratch), "RAY_TMPDIR": str(scratch)}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    process = subprocess.Popen(
        [*NAMESPACES, sys.executable, str(INSIDE), *command],
        cwd=cwd,
        env={**inherited, "PATH": path, "RAY_COLOR_MODE": "false", **own, **(environ or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return Run(process, scratch)

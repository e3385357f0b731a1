"""The folder of one attempt on this machine: its task, phase, status and log.

It holds texts, so none is left behind: a supervisor that was killed cannot remove its own, and
the next run does. A folder says who owns it; what belongs to somebody else is left alone.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path

from packsweep.errors import UserError
from packsweep.machine import process

PREFIX = "packsweep-"
OWNER = "owner.json"


def make() -> Path:
    """Make a folder that this process owns.

    Raises:
        UserError: there is no room for temporary files, or none may be written.
    """
    try:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        owner = json.dumps(process.identity(os.getpid()))
        (folder / OWNER).write_text(owner, encoding="utf-8")
    except OSError as error:
        message = f"temporary files cannot be written: {error}; set TMPDIR to a folder of yours"
        raise UserError(message) from None
    return folder


def remove_abandoned() -> int:
    """Remove the folders whose owner is gone; return how many there were."""
    found = [folder for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*") if _mine(folder)]
    for folder in found:
        shutil.rmtree(folder, ignore_errors=True)
    return len(found)


def _mine(folder: Path) -> bool:
    """Return whether a folder is this user's and its owner has ended; in doubt it is not."""
    try:
        ours = not folder.is_symlink() and folder.stat().st_uid == os.getuid()
        owner = json.loads((folder / OWNER).read_text(encoding="utf-8")) if ours else None
    except (OSError, ValueError):
        return False
    return isinstance(owner, dict) and process.has_ended(owner)

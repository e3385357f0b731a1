"""A home folder for a user who has none.

Containers run as users that no password file knows, or whose home is another's. What asks for a
home then (caches, torch, the hub's client) fails, or makes a folder named ``~`` where it stands.
"""

from __future__ import annotations

import getpass
import os
import stat
import tempfile
from pathlib import Path


def provide() -> str | None:
    """Name a folder for caches where the user has no usable home; return a line that says so.

    It holds for this process and for those that it starts.
    """
    _provide_name()
    home = os.path.expanduser("~")  # noqa: PTH111  (Path.expanduser raises where this gives "~")
    if _is_usable(home):
        return None
    found = _own_folder()
    os.environ["HOME"] = str(found)
    why = "this user has no home" if home == "~" else f"the home {home} cannot be used"
    return f"{why}: caches go to {found}; HOME or PACKSWEEP_CACHE names another place"


def _is_usable(home: str) -> bool:
    """Return whether caches can be kept there, or models read that lie there already."""
    cache = os.path.join(home, ".cache")  # noqa: PTH118  (Path.is_dir raises below a locked folder)
    place = cache if os.path.isdir(cache) else home  # noqa: PTH112
    readable = os.access(os.path.join(cache, "huggingface"), os.R_OK | os.X_OK)  # noqa: PTH118
    return os.path.isabs(home) and (os.access(place, os.R_OK | os.W_OK | os.X_OK) or readable)  # noqa: PTH117


def _own_folder() -> Path:
    """Return a folder that is this user's alone, the same one the next time if nobody took it."""
    folder = Path(tempfile.gettempdir()) / f"packsweep-home-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return Path(tempfile.mkdtemp(prefix="packsweep-home-"))
    private = stat.S_ISDIR(found.st_mode) and not found.st_mode & 0o077
    if private and found.st_uid == os.getuid():
        return folder
    return Path(tempfile.mkdtemp(prefix="packsweep-home-"))


def _provide_name() -> None:
    """Name a user whom no password file knows: torch asks for the name of its cache's owner."""
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["USER"] = f"uid{os.getuid()}"

"""Files on this machine, whole or not at all, and the folder of those that can be made again.

Everything is written under a unique name beside its final place and gets there in one step.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from packsweep.errors import UserError, shown


def replace_file(path: Path, content: bytes) -> None:
    """Write ``content`` under a unique name and move it to ``path`` in one step."""
    with _scratch(path, content) as scratch:
        scratch.replace(path)


def link_file(path: Path, content: bytes) -> None:
    """Do the same, but only where there is no ``path`` yet: of two at once the first wins.

    Raises:
        FileExistsError: another was first.
    """
    with _scratch(path, content) as scratch:
        os.link(scratch, path)


@contextlib.contextmanager
def _scratch(path: Path, content: bytes) -> Iterator[Path]:
    """Give a file with ``content`` beside ``path``; what is still there in the end is removed."""
    scratch = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        with scratch.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        yield scratch
    finally:
        scratch.unlink(missing_ok=True)


def expanded(path: str) -> Path:
    """Return a path with the folder in it that ``~`` or ``~user`` stands for.

    Raises:
        UserError: that user is not known, or has no home.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        message = f"{shown(path)}: this user is not known or has no home; write the whole path"
        raise UserError(message) from None


def cache_root() -> Path:
    """Return the cache folder, which need not exist yet.

    ``$PACKSWEEP_CACHE``, else ``$XDG_CACHE_HOME/packsweep``, else ``~/.cache/packsweep``. An empty
    variable counts as unset.

    Raises:
        UserError: it lies in the home of a user who has none.
    """
    if own := os.environ.get("PACKSWEEP_CACHE"):
        return expanded(own).absolute()
    if shared := os.environ.get("XDG_CACHE_HOME"):
        return expanded(shared).absolute() / "packsweep"
    return expanded("~") / ".cache" / "packsweep"

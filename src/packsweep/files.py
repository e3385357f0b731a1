"""Files on this machine, whole or not at all, and the folder of those that can be made again.

Everything is written under a unique name beside its final place and gets there in one step.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path


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


def cache_root() -> Path:
    """Return the cache folder, which need not exist yet.

    ``$PACKSWEEP_CACHE``, else ``$XDG_CACHE_HOME/packsweep``, else ``~/.cache/packsweep``. An empty
    variable counts as unset.
    """
    if own := os.environ.get("PACKSWEEP_CACHE"):
        return Path(own).expanduser().absolute()
    if shared := os.environ.get("XDG_CACHE_HOME"):
        return Path(shared).expanduser().absolute() / "packsweep"
    return Path.home() / ".cache" / "packsweep"

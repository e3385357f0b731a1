"""What is passed over while results are read is named, once in a process, and stops nothing.

A folder may lack the same of thousands of cells: what ``gathered`` sees is one line for each kind
of doubt, with the first example and how many there are.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator

from packsweep.errors import printable

_log = logging.getLogger(__name__)
_lock = threading.Lock()
_named: set[str] = set()
_waiting: dict[str, list[str]] = {}
_readers: list[object] = []


def name_once(line: str, *, kind: str) -> None:
    """Log a warning, on stderr where nobody set up logging; names of files are made printable.

    Args:
        line: names the file and says what is wrong with it.
        kind: what is equal in lines that differ by their file alone.
    """
    with _lock:
        if line in _named:
            return
        _named.add(line)
        _waiting.setdefault(kind, []).append(line)
    if not _readers:
        _log_waiting()


@contextlib.contextmanager
def gathered() -> Iterator[None]:
    """Name the doubts of many files when all have been read."""
    reader = object()
    _readers.append(reader)
    try:
        yield
    finally:
        _readers.remove(reader)
        if not _readers:
            _log_waiting()


def _log_waiting() -> None:
    with _lock:
        kinds = list(_waiting.values())
        _waiting.clear()
    for lines in kinds:
        alike = f" (the first of {len(lines):,} such files)" if len(lines) > 1 else ""
        _log.warning("packsweep: %s%s", printable(min(lines), one_line=True), alike)

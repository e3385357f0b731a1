"""Counts what code does. A count is the same on every processor, however busy; seconds are not."""

from __future__ import annotations

import itertools
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

# Of Python's audit events, those by which a program looks at files and changes them.
_FILE_EVENTS = frozenset(
    f"{'os.' if name != 'open' else ''}{name}"
    for name in ("open", "listdir", "scandir", "mkdir", "link", "rename", "remove", "rmdir")
)


@dataclass
class Counts:
    """What a function did.

    Attributes:
        num_calls: calls of functions, Python's own in C among them, in every thread it started.
        num_file_operations: files opened, folders listed, names made, linked, moved and removed,
            in the folder that is watched.
    """

    folder: str
    num_calls: int = 0
    num_file_operations: int = 0


class _Audit:
    """The one hook of this process; a hook cannot be taken away again."""

    counts: Counts | None = None
    operations: Iterator[int] = itertools.count()
    installed = False

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        counts = self.counts
        if counts is None or event not in _FILE_EVENTS or not arguments:
            return
        if str(arguments[0]).startswith(counts.folder):
            next(self.operations)


_AUDIT = _Audit()


def count(function: Callable[[], object], folder: Path) -> Counts:
    """Call ``function`` and return what it did, to files in ``folder`` among other things."""
    counts = Counts(str(folder))

    # Threads count together: the next of a count is one step, an addition is several.
    calls = itertools.count()

    def profile(_frame: FrameType, event: str, _argument: object) -> None:
        if event in {"call", "c_call"}:
            next(calls)

    if not _AUDIT.installed:
        sys.addaudithook(_AUDIT)
        _AUDIT.installed = True
    _AUDIT.operations = itertools.count()
    _AUDIT.counts = counts
    threading.setprofile(profile)
    sys.setprofile(profile)
    try:
        function()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
        _AUDIT.counts = None
    counts.num_calls, counts.num_file_operations = next(calls), next(_AUDIT.operations)
    return counts

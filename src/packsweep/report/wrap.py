"""Lines broken between words, never within one. An interval is one word: ``[85, 89]``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from rich.cells import cell_len

if TYPE_CHECKING:
    from rich.console import Console

_WORD = re.compile(r"(?:\[[-+\d., %]*\]|\S)+")


def fitted(text: str, console: Console) -> list[str]:
    """Return the lines of ``text``: as they fit a terminal, whole for a pipe."""
    return wrapped(text, console.width) if console.is_terminal else [text]


def wrapped(text: str, width: int) -> list[str]:
    """Return the lines of ``text``, as wide as ``width`` or as their longest word.

    What a line is broken into is indented as it is.
    """
    return [part for line in text.split("\n") for part in _parts(line, width)]


def _parts(line: str, width: int) -> list[str]:
    if cell_len(line) <= width:
        return [line]
    indent = line[: len(line) - len(line.lstrip(" "))]
    first, *words = _WORD.findall(line) or [""]
    parts = [indent + first]
    for word in words:
        longer = f"{parts[-1]} {word}"
        if cell_len(longer) <= width:
            parts[-1] = longer
        else:
            parts.append(indent + word)
    return parts


def longest_word(text: str) -> int:
    """Return how many letters wide the longest word of ``text`` is."""
    return max(map(cell_len, _WORD.findall(text)), default=0)

"""What can go wrong, as types.

    PacksweepError
    |-- UserError               the user can fix it: one line, exit status 2, nothing was run
    |   |-- SpecError           a sweep file or --set value
    |   |-- TextsError          a texts file or folder
    |   |-- ModelError          a model or tokenizer that is not there or does not fit
    |   |   `-- DesignError     a model whose FLOPs and KV cache no formula of ours describes
    |   `-- ResultsError        a results folder that cannot be used, or rows that may not be merged
    `-- EngineError             an engine that did not start or did not do what was asked

A message says what was wrong, with the value, and what to do next. It is one line, whatever
stands in the values that it names.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

_LONGEST_VALUE = 40
# The part of a URL before its host's @; a password may hold a slash or an @ that nobody escaped.
_CREDENTIALS = re.compile(r"(\w:/{1,3})(?:[^\s/@:]*:\S*|[^\s/@]*)@")


def without_credentials(text: str) -> str:
    """Return ``text`` without what stands before the ``@`` of a URL's host."""
    return _CREDENTIALS.sub(r"\1***@", text)


class PacksweepError(Exception):
    """Any error that packsweep raises on purpose. Its message never holds a URL's credentials."""

    def __str__(self) -> str:
        return without_credentials(super().__str__())


class UserError(PacksweepError):
    """The user can fix it; the command line prints it as one line and exits with 2."""

    def __init__(self, message: str) -> None:
        """Take a message, which becomes one line that a terminal shows and does not obey."""
        super().__init__(printable(message, one_line=True))


class SpecError(UserError):
    """A sweep file or a ``--set`` value is wrong."""


class TextsError(UserError):
    """The texts cannot be read, are too few, or do not fit the task."""


class ModelError(UserError):
    """The model or its tokenizer is not there, or cannot be used."""


class DesignError(ModelError):
    """No formula of ours describes the model; it can still be measured."""


class ResultsError(UserError):
    """The results folder cannot be used, or its rows do not belong together."""


class EngineError(PacksweepError):
    """The engine did not start, or did not do what was asked of it.

    Attributes:
        outcome: the cell outcome this error becomes, ``oom``, ``crashed``, ``invalid``, ...
    """

    def __init__(self, message: str, *, outcome: str = "crashed") -> None:
        super().__init__(message)
        self.outcome = outcome


def nearest(word: str, known: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """Return the name that is spelled most like ``word``, for a message; None if none is.

    Capitals and small letters are the same.
    """
    names = {name.casefold(): name for name in known}
    close = difflib.get_close_matches(word.casefold(), names, n=1, cutoff=cutoff)
    return names[close[0]] if close else None


def counted(number: int, noun: str) -> str:
    """Return ``1 text`` or ``2 texts``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


_LONGEST_LINE = 1_500
# Control characters and what reorders text: a terminal would obey them. Surrogates stand for
# bytes that are no text.
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)


def printable(text: str, *, one_line: bool = False) -> str:
    """Return text that a terminal shows and does not obey, each line of a length to read."""
    lines = [" ".join(text.split())] if one_line else text.split("\n")
    return "\n".join(_UNPRINTABLE.sub(_escaped, _shortened(line)) for line in lines)


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape", "surrogatepass").decode()


def _shortened(line: str) -> str:
    if len(line) <= _LONGEST_LINE:
        return line
    return f"{line[: _LONGEST_LINE // 2]} ... {len(line):,} characters ... {line[-200:]}"


def shown(value: object, limit: int = _LONGEST_VALUE) -> str:
    """Return a value as a message shows it: short, or in words where there is nothing to show."""
    if value is None or value == "":
        return "empty"
    if isinstance(value, str) and value.isspace():
        return "blank"
    try:
        found = repr(value[: limit + 1] if isinstance(value, str) else value)
    except (ValueError, RecursionError):  # an integer of thousands of digits, a deep nest
        return f"{type(value).__name__} too large to show"
    return found if len(found) <= limit else f"{found[:limit]}..."

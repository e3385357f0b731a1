"""What can go wrong, as types.

    PacksweepError
    |-- UserError               the user can mend it: one line, exit status 2, nothing was run
    |   |-- SpecError           a sweep file or --set value
    |   |-- TextsError        a texts file or folder
    |   |-- ModelError          a model or tokenizer that is not there or does not fit
    |   |   `-- DesignError     a model whose FLOPs and KV cache no formula of ours describes
    |   `-- ResultsError        a results folder that cannot be used, or rows that may not be merged
    `-- EngineError             an engine that did not start or did not do what was asked

A message says what was wrong, with the value, and what to do next. It is one line, whatever
stands in the values that it names.
"""

from __future__ import annotations

_LONGEST_MESSAGE = 1500
_LONGEST_VALUE = 40


class PacksweepError(Exception):
    """Any error that packsweep raises on purpose."""


class UserError(PacksweepError):
    """The user can mend it; the command line prints it as one line and exits with 2."""

    def __init__(self, message: str) -> None:
        """Take a message; what a terminal would obey or could not show is written as an escape."""
        super().__init__(printable(message))


class SpecError(UserError):
    """A sweep file or a ``--set`` value is wrong."""


class TextsError(UserError):
    """The texts cannot be read, or are not texts with a sentiment."""


class ModelError(UserError):
    """The model or its tokenizer is not there, or cannot be used."""


class DesignError(ModelError):
    """No formula of ours describes the model; it can be measured all the same."""


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


def printable(text: str, limit: int = _LONGEST_MESSAGE) -> str:
    """Return ``text`` as one line that any terminal can show, shortened in its middle."""
    if len(text) > limit:
        half = (limit - 5) // 2
        text = f"{text[:half]} ... {text[-half:]}"
    return "".join(
        char if char.isprintable() else ascii(char)[1:-1] for char in text.replace("\n", " ")
    )


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

"""Signals that ask a command to end, distinguished from failures by the exit status 130."""

from __future__ import annotations

import signal
from typing import NoReturn

_NAMES = ("SIGTERM", "SIGHUP")


def interrupt_on_signals() -> None:
    """Treat SIGTERM and a terminal that hangs up as Ctrl-C; a nohup is respected."""
    for number in _known():
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)


def ignore_signals() -> None:
    """Let no signal end this process any more: it is about to end with its own status.

    Python takes its handlers away before it ends, and the status would be the signal's.
    """
    for number in _known():
        signal.signal(number, signal.SIG_IGN)
    # Where the interrupt arrived in the exec of a string (dataclasses, named tuples), Python would
    # end by SIGINT although it was caught; the next exec forgets it.
    # Source: CPython 3.11, Python/pythonrun.c, run_eval_code_obj.
    exec("")  # noqa: S102


def _interrupt(_number: int, _frame: object) -> NoReturn:
    """End in an orderly way, once: asking again must not cut the ending short.

    Another signal may have arrived already, and must find a handler that is a function.
    """
    for number in _known():
        signal.signal(number, _do_nothing)
    raise KeyboardInterrupt


def _do_nothing(_number: int, _frame: object) -> None:
    pass


def _known() -> list[signal.Signals]:
    return [signal.Signals[name] for name in _NAMES if hasattr(signal, name)]

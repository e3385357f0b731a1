"""Signals that ask a command to end, told apart from failures by the exit status 130."""

from __future__ import annotations

import signal
from typing import NoReturn

_NAMES = ("SIGTERM", "SIGHUP")


def interrupt_on_signals() -> None:
    """Treat SIGTERM and a terminal that hangs up as Ctrl-C; a nohup is respected."""
    for number in _known():
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)


def _interrupt(_number: int, _frame: object) -> NoReturn:
    """End in an orderly way, once: asking again must not cut the ending short."""
    for number in _known():
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _known() -> list[signal.Signals]:
    return [signal.Signals[name] for name in _NAMES if hasattr(signal, name)]

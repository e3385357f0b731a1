"""How commands print: lines and tables for a terminal or a pipe, and JSON."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_PIPE_WIDTH = 160


def print_table(console: Console, renderable: RenderableType) -> None:
    console.print(renderable, crop=False)


def say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def print_json(value: object) -> None:
    import json

    print(json.dumps(value, indent=2, default=str))


def open_console() -> Console:
    from rich.console import Console

    # A log or a pipe has no width that a table would have to fit.
    return Console(highlight=False, width=None if sys.stdout.isatty() else _PIPE_WIDTH)

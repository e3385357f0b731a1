"""Lines of a run on a terminal and in a log."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from packsweep.report.progress import LineReporter


@pytest.mark.parametrize(
    ("terminal", "lines"),
    [
        (True, ["[1/2] separate-n8-dup1:", "ok, 2.00 texts/s"]),
        (False, ["[1/2] separate-n8-dup1: ok, 2.00 texts/s"]),
    ],
)
def test_a_terminal_breaks_no_word(terminal: bool, lines: list[str]) -> None:  # noqa: FBT001
    file = io.StringIO()
    console = Console(file=file, width=26, force_terminal=terminal, no_color=True)
    LineReporter(console).say("[1/2] separate-n8-dup1: ok, 2.00 texts/s")
    assert file.getvalue().splitlines() == lines

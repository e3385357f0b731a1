"""What a terminal gets of thousands of rows, and what a pipe gets."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from packsweep.cli import output
from packsweep.report.tables.table import Column, Table


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rows of each end."""
    monkeypatch.setattr(output, "_NUM_ENDS", 2)


def _printed(
    num_rows: int, *, terminal: bool, sections: tuple[int, ...] = (), brief: bool = False
) -> list[str]:
    file = io.StringIO()
    console = Console(file=file, width=80, force_terminal=terminal, no_color=True)
    column = Column(heading="n", cells=tuple(map(str, range(num_rows))))
    output.print_table(console, Table(columns=(column,), sections=sections), brief=brief)
    return [line.strip() for line in file.getvalue().splitlines()][3:]


def _said(text: str, *, terminal: bool) -> list[str]:
    file = io.StringIO()
    console = Console(file=file, width=20, force_terminal=terminal, no_color=True)
    output.say(console, text)
    return [line.rstrip() for line in file.getvalue().splitlines()]


def test_a_broken_line_keeps_its_indent() -> None:
    """A terminal gets lines as they fit; those of a list stay below its heading."""
    text = "  all cells: measured [once]"
    assert _said(text, terminal=True) == ["  all cells:", "  measured [once]"]
    assert _said(text.lstrip(), terminal=True) == ["all cells: measured", "[once]"]
    assert _said(text, terminal=False) == [text]


def test_pipe_gets_all() -> None:
    assert _printed(9, terminal=False) == [*map(str, range(9)), ""]


def test_terminal_gets_both_ends() -> None:
    """And a line that says how many rows are missing and how to see them."""
    last = "5 of 9 rows not shown; | less shows all"
    assert _printed(9, terminal=True) == ["0", "1", "...", "7", "8", "", last]


def test_log_of_a_run_gets_both_ends() -> None:
    """What a run leaves in a log is no place for thousands of rows."""
    last = "5 of 9 rows not shown; packsweep show RESULTS | less shows all"
    found = _printed(9, terminal=False, brief=True)
    assert found == ["0", "1", "...", "7", "8", "", last]


def test_terminal_gets_all_but_thousands() -> None:
    """A few rows more than the two ends are shown."""
    assert _printed(6, terminal=True) == [*map(str, range(6)), ""]


def test_terminal_keeps_groups() -> None:
    """Empty lines stand where they did."""
    found = _printed(9, terminal=True, sections=(0, 4, 7))
    assert found[:7] == ["0", "", "1", "...", "7", "", "8"]


def test_lines_of_a_footer() -> None:
    lines = [str(number) for number in range(9)]
    assert output.ends(Console(force_terminal=False), lines) == lines
    found = output.ends(Console(force_terminal=True), lines)
    assert found == ["0", "1", "... 5 more ...", "7", "8"]

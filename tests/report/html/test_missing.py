"""Cells of the kept sweep file that no row stands for."""

from __future__ import annotations

from tests.fakes import pass_row
from tests.report.html.composed import ENDS, SWEEP, cells

from packsweep.report.html import Found, missing
from packsweep.sweep import read


def test_names_of_composed(found: Found) -> None:
    """The two cells without a row are named, failed ones are not."""
    assert isinstance(found.absent, list)
    assert sorted(line.split(" primed")[0] for line in found.absent) == [
        "packed n=2 dup=10",
        "separate n=2 dup=10",
    ]
    assert len([end for end, _ in ENDS.values() if not end]) == 2


def test_names_all_there() -> None:
    """A row for each cell leaves nothing missing, whatever the outcomes."""
    rows = [pass_row(cell, outcome="crashed") for cell in cells()]
    assert missing.names(read.kept(SWEEP), rows) == []


def test_names_other_settings() -> None:
    """A row of other engine settings stands for no cell."""
    rows = [pass_row(cell) for cell in cells(SWEEP + "\n[engine]\nmax_num_seqs = 7\n")]
    assert len(missing.names(read.kept(SWEEP), rows)) == len(cells())


def test_names_replicates() -> None:
    """A replicate that is not there is counted."""
    text = SWEEP.replace("repeats = 3", "repeats = 3\nreplicates = 2")
    rows = [pass_row(cell) for cell in cells(text) if cell.replicate == 0]
    found = missing.names(read.kept(text), rows)
    assert len(found) == len(rows)
    assert all(line.endswith(": 1 of 2 replicates") for line in found)

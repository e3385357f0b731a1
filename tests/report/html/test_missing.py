"""Cells of the kept sweep file that no row stands for."""

from __future__ import annotations

import pytest
from tests.fakes import pass_row
from tests.report.html.composed import ENDS, SWEEP, cells

from packsweep.errors import SpecError
from packsweep.report.html import Found, missing


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
    assert missing.names(missing.read(SWEEP), rows) == []


def test_names_other_settings() -> None:
    """A row of other engine settings stands for no cell."""
    rows = [pass_row(cell) for cell in cells(SWEEP + "\n[engine]\nmax_num_seqs = 7\n")]
    assert len(missing.names(missing.read(SWEEP), rows)) == len(cells())


def test_names_replicates() -> None:
    """A replicate that is not there is counted."""
    text = SWEEP.replace("repeats = 3", "repeats = 3\nreplicates = 2")
    rows = [pass_row(cell) for cell in cells(text) if cell.replicate == 0]
    found = missing.names(missing.read(text), rows)
    assert len(found) == len(rows)
    assert all(line.endswith(": 1 of 2 replicates") for line in found)


def test_overrides_at_the_end_alone() -> None:
    """What was set stands below the file; the file's own comments are none of it."""
    text = "# --set grid.n=1\n[model]\n# --set grid.n=2\n# --set engine.max_model_len=8\n"
    assert missing.overrides(text) == ["grid.n=2", "engine.max_model_len=8"]


def test_read_applies_overrides() -> None:
    """The sweep is the one that was run."""
    assert missing.read(SWEEP + "# --set grid.n=[2]\n").grid.n == (2,)


def test_read_refuses() -> None:
    """A text that is no sweep file is refused."""
    with pytest.raises(SpecError, match=r"sweep\.toml"):
        missing.read("[model")

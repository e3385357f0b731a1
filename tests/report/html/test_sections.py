"""Sections of the report: what their tables hold."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from tests.fabricated import Way, draw, row

from packsweep.analysis import contrasts, quality
from packsweep.report.html import sections
from packsweep.results import stats

WAYS = (Way(accuracy=0.9), Way(accuracy=0.7, pack_size=4))
ROWS = [row(way, 400) for way in WAYS]
ANSWERS = draw(WAYS, ROWS, np.random.default_rng(0))


def test_comparisons_are_of_speed_and_of_accuracy_where_it_is_known() -> None:
    """The lines below the table of ``show`` say that all of them are here."""
    base, cell = (ANSWERS[each["group_id"]] for each in ROWS)
    speed = contrasts.Comparison(
        cell=cell.group_id, baseline=base.group_id, axis="strategy", ratio=stats.ratio([], [])
    )
    scored = replace(speed, answers=quality.difference(cell, base), quality="down")
    (figure,) = sections.comparisons([scored], ROWS).figures
    (cells,) = figure.data.rows
    assert cells[:2] == ("chunked4 n=400", "separate n=400")
    assert cells[3].endswith("over 100 prompts, fewer correct")
    (figure,) = sections.comparisons([speed], ROWS).figures
    assert len(figure.data.columns) == 3

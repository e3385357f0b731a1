"""What ``packsweep show`` says where there is nothing to show."""

from __future__ import annotations

from typing import Any

import pytest

from packsweep.cli.commands.show import _why_none


@pytest.mark.parametrize(
    ("row", "read", "why"),
    [
        ({"outcome": "oom", "coverage": None}, False, "no cell is ok yet"),
        ({"outcome": "ok", "coverage": None}, False, "the weights are random"),
        ({"outcome": "ok", "coverage": 1.0}, False, "the tables of requests are gone"),
        ({"outcome": "ok", "coverage": 1.0}, True, "the texts have no labels; --quality shows"),
    ],
)
def test_no_scored_answers_has_its_reason(row: dict[str, Any], *, read: bool, why: str) -> None:
    assert _why_none([row], read=read).startswith(f"no scored answers: {why}")

"""The committed reference results give the figures that they gave when they were published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from packsweep import cli

_REFERENCE = Path(__file__).parents[2] / "results" / "reference"
_GOLDEN = json.loads(Path(__file__).with_name("reference.json").read_text(encoding="utf-8"))


def _said(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    """Return what a command prints as JSON."""
    with pytest.raises(SystemExit) as caught:
        cli.main([*arguments, "--json"])
    assert not caught.value.code
    return json.loads(capsys.readouterr().out)


def _figures(rows: list[dict[str, Any]], key: str, names: list[str]) -> dict[str, list[Any]]:
    return {row[key]: _rounded([row[name] for name in names]) for row in rows}


def _rounded(figures: list[Any]) -> list[Any]:
    """Return figures to 12 digits: sums may be taken in another order."""
    return [float(f"{each:.12g}") if isinstance(each, float) else each for each in figures]


@pytest.mark.parametrize("folder", _GOLDEN["show"]["cells"])
def test_show(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    """``show`` has the same cells in the same order, with the same figures."""
    golden = _GOLDEN["show"]
    rows = _said(capsys, "show", str(_REFERENCE / folder), "--allow-mixed")
    found = _figures(rows, "cell_id", golden["columns"])
    assert list(found) == list(golden["cells"][folder])
    for cell_id, figures in golden["cells"][folder].items():
        assert found[cell_id] == _rounded(figures)


@pytest.mark.parametrize("folder", _GOLDEN["compare"]["cells"])
def test_compare(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    """``compare`` pairs the same cells and gives the same ratios, intervals and differences."""
    golden = _GOLDEN["compare"]
    sides = str(_REFERENCE / "h200"), str(_REFERENCE / folder)
    record = _said(capsys, "compare", *sides, "--allow-mixed")
    found = _figures(record["cells"], "cell_b", golden["columns"])
    assert list(found) == list(golden["cells"][folder])
    for cell_id, figures in golden["cells"][folder].items():
        assert found[cell_id] == _rounded(figures)
    assert [each["name"] for each in record["differences"]] == golden["differences"][folder]
    assert [len(record["only_a"]), len(record["only_b"])] == golden["alone"][folder]

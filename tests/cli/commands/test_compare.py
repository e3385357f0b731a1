"""``packsweep compare`` as a user meets it: what it prints, its exit status, what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.fakes import cell, pass_row

from packsweep import cli
from packsweep.cli import output
from packsweep.results.store import Store
from packsweep.sweep.cells import Cell

CELL = cell()
Captured = pytest.CaptureFixture[str]


def folder(root: Path, *speeds: float, of: Cell = CELL, **values: Any) -> Path:
    """Return a results folder of one cell with a repeat for each speed."""
    store = Store(root)
    store.prepare()
    rows = [pass_row(of, texts_per_s=speed, **values) for speed in speeds]
    store.write(of.cell_id, "a0", rows, [])
    store.commit(of.cell_id, "a0")
    return root


def said(capsys: Captured, status: int, *arguments: object) -> str:
    """Return what a command prints; it must end with ``status``."""
    with pytest.raises(SystemExit) as ended:
        cli.main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    assert ended.value.code == status, captured.err
    return captured.err if status == output.WRONG_USE else captured.out


def test_compare_prints_table_word_and_differences(capsys: Captured, tmp_path: Path) -> None:
    a = folder(tmp_path / "a", 10.0, 10.1, 10.2, driver_version="1")
    b = folder(tmp_path / "b", 5.0, 5.1, 5.2, driver_version="2")
    lines = said(capsys, 0, "compare", a, b).splitlines()
    (row,) = (line.split() for line in lines if line.startswith(" packed"))
    assert row == ["packed", "2", "1", "10.10", "5.10", "0.50x", "[0.485,", "0.526]", "slower*"]
    assert "  driver_version: 1 -> 2" in lines


@pytest.mark.parametrize(("limit", "status"), [(0.95, 1), (0.4, 0)])
def test_compare_gate_sets_the_exit_status(
    capsys: Captured, tmp_path: Path, limit: float, status: int
) -> None:
    a = folder(tmp_path / "a", 10.0, 10.1, 10.2)
    b = folder(tmp_path / "b", 5.0, 5.1, 5.2)
    last = said(capsys, status, "compare", a, b, "--fail-below", limit).splitlines()[-1]
    assert last.startswith("FAIL" if status else "no cell is significantly below 0.4")


def test_compare_json(capsys: Captured, tmp_path: Path) -> None:
    a, b = folder(tmp_path / "a", 1.0), folder(tmp_path / "b", 2.0)
    found = json.loads(said(capsys, 0, "compare", a, b, "--json"))
    assert (found["a"], found["metric"], found["gate"]) == (str(a), "texts_per_s", None)
    assert found["cells"][0]["said"] == "one repeat: no interval"
    assert found["cells"][0]["ratio"] == pytest.approx(2)


def test_compare_where_narrows_both(capsys: Captured, tmp_path: Path) -> None:
    a = folder(folder(tmp_path / "a", 1.0), 1.0, of=cell(n=3))
    b = folder(folder(tmp_path / "b", 1.0), 1.0, of=cell(n=3))
    found = json.loads(said(capsys, 0, "compare", a, b, "--where", "n=3", "--json"))
    assert [each["n"] for each in found["cells"]] == [3]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["a", "a"], "are the same folder"),
        (["a", "gone"], "gone: no such results folder"),
        (["a", "b", "--metric", "reviws_per_s"], "did you mean texts_per_s?"),
        (["a", "b", "--where", "strateg=packed"], "did you mean strategy?"),
        (["a", "b", "--where", "n=7"], "a: no cell matches n=7; here n is 2"),
        (["a", "b", "--fail-below", "0"], "expected a share of A above 0"),
        (["a", "b", "--fail-below", "0.95"], "no cell has an interval"),
        (["a", "real"], "simulated and real results are never compared"),
    ],
)
def test_compare_refuses_in_one_line(
    capsys: Captured,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    expected: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in "ab":
        folder(tmp_path / name, 1.0)
    folder(tmp_path / "real", 1.0, of=cell(engine="vllm"))
    told = said(capsys, 2, "compare", *arguments)
    assert told.count("\n") == 1
    assert expected in told

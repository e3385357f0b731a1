"""``packsweep report`` as a user meets it: where the page lies, what is refused, after a run."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from tests.cli.commands.test_compare import Captured, said
from tests.fakes import Cli, cell, pass_row, written
from tests.report.html.composed import compose

from packsweep.analysis import frames
from packsweep.analysis.frames import Overrides
from packsweep.cli import output
from packsweep.cli.commands import report
from packsweep.results.store import Store


@pytest.fixture
def results(store: Store) -> Path:
    """Results of one cell."""
    written(store, cell(), texts_per_s=2.0, num_requests=1)
    return Path(store.root)


def test_report_beside_the_results(capsys: Captured, results: Path) -> None:
    """The page lies beside the results, and one line says so."""
    page = results / "report.html"
    assert re.fullmatch(rf"{page}: \d\.\d MiB\n", said(capsys, 0, "report", results))
    text = page.read_text(encoding="utf-8")
    assert "<title>results: packsweep report</title>" in text
    assert 'href="summary.csv"' in text


def test_report_elsewhere(capsys: Captured, results: Path, tmp_path: Path) -> None:
    """A page elsewhere leads back to the results."""
    page = tmp_path / "page.html"
    assert said(capsys, 0, "report", results, "-o", page).startswith(f"{page}: ")
    assert 'href="results/summary.csv"' in page.read_text(encoding="utf-8")
    assert not (results / "report.html").exists()


def test_report_in_object_store(capsys: Captured, bucket: str, tmp_path: Path) -> None:
    """Results in an object store have their page there."""
    store = Store(bucket)
    compose(store)
    assert said(capsys, 0, "report", bucket).startswith(f"{bucket}/report.html: ")
    assert (store.storage.read("report.html") or b"").startswith(b"<!doctype html>")
    page = tmp_path / "page.html"
    said(capsys, 0, "report", bucket, "-o", page)
    assert 'href="summary.csv"' not in page.read_text(encoding="utf-8")


def test_report_price(capsys: Captured, results: Path) -> None:
    """The price of a GPU can be given when the page is made."""
    said(capsys, 0, "report", results, "--gpu-hour-usd", "2")
    assert "$ for 1,000 texts" in (results / "report.html").read_text(encoding="utf-8")


def test_report_mixed(capsys: Captured, results: Path) -> None:
    """Rows that were not measured alike are refused, or told of."""
    written(Store(results), cell(n=3), device="another", texts_per_s=1.0)
    assert "--allow-mixed" in said(capsys, output.WRONG_USE, "report", results)
    said(capsys, 0, "report", results, "--allow-mixed")
    text = (results / "report.html").read_text(encoding="utf-8")
    assert "Measured under different conditions: device: another, simulated" in text


def test_report_no_results(capsys: Captured, tmp_path: Path) -> None:
    """A folder that is not there is one line."""
    assert "no such results folder" in said(capsys, output.WRONG_USE, "report", tmp_path / "none")


def test_report_cannot_be_written(capsys: Captured, results: Path) -> None:
    """A file that cannot be written is one line."""
    line = said(capsys, output.WRONG_USE, "report", results, "-o", "/proc/none/page.html")
    assert "page.html: cannot be written: No such file or directory" in line


def test_report_without_charts(
    capsys: Captured, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the charts' packages are not installed, one line says which command does it."""
    sweep = compose(Store(results.parent / "charted"))
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    line = said(capsys, output.WRONG_USE, "report", sweep.root)
    assert line == (
        "packsweep: the report needs vl-convert: make setup, or pip install vl-convert-python\n"
    )


def test_after_run_without_charts(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run without those packages ends well and names the command."""
    store = Store(results)
    passes = frames.to_pandas(store.read_passes())
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    line = report.after_run(store, passes, Overrides(), allow_mixed=False)
    assert line == f"report: packsweep report {results}"
    assert not (results / "report.html").exists()


def test_after_run_many_cells(tmp_path: Path) -> None:
    """A large sweep is not reported unasked: that would take longer than a user expects."""
    rows = [pass_row(cell(output_tokens_per_text=each)) for each in range(1, 102)]
    store = Store(tmp_path / "results")
    store.prepare()
    written(store, cell())
    passes = frames.to_pandas(store.read_passes())
    many = passes.loc[[0] * len(rows)].assign(cell_id=[row["cell_id"] for row in rows])
    line = report.after_run(store, many, Overrides(), allow_mixed=False)
    assert line == f"report: packsweep report {store.root}"


def test_run_writes_the_report(cli: Cli, sweep_file: Path) -> None:
    """A run ends with the page beside the summary, and its last line says where."""
    done = cli("run", sweep_file, cwd=sweep_file.parent)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-2:] == [
        "recommendation: packsweep recommend results/tiny",
        "report: results/tiny/report.html",
    ]
    page = sweep_file.parent / "results" / "tiny" / "report.html"
    assert "Simulated, not measured:" in page.read_text(encoding="utf-8")

"""Exports: the names that other tools know, the types of the schema, and what is undefined."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from tests.cli.commands.test_compare import Captured, said
from tests.fakes import cell, pass_row

from packsweep.results import schema
from packsweep.results.store import Store

ROOT = Path(__file__).resolve().parents[3]
MEASURED: dict[str, Any] = {
    "duration_s": 2.0,
    "num_requests": 4,
    "num_texts": 4,
    "prompt_tokens": 100,
    "output_tokens": 4,
    "requests_per_s": 2.0,
    "total_tokens_per_s": 52.0,
    "output_tokens_per_s": 2.0,
    "texts_per_s": 2.0,
    "throttle_reasons": ["sw_power_cap", "sync_boost"],
}


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A folder of two measured cells, two repeats each, and one that failed."""
    store = Store(tmp_path / "r")
    store.prepare()
    for of in (cell(), cell(strategy="separate")):
        rows = [{**pass_row(of, **MEASURED), "repeat": repeat} for repeat in (0, 1)]
        answer = {"attempt_id": "a0", "repeat": 0, "copy": 0, "first_text": 0}
        labels = {"expected_labels": ["positive"], "found_labels": ["positive"]}
        store.write(of.cell_id, "a0", rows, [{"cell_id": of.cell_id} | answer | labels])
        store.commit(of.cell_id, "a0")
    failed = cell(n=3)
    store.write(failed.cell_id, "a0", [pass_row(failed, outcome="oom", reason="no room")], [])
    return Path(store.root)


def test_vllm_bench_has_the_names_of_vllm(capsys: Captured, results: Path) -> None:
    """A record per timed pass, with the fields of bench throughput and of bench serve."""
    found = json.loads(said(capsys, 0, "export", results, "--format", "vllm-bench"))
    assert len(found) == 4
    expected = {
        "model_id": "some/model",
        "elapsed_time": 2.0,
        "num_requests": 4,
        "total_num_tokens": 104,
        "requests_per_second": 2.0,
        "tokens_per_second": 52.0,
        "total_input_tokens": 100,
        "output_throughput": 2.0,
        "backend": "simulated",
    }
    assert {name: found[0][name] for name in expected} == expected
    assert found[0]["max_num_seqs"] == cell().settings["max_num_seqs"]
    assert [record["run_number"] for record in found] == [0, 1, 0, 1]


def test_csv_is_the_summary(capsys: Captured, results: Path) -> None:
    """Every column of the schema; undefined is empty, lists are words."""
    text = said(capsys, 0, "export", results, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert list(rows[0]) == [column.name for column in schema.SUMMARY]
    assert [row["outcome"] for row in rows] == ["ok", "oom", "ok"]
    assert rows[0]["throttle_reasons"] == "sw_power_cap sync_boost"
    assert rows[1]["duration_s_median"] == ""


def test_markdown_is_a_table_of_the_columns_shown(capsys: Captured, results: Path) -> None:
    lines = said(capsys, 0, "export", results, "--format", "markdown").splitlines()
    assert lines[0].startswith("| strategy | n | dup | requests/s |")
    assert {line.count("|") for line in lines} == {lines[0].count("|")}
    assert len(lines) == 5


def test_columns_where_and_sort_apply(capsys: Captured, results: Path) -> None:
    options = ["--columns", "strategy,texts_per_s,max_num_seqs", "--where", "outcome=ok"]
    options += ["--sort", "strategy"]
    text = said(capsys, 0, "export", results, "--format", "csv", *options)
    size = cell().settings["max_num_seqs"]
    assert text.splitlines() == [
        "strategy,texts_per_s,max_num_seqs",
        f"packed,2.0,{size}",
        f"separate,2.0,{size}",
    ]


@pytest.mark.parametrize(("table", "num_rows"), [("summary", 3), ("passes", 5), ("requests", 2)])
def test_parquet_has_the_types_of_the_schema(
    capsys: Captured, results: Path, table: str, num_rows: int
) -> None:
    path = results.parent / "out.parquet"
    options = ["--format", "parquet", "--table", table, "-o", path]
    assert said(capsys, 0, "export", results, *options) == ""
    columns = getattr(schema, table.upper())
    found = pq.read_table(path)
    assert found.num_rows == num_rows
    assert found.schema.equals(schema.arrow_schema(columns), check_metadata=False)


def test_output_is_replaced_as_a_whole(capsys: Captured, results: Path) -> None:
    path = results.parent / "out.csv"
    path.write_text("old", encoding="utf-8")
    said(capsys, 0, "export", results, "--format", "csv", "-o", path)
    assert path.read_text(encoding="utf-8").startswith("cell_id,")
    assert sorted(p.name for p in results.parent.iterdir()) == ["out.csv", "r"]


def test_output_folder_is_made(capsys: Captured, results: Path) -> None:
    path = results.parent / "new" / "deep" / "out.csv"
    said(capsys, 0, "export", results, "--format", "csv", "-o", path)
    assert path.read_text(encoding="utf-8").startswith("cell_id,")


def test_output_leaves_links_alone(capsys: Captured, results: Path) -> None:
    """Neither a link nor what it leads to is replaced."""
    kept, link = results.parent / "kept.csv", results.parent / "link.csv"
    kept.write_text("mine", encoding="utf-8")
    link.symlink_to(kept)
    line = said(capsys, 2, "export", results, "--format", "csv", "-o", link)
    assert "link.csv: is a symbolic link, which is never replaced" in line
    assert link.is_symlink()
    assert kept.read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--format", "xls"], "'xls'"),
        (["--format", "csv", "-o", "/proc/no/x.csv"], "x.csv: cannot be written: No such file"),
        (["--format", "csv", "-o", "/dev/null"], "/dev/null: is a device, which is never replaced"),
        (["--format", "csv", "-o", "."], ".: is a folder, which is never replaced"),
        (["--format", "csv", "--columns", "stratgy"], "did you mean strategy?"),
        (["--format", "vllm-bench", "--columns", "n"], "fixed columns"),
    ],
)
def test_export_refuses_in_one_line(
    capsys: Captured, results: Path, options: list[str], expected: str
) -> None:
    told = said(capsys, 2, "export", results, *options)
    assert told.count("\n") == 1
    assert expected in told


def test_nothing_to_export_is_refused(capsys: Captured, tmp_path: Path) -> None:
    Store(tmp_path / "r").prepare()
    assert "no summary to export" in said(capsys, 2, "export", tmp_path / "r", "--format", "csv")


def test_analysis_example_runs(capsys: Captured, results: Path) -> None:
    """The example of the documents reads any results folder."""
    path = ROOT / "docs" / "analysis.py"
    found = importlib.util.spec_from_file_location("analysis_example", path)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    module.main(str(results))
    told = capsys.readouterr().out
    assert "packed / separate" in told
    assert "accuracy by position" in told


def test_csv_holds_no_formula(capsys: Captured, results: Path) -> None:
    """A reason that begins like a formula is text in a spreadsheet."""
    store, failed = Store(results), cell(n=4)
    row = pass_row(failed, outcome="oom", reason='=HYPERLINK("http://x")')
    store.write(failed.cell_id, "a0", [row], [])
    text = said(capsys, 0, "export", results, "--format", "csv", "--columns", "reason,n")
    assert '"\'=HYPERLINK(""http://x"")",4' in text.splitlines()

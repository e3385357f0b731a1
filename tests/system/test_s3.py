"""A whole sweep with its results in a bucket: run, stop, resume, show, merge, load."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.fakes import Cli, killed_at_end
from tests.s3_server import Gate, S3Server

import packsweep
from packsweep.results import storage
from packsweep.results.store import Store

PACKED = ("--set", "grid.strategy=packed")
Finished = tuple[str, Path, subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def finished(
    s3: S3Server, shell: Cli, sweep_text: str, tmp_path_factory: pytest.TempPathFactory
) -> Finished:
    """A sweep of four cells that was run once into a bucket: its place, its folder, its output."""
    folder = tmp_path_factory.mktemp("s3")
    (folder / "tiny.toml").write_text(sweep_text, encoding="utf-8")
    place = f"s3://{s3.make_bucket()}/team/tiny"
    return place, folder, shell("run", "tiny.toml", "--results", place, cwd=folder)


def test_run(finished: Finished) -> None:
    """Every cell is measured, committed and shown; nothing is left on this machine."""
    place, folder, done = finished
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"results: {place} (summary.csv, summary.parquet, cells/)" in done.stdout
    keys = [key for key, _ in storage.at(place).list("")]
    assert len([key for key in keys if key.endswith("/COMMIT")]) == 4
    assert {"packsweep.json", "sweep.toml", "summary.csv", "summary.parquet"} <= set(keys)
    assert [path.name for path in folder.iterdir()] == ["tiny.toml"]


def test_run_logs(finished: Finished) -> None:
    """What each worker printed lies beside the results."""
    place = storage.at(finished[0])
    logs = [place.read(key) for key, _ in place.list("logs")]
    assert len(logs) == 4
    assert all(log is not None and log.startswith(b"packsweep: check\n") for log in logs)


def test_run_again(finished: Finished, cli: Cli) -> None:
    """The second run starts nothing."""
    place, folder, _ = finished
    done = cli("run", "tiny.toml", "--results", place, cwd=folder)
    assert done.returncode == 0
    assert "4 cells, 4 done before, 0 to do" in done.stdout


def test_plan(finished: Finished, cli: Cli) -> None:
    """plan looks into the bucket too."""
    place, folder, _ = finished
    done = cli("plan", "tiny.toml", "--results", f"{place}/", cwd=folder)
    assert "4 cells, 0 missing" in done.stdout


def test_show_and_merge(finished: Finished, cli: Cli) -> None:
    """show and merge take the place as an argument."""
    place, folder, _ = finished
    shown = cli("show", place, "--json", cwd=folder)
    assert [row["outcome"] for row in json.loads(shown.stdout)] == ["ok"] * 4
    merged = cli("merge", place, cwd=folder)
    assert merged.stdout == f"{place}/summary.parquet and .csv: 4 cells, 4 ok\n"


@pytest.mark.parametrize("table", ["passes", "requests", "summary"])
def test_load(finished: Finished, table: str) -> None:
    """packsweep.load reads from the bucket; pathlib's form of the name will do."""
    place, _, _ = finished
    frame = packsweep.load(Path(place), table)  # type: ignore[arg-type]
    assert frame["cell_id"].nunique() == 4


def test_run_foreign(s3: S3Server, cli: Cli, sweep_file: Path) -> None:
    """A prefix that holds something else is left alone."""
    place = f"s3://{s3.make_bucket()}"
    storage.at(place).write("thesis/1.tex", b"x")
    done = cli("run", sweep_file, "--results", place, cwd=sweep_file.parent)
    assert done.returncode == 2
    assert done.stderr == (
        f"packsweep: {place}: contains other files (thesis/1.tex); name another --results folder\n"
    )


def test_run_no_bucket(s3: S3Server, cli: Cli, sweep_file: Path) -> None:
    """A bucket that is not there costs one line."""
    assert s3.port
    done = cli("run", sweep_file, "--results", "s3://not-there/x", cwd=sweep_file.parent)
    assert done.returncode == 2
    assert done.stderr.startswith("packsweep: s3://not-there/x/")
    assert done.stderr.endswith(": there is no such bucket; make it, or name another\n")
    assert done.stderr.count("\n") == 1


def test_run_interrupted(bucket: str, cli: Cli, sweep_file: Path) -> None:
    """After Ctrl-C the same command resumes; what was committed is kept."""
    slow = ("--set", "simulated.real_seconds=0.5", *PACKED, "--results", bucket)
    started = subprocess.Popen(
        [sys.executable, "-m", "packsweep", "run", str(sweep_file), *slow],
        cwd=sweep_file.parent,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    place = storage.at(bucket)
    deadline = time.monotonic() + 300
    with killed_at_end(started) as run:
        while not any(key.endswith("/COMMIT") for key, _ in place.list("cells")):
            assert time.monotonic() < deadline
            time.sleep(0.2)
        run.send_signal(signal.SIGINT)
        assert "committed cells are kept" in run.communicate(timeout=300)[1]
        assert run.returncode == 130
    kept = len([key for key, _ in place.list("cells") if key.endswith("/COMMIT")])
    done = cli("run", sweep_file, *slow, cwd=sweep_file.parent)
    assert done.returncode == 0
    assert f"2 cells, {kept} done before, {2 - kept} to do" in done.stdout


def test_run_commit_fails(s3: S3Server, bucket: str, cli: Cli, sweep_file: Path) -> None:
    """Where no commit can be written, each cell says so, and the next run measures it."""
    gate = Gate(s3)
    gate.judge = lambda method, path: (
        (403, "AccessDenied") if method == "PUT" and path.endswith("/COMMIT") else None
    )
    one = (*PACKED, "--set", "grid.duplication=1", "--set", "limits.max_attempts=1")
    done = subprocess.run(
        [sys.executable, "-m", "packsweep", "run", str(sweep_file), *one, "--results", bucket],
        cwd=sweep_file.parent,
        env={**os.environ, "AWS_ENDPOINT_URL": gate.url},
        capture_output=True,
        text=True,
        check=False,
    )
    gate.close()
    assert done.returncode == 1
    assert "its result could not be committed: s3://" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert Store(bucket).engine() is None
    again = cli("run", sweep_file, *one, "--results", bucket, cwd=sweep_file.parent)
    assert again.returncode == 0, again.stdout + again.stderr


def test_compare_tool_refused(s3: S3Server, cli: Cli, sweep_file: Path) -> None:
    """compare-tool, whose files another program writes, needs a folder."""
    assert s3.port
    done = cli("compare-tool", sweep_file, "--results", "s3://b/x", cwd=sweep_file.parent)
    assert done.returncode == 2
    assert "compare-tool keeps its files in a folder, not at s3://b/x" in done.stderr

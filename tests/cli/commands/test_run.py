"""``packsweep run`` where the machine, the folder or the user interferes."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from tests.chaos.killer import is_worker
from tests.fakes import Cli, sweep

from packsweep.cli import main
from packsweep.cli.commands import run as cli_run
from packsweep.cli.options import Start
from packsweep.models import resolve
from packsweep.plan import cells as plan_cells
from packsweep.plan import forecast
from packsweep.results.store import Store
from packsweep.run import driver, scratch

POISON = "raise SystemExit('poisoned')\n"


class Running:
    """A run of one slow simulated cell in a process of its own."""

    def __init__(self, sweep_file: Path) -> None:
        self.folder = sweep_file.parent
        self.results = self.folder / "results" / "tiny"
        self.temporary = self.folder / "temporary"
        self.temporary.mkdir()
        slow = ("--set", "simulated.real_seconds=60", "--set", "grid.n=1")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "packsweep", "run", sweep_file.name, *slow],
            cwd=self.folder,
            env=os.environ | {"TMPDIR": str(self.temporary)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait_for(self, there: Callable[[], object]) -> None:
        deadline = time.monotonic() + 60
        while not there():
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def wait_until_measuring(self) -> None:
        def is_measuring() -> bool:
            phases = self.temporary.glob(f"{scratch.PREFIX}*/phase")
            return any(phase.read_text(encoding="utf-8") == "warmup" for phase in phases)

        self.wait_for(is_measuring)

    def worker(self) -> psutil.Process:
        family = psutil.Process(self.process.pid).children(recursive=True)
        (worker,) = [process for process in family if is_worker(process)]
        return worker

    def ended(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, err


@pytest.fixture
def running(sweep_file: Path) -> Iterator[Running]:
    """Start the run; end it in any case."""
    found = Running(sweep_file)
    yield found
    found.process.kill()
    found.process.communicate()


def test_run_poisoned_folder(shell: Cli, sweep_file: Path) -> None:
    """What lies in the working directory is imported neither by the command nor by a worker."""
    (sweep_file.parent / "vllm").mkdir()
    for name in ("statistics.py", "typer.py", "vllm/__init__.py", "packsweep_run.py"):
        (sweep_file.parent / name).write_text(POISON, encoding="utf-8")
    done = shell("run", sweep_file.name, cwd=sweep_file.parent)
    assert done.returncode == 0, done.stderr
    assert "poisoned" not in done.stdout + done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_run_asked_to_end(running: Running, number: signal.Signals) -> None:
    """A signal ends the run with 130; a second one makes no difference; no folder is left."""
    running.wait_until_measuring()
    running.process.send_signal(number)
    time.sleep(0.05)
    running.process.send_signal(signal.SIGTERM)
    code, _, err = running.ended()
    assert code == 130
    assert err.startswith("interrupted")
    assert err.count("\n") == 1
    assert list(running.temporary.glob(f"{scratch.PREFIX}*")) == []


def test_run_asked_to_end_at_once(running: Running) -> None:
    """So does one that comes while the sweep is still worked out."""
    running.wait_for(lambda: _handles(running.process.pid, signal.SIGTERM))
    running.process.send_signal(signal.SIGTERM)
    code, _, err = running.ended()
    assert (code, "Traceback" in err) == (130, False)


def _handles(pid: int, number: signal.Signals) -> bool:
    """Return whether a process catches a signal. Source: proc(5), /proc/pid/status, SigCgt."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    caught = next(line.split()[1] for line in lines if line.startswith("SigCgt"))
    return bool(int(caught, 16) >> (number - 1) & 1)


def test_run_worker_killed_by_nameless_signal(running: Running) -> None:
    """A real-time signal has no name; its number is reported, and the next attempt begins."""
    running.wait_until_measuring()
    first = running.worker()
    os.kill(first.pid, 35)
    running.wait_for(lambda: list(running.results.glob("cells/*/*.parquet")))
    running.process.send_signal(signal.SIGTERM)
    code, _, err = running.ended()
    assert (code, "Traceback" in err) == (130, False)
    reasons = [row["reason"] for row in Store(running.results).read_passes().to_pylist()]
    assert reasons[0] == "the worker was ended by signal 35 in phase warmup"


def test_run_abandoned_folder_removed(shell: Cli, running: Running) -> None:
    """A driver that is killed leaves a folder with texts; the next run removes it."""
    running.wait_until_measuring()
    running.process.kill()
    running.process.communicate()
    assert list(running.temporary.glob(f"{scratch.PREFIX}*"))
    done = shell("run", "tiny.toml", cwd=running.folder, TMPDIR=str(running.temporary))
    assert done.returncode == 0, done.stderr
    assert list(running.temporary.glob(f"{scratch.PREFIX}*")) == []


def test_run_results_deleted(running: Running) -> None:
    """Results that are deleted midway are an error of one line, and are not made again."""
    running.wait_until_measuring()
    shutil.rmtree(running.results)
    running.worker().kill()
    code, _, err = running.ended()
    assert code == 2
    assert err.strip().splitlines()[-1].endswith("no such results folder; not made yet, or deleted")
    assert "Traceback" not in err
    assert not running.results.exists()


def test_run_logs_blocked(cli: Cli, sweep_file: Path) -> None:
    """A place for logs that cannot be written is an error of one line."""
    results = sweep_file.parent / "results" / "tiny"
    results.mkdir(parents=True)
    (results / "packsweep.json").write_text("{}", encoding="utf-8")
    (results / "logs").write_text("in the way", encoding="utf-8")
    done = cli("run", sweep_file.name, cwd=sweep_file.parent)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1
    assert re.search(r"/logs/.*: cannot be written: Not a directory\n", done.stderr)


def test_run_kept_sweep(cli: Cli, sweep_file: Path) -> None:
    """Overrides are kept on lines of their own, also of a file without a last line break."""
    sweep_file.write_text(sweep_file.read_text(encoding="utf-8").rstrip("\n"), encoding="utf-8")
    cli("run", sweep_file.name, "--set", "grid.n=1", cwd=sweep_file.parent)
    kept = (sweep_file.parent / "results/tiny/sweep.toml").read_text(encoding="utf-8")
    assert kept == sweep_file.read_text(encoding="utf-8") + "\n# --set grid.n=1\n"


def test_run_sweep_from_pipe(sweep_file: Path) -> None:
    """A sweep file that can be read only once is run and kept."""
    command = f'exec "{sys.executable}" -m packsweep run <(cat tiny.toml) --results out'
    done = subprocess.run(
        ["bash", "-c", command], cwd=sweep_file.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    kept = (sweep_file.parent / "out/sweep.toml").read_text(encoding="utf-8")
    assert kept == sweep_file.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "refused", [("--ceiling", "missing.json"), ("--ray", "127.0.0.1:1")], ids=["ceiling", "ray"]
)
def test_run_refused_keeps_sweep(cli: Cli, sweep_file: Path, refused: tuple[str, str]) -> None:
    """A run that is refused does not replace the sweep file of the one before."""
    results = sweep_file.parent / "results" / "tiny"
    results.mkdir(parents=True)
    (results / "packsweep.json").write_text("{}", encoding="utf-8")
    (results / "sweep.toml").write_text("before", encoding="utf-8")
    done = cli("run", sweep_file.name, *refused, cwd=sweep_file.parent)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert (results / "sweep.toml").read_text(encoding="utf-8") == "before"


def test_run_shown_badly(
    sweep_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What fails after all cells are ok is a line; the exit status and the results stay."""

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no home")

    monkeypatch.chdir(sweep_file.parent)
    monkeypatch.setattr("packsweep.cli.commands.run._print_measured", fail)
    with pytest.raises(SystemExit) as ended:
        main(["run", sweep_file.name, "--set", "grid.n=1"])
    assert ended.value.code == 0
    said = capsys.readouterr().err
    told = "measured and saved, but not shown: RuntimeError: no home"
    assert said == f"packsweep: results/tiny: {told}\n"
    assert list((sweep_file.parent / "results/tiny/cells").glob("*/COMMIT"))


def test_run_temporary_folder_too_long(shell: Cli, sweep_file: Path, tmp_path: Path) -> None:
    """A folder of temporary files in which no socket has room is refused before anything starts."""
    if importlib.util.find_spec("vllm") is None:
        pytest.skip("vLLM is not installed")
    long = tmp_path / ("x" * 99)
    long.mkdir()
    sweep = sweep_file.read_text(encoding="utf-8").replace('"simulated"', '"vllm"')
    sweep_file.write_text(sweep, encoding="utf-8")
    done = shell("run", sweep_file.name, cwd=sweep_file.parent, TMPDIR=str(long))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "107 are allowed; export TMPDIR=/tmp" in done.stderr
    assert not (sweep_file.parent / "results").exists()


@pytest.mark.parametrize(
    ("load_format", "package"),
    [("fastsafetensors", "fastsafetensors"), ("runai_streamer", "runai-model-streamer")],
)
def test_run_without_loader(
    sweep_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    load_format: str,
    package: str,
) -> None:
    """A way to load weights whose package is missing is refused before anything starts."""
    find = importlib.util.find_spec
    there = {"vllm": find("json"), "fastsafetensors": None, "runai_model_streamer": None}
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: there[name] if name in there else find(name)
    )
    monkeypatch.setattr(resolve, "_check_weights", lambda *_: None)
    monkeypatch.chdir(sweep_file.parent)
    sweep = sweep_file.read_text(encoding="utf-8").replace('"simulated"', '"vllm"')
    sweep_file.write_text(sweep, encoding="utf-8")
    with pytest.raises(SystemExit) as ended:
        main(["run", sweep_file.name, "--set", f"model.load_format={load_format}"])
    said = capsys.readouterr().err
    assert (ended.value.code, said.count("\n")) == (2, 1)
    assert said.endswith(f"needs a package that is not installed: pip install {package}\n")
    assert not (sweep_file.parent / "results").exists()


@pytest.mark.parametrize("isolation", ["process", "engine"])
@pytest.mark.parametrize("start", list(Start))
def test_progress_expects_what_plan_predicts(
    byte_model: Path, monkeypatch: pytest.MonkeyPatch, start: Start, isolation: str
) -> None:
    """The cells left take together what plan says, cold and shared starts included."""
    target = forecast.target("H200")
    monkeypatch.setattr(forecast, "target", lambda _: target)
    grid = {"strategy": ["packed", "separate"], "n": [2, 3]}
    asked = sweep(
        model={"name": str(byte_model)},
        engine={"kind": "vllm", "max_num_seqs": [8, 16]},
        grid=grid,
        measure={"isolation": isolation},
    )
    planned = plan_cells.make(asked)
    expected = cli_run._expected(planned, Store("nothing/there"), start)
    predicted = forecast.make(planned, target, forked=start is Start.FORK)
    assert len(expected) == 8
    assert sum(each.cell_s for each in expected.values()) == pytest.approx(predicted.wall_s)


def test_run_says_what_was_guessed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever runs at once, without ``plan``, reads it before the first cell."""
    ended = SimpleNamespace(run=lambda: SimpleNamespace(all_well=True))
    monkeypatch.setattr(driver, "Driver", lambda *_: ended)
    planned: Any = SimpleNamespace(advice=("labels are read: 'Bug' as bug",))
    executor: Any = SimpleNamespace(num_at_once=1)
    assert cli_run._measure(sweep(), planned, Store("nothing/there"), executor, {}) == 0
    assert "labels are read: 'Bug' as bug" in capsys.readouterr().out

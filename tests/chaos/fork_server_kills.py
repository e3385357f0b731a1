"""Kill the fork server of a local run at random moments: the run must end well by itself.

``python -m tests.chaos.fork_server_kills [TRIALS [SEED]]`` prints a line for each kill. Engines are
simulated; a trial is a run of eight cells, in which the server is killed twice.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
from tests.chaos import killer
from tests.fakes import write_byte_model

from packsweep.results.store import Store

GONE_S = 10.0
_NUM_CELLS = 8
_KILLS_OF_A_RUN = 2
_RUN_TIMEOUT_S = 120.0
_WELL = "all cells measured, nothing left"


def trials(num_trials: int, seed: int) -> Iterator[str]:
    """Yield how each run ended."""
    source = random.Random(seed)
    for _ in range(num_trials):
        with tempfile.TemporaryDirectory(prefix="forks") as name:
            yield _trial(Path(name), source)


def _trial(folder: Path, source: random.Random) -> str:
    driver = _start(folder)
    num_kills = 0
    try:
        while num_kills < _KILLS_OF_A_RUN and driver.poll() is None:
            time.sleep(source.uniform(0.2, 2.5))
            num_kills += _kill_server(driver)
        code = driver.wait(_RUN_TIMEOUT_S)
    finally:
        driver.kill()
        driver.wait()
    left = killer.alive(killer.survivors(str(folder / "cache")), GONE_S)
    rows = Store(folder / "results").read_passes().to_pylist()
    cells = {row["cell_id"] for row in rows if row["outcome"] == "ok"}
    problems = [f"exit status {code}"] * (code != 0)
    problems += [f"{len(cells)} of {_NUM_CELLS} cells"] * (len(cells) != _NUM_CELLS)
    problems += [f"left: {', '.join(left)}"] * bool(left)
    problems += ["no kill"] * (num_kills == 0)
    return "; ".join(problems) or f"{num_kills} kills, {_WELL}"


def _start(folder: Path) -> subprocess.Popen[bytes]:
    write_byte_model(folder / "model")
    (folder / "forks.toml").write_text(
        f"""
[model]
name = "{folder / "model"}"
load_format = "dummy"
[grid]
strategy = ["packed", "separate"]
n = [2, 3]
duplication = [1, 2]
[engine]
kind = "simulated"
[limits]
max_attempts = 10
stop_after_failures = 100
[simulated]
real_seconds = 0.1
""",
        encoding="utf-8",
    )
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "packsweep", "run", "forks.toml", "--results", "results"],
            cwd=folder,
            env=os.environ | {"PACKSWEEP_CACHE": str(folder / "cache")},
            stdout=log,
            stderr=log,
        )


def _kill_server(driver: subprocess.Popen[bytes]) -> bool:
    """Kill the driver's fork server; False where it has none just now."""
    for child in psutil.Process(driver.pid).children():
        if "packsweep.run.forkserver" in killer.cmdline(child) and killer.runs(child):
            killer.kill_at_once([child])
            return True
    return False


def main() -> None:
    """Make as many trials as the command line says."""
    num_trials, seed = (int(each) for each in (*sys.argv[1:], "25", "0")[:2])
    bad = 0
    for number, problem in enumerate(trials(num_trials, seed), 1):
        print(f"run {number}: {problem}", flush=True)  # noqa: T201
        bad += not problem.endswith(_WELL)
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()

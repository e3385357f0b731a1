"""Kill parts of a run of the real engine on this machine, at random moments, and count orphans.

``python -m tests.chaos.engine_kills [TRIALS [SEED]]`` prints a line for each kill. Every process of
a run stands in the run's own folder, so one that got a new parent is found as well.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
from tests.chaos.killer import at_one_moment, cmdline, is_worker, kill_at_once, runs
from tests.engine_sweep import write_sweep

from packsweep.machine.process import below as below_of
from packsweep.run import scratch

GONE_S = 10.0
# A start takes about this long, so that half of the kills fall into it.
_START_S = 12.0
_CORE_TIMEOUT_S = 180.0
VICTIMS = ("driver", "worker", "engine", "fork server")
# How vLLM runs on a CPU when the user says where its threads go: in three processes of its own.
OWN_PROCESSES = {"VLLM_CPU_OMP_THREADS_BIND": "auto"}


@dataclass(frozen=True, slots=True)
class Kill:
    """One kill: of what, when, in which phase, and what was left after ``GONE_S``."""

    victim: str
    own_processes: bool
    after_s: float
    phase: str
    num_processes: int
    orphans: tuple[str, ...]

    def __str__(self) -> str:
        """Say it in a line."""
        layout = "vLLM's processes" if self.own_processes else "one process"
        left = ", ".join(self.orphans) or "none"
        return (
            f"{self.victim} ({layout}) after {self.after_s:.1f} s in {self.phase}: "
            f"{self.num_processes} processes, left: {left}"
        )


def kills(num_trials: int, seed: int) -> Iterator[Kill]:
    """Make so many kills, each of a run of its own."""
    source = random.Random(seed)
    for index in range(num_trials):
        victim = VICTIMS[index % len(VICTIMS)]
        own_processes = index // len(VICTIMS) % 2 == 1
        with tempfile.TemporaryDirectory(prefix="kill", ignore_cleanup_errors=True) as name:
            after_s = source.uniform(0.1, 2 * _START_S)
            yield kill(Path(name), victim, own_processes=own_processes, after_s=after_s)


def kill(folder: Path, victim: str, *, own_processes: bool, after_s: float) -> Kill:
    """Start a run in ``folder`` and kill a part of it after so many seconds.

    They count from the start, or with vLLM's own processes from the first of these.
    """
    driver = _start(folder, OWN_PROCESSES if own_processes else {})
    try:
        if own_processes:
            _wait_for_core(driver)
        time.sleep(after_s)
        phase, family = _phase(folder), _standing_in(folder)
        doomed, below = _victim(driver, victim)
        going = family if doomed.pid == driver.pid else [doomed, *below]
        kill_at_once([doomed])
        alive = _alive(going)
        if doomed.pid != driver.pid:
            driver.send_signal(signal.SIGTERM)
        driver.wait(60)
        alive += _alive([each for each in _standing_in(folder) if each not in alive])
        names = tuple(f"{each.pid} {' '.join(cmdline(each))[:60]}" for each in alive if runs(each))
    finally:
        driver.kill()
        driver.wait()
    return Kill(victim, own_processes, after_s, phase, len(family), names)


def _start(folder: Path, environ: dict[str, str]) -> subprocess.Popen[bytes]:
    write_sweep(folder, repeats="500")
    (folder / "temporary").mkdir()
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "packsweep", "run", "small.toml", "--results", "results"],
            cwd=folder,
            env=os.environ | environ | {"TMPDIR": str(folder / "temporary")},
            stdout=log,
            stderr=log,
        )


def _wait_for_core(driver: subprocess.Popen[bytes]) -> None:
    """Wait until the worker has started a process of vLLM's."""
    deadline = time.monotonic() + _CORE_TIMEOUT_S
    while time.monotonic() < deadline and driver.poll() is None:
        if any(below_of(worker.pid) for worker in _workers(driver)):
            return
        time.sleep(0.1)


def _phase(folder: Path) -> str:
    for path in (folder / "temporary").glob(f"{scratch.PREFIX}*/phase"):
        with contextlib.suppress(FileNotFoundError):  # its attempt has ended
            return path.read_text(encoding="utf-8")
    return "plan"


def _victim(
    driver: subprocess.Popen[bytes], wanted: str
) -> tuple[psutil.Process, list[psutil.Process]]:
    """Return the process to kill, its parent where it is not there yet, and what is below it."""

    def look() -> tuple[psutil.Process, list[psutil.Process]]:
        found = _find(psutil.Process(driver.pid), wanted)
        return found, found.children(recursive=True)

    return at_one_moment(look)


def _find(driver: psutil.Process, wanted: str) -> psutil.Process:
    if wanted == "driver" or not (children := driver.children()):
        return driver
    workers = [each for each in driver.children(recursive=True) if is_worker(each)]
    if wanted == "fork server" or not workers:
        return children[0]  # the fork server
    below = workers[0].children(recursive=True)
    if wanted == "worker" or not below:
        return workers[0]
    return next((each for each in below if "VLLM" in each.name()), below[-1])


def _workers(driver: subprocess.Popen[bytes]) -> list[psutil.Process]:
    family = psutil.Process(driver.pid).children(recursive=True)
    return [process for process in family if is_worker(process)]


def _standing_in(folder: Path) -> list[psutil.Process]:
    """Return the processes whose working directory is the folder, the zombies aside."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.cwd() == str(folder) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def _alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Return those that are alive ``GONE_S`` later."""
    deadline = time.monotonic() + GONE_S
    while (alive := [each for each in processes if runs(each)]) and time.monotonic() < deadline:
        time.sleep(0.1)
    return alive


def main(num_trials: str = "24", seed: str = "1") -> None:
    """Print every kill and the count of orphans."""
    found = []
    for number, each in enumerate(kills(int(num_trials), int(seed)), 1):
        print(f"{number:3} {each}", flush=True)  # noqa: T201
        found.append(each)
    orphans = sum(len(each.orphans) for each in found)
    print(f"{len(found)} kills, {orphans} orphans after {GONE_S:g} s")  # noqa: T201
    sys.exit(1 if orphans else 0)


if __name__ == "__main__":
    main(*sys.argv[1:])

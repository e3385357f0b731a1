"""One trial: run a sweep on logical GPUs, kill something at a random moment, run again until done.

What must then hold: every cell has one committed result, no cell was begun after its commit, no GPU
ever had two engines, and nothing of ours runs 10 s after its cause to run is gone.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
from tests.chaos import killer
from tests.chaos.cluster import LogicalCluster

from packsweep.engines.simulated.core import STARTS
from packsweep.results.store import COMMIT, Store

GONE_S = 10.0
_RUN_S = 900.0
_MOST_RUNS = 4
# An attempt lives about this long, so a kill hits any of its phases.
_LATEST_S = 4.0
_NUM_CELLS = 3


@dataclass(frozen=True, slots=True)
class Report:
    """How a trial went; well if there are no problems."""

    kind: str
    seed: int
    num_runs: int
    seconds: float
    problems: tuple[str, ...]
    num_strikes: int = 1


class Arena:
    """A cluster and a folder, where one trial follows another."""

    def __init__(self, cluster: LogicalCluster, folder: Path, model: Path) -> None:
        """Take a started cluster and a model folder."""
        self.cluster = cluster
        self.folder = folder
        self.marker = str(folder / "cache")
        self._model = model
        self._runs: list[subprocess.Popen[bytes]] = []

    def sweep(
        self, name: str, *, real_seconds: float = 0.3, num_cells: int = _NUM_CELLS
    ) -> tuple[Path, Path]:
        """Write a sweep of so many cells and return it and its results folder."""
        folder = self.folder / name
        (folder / "locks").mkdir(parents=True)
        (folder / "chaos.toml").write_text(
            f"""
[model]
name = "{self._model}"
load_format = "dummy"
[grid]
strategy = ["packed"]
n = [2]
duplication = {list(range(1, num_cells + 1))}
[engine]
kind = "simulated"
[measure]
repeats = 2
sample_conditions = false
[limits]
max_attempts = {3 * num_cells}
[simulated]
real_seconds = {real_seconds}
gpu_locks = "{folder / "locks"}"
""",
            encoding="utf-8",
        )
        return folder / "chaos.toml", folder / "results"

    def start(self, sweep: Path, results: Path, *more: str) -> subprocess.Popen[bytes]:
        """Start the command that a user would start again and again."""
        command = [sys.executable, "-m", "packsweep", "run", str(sweep), "--results", str(results)]
        environ = os.environ | {"PACKSWEEP_CACHE": self.marker, "PYTHONWARNINGS": "ignore"}
        with (sweep.parent / "run.log").open("ab") as log:
            started = subprocess.Popen(
                [*command, "--ray", self.cluster.address, *more],
                env=environ,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
        self._runs.append(started)
        return started

    def end_runs(self) -> None:
        """End the runs that still go on, as where a trial has failed."""
        for run_ in self._runs:
            run_.kill()
            run_.wait()
        self._runs.clear()

    def said(self, sweep: Path) -> str:
        """Return what all runs of a sweep have printed."""
        return (sweep.parent / "run.log").read_text(encoding="utf-8")

    def repair(self) -> None:
        """Replace the nodes that are dead."""
        for gpu in self.cluster.gpus:
            if self.cluster.raylet(gpu).poll() is not None:
                self.cluster.remove(gpu)
                self.cluster.add(gpu)

    def wait_for_attempt(self, driver: subprocess.Popen[bytes]) -> None:
        """Wait until an attempt runs."""
        while driver.poll() is None and not killer.attempts(self.cluster):
            time.sleep(0.05)


def run(arena: Arena, kind: str, seed: int) -> Report:
    """Run one trial: strike ``kind`` once, and run the sweep until it is done."""
    name = kind.replace(" ", "-")
    rng = random.Random(f"{name} {seed}")
    began = time.monotonic()
    # An attempt outlasts Ray's patience with a frozen node, so that another runs beside it.
    sweep = arena.sweep(f"{name}-{seed}", real_seconds=6 if kind in killer.FROZEN else 1)
    driver = arena.start(*sweep)
    try:
        if kind == killer.SECOND:
            problems = _run_beside(arena, driver, rng, sweep)
        else:
            found = _strike(arena, kind, driver, rng)
            early = [f"the run ended before the strike at its {kind}"]
            problems = early if found is None else found
        num_more, wrong = _finish(arena, driver, sweep, _MOST_RUNS - 1)
    finally:
        arena.end_runs()
    overlapping = kind in {killer.SECOND, *killer.FROZEN}
    problems += wrong + _at_the_end(arena, sweep[1], overlapping=overlapping)
    return Report(name, seed, 1 + num_more, time.monotonic() - began, tuple(problems))


def storm(arena: Arena, kinds: Sequence[str], seed: int, *, num_cells: int = 9) -> Report:
    """Strike ``kinds`` in random order at one sweep until it is done, and finish it.

    It is started again whenever it ended with something left to do.
    """
    rng = random.Random(f"storm {seed}")
    left = rng.sample(kinds, len(kinds))
    began = time.monotonic()
    sweep = arena.sweep(f"storm-{seed}", real_seconds=1, num_cells=num_cells)
    driver = arena.start(*sweep)
    problems: list[str] = []
    num_runs = 1
    try:
        while left and driver.poll() != 0:
            if driver.poll() is not None:
                driver = arena.start(*sweep)
                num_runs += 1
            found = _strike(arena, left[0], driver, rng)
            if found is not None:
                problems += found
                del left[0]
        num_more, wrong = _finish(arena, driver, sweep, _MOST_RUNS - 1)
    finally:
        arena.end_runs()
    problems += wrong + _at_the_end(arena, sweep[1], num_cells=num_cells)
    seconds = time.monotonic() - began
    num_strikes = len(kinds) - len(left)
    return Report("storm", seed, num_runs + num_more, seconds, tuple(problems), num_strikes)


def _finish(
    arena: Arena, driver: subprocess.Popen[bytes], sweep: tuple[Path, Path], most: int
) -> tuple[int, list[str]]:
    """Wait for a run, and run again until one ends well, at most ``most`` times.

    Returns:
        How many more runs that took, and what is wrong with the last one.
    """
    num_more = 0
    while (code := _end(driver)) != 0 and num_more < most:
        driver = arena.start(*sweep)
        num_more += 1
    return num_more, [] if code == 0 else [f"the last run ended with {code}"]


def _at_the_end(
    arena: Arena, results: Path, *, overlapping: bool = False, num_cells: int = _NUM_CELLS
) -> list[str]:
    """Return what still runs when the sweep is done, and what is wrong with its results."""
    left = _left(arena, killer.survivors(arena.marker), "after the end")
    return left + check(results, overlapping=overlapping, num_cells=num_cells)


def _left(arena: Arena, doomed: Sequence[psutil.Process], when: str) -> list[str]:
    """Wait for the end of what is doomed, repair the cluster, and return what still runs."""
    alive = killer.alive(doomed, GONE_S)
    arena.repair()
    return [f"runs {GONE_S:g} s {when}: {each}" for each in alive]


def _strike(
    arena: Arena, kind: str, driver: subprocess.Popen[bytes], rng: random.Random
) -> list[str] | None:
    """Strike once, see that what hung on the victim is gone, and repair the cluster.

    None where the run ended before there was a victim.
    """
    arena.wait_for_attempt(driver)
    time.sleep(rng.uniform(0, _LATEST_S))
    while (doomed := killer.kill(kind, arena.cluster, driver, rng)) is None:
        if driver.poll() is not None:
            return None
        time.sleep(0.02)
    return _left(arena, doomed, f"after the kill of a {kind}")


def _run_beside(
    arena: Arena, driver: subprocess.Popen[bytes], rng: random.Random, run: tuple[Path, Path]
) -> list[str]:
    """Run the same command a second time while the first one runs; both must end well."""
    arena.wait_for_attempt(driver)
    time.sleep(rng.uniform(0, _LATEST_S))
    codes = [_end(each) for each in (arena.start(*run), driver)]
    return [] if codes == [0, 0] else [f"two drivers ended with {codes}"]


def _end(driver: subprocess.Popen[bytes]) -> int:
    try:
        return driver.wait(timeout=_RUN_S)
    except subprocess.TimeoutExpired:
        driver.kill()
        return driver.wait()


def check(results: Path, *, overlapping: bool = False, num_cells: int = _NUM_CELLS) -> list[str]:
    """Return what is wrong with the results of a sweep that was run until done.

    Args:
        results: the results folder.
        overlapping: attempts at one cell ran side by side, so that one may outlast a commit.
        num_cells: of the sweep.
    """
    store = Store(results)
    cells = store.cell_ids()
    problems = [f"{len(cells)} cells"] if len(cells) != num_cells else []
    problems += [f"{cell_id} is not done" for cell_id in cells if not store.is_done(cell_id)]
    rows = store.read_passes().to_pylist()
    found = sorted((row["cell_id"], row["repeat"]) for row in rows if row["outcome"] == "ok")
    if found != [(cell_id, repeat) for cell_id in cells for repeat in (0, 1)]:
        problems.append(f"not one result of two repeats for each cell: {found}")
    return problems + _misused(store) + ([] if overlapping else _begun_after_commit(store))


def _misused(store: Store) -> list[str]:
    """Return the attempts that found another engine on their GPU."""
    import pyarrow.parquet as pq

    files = [
        path
        for path in Path(store.root, "cells").glob("*/*.parquet")
        if "requests-" not in path.name
    ]
    outcomes = [(path, pq.read_table(path)["outcome"].to_pylist()) for path in files]
    return [
        f"two engines on one GPU: {path}" for path, outcome in outcomes if "gpu_busy" in outcome
    ]


def _begun_after_commit(store: Store) -> list[str]:
    """Return the engines that were started for a cell that had its result."""
    text = (Path(store.root).parent / "locks" / STARTS).read_text(encoding="utf-8")
    starts = [json.loads(line) for line in text.splitlines()]
    commits = {
        cell: Path(store.root, store.cell(cell), COMMIT).stat().st_mtime
        for cell in store.cell_ids()
    }
    late = [start for start in starts if start["time"] > commits[start["cell_id"]]]
    return [f"begun after its commit: {start}" for start in late]

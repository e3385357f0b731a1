"""How much faster several GPUs of one host finish a sweep than one.

    python -m tests.system.scaling run SWEEP RESULTS --gpus 0,1,2,3 [OPTION OF packsweep run ...]
    python -m tests.system.scaling table 1=RESULTS 2=RESULTS 4=RESULTS ...
    python -m tests.system.scaling table 1=ONE.csv 2=TWO.csv 4=FOUR.csv

``run`` starts a Ray head that has these GPUs and no others, submits the sweep to it as a job, and
stops the head; of a sweep of the simulated engine, the GPUs are only counted. ``--kill S`` kills a
worker S seconds after the first one began. ``table`` compares what the jobs took. They may differ
in their replicates, since each cell counts by what it took on one GPU.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from pyarrow import csv
from tests.chaos.killer import is_worker
from tests.ray_head import RayHead, ray_head

from packsweep.machine.process import kill_all
from packsweep.results.store import Store

ROOT = Path(__file__).resolve().parents[2]
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """A measured cell: where, from when to when (s), and what of it was no measurement (s)."""

    group_id: str
    gpus: tuple[str, ...]
    began_s: float
    wall_s: float
    overhead_s: float
    texts_per_s: float

    @property
    def gpu_s(self) -> float:
        """GPUs that it held, times seconds."""
        return self.wall_s * len(self.gpus)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What a job took.

    Attributes:
        wall_s: from the first attempt's start to the last one's end.
        first_start_s: by how much the first start on a GPU was slower than the later ones, median.
        gpu_s: GPUs held by attempts, summed.
        work_s: what its cells take on one GPU, summed.
        spread: group_id -> largest over smallest texts/s of its GPUs, where it ran on several.
    """

    num_gpus: int
    num_cells: int
    wall_s: float
    first_start_s: float
    gpu_s: float
    work_s: float
    spread: Mapping[str, float]

    @property
    def busy_share(self) -> float:
        """Of the GPUs' time, how much attempts held them."""
        return self.gpu_s / (self.num_gpus * self.wall_s)

    @property
    def rate(self) -> float:
        """Work done in a second, the first start left out of the clock."""
        return self.work_s / (self.wall_s - self.first_start_s)


def attempts(rows: Iterable[Row]) -> list[Attempt]:
    """Return the measured cells of passes."""
    by_cell: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row["outcome"] == "ok":
            by_cell[row["cell_id"]].append(row)
    return [_attempt(passes) for passes in by_cell.values()]


def _attempt(passes: Sequence[Row]) -> Attempt:
    first = passes[0]
    measured_s = (first["warmup_s"] or 0.0) + (first["passes_s"] or 0.0)
    return Attempt(
        group_id=first["group_id"],
        gpus=tuple((first["device_uuid"] or first["hostname"]).split(",")),
        # Of the two, only the wall clock includes the wait for the worker.
        began_s=first["started_at"].timestamp() - (first["spawn_s"] or 0.0),
        wall_s=first["wall_s"],
        overhead_s=first["wall_s"] - measured_s,
        texts_per_s=statistics.median(row["texts_per_s"] for row in passes),
    )


def job(found: Sequence[Attempt], alone_s: Mapping[str, float], num_gpus: int) -> Job:
    """Return what a job on so many GPUs took; ``alone_s``: group_id -> median GPU time on one."""
    by_gpu: dict[str, list[Attempt]] = defaultdict(list)
    by_group: dict[str, list[Attempt]] = defaultdict(list)
    for each in sorted(found, key=lambda attempt: attempt.began_s):
        for gpu in each.gpus:
            by_gpu[gpu].append(each)
        by_group[each.group_id].append(each)
    first = [members[0].overhead_s for members in by_gpu.values()]
    later = [each.overhead_s for members in by_gpu.values() for each in members[1:]] or first
    return Job(
        num_gpus=num_gpus,
        num_cells=len(found),
        wall_s=max(a.began_s + a.wall_s for a in found) - min(a.began_s for a in found),
        first_start_s=statistics.median(first) - statistics.median(later),
        gpu_s=sum(each.gpu_s for each in found),
        work_s=sum(alone_s[each.group_id] for each in found),
        spread={
            group: _spread(members) for group, members in by_group.items() if _several(members)
        },
    )


def _several(members: Sequence[Attempt]) -> bool:
    return len({each.gpus for each in members}) > 1


def _spread(members: Sequence[Attempt]) -> float:
    speeds = [each.texts_per_s for each in members]
    return max(speeds) / min(speeds)


def table(jobs_on: Sequence[tuple[int, str]]) -> list[str]:
    """Return the lines that compare jobs, each of a number of GPUs; the first is on one."""
    nums, folders = zip(*jobs_on, strict=True)
    found = [attempts(_passes(folder)) for folder in folders]
    took: dict[str, list[float]] = defaultdict(list)
    for each in found[0]:
        took[each.group_id].append(each.gpu_s)
    alone_s = {group: statistics.median(seconds) for group, seconds in took.items()}
    jobs = [job(each, alone_s, num) for each, num in zip(found, nums, strict=True)]
    return [*(_line(each, jobs[0]) for each in jobs), *_spreads(jobs[-1])]


def _passes(place: str) -> list[Row]:
    """Return the rows of a results folder, or of a CSV file that kept the columns used here."""
    rows = csv.read_csv(place) if place.endswith(".csv") else Store(place).read_passes()
    return list(rows.to_pylist())


def _line(of: Job, one: Job) -> str:
    speed_up = of.work_s / of.wall_s / (one.work_s / one.wall_s)
    without = of.rate / one.rate
    return (
        f"{of.num_gpus} GPUs: {of.num_cells} cells in {of.wall_s:.0f} s, "
        f"held {100 * of.busy_share:.0f} % of the time; speed-up {speed_up:.2f}, "
        f"without the first start ({of.first_start_s:.0f} s) {without:.2f} = "
        f"{without / of.num_gpus:.3f} a GPU"
    )


def _spreads(of: Job) -> list[str]:
    return [f"{group}: fastest over slowest GPU {ratio:.3f}" for group, ratio in of.spread.items()]


def run(sweep: Path, results: Path, gpus: str, kill_after_s: float | None, more: list[str]) -> int:
    """Run a sweep as a job on these GPUs; return the job's exit status."""
    os.environ["CUDA_VISIBLE_DEVICES"] = gpus
    num_gpus = len(gpus.split(","))
    began = time.monotonic()
    # Ports of the system's choice, as a second head on the host would give its workers the same.
    size = [f"--num-gpus={num_gpus}", f"--num-cpus={4 * num_gpus}"]
    with ray_head(*size, "--min-worker-port=0", "--max-worker-port=0") as head:
        if kill_after_s is not None:
            threading.Thread(target=_kill_worker, args=(kill_after_s,), daemon=True).start()
        submitted = time.monotonic()
        status = _submit(head, sweep, results, more)
        ended = time.monotonic()
    _say(
        f"{num_gpus} GPUs: exit status {status}; Ray's start {submitted - began:.1f} s, "
        f"the job {ended - submitted:.1f} s"
    )
    return status


def _submit(head: RayHead, sweep: Path, results: Path, more: list[str]) -> int:
    """Submit the job as the README does, with the code that it needs and nothing else."""
    with tempfile.TemporaryDirectory() as name:
        there = Path(name)
        for folder in ("src/packsweep", "sweeps"):
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / folder, there / folder, ignore=ignored)
        shutil.copy(sweep, there / "sweep.toml")
        command = ["ray", "job", "submit", "--address", f"http://{head.dashboard}"]
        command += ["--working-dir", ".", "--", "python", "sweeps/grid.py", "--sweep", "sweep.toml"]
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        environ = os.environ | {"RAY_AUTH_MODE": "disabled", "PATH": path}
        command += ["--results", str(results.resolve()), *more]
        return subprocess.run(command, cwd=there, env=environ, check=False).returncode


def _kill_worker(after_s: float) -> None:
    """Kill the first worker of this head that lives ``after_s`` seconds after one was seen."""
    while not _workers():
        time.sleep(0.2)
    time.sleep(after_s)
    for worker in _workers()[:1]:
        kill_all([worker])
        _say(f"killed worker {worker.pid}")


def _workers() -> list[psutil.Process]:
    return [each for each in psutil.Process().children(recursive=True) if is_worker(each)]


def _job(text: str) -> tuple[int, str]:
    num_gpus, _, folder = text.partition("=")
    return int(num_gpus), folder


def _say(*lines: str) -> None:
    sys.stdout.writelines(f"{line}\n" for line in lines)
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a job, or compare jobs; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(required=True, dest="verb")
    one = verbs.add_parser("run")
    one.add_argument("sweep", type=Path)
    one.add_argument("results", type=Path)
    one.add_argument("--gpus", required=True, help="as CUDA_VISIBLE_DEVICES takes them")
    one.add_argument("--kill", type=float, metavar="S", help="kill a worker after S seconds")
    compared = verbs.add_parser("table")
    compared.add_argument("jobs", nargs="+", type=_job, metavar="NUM_GPUS=RESULTS")
    args, more = parser.parse_known_args(arguments)
    if args.verb == "run":
        return run(args.sweep, args.results, args.gpus, args.kill, more)
    _say(*table(args.jobs))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Kill a worker, a rank and the driver of an engine on several GPUs, and see what is left.

``python -m tests.chaos.rank_kills --gpus 2`` prints a line for each kill, with the seconds until
all that hung on the victim is gone, memory is back on each GPU, the cell is begun again, and it is
measured. A kill is of a run of its own, or one of ``--of-a-run`` several, of a tiny model with
random weights. ``--engine simulated`` needs neither GPU nor vLLM; vLLM's CPU build takes as many
cores as ``--gpus`` says.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from tests.chaos import killer
from tests.fakes import write_byte_model

from packsweep.machine import nvml, process
from packsweep.results.store import Store
from packsweep.run import scratch

VICTIMS = ("worker", "rank", "driver")
GONE_S = 10.0
# vLLM gives the other ranks 5 s to end by themselves, and after SIGTERM 4 s more.
# Source: vLLM 0.32, v1/executor/multiproc_executor.py (_ensure_worker_termination).
NOTICED_S = 30.0
_MEMORY_S = 30.0
_BEGUN_S = 300.0  # an engine's first start compiles its kernels
_SHM = Path("/dev/shm")  # noqa: S108  (where Linux keeps shared memory)
# What vLLM's processes have there, by the names that CPython and vLLM give.
_SHARED = ("psm_*", "sem.mp-*", "vllm_*")
_MODEL = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 512,
    "intermediate_size": 1024,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
    "num_hidden_layers": 4,
    "max_position_embeddings": 4096,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_SIMULATED = """
[simulated]
real_seconds = 0.2
gpu_locks = "{folder}/locks"
"""


@dataclass(slots=True)
class Kill:
    """One kill and what came of it.

    Attributes:
        num_processes: the worker and all below it.
        seconds: what had happened -> how long after the kill.
        reason: of the attempt that was killed, as its row says it.
    """

    victim: str
    phase: str = "no pass"
    num_processes: int = 0
    killed_at: float = 0.0
    seconds: dict[str, float] = field(default_factory=dict)
    reason: str = ""
    problems: list[str] = field(default_factory=list)

    def took(self, what: str) -> None:
        """Note that it has happened."""
        self.seconds[what] = time.monotonic() - self.killed_at

    def __str__(self) -> str:
        """Say it in a line."""
        times = ", ".join(f"{what} {seconds:.1f} s" for what, seconds in self.seconds.items())
        ended = "; ".join(self.problems) or "well"
        why = f" ({self.reason})" if self.reason else ""
        what = f"{self.victim} of {self.num_processes} processes in {self.phase}"
        return f"{what}: {times}{why}: {ended}"


class Trial:
    """A run in a folder of its own, parts of which are killed."""

    def __init__(
        self, folder: Path, engine: str, num_gpus: int, repeats: int, num_kills: int = 1
    ) -> None:
        """Write its model and its sweep."""
        self.folder = folder
        self.results = folder / "results"
        self._repeats = repeats
        (folder / "locks").mkdir()
        (folder / "temporary").mkdir()
        write_byte_model(folder / "model", **_MODEL)
        simulated = _SIMULATED.format(folder=folder) if engine == "simulated" else ""
        (folder / "ranks.toml").write_text(
            f"""
[model]
name = "{folder / "model"}"
load_format = "dummy"
[grid]
strategy = "separate"
n = 4
[engine]
kind = "{engine}"
tensor_parallel_size = {num_gpus}
max_model_len = 4096
max_num_batched_tokens = 4096
max_num_seqs = 16
kv_cache_memory_bytes = {2**28}
enforce_eager = true
[measure]
repeats = {repeats}
[limits]
max_attempts = {num_kills + 2}
gpu_free_timeout_s = 30
{simulated}
""",
            encoding="utf-8",
        )
        self._gpus = nvml.visible_gpus() if engine == "vllm" else ()
        self._before = [nvml.use(gpu) for gpu in self._gpus]
        self._shared = _shared_memory()

    def start(self) -> subprocess.Popen[bytes]:
        """Start the command that a user would."""
        command = [sys.executable, "-m", "packsweep", "run", "ranks.toml", "--results", "results"]
        environ = {"TMPDIR": str(self.folder / "temporary")}
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                [*command, "--local"],
                cwd=self.folder,
                env=os.environ | environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def phase(self) -> str:
        """Return what the attempt is at."""
        for path in (self.folder / "temporary").glob(f"{scratch.PREFIX}*/phase"):
            with contextlib.suppress(FileNotFoundError):  # it has ended
                return path.read_text(encoding="utf-8")
        return ""

    def num_begun(self) -> int:
        """Return how many attempts have begun; each has a log."""
        return len(list(self.results.glob("logs/**/*.log")))

    def left(self) -> list[str]:
        """Return what an engine has left on a GPU or in shared memory."""
        if not self._gpus:
            return []
        num_free = len(nvml.wait_until_free(self._gpus, len(self._gpus), 0))
        found = ["a process computes on a GPU"] * (num_free < len(self._gpus))
        if not nvml.wait_until_returned(self._gpus, self._before, 0):
            found.append("memory of a GPU is not back")
        if shared := sorted(_shared_memory() - self._shared):
            found.append(f"{len(shared)} files in {_SHM}, such as {shared[0]}")
        return found

    def said(self) -> str:
        """Return the last that the run printed."""
        lines = (self.folder / "log").read_text(encoding="utf-8", errors="replace").splitlines()
        return f"it said: {' / '.join(lines[-5:])}"

    def failed(self) -> list[tuple[str, str]]:
        """Return outcome and reason of the attempts that did not end well, the last one last."""
        import pyarrow.parquet as pq

        files = [path for path in self.results.glob("cells/*/*.parquet") if "-" not in path.stem]
        files.sort(key=lambda path: path.stat().st_mtime)
        rows = [row for path in files for row in pq.read_table(path).to_pylist()]
        return [(row["outcome"], row["reason"]) for row in rows if row["outcome"] != "ok"]

    def problems(self, code: int, victims: Sequence[str]) -> list[str]:
        """Return what is wrong with the results of a run that ended with ``code``."""
        rows = Store(self.results).read_passes().to_pylist()
        ok = [row for row in rows if row["outcome"] == "ok"]
        found = [f"the run ended with {code}"] * (code != 0)
        found += [f"{len(ok)} of {self._repeats} passes"] * (len(ok) != self._repeats)
        found += ["memory was not returned"] * any(row["memory_returned"] is False for row in ok)
        outcomes = [outcome for outcome, _ in self.failed()]
        expected = ["crashed"] * (len(victims) - victims.count("driver"))
        found += [f"outcomes {outcomes}, not {expected}"] * (outcomes != expected)
        return found


def kills(
    engine: str,
    num_gpus: int,
    victims: Sequence[str] = VICTIMS,
    *,
    repeats: int,
    seed: int = 1,
    num_of_a_run: int = 1,
) -> Iterator[Kill]:
    """Kill each of ``victims``, ``num_of_a_run`` of them in one run after the other."""
    source = random.Random(seed)
    for first in range(0, len(victims), num_of_a_run):
        together = victims[first : first + num_of_a_run]
        with tempfile.TemporaryDirectory(prefix="ranks", ignore_cleanup_errors=True) as name:
            trial = Trial(Path(name), engine, num_gpus, repeats, len(together))
            yield from kill(trial, together, source)


def kill(trial: Trial, victims: Sequence[str], source: random.Random) -> Iterator[Kill]:
    """Start a run, kill parts of it in passes, and wait until its cell is measured."""
    driver = trial.start()
    found = Kill(victims[0])
    try:
        for number, victim in enumerate(victims):
            if number:
                yield found
                found = Kill(victim)
            driver = _kill_in_a_pass(trial, driver, found, source)
            if found.problems:
                break
        else:
            code = driver.wait(2 * _BEGUN_S)
            found.took("measured")
            found.problems += trial.problems(code, victims)
    except (OSError, psutil.Error, subprocess.TimeoutExpired) as error:
        found.problems.append(f"{type(error).__name__}: {error}")
    finally:
        _end(driver)
    if not _until(lambda: not trial.left(), _MEMORY_S):
        found.problems += [f"after the end {each}" for each in trial.left()]
    if found.problems:
        found.problems.append(trial.said())
    yield found


def _kill_in_a_pass(
    trial: Trial, driver: subprocess.Popen[bytes], found: Kill, source: random.Random
) -> subprocess.Popen[bytes]:
    """Wait for a pass and kill; return the driver that goes on."""
    if not _until(lambda: trial.phase().startswith("pass"), _BEGUN_S, driver):
        found.problems.append(f"no pass was begun, the last phase is {trial.phase()!r}")
        return driver
    time.sleep(source.uniform(0, 0.5))
    known = len(trial.failed())
    driver = _strike(trial, driver, found, source)
    if new_rows := trial.failed()[known:]:
        found.reason = new_rows[0][1]
    return driver


def _strike(
    trial: Trial, driver: subprocess.Popen[bytes], found: Kill, source: random.Random
) -> subprocess.Popen[bytes]:
    """Kill, and see that all that hung on the victim goes; return the driver that goes on."""
    family, worker, below, ranks = killer.at_one_moment(lambda: _family(driver))
    doomed = family if found.victim == "driver" else [worker, *below]
    found.num_processes, found.phase = len(below) + 1, trial.phase()
    struck = {"worker": worker.kill, "driver": driver.kill, "rank": source.choice(ranks).kill}
    num_begun = trial.num_begun()
    struck[found.victim]()
    found.killed_at = time.monotonic()
    limit_s = NOTICED_S if found.victim == "rank" else GONE_S
    left = killer.alive(doomed, limit_s)
    if not left:
        found.took("gone")
    found.problems += [f"runs {limit_s:g} s after the kill: {each}" for each in left]
    if found.victim == "driver":
        driver.wait()
        if _until(lambda: not trial.left(), _MEMORY_S):
            found.took("memory back")
        found.problems += trial.left()
        driver = trial.start()
    if _until(lambda: trial.num_begun() > num_begun, _BEGUN_S, driver):
        found.took("begun again")
    else:
        found.problems.append("the cell was not begun again")
    return driver


def _family(
    driver: subprocess.Popen[bytes],
) -> tuple[list[psutil.Process], psutil.Process, list[psutil.Process], list[psutil.Process]]:
    """Return what is below a driver: all of it, the worker, what is below that, and its ranks."""
    family = psutil.Process(driver.pid).children(recursive=True)
    workers = {each.pid: each for each in family if killer.is_worker(each)}
    # A forked core is called as its worker is.
    worker = next(each for each in workers.values() if each.ppid() not in workers)
    below = process.below(worker.pid)
    parents = {each.ppid() for each in below}
    return family, worker, below, [each for each in below if each.pid not in parents]


def _shared_memory() -> set[str]:
    return {path.name for pattern in _SHARED for path in _SHM.glob(pattern)}


def _until(
    condition: Callable[[], bool],
    timeout_s: float,
    driver: subprocess.Popen[bytes] | None = None,
) -> bool:
    """Wait for a condition, at most until ``driver`` has ended; return whether it holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        ended = driver is not None and driver.poll() is not None
        if ended or time.monotonic() >= deadline:
            return condition()
        time.sleep(0.05)
    return True


def _end(driver: subprocess.Popen[bytes]) -> None:
    """End a run that should have ended; its processes die with it."""
    driver.kill()
    driver.wait()


def main() -> None:
    """Make as many kills as the command line says; the exit status tells whether all went well."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gpus", type=int, default=2, help="of the engine")
    parser.add_argument("--engine", choices=("vllm", "simulated"), default="vllm")
    parser.add_argument("--kills", type=int, default=9)
    parser.add_argument("--victims", nargs="+", choices=VICTIMS, default=VICTIMS, help="in turn")
    parser.add_argument("--repeats", type=int, default=200, help="passes, so that a kill hits one")
    parser.add_argument("--of-a-run", type=int, default=1, help="kills in one run")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    bad = made_kills = 0
    victims = list(itertools.islice(itertools.cycle(asked.victims), asked.kills))
    made = kills(
        asked.engine,
        asked.gpus,
        victims,
        repeats=asked.repeats,
        seed=asked.seed,
        num_of_a_run=asked.of_a_run,
    )
    for number, each in enumerate(made, 1):
        print(f"{number:3} {each}", flush=True)  # noqa: T201
        bad += bool(each.problems)
        made_kills = number
    print(f"{made_kills} of {asked.kills} kills made, {bad} with problems")  # noqa: T201
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()

"""The ways to a cluster that this machine can go, each in a checkout of its own, both at once."""

from __future__ import annotations

import os
import re
import shutil
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.cluster import machine
from tests.cluster.manifests import CLUSTER, ROOT

# What Slurm gives a job on one node with two GPUs.
JOB = {
    "SLURM_JOB_ID": "7",
    "SLURM_JOB_NUM_NODES": "1",
    "SLURM_GPUS_ON_NODE": "2",
    "SLURM_CPUS_ON_NODE": "4",
    "VENV": sys.prefix,
}
SBATCH = """#!/bin/sh
exec bash "$@"
"""
# The step of one node is the command itself.
SRUN = """#!/bin/sh
while [ "${1#--}" != "$1" ]; do shift; done
exec "$@"
"""


def executable(path: Path, text: str) -> None:
    """Write a script."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def shown(heading: str) -> str:
    """Return the first block of commands under a heading of cluster/README.md."""
    page = (CLUSTER / "README.md").read_text(encoding="utf-8")
    section = page.split(f"\n## {heading}\n", 1)[1]
    block = re.search(r"```bash\n(.*?)```", section, flags=re.DOTALL)
    assert block is not None
    return block[1]


@dataclass(frozen=True, slots=True)
class Way:
    """A way to a table that is being gone: its commands, and the checkout they were given in."""

    run: machine.Run
    checkout: Path


def checkout(folder: Path, sweep_text: str) -> Path:
    """Make the files that the commands name, with a simulated sweep for each shipped one."""
    for name in ("src", "sweeps", "cluster"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / ".gitignore", folder)
    for sweep in (folder / "sweeps").glob("*.toml"):
        sweep.write_text(sweep_text, encoding="utf-8")
    executable(folder / "slurm" / "sbatch", SBATCH)
    executable(folder / "slurm" / "srun", SRUN)
    return folder


@pytest.fixture(scope="session")
def ways(tmp_path_factory: pytest.TempPathFactory, sweep_text: str) -> Iterator[dict[str, Way]]:
    """The README's commands for one machine and for Slurm, each on a machine of its own.

    Both mostly wait for Ray, so they run at the same time.
    """
    if not machine.can_be_made():
        pytest.skip("this machine does not let a user make namespaces (unshare)")
    # Logical GPUs: Ray counts them, the simulated engine does not look for them.
    alone = shown("One machine").replace("ray start --head", "ray start --head --num-gpus 8")
    commands = {"alone": alone, "slurm": shown("Slurm")}
    found: dict[str, Way] = {}
    try:
        for name, text in commands.items():
            two_cells = sweep_text.replace("duplication = [1, 2]", "duplication = 1")
            folder = checkout(tmp_path_factory.mktemp(name), two_cells)
            path = f"{folder / 'slurm'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
            run = machine.start(["bash", "-euc", text], folder, {**JOB, "PATH": path})
            found[name] = Way(run, folder)
        yield found
    finally:
        for way in found.values():
            way.run.clean()

"""A results folder on a disk that fills up, and on one that can be read only."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fakes import Cli

from packsweep.results.store import Store

PACKED = ("--set", "grid.strategy=packed")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, with room for one result: each takes 32 KiB, what is common 8."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = _mount("-t", "tmpfs", "-o", "size=56k", "tmpfs", folder)
    if made.returncode:
        pytest.skip(f"no file system can be mounted here: {made.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def _mount(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["mount", *map(str, arguments)], capture_output=True, text=True, check=False
    )


def test_run_full_then_more_room_then_read_only(disk: Path, shell: Cli, sweep_file: Path) -> None:
    """Full: lines that say so, and what was committed stays. With room the same command resumes.

    Read-only: what is there is shown, and a run is refused in one line.
    """
    command = ("run", sweep_file, *PACKED, "--results", disk / "r")
    full = shell(*command, cwd=sweep_file.parent)
    assert full.returncode != 0
    assert "No space left on device" in full.stdout + full.stderr
    assert "Traceback" not in full.stdout + full.stderr
    store = Store(disk / "r")
    committed = [cell_id for cell_id in store.cell_ids() if store.committed(cell_id)]
    assert store.done(committed) == set(committed)
    assert _mount("-o", "remount,size=10m", disk).returncode == 0
    again = shell(*command, cwd=sweep_file.parent)
    assert again.returncode == 0, again.stdout + again.stderr
    assert f"{2 - len(committed)} to do" in again.stdout
    assert _mount("-o", "remount,ro", disk).returncode == 0
    assert shell("show", disk / "r", cwd=sweep_file.parent).returncode == 0
    refused = shell(*command, cwd=sweep_file.parent)
    told = f"packsweep: {disk / 'r'}: cannot be written: Read-only file system\n"
    assert (refused.returncode, refused.stderr) == (2, told)

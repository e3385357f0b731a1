"""Shell scripts and the Dockerfile pass their linters."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cluster.manifests import CLUSTER, ROOT

SCRIPTS = sorted(CLUSTER.glob("*.sh"))


def linter(name: str) -> str:
    """Return the linter's path; the virtual environment need not be active."""
    found = shutil.which(name, path=Path(sys.executable).parent) or shutil.which(name)
    return found or pytest.skip(f"{name} is not installed")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_finds_nothing(script: Path) -> None:
    done = subprocess.run(
        [linter("shellcheck"), str(script)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_hadolint_finds_nothing() -> None:
    done = subprocess.run(
        [linter("hadolint"), str(CLUSTER / "Dockerfile")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_image_gets_every_file_that_it_copies() -> None:
    """What the Dockerfile copies is there, and the ignore file lets it through."""
    lines = (CLUSTER / "Dockerfile").read_text(encoding="utf-8").splitlines()
    copies = [line.split()[2:-1] for line in lines if line.startswith("COPY ")]
    copied = {name for names in copies for name in names}
    ignore = (CLUSTER / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    assert copied == {line.removeprefix("!") for line in ignore if line.startswith("!")}
    assert all((ROOT / name).exists() for name in copied)

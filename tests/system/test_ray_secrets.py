"""What a driver knows and Ray must not write down."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.fakes import Cli
from tests.ray_head import ray_head

pytest.importorskip("ray")
pytestmark = [pytest.mark.long, pytest.mark.timeout(400)]

SECRETS = {
    "HF_TOKEN": "hf_PlantedSecretOne",
    "AWS_ACCESS_KEY_ID": "PlantedSecretTwo",
    "AWS_SECRET_ACCESS_KEY": "PlantedSecretThree",
    "AWS_SESSION_TOKEN": "PlantedSecretFour",
    "AWS_ENDPOINT_URL": "https://me:PlantedSecretFive@store.example",
}


def test_no_secret_in_session_folder(shell: Cli, sweep_file: Path) -> None:
    """No file that Ray writes during a run holds a secret of the driver's environment."""
    with ray_head("--num-cpus=2") as head:
        done = shell(
            *("run", sweep_file.name, "--set", "grid.n=1", "--ray", head.address),
            cwd=sweep_file.parent,
            RAY_AUTH_MODE="disabled",
            **SECRETS,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        files = [path for path in head.folder.rglob("*") if path.is_file()]
        assert files
        holding = [
            (path.name, name)
            for path in files
            for name, value in SECRETS.items()
            if _holds(path, value)
        ]
    assert holding == []


def _holds(path: Path, value: str) -> bool:
    needle = value.rpartition(":")[2].partition("@")[0] if "://" in value else value
    try:
        return os.fsencode(needle) in path.read_bytes()
    except OSError:  # gone meanwhile
        return False

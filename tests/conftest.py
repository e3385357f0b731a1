"""Fixtures that many tests share: a model of one token a byte, sweep files, the command line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from tests.engine_sweep import run, write_sweep
from tests.fakes import Cli, write_byte_model
from tests.s3_server import S3Server

# A busy machine is no failure of a property. The same examples every time, so that a test's verdict
# is the code's alone; `make properties` looks for more.
settings.register_profile("packsweep", deadline=None, max_examples=50, derandomize=True)
settings.register_profile("search", deadline=None, max_examples=2000, derandomize=False)
settings.load_profile("packsweep")

# A shell starts its background jobs with SIGINT ignored, and every child would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def byte_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder without weights whose tokenizer makes one token of each byte."""
    return write_byte_model(tmp_path_factory.mktemp("models") / "bytes")


@pytest.fixture
def embedded_cache(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Embedded models are converted into a folder that all tests share."""
    cache = tmp_path_factory.getbasetemp() / "packsweep-cache"
    monkeypatch.setenv("PACKSWEEP_CACHE", str(cache))


@pytest.fixture(scope="session")
def sweep_text(byte_model: Path) -> str:
    """A simulated sweep of four cells, two repeats each."""
    return f"""
[model]
name = "{byte_model}"
load_format = "dummy"

[grid]
strategy = ["packed", "separate"]
n = [2]
duplication = [1, 2]

[engine]
kind = "simulated"

[measure]
repeats = 2

[limits]
max_attempts = 2
"""


@pytest.fixture
def sweep_file(tmp_path: Path, sweep_text: str) -> Path:
    """The simulated sweep as ``tiny.toml`` in a folder of its own."""
    path = tmp_path / "tiny.toml"
    path.write_text(sweep_text, encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def cli() -> Cli:
    """Run ``packsweep ARG...`` as a user does and return what it said."""

    def run(*arguments: object, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "packsweep", *map(str, arguments)],
            cwd=cwd,
            env={**os.environ, "TERM": "xterm-256color", **environ},
            capture_output=True,
            text=True,
            timeout=500,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of the real engine on this machine: every strategy, two copies, two repeats."""
    folder = tmp_path_factory.mktemp("local")
    done = run("run", str(write_sweep(folder)), "--results", str(folder / "results"))
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "results"


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """An S3 server on this machine, for this process and for those that it starts."""
    with pytest.MonkeyPatch.context() as patch, S3Server() as server:
        # Nobody's own profile takes part.
        nothing = str(tmp_path_factory.mktemp("aws") / "none")
        patch.setenv("AWS_CONFIG_FILE", nothing)
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", nothing)
        patch.delenv("AWS_PROFILE", raising=False)
        for name, value in server.environ.items():
            patch.setenv(name, value)
        yield server


@pytest.fixture
def bucket(s3: S3Server) -> str:
    """URI of a prefix in an empty bucket of its own."""
    return f"s3://{s3.make_bucket()}/some/sweep"

"""Fixtures that many tests share: a model of one token a byte, sweep files, the command line."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import io
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from tests.engine_sweep import run, write_sweep
from tests.fakes import Cli, write_byte_model
from tests.s3_server import S3Server
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

from packsweep.cli import main
from packsweep.machine import calibration, environment
from packsweep.results.store import Store

# A busy machine is no failure of a property. The same examples every time, so that a test's verdict
# is the code's alone; `make properties` looks for more.
settings.register_profile("packsweep", deadline=None, max_examples=50, derandomize=True)
settings.register_profile("search", deadline=None, max_examples=2000, derandomize=False)
settings.load_profile("packsweep")

# A shell starts its background jobs with SIGINT ignored, and every child would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


# Commands that run in this process set their own handlers, and would leave them to later tests and
# to pytest-xdist, which ends its processes by signals.
HANDLERS = {
    number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
}

# Marks of which one test at a time runs on a machine, and the lock that it holds.
LOCKS = {"engine": "engine", "gpu": "engine", "ray": "ray"}


def _locks(item: pytest.Item) -> list[str]:
    return sorted({lock for mark, lock in LOCKS.items() if item.get_closest_marker(mark)})


@pytest.hookimpl(wrapper=True, tryfirst=True)  # before pytest-timeout begins to count
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Never start two real engines, or two Ray clusters, at once; leave no handler of signals."""
    with contextlib.ExitStack() as stack:
        for lock in _locks(item):
            path = Path(tempfile.gettempdir()) / f"packsweep-{os.getuid()}-{lock}.lock"
            fcntl.flock(stack.enter_context(path.open("w")), fcntl.LOCK_EX)
        stack.callback(_restore_handlers)
        return (yield)


def _restore_handlers() -> None:
    for number, handler in HANDLERS.items():
        signal.signal(number, handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put what takes longest first, so that no process is left with it at the end."""
    items.sort(key=lambda item: not _locks(item))


class ByFile(LoadScopeScheduling):  # type: ignore[misc]
    """Gives a process whole files, so that what a file makes once is made once.

    All files of the engine are one, as they share a run. A mark, ``xdist_group``, would say that
    better, but has no effect with pytest 9.2 and pytest-xdist 3.8.0.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "engine" if "test_engine" in file else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    """Share the tests out as ``ByFile`` says."""
    return ByFile(config, log)


# What the user set that may change a measurement, before any test or import set more.
_MEASURING = environment.measuring()


@pytest.fixture(autouse=True)
def _own_environment() -> None:
    """Keep from each test what others pretend of this machine, or set: importing vLLM sets some."""
    environment.on_cpu.cache_clear()
    for name in environment.measuring().keys() - _MEASURING.keys():
        del os.environ[name]


@pytest.fixture(scope="session", autouse=True)
def _measured_once() -> Iterator[None]:
    """Measure this processor for the first ``plan`` alone: each has a cache folder of its own."""
    with pytest.MonkeyPatch.context() as patch:
        once = functools.cache(calibration.of_this_processor)
        patch.setattr(calibration, "of_this_processor", once)
        yield


@pytest.fixture(scope="session")
def byte_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder without weights whose tokenizer makes one token of each byte."""
    return write_byte_model(tmp_path_factory.mktemp("models") / "bytes")


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache for all tests, those of other processes of this run too: conversions take long."""
    own = tmp_path_factory.getbasetemp()
    return (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "packsweep-cache"


@pytest.fixture
def embedded_cache(shared_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Embedded models are converted into a folder that all tests share."""
    monkeypatch.setenv("PACKSWEEP_CACHE", str(shared_cache))


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
def shell() -> Cli:
    """Run ``packsweep ARG...`` in a process of its own, as a user does; return what it said."""

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
def cli() -> Cli:
    """Run ``packsweep ARG...`` in this process, as starting one takes longer than most commands."""

    def call(*arguments: object, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
        words = [str(argument) for argument in arguments]
        out, err = io.StringIO(), io.StringIO()
        with contextlib.ExitStack() as stack:
            patch = stack.enter_context(pytest.MonkeyPatch.context())
            patch.chdir(cwd)
            for name, value in environ.items():
                patch.setenv(name, value)
            stack.enter_context(contextlib.redirect_stdout(out))
            stack.enter_context(contextlib.redirect_stderr(err))
            ended = stack.enter_context(pytest.raises(SystemExit))
            main(words)
        status = ended.value.code
        assert isinstance(status, int)
        return subprocess.CompletedProcess(words, status, out.getvalue(), err.getvalue())

    return call


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


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty results folder."""
    found = Store(tmp_path / "results")
    found.prepare()
    return found

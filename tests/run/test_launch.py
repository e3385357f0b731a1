"""Workers forked from a process that has imported: how each ends, and that none is left."""

from __future__ import annotations

import gc
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn, cast

import psutil
import pytest
from tests.fakes import REVIEWS, cells, gone, killed_at_end, task

from packsweep.engines import vllm_forked
from packsweep.machine import environment, process
from packsweep.models.resolve import Model
from packsweep.results.store import Store
from packsweep.run import forkserver, launch, supervisor
from packsweep.run.launch import ForkedWorker, ForkServer
from packsweep.run.session import Session
from packsweep.run.supervisor import Supervisor
from packsweep.run.task import PHASE, STATUS, Task
from packsweep.sweep import expansion, read
from packsweep.sweep.cells import Cell
from packsweep.sweep.spec import LimitsTable

GONE_S = 10.0


@pytest.fixture
def server() -> Iterator[ForkServer]:
    """A fork server for simulated engines, stopped at the end."""
    found = ForkServer("simulated")
    yield found
    found.stop()


def _task(model: Path, store: Store, index: int = 0, **tables: Any) -> Task:
    made = cells(model={"name": str(model)}, **tables)
    return task(made[index], store.root, limits=LimitsTable(pass_timeout_s=60))


def _until(supervisor: Supervisor, phase: str) -> psutil.Process:
    """Wait until the attempt is in ``phase``; return its worker."""
    deadline = time.monotonic() + 60
    while supervisor.phase != phase:
        assert supervisor.poll() is None, "it ended early"
        assert time.monotonic() < deadline, supervisor.phase
        time.sleep(0.02)
    pid = supervisor.process.pid
    assert pid is not None
    return psutil.Process(pid)


def _rows(store: Store) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = store.read_passes().to_pylist()
    return rows


def test_forked_worker(byte_model: Path, store: Store, server: ForkServer) -> None:
    """It measures as any other, in a new process for each cell, and says how it began."""
    statuses = []
    pids = set()
    for index in range(2):
        attempt = Supervisor(_task(byte_model, store, index, grid={"n": [2, 3]}), server)
        statuses.append(attempt.wait())
        pids.add(attempt.process.pid)
    assert [status.outcome for status in statuses] == ["ok", "ok"]
    assert len(pids) == 2
    assert {row["start_method"] for row in _rows(store)} == {"fork"}
    log = Path(str(statuses[0].log)).read_text(encoding="utf-8")
    assert "packsweep: commit" in log


def test_forked_worker_of_another_engine(byte_model: Path, store: Store) -> None:
    """An engine that names no modules to import beforehand is forked all the same."""
    server = ForkServer("another")
    try:
        assert _measured(byte_model, store, server, 0) == "fork"
    finally:
        server.stop()


def test_forked_worker_crash(byte_model: Path, store: Store, server: ForkServer) -> None:
    """The exit status of a worker that crashes arrives."""
    attempt = Supervisor(_task(byte_model, store, simulated={"fault": "crash"}), server)
    status = attempt.wait()
    assert status.outcome == "crashed"


def test_forked_worker_killed(byte_model: Path, store: Store, server: ForkServer) -> None:
    """A worker that is killed is a row with the signal's name."""
    attempt = Supervisor(_task(byte_model, store, simulated={"real_seconds": 30.0}), server)
    _until(attempt, "warmup").kill()
    status = attempt.wait()
    assert (status.outcome, "SIGKILL" in str(status.reason)) == ("crashed", True)


def test_server_killed(byte_model: Path, store: Store, server: ForkServer) -> None:
    """With the server its workers die; the next attempt gets another server."""
    slow = _task(byte_model, store, simulated={"real_seconds": 30.0})
    attempt = Supervisor(slow, server)
    worker = _until(attempt, "warmup")
    psutil.Process(worker.ppid()).kill()
    worker.wait(GONE_S)
    assert attempt.wait().outcome == "crashed"
    assert Supervisor(_task(byte_model, store), server).wait().outcome == "ok"


def test_server_killed_before_it_forked(byte_model: Path, store: Store, server: ForkServer) -> None:
    """An attempt that was asked of a server that then died begins as a new Python."""
    first, second = (_task(byte_model, store, each, grid={"n": [2, 3]}) for each in range(2))
    Supervisor(first, server).wait()
    process = server.process
    assert process is not None
    process.send_signal(signal.SIGSTOP)
    attempt = Supervisor(second, server)
    process.kill()
    assert attempt.wait().outcome == "ok"
    methods = {row["cell_id"]: row["start_method"] for row in _rows(store)}
    assert methods == {first.cell.cell_id: "fork", second.cell.cell_id: "spawn"}


def test_server_hangs(byte_model: Path, store: Store, server: ForkServer) -> None:
    """A server that is stopped keeps no attempt from ending, and nobody waits for it."""
    attempt = Supervisor(_task(byte_model, store, simulated={"real_seconds": 0.2}), server)
    worker = _until(attempt, "warmup")
    parent = psutil.Process(worker.ppid())
    parent.suspend()
    attempt.stop()
    assert not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE
    parent.resume()


def _methods(store: Store) -> dict[int, str]:
    return {row["n"]: row["start_method"] for row in _rows(store)}


def _measured(model: Path, store: Store, server: ForkServer, index: int) -> str:
    """Measure a cell of 2, 3 or 4 texts; return how its worker began."""
    attempt = Supervisor(_task(model, store, index, grid={"n": [2, 3, 4]}), server)
    assert attempt.wait().outcome == "ok"
    return _methods(store)[index + 2]


def _in_warmup(
    byte_model: Path, store: Store, server: ForkServer
) -> tuple[Supervisor, psutil.Process]:
    """Return an attempt that is in a long warm-up, and its worker."""
    attempt = Supervisor(_task(byte_model, store, simulated={"real_seconds": 30.0}), server)
    return attempt, _until(attempt, "warmup")


def test_server_that_hangs_is_replaced(
    byte_model: Path, store: Store, server: ForkServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that is not forked in time is a new Python, the next one a fork of a new server."""
    assert _measured(byte_model, store, server, 0) == "fork"
    hanging = server.process
    assert hanging is not None
    hanging.send_signal(signal.SIGSTOP)
    with monkeypatch.context() as patch:
        patch.setattr(launch, "_ANSWER_TIMEOUT_S", 0.3)
        assert _measured(byte_model, store, server, 1) == "spawn"
    assert hanging.poll() == -signal.SIGKILL
    assert _measured(byte_model, store, server, 2) == "fork"


def test_worker_killed_while_its_server_hangs(
    byte_model: Path, store: Store, server: ForkServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for the server to say so, as long as a pass may take."""
    monkeypatch.setattr(launch, "_UNHEARD_TIMEOUT_S", 0.2)
    attempt, worker = _in_warmup(byte_model, store, server)
    psutil.Process(worker.ppid()).suspend()
    worker.kill()
    assert attempt.wait().outcome == "crashed"


def test_server_outlives_a_worker_and_its_supervisor(
    byte_model: Path, store: Store, server: ForkServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that was busy finds the worker dead and its supervisor gone at the same moment."""
    monkeypatch.setattr(launch, "_STATUS_TIMEOUT_S", 0.1)
    attempt, worker = _in_warmup(byte_model, store, server)
    parent = worker.ppid()
    with socket.socket(socket.AF_UNIX) as silent:  # the server waits for what it asks
        silent.connect(str(server.address))
        time.sleep(0.1)
        worker.kill()
        attempt.stop()
    assert _measured(byte_model, store, server, 1) == "fork"
    assert server.process is not None
    assert server.process.pid == parent


def test_socket_deleted(byte_model: Path, store: Store, server: ForkServer) -> None:
    """Where nobody can reach the server any more, another takes its place."""
    assert _measured(byte_model, store, server, 0) == "fork"
    first = server.process
    server.address.unlink()
    assert _measured(byte_model, store, server, 1) == "spawn"
    assert first is not None
    assert first.poll() == -signal.SIGKILL
    assert _measured(byte_model, store, server, 2) == "fork"


_OWNER = """
from packsweep.machine import environment
from packsweep.run.launch import ForkServer

server = ForkServer("another")
server.prepare(environment.engine_environ())
print(server.address.parent, server.process.pid, flush=True)
input()
"""


@pytest.mark.parametrize("victim", ["owner", "server"])
def test_folder_of_a_killed_server(tmp_path: Path, victim: str) -> None:
    """Nothing of a server is left in the folder for temporary files, whoever was killed."""
    started = subprocess.Popen(
        [sys.executable, "-c", _OWNER],
        env=os.environ | {"TMPDIR": str(tmp_path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with killed_at_end(started) as owner:
        assert owner.stdout is not None
        folder, pid = owner.stdout.readline().split()
        assert Path(folder).is_dir()
        os.kill(owner.pid if victim == "owner" else int(pid), signal.SIGKILL)
        deadline = time.monotonic() + GONE_S
        while Path(folder).exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert list(tmp_path.iterdir()) == []


def test_server_without_files(byte_model: Path, store: Store, server: ForkServer) -> None:
    """A server that may open no more files forks nothing, and lives."""
    assert _measured(byte_model, store, server, 0) == "fork"
    assert server.process is not None
    pid = server.process.pid
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, before[1]))
    attempt = Supervisor(_task(byte_model, store, 1, grid={"n": [2, 3, 4]}), server)
    time.sleep(0.3)
    assert attempt.process.pid is None
    resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
    assert attempt.wait().outcome == "ok"
    assert _methods(store)[3] == "fork"


@pytest.mark.parametrize(
    ("does", "lives"),
    [
        ("os.fork = refuse", True),
        ("os.pidfd_open = refuse", True),
        ("os._exit(3)", False),
        ("time.sleep(60)", False),
    ],
)
def test_server_that_cannot(
    byte_model: Path,
    store: Store,
    server: ForkServer,
    monkeypatch: pytest.MonkeyPatch,
    *,
    does: str,
    lives: bool,
) -> None:
    """Whatever keeps a server from forking, its workers are new Pythons."""
    folder = Path(store.root).parent
    (folder / "sitecustomize.py").write_text(
        "import os, sys, time\n"
        "def refuse(*_):\n"
        "    raise OSError(11, 'no room')\n"
        f"if 'packsweep.run.forkserver' in sys.orig_argv:\n    {does}\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(folder))
    if "sleep" in does:
        monkeypatch.setattr(launch, "_LISTEN_TIMEOUT_S", 0.5)
    assert _measured(byte_model, store, server, 0) == "spawn"
    assert server.lives == lives


def test_worker_that_was_not_announced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that runs is not replaced, however long its server is silent, nor when that ends."""
    monkeypatch.setattr(launch, "_ANSWER_TIMEOUT_S", 0.0)

    def never() -> NoReturn:
        raise AssertionError("it has begun")

    ours, servers = socket.socketpair()
    worker = ForkedWorker(tmp_path, ours, os.open(os.devnull, os.O_RDONLY), never, never)
    (tmp_path / PHASE).write_text("pass 0")
    time.sleep(0.01)
    assert worker.poll() is None
    servers.close()
    assert worker.poll() == -signal.SIGKILL


def test_supervisor_dies(byte_model: Path, store: Store, server: ForkServer) -> None:
    """A worker dies with the process that holds the other end of its guard."""
    slow = _task(byte_model, store, simulated={"real_seconds": 30.0})
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            attempt = Supervisor(slow, server)
            os.write(write, str(_until(attempt, "warmup").pid).encode())
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(write)
    pid = int(os.read(read, 16))
    os.close(read)
    deadline = time.monotonic() + GONE_S
    while not gone(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert gone(pid)


@pytest.mark.parametrize("request_bytes", [b"{", b"{}, not JSON", b""])
def test_receive_of_a_request_that_is_not_whole(request_bytes: bytes) -> None:
    """A server lives for a whole sweep: it keeps no descriptor of a request that it cannot use."""
    ours, servers = socket.socketpair()
    servers.settimeout(0.1)
    log, guard = os.pipe()
    with ours, servers:
        head = launch.LENGTH.pack(len(b"{}, not JSON"))
        socket.send_fds(ours, [head], [guard, log])
        os.close(log)
        ours.sendall(request_bytes)
        before = _num_descriptors()
        with pytest.raises((OSError, ValueError)):
            forkserver.receive(servers)
        assert _num_descriptors() == before
    os.close(guard)


def _num_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_other_environment(server: ForkServer) -> None:
    """Another server takes the place of one whose imports read other variables."""
    environ = environment.engine_environ()
    server.prepare(environ)
    first = server.process
    server.prepare({**environ, "CUDA_VISIBLE_DEVICES": "1"})
    assert server.process is first, "which GPU is visible is read later"
    server.prepare({**environ, "VLLM_LOGGING_LEVEL": "DEBUG"})
    assert server.process is not first


def test_secrets_stay_where_they_are() -> None:
    """What servers and workers have in common goes to other processes; secrets do not."""
    secrets = {"HF_TOKEN": "hf_x", "VLLM_API_KEY": "x", "AWS_SECRET_ACCESS_KEY": "x"}
    found = environment.read_at_import({**secrets, "HF_HOME": "/x", "VLLM_LOGGING_LEVEL": "INFO"})
    assert found == {"HF_HOME": "/x", "VLLM_LOGGING_LEVEL": "INFO"}


def test_interpreter_where_none_forks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forks need Linux, and somebody who did not ask for a new Python."""
    assert isinstance(launch.launcher("vllm", "fork"), ForkServer)
    assert isinstance(launch.launcher("vllm", "spawn"), launch.Interpreter)
    monkeypatch.setattr("sys.platform", "darwin")
    assert isinstance(launch.launcher("vllm", "fork"), launch.Interpreter)


class _AnewError(Exception):
    """A process would begin anew."""


def test_preload_spoiled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A module that initializes CUDA is noted, and the next server leaves it out."""
    imported: list[str] = []

    def anew(*_: object) -> None:
        raise _AnewError

    monkeypatch.setenv("PACKSWEEP_CACHE", str(tmp_path))
    monkeypatch.setattr(forkserver, "_PRELOADED", {"vllm": ("json", "spoils", "csv")})
    monkeypatch.setattr(forkserver, "_PRELOADED_ON_CUDA", ())
    monkeypatch.setattr(os, "execve", anew)
    monkeypatch.setattr(forkserver, "_import", imported.append)
    monkeypatch.setattr(forkserver, "cuda_is_untouched", lambda: imported[-1] != "spoils")
    with pytest.raises(_AnewError):
        forkserver._preload("vllm")
    imported.clear()
    forkserver._preload("vllm")
    assert imported == ["json", "csv"]


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff", b'{"a": 1}', b'[1, {"a": 2}]', b"[" * 100_000, None]
)
def test_spoiled_note(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None
) -> None:
    """A note that is none, or no file, costs a beginning anew and nothing else."""
    monkeypatch.setenv("PACKSWEEP_CACHE", str(tmp_path))
    path = forkserver._spoiling_path()
    path.parent.mkdir()
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    assert forkserver._spoiling() == []
    forkserver._note_spoiling('["spoils"]')
    assert forkserver._spoiling() == ([] if content is None else ["spoils"])


def test_preload_spoiled_without_a_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where nothing can be noted, the process that begins anew knows; and has what it was given."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("PACKSWEEP_CACHE", str(tmp_path / "file" / "cache"))
    monkeypatch.setattr(forkserver, "_PRELOADED", {"vllm": ("json", "spoils", "csv", "too")})
    monkeypatch.setattr(forkserver, "_PRELOADED_ON_CUDA", ())
    monkeypatch.setattr(forkserver, "_GIVEN", {"HOME": "/here"})
    imported: list[str] = []
    monkeypatch.setattr(forkserver, "_import", imported.append)
    monkeypatch.setattr(forkserver, "cuda_is_untouched", lambda: imported[-1] in {"json", "csv"})
    given: list[dict[str, str]] = []

    def anew(_: str, __: object, environ: dict[str, str]) -> None:
        given.append(environ)
        raise _AnewError

    monkeypatch.setattr(os, "execve", anew)
    for _ in range(2):
        with pytest.raises(_AnewError):
            forkserver._preload("vllm")
        monkeypatch.setenv("PACKSWEEP_SPOILING", given[-1].pop("PACKSWEEP_SPOILING"))
    imported.clear()
    forkserver._preload("vllm")
    assert imported == ["json", "csv"]
    assert given == [{"HOME": "/here"}] * 2


def _shared(model: Path, store: Store, index: int) -> Task:
    return _task(model, store, index, grid={"n": [2, 3, 4]}, measure={"isolation": "engine"})


def test_session(byte_model: Path, store: Store, server: ForkServer) -> None:
    """Cells share a worker and its engine, and each has a log; a worker that died is replaced."""
    session = Session(server, "key")
    attempts = [Supervisor(_shared(byte_model, store, index), session) for index in (0,)]
    statuses = [attempts[0].wait()]
    for index in (1, 2):
        if index == 2:
            worker = psutil.Process(attempts[0].process.pid)
            worker.kill()
            worker.wait(GONE_S)
        statuses.append(Supervisor(_shared(byte_model, store, index), session).wait())
    session.stop()
    assert [status.outcome for status in statuses] == ["ok"] * 3
    methods = {row["n"]: row["start_method"] for row in _rows(store)}
    assert methods == {2: "fork", 3: "shared", 4: "fork"}
    assert {row["isolation"] for row in _rows(store)} == {"engine"}
    logs = [Path(str(status.log)).read_text(encoding="utf-8") for status in statuses]
    assert all(log.count("packsweep: commit") == 1 for log in logs)


def test_session_worker_that_ended_unsaid(tmp_path: Path) -> None:
    """A worker that has ended gets no attempt, although nobody has told its status yet."""
    ended = os.posix_spawn("/bin/true", ["true"], os.environ)
    while not gone(ended):
        time.sleep(0.01)
    worker = SimpleNamespace(
        pid=ended, poll=lambda: None, kill=lambda: None, wait=lambda: 0, lives_on=False
    )
    launched: list[Path] = []

    def started(folder: Path, _: object, __: object) -> SimpleNamespace:
        launched.append(folder)
        return worker

    session = Session(cast("Any", SimpleNamespace(launch=started)), "key")
    folders = [tmp_path / name for name in "ab"]
    with (tmp_path / "log").open("wb") as log:
        for folder in folders:
            folder.mkdir()
            for mark in ("kept", STATUS):
                (folder / mark).touch()
            assert session.launch(folder, {}, log).poll() == 0
    os.waitpid(ended, 0)
    assert launched == folders


def test_session_folder_deleted(byte_model: Path, store: Store, server: ForkServer) -> None:
    """A worker that cannot be reached any more is replaced."""
    session = Session(server, "key")
    for index in range(2):
        assert Supervisor(_shared(byte_model, store, index), session).wait().outcome == "ok"
        assert session._folder is not None
        shutil.rmtree(session._folder)
    session.stop()
    assert _methods(store) == {2: "fork", 3: "fork"}


def test_prepare(
    monkeypatch: pytest.MonkeyPatch, byte_model: Path, store: Store, tmp_path: Path
) -> None:
    """Before a fork the tokenizer of an offline cell on vLLM is loaded, once, and of no other."""
    loaded: list[tuple[str, str]] = []
    request = {"folder": str(tmp_path), "environ": {"CUDA_VISIBLE_DEVICES": "3"}}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(forkserver, "_prepared", set())

    def load(of: Cell, _: Model) -> None:
        loaded.append((of.engine, os.environ["CUDA_VISIBLE_DEVICES"]))
        raise ValueError("whatever fails here, the worker reports")

    monkeypatch.setattr(vllm_forked, "load_tokenizer", load)
    for engine in ("simulated", "vllm", "vllm"):
        asked = _task(byte_model, store, engine={"kind": engine})
        (tmp_path / "task.json").write_text(asked.to_json(), encoding="utf-8")
        forkserver._prepare(request)
    gc.unfreeze()
    assert loaded == [("vllm", "3")]


def test_prepare_spoiled(
    monkeypatch: pytest.MonkeyPatch, byte_model: Path, store: Store, tmp_path: Path
) -> None:
    """Where loading a tokenizer initializes CUDA, the next server does not load any."""
    loaded: list[str] = []
    request: dict[str, Any] = {"folder": str(tmp_path), "environ": {}}
    monkeypatch.setattr(forkserver, "_prepared", set())

    def anew(*_: object) -> None:
        raise _AnewError

    monkeypatch.setenv("PACKSWEEP_CACHE", str(tmp_path))
    monkeypatch.setattr(os, "execve", anew)
    monkeypatch.setattr(vllm_forked, "load_tokenizer", lambda of, _: loaded.append(of.engine))
    monkeypatch.setattr(forkserver, "cuda_is_untouched", lambda: not loaded)
    asked = _task(byte_model, store, engine={"kind": "vllm"})
    (tmp_path / "task.json").write_text(asked.to_json(), encoding="utf-8")
    with pytest.raises(_AnewError):
        forkserver._prepare(request)
    forkserver._prepared.clear()
    forkserver._prepare(request)
    gc.unfreeze()
    assert loaded == ["vllm"]


def _served(model: Path, store: Store, index: int, **tables: Any) -> Task:
    """Return a cell of a server that three rates share."""
    values: dict[str, dict[str, Any]] = {
        "model": {"name": str(model), "load_format": "dummy"},
        "grid": {"strategy": "separate", "n": 12},
        "engine": {"kind": "simulated"},
        "online": {"rate": [10.0, 15.0, 20.0], "window_s": 1.0},
        "measure": {"repeats": 1, "isolation": "engine"},
    }
    for table, changes in tables.items():
        values[table] = {**values.get(table, {}), **changes}
    sweep = read.parse({**values, "mode": "online"}, where="test")
    expanded = expansion.expand(sweep, REVIEWS, model_fingerprint="weights", max_model_len=1000)
    limits = LimitsTable(pass_timeout_s=60)
    return task(expanded[index], store.root, limits=limits)


def _servers(worker: int | None) -> list[psutil.Process]:
    """Return the servers that a worker has started; clients end with their windows."""
    return psutil.Process(worker).children()


def test_session_server(byte_model: Path, store: Store, server: ForkServer) -> None:
    """Cells share a server, with a window's own figures each; one that died is replaced."""
    session = Session(server, "key")
    statuses, found = [], []
    for index in range(3):
        attempt = Supervisor(_served(byte_model, store, index), session)
        statuses.append(attempt.wait())
        found += _servers(attempt.process.pid)
        if index == 1:
            found[1].kill()
    session.stop()
    assert [status.outcome for status in statuses] == ["ok"] * 3
    first, second, third = found
    assert first == second != third
    rows = sorted(_rows(store), key=lambda row: row["rate_texts_per_s"])
    assert [row["start_method"] for row in rows] == ["fork", "shared", "fork"]
    assert {row["isolation"] for row in rows} == {"engine"}
    for row in rows:  # what cells before have asked is none of its own
        assert row["server_cached_share"] == pytest.approx(row["cached_share"])
    assert process.wait_until_ended(found, GONE_S) == []


@pytest.mark.parametrize("fault", ["wrong_cache", "unfinished"])
def test_session_server_after_failure(
    byte_model: Path,
    store: Store,
    server: ForkServer,
    fault: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After a window that does not count the next cell goes on; after a failure on another."""
    monkeypatch.setattr(supervisor, "_EXIT_GRACE_S", 400.0)
    session = Session(server, "key")
    few = {"rate": [2.0, 3.0], "window_s": 2.0}
    measure = {"warmup_passes": 0}
    pids = []
    for index in range(2):
        asked = _served(
            byte_model, store, index, simulated={"fault": fault}, online=few, measure=measure
        )
        attempt = Supervisor(asked, session)
        began = time.monotonic()
        assert attempt.wait().outcome == ("invalid" if fault == "wrong_cache" else "crashed")
        assert time.monotonic() - began < 200  # nobody waits for a worker that has nothing to keep
        pids.append(attempt.process.pid)
    session.stop()
    assert (pids[0] == pids[1]) == (fault == "wrong_cache")


def test_server_out_of_memory(byte_model: Path, store: Store, server: ForkServer) -> None:
    """Why a server did not start is told in its own words, as of an engine."""
    asked = _served(byte_model, store, 0, simulated={"fault": "oom"})
    status = Supervisor(asked, server).wait()
    assert status.outcome == "oom"
    assert str(status.reason).startswith("OutOfMemoryError: the simulated device is out of memory")


@pytest.mark.parametrize("when", ["pass 0", "between"])
def test_session_server_worker_killed(
    byte_model: Path, store: Store, server: ForkServer, when: str
) -> None:
    """A worker that is killed, in a window or between two cells, takes its server with it."""
    session = Session(server, "key")
    asked = _served(byte_model, store, 0, online={"window_s": 3.0} if when == "pass 0" else {})
    attempt = Supervisor(asked, session)
    if when == "between":
        assert attempt.wait().outcome == "ok"
    else:
        _until(attempt, when)
    worker = psutil.Process(attempt.process.pid)
    family = worker.children(recursive=True)
    worker.kill()
    assert family
    assert process.wait_until_ended(family, GONE_S) == []
    if when == "pass 0":
        assert attempt.wait().outcome == "crashed"
    assert Supervisor(_served(byte_model, store, 1), session).wait().outcome == "ok"
    session.stop()


def _asked(folder: Path, instead: Callable[[], NoReturn]) -> tuple[ForkedWorker, socket.socket]:
    """Return a worker that was asked for, and the server's end of its connection."""
    ours, theirs = socket.socketpair()
    guard, held = os.pipe()
    os.close(guard)
    return ForkedWorker(folder, ours, held, instead, lambda: None), theirs


def test_forked_worker_that_cannot_be_replaced(tmp_path: Path) -> None:
    """It has ended, and no descriptor is closed twice: another attempt may have its number."""

    def instead() -> NoReturn:
        raise OSError("no more processes")

    worker, server = _asked(tmp_path, instead)
    server.close()
    with pytest.raises(OSError, match="no more processes"):
        worker.poll()
    with (tmp_path / "another").open("wb") as others:
        worker.kill()
        assert worker.wait() == worker.poll() == -signal.SIGKILL
        others.write(b"still open")


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_forked_worker_forgotten(tmp_path: Path) -> None:
    """A worker that nobody supervises any more dies: its guard is closed."""
    ours, _theirs = socket.socketpair()
    guard, held = os.pipe()
    worker = ForkedWorker(tmp_path, ours, held, lambda: cast("Any", None), lambda: None)
    del worker
    gc.collect()
    os.set_blocking(guard, False)
    assert os.read(guard, 1) == b""
    os.close(guard)


def test_pause(byte_model: Path, store: Store, server: ForkServer) -> None:
    """It ends where the worker does; else after so long."""
    attempt = Supervisor(_task(byte_model, store, simulated={"real_seconds": 30.0}), server)
    worker = _until(attempt, "warmup")
    began = time.monotonic()
    attempt.process.pause(0.2)
    assert time.monotonic() - began >= 0.2
    worker.kill()
    attempt.process.pause(GONE_S)
    assert attempt.process.poll() == -signal.SIGKILL
    assert time.monotonic() - began < GONE_S
    assert attempt.wait().outcome == "crashed"

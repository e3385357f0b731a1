"""A process that has imported the engine's packages and forks a worker for each cell.

Importing torch and vLLM takes longer than most passes, and a fresh process does it again, and its
engine core once more. ``python -m packsweep.run.forkserver SOCKET ENGINE`` does it once: it
imports, never starts an engine, never touches a GPU, and forks. So it does with the tokenizer of
each model. A cell's process is new all the same: its CUDA context and its KV cache are made in it
and end with it.

A connection is one worker: JSON of ``folder`` and ``environ`` with two descriptors (the guard, the
log) in; the worker's pid with a descriptor of the process out, and its exit status once it ends.

Who dies with whom: the workers die with this process, this process with the one that started it
(``lifeline``), and a worker with its supervisor: that one holds the other end of the guard, a pipe.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import importlib.metadata
import json
import os
import select
import selectors
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from packsweep.engines import vllm_forked
from packsweep.errors import UserError
from packsweep.files import cache_root, replace_file
from packsweep.machine import environment
from packsweep.run import lifeline
from packsweep.run.launch import LENGTH, NUM_DESCRIPTORS
from packsweep.run.task import task_from_json

_GIVEN = dict(os.environ)
# Linux cuts the name of a process at 15 bytes.
WORKER_NAME = "packsweep-cell"
_REQUEST_TIMEOUT_S = 10.0
_AGAIN_S = 0.1
# Names to a server that begins anew what initializes CUDA, as JSON.
_SPOILING = "PACKSWEEP_SPOILING"
_CUDA_NOT_INITIALIZED = 3  # Source: cuda.h, CUDA_ERROR_NOT_INITIALIZED
# Of an engine without a row below, its worker alone.
_WORKER = ("packsweep.run.worker",)
# What an engine of each kind imports, in its own process and in its core. A module that a version
# of vLLM does not have is left out: the worker then imports what it needs itself.
_PRELOADED = {
    "simulated": (*_WORKER, "packsweep.engines.simulated"),
    "vllm": (
        *_WORKER,
        "vllm",
        "vllm.entrypoints.llm",
        "vllm.v1.engine.core",
        "vllm.v1.executor.uniproc_executor",
        "vllm.v1.executor.multiproc_executor",
        "vllm.v1.structured_output",
        "transformers.models.auto.tokenization_auto",
    ),
}
# A server is forked of the worker of its cell, and its engine core of the server.
_PRELOADED["simulated_server"] = (*_PRELOADED["simulated"], "packsweep.engines.simulated.server")
_PRELOADED["vllm_server"] = (
    *_PRELOADED["vllm"],
    "packsweep.engines.vllm_server",
    "vllm.entrypoints.cli.serve",
    "vllm.entrypoints.openai.api_server",
)
_PRELOADED["external_server"] = (*_WORKER, "packsweep.engines.external")
# The rest of it, where the platform is known to be CUDA.
_PRELOADED_ON_CUDA = (
    "vllm.v1.worker.gpu_worker",
    "vllm.v1.worker.gpu_model_runner",
    "vllm.v1.worker.gpu.model_runner",
    "vllm.v1.attention.backends.flash_attn",
    "vllm.compilation.backends",
    "vllm.model_executor.model_loader",
    "vllm.model_executor.models.llama",
    "vllm.model_executor.models.qwen2",
    "vllm.model_executor.models.qwen3",
    "torch._inductor.compile_fx",
    "torch._dynamo.backends.registry",
    "triton.backends.nvidia.compiler",
    "xgrammar",
)


@dataclass(slots=True)
class _Worker:
    """A forked worker and the connection of its supervisor."""

    pid: int
    connection: socket.socket

    def report(self, status: int) -> None:
        """Tell the supervisor how it ended; nothing where that is gone."""
        code = os.waitstatus_to_exitcode(status)
        with contextlib.suppress(OSError):
            self.connection.sendall(json.dumps({"exit": code}).encode() + b"\n")
        self.connection.close()


class ForkServer:
    """The loop: connections in, workers out, until it is killed."""

    def __init__(
        self,
        listener: socket.socket,
        inherited: Mapping[str, str],
        prepare: Callable[[Mapping[str, Any]], None] = lambda _: None,
    ) -> None:
        """Take a socket and the environment of its workers.

        Args:
            listener: where supervisors connect.
            inherited: what imports changed in the environment, name -> value; every worker gets it.
            prepare: loads, before a fork, what the requested attempt needs.
        """
        self._listener = listener
        self._inherited = dict(inherited)
        self._prepare = prepare
        self._workers: dict[int, _Worker] = {}
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener, selectors.EVENT_READ)
        self._wake = self._wake_on_child()

    def serve(self) -> Callable[[], None]:
        """Fork workers for ever; return in each of them what it is to do."""
        while True:
            for key, _ in self._selector.select():
                work = self._attend(key)
                if work is not None:
                    return work

    def _attend(self, key: selectors.SelectorKey) -> Callable[[], None] | None:
        """Answer what can be read; return, in a new worker, what it is to do."""
        if key.fileobj is self._listener:
            return self._accept()
        if key.fileobj is self._wake:
            self._wake.recv(4096)
            self._reap()
        elif key.data.pid in self._workers:  # not one that was just reaped
            self._hang_up(key.data)
        return None

    def _wake_on_child(self) -> socket.socket:
        """Make the selector wake where a worker ends."""
        reader, writer = socket.socketpair()
        for end in (reader, writer):
            end.settimeout(0)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's; whoever started us decides
        signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        self._writer = writer
        self._selector.register(reader, selectors.EVENT_READ)
        return reader

    def _accept(self) -> Callable[[], None] | None:
        try:
            connection, _ = self._listener.accept()
        except OSError:  # too many files are open: it stays in the queue
            time.sleep(_AGAIN_S)
            return None
        try:
            connection.settimeout(_REQUEST_TIMEOUT_S)
            request, descriptors = receive(connection)
        except (OSError, ValueError):
            connection.close()
            return None
        self._prepare(request)
        return self._fork(connection, request, descriptors)

    def _fork(
        self, connection: socket.socket, request: Mapping[str, Any], descriptors: list[int]
    ) -> Callable[[], None] | None:
        """Fork a worker; where that cannot be done, hang up: its supervisor has another way."""
        server = os.getpid()
        try:
            pid = os.fork()
        except OSError:
            pid = None
        if pid == 0:
            lifeline.die_with(server)
            self._forget()
            connection.close()
            return lambda: _work(request, descriptors, self._inherited)
        for descriptor in descriptors:
            os.close(descriptor)
        if pid is None:
            connection.close()
            return None
        self._workers[pid] = worker = _Worker(pid, connection)
        self._selector.register(connection, selectors.EVENT_READ, worker)
        try:
            self._announce(worker)
        except OSError:
            self._hang_up(worker)
        return None

    def _announce(self, worker: _Worker) -> None:
        handle = os.pidfd_open(worker.pid)
        line = json.dumps({"pid": worker.pid}).encode() + b"\n"
        with contextlib.suppress(OSError):
            socket.send_fds(worker.connection, [line], [handle])
        os.close(handle)

    def _forget(self) -> None:
        """Close, in a worker, all that is the server's."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for worker in self._workers.values():
            worker.connection.close()
        for each in (self._selector, self._wake, self._writer, self._listener):
            each.close()

    def _reap(self) -> None:
        for pid, worker in list(self._workers.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                self._selector.unregister(worker.connection)
                worker.report(status)
                del self._workers[pid]

    def _hang_up(self, worker: _Worker) -> None:
        """End a worker whose supervisor closed the connection; it never writes into it."""
        os.kill(worker.pid, signal.SIGKILL)
        os.waitpid(worker.pid, 0)
        self._selector.unregister(worker.connection)
        worker.connection.close()
        del self._workers[worker.pid]


def receive(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Read one request: its length, its JSON, and the descriptors that came with the length.

    Raises:
        OSError: it does not come in time.
        ValueError: it is not whole. In either case its descriptors are closed.
    """
    head, descriptors, _, _ = socket.recv_fds(connection, LENGTH.size, NUM_DESCRIPTORS)
    try:
        return _content(connection, head, len(descriptors)), descriptors
    except (OSError, ValueError):
        for descriptor in descriptors:
            os.close(descriptor)
        raise


def _content(connection: socket.socket, head: bytes, num_descriptors: int) -> dict[str, Any]:
    """Read the JSON that follows the head of a request."""
    if len(head) != LENGTH.size or num_descriptors != NUM_DESCRIPTORS:
        raise ValueError("a request begins with its length and two descriptors")
    (left,) = LENGTH.unpack(head)
    parts = []
    while left:
        part = connection.recv(left)
        if not part:
            raise ValueError("a request ended early")
        parts.append(part)
        left -= len(part)
    content: dict[str, Any] = json.loads(b"".join(parts))
    return content


def _work(request: Mapping[str, Any], descriptors: list[int], inherited: Mapping[str, str]) -> None:
    """Become the worker of one attempt."""
    guard, log = descriptors
    lifeline.die_at_end_of(guard)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    os.environ.clear()
    os.environ.update(request["environ"])
    os.environ.update(inherited)
    os.environ[environment.START_METHOD] = "fork"
    os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "fork"  # the engine core need not import again
    _name(WORKER_NAME)
    from packsweep.run import worker

    worker.run(Path(request["folder"]))


def _name(name: str) -> None:
    with contextlib.suppress(OSError):
        Path("/proc/self/comm").write_text(name, encoding="ascii")


def _preload(engine: str) -> None:
    """Import what engines of this kind need; what cannot be imported, the worker will report.

    A module that initializes CUDA when it is imported spoils this process: it is noted, for this
    version of vLLM, and the process begins anew without it, in the environment that it was given.
    """
    names = list(_PRELOADED.get(engine, _WORKER))
    if engine.startswith("vllm") and Path("/proc/driver/nvidia").exists():
        names += _PRELOADED_ON_CUDA
    for name in names:
        _unless_it_spoils(name, partial(_import, name))


def _unless_it_spoils(name: str, action: Callable[[], None]) -> None:
    """Do what is called ``name``, where it is not known to initialize CUDA."""
    spoiling = _spoiling()
    if name in spoiling:
        return
    with contextlib.suppress(Exception):
        action()
    if not cuda_is_untouched():
        noted = json.dumps([*spoiling, name])
        _note_spoiling(noted)
        # This very process, anew.
        os.execve(sys.executable, sys.orig_argv, {**_GIVEN, _SPOILING: noted})  # noqa: S606


def _import(name: str) -> None:
    importlib.import_module(name)
    if name == "vllm":
        vllm_forked.spare_collections()


def _prepare(request: Mapping[str, Any]) -> None:
    """Load what the attempt needs; what cannot be loaded, the worker will report.

    vLLM asks NVML about the GPU that the worker will see; the actor of a node sees none.
    """
    visible = request["environ"].get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = visible
    _unless_it_spoils("tokenizer", partial(_load_tokenizer, Path(request["folder"])))
    gc.collect()
    gc.freeze()


_prepared: set[object] = set()


def _load_tokenizer(folder: Path) -> None:
    task = task_from_json((folder / "task.json").read_text(encoding="utf-8"))
    key = task.cell.engine_key
    if task.cell.engine == "vllm" and task.cell.mode == "offline" and key not in _prepared:
        _prepared.add(key)
        vllm_forked.load_tokenizer(task.cell, task.resolve_model())


def _spoiling() -> list[str]:
    """Return what is known to initialize CUDA, here or in the process that this one was before."""
    try:
        noted = _spoiling_path().read_text(encoding="utf-8")
    except (OSError, ValueError, UserError):
        noted = "[]"
    return [name for each in (noted, os.environ.get(_SPOILING, "[]")) for name in _names(each)]


def _names(noted: str) -> list[str]:
    """Return the names in a note; none where it is no note."""
    with contextlib.suppress(ValueError, RecursionError):
        names = json.loads(noted)
        if isinstance(names, list):
            return [name for name in names if isinstance(name, str)]
    return []


def _note_spoiling(noted: str) -> None:
    """Spare the next server the same; where that cannot be done, it begins anew as well."""
    with contextlib.suppress(OSError, UserError):
        _spoiling_path().parent.mkdir(parents=True, exist_ok=True)
        replace_file(_spoiling_path(), noted.encode())


def _spoiling_path() -> Path:
    try:
        version = importlib.metadata.version("vllm")
    except importlib.metadata.PackageNotFoundError:
        version = "none"
    return cache_root() / "forkserver" / f"{version}.json"


def cuda_is_untouched() -> bool:
    """Tell whether this process has not initialized CUDA: a fork of one that has cannot use it.

    Source: CUDA driver API, ``cuDeviceGetCount`` before ``cuInit``.
    """
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return True
    return int(driver.cuDeviceGetCount(ctypes.byref(ctypes.c_int()))) == _CUDA_NOT_INITIALIZED


def _remove_at_end(folder: Path) -> None:
    """Have a process remove ``folder`` when this one has ended, however it was ended.

    It has a session of its own, so that what is sent to a whole group does not end it as well.
    Where there can be no such process, the next run removes the folder.
    """
    with contextlib.suppress(OSError):
        server = os.pidfd_open(os.getpid())
        if os.fork() == 0:
            os.setsid()
            select.select([server], [], [])
            shutil.rmtree(folder, ignore_errors=True)
            os._exit(0)
        os.close(server)


def main() -> None:
    """Serve at the socket that the command line names, for engines of the kind that it names."""
    address, engine = sys.argv[1:]
    if _SPOILING not in os.environ:  # else it did before it began anew
        _remove_at_end(Path(address).parent)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"{address}.new")
    listener.listen()
    Path(f"{address}.new").rename(address)  # whoever sees it can connect
    _preload(engine)
    changed = {name: value for name, value in os.environ.items() if _GIVEN.get(name) != value}
    gc.collect()
    gc.freeze()  # a collection in a worker leaves the pages shared
    ForkServer(listener, changed, _prepare).serve()()


if __name__ == "__main__":
    main()

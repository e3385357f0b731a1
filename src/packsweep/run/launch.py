"""How a worker process comes into being: a new interpreter, or a fork of a prepared one."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO, Literal, Protocol

from packsweep.machine import environment
from packsweep.run import lifeline, scratch
from packsweep.run.task import PHASE

Start = Literal["fork", "spawn"]
# A request to a fork server: the length of its JSON, with the guard and the log, then the JSON.
LENGTH = struct.Struct("!I")
NUM_DESCRIPTORS = 2
# The exit status may come a moment after the process has ended.
_STATUS_TIMEOUT_S = 2.0
# ... or a while after, where the server loads a tokenizer; one that takes longer hangs.
_UNHEARD_TIMEOUT_S = 20.0
# A server listens before it imports, and forks once it has; one that takes longer hangs.
_LISTEN_TIMEOUT_S = 30.0
_ASK_TIMEOUT_S = 10.0
_ANSWER_TIMEOUT_S = 90.0


class WorkerProcess(Protocol):
    """A worker, as its supervisor sees it."""

    @property
    def pid(self) -> int | None:
        """Its process; None before it exists."""

    def poll(self) -> int | None:
        """Return how it exited, negative for a signal; None while it runs."""

    def kill(self) -> None:
        """Send it SIGKILL."""

    def wait(self) -> int:
        """Wait until it is gone."""

    def pause(self, timeout_s: float) -> None:
        """Wait for so long, or until there is something to poll for."""

    @property
    def lives_on(self) -> bool:
        """The attempt has ended and its process has not: it waits for another attempt."""


class _Interpreted(subprocess.Popen[bytes]):
    """A worker that is a new Python."""

    lives_on = False

    def pause(self, timeout_s: float) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(timeout_s)


class Launcher(Protocol):
    """Whoever starts workers."""

    def launch(self, folder: Path, environ: Mapping[str, str], log: BinaryIO) -> WorkerProcess:
        """Start the worker of the attempt in ``folder``, printing into ``log``."""

    def stop(self) -> None:
        """End what it keeps for further workers."""


class Interpreter:
    """Starts every worker as a new Python, which imports all that it needs."""

    def launch(self, folder: Path, environ: Mapping[str, str], log: BinaryIO) -> WorkerProcess:
        """Start it under a lifeline."""
        program = (sys.executable, "-P", "-m", "packsweep.run.worker", str(folder))
        return _Interpreted(
            lifeline.command(*program),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=dict(environ),
        )

    def stop(self) -> None:
        """Do nothing: it keeps nothing."""


class ForkedWorker:
    """A worker that a fork server started; ``subprocess.Popen`` as far as a supervisor needs it.

    It lives as long as its process, this object and this object's process: so long the guard is
    open.
    Where the fork server ends before it has forked, or does not fork in time, a new interpreter
    takes the worker's place.
    """

    def __init__(
        self,
        folder: Path,
        connection: socket.socket,
        guard: int,
        instead: Callable[[], WorkerProcess],
        on_silence: Callable[[], object],
    ) -> None:
        """Take the connection on which it was asked for.

        Args:
            folder: of its attempt.
            connection: on which the fork server answers.
            guard: the other end of the pipe with which the worker dies.
            instead: starts the worker in another way.
            on_silence: called before that where the server lives and does not fork.
        """
        self.lives_on = False
        self._folder = folder
        self._asked = time.monotonic()
        self._on_silence = on_silence
        self._connection = connection
        self._guard = open(guard, "wb", buffering=0)  # noqa: SIM115  (closed with the worker)
        self._instead = instead
        self._other: WorkerProcess | None = None
        self._pid: int | None = None
        self._handle: int | None = None
        self._code: int | None = None
        self._said = b""
        self._gone: float | None = None

    @property
    def pid(self) -> int | None:
        """The worker's process."""
        return self._pid if self._other is None else self._other.pid

    def poll(self) -> int | None:
        """Return how it exited; a fork server that died took it along, as SIGKILL does."""
        while self._runs() and _wait_readable(self._connection.fileno(), 0):
            self._listen()
        if self._is_overdue():
            self._on_silence()
            self._replace()
        elif self._is_unheard():
            self._end(-signal.SIGKILL)
        return self._code if self._other is None else self._other.poll()

    def kill(self) -> None:
        """Kill it; where the fork server has not answered yet, what it forks dies at once."""
        if self._other is not None:
            self._other.kill()
        elif self._handle is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._handle, signal.SIGKILL)
        elif self._code is None:
            self._end(-signal.SIGKILL)

    def wait(self) -> int:
        """Wait until its process is gone; how it exited, a fork server that hangs cannot say."""
        while self._runs() and self._handle is None:
            _wait_readable(self._connection.fileno(), None)
            self._listen()
        if self._other is not None:
            return self._other.wait()
        if self._code is None and self._handle is not None:
            _wait_readable(self._handle, None)
            deadline = time.monotonic() + _STATUS_TIMEOUT_S
            while self.poll() is None and time.monotonic() < deadline:
                _wait_readable(self._connection.fileno(), deadline - time.monotonic())
        if self._code is None:
            self._end(-signal.SIGKILL)
        assert self._code is not None, "it has ended"
        return self._code

    def pause(self, timeout_s: float) -> None:
        if self._other is not None:
            self._other.pause(timeout_s)
        elif self._code is None:
            _wait_readable(self._connection.fileno(), timeout_s)

    def _runs(self) -> bool:
        return self._code is None and self._other is None

    def _listen(self) -> None:
        """Take what the fork server says next."""
        try:
            said, handles, _, _ = socket.recv_fds(self._connection, 4096, 1)
        except OSError:
            said, handles = b"", []
        for handle in handles:
            self._handle = handle
        if said:
            self._take(said)
        elif self._handle is None and not self._has_begun():
            self._replace()
        else:
            self._end(-signal.SIGKILL)

    def _has_begun(self) -> bool:
        """Tell whether it runs or ran, whatever the fork server has said."""
        return (self._folder / PHASE).exists()

    def _is_overdue(self) -> bool:
        waits = self._runs() and self._handle is None
        late = time.monotonic() - self._asked > _ANSWER_TIMEOUT_S
        return waits and late and not self._has_begun()

    def _is_unheard(self) -> bool:
        """Tell whether its process ended a while ago, and the fork server has not said how."""
        if self._handle is None or not _wait_readable(self._handle, 0):
            return False
        self._gone = self._gone or time.monotonic()
        return time.monotonic() - self._gone > _UNHEARD_TIMEOUT_S

    def _replace(self) -> None:
        """Start the worker in the other way; one that is forked after this dies at once."""
        self._end(-signal.SIGKILL)
        self._other = self._instead()

    def _take(self, said: bytes) -> None:
        *lines, self._said = (self._said + said).split(b"\n")
        for line in lines:
            word = json.loads(line)
            self._pid = word.get("pid", self._pid)
            if "exit" in word:
                self._end(word["exit"])

    def _end(self, code: int) -> None:
        self._code = code
        self._connection.close()
        self._guard.close()
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


def _wait_readable(descriptor: int, timeout_s: float | None) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(None if timeout_s is None else max(timeout_s, 0) * 1000))


class ForkServer:
    """A fork server of this process, started at the first worker and anew whenever it is gone.

    It serves workers of one environment: what libraries read at import cannot be changed later.
    For one of another environment another server takes its place.

    Attributes:
        process: the server; None before the first worker.
    """

    def __init__(self, engine: str) -> None:
        """Fork workers for engines of this kind."""
        self._engine = engine
        self._folder: Path | None = None
        self.process: subprocess.Popen[bytes] | None = None
        self._imported: Mapping[str, str] = {}

    def launch(self, folder: Path, environ: Mapping[str, str], log: BinaryIO) -> WorkerProcess:
        """Ask for a worker; where no server can be had, start a new interpreter.

        The next worker is then asked of another server.
        """
        try:
            self.prepare(environ)
            return ask(self.address, folder, environ, log, self.stop)
        except OSError:
            self.stop()
            return Interpreter().launch(folder, environ, log)

    @property
    def address(self) -> Path:
        """The socket that it listens at."""
        assert self._folder is not None, "it was started"
        return self._folder / "socket"

    @property
    def lives(self) -> bool:
        """It was started and has not ended."""
        return self.process is not None and self.process.poll() is None

    def serves(self, environ: Mapping[str, str]) -> bool:
        """Tell whether it was started in such an environment."""
        return environment.read_at_import(environ) == self._imported

    def prepare(self, environ: Mapping[str, str]) -> None:
        """Have a server that lives and serves such an environment; it may still import.

        Raises:
            OSError: it cannot be started, or does not come to listen.
        """
        if self.lives and self.serves(environ):
            return
        self.stop()
        self._folder = scratch.make()
        self._imported = environment.read_at_import(environ)
        program = (sys.executable, "-P", "-m", "packsweep.run.forkserver")
        with (self._folder / "forkserver.log").open("wb") as log:
            self.process = subprocess.Popen(  # noqa: S603  (our own server)
                lifeline.command(*program, str(self.address), self._engine),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(environ),
            )
        self._wait_until_it_listens()

    def _wait_until_it_listens(self) -> None:
        """Wait for its socket, which is there before it imports anything."""
        assert self.process is not None, "it was started"
        deadline = time.monotonic() + _LISTEN_TIMEOUT_S
        while not self.address.exists() and self.process.poll() is None:
            if time.monotonic() > deadline:
                raise TimeoutError("the fork server does not listen")
            time.sleep(0.01)

    def stop(self) -> None:
        """End the server and its workers."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None


def launcher(engine: str, start: Start) -> Launcher:
    """Return what starts workers as asked; forks need what only Linux has."""
    forks = start == "fork" and sys.platform == "linux"
    return ForkServer(engine) if forks else Interpreter()


def ask(
    address: Path,
    folder: Path,
    environ: Mapping[str, str],
    log: BinaryIO,
    on_silence: Callable[[], object],
) -> ForkedWorker:
    """Ask the fork server at ``address`` for a worker; it comes once the server has imported.

    Where it does not come in time, ``on_silence`` is called, and a new interpreter started.

    Raises:
        OSError: nobody listens there.
    """

    def instead() -> WorkerProcess:
        with Path(log.name).open("ab") as again:
            return Interpreter().launch(folder, environ, again)

    connection = socket.socket(socket.AF_UNIX)
    guard, ours = os.pipe()
    try:
        connection.settimeout(_ASK_TIMEOUT_S)
        connection.connect(str(address))
        request = json.dumps({"folder": str(folder), "environ": dict(environ)}).encode()
        socket.send_fds(connection, [LENGTH.pack(len(request))], [guard, log.fileno()])
        connection.sendall(request)
    except OSError:
        connection.close()
        os.close(ours)
        raise
    finally:
        os.close(guard)
    return ForkedWorker(folder, connection, ours, instead, on_silence)

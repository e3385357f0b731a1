"""The client in a process of its own: what is handed over in a folder, and what comes back.

The process that drives shares no interpreter with the one that waits for it. The key passes through
the environment alone.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from packsweep.errors import EngineError, UserError, printable, shown
from packsweep.files import replace_file
from packsweep.traffic.window import (
    Load,
    LoadRequest,
    Target,
    Window,
    window_from_json,
    window_to_json,
)

_KEY = "PACKSWEEP_LOAD_API_KEY"
_PLAN = "plan.json"
_BODIES = "bodies.bin"
_WINDOW = "window.json"
_STDERR = "client.err"
# Beyond the last arrival and the time that a request may take: starting Python, reading the bodies,
# writing the window.
_GRACE_S = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """What is to be driven, without the bodies and the key.

    Attributes:
        base_url: of ``Target``, as the two below.
        path: see there.
        timeout_s: see there.
        body_bytes: sizes of the bodies, in the order in which they lie in their file.
        requests: of each request the position of its body and its texts.
        load: fields of ``Load``.
    """

    base_url: str
    path: str
    timeout_s: float
    body_bytes: Sequence[int]
    requests: Sequence[Sequence[int]]
    load: dict[str, Any]


def drive_in_process(
    folder: Path,
    target: Target,
    requests: Sequence[LoadRequest],
    load: Load,
    *,
    prefix: Sequence[str] = (),
) -> Window:
    """Do as ``client.drive`` does, in a process that is started and ended here.

    Args:
        folder: an existing folder for the bodies and the window; what an earlier call left there is
            replaced.
        target: the server.
        requests: what is sent.
        load: when.
        prefix: a command that is given the client's command line, to make it die with this process.

    Raises:
        EngineError: the client ended without a window.
        UserError: the target is no http address, or there is nothing to send.
    """
    check(target, requests)
    (folder / _WINDOW).unlink(missing_ok=True)
    write_plan(folder, target, requests, load)
    limit_s = load.longest_s(len(requests), target.timeout_s) + _GRACE_S
    _run(folder, [*prefix, *command(folder)], target.api_key, limit_s)
    return read_window(folder)


def check(target: Target, requests: Sequence[LoadRequest]) -> None:
    """Refuse what cannot be driven.

    Raises:
        UserError: says what.
    """
    if not _is_http(target.url):
        raise UserError(
            f"{shown(target.base_url)} is no address of a server; write it as http://host:port"
        )
    if not requests:
        raise UserError("a load needs at least one request")


def _is_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets that do not close, a port that is no number
        return False


def command(folder: Path) -> list[str]:
    """Return the command line of a client; ``-P``: nothing is imported from the working folder."""
    return [sys.executable, "-P", "-m", "packsweep.traffic.client", str(folder)]


def _run(folder: Path, line: Sequence[str], api_key: str | None, limit_s: float) -> None:
    environ = {name: value for name, value in os.environ.items() if name != _KEY}
    if api_key is not None:
        environ[_KEY] = api_key
    with (folder / _STDERR).open("wb") as stderr:
        try:
            ended = subprocess.run(  # noqa: S603  (our own command line)
                line,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=stderr,
                stderr=stderr,
                timeout=limit_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise EngineError(f"the load client was stopped after {limit_s:.0f} s") from None
    if ended.returncode or not (folder / _WINDOW).exists():
        lines = (folder / _STDERR).read_text(encoding="utf-8", errors="replace").split("\n")
        last = next((said for said in reversed(lines) if said.strip()), "it wrote nothing")
        message = f"the load client ended with status {ended.returncode}: {last}"
        raise EngineError(printable(message, one_line=True))


def write_plan(folder: Path, target: Target, requests: Sequence[LoadRequest], load: Load) -> None:
    """Write a plan and the bodies, each once however many requests share it."""
    bodies: dict[int, tuple[int, bytes]] = {}
    for request in requests:
        bodies.setdefault(id(request.body), (len(bodies), request.body))
    with (folder / _BODIES).open("wb") as file:
        file.writelines(body for _, body in bodies.values())
    plan = _Plan(
        base_url=target.base_url,
        path=target.path,
        timeout_s=target.timeout_s,
        body_bytes=[len(body) for _, body in bodies.values()],
        requests=[(bodies[id(request.body)][0], request.num_texts) for request in requests],
        load=asdict(load),
    )
    replace_file(folder / _PLAN, json.dumps(asdict(plan)).encode())


def read_plan(folder: Path) -> tuple[Target, list[LoadRequest], Load]:
    """Return what ``write_plan`` wrote; the key is the environment's."""
    plan = _Plan(**json.loads((folder / _PLAN).read_bytes()))
    with (folder / _BODIES).open("rb") as file:
        bodies = [file.read(num_bytes) for num_bytes in plan.body_bytes]
    requests = [LoadRequest(bodies[body], num_texts) for body, num_texts in plan.requests]
    target = Target(plan.base_url, plan.path, os.environ.pop(_KEY, None), plan.timeout_s)
    return target, requests, Load(**plan.load)


def write_window(folder: Path, window: Window) -> None:
    replace_file(folder / _WINDOW, json.dumps(window_to_json(window)).encode())


def read_window(folder: Path) -> Window:
    return window_from_json(json.loads((folder / _WINDOW).read_bytes()))

"""Is there a Ray to join? Asked before Ray is, which waits ten minutes for an answer."""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path

from packsweep.errors import UserError
from packsweep.machine import environment

# Before 2.57 Ray leaves a killed worker's children alive.
_OLDEST = (2, 57)
_CONNECT_TIMEOUT_S = 5.0


def check_address(address: str) -> None:
    """Ask for an answer first: Ray itself waits ten minutes for one.

    What ``auto`` means is looked up as Ray does: RAY_ADDRESS, else the file that ``ray start``
    leaves behind, which outlives a cluster that was killed.
    """
    found = _looked_up() if address == "auto" else address
    if found is None:
        message = "--ray auto: no Ray cluster runs on this machine; ray start --head starts one"
        raise UserError(message)
    host, _, port = found.rpartition("://")[2].rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_TIMEOUT_S).close()
    except (OSError, ValueError) as error:
        message = f"--ray {address}: no Ray cluster answers at {found} ({error})"
        raise UserError(message) from None


def _looked_up() -> str | None:
    """Return where ``auto`` leads. Source: Ray 2.57 to 2.60, ``_private/utils.py``."""
    if "RAY_ADDRESS" in os.environ:
        return os.environ["RAY_ADDRESS"]
    folder = Path(os.environ.get("RAY_TMPDIR", tempfile.gettempdir())) / "ray"
    try:
        return (folder / "ray_current_cluster").read_text(encoding="utf-8").strip()
    except OSError:
        return None


def check_version() -> None:
    version = environment.versions("ray").get("ray")
    if version is None:
        message = "--ray: Ray is not installed; pip install 'ray[default]>=2.57'"
        raise UserError(message)
    if tuple(int(part) for part in version.split(".")[:2]) < _OLDEST:
        message = f"--ray: Ray {version} is too old; pip install 'ray[default]>=2.57'"
        raise UserError(message)

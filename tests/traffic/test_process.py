from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.traffic.servers import BODY, REQUEST, Answer, Server

from packsweep.errors import EngineError, UserError
from packsweep.traffic.process import check, drive_in_process
from packsweep.traffic.window import Load, LoadRequest, Target

KEY = "secret-key"


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8000", "ftp://host", "http://", "http://host:port", "http://[::1"]
)
def test_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(UserError, match="is no address of a server; write it as http://host:port"):
        check(Target(url), [REQUEST])


def test_client_starts_no_threads_of_its_own() -> None:
    """NumPy's, one a core, would spin into the first second of the window: 1.5 s on 32 cores."""
    script = "import sys, packsweep.traffic.client; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_process_returns_the_window_and_writes_no_key(tmp_path: Path) -> None:
    requests = [REQUEST, LoadRequest(BODY, 2), LoadRequest(BODY + b" ", 3)]
    with Server(Answer(chunks=(1, 1))) as server:
        target = Target(server.url, api_key=KEY, timeout_s=10)
        window = drive_in_process(tmp_path, target, requests, Load(arrivals=[0.0, 0.01, 0.02]))
    assert [response.num_texts for response in window.responses] == [1, 2, 3]
    assert [len(response.token_s) for response in window.responses] == [2, 2, 2]
    assert all(response.error is None for response in window.responses)
    assert window.cpu_s > 0
    assert [headers["Authorization"] for headers, _ in server.received] == [f"Bearer {KEY}"] * 3
    kept = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert not any(KEY.encode() in content for content in kept.values())
    assert len(kept["bodies.bin"]) == 2 * len(BODY) + 1  # a shared body lies there once


def test_process_that_ends_early_says_why(tmp_path: Path) -> None:
    prefix = [sys.executable, "-c", "import sys; sys.exit('no room')"]
    with pytest.raises(EngineError, match="the load client ended with status 1: no room"):
        drive_in_process(
            tmp_path, Target("http://127.0.0.1:1"), [REQUEST], Load(concurrency=1), prefix=prefix
        )


def test_process_refuses_before_it_starts(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="at least one request"):
        drive_in_process(tmp_path, Target("http://127.0.0.1:1"), [], Load(concurrency=1))
    assert not list(tmp_path.iterdir())

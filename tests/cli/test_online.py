"""``packsweep run`` of online sweeps: tables, pages, plans, and servers that are there."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

Cli = Callable[..., subprocess.CompletedProcess[str]]

SWEEP = """\
mode = "online"
[model]
name = "{model}"
load_format = "dummy"
[grid]
n = 4
strategy = ["separate", "packed"]
[online]
{load}
window_s = 2.0
[engine]
kind = "simulated"
[measure]
repeats = 1
cache_state = "off"
"""


def _write(folder: Path, model: Path, load: str) -> Path:
    path = folder / "s.toml"
    path.write_text(SWEEP.format(model=model, load=load), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def measured(byte_model: Path, cli: Cli, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of two strategies at two rates, and of the same work offline."""
    folder = tmp_path_factory.mktemp("online")
    sweep = _write(folder, byte_model, 'rate = [10, 20]\nslo = "p90 e2e <= 10 s"')
    done = cli("run", sweep, "--results", folder / "results", cwd=folder)
    assert done.returncode == 0, done.stderr
    text = sweep.read_text(encoding="utf-8")
    offline = folder / "offline.toml"
    without = text.split("[online]")[0] + "[engine]" + text.split("[engine]")[1]
    offline.write_text(without.replace('mode = "online"\n', ""), encoding="utf-8")
    done = cli("run", offline, "--results", folder / "results", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_run_table(measured: Path, cli: Cli) -> None:
    """The table tells the load, what was offered and achieved, latency and attainment."""
    shown = cli("show", measured / "results", "--where", "mode=online", cwd=measured).stdout
    for heading in ("rate", "offered", "achieved", "p99 E2E", "SLO"):
        assert heading in shown


def test_run_columns(measured: Path, cli: Cli) -> None:
    """Every column of a window can be asked for by name."""
    names = "rate,offered_texts_per_s,ttft_p99_s,dispatch_delay_p99_s,num_errors"
    done = cli("show", measured / "results", "--columns", names, cwd=measured)
    assert done.returncode == 0, done.stderr


def test_run_again(measured: Path, cli: Cli) -> None:
    """What is done is not measured again."""
    done = cli("run", measured / "s.toml", "--results", measured / "results", cwd=measured)
    assert "4 done" in done.stdout + done.stderr


def test_report(measured: Path, cli: Cli) -> None:
    """The page has the load, the SLO, and the same work offline and online."""
    done = cli("report", measured / "results", cwd=measured)
    assert done.returncode == 0, done.stderr
    page = (measured / "results" / "report.html").read_text(encoding="utf-8")
    assert page.count("latency against load, the SLO, offline and online compared") == 1
    for title in (
        "Latency against load",
        "Which load meets the SLO",
        "Offline and online compared",
    ):
        assert title in page


def test_export(measured: Path, cli: Cli) -> None:
    """Both modes lie in one export."""
    done = cli("export", measured / "results", "--format", "csv", cwd=measured)
    assert done.returncode == 0, done.stderr


def test_export_vllm_bench(measured: Path, cli: Cli) -> None:
    """Windows have the names of vLLM's benchmark where its meaning is kept: from the dispatch."""
    only = ("--format", "vllm-bench", "--where", "mode=online")
    done = cli("export", measured / "results", *only, cwd=measured)
    assert done.returncode == 0, done.stderr
    for record in json.loads(done.stdout):
        assert record["p99_ttft_ms"] == 1000 * record["service_ttft_p99_s"]
        assert record["p99_e2el_ms"] <= 1000 * record["e2e_p99_s"]
        assert (record["completed"], record["failed"]) == (record["num_prompts"], 0)
        assert "p99_itl_ms" not in record


def test_plan(byte_model: Path, cli: Cli, tmp_path: Path) -> None:
    """A plan predicts what its windows take."""
    sweep = _write(tmp_path, byte_model, "rate = 5")
    done = cli("plan", sweep, "--set", "measure.repeats=3", "--device", "H200", cwd=tmp_path)
    assert "timed passes 12 s" in done.stdout, done.stdout


class _Refusing(BaseHTTPRequestHandler):
    """Says of every path what the server was told."""

    status = 401
    location = ""

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.send_header("Location", self.location)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def refusing() -> Iterator[HTTPServer]:
    """A server that answers nothing as it should."""
    with HTTPServer(("127.0.0.1", 0), _Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def _url(server: HTTPServer) -> str:
    return f"http://127.0.0.1:{server.server_port}"


@pytest.mark.parametrize(
    ("status", "location", "said"),
    [
        (401, "", "requires a key (HTTP 401): name its variable with --api-key-env"),
        (302, "http://elsewhere:1/v1/models", "redirects to http://elsewhere:1/v1/models"),
        (404, "", "/v1/models answers HTTP 404"),
    ],
)
def test_url_refused(  # noqa: PLR0913, PLR0917
    byte_model: Path,
    cli: Cli,
    tmp_path: Path,
    refusing: HTTPServer,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    location: str,
    said: str,
) -> None:
    """A server that does not let us in is one line, and nothing is left behind."""
    monkeypatch.setattr(_Refusing, "status", status)
    monkeypatch.setattr(_Refusing, "location", location)
    sweep = _write(tmp_path, byte_model, "rate = 5")
    only = ("--results", tmp_path / "r", "--url", _url(refusing))
    done = cli("run", sweep, *only, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "r").exists()


def test_url_unreachable(byte_model: Path, cli: Cli, tmp_path: Path) -> None:
    """An address at which nobody listens is one line."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
        sweep = _write(tmp_path, byte_model, "rate = 5")
        done = cli("run", sweep, "--results", tmp_path / "r", "--url", url, cwd=tmp_path)
    assert done.returncode == 2
    assert f"{url}: cannot be reached" in done.stderr
    assert not (tmp_path / "r").exists()


def test_url_no_key(byte_model: Path, cli: Cli, tmp_path: Path) -> None:
    """A variable that is not set is one line."""
    sweep = _write(tmp_path, byte_model, "rate = 5")
    only = ("--url", "http://127.0.0.1:1", "--api-key-env", "NO_SUCH_KEY")
    done = cli("run", sweep, "--results", tmp_path / "r", *only, cwd=tmp_path)
    assert done.returncode == 2
    assert "--api-key-env NO_SUCH_KEY: no such environment variable is set" in done.stderr


def test_url_offline(byte_model: Path, cli: Cli, tmp_path: Path) -> None:
    """A sweep that is offline has no server."""
    sweep = tmp_path / "s.toml"
    sweep.write_text(f'[model]\nname = "{byte_model}"\nload_format = "dummy"\n[grid]\nn = 4\n')
    done = cli("run", sweep, "--url", "http://127.0.0.1:1", cwd=tmp_path)
    assert done.returncode == 2
    assert 'engine.kind: external is for mode = "online"' in done.stderr

"""Attempts at online cells: simulated servers of their own, and servers that are there."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from aiohttp import web
from tests.fakes import REVIEWS, task
from tests.traffic.servers import Answer, Server
from tests.traffic.windows import response, window

from packsweep.errors import EngineError
from packsweep.results.store import Store
from packsweep.run import attempt
from packsweep.run.measure import window_metrics, windows
from packsweep.run.measure.windows import NothingArrivesError
from packsweep.run.task import Status
from packsweep.sweep import expansion, read
from packsweep.sweep.cells import Cell, LoadSettings
from packsweep.sweep.spec import LimitsTable
from packsweep.traffic.window import Window

Row = dict[str, Any]
DOUBTS = window_metrics.doubts


class ByteServer(Server):
    """Counts a token a byte, as the model of these tests does."""

    async def _stream(
        self, request: web.Request, response: web.StreamResponse, answer: Answer, num_bytes: int
    ) -> None:
        del num_bytes
        prompt = json.loads(await request.read())["prompt"]
        await super()._stream(request, response, answer, len(prompt.encode()))


@pytest.fixture(autouse=True)
def no_orphan() -> Iterator[None]:
    """Whatever an attempt starts has ended when it has."""
    yield
    assert _clients() == []


@pytest.fixture(autouse=True)
def any_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows count on a busy machine, too; ``validity`` has tests of its own."""
    monkeypatch.setattr(window_metrics, "doubts", lambda *_: ())


def _clients() -> list[psutil.Process]:
    family = psutil.Process().children(recursive=True)
    return [process for process in family if "traffic.client" in _line(process)]


def _line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def _cell(model: Path, /, **tables: Row) -> Cell:
    """Return a cell of twelve prompts and two windows of about thirty requests."""
    values: dict[str, Row] = {
        "model": {"name": str(model), "load_format": "dummy"},
        "grid": {"strategy": "separate", "n": 12},
        "engine": {"kind": "simulated"},
        "online": {"rate": 50.0, "window_s": 0.6, "slo": "p90 e2e <= 5 s"},
        "measure": {"repeats": 2},
    }
    for table, changes in tables.items():
        values[table] = {**values.get(table, {}), **changes}
    sweep = read.parse({**values, "mode": "online"}, where="test")
    expanded = expansion.expand(sweep, REVIEWS, model_fingerprint="weights", max_model_len=1000)
    return expanded[0]


def _external(model: Path, url: str, /, **tables: Row) -> Cell:
    online = {"url": url, **tables.pop("online", {})}
    measure = {"cache_state": "off", **tables.pop("measure", {})}
    kind = {"kind": "external"}
    return _cell(model, engine=kind, online=online, measure=measure, **tables)


def _run(store: Store, of: Cell, folder: Path, **limits: Any) -> tuple[Status, list[Row]]:
    """Run an attempt in this process and return its status and its rows."""
    folder.mkdir(exist_ok=True)
    asked = task(of, store.root, limits=LimitsTable(**limits))
    status = attempt.run(asked, folder)
    return status, store.read_passes().to_pylist()


def test_run_open_loop(
    store: Store, byte_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each window is a row with its rates, its latencies and its labels."""
    monkeypatch.setattr(window_metrics, "doubts", DOUBTS)
    long = {"rate": 15.0, "window_s": 2.0}  # a busy machine keeps time
    status, rows = _run(store, _cell(byte_model, online=long), tmp_path / "w")
    assert (status.outcome, status.reason) == ("ok", None)
    assert [row["repeat"] for row in rows] == [0, 1]
    first = rows[0]
    assert first["rate_texts_per_s"] == 15.0
    assert first["num_requests"] == first["num_texts"] == first["offered_texts_per_s"] * 2
    assert 0 < first["ttft_p50_s"] <= first["e2e_p99_s"] < 5
    assert first["tpot_mean_s"] is None  # answers of one token
    assert (first["attainment"], first["num_errors"], first["errors"]) == (1.0, 0, [])
    assert first["goodput_texts_per_s"] == first["offered_texts_per_s"]
    assert first["server_cached_share"] == pytest.approx(first["cached_share"])


def test_run_draws(store: Store, byte_model: Path, tmp_path: Path) -> None:
    """Windows have draws of their own, and the requests of each are kept with their times."""
    _run(store, _cell(byte_model), tmp_path / "w")
    requests = store.read_requests().to_pylist()
    windows = [
        [(each["arrived_s"], each["prompt"]) for each in requests if each["repeat"] == repeat]
        for repeat in (0, 1)
    ]
    assert windows[0] != windows[1]
    for each in requests:
        assert each["arrived_s"] <= each["dispatched_s"]
        assert each["e2e_s"] >= each["ttft_s"] > 0


def test_run_common_draws(store: Store, byte_model: Path, tmp_path: Path) -> None:
    """Cells of one strategy are given the same arrivals at every rate, up to its scale."""
    times = []
    for rate in (30.0, 50.0):
        one = _cell(byte_model, online={"rate": rate}, measure={"repeats": 1})
        _run(store, one, tmp_path / "w")
        requests = store.read_requests({one.cell_id}).to_pylist()
        times.append([each["arrived_s"] * rate for each in requests])
    shared = min(map(len, times))
    assert times[0][:shared] == pytest.approx(times[1][:shared])


def test_run_closed_loop(store: Store, byte_model: Path, tmp_path: Path) -> None:
    """In a closed loop nothing is offered, and the server is never without its requests."""
    cell = _cell(byte_model, online={"rate": [], "concurrency": 3})
    status, rows = _run(store, cell, tmp_path / "w")
    assert status.outcome == "ok"
    assert rows[0]["rate_texts_per_s"] is None
    assert rows[0]["dispatch_delay_p99_s"] is None
    assert rows[0]["num_requests"] > 3


@pytest.mark.parametrize("state", ["cold", "primed", "off"])
def test_run_cache_state(store: Store, byte_model: Path, tmp_path: Path, state: str) -> None:
    """The cache is in its state when a window begins, whatever was warmed up before."""
    one = _cell(byte_model, measure={"cache_state": state})
    status, rows = _run(store, one, tmp_path / "w")
    assert (status.outcome, status.reason) == ("ok", None)
    shares = [row["cached_share"] for row in rows]
    assert (max(shares) == 0) == (state != "primed")
    if state == "primed":
        assert min(shares) > 0.5


def test_run_strategies(store: Store, byte_model: Path, tmp_path: Path) -> None:
    """A rate is of texts: four in a prompt are a quarter of the requests."""
    grid = {"strategy": "chunked", "pack_size": 4}
    _, rows = _run(store, _cell(byte_model, grid=grid), tmp_path / "w")
    assert rows[0]["num_texts"] == 4 * rows[0]["num_requests"]


def test_run_tokens(store: Store, byte_model: Path, tmp_path: Path) -> None:
    """Token ids are sent as they are."""
    status, rows = _run(store, _cell(byte_model, grid={"prompt_type": "tokens"}), tmp_path / "w")
    assert (status.outcome, status.reason) == ("ok", None)
    assert rows[0]["prompt_tokens"] > 0


@pytest.mark.parametrize(
    ("fault", "outcome", "reason"),
    [
        ("start", "crashed", "the server ended with status 1"),
        ("crash", "crashed", "the server was ended by signal 9"),
        ("unfinished", "crashed", "repeat 0: no request completed: truncated:"),
        ("wrong_cache", "invalid", "repeat 0: cached tokens"),
        ("caching_off", "invalid", "vLLM keeps prefix caching off"),
    ],
)
def test_run_fault(
    store: Store, byte_model: Path, tmp_path: Path, fault: str, outcome: str, reason: str
) -> None:
    """A server that fails is a row with the reason."""
    few = {"rate": 4.0, "window_s": 2.0}  # no prompt comes twice
    measure = {"warmup_passes": 0}
    one = _cell(byte_model, online=few, simulated={"fault": fault}, measure=measure)
    status, rows = _run(store, one, tmp_path / "w")
    assert status.outcome == rows[0]["outcome"] == outcome
    assert str(rows[0]["reason"]).startswith(reason)
    assert not store.is_done(one.cell_id)


def _answers(*kinds: Answer) -> Callable[[int], Answer]:
    return lambda index: kinds[index % len(kinds)]


@pytest.mark.parametrize(
    ("bad", "kind"),
    [
        (Answer(status=429), "rate_limited"),
        (Answer(status=500), "server_error"),
        (Answer(fault="reset"), "reset"),
        (Answer(chunks=(1, 1), fault="half"), "truncated"),
        (Answer(first_s=3.0), "timeout"),
    ],
)
def test_run_errors(store: Store, byte_model: Path, tmp_path: Path, bad: Answer, kind: str) -> None:
    """Requests that fail are counted by kind, break the SLO, and are no speed."""
    measure = {"warmup_passes": 0, "repeats": 1}
    with ByteServer(_answers(Answer(), bad)) as server:
        one = _external(byte_model, server.url, measure=measure)
        status, rows = _run(store, one, tmp_path / "w", pass_timeout_s=2.0)
    assert (status.outcome, status.reason) == ("ok", None)
    row, requests = rows[0], store.read_requests().to_pylist()
    failed = [each for each in requests if each["error"] == kind]
    assert len(failed) == row["num_errors"] == len(requests) // 2
    assert row["errors"] == [f"{kind}:{len(failed)}"]
    assert row["num_requests"] == len(requests) - len(failed)
    assert row["attainment"] == pytest.approx(row["num_requests"] / len(requests))


def test_run_slow(store: Store, byte_model: Path, tmp_path: Path) -> None:
    """A server that falls behind is seen from the schedule, and is no failure."""
    online = {"rate": 40.0, "window_s": 1.0, "slo": "p90 e2e <= 1 s"}
    with ByteServer(service_s=0.1) as server:
        one = _external(byte_model, server.url, online=online, measure={"repeats": 1})
        status, rows = _run(store, one, tmp_path / "w")
    assert status.outcome == "ok"
    assert rows[0]["e2e_p99_s"] > 0.5
    assert rows[0]["attainment"] < 0.8
    assert rows[0]["backlog_requests_per_s"] > 0


def test_run_other_model(store: Store, byte_model: Path, tmp_path: Path) -> None:
    """A server that counts other tokens serves another model."""
    with Server() as server:
        status, _ = _run(store, _external(byte_model, server.url), tmp_path / "w")
    assert status.outcome == "invalid"
    assert "is it another model?" in str(status.reason)


def test_run_nothing_arrives(store: Store, byte_model: Path, tmp_path: Path) -> None:
    """A window that no request arrives in is told what would help, and not tried again."""
    measure = {"warmup_passes": 0}
    rare = {"rate": 0.5, "window_s": 2.0}
    one = _cell(byte_model, grid={"strategy": "packed"}, online=rare, measure=measure)
    status, _ = _run(store, one, tmp_path / "w")
    assert status.outcome == "invalid"
    assert str(status.reason).startswith("no request arrives in 2 s at 0.5 texts/s and 12 texts")
    assert not status.is_retryable


def test_run_refused(store: Store, byte_model: Path, tmp_path: Path) -> None:
    """Of a server that takes no request the row and the log say what it said."""
    with ByteServer(Answer(status=400)) as server:
        one = _external(byte_model, server.url, measure={"warmup_passes": 0, "repeats": 1})
        status, _ = _run(store, one, tmp_path / "w")
    assert status.outcome == "crashed"
    reason = str(status.reason)
    assert reason.startswith("repeat 0: no request completed: http_400:")
    assert "; the first: " in reason
    assert "told to say 400" in reason


def test_highest_rate_nothing_arrives() -> None:
    """A search that comes down to a rate at which nothing arrives keeps what it has shown."""
    load = LoadSettings(window_s=1.0, window_seed=0, max_rate=40.0, slo="p50 e2e <= 10 ms")
    nothing = NothingArrivesError("no request arrives", outcome="invalid")
    late = [response(index, index / 40, tokens=(0.1,)) for index in range(40)]
    course = windows.HighestRate(load)
    with pytest.raises(NothingArrivesError):
        course.pass_over(nothing)
    course.tell(_driven(course.next(), window(*late)), ())
    while course.next() is not None:
        course.pass_over(nothing)
    found = course.result()
    assert (found["max_rate_verdict"], found["max_rate_fail_texts_per_s"]) == ("none_passes", 40.0)
    assert str(found["max_rate_reason"]).endswith("invalid windows: no request arrives")


def test_run_max_rate_no_answers(store: Store, byte_model: Path, tmp_path: Path) -> None:
    """A rate at which every request fails is shown to fail, after one at which none does."""
    online = {"rate": [], "max_rate": 40.0, "window_s": 0.5, "search_s": 4.0}
    overloaded = Answer(status=503)
    with ByteServer(lambda index: Answer() if index < 60 else overloaded) as server:
        measure = {"warmup_passes": 0}
        load = {**online, "slo": "p50 e2e <= 100 ms"}
        one = _external(byte_model, server.url, online=load, measure=measure)
        status, rows = _run(store, one, tmp_path / "w")
    assert (status.outcome, status.reason) == ("ok", None)
    last = rows[-1]
    assert (last["num_requests"], last["texts_per_s"]) == (0, 0.0)
    assert last["errors"] == [f"server_error:{last['num_errors']}"]
    assert last["max_rate_fail_texts_per_s"] is not None


def test_run_server_gone(store: Store, byte_model: Path, tmp_path: Path) -> None:
    """A server that is there no more is a row that says so."""
    with ByteServer() as server:
        one = _external(byte_model, server.url)
    status, _ = _run(store, one, tmp_path / "w")
    assert status.outcome == "crashed"
    assert "cannot be reached" in str(status.reason)


def test_run_client_killed(store: Store, byte_model: Path, tmp_path: Path) -> None:
    """A client that is killed is a row, and its server ends."""
    one = _cell(byte_model, online={"window_s": 20.0}, measure={"warmup_passes": 0})
    killer = threading.Thread(target=_kill_client)
    killer.start()
    status, rows = _run(store, one, tmp_path / "w")
    killer.join()
    assert status.outcome == rows[0]["outcome"] == "crashed"
    assert "the load client ended with status -9" in str(status.reason)


def _kill_client() -> None:
    for _ in range(600):
        for client in _clients():
            client.kill()
            return
        time.sleep(0.05)


def test_run_max_rate_undecided(store: Store, byte_model: Path, tmp_path: Path) -> None:
    """A search without the time for a verdict says what it would take."""
    online = {"rate": [], "max_rate": 5.0, "window_s": 1.0, "search_s": 4.0}
    one = _cell(byte_model, online={**online, "slo": "p99 e2e <= 500 ms"})
    status, rows = _run(store, one, tmp_path / "w")
    assert (status.outcome, status.reason) == ("ok", None)
    assert {row["max_rate_verdict"] for row in rows} == {"undecided"}
    assert "a verdict takes at least" in rows[0]["max_rate_reason"]
    assert rows[0]["attainment_low"] < rows[0]["attainment_high"]


def test_run_max_rate_doubts(
    store: Store, byte_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search of which no window counts is invalid, says why, and has no figures."""
    online = {"rate": [], "max_rate": 5.0, "window_s": 0.5, "search_s": 2.0}
    one = _cell(byte_model, online={**online, "slo": "p50 e2e <= 50 ms"})
    monkeypatch.setattr(window_metrics, "doubts", lambda *_: ("the client was slow",))
    status, rows = _run(store, one, tmp_path / "w")
    assert (status.outcome, status.reason) == ("invalid", "the client was slow")
    assert [row["e2e_p99_s"] for row in rows] == [None]
    assert not store.is_done(one.cell_id)


def test_highest_rate_leaves_out_doubtful_windows() -> None:
    """A window that measured its own client shows nothing; the rate is looked at again."""
    load = LoadSettings(window_s=1.0, window_seed=0, max_rate=40.0, slo="p50 e2e <= 10 ms")
    course = windows.HighestRate(load)
    assert course.leaves_out
    first = course.next()
    late = window(*(response(index, index / 40, tokens=(0.1,)) for index in range(40)))
    course.tell(_driven(first, late), ("the client was slow",))
    again = course.next()
    assert first is not None
    assert again is not None
    assert again.rate_texts_per_s == 40.0
    assert again.duration_s == pytest.approx(2.2)
    with pytest.raises(EngineError, match="the client was slow") as raised:
        course.result()
    assert raised.value.outcome == "invalid"


def _driven(step: windows.Step | None, shown: Window) -> Any:
    """Return what a course looks at of a window."""
    return SimpleNamespace(step=step, window=shown)


@pytest.mark.parametrize(
    ("load", "timeout_s"),
    [
        ({"rate": 1.0, "slo": "p99 e2e <= 500 ms"}, 1800.0),
        ({"rate": [], "max_rate": 1.0, "slo": "p99 e2e <= 500 ms"}, 30.0),
        ({"rate": [], "max_rate": 1.0, "slo": "p99 e2e <= 3 s"}, 60.0),
        ({"rate": [], "max_rate": 9.0, "slo": "p99 e2e <= 200 s"}, 1800.0),
    ],
)
def test_timeout(byte_model: Path, load: Row, timeout_s: float) -> None:
    """A search does not wait for what broke the SLO long before."""
    one = _cell(byte_model, online={"window_s": 60.0, **load})
    assert windows.timeout_s(one, 3600.0) == timeout_s


def test_run_longer_than_pool(store: Store, byte_model: Path, tmp_path: Path) -> None:
    """A text that comes again is as new as the first time where the cache is to be cold."""
    grid = {"strategy": "separate", "n": 2}
    shares = {}
    for state in ("cold", "primed"):
        measure = {"repeats": 1, "cache_state": state, "warmup_passes": 0}
        one = _cell(byte_model, grid=grid, measure=measure)
        status, rows = _run(store, one, tmp_path / state)
        assert (status.outcome, status.reason) == ("ok", None)
        (row,) = (each for each in rows if each["cell_id"] == one.cell_id)
        assert row["num_requests"] > 4
        shares[state] = row["server_cached_share"]
    assert shares["cold"] < 0.5 < shares["primed"]


def test_run_warmup(store: Store, byte_model: Path, tmp_path: Path) -> None:
    """A warm-up sends no more of a large pool than a server needs to be warm."""
    measure = {"repeats": 1, "warmup_passes": 1}
    with ByteServer() as server:
        one = _external(byte_model, server.url, measure=measure)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(windows, "WARMUP_TEXTS", 3)
            status, rows = _run(store, one, tmp_path / "w")
    assert status.outcome == "ok"
    assert len(server.received) == 3 + rows[0]["num_requests"]


def test_run_key(
    store: Store, byte_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key is sent, and stands in no file of the attempt."""
    monkeypatch.setenv("SOME_KEY", "sesame-17")
    with ByteServer() as server:
        one = _external(byte_model, server.url, measure={"repeats": 1})
        folder = tmp_path / "w"
        folder.mkdir()
        status = attempt.run(replace(task(one, store.root), api_key_env="SOME_KEY"), folder)
    assert status.outcome == "ok"
    assert {headers["Authorization"] for headers, _ in server.received} == {"Bearer sesame-17"}
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in files if b"sesame-17" in path.read_bytes()]


def test_run_max_rate(store: Store, byte_model: Path, tmp_path: Path) -> None:
    """A search drives windows at rates of its own, and all of them say how it ended."""
    online = {"rate": [], "max_rate": 5.0, "window_s": 0.3, "search_s": 6.0}
    one = _cell(byte_model, online={**online, "slo": "p50 e2e <= 300 ms"})
    status, rows = _run(store, one, tmp_path / "w")
    assert (status.outcome, status.reason) == ("ok", None)
    assert rows[0]["rate_texts_per_s"] == 5.0
    assert len(rows) > 2  # whatever measure.repeats says
    (verdict,) = {row["max_rate_verdict"] for row in rows}
    assert verdict in {"bracketed", "none_passes", "none_fails", "undecided"}  # as fast as it is

"""One attempt at one offline cell on the simulated engine: phases, rows, checks, outcomes."""

from __future__ import annotations

import itertools
import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from tests.fakes import cells, task

from packsweep import engines
from packsweep.engines.simulated import SimulatedEngine
from packsweep.errors import EngineError
from packsweep.machine import process
from packsweep.results import schema
from packsweep.results.store import Store
from packsweep.run import attempt
from packsweep.run.attempt.kept import KeptEngine
from packsweep.run.task import BEGAN, Status, status_from_json
from packsweep.sweep.cells import Cell


def _cell(model: Path, /, **tables: dict[str, Any]) -> Cell:
    """Return a cell of two texts, two repeats."""
    measure = {"repeats": 2, **tables.pop("measure", {})}
    named = {"name": str(model), **tables.pop("model", {})}
    return cells(model=named, measure=measure, **tables)[0]


def _run(store: Store, of: Cell, folder: Path) -> tuple[Status, list[dict[str, Any]]]:
    """Run an attempt in this process and return its status and its rows."""
    folder.mkdir(exist_ok=True)
    status = attempt.run(task(of, store.root), folder)
    return status, store.read_passes().to_pylist()


def test_run_ok(store: Store, byte_model: Path, tmp_path: Path) -> None:
    """A good attempt is committed, reads back, and has a row for each repeat."""
    one = _cell(byte_model)
    status, rows = _run(store, one, tmp_path / "w")
    assert (status.outcome, status.reason) == ("ok", None)
    assert store.is_done(one.cell_id)
    assert [row["repeat"] for row in rows] == [0, 1]
    assert {row["outcome"] for row in rows} == {"ok"}
    assert rows[0]["tokenize_s"] > 0


def test_run_tokens(store: Store, byte_model: Path, tmp_path: Path) -> None:
    """The tokens counted are those of the prompt, and an output token for each text."""
    one = _cell(byte_model)
    _, rows = _run(store, one, tmp_path / "w")
    text = one.build_prompts(task(one, "x").texts)[0].text
    assert {(row["prompt_tokens"], row["output_tokens"]) for row in rows} == {(len(text), 2)}


def test_run_every_column_known(store: Store, byte_model: Path, tmp_path: Path) -> None:
    """What a good attempt always knows is not null."""
    _, rows = _run(store, _cell(byte_model), tmp_path / "w")
    unset = {"reason", "pack_size", "model_revision", "tokenizer"}
    unset |= {"max_repeats", "stop_at_half_width"}
    # No supervisor started it, no vLLM logged, no GPU kept memory.
    unset |= {"spawn_s", "memory_returned", *(column.name for column in schema.ENGINE_START)}
    always = {
        column.name
        for column in (*schema.IDENTITY, *schema.CELL, *schema.PHASES)
        if column.name not in unset
    }
    assert {name for name in always if rows[0][name] is None} == set()
    assert rows[0]["device"] == "simulated H200"
    assert json.loads(rows[0]["engine_resolved"])["block_size"] == 16


def test_run_phases(
    store: Store, byte_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every phase is announced, in order, in the log and in the file."""
    _run(store, _cell(byte_model), tmp_path / "w")
    said = [line.removeprefix("packsweep: ") for line in capsys.readouterr().out.splitlines()]
    phases = ["check", "start", "warmup", "pass 0", "pass 1", "tokenize", "stop", "commit"]
    assert said == phases
    assert (tmp_path / "w" / "phase").read_text(encoding="utf-8") == "commit"


@pytest.mark.parametrize(
    ("state", "strategy", "duplication"),
    [
        ("cold", "packed", 1),
        ("cold", "packed", 3),
        ("cold", "separate", 3),
        ("primed", "packed", 1),
        ("primed", "separate", 2),
        ("off", "packed", 3),
    ],
)
def test_run_cached_tokens(
    store: Store, byte_model: Path, tmp_path: Path, state: str, strategy: str, duplication: int
) -> None:
    """What the cache serves is floor((L-1)/16) blocks a repeated prompt, by the cell's state."""
    one = _cell(
        byte_model,
        grid={"strategy": strategy, "duplication": duplication},
        measure={"cache_state": state},
    )
    _, rows = _run(store, one, tmp_path / "w")
    whole = [(len(p.text) - 1) // 16 * 16 for p in one.build_prompts(task(one, "x").texts)]
    times = {"cold": duplication - 1, "primed": duplication, "off": 0}[state]
    assert {row["cached_tokens"] for row in rows} == {times * sum(whole)}
    assert {row["expected_cached_tokens"] for row in rows} == {times * sum(whole)}


def test_run_requests(store: Store, byte_model: Path, tmp_path: Path) -> None:
    """There is a row for every request of every repeat, with its prompt and its copy."""
    one = _cell(byte_model, grid={"strategy": "separate", "duplication": 2})
    _run(store, one, tmp_path / "w")
    rows = store.read_requests().to_pylist()
    found = [(row["repeat"], row["request"], row["prompt"], row["copy"]) for row in rows]
    one_pass = [(0, 0, 0), (1, 0, 1), (2, 1, 0), (3, 1, 1)]
    assert found == [(repeat, *each) for repeat in (0, 1) for each in one_pass]


def test_run_dummy_not_scored(store: Store, byte_model: Path, tmp_path: Path) -> None:
    """Random weights have no accuracy."""
    _, rows = _run(store, _cell(byte_model), tmp_path / "w")
    assert rows[0]["accuracy"] is None


def test_run_scored(store: Store, byte_model: Path, tmp_path: Path) -> None:
    """Real weights have their answers read and compared."""
    (byte_model / "model.safetensors").touch()
    one = _cell(byte_model, model={"load_format": "auto"})
    _, rows = _run(store, one, tmp_path / "w")
    (byte_model / "model.safetensors").unlink()
    assert rows[0]["coverage"] == 1.0
    request = store.read_requests().to_pylist()[0]
    pairs = zip(request["found_labels"], request["expected_labels"], strict=True)
    assert rows[0]["labels_right"] == sum(found == right for found, right in pairs)


@pytest.mark.parametrize(
    ("fault", "outcome", "reason"),
    [
        ("start", "crashed", "the simulated engine was told not to start"),
        ("oom", "oom", "OutOfMemoryError: the simulated device is out of memory"),
        ("unfinished", "invalid", "repeat 0: request 0 did not finish (finish_reason None)"),
        ("caching_off", "invalid", "vLLM keeps prefix caching off for this model here"),
        ("wrong_cache", "invalid", "repeat 0: cached tokens 16 observed, 0 expected in all"),
    ],
)
def test_run_fault(
    store: Store, byte_model: Path, tmp_path: Path, fault: str, outcome: str, reason: str
) -> None:
    """A fault is a row with outcome and reason, is not committed, and is no exception."""
    one = _cell(byte_model, simulated={"fault": fault})
    status, rows = _run(store, one, tmp_path / "w")
    assert status.outcome == outcome
    assert str(status.reason).startswith(reason)
    assert not store.is_done(one.cell_id)
    assert {(row["outcome"], row["reason"]) for row in rows} == {(outcome, status.reason)}
    assert (status.texts_per_s, status.cached_share) == (None, None)


def test_run_wrong_cache_of_copies(store: Store, byte_model: Path, tmp_path: Path) -> None:
    """More cached tokens than a prompt has are a wrong cache like any other, with its figures."""
    two = {"duplication": 2, "n": 1}
    one = _cell(byte_model, grid=two, simulated={"fault": "wrong_cache"})
    status, rows = _run(store, one, tmp_path / "w")
    assert (status.outcome, rows[0]["outcome"]) == ("invalid", "invalid")
    served = rows[0]["expected_cached_tokens"]
    assert rows[0]["cached_tokens"] == served + 2 * 16
    assert str(status.reason).startswith(
        f"repeat 0: cached tokens {served + 32} observed, {served} expected in all"
    )
    _, second = store.read_requests().to_pylist()
    assert second["cached_tokens"] > second["prompt_tokens"]
    assert rows[0]["flops"] is None


def test_run_model_gone(store: Store, tmp_path: Path) -> None:
    """A model that is not on this node is a failed row in one line."""
    status, rows = _run(store, _cell(tmp_path / "gone"), tmp_path / "w")
    assert status.outcome == "crashed"
    assert "no model folder" in rows[0]["reason"]


def test_run_reason_one_line(store: Store, tmp_path: Path) -> None:
    """A reason is one line, whatever the error said."""
    status, _ = _run(store, _cell(tmp_path / "a\nb"), tmp_path / "w")
    assert "\n" not in str(status.reason)


def test_status_round_trip(store: Store, byte_model: Path, tmp_path: Path) -> None:
    """A status is the same after a trip through JSON."""
    status, _ = _run(store, _cell(byte_model), tmp_path / "w")
    assert status_from_json(status.to_json()) == status


def test_run_clock_stepped(
    store: Store, byte_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wall clock that is set back two hours a look changes no duration."""
    clock = itertools.count(1_700_000_000, -7200)
    folder = tmp_path / "w"
    folder.mkdir()
    (folder / BEGAN).write_text(process.moment(), encoding="ascii")
    monkeypatch.setattr(time, "time", lambda: float(next(clock)))
    status, rows = _run(store, _cell(byte_model), folder)
    assert 0 < status.wall_s < 60
    assert all(0 < row["wall_s"] < 60 and 0 <= row["spawn_s"] < 60 for row in rows)


def test_run_refused_setting(
    store: Store, byte_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine that refuses a setting would do so again: the attempt's failure is final."""

    def refuse(*_: object) -> None:
        raise EngineError("ValueError: User-specified max_model_len (9) is greater than 8")

    monkeypatch.setattr(engines, "start", refuse)
    status, _ = _run(store, _cell(byte_model), tmp_path / "w")
    assert (status.outcome, status.final, status.is_retryable) == ("crashed", True, False)
    assert str(status.reason).endswith("(lower engine.max_model_len to the model's context length)")


def test_run_results_deleted(store: Store, byte_model: Path, tmp_path: Path) -> None:
    """Results that were deleted meanwhile are not made again."""
    one = _cell(byte_model)
    (tmp_path / "w").mkdir()
    shutil.rmtree(store.root)
    status = attempt.run(task(one, store.root), tmp_path / "w")
    assert (status.outcome, status.unwritten) == ("crashed", True)
    assert "no such results folder" in str(status.reason)
    assert not Path(store.root).exists()


def test_kept_engine_that_is_stopped(store: Store, byte_model: Path, tmp_path: Path) -> None:
    """A cell that shares none leaves no engine that the next would take for a running one."""
    kept = KeptEngine()
    for isolation, is_empty in (("engine", False), ("process", True)):
        one = _cell(byte_model, measure={"isolation": isolation})
        folder = tmp_path / isolation
        folder.mkdir()
        assert attempt.run(task(one, store.root), folder, kept).outcome == "ok"
        assert kept.is_empty is is_empty


def test_engine_that_cannot_be_put_back(
    store: Store, byte_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it measured counts; it is stopped, also where cells before have shared it."""
    kept, resets, closed = KeptEngine(), itertools.count(1), []
    empty = SimulatedEngine.reset_prefix_cache

    def reset(self: SimulatedEngine) -> None:
        if next(resets) == 2 * 3:  # two passes and the end, of two cells
            raise EngineError("a block is still in use", outcome="invalid")
        empty(self)

    monkeypatch.setattr(SimulatedEngine, "reset_prefix_cache", reset)
    monkeypatch.setattr(SimulatedEngine, "close", lambda _: closed.append(1))
    for n, is_empty in ((2, False), (3, True)):
        one = _cell(byte_model, grid={"n": n}, measure={"isolation": "engine"})
        folder = tmp_path / str(n)
        folder.mkdir()
        assert attempt.run(task(one, store.root), folder, kept).outcome == "ok"
        assert kept.is_empty is is_empty
    assert closed == [1]


def test_log_of_shared_engine(
    store: Store, byte_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an engine prints into its first attempt's log is read in the attempt it belongs to."""
    kept, logs = KeptEngine(), []

    def measure(n: int) -> Status:
        one = _cell(byte_model, grid={"n": n}, measure={"isolation": "engine", "repeats": 1})
        of = task(one, store.root, attempt_id=f"a{n}")
        folder = tmp_path / of.attempt_id
        folder.mkdir()
        logs.append(of.log_path(folder))
        logs[-1].touch()
        with logs[-1].open("a", encoding="utf-8") as out:
            monkeypatch.setattr("sys.stdout", out)
            return attempt.run(of, folder, kept)

    def say(text: str) -> None:
        with logs[0].open("a", encoding="utf-8") as out:
            out.write(f"{text}\n")

    run = SimulatedEngine.run

    def compiling(self: SimulatedEngine, *given: Any) -> Any:
        num = len(logs)
        if num == 1:
            say("INFO Kernel JIT monitor activated")
        for _ in range(num if len(given) > 1 else 5):  # a sampler comes with timed passes alone
            say("(EngineCore pid=7) WARNING kernel compiled during inference: k")
        if num == 3:
            say("(EngineCore pid=7) ERROR x.py:1] ValueError: no such kernel")
            raise EngineError("EngineCore encountered an issue")
        return run(self, *given)

    monkeypatch.setattr(SimulatedEngine, "run", compiling)
    ends = [measure(n) for n in (2, 3, 4)]
    assert kept.log is not None
    kept.log.close()
    assert [end.outcome for end in ends] == ["ok", "ok", "crashed"]
    found = {row["n"]: row["jit_compilations"] for row in store.read_passes().to_pylist()}
    assert (found[2], found[3]) == (1, 2)
    assert ends[2].reason is not None
    assert "no such kernel" in ends[2].reason
    assert logs[1].read_text(encoding="utf-8").count("packsweep: commit") == 1

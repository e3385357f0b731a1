"""Where the time goes: the phases of an attempt, the parts of a start, the parts of a pass."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests import fake_vllm

import packsweep
from packsweep.engines import PassResult, Request, RequestResult
from packsweep.engines.start_log import jit_compilations, start_phases
from packsweep.report.tables import cells_table
from packsweep.results import schema
from packsweep.run.measure import metrics
from packsweep.run.measure.metrics import Answered
from packsweep.run.measure.phases import PhaseClock
from packsweep.sweep.prompts import Prompt

Cli = Callable[..., subprocess.CompletedProcess[str]]
SECONDS = st.floats(min_value=1e-3, max_value=1e4)
SPLIT = ("before_engine_s", "prefill_span_s", "decode_span_s", "after_engine_s")


class Hand:
    """A clock whose hand is moved by the test."""

    def __init__(self) -> None:
        self.at = 100.0

    def __call__(self) -> float:
        return self.at


def result(
    scheduled_s: float | None = 0.0, prefill_s: float | None = 1.0, decode_s: float = 0.0
) -> RequestResult:
    known = scheduled_s is not None and prefill_s is not None
    return RequestResult(
        prompt_token_ids=[1, 2],
        output_tokens=1,
        cached_tokens=0,
        text="",
        answer_cut=True,
        finish_reason="length",
        scheduled_s=scheduled_s,
        prefill_s=prefill_s,
        last_token_s=(scheduled_s or 0) + (prefill_s or 0) + decode_s if known else None,
    )


def split(
    results: Sequence[RequestResult], *, duration_s: float, before: float | None
) -> dict[str, float | None]:
    measured = PassResult(duration_s=duration_s, requests=tuple(results), before_engine_s=before)
    answered = [
        Answered(
            prompt=Prompt(text="", first=0, num_texts=1),
            prompt_index=0,
            copy=0,
            result=each,
            expected_cached=0,
            expected_labels=("positive",),
            score=None,
        )
        for each in results
    ]
    values = metrics.pass_values(0, measured, answered, tokenize_s=None)
    return {name: values[name] for name in SPLIT}


@given(st.lists(st.tuples(st.sampled_from("abc"), SECONDS)))
def test_phases_add_up_to_the_time_since_the_start(steps: list[tuple[str, float]]) -> None:
    hand = Hand()
    clock = PhaseClock("a", hand)
    for phase, seconds in steps:
        clock.enter(phase)
        hand.at += seconds
    assert sum(clock.spent().values()) == pytest.approx(hand.at - 100.0, abs=1e-6)


def test_a_phase_that_runs_twice_is_counted_twice() -> None:
    hand = Hand()
    clock = PhaseClock("check", hand)
    for phase, seconds in (("passes", 1.0), ("cache", 2.0), ("passes", 3.0)):
        clock.enter(phase)
        hand.at += seconds
    assert clock.spent() == {"check": 0.0, "passes": 4.0, "cache": 2.0}


def test_carved_seconds_move_from_the_running_phase() -> None:
    hand = Hand()
    clock = PhaseClock("between", hand)
    hand.at += 5.0
    clock.carve("passes", 3.0)
    assert clock.spent() == {"between": 2.0, "passes": 3.0}


@given(st.lists(st.tuples(SECONDS, SECONDS, SECONDS), min_size=1, max_size=5), SECONDS, SECONDS)
def test_parts_of_a_pass_add_up_to_its_duration(
    requests: list[tuple[float, float, float]], before: float, after: float
) -> None:
    results = [result(*timing) for timing in requests]
    duration_s = before + max(each.last_token_s or 0 for each in results) + after
    found = split(results, duration_s=duration_s, before=before)
    assert sum(part or 0 for part in found.values()) == pytest.approx(duration_s, abs=1e-6)
    assert all(part is not None and part >= -1e-6 for part in found.values())


def test_parts_of_a_pass_are_those_of_its_last_request() -> None:
    """First tokens at 1 and 3, last tokens at 6 and 4, of a pass of 8 that began 1 before."""
    results = [result(0.0, 1.0, 5.0), result(1.0, 2.0, 1.0)]
    assert split(results, duration_s=8.0, before=1.0) == {
        "before_engine_s": 1.0,
        "prefill_span_s": 3.0,
        "decode_span_s": 3.0,
        "after_engine_s": 1.0,
    }


def test_parts_outside_the_engine_are_null_where_clocks_differ() -> None:
    found = split([result()], duration_s=2.0, before=None)
    assert (found["before_engine_s"], found["after_engine_s"]) == (None, None)
    assert found["prefill_span_s"] == 1.0


def test_parts_of_a_pass_are_null_without_timestamps() -> None:
    found = split([result(), result(None, None)], duration_s=2.0, before=0.5)
    assert set(found.values()) == {None}


@pytest.mark.parametrize(
    ("scheduled_s", "last_s", "known"),
    [
        (0.0, 0.0, True),
        (-1000.0, 0.0, False),  # before the submission: another clock
        (0.0, 1000.0, False),  # after the return: another clock
        (None, None, False),  # no timestamps
    ],
)
def test_engine_events_count_only_inside_the_window(
    monkeypatch: pytest.MonkeyPatch,
    byte_model: Path,
    scheduled_s: float | None,
    last_s: float | None,
    *,
    known: bool,
) -> None:
    """Seconds from the moment at which the engine answers; its process reads the same clock."""
    engine, llm = fake_vllm.start(monkeypatch, byte_model)

    def stamps() -> SimpleNamespace | None:
        if scheduled_s is None or last_s is None:
            return None
        began, now = time.monotonic() + scheduled_s, time.monotonic()
        return SimpleNamespace(
            queued_ts=began, scheduled_ts=began, first_token_ts=began, last_token_ts=now + last_s
        )

    llm.stamps = stamps
    found = engine.run([Request(text="a", max_tokens=1, ignore_eos=True)])
    assert (found.before_engine_s is not None) == known
    if found.before_engine_s is not None:
        assert 0 <= found.before_engine_s <= found.duration_s


GPU_LOG = """
(EngineCore pid=9) INFO 11-22 [gpu_model_runner.py:5348] Model loading took 14.99 GiB memory and 3.250000 seconds
(EngineCore pid=9) INFO 11-22 [default_loader.py:431] Loading weights took 2.00 seconds
(EngineCore pid=9) INFO 11-22 [monitor.py:81] torch.compile took 21.50 s in total
(EngineCore pid=9) INFO 11-22 [monitor.py:92] Initial profiling/warmup run took 0.30 s
(EngineCore pid=9) INFO 11-22 [gpu_model_runner.py:6845] Graph capturing finished in 4 secs, took 0.54 GiB
(EngineCore pid=9) INFO 11-22 [core.py:341] init engine (profile, create kv cache, warmup model) took 41.12 s (compilation: 21.50 s)
"""  # noqa: E501  (as vLLM prints them)
CPU_LOG = """
(Worker pid=9) INFO 11-22 [base_loader.py:82] Initializing model took 0.161981 seconds
(Worker pid=9) INFO 11-22 [default_loader.py:501] Loading weights took 1.29 seconds
(EngineCore pid=9) INFO 11-22 [core.py:402] init engine (profile, create kv cache, warmup model) took 2.72 s
"""  # noqa: E501


def test_parts_of_the_start_are_read_from_a_gpu_log() -> None:
    assert start_phases(GPU_LOG) == {
        "load_weights_s": 3.25,
        "compile_s": 21.5,
        "graph_capture_s": 4.0,
        "init_engine_s": 41.12,
    }


def test_start_of_several_ranks() -> None:
    """They load side by side: the slowest counts, and what each does twice."""
    log = """
(Worker_TP0 pid=7) INFO 11-26 06:23:23 [m.py:1] Model loading took 9.0 GiB memory and 4.0 seconds
(Worker_TP1 pid=8) INFO 11-26 06:23:23 [m.py:1] Model loading took 9.0 GiB memory and 5.0 seconds
(Worker_TP0 pid=7) INFO 11-26 06:23:23 [m.py:1] torch.compile took 2.0 s in total
(Worker_TP0 pid=7) INFO 11-26 06:23:23 [m.py:1] torch.compile took 3.0 s in total
(Worker_TP1 pid=8) INFO 11-26 06:23:23 [m.py:1] torch.compile took 4.0 s in total
(Worker_TP0 pid=7) INFO 11-26 06:23:23 [m.py:1] Kernel JIT monitor activated
packsweep: pass 0
(Worker_TP0 pid=7) INFO 11-26 06:23:24 [m.py:1] Triton kernel compiled during inference: one
(Worker_TP1 pid=8) INFO 11-26 06:23:24 [m.py:1] Triton kernel compiled during inference: one
"""
    found = start_phases(log)
    assert (found["load_weights_s"], found["compile_s"]) == (5.0, 5.0)
    assert found["graph_capture_s"] is None
    assert jit_compilations(log) == 1


def test_parts_of_the_start_that_a_cpu_does_not_print_are_null() -> None:
    assert start_phases(CPU_LOG) == {
        "load_weights_s": 1.29,
        "compile_s": None,
        "graph_capture_s": None,
        "init_engine_s": 2.72,
    }


@pytest.mark.parametrize(
    ("line", "seconds"),
    [
        ("Model loading took 0.3 GiB and 1.500000 seconds", ("load_weights_s", 1.5)),
        (
            "[m] torch.compile and initial profiling/warmup run together took 9.25 s in total",
            ("compile_s", 9.25),
        ),
        (
            "torch.compile took 1.00 s in total\ntorch.compile took 2.00 s in total",
            ("compile_s", 3),
        ),
    ],
)
def test_other_wordings_of_the_start_are_known(line: str, seconds: tuple[str, float]) -> None:
    assert start_phases(line)[seconds[0]] == seconds[1]


def test_simulated_attempt_is_split_into_phases_that_add_up(
    cli: Cli, sweep_file: Path, tmp_path: Path
) -> None:
    """Every committed row holds every phase, and they add up to its wall clock within 2 %."""
    done = cli("run", sweep_file, "--results", "r", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    passes = packsweep.load(tmp_path / "r")
    parts = passes[[column.name for column in schema.WALL]]
    assert parts.notna().all(axis=None)
    assert parts.sum(axis=1).tolist() == pytest.approx(passes["wall_s"].tolist(), rel=0.02)
    shown = cli("show", "r", "--time", cwd=tmp_path)
    assert "attempt" in shown.stdout
    assert "prefill" in shown.stdout
    assert "import" in shown.stdout


def test_engine_start_is_left_out_where_no_log_tells_of_it() -> None:
    """A table without a known value is not shown."""
    row = dict.fromkeys((column.name for column in schema.SUMMARY), None)
    known = {"outcome": "ok", "strategy": "packed", "n": 1, "duplication": 1, "wall_s": 2.0}
    settings = {"engine_settings": "{}", "simulated_settings": "{}"}
    rows = [{**row, **known, **settings, "spawn_s": 1.0}]
    assert len(cells_table.time_tables(rows)) == 1
    assert len(cells_table.time_tables([{**rows[0], "compile_s": 1.0}])) == 2

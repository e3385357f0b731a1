"""Why engines failed: the innermost words, whether again is of use, and what to do."""

from __future__ import annotations

import pytest

from packsweep.engines import causes

WORKER = """\
(VllmWorker-0 pid=7) WARNING 11-25 21:24 [a.py:1] ImportError: optional package
(VllmWorker-0 pid=7) ERROR 11-25 21:24:54 [multiproc_executor.py:953] WorkerProc failed to start.
(VllmWorker-0 pid=7) ERROR 11-25 21:24:54 [multiproc_executor.py:953]     raise ValueError(
(VllmWorker-0 pid=7) ERROR 11-25 21:24:54 [m.py:953] ValueError: Available memory on node 0 \
(11.67/18.71 GiB) on startup is less than desired CPU memory utilization (0.92, 17.22 GiB).
(EngineCore pid=3) ERROR 11-25 21:25:00 [core.py:1510] EngineCore failed to start.
(EngineCore pid=3) ERROR 11-25 21:25:00 [core.py:1510] Exception: WorkerProc initialization failed \
due to an exception in a background process. See stack trace for root cause.
    raise RuntimeError(
"""
ENVELOPE = (
    "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): "
    "{'EngineCore': 1}"
)


@pytest.mark.parametrize(
    ("log", "cause"),
    [
        ("", None),
        ("ValueError: not the core's\n", None),
        ("(EngineCore pid=1) ERROR x torch.OutOfMemoryError: CUDA out of memory\n", "CUDA out of"),
        ("(EngineCore pid=1) RuntimeError: Engine core initialization failed. See\n", None),
        ("(EngineCore_DP0 pid=1) ValueError: first\n(EngineCore_DP0 pid=1) KeyError: x", "first"),
        ("(EngineCore pid=1) KeyError: core\n(VllmWorker-0 pid=2) OSError: worker", "worker"),
        (WORKER, "ValueError: Available memory on node 0 (11.67/18.71 GiB)"),
    ],
)
def test_root_cause(log: str, cause: str | None) -> None:
    """The first error of the innermost process is the cause; an envelope or a warning is none."""
    found = causes.root_cause(log)
    assert found is None if cause is None else cause in str(found)


def test_diagnose_envelope() -> None:
    """What a worker said counts, not the envelopes of those that started it, and has a remedy."""
    found = causes.diagnose(ENVELOPE, WORKER)
    assert (found.outcome, found.final) == ("oom", True)
    assert found.reason.startswith("ValueError: Available memory on node 0")
    assert "engine.gpu_memory_utilization" in found.reason


def test_diagnose_server_that_cannot_be_imported() -> None:
    """Its bare traceback is the cause; another attempt would end the same."""
    envelope = "packsweep.errors.EngineError: the server ended with status 1"
    log = f"    import orjson\nModuleNotFoundError: No module named 'orjson'\n{envelope}\n"
    found = causes.diagnose(envelope, log)
    assert (found.reason, found.final) == ("ModuleNotFoundError: No module named 'orjson'", True)
    assert causes.diagnose(envelope, "").reason == envelope


def test_diagnose_envelope_without_log() -> None:
    """Where nothing more is known the envelope is the reason, and again may be better."""
    found = causes.diagnose(ENVELOPE)
    assert (found.outcome, found.reason, found.final) == ("crashed", ENVELOPE, False)


@pytest.mark.parametrize(
    ("text", "outcome", "final"),
    [
        ("ValidationError: 1 validation error for ModelConfig", "crashed", True),
        ("ValueError: block_size must be divisible by 16", "crashed", True),
        ("NotImplementedError: fp8 on this device", "crashed", True),
        ("RuntimeError: CUDA error: an illegal memory access was encountered", "crashed", False),
        ("AssertionError: Error in memory profiling. Initial free memory 1", "crashed", False),
        ("ZMQError: File name too long", "crashed", True),
        ("ModuleNotFoundError: No module named 'fastsafetensors'", "crashed", True),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB", "oom", True),
        (
            "ValueError: Free memory on device cuda:0 is less than desired GPU memory utilization",
            "oom",
            True,
        ),
        ("ValueError: No available memory for the cache blocks.", "oom", True),
    ],
)
def test_diagnose(text: str, outcome: str, *, final: bool) -> None:
    """A refused setting is final; memory has its own outcome; the rest may pass."""
    found = causes.diagnose(text)
    assert (found.outcome, found.final) == (outcome, final)


def test_diagnose_loader() -> None:
    """A package that vLLM misses for a load_format is named with the setting."""
    found = causes.diagnose("ModuleNotFoundError: No module named 'fastsafetensors'")
    assert "model.load_format needs that package" in found.reason


def test_innermost() -> None:
    """The exception that the others were raised from."""
    first, last = ValueError("first"), RuntimeError("last")
    last.__cause__ = first
    assert causes.innermost(last) is first
    assert causes.innermost(first) is first


SERVER = """\
(APIServer pid=1) INFO 11-26 03:00:00 [entry.py:136] Supported tasks: ['generate']
(EngineCore pid=2) ERROR 11-26 03:00:01 [core.py:1510] ValueError: Free memory (1/80 GiB) \
is less than desired GPU memory utilization (0.92, 73 GiB).
(APIServer pid=1) RuntimeError: Engine core initialization failed. See root cause above.
"""


def test_diagnose_server() -> None:
    """A server that ended says why in its log; where it said nothing, how it ended is told."""
    ended = "the server ended with status 1"
    found = causes.diagnose(ended, SERVER)
    assert found.outcome == "oom"
    assert found.reason.startswith("ValueError: Free memory (1/80 GiB) is less")
    assert causes.diagnose(ended, "").reason == ended


def test_rank_that_a_signal_ended() -> None:
    """What others print then follows from that; another attempt may end well."""
    log = """
(Worker_TP0 pid=3) ERROR 11-26 06:00:01 [multiproc_executor.py:1] RuntimeError: closed by peer
(EngineCore pid=2) ERROR 11-26 06:00:01 [multiproc_executor.py:300] Worker proc VllmWorker-1 died \
unexpectedly (exit code: -9), shutting down executor.
(EngineCore pid=2) ERROR 11-26 06:00:06 [core.py:9] RuntimeError: cancelled
"""
    for text in ("EngineDeadError: EngineCore encountered an issue", "RuntimeError: cancelled"):
        found = causes.diagnose(text, log)
        assert found.reason == "VllmWorker-1, a rank of the engine, was ended by SIGKILL"
        assert (found.outcome, found.final) == ("crashed", False)
    failed = log.replace("-9", "1")
    assert causes.diagnose("EngineCore encountered an issue", failed).reason == (
        "RuntimeError: closed by peer"
    )

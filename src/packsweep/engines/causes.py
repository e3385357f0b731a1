"""Why an engine failed: its own words, from the innermost process, and what to do about it.

vLLM's processes start one another, and each wraps the failure of the one that it started, so the
exception that reaches the caller says "see root cause above". ``CAUSES`` is the one place to add a
known cause. An exception that refuses a setting ends every attempt alike; it is not retried.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from packsweep.machine import process

_LIMIT = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """A known cause.

    Attributes:
        sign: what its message contains; a regular expression.
        remedy: what the user can do.
        outcome: of a cell that fails so.
        final: another attempt would fail the same way.
    """

    sign: str
    remedy: str
    outcome: str = "crashed"
    final: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """How an attempt ends whose engine failed; ``reason`` is one line."""

    outcome: str
    reason: str
    final: bool


# The first that fits counts. Source: messages of vLLM 0.26 to 0.33, torch 2.11 to 2.14, pyzmq.
CAUSES = (
    Cause(
        sign="is less than desired CPU memory utilization|is less than requested memory for kv",
        remedy="free some memory, or set engine.gpu_memory_utilization lower, which on a CPU is "
        "the share of main memory, or engine.kv_cache_memory_bytes",
        outcome="oom",
    ),
    Cause(
        sign="is less than desired GPU memory utilization",
        remedy="end other processes on the GPU, or lower engine.gpu_memory_utilization",
        outcome="oom",
    ),
    Cause(
        sign="No available memory for the cache blocks",
        remedy="raise engine.gpu_memory_utilization, or use a smaller model",
        outcome="oom",
    ),
    Cause(
        sign="larger than the available KV cache memory"
        "|is larger than the maximum number of tokens that can be stored in KV cache",
        remedy="lower engine.max_model_len, or raise engine.gpu_memory_utilization",
        outcome="oom",
    ),
    Cause(
        sign="[Oo]ut of memory|OutOfMemoryError|Cannot allocate memory|can't allocate memory",
        remedy="lower engine.max_num_batched_tokens or engine.gpu_memory_utilization",
        outcome="oom",
    ),
    Cause(
        sign="Error in memory profiling",
        remedy="another process freed GPU memory during profiling",
        final=False,
    ),
    Cause(
        sign=r"is longer than \d+ characters|ZMQError: File name too long",
        remedy="the path of temporary files is too long for a socket: export TMPDIR=/tmp",
    ),
    Cause(
        sign="No space left on device|Disk quota exceeded",
        remedy="free some disk, or set TMPDIR and PACKSWEEP_CACHE to another one",
    ),
    Cause(
        sign="Bfloat16 is only supported on GPUs with compute capability",
        remedy="set engine.dtype=float16",
    ),
    Cause(
        sign=r"User-specified max_model_len \(",
        remedy="lower engine.max_model_len to the model's context length",
    ),
    Cause(
        sign=r"max_num_batched_tokens \(.*\) is smaller than max_model_len",
        remedy="raise engine.max_num_batched_tokens or lower engine.max_model_len",
    ),
    Cause(
        sign="does not recognize this architecture|Model architectures .* (are not|failed)",
        remedy="the installed vLLM does not know this model: install a newer one",
    ),
    Cause(
        sign="gated repo|401 Client Error|403 Client Error",
        remedy="request access on the model's page, then export HF_TOKEN",
    ),
    Cause(
        sign="No module named '(fastsafetensors|runai_model_streamer)",
        remedy="model.load_format needs that package on the machine of the engine",
    ),
    Cause(
        sign="[Ff]ailed to find C compiler",
        remedy="apt-get install gcc",
    ),
    Cause(
        sign="no kernel image is available",
        remedy="the installed vLLM was not built for this GPU",
    ),
    Cause(
        sign="driver version is insufficient|driver on your system is too old",
        remedy="install a newer NVIDIA driver",
    ),
    Cause(
        sign="undefined symbol|cannot open shared object file",
        remedy="installed packages are incompatible: rm -r .venv; make setup",
    ),
)

# What Python raises for a value that it is not given right, wherever that is noticed.
_REFUSALS = frozenset(
    {
        "ImportError",
        "ModuleNotFoundError",
        "NotImplementedError",
        "TypeError",
        "VLLMValidationError",
        "ValidationError",
        "ValueError",
    }
)
_SERVER_ENDED = "the server ended with status"
# How one process tells that another failed, which is no cause.
_ENVELOPES = (
    "Engine core initialization failed",
    "WorkerProc initialization failed",
    "EngineCore encountered an issue",
    "Engine core process",
    _SERVER_ENDED,
    "the server was ended by signal",
)
_ERROR_LINE = re.compile(r"(?:^|\s)((?:[A-Za-z_]\w*\.)*([A-Z]\w*(?:Error|Exception)): .+)$")
# Source: vLLM 0.26 to 0.33, v1/executor/multiproc_executor.py (monitor_workers).
_DIED = re.compile(r"Worker proc (\S+) died unexpectedly \(exit code: -(\d+)\)")
# "(EngineCore pid=1) ERROR 11-25 21:24:54 [core.py:1510] ..."; a raw traceback has no level.
_OF_PROCESS = re.compile(r"^\(([^()]*?) pid=\d+\) (?!DEBUG|INFO|WARNING)")


def diagnose(text: str, log: str = "") -> Diagnosis:
    """Return how an attempt ends whose engine failed.

    Args:
        text: the exception that reached the caller, its class first.
        log: what the engine's processes printed.
    """
    cause = _ended_rank(log) or (_cause_behind(text, log) if is_envelope(text) else text)
    known = next((each for each in CAUSES if re.search(each.sign, cause)), None)
    reason = _one_line(cause)
    if known is not None:
        return Diagnosis(
            outcome=known.outcome, reason=f"{reason} ({known.remedy})", final=known.final
        )
    name = cause.partition(":")[0].rpartition(".")[2]
    return Diagnosis(outcome="crashed", reason=reason, final=name in _REFUSALS)


def _cause_behind(envelope: str, log: str) -> str:
    """Return what an envelope wraps, or the envelope where the log does not tell.

    A server that cannot be imported prints a bare traceback: its lines have no process yet.
    """
    bare = log.splitlines() if _SERVER_ENDED in envelope else []
    first = _first_error([line for line in bare if _ERROR_LINE.match(line)])
    return root_cause(log) or first or envelope


def root_cause(log: str) -> str | None:
    """Return the error that an engine's process printed first, of a worker before the core's."""
    lines = [(match[1], line) for line in log.splitlines() if (match := _OF_PROCESS.match(line))]
    of_workers = [line for name, line in lines if "Worker" in name]
    return _first_error(of_workers) or _first_error([line for _, line in lines])


def _ended_rank(log: str) -> str | None:
    """Return which rank a signal ended, from which follows whatever else is said; None: none."""
    died = _DIED.search(log)
    if died is None:
        return None
    return f"{died[1]}, a rank of the engine, was ended by {process.signal_name(int(died[2]))}"


def is_envelope(text: str) -> bool:
    """Return whether an error only says that another process failed."""
    return any(each in text for each in _ENVELOPES)


def innermost(error: BaseException) -> BaseException:
    """Return the exception that others were raised from."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _first_error(lines: Sequence[str]) -> str | None:
    found = (match[1] for line in lines if (match := _ERROR_LINE.search(line)))
    return next((_one_line(each) for each in found if not is_envelope(each)), None)


def _one_line(text: str) -> str:
    joined = " ".join(text.split())
    return joined if len(joined) <= _LIMIT else joined[: _LIMIT - 1] + "…"

"""How long the parts of an engine's start took, by vLLM's own lines in the attempt's log.

vLLM measures them in its engine core and hands them over in no other way.

Source: vLLM 0.26 and 0.32, ``v1/engine/core.py``, ``v1/worker/gpu_model_runner.py``,
``v1/worker/gpu/model_runner.py``, ``compilation/monitor.py``, ``compilation/decorators.py``,
``model_executor/model_loader/default_loader.py``.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict

_SECONDS = r"(\d+(?:\.\d+)?)"
# Column -> patterns, the first that is found counts; what a process prints twice happened twice,
# and of several ranks, which do it side by side, the slowest counts.
_LINES = {
    # The CPU's model runner prints no line for the whole, only the loader's for the weights.
    "load_weights_s": (
        rf"Model loading took \S+ GiB(?: memory)? and {_SECONDS} seconds",
        rf"Loading weights took {_SECONDS} seconds",
    ),
    "compile_s": (rf"torch\.compile(?: and initial [^\n]*)? took {_SECONDS} s in total",),
    "graph_capture_s": (rf"Graph capturing finished in {_SECONDS} secs",),
    "init_engine_s": (rf"init engine \([^\n)]*\) took {_SECONDS} s",),
}


_MONITORED = "Kernel JIT monitor activated"
_COMPILED = " during inference: "
_PHASE = "packsweep: "


def jit_compilations(log: str, before: str = "") -> int | None:
    """Return how many kernels vLLM compiled in timed passes; None where it did not watch.

    Source: vLLM 0.31 to 0.33, ``utils/jit_monitor.py``.

    Args:
        log: of the attempt.
        before: what the engine printed at its start, where that was in another attempt.
    """
    if _MONITORED not in before and _MONITORED not in log:
        return None
    found: Counter[str] = Counter()
    is_timed = False
    for line in log.splitlines():
        if line.startswith(_PHASE):
            is_timed = line.startswith(f"{_PHASE}pass ")
        if is_timed and _COMPILED in line:
            found[_process(line)] += 1
    return max(found.values(), default=0)


def start_phases(log: str) -> dict[str, float | None]:
    """Return the seconds of each part that ``log`` tells of; None where it has no such line."""
    return {name: _first_found(patterns, log) for name, patterns in _LINES.items()}


def _first_found(patterns: tuple[str, ...], log: str) -> float | None:
    for pattern in patterns:
        found: defaultdict[str, float] = defaultdict(float)
        for match in re.finditer(rf"^.*?{pattern}", log, re.MULTILINE):
            found[_process(match[0])] += float(match[1])
        if found:
            return max(found.values())
    return None


def _process(line: str) -> str:
    """Return which process printed a line: "Worker_TP0 pid=7"; nothing where it does not say."""
    return line[1 : line.index(")")] if line.startswith("(") and ")" in line else ""

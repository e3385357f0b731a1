"""The GPUs of an attempt: free before it, watched during a pass, empty after it."""

from __future__ import annotations

import os
from collections.abc import Sequence

from packsweep.engines import Engine
from packsweep.engines.server import Server
from packsweep.errors import EngineError
from packsweep.machine import nvml
from packsweep.machine.sampler import ConditionSampler, NullSampler
from packsweep.run.attempt.log import say
from packsweep.run.attempt.state import Attempt

_MEMORY_TIMEOUT_S = 60.0


def take(attempt: Attempt) -> None:
    """Take the GPUs that the cell needs, and note who uses each before the start: nobody.

    Raises:
        EngineError: there are too few, or too few are free in time.
    """
    cell, found = attempt.task.cell, attempt.found
    if cell.engine != "vllm":
        return
    visible, num = nvml.visible_gpus(), cell.num_gpus
    found.gpus = visible[:num]
    if not visible or not attempt.kept.is_empty:
        return
    if len(visible) < num:
        message = f"the engine has {num} GPUs, and {len(visible)} can be seen here"
        raise EngineError(message, outcome="infeasible")
    free = nvml.wait_until_free(visible, num, attempt.task.limits.gpu_free_timeout_s)
    if len(free) < num:
        raise EngineError(who_uses(visible), outcome="gpu_busy")
    if free != visible[:num]:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(gpu.visible_as for gpu in free)
    if len({gpu.name for gpu in free}) > 1:
        say(f"the GPUs of the engine differ: {nvml.names(free)}")
    found.gpus = free
    found.gpus_before = [nvml.use(gpu) for gpu in free]


def who_uses(gpus: Sequence[nvml.Gpu]) -> str:
    """Say which processes compute on which of ``gpus``."""
    told = [(gpu.name, nvml.use_if_told(gpu)) for gpu in gpus]
    parts = [
        f"{name} is used by process "
        + ", ".join(f"{pid} ({size >> 20} MiB)" for pid, size in use.processes.items())
        if use
        else f"NVML does not tell who uses {name}"
        for name, use in told
        if use is None or use.processes
    ]
    return "; ".join(parts) or "too few GPUs were free"


def sampler(attempt: Attempt) -> ConditionSampler | NullSampler:
    """Return what samples the conditions of a pass, if the cell wants them sampled."""
    if not attempt.task.cell.sample_conditions:
        return NullSampler()
    found = attempt.found
    gauges = nvml.gauges(found.gpus) if found.gpus else None
    return ConditionSampler(gauges, engine_pids=found.engine_pids)


def stop(attempt: Attempt, engine: Engine | Server) -> None:
    """Stop an engine that started here, and wait until its memory is back."""
    attempt.announce("stop", "stop")
    engine.close()
    found = attempt.found
    if found.gpus_before:
        returned = nvml.wait_until_returned(found.gpus, found.gpus_before, _MEMORY_TIMEOUT_S)
        found.memory_returned = returned
        if not returned:
            names = nvml.names(found.gpus)
            say(f"{names}: memory was not freed within {_MEMORY_TIMEOUT_S:.0f} s")

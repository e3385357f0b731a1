"""The process that stands for vLLM's engine core: it holds a GPU and is hard to end."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from tests.fakes import gone

from packsweep.engines.simulated.core import STARTS, Core
from packsweep.errors import EngineError


def test_core_holds_gpu(tmp_path: Path) -> None:
    """A second core on the GPU is refused; once the first is closed, the next one starts."""
    first = Core(tmp_path, "cell")
    try:
        with pytest.raises(EngineError, match="GPU 0 is held by another") as caught:
            Core(tmp_path, "cell")
        assert caught.value.outcome == "gpu_busy"
    finally:
        first.close()
    Core(tmp_path, "cell").close()
    assert len((tmp_path / STARTS).read_text().splitlines()) == 2


def test_core_ignores_sigterm(tmp_path: Path) -> None:
    """SIGTERM does not end it; its death is noticed while the engine works."""
    core = Core(tmp_path, "cell")
    pid = json.loads((tmp_path / STARTS).read_text())["core"]
    os.kill(pid, signal.SIGTERM)
    core.work(0.2)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(EngineError, match="the simulated engine core died"):
        core.work(60)
    core.close()
    assert gone(pid)


def _starts(locks: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (locks / STARTS).read_text().splitlines()]


def test_core_of_several_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds the first visible ones, each by a process of its own; a rank's end is its end."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,3,1")
    core = Core(tmp_path, "cell", 2)
    starts = _starts(tmp_path)
    assert [start["gpu"] for start in starts] == ["5", "3"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    with pytest.raises(EngineError, match="GPU 3 is held by another"):
        Core(tmp_path, "cell")
    os.kill(starts[1]["core"], signal.SIGKILL)
    with pytest.raises(EngineError, match="the simulated engine core died"):
        core.work(60)
    core.close()
    assert all(gone(start["core"]) for start in starts)


def test_core_of_more_gpus_than_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with pytest.raises(EngineError, match="has 2 GPUs, and 1 can be seen here") as caught:
        Core(tmp_path, "cell", 2)
    assert caught.value.outcome == "infeasible"


def test_core_closes_its_ranks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where one of its GPUs is held already, it holds none afterwards."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    other = Core(tmp_path, "cell")
    try:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
        with pytest.raises(EngineError, match="GPU 1 is held by another") as caught:
            Core(tmp_path, "cell", 2)
        assert caught.value.outcome == "gpu_busy"
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
        Core(tmp_path, "cell").close()
    finally:
        other.close()

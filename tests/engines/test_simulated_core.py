"""The process that stands for vLLM's engine core: it holds a GPU and is hard to end."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import psutil
import pytest

from packsweep.engines.simulated_core import STARTS, Core
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
    assert not psutil.pid_exists(pid)

"""The GPUs of an attempt."""

from __future__ import annotations

import pytest

from packsweep.machine import nvml
from packsweep.run.attempt import gpus


def test_who_uses_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU that NVML does not tell of is named, and keeps nobody from hearing of the others."""
    names = ("lost", "busy", "free")
    named = [nvml.Gpu(name=name, uuid=name, memory_bytes=1, driver_version="") for name in names]
    uses = {
        "busy": nvml.GpuUse(used_bytes=9, processes={7: 3 << 20}),
        "free": nvml.GpuUse(used_bytes=0, processes={}),
    }
    monkeypatch.setattr(nvml, "use_if_told", lambda gpu: uses.get(gpu.name))
    expected = "NVML does not tell who uses lost; busy is used by process 7 (3 MiB)"
    assert gpus.who_uses(named) == expected

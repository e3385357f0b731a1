"""Which GPUs a process may use, which of them an engine takes, and when it has left them."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from packsweep.machine import nvml
from packsweep.machine.nvml import Gpu, GpuUse


class FakeNvml:
    """Four GPUs, each of which may have processes."""

    class NVMLError(Exception):
        """What NVML raises."""

    def __init__(self) -> None:
        """Start with empty GPUs."""
        self.pids: dict[int, list[int]] = {index: [] for index in range(4)}
        self.used = dict.fromkeys(range(4), 100)
        self.lost: set[int] = set()

    def _present(self, index: int) -> int:
        if index in self.lost or index not in self.pids:
            raise self.NVMLError("GPU is lost")
        return index

    def nvmlInit(self) -> None:  # noqa: N802
        """Do nothing."""

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return len(self.pids)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        return self._present(index)

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> int:  # noqa: N802
        return self._present(int(uuid.removeprefix("GPU-")))

    def nvmlDeviceGetName(self, index: int) -> str:  # noqa: N802
        return "NVIDIA A100" if index == 3 else "NVIDIA H100"

    def nvmlDeviceGetUUID(self, index: int) -> str:  # noqa: N802
        return f"GPU-{index}"

    def nvmlSystemGetDriverVersion(self) -> str:  # noqa: N802
        return "580.1"

    def nvmlDeviceGetMemoryInfo(self, index: int) -> SimpleNamespace:  # noqa: N802
        return SimpleNamespace(total=80 * 2**30, used=self.used[index])

    def nvmlDeviceGetComputeRunningProcesses(self, index: int) -> list[SimpleNamespace]:  # noqa: N802
        return [SimpleNamespace(pid=pid, usedGpuMemory=5) for pid in self.pids[index]]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    """Four GPUs, and no time that passes while one waits."""
    found = FakeNvml()
    now = iter(range(10**6))
    monkeypatch.setattr(nvml, "_nvml", lambda: found)
    clock = SimpleNamespace(monotonic=lambda: float(next(now)), sleep=lambda _: None)
    monkeypatch.setattr(nvml, "time", clock)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return found


def uuids(gpus: tuple[Gpu, ...]) -> list[str]:
    return [gpu.uuid for gpu in gpus]


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize(
    ("named", "expected"),
    [
        (None, ["GPU-0", "GPU-1", "GPU-2", "GPU-3"]),
        ("2,0", ["GPU-2", "GPU-0"]),
        ("GPU-3, 1", ["GPU-3", "GPU-1"]),
        ("1,-1,2", ["GPU-1"]),
        ("2,4,0", ["GPU-2"]),
        ("0,1,2,3,4,5", ["GPU-0", "GPU-1", "GPU-2", "GPU-3"]),
        ("GPU-1,GPU-9,GPU-2", ["GPU-1"]),
        ("9", []),
        ("", []),
        ("-1", []),
    ],
)
def test_visible_gpus(
    monkeypatch: pytest.MonkeyPatch, named: str | None, expected: list[str]
) -> None:
    """As CUDA counts them, up to the first name that is none."""
    if named is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    assert uuids(nvml.visible_gpus()) == expected
    first = nvml.visible_gpu()
    assert ([] if first is None else [first.uuid]) == expected[:1]


@pytest.mark.parametrize(("lost", "expected"), [(2, ["GPU-0", "GPU-1"]), (0, [])])
def test_a_lost_gpu_ends_the_list(fake: FakeNvml, lost: int, expected: list[str]) -> None:
    fake.lost = {lost}
    assert uuids(nvml.visible_gpus()) == expected


def test_the_first_gpu_is_asked_alone(fake: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def handle(index: int) -> int:
        asked.append(index)
        return index

    monkeypatch.setattr(fake, "nvmlDeviceGetHandleByIndex", handle)
    first = nvml.visible_gpu()
    assert first is not None
    assert (first.uuid, asked) == ("GPU-0", [0])


def test_a_gpu_that_is_lost_later_is_not_free(fake: FakeNvml) -> None:
    gpus = nvml.visible_gpus()
    fake.lost = {1}
    assert nvml.use_if_told(gpus[1]) is None
    assert uuids(nvml.wait_until_free(gpus, 2, 60)) == ["GPU-0", "GPU-2"]
    assert uuids(nvml.wait_until_free(gpus[:2], 2, 60)) == ["GPU-0"]


def test_first_free_gpus(fake: FakeNvml) -> None:
    """The first ones where they are free, else the first that are, after some waiting."""
    gpus = nvml.visible_gpus()
    assert uuids(nvml.wait_until_free(gpus, 2, 60)) == ["GPU-0", "GPU-1"]
    fake.pids[1] = [4711]
    assert uuids(nvml.wait_until_free(gpus, 1, 0)) == ["GPU-0"]
    assert uuids(nvml.wait_until_free(gpus, 2, 60)) == ["GPU-0", "GPU-2"]
    assert uuids(nvml.wait_until_free(gpus[:2], 2, 60)) == ["GPU-0"]


def test_first_gpus_are_waited_for(fake: FakeNvml) -> None:
    """What ran there before may be ending."""
    fake.pids[0] = [4711]
    looks = iter(range(100))

    def running(index: int) -> list[SimpleNamespace]:
        if index == 0 and next(looks) > 2:
            fake.pids[0] = []
        return [SimpleNamespace(pid=pid, usedGpuMemory=5) for pid in fake.pids[index]]

    fake.nvmlDeviceGetComputeRunningProcesses = running  # type: ignore[method-assign]
    assert uuids(nvml.wait_until_free(nvml.visible_gpus(), 1, 60)) == ["GPU-0"]


def test_memory_is_back_when_it_is_on_all(fake: FakeNvml) -> None:
    gpus = nvml.visible_gpus()[:2]
    before = [GpuUse(used_bytes=100, processes={}), GpuUse(used_bytes=100, processes={})]
    assert nvml.wait_until_returned(gpus, before, 5)
    fake.used[1] = 2**30
    assert not nvml.wait_until_returned(gpus, before, 5)


@pytest.mark.usefixtures("fake")
def test_names() -> None:
    """Each different one once."""
    gpus = nvml.visible_gpus()
    assert nvml.names(gpus[:2]) == "NVIDIA H100"
    assert nvml.names(gpus) == "NVIDIA H100, NVIDIA A100"
    assert nvml.names(()) is None

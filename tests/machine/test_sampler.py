"""What is seen in a timed window: a GPU that is not there, one that is, and who else was there."""

from __future__ import annotations

import dataclasses
import gc
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes import cell, pass_row

from packsweep.analysis import frames
from packsweep.machine import sampler
from packsweep.machine.nvml import Gauges
from packsweep.machine.sampler import Conditions, ConditionSampler, CpuTimes, NullSampler
from packsweep.results import schema
from packsweep.results.store import Store


class FakeError(Exception):
    """What NVML raises."""


@dataclass
class FakeNvml:
    """The functions of pynvml that are used, over a GPU whose values come round and round."""

    NVML_CLOCK_SM = 1
    NVML_TEMPERATURE_GPU = 0
    NVMLError = FakeError

    clocks: Iterator[int]
    reasons: Iterator[int]
    pids: tuple[int, ...] = ()
    energy_mj: int | None = 1000
    looks: int = 0

    def nvmlDeviceGetClockInfo(self, _handle: str, kind: int) -> int:  # noqa: N802
        assert kind == self.NVML_CLOCK_SM
        self.looks += 1
        return next(self.clocks)

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, _handle: str) -> int:  # noqa: N802
        return next(self.reasons)

    def nvmlDeviceGetTemperature(self, _handle: str, _kind: int) -> int:  # noqa: N802
        return 40 + self.looks

    def nvmlDeviceGetPowerUsage(self, _handle: str) -> int:  # noqa: N802
        return 500_000

    def nvmlDeviceGetComputeRunningProcesses(self, _handle: str) -> list[SimpleNamespace]:  # noqa: N802
        return [SimpleNamespace(pid=pid) for pid in self.pids]

    def nvmlDeviceGetTotalEnergyConsumption(self, _handle: str) -> int:  # noqa: N802
        if self.energy_mj is None:
            raise FakeError
        self.energy_mj += 2500
        return self.energy_mj


def nvml(**changes: object) -> FakeNvml:
    values: dict[str, object] = {"clocks": cycle([1980, 1500]), "reasons": cycle([0])}
    return FakeNvml(**(values | changes))  # type: ignore[arg-type]  # values of its own fields


def times(*readings: tuple[float, float, float]) -> Iterator[CpuTimes]:
    return (CpuTimes(all=total, busy=busy, own=own) for total, busy, own in readings)


def watched(
    fake: FakeNvml | None, *, engine_pids: tuple[int, ...] = (), window_s: float = 2.0
) -> Conditions:
    """Return what is seen in a window of several looks that is ``window_s`` long by its clock."""
    clock = iter([10.0, 10.0 + window_s])
    gauges = None if fake is None else Gauges(fake, ["gpu"])
    cpu = times((100.0, 50.0, 10.0), (140.0, 70.0, 26.0))
    with ConditionSampler(
        gauges,
        engine_pids=engine_pids,
        cpu_times=lambda: next(cpu),
        interval_s=0.001,
        clock=lambda: next(clock),
    ) as watch:
        deadline = time.monotonic() + 20
        while fake is not None and fake.looks < 4 and time.monotonic() < deadline:
            time.sleep(0.001)
    return watch.conditions()


def test_gpu_is_looked_at_while_the_window_is_open() -> None:
    seen = watched(nvml(reasons=cycle([0x1, 0x4 | 0x40])))
    assert seen.num_samples is not None
    assert seen.num_samples >= 4
    assert seen.sm_clock_min_mhz == 1500
    assert seen.sm_clock_p50_mhz in {1500, 1740, 1980}
    assert seen.temperature_max_c == 40 + seen.num_samples
    assert seen.power_mean_w == 500.0
    assert seen.throttle_reasons == ["hw_thermal_slowdown", "sw_power_cap"]


def test_several_gpus_are_seen_as_one() -> None:
    """The slowest clock, the hottest, and power, energy, reasons and processes of all."""
    fake = nvml(clocks=cycle([1980, 1500]), reasons=cycle([0x4, 0x8]), pids=(1,))
    gauges = Gauges(fake, ["gpu 0", "gpu 1"])
    read = gauges.read()
    assert (read.sm_clock_mhz, read.temperature_c, read.power_w) == (1500, 42, 1000.0)
    assert read.throttle_reasons == frozenset({"sw_power_cap", "hw_slowdown"})
    assert read.processes == frozenset({1})
    assert gauges.energy_j() == pytest.approx(3.5 + 6.0)


def test_energy_is_null_where_one_of_several_gpus_does_not_count_it() -> None:
    fake = nvml()

    def count(handle: str) -> int:
        if handle == "old":
            raise FakeError
        return 1000

    fake.nvmlDeviceGetTotalEnergyConsumption = count  # type: ignore[assignment]
    assert Gauges(fake, ["new"]).energy_j() == 1.0
    assert Gauges(fake, ["new", "old"]).energy_j() is None


def test_looking_ends_with_the_window() -> None:
    fake = nvml()
    watched(fake)
    looks = fake.looks
    time.sleep(0.02)
    assert fake.looks == looks


def test_energy_is_the_difference_of_the_counter_in_joules() -> None:
    assert watched(nvml()).energy_j == 2.5


def test_energy_is_null_in_a_window_too_short_for_its_counter() -> None:
    assert watched(nvml(), window_s=0.99).energy_j is None
    assert watched(nvml(), window_s=1.0).energy_j == 2.5


def test_energy_is_null_where_the_gpu_does_not_count_it() -> None:
    assert watched(nvml(energy_mj=None)).energy_j is None


def test_idling_is_no_reason_for_low_clocks() -> None:
    assert watched(nvml(reasons=cycle([0x1]))).throttle_reasons == []


def test_newer_name_of_the_reasons_is_preferred() -> None:
    fake = nvml()
    fake.nvmlDeviceGetCurrentClocksEventReasons = lambda _handle: 0x8  # type: ignore[attr-defined]
    assert Gauges(fake, ["gpu"]).read().throttle_reasons == frozenset({"hw_slowdown"})


def test_what_the_driver_refuses_is_null() -> None:
    def refuse(*_: object) -> int:
        raise FakeError

    fake = nvml()
    for name in [name for name in dir(fake) if name.startswith("nvmlDevice")]:
        setattr(fake, name, refuse)
    read = Gauges(fake, ["gpu"]).read()
    assert (read.sm_clock_mhz, read.temperature_c, read.power_w) == (None, None, None)
    assert (read.throttle_reasons, read.processes) == (None, None)


def test_without_a_gpu_only_the_host_is_seen() -> None:
    """Of 40 s of processor time 20 were busy and 16 of them ours: others used a tenth."""
    seen = watched(None)
    assert seen.other_cpu_share == pytest.approx(0.1)
    assert dataclasses.replace(seen, other_cpu_share=None, gc_s=None) == Conditions()


def test_own_processes_on_the_gpu_are_not_foreign() -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        seen = watched(nvml(pids=(os.getpid(), child.pid, 1)))
    finally:
        child.kill()
        child.wait()
    assert seen.foreign_gpu_pids == ["1"]


def test_numbers_of_another_namespace_are_the_engines() -> None:
    """In a container the driver's numbers are the host's: what was there at the start is ours."""
    engine = sampler.own_pids([999_999_999])
    assert engine == {999_999_999}
    seen = watched(nvml(pids=(999_999_999, 888_888_888)), engine_pids=tuple(engine))
    assert seen.foreign_gpu_pids == ["888888888"]


def test_own_numbers_leave_others_foreign() -> None:
    assert sampler.own_pids([os.getpid(), 1]) == frozenset()


def test_unwatched_window_tells_nothing() -> None:
    with NullSampler() as _:
        pass
    assert set(dataclasses.asdict(NullSampler().conditions()).values()) == {None}


@given(*[st.floats(min_value=0, max_value=1e6)] * 3, st.floats(min_value=-1, max_value=1))
def test_share_of_others_is_a_share(idle: float, own: float, others: float, tick: float) -> None:
    """Whatever the counters are apart by, as they are read one after the other."""
    before = CpuTimes(all=1e3, busy=5e2, own=1e2)
    after = CpuTimes(
        all=before.all + idle + own + others,
        busy=before.busy + own + others + tick,
        own=before.own + own,
    )
    share = sampler.other_share(before, after)
    assert share is None or 0 <= share <= 1


@given(*[st.floats(min_value=0.1, max_value=1e6)] * 3)
def test_share_of_others_is_theirs_of_all(idle: float, own: float, others: float) -> None:
    before = CpuTimes(all=0, busy=0, own=0)
    after = CpuTimes(all=idle + own + others, busy=own + others, own=own)
    share = sampler.other_share(before, after)
    assert share == pytest.approx(others / (idle + own + others), abs=1e-6)


def test_collector_clock_adds_up_collections() -> None:
    """Collections of 1 s and 2 s make 3 s."""
    seconds = iter([10.0, 11.0, 20.0, 22.0])
    clock = sampler.CollectorClock(lambda: next(seconds))
    for phase in ("start", "stop", "start", "stop"):
        clock(phase, {})
    assert clock.seconds == pytest.approx(3.0)


def test_garbage_collected_in_the_window_is_counted() -> None:
    """A collection inside counts, one outside does not, and nothing stays registered."""
    before = list(gc.callbacks)
    with ConditionSampler(None) as window:
        gc.collect()
    seen = window.conditions().gc_s or 0
    gc.collect()
    assert seen > 0
    assert (window.conditions().gc_s, gc.callbacks) == (seen, before)


def test_share_of_others_is_null_when_no_time_passed() -> None:
    now = CpuTimes(all=1.0, busy=1.0, own=1.0)
    assert sampler.other_share(now, now) is None


def test_own_work_is_not_counted_as_others() -> None:
    """A descendant that works and ends within the window is ours, not another's."""
    before = sampler.host_cpu_times()
    work = "import time; sum(i * i for i in range(6_000_000)); print(time.process_time())"
    done = subprocess.run([sys.executable, "-c", work], check=True, capture_output=True, text=True)
    after = sampler.host_cpu_times()
    assert after.own - before.own > 0.8 * float(done.stdout)
    assert after.all > before.all


def test_columns_of_conditions_are_the_fields_of_conditions() -> None:
    names = [column.name for column in schema.CONDITIONS]
    assert names == [field.name for field in dataclasses.fields(Conditions)]


def test_summary_condenses_what_was_seen_in_all_repeats(tmp_path: Path) -> None:
    """The worst of clocks and heat, every reason and process; lists read as words in the CSV."""
    store, of = Store(tmp_path), cell()
    store.prepare()
    seen: list[dict[str, Any]] = [
        {"sm_clock_min_mhz": 1500.0, "throttle_reasons": ["sw_power_cap"], "num_samples": 3},
        {"sm_clock_min_mhz": 1400.0, "throttle_reasons": ["hw_slowdown"], "num_samples": 4},
        {"sm_clock_min_mhz": None, "throttle_reasons": None, "num_samples": None},
    ]
    store.write(of.cell_id, "a0", [pass_row(of, duration_s=1.0, **values) for values in seen], [])
    store.commit(of.cell_id, "a0")
    (row,) = frames.merge(store)
    assert row["sm_clock_min_mhz"] == 1400.0
    assert row["throttle_reasons"] == ["hw_slowdown", "sw_power_cap"]
    assert row["num_samples"] == 7
    assert row["energy_j"] is None
    assert "hw_slowdown sw_power_cap" in Path(f"{store.summary}.csv").read_text()

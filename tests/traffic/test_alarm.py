from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import pytest

from packsweep.traffic.alarm import Alarm

DESCRIPTORS = Path("/proc/self/fd")


async def _delays_s(waits_s: list[float]) -> list[float]:
    delays = []
    with Alarm() as alarm:
        for wait_s in waits_s:
            due_s = time.monotonic() + wait_s
            await alarm.until(due_s)
            delays.append(time.monotonic() - due_s)
    return delays


@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_alarm_rings_at_its_time_and_never_before(
    platform: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    delays_s = asyncio.run(_delays_s([0.0003, 0.002, 0.01, 0.0]))
    assert min(delays_s) >= 0
    assert min(delays_s) < 0.1


def test_alarm_of_a_time_that_is_over_returns_at_once() -> None:
    assert asyncio.run(_delays_s([-5.0]))[0] < 5.1


def test_alarm_leaves_no_descriptor() -> None:
    before = len(list(DESCRIPTORS.iterdir()))
    asyncio.run(_delays_s([0.001]))
    assert len(list(DESCRIPTORS.iterdir())) == before

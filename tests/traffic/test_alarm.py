from __future__ import annotations

import asyncio
import socket
import sys
import time
from pathlib import Path

import pytest

from packsweep.traffic.alarm import Alarm, event_loop

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


async def _look_at_the_time(num_events: int) -> int:
    """Return how many of so many events were handled when an alarm that was due came."""
    loop = asyncio.get_running_loop()
    handled = 0

    def handle(end: socket.socket) -> None:
        nonlocal handled
        handled += 1
        loop.remove_reader(end)

    pairs = [socket.socketpair() for _ in range(num_events)]
    for read, write in pairs:
        write.send(b"x")
        loop.add_reader(read, handle, read)
    with Alarm() as alarm:
        await alarm.until(time.monotonic() + 1e-5)
    for ends in pairs:
        for end in ends:
            loop.remove_reader(end)
            end.close()
    return handled


def test_alarm_does_not_wait_for_all_that_has_arrived() -> None:
    with asyncio.Runner(loop_factory=event_loop) as runner:
        assert runner.run(_look_at_the_time(300)) < 200

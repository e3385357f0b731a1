"""Wakes a coroutine at a time, closer than asyncio does by itself.

epoll counts milliseconds, so asyncio's timers are up to one late: 0.7 ms at the median, where one
of the kernel's is 0.05 ms late (docs/LOG.md). A limit of 50 ms on latency asks for the latter.

Where a thousand answers arrive at once, asyncio reads them all before it looks at the time again.
The loop here takes a few at a time, and the alarm is asyncio's timer as well, which it looks at in
between.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import math
import os
import select
import selectors
import sys
import time
from types import TracebackType
from typing import Self

_ABSOLUTE = 1  # Source: linux/timerfd.h, TFD_TIMER_ABSTIME
_NS_PER_S = 1_000_000_000
_EVENTS_AT_ONCE = 8  # about a millisecond of reading


class _FewEvents(selectors.DefaultSelector):
    """Reports a few events at a time; epoll reports the others first the next time."""

    def __init__(self) -> None:
        super().__init__()
        self._epoll = select.epoll.fromfd(os.dup(self.fileno()))

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        wait_s = -1.0 if timeout is None else math.ceil(max(timeout, 0.0) * 1000) / 1000
        keys = self.get_map()
        return [
            (key, _as_asked(event) & key.events)
            for descriptor, event in self._epoll.poll(wait_s, _EVENTS_AT_ONCE)
            if (key := keys.get(descriptor)) is not None
        ]

    def close(self) -> None:
        self._epoll.close()
        super().close()


def _as_asked(event: int) -> int:
    """Return an event of epoll as a selector names it; an error is both, as there."""
    read = selectors.EVENT_READ if event & ~select.EPOLLOUT else 0
    return read | (selectors.EVENT_WRITE if event & ~select.EPOLLIN else 0)


def event_loop() -> asyncio.AbstractEventLoop:
    """Return a loop that never reads for long without looking at the time."""
    return asyncio.SelectorEventLoop(_FewEvents() if sys.platform == "linux" else None)


class _Time(ctypes.Structure):
    _fields_ = (("s", ctypes.c_long), ("ns", ctypes.c_long))


class _Timer(ctypes.Structure):
    """Source: timerfd_settime(2), ``struct itimerspec``; an interval of 0 fires once."""

    _fields_ = (("interval", _Time), ("value", _Time))


class Alarm:
    """One waiter at a time. Elsewhere than on Linux it is the event loop's timer alone."""

    def __enter__(self) -> Self:
        self._descriptor: int | None = None
        if sys.platform == "linux":
            self._libc = ctypes.CDLL(None, use_errno=True)
            self._open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._descriptor is not None:
            asyncio.get_running_loop().remove_reader(self._descriptor)
            os.close(self._descriptor)

    async def until(self, time_s: float) -> None:
        """Return at a time of ``time.monotonic``, or at once if it is over."""
        if time_s <= time.monotonic():
            return
        loop = asyncio.get_running_loop()
        self._rung = loop.create_future()
        timer = loop.call_at(time_s, self._ring)
        if self._descriptor is not None:
            seconds, ns = divmod(int(time_s * _NS_PER_S), _NS_PER_S)
            once = _Timer(value=_Time(seconds, ns))
            self._libc.timerfd_settime(self._descriptor, _ABSOLUTE, ctypes.byref(once), None)
        await self._rung
        timer.cancel()

    def _open(self) -> None:
        flags = os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = self._libc.timerfd_create(time.CLOCK_MONOTONIC, flags)
        if descriptor >= 0:  # below: a sandbox forbids it
            self._descriptor = descriptor
            asyncio.get_running_loop().add_reader(descriptor, self._fire)

    def _fire(self) -> None:
        assert self._descriptor is not None
        with contextlib.suppress(BlockingIOError):
            os.read(self._descriptor, 8)
            self._ring()

    def _ring(self) -> None:
        if not self._rung.done():
            self._rung.set_result(None)

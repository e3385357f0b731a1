"""What the client costs and how well it keeps time: ``python -m tests.traffic.measure``.

The server is aiohttp in a process of its own, with one answer of one token that it sends as it is.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from packsweep.traffic.process import drive_in_process
from packsweep.traffic.schedule import arrivals
from packsweep.traffic.window import Load, LoadRequest, Target, Window

BODY = json.dumps(
    {
        "model": "model",
        "prompt": "Good film. " * 30,
        "max_tokens": 1,
        "stream": True,
        "stream_options": {"include_usage": True},
        "return_token_ids": True,
    }
).encode()
STALL = (3.0, 5.0)


def window(load: Load, *arguments: str, body: bytes = BODY) -> Window:
    """Drive a server that is started with these arguments."""
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(
            [sys.executable, "-m", "tests.traffic.servers", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as server,
    ):
        assert server.stdout is not None
        assert server.stdin is not None
        target = Target(server.stdout.readline().strip(), timeout_s=30.0)
        try:
            return drive_in_process(Path(folder), target, [LoadRequest(body, 1)], load)
        finally:
            server.stdin.close()


def delays_ms(driven: Window) -> str:
    late_s = [each.dispatched_s - each.arrived_s for each in driven.responses]
    p50, p99, most = 1000 * np.percentile(late_s, [50, 99, 100])
    return f"sent late p50 {p50:.3f} ms, p99 {p99:.3f} ms, at most {most:.3f} ms"


def latencies_ms(driven: Window) -> str:
    latencies_s = [each.token_s[-1] - each.arrived_s for each in driven.responses if each.token_s]
    p50, p99 = 1000 * np.percentile(latencies_s, [50, 99])
    return f"e2e p50 {p50:.2f} ms, p99 {p99:.2f} ms"


def say(name: str, driven: Window, *more: str) -> None:
    num = len(driven.responses)
    errors = sum(each.error is not None for each in driven.responses)
    cost = f"{1000 * driven.cpu_s / num:.3f} ms of CPU each, busy {driven.busy_share:.0%}"
    rate = f"{num / driven.ended_s:,.0f}/s"
    print(f"{name}: {num:,} requests, {errors} errors, {rate}, {cost}", *more, sep="; ")  # noqa: T201


def say_stalled(driven: Window) -> None:
    """Say whether the stall shows in each request that arrived in it, by the time that was left."""
    first_s = driven.responses[0].dispatched_s
    begins_s, ends_s = first_s + STALL[0] + 0.01, first_s + STALL[1]
    stalled = [each for each in driven.responses if begins_s <= each.arrived_s < ends_s]
    shown = sum(each.token_s[-1] >= ends_s - 0.01 for each in stalled if each.token_s)
    print(f"  of {len(stalled):,} that arrived in the stall it shows in {shown:,}")  # noqa: T201


def main(rates: Sequence[float] = (100.0, 1000.0)) -> None:
    for concurrency in (1, 16, 64):
        closed = window(Load(concurrency=concurrency, duration_s=4.0))
        say(f"closed loop of {concurrency}", closed, latencies_ms(closed))
    for rate in rates:
        times = arrivals("poisson", rate, duration_s=8.0)
        driven = window(Load(arrivals=times))
        say(f"{rate:,.0f}/s", driven, delays_ms(driven), latencies_ms(driven))
    times = arrivals("poisson", 1000.0, duration_s=8.0)
    stalled = window(Load(arrivals=times), *map(str, STALL))
    say("1,000/s, stall of 2 s", stalled, delays_ms(stalled), latencies_ms(stalled))
    say_stalled(stalled)
    times = arrivals("poisson", 20.0, duration_s=8.0)
    long = window(Load(arrivals=times), body=BODY.replace(b"Good", b"Good" * 6_000))
    say("20/s of 720 kB", long, delays_ms(long), latencies_ms(long))


if __name__ == "__main__":
    main()

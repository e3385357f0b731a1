"""Sends requests to a server at times that do not depend on its answers, and times what comes back.

An open loop has an absolute schedule: a request is sent at its time however many are in flight, and
one that is late is sent at once, with its lateness on record. So a server that stalls shows in
the latency of every request that arrived meanwhile. A closed loop keeps a number of requests in
flight, the next one sent when one ends.

Inside the window: what aiohttp does to send a request, a connection where none is free, the
server, and reading the stream. Outside: reading the bodies, which are sent as they lie on disk,
and writing the result. ``python -m packsweep.traffic.client FOLDER`` drives what
``process.write_plan`` put into FOLDER, in a process of its own.
"""

from __future__ import annotations

import asyncio
import errno
import gc
import itertools
import resource
import ssl
import sys
import time
import warnings
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp

from packsweep.errors import printable
from packsweep.traffic import process
from packsweep.traffic.alarm import Alarm, event_loop
from packsweep.traffic.stream import Answer, StreamError, kind_of_status
from packsweep.traffic.window import Load, LoadRequest, Response, Target, Window

# From the decision to start until the first request may be due.
_LEAD_S = 0.05
# uvicorn, which vLLM serves with, closes an idle connection after 5 s; one that both ends let go
# of at once would look like a server's reset.
_KEEP_ALIVE_S = 2.0
_LONGEST_DETAIL_BYTES = 2_000
_LONGEST_DETAIL = 300
# What this machine lacks: descriptors, ports, memory for sockets.
_CLIENT_LIMITS = {
    errno.EMFILE,
    errno.ENFILE,
    errno.EADDRNOTAVAIL,
    errno.ENOBUFS,
    errno.ENOMEM,
}

# Status of HTTP, error and detail, as ``Response`` has them.
_Outcome = tuple[int | None, str | None, str | None]


def drive(
    target: Target,
    requests: Sequence[LoadRequest],
    *,
    arrivals: Sequence[float] | None = None,
    concurrency: int | None = None,
    duration_s: float | None = None,
) -> Window:
    """Send requests, in turn and again from the first, and return what became of each.

    Args:
        target: the server.
        requests: what is sent.
        arrivals: open loop: when each is sent, in seconds from the start, ascending.
        concurrency: closed loop: how many are in flight.
        duration_s: how long requests arrive. Open loop: the last arrival unless it is given. Closed
            loop: until each was sent once.

    Raises:
        UserError: the target is no http address, or neither or both kinds of loop are asked for.
    """
    load = Load(arrivals=arrivals, concurrency=concurrency, duration_s=duration_s)
    process.check(target, requests)
    return _run(target, requests, load)


def _run(target: Target, requests: Sequence[LoadRequest], load: Load) -> Window:
    with asyncio.Runner(loop_factory=event_loop) as runner:
        return runner.run(_Loop(target, requests, load).run())


class _Loop:
    """One window while it runs. Times are the event loop's, less the start of the window."""

    def __init__(self, target: Target, requests: Sequence[LoadRequest], load: Load) -> None:
        self._url = target.url
        self._timeout_s = target.timeout_s
        self._key = target.api_key
        self._requests = requests
        self._load = load
        self._payloads = _payloads(requests)
        self._responses: list[Response] = []

    async def run(self) -> Window:
        async with self._window(), asyncio.TaskGroup() as group:
            if self._load.arrivals is not None:
                await self._open_loop(self._load.arrivals, group)
            else:
                self._closed_loop(group)
        return self._result()

    async def _open_loop(self, arrivals: Sequence[float], group: asyncio.TaskGroup) -> None:
        """Send at the times of a schedule."""
        with Alarm() as alarm:
            for index, scheduled_s in enumerate(arrivals):
                await alarm.until(self._began_s + scheduled_s)
                group.create_task(self._send(index, scheduled_s))

    def _closed_loop(self, group: asyncio.TaskGroup) -> None:
        """Keep so many in flight until the window is over, or each request was sent."""
        once = self._load.duration_s is None
        indices = iter(range(len(self._requests)) if once else itertools.count())
        for _ in range(self._load.concurrency or 0):
            group.create_task(self._send_in_turn(indices))

    async def _send_in_turn(self, indices: Iterator[int]) -> None:
        await asyncio.sleep(-self._now_s())
        for index in indices:
            if self._load.duration_s is not None and self._now_s() >= self._load.duration_s:
                return
            await self._send(index, None)

    @asynccontextmanager
    async def _window(self) -> AsyncIterator[None]:
        """Open the session and start the clocks."""
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        if self._key is not None:
            headers["Authorization"] = f"Bearer {self._key}"
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0, keepalive_timeout=_KEEP_ALIVE_S, ttl_dns_cache=None
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=headers,
            skip_auto_headers=("User-Agent", "Accept"),
            timeout=aiohttp.ClientTimeout(total=self._timeout_s),
        ) as self._session:
            self._began_s = time.monotonic() + _LEAD_S
            self._began_unix = time.time() + _LEAD_S
            self._began_cpu_s = time.process_time()
            yield

    def _now_s(self) -> float:
        return time.monotonic() - self._began_s  # the clock of the event loop

    def _result(self) -> Window:
        ended_s = max((response.ended_s for response in self._responses), default=0.0)
        closed_until_empty = self._load.arrivals is None and self._load.duration_s is None
        duration_s = ended_s if closed_until_empty else self._load.last_s
        return Window(
            responses=tuple(sorted(self._responses, key=lambda response: response.index)),
            began_unix=self._began_unix,
            duration_s=duration_s,
            ended_s=max(ended_s, duration_s),
            cpu_s=time.process_time() - self._began_cpu_s,
        )

    async def _send(self, index: int, scheduled_s: float | None) -> None:
        """Send one request and keep what becomes of it."""
        request = self._requests[index % len(self._requests)]
        answer = Answer()
        dispatched_s = self._now_s()
        status, error, detail = await self._post(self._payloads[id(request.body)], answer)
        self._responses.append(
            Response(
                index=index,
                num_texts=request.num_texts,
                scheduled_s=scheduled_s,
                dispatched_s=dispatched_s,
                ended_s=self._now_s(),
                token_s=tuple(answer.token_s),
                status=status,
                error=error,
                detail=None if detail is None else self._shortened(detail),
                text=answer.text,
                prompt_tokens=answer.prompt_tokens,
                output_tokens=answer.output_tokens,
                cached_tokens=answer.cached_tokens,
                finish_reason=answer.finish_reason,
                top_logprobs=answer.top_logprobs,
            )
        )

    async def _post(self, body: aiohttp.BytesPayload, answer: Answer) -> _Outcome:
        """Post a body and read the response into ``answer``; return status, error and detail."""
        status = None
        try:
            async with self._session.post(self._url, data=body, allow_redirects=False) as response:
                status = response.status
                return status, *await self._read(response, answer)
        except StreamError as failure:
            return status, failure.kind, str(failure)
        except TimeoutError:
            return status, "timeout", f"not whole after {self._timeout_s:g} s"
        except (aiohttp.ClientError, OSError) as failure:
            kind = _kind(failure, status)
            if kind == "truncated":
                where = f"the connection ended after {len(answer.token_s)} tokens"
                return status, kind, f"{where} ({type(failure).__name__})"
            return status, kind, f"{type(failure).__name__}: {failure}"

    async def _read(
        self, response: aiohttp.ClientResponse, answer: Answer
    ) -> tuple[str | None, str | None]:
        """Read a response to its end; return its error and what the server said about it."""
        if error := kind_of_status(response.status):
            return error, await _beginning(response) or response.reason
        while data := await response.content.readany():
            answer.feed(data, self._now_s())
        if answer.finish_reason == "abort":
            return "cancelled", "the server ended the request"
        if answer.is_done and answer.token_s:
            return None, None
        if answer.token_s and not answer.is_done:
            return (
                "truncated",
                f"the stream ended after {len(answer.token_s)} tokens, not in [DONE]",
            )
        said = f": {answer.other}" if answer.other else ""
        return "bad_answer", f"no stream of tokens, but {response.content_type}{said}"

    def _shortened(self, detail: str) -> str:
        """Return what is kept of a detail: one line, without the key."""
        without = detail.replace(self._key, "***") if self._key else detail
        return printable(without, one_line=True)[:_LONGEST_DETAIL]


async def _beginning(response: aiohttp.ClientResponse) -> str:
    """Return a short body whole, which frees its connection, or the start of a long one."""
    said = b""
    while len(said) < _LONGEST_DETAIL_BYTES and (data := await response.content.readany()):
        said += data
    return said[:_LONGEST_DETAIL_BYTES].decode(errors="replace")


def _payloads(requests: Sequence[LoadRequest]) -> dict[int, aiohttp.BytesPayload]:
    """Return what aiohttp sends for each body, by the body's identity."""
    payloads: dict[int, aiohttp.BytesPayload] = {}
    with warnings.catch_warnings():
        # A megabyte blocks the event loop for less than a millisecond.
        warnings.simplefilter("ignore", ResourceWarning)
        for request in requests:
            if id(request.body) not in payloads:
                payloads[id(request.body)] = aiohttp.BytesPayload(request.body)
    return payloads


def _kind(failure: Exception, status: int | None) -> str:
    """Return the kind of an error of the connection."""
    if isinstance(failure, OSError) and failure.errno in _CLIENT_LIMITS:
        return "client_limit"
    if isinstance(failure, (aiohttp.ClientConnectorError, ssl.SSLError)):
        return "connect"
    if isinstance(failure, aiohttp.ClientResponseError):
        return "bad_answer"
    return "reset" if status is None else "truncated"


def main(folder: Path) -> None:
    """Drive the plan of a folder and write the window beside it."""
    _allow_open_files()
    target, requests, load = process.read_plan(folder)
    gc.collect()
    gc.freeze()
    process.write_window(folder, _run(target, requests, load))


def _allow_open_files() -> None:
    """Allow as many connections as the system does."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # macOS says that there is no limit, and has one
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

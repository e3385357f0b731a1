"""A server on loopback that answers as vLLM's does, and misbehaves as it is told.

``Server`` runs in a thread of the test. ``python -m tests.traffic.servers [STALL_S END_S]`` is a
``NoopServer`` in a process of its own, which prints its address, and ends when its standard input
does.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Self

from aiohttp import web

from packsweep.traffic.window import LoadRequest

BODY = json.dumps(
    {
        "model": "model",
        "prompt": "Good film. Positive or negative?",
        "stream": True,
        "stream_options": {"include_usage": True},
        "return_token_ids": True,
    }
).encode()
REQUEST = LoadRequest(BODY, 1)

Fault = Literal["reset", "half", "reset_half", "not_a_stream", "error_in_stream"]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """How one request is answered.

    Attributes:
        status: of HTTP.
        headers: beside what the server sends by itself.
        text: the answer, spread over the tokens.
        chunks: tokens of each chunk, such as ``(1, 1, 2)``.
        first_s: time until the first chunk.
        gap_s: time between two chunks.
        says_tokens: each chunk names its token ids.
        fault: what goes wrong.
    """

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    text: str = "positive"
    chunks: Sequence[int] = (1,)
    first_s: float = 0.0
    gap_s: float = 0.0
    says_tokens: bool = True
    fault: Fault | None = None


class Server:
    """Answers the request of each index as ``answer`` says; ``received`` keeps what it was sent.

    Args:
        answer: of the request's index, counted from 0; one answer is for all.
        service_s: one request at a time is served, for so long, in the order of arrival.
        stall: start and end, in seconds from the first request, between which nothing is answered.
    """

    def __init__(
        self,
        answer: Answer | Callable[[int], Answer] = Answer(),
        *,
        service_s: float = 0.0,
        stall: tuple[float, float] | None = None,
    ) -> None:
        self._answer = (lambda _: answer) if isinstance(answer, Answer) else answer
        self._service_s = service_s
        self._stall = stall
        self._first_s: float | None = None
        self._free = asyncio.Lock()
        self._running = 0
        self.received: list[tuple[dict[str, str], dict[str, Any]]] = []
        self.num_received = 0
        self.is_healthy = True

    def __enter__(self) -> Self:
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._run(),))
        self._stopped = asyncio.Event()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join()
        self._loop.close()

    async def _run(self) -> None:
        async with serving(self, self._socket):
            await self._stopped.wait()

    def app(self) -> web.Application:
        app = web.Application(client_max_size=1 << 28)
        app.router.add_post("/v1/completions", self._completions)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/health", self._health)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_post("/reset_prefix_cache", self._reset_prefix_cache)
        return app

    async def _completions(self, request: web.Request) -> web.StreamResponse:
        index = self.num_received
        self.num_received += 1
        body = await request.read()
        self.received.append((dict(request.headers), json.loads(body)))
        self._running += 1
        try:
            await self._wait()
            return await self._respond(request, self._answer(index), len(body))
        finally:
            self._running -= 1

    async def _wait(self) -> None:
        """Wait for the end of a stall, and for the requests before this one."""
        now_s = asyncio.get_running_loop().time()
        if self._first_s is None:
            self._first_s = now_s
        if self._stall is not None:
            begins_s, ends_s = (self._first_s + end_s for end_s in self._stall)
            if begins_s <= now_s < ends_s:
                await asyncio.sleep(ends_s - now_s)
        if self._service_s:
            async with self._free:
                await asyncio.sleep(self._service_s)

    async def _respond(
        self, request: web.Request, answer: Answer, num_bytes: int
    ) -> web.StreamResponse:
        assert request.transport is not None
        if answer.fault == "reset":
            _abort(request)
            return web.Response()
        if answer.status != 200:
            error = {"error": {"message": f"told to say {answer.status}", "code": answer.status}}
            return web.json_response(error, status=answer.status, headers=answer.headers)
        if answer.fault == "not_a_stream":
            return web.json_response({"choices": [{"text": answer.text}]})
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await self._stream(request, response, answer, num_bytes)
        return response

    async def _stream(
        self, request: web.Request, response: web.StreamResponse, answer: Answer, num_bytes: int
    ) -> None:
        if answer.first_s:
            await asyncio.sleep(answer.first_s)
        for position, num_tokens in enumerate(answer.chunks):
            if position and answer.gap_s:
                await asyncio.sleep(answer.gap_s)
            if position == len(answer.chunks) // 2 and answer.fault is not None:
                await _break(request, response, answer.fault)
                return
            is_last = position == len(answer.chunks) - 1
            await response.write(_event(_chunk(answer, position, num_tokens, is_last=is_last)))
        num_tokens = sum(answer.chunks)
        usage = {
            "prompt_tokens": num_bytes,
            "completion_tokens": num_tokens,
            "total_tokens": num_bytes + num_tokens,
            "prompt_tokens_details": {"cached_tokens": 0},
        }
        await response.write(_event({"choices": [], "usage": usage}) + b"data: [DONE]\n\n")

    async def _models(self, _: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": "model", "object": "model"}]})

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response(status=200 if self.is_healthy else 503)

    async def _metrics(self, _: web.Request) -> web.Response:
        labels = '{engine="0",model_name="model"}'
        figures = {
            "num_requests_running": self._running,
            "num_requests_waiting": 0,
            "kv_cache_usage_perc": 0.0,
            "prefix_cache_queries_total": self.num_received,
            "prefix_cache_hits_total": 0,
        }
        lines = [f"vllm:{name}{labels} {value}\n" for name, value in figures.items()]
        return web.Response(text="".join(lines))

    async def _reset_prefix_cache(self, _: web.Request) -> web.Response:
        return web.Response()


@contextlib.asynccontextmanager
async def serving(server: Server, listening: socket.socket) -> Any:
    """Serve on a socket that listens already."""
    runner = web.AppRunner(server.app(), access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.SockSite(runner, listening).start()
    try:
        yield
    finally:
        await runner.cleanup()


def _event(content: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(content).encode() + b"\n\n"


def _chunk(answer: Answer, position: int, num_tokens: int, *, is_last: bool) -> dict[str, Any]:
    size = -(-len(answer.text) // len(answer.chunks))
    choice: dict[str, Any] = {
        "index": 0,
        "text": answer.text[position * size : (position + 1) * size],
        "logprobs": None,
        "finish_reason": "length" if is_last else None,
    }
    if answer.says_tokens:
        choice["token_ids"] = list(range(num_tokens))
    return {"id": "cmpl-0", "object": "text_completion", "model": "model", "choices": [choice]}


async def _break(request: web.Request, response: web.StreamResponse, fault: Fault) -> None:
    """Let go wrong what goes wrong inside a stream."""
    if fault == "error_in_stream":
        await response.write(_event({"error": {"message": "told to fail", "code": 500}}))
        await response.write(b"data: [DONE]\n\n")
    elif fault == "reset_half":
        await asyncio.sleep(0.01)  # what was written goes first
        _abort(request)
    elif request.transport is not None:
        request.transport.close()


def _abort(request: web.Request) -> None:
    """End the connection with a reset."""
    assert request.transport is not None
    connection = request.transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    request.transport.abort()


async def _serve_until_stdin_ends(server: Server) -> None:
    listening = socket.create_server(("127.0.0.1", 0), backlog=4096)
    async with serving(server, listening):
        print(f"http://127.0.0.1:{listening.getsockname()[1]}", flush=True)  # noqa: T201
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


class NoopServer(Server):
    """Answers at once, with bytes that are ready, but in a stall."""

    _BODY = b"".join(
        [
            _event(_chunk(Answer(), 0, 1, is_last=True)),
            _event({"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}),
            b"data: [DONE]\n\n",
        ]
    )

    async def _completions(self, request: web.Request) -> web.StreamResponse:
        await request.read()
        await self._wait()
        return web.Response(body=self._BODY, content_type="text/event-stream")


if __name__ == "__main__":
    ends = [float(end) for end in sys.argv[1:]]
    stall = (ends[0], ends[1]) if ends else None
    asyncio.run(_serve_until_stdin_ends(NoopServer(stall=stall)))

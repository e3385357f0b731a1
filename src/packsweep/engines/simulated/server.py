"""The simulated engine behind a real socket: what the online mode drives without vLLM.

A single queue, first come, first served, one request at a time: a request takes what the simulated
engine computes for it alone, so rate and latency follow from a known service time. Faults are the
engine's own (``[simulated] fault``), planted in the server's process; ``unfinished`` ends a stream
in its middle.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from packsweep.engines import Request
from packsweep.engines.server import COMPLETIONS, HOST, ChildServer
from packsweep.engines.simulated import SimulatedEngine, info_of
from packsweep.errors import EngineError
from packsweep.sweep.spec import Format

if TYPE_CHECKING:
    from aiohttp import web

    from packsweep.engines import RequestResult
    from packsweep.models.resolve import Model
    from packsweep.sweep.cells import Cell


class SimulatedServer(ChildServer):
    """A server for one cell."""

    def __init__(self, cell: Cell, model: Model) -> None:
        """Start it and wait until it is ready.

        Raises:
            EngineError: the cell plants a fault at start.
        """
        super().__init__(_serve, (cell, model))
        self.info = info_of(cell)


def _serve(port: int, name: str, cell: Cell, model: Model) -> None:
    """Become the server, in a process of its own."""
    from aiohttp import web

    try:
        engine = SimulatedEngine(cell, model)
    except EngineError as error:
        # In the form in which the processes of vLLM tell why they end.
        print(f"(SimulatedServer pid={os.getpid()}) {error}", file=sys.stderr)  # noqa: T201
        sys.exit(1)
    try:
        routes = _Application(engine, cell, name).routes()
        web.run_app(routes, host=HOST, port=port, print=None, access_log=None)
    finally:
        engine.close()


class _Application:
    """What the server answers."""

    def __init__(self, engine: SimulatedEngine, cell: Cell, name: str) -> None:
        self._name = name
        self._engine = engine
        self._cell = cell
        self._turn = asyncio.Lock()
        self._waiting = self._running = 0
        self._queries = self._hits = 0

    def routes(self) -> web.Application:
        from aiohttp import web

        found = web.Application(client_max_size=1 << 30)
        found.add_routes(
            [
                web.get("/health", self._health),
                web.get("/v1/models", self._models),
                web.get("/metrics", self._metrics),
                web.post("/reset_prefix_cache", self._reset),
                web.post(COMPLETIONS, self._complete),
            ]
        )
        return found

    async def _health(self, _: web.Request) -> web.Response:
        from aiohttp import web

        return web.Response()

    async def _models(self, _: web.Request) -> web.Response:
        from aiohttp import web

        return web.json_response({"data": [{"id": self._name}]})

    async def _metrics(self, _: web.Request) -> web.Response:
        from aiohttp import web

        values = {
            "num_requests_running": self._running,
            "num_requests_waiting": self._waiting,
            "prefix_cache_queries_total": self._queries,
            "prefix_cache_hits_total": self._hits,
            "num_preemptions_total": 0,
        }
        return web.Response(text="".join(f"vllm:{key} {value}\n" for key, value in values.items()))

    async def _reset(self, _: web.Request) -> web.Response:
        from aiohttp import web

        self._engine.reset_prefix_cache()
        return web.json_response({"success": True})

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        from aiohttp import web

        values = await request.json()
        asked, salt = self._asked(values), values.get("cache_salt")
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        self._waiting += 1
        async with self._turn:
            self._waiting, self._running = self._waiting - 1, self._running + 1
            try:
                async for chunk in self._answer(asked, salt):
                    await response.write(f"data: {json.dumps(chunk)}\n\n".encode())
            finally:
                self._running -= 1
        if self._cell_fault == "unfinished":
            assert request.transport is not None
            request.transport.close()
            return response
        await response.write(b"data: [DONE]\n\n")
        return response

    @property
    def _cell_fault(self) -> Any:  # noqa: ANN401
        return dict(self._cell.simulated_settings)["fault"]

    async def _answer(self, asked: Request, salt: str | None) -> AsyncIterator[dict[str, Any]]:
        """Yield the chunks of an answer, each when its token is made."""
        self._engine.salt = salt
        result = self._engine.run([asked]).requests[0]
        self._queries += len(result.prompt_token_ids)
        self._hits += result.cached_tokens or 0
        first_s, rest_s = result.prefill_s or 0.0, result.decode_s or 0.0
        began = time.perf_counter()
        last = result.output_tokens - 1
        for index in range(result.output_tokens):
            due_s = first_s + (rest_s * index / last if last else rest_s)
            await asyncio.sleep(max(0.0, began + due_s - time.perf_counter()))
            yield _chunk(result, index)

    def _asked(self, values: dict[str, Any]) -> Request:
        """Return a request of the cell; how many texts it is about follows from its limit."""
        texts = max(1, values["max_tokens"] // self._cell.output_tokens_per_text)
        form: Format = self._cell.format
        return Request(
            text=self._engine.text_of(values["prompt"]),
            max_tokens=values["max_tokens"],
            ignore_eos=values.get("ignore_eos", False),
            num_texts=texts,
            add_special_tokens=values.get("add_special_tokens", True),
            choice=self._cell.words if self._cell.answer == "choice" else (),
            format=form,
            allowed_token_ids=tuple(values.get("allowed_token_ids", ())),
        )


def _chunk(result: RequestResult, index: int) -> dict[str, Any]:
    """Return the chunk of one output token, with the counts so far."""
    text, number = result.text, result.output_tokens
    piece = text[len(text) * index // number : len(text) * (index + 1) // number]
    is_last = index == number - 1
    return {
        "choices": [{"text": piece, "finish_reason": result.finish_reason if is_last else None}],
        "usage": {
            "prompt_tokens": len(result.prompt_token_ids),
            "completion_tokens": index + 1,
            "prompt_tokens_details": {"cached_tokens": result.cached_tokens},
        },
    }

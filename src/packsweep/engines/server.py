"""Servers behind one small protocol: what the online mode drives.

A server speaks the protocol of OpenAI's completions. The requests of a window are sent and timed
by ``packsweep.traffic``; this module starts, asks and stops what answers them. A new kind is a
module beside this one and a row in ``engines.start_server``.

Source: paths and metrics of vLLM 0.26 to 0.33, ``entrypoints/openai``, ``entrypoints/serve``,
``v1/metrics/loggers.py``.
"""

from __future__ import annotations

import http.client
import json
import multiprocessing
import os
import re
import secrets
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from packsweep.engines import EngineInfo, Request
from packsweep.errors import EngineError, printable, without_credentials
from packsweep.machine import environment, process
from packsweep.sweep import answers

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

HOST = "127.0.0.1"
COMPLETIONS = "/v1/completions"
_POLL_S = 0.25
_CALL_TIMEOUT_S = 60.0
_PROBE_TIMEOUT_S = 2.0
_STOP_TIMEOUT_S = 30.0
_RESETS = 40
_IDLE_TIMEOUT_S = 10.0
_MOST_BYTES = 1 << 26  # of a page
_LONGEST_SAID = 120
_SAMPLE = re.compile(r"^(vllm:\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)
# An early version says nothing.
_SAYS_NO = re.compile(r'"success"\s*:\s*false')
_LABEL = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What a server says of itself at one moment; None where it does not.

    Attributes:
        running: requests.
        waiting: requests.
        cache_queries: prompt tokens looked up in the prefix cache since its start.
        cache_hits: prompt tokens found.
        preemptions: since its start.
        cache_config: of the KV cache, by vLLM's names, as text.
    """

    running: int | None = None
    waiting: int | None = None
    cache_queries: float | None = None
    cache_hits: float | None = None
    preemptions: float | None = None
    cache_config: Mapping[str, str]


class Server(Protocol):
    """A server that is ready for requests.

    Attributes:
        base_url: without the path of a completion.
        model: what it calls the model.
    """

    base_url: str
    model: str
    info: EngineInfo

    def figures(self) -> Figures:
        """What it says of itself now."""

    def reset_prefix_cache(self) -> None:
        """Empty the prefix cache.

        Raises:
            EngineError: the server refused, or cannot.
        """

    def check(self) -> None:
        """Do nothing while it answers.

        Raises:
            EngineError: it does not any more.
        """

    def close(self) -> None:
        """Stop it, if it is ours, and wait until its processes are gone."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Another address must not get the key."""

    def redirect_request(self, *_: Any, **__: Any) -> None:  # noqa: ANN401
        return None


class Endpoint:
    """Calls of a server beside the measured ones, one at a time, without a proxy."""

    def __init__(self, base_url: str, api_key: str | None = None) -> None:
        """Take the address; ``api_key`` is sent as a bearer token."""
        self.base_url = base_url
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect())

    def call(self, path: str, *, post: bool = False, timeout_s: float = _CALL_TIMEOUT_S) -> str:
        """Return the body of an answer.

        Raises:
            OSError: there is none, or it is an error; ``HTTPError`` has the status.
        """
        request = urllib.request.Request(  # noqa: S310  (http and https alone: spec)
            self.base_url + path, data=b"" if post else None, headers=self._headers
        )
        try:
            with self._opener.open(request, timeout=timeout_s) as response:
                content: bytes = response.read(_MOST_BYTES)
        except urllib.error.HTTPError as error:
            error.close()
            raise
        except (http.client.HTTPException, UnicodeError) as error:
            said = printable(f"{type(error).__name__}: {error}", one_line=True)
            raise ConnectionError(f"it does not speak HTTP: {said[:_LONGEST_SAID]}") from None
        return content.decode(errors="replace")

    def is_up(self) -> bool:
        """Tell whether the server is ready."""
        try:
            self.call("/health", timeout_s=_PROBE_TIMEOUT_S)
        except (OSError, ValueError):
            return False
        return True

    def figures(self) -> Figures:
        """Return what /metrics says; nothing where there is no such page, or none of vLLM's."""
        try:
            return figures(self.call("/metrics"))
        except (OSError, ValueError, OverflowError):  # a number of requests that is NaN or infinite
            return Figures(cache_config={})

    def version(self) -> str | None:
        """Return the version that the server says it is; None where it does not."""
        try:
            return str(json.loads(self.call("/version"))["version"])
        except (OSError, ValueError, LookupError, TypeError, RecursionError):
            return None

    def reset_prefix_cache(self) -> None:
        """Empty the prefix cache, which vLLM allows where ``VLLM_SERVER_DEV_MODE`` is set.

        It refuses while a request holds a block, which one that was given up does for a moment.
        """
        for _ in range(_RESETS):
            if self._was_reset():
                return
            time.sleep(_POLL_S)
        message = "the server refused to empty its prefix cache: a block is still in use"
        raise EngineError(message, outcome="invalid")

    def _was_reset(self) -> bool:
        try:
            said = self.call("/reset_prefix_cache", post=True)
        except urllib.error.HTTPError as error:
            raise EngineError(
                f"{self.base_url}: the prefix cache cannot be emptied (HTTP {error.code}): start "
                "the server with VLLM_SERVER_DEV_MODE=1, or set measure.cache_state=primed",
                outcome="invalid",
            ) from None
        except OSError as error:
            raise EngineError(f"{self.base_url}: does not answer: {said_of(error)}") from None
        return not _SAYS_NO.search(said)


class ChildServer:
    """A server of this process's own, in a child that dies with it."""

    def __init__(self, serve: Callable[..., None], arguments: Sequence[Any]) -> None:
        """Start ``serve`` with a port, a name and ``arguments`` in a new process; wait for it.

        The model has a name that no other server gives to its own: on a host of many GPUs several
        start at once, and a port that was free may not be any more.

        Raises:
            EngineError: the process ended before it was ready, or another answers in its place.
        """
        port = _free_port()
        self.model = f"packsweep-{secrets.token_hex(4)}"
        self.base_url = f"http://{HOST}:{port}"
        self._endpoint = Endpoint(self.base_url)
        # Both are under a lifeline. Forked of a worker that is forked itself: what it needs is
        # imported, and nothing has touched a GPU.
        forked = os.environ.get(environment.START_METHOD) == "fork"
        context: Any = multiprocessing.get_context("fork" if forked else "spawn")
        self._process: BaseProcess = context.Process(
            target=serve, args=(port, self.model, *arguments)
        )
        self._process.start()
        try:
            while not self._endpoint.is_up():
                self.check()
                time.sleep(_POLL_S)
            self._check_name()
        except BaseException:
            self.close()
            raise

    def _check_name(self) -> None:
        if self.model not in self._endpoint.call("/v1/models"):
            raise EngineError(f"another server answers at {self.base_url}")

    def figures(self) -> Figures:
        return self._endpoint.figures()

    def version(self) -> str | None:
        """Return the version that the server says it is."""
        return self._endpoint.version()

    def reset_prefix_cache(self) -> None:
        self._endpoint.reset_prefix_cache()

    def check(self) -> None:
        code = self._process.exitcode
        if code is not None:
            how = f"was ended by signal {-code}" if code < 0 else f"ended with status {code}"
            raise EngineError(f"the server {how}")

    def close(self) -> None:
        """Ask the server to stop; kill what is left of it and its children."""
        family = process.below(self._process.pid or 0)
        self._process.terminate()
        self._process.join(_STOP_TIMEOUT_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        alive = process.wait_until_ended(family, _POLL_S)
        process.kill_all(alive)
        process.wait_until_ended(alive, _STOP_TIMEOUT_S)


def wait_until_idle(server: Server) -> None:
    """Wait until no request is under way; one that was given up takes a moment to end.

    Raises:
        EngineError: one is still, or the server does not say.
    """
    deadline = time.monotonic() + _IDLE_TIMEOUT_S
    while True:
        now = server.figures()
        if now.running == now.waiting == 0:
            return
        if now.running is None or time.monotonic() > deadline:
            raise EngineError(f"{now.running} requests run and {now.waiting} wait in it")
        time.sleep(_POLL_S)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def figures(text: str) -> Figures:
    """Read a page of metrics; the sum over engines where there are several."""
    totals: dict[str, float] = {}
    config: dict[str, str] = {}
    for name, labels, value in _SAMPLE.findall(text):
        short = name.removeprefix("vllm:").removesuffix("_total")
        totals[short] = totals.get(short, 0.0) + float(value)
        if short == "cache_config_info":
            config = dict(_LABEL.findall(labels))
    running, waiting = (totals.get(f"num_requests_{state}") for state in ("running", "waiting"))
    return Figures(
        running=None if running is None else int(running),
        waiting=None if waiting is None else int(waiting),
        cache_queries=totals.get("prefix_cache_queries"),
        cache_hits=totals.get("prefix_cache_hits"),
        preemptions=totals.get("num_preemptions"),
        cache_config=config,
    )


def body(request: Request, model: str, prompt: str | Sequence[int]) -> bytes:
    """Return a request as a server takes it, with all that would otherwise be the model's default.

    The count of tokens in every chunk tells the times of those that share one.
    """
    values: dict[str, Any] = {
        "model": model,
        "prompt": prompt,
        "max_tokens": request.max_tokens,
        "temperature": 0.0,
        "repetition_penalty": 1.0,
        "ignore_eos": request.ignore_eos,
        "add_special_tokens": request.add_special_tokens,
        "skip_special_tokens": not request.ignore_eos,  # else the end of an answer is not seen
        "stream": True,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
    }
    if request.allowed_token_ids:
        values["allowed_token_ids"] = request.allowed_token_ids
    elif request.choice:
        values["structured_outputs"] = _constraint(request)
    return json.dumps(values).encode()


def _constraint(request: Request) -> dict[str, Any]:
    if request.num_texts == 1 and request.format == "lines":
        return {"choice": list(request.choice)}
    return {"regex": answers.pattern(request.choice, request.num_texts, request.format)}


def said_of(error: OSError) -> str:
    """Return in a few words why a server did not answer."""
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP {error.code}"
    reason = getattr(error, "reason", None) or error
    return without_credentials(str(reason))

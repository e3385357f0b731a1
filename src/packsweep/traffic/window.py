"""What a client offers a server in one window of time, and what came back.

All times of a window are seconds from its start. Nothing that follows from another value is stored.
NumPy is imported where it is used: its threads, one a core, spin for a while after the import,
and in the client's process that would count as the client's work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

from packsweep.errors import UserError

# Errors that are no status of HTTP; of another status it is ``http_`` and the number.
ERRORS = (
    "connect",  # no connection
    "reset",  # the connection ended before an answer began
    "timeout",  # not whole after ``Target.timeout_s``
    "truncated",  # the connection ended inside an answer
    "redirect",  # never followed: another host must not get the key
    "rate_limited",  # 429
    "server_error",  # 500 and above, or an error inside a stream
    "bad_answer",  # 200, but no stream of tokens
    "cancelled",  # the server gave the request up
    "client_limit",  # this machine had no socket or file left; says nothing about the server
)

_IN_FLIGHT_SAMPLES = 200


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """A request as it is sent.

    Attributes:
        body: JSON, with ``"stream": true`` and ``"stream_options": {"include_usage": true}``. It is
            sent as it is; many requests may share one object. ``"return_token_ids": true`` tells
            the times of tokens that share a chunk.
        num_texts: texts that it asks about.
    """

    body: bytes
    num_texts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """When requests are sent, in turn and again from the first.

    Attributes:
        arrivals: open loop: the time of each in seconds, ascending.
        concurrency: closed loop: how many are in flight.
        duration_s: how long requests arrive. Open loop: until the last arrival unless it is given.
            Closed loop: until each was sent once.

    Raises:
        UserError: it is neither or both, or nothing is ever sent.
    """

    arrivals: Sequence[float] | None = None
    concurrency: int | None = None
    duration_s: float | None = None

    def __post_init__(self) -> None:
        """Check it."""
        if (self.arrivals is None) == (self.concurrency is None):
            raise UserError("a load has either arrivals or a concurrency")
        if self.concurrency is not None and self.concurrency < 1:
            raise UserError(f"concurrency is {self.concurrency}; it must be at least 1")
        if self.duration_s is not None and not self.duration_s > 0:
            raise UserError(f"a load lasts {self.duration_s} s; it must last longer than 0 s")
        if self.arrivals is not None and len(self.arrivals) == 0:
            raise UserError("no request arrives in the window; raise the rate or the duration")

    @property
    def last_s(self) -> float:
        """The end of an open loop's window."""
        last_s = self.arrivals[-1] if self.arrivals else 0.0
        return last_s if self.duration_s is None else self.duration_s

    def longest_s(self, num_requests: int, timeout_s: float) -> float:
        """Return how long the window can take until its last response has ended."""
        in_turn = 1
        if self.concurrency is not None and self.duration_s is None:
            in_turn = -(-num_requests // self.concurrency)
        last_arrival_s = self.arrivals[-1] if self.arrivals else 0.0
        return max(self.last_s, last_arrival_s) + in_turn * timeout_s


@dataclass(frozen=True, slots=True)
class Target:
    """A server.

    Attributes:
        base_url: such as ``http://127.0.0.1:8000``.
        path: of the endpoint, which speaks the protocol of OpenAI's completions.
        api_key: sent as a bearer token; never written to a file.
        timeout_s: how long a request may take from its dispatch to its last byte.
    """

    base_url: str
    path: str = "/v1/completions"
    api_key: str | None = field(default=None, repr=False)
    timeout_s: float = 600.0

    @property
    def url(self) -> str:
        return self.base_url.rstrip("/") + self.path


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """What became of one request.

    Attributes:
        index: position in the order of dispatch.
        num_texts: texts that the request asked about.
        scheduled_s: when it was to be sent; None in a closed loop.
        dispatched_s: when it was.
        token_s: when each output token arrived. Tokens that came in one chunk share a time. Where
            the server does not say how many tokens a chunk holds there is one time a chunk, and
            fewer than ``output_tokens``.
        ended_s: when its last byte arrived, or when it failed.
        status: of HTTP; None without an answer.
        error: one of ``ERRORS`` or ``http_`` and a status; None if it is whole.
        detail: what the server or the system said about the error, shortened.
        text: the answer.
        prompt_tokens: as the server counts; None if it does not say.
        output_tokens: as the server counts, else the tokens that arrived.
        cached_tokens: prompt tokens from the prefix cache; None if the server does not say.
        finish_reason: as the server calls it.
        top_logprobs: of the first output token, where the body asked for ``logprobs``.
    """

    index: int
    num_texts: int
    scheduled_s: float | None
    dispatched_s: float
    ended_s: float
    token_s: tuple[float, ...] = ()
    status: int | None = None
    error: str | None = None
    detail: str | None = None
    text: str = ""
    prompt_tokens: int | None = None
    output_tokens: int = 0
    cached_tokens: int | None = None
    finish_reason: str | None = None
    top_logprobs: dict[str, float] | None = None

    @property
    def arrived_s(self) -> float:
        """The start of its latency: when it was to be sent, or in a closed loop when it was."""
        return self.dispatched_s if self.scheduled_s is None else self.scheduled_s

    @property
    def ttft_s(self) -> float | None:
        """Time to the first token; None without one."""
        return self.token_s[0] - self.arrived_s if self.token_s else None

    @property
    def e2e_s(self) -> float | None:
        """Time to the last token; None without one."""
        return self.token_s[-1] - self.arrived_s if self.token_s else None

    @property
    def tpot_s(self) -> float | None:
        """Time per output token after the first; None without a second."""
        if self.output_tokens <= 1 or not self.token_s:
            return None
        return (self.token_s[-1] - self.token_s[0]) / (self.output_tokens - 1)

    @property
    def itl_s(self) -> list[float]:
        """Times between tokens; none where they are not known token by token."""
        if len(self.token_s) != self.output_tokens:
            return []
        return [after - before for before, after in pairwise(self.token_s)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """One window: the requests that arrived in it, each followed to its end.

    Attributes:
        responses: in the order of dispatch.
        began_unix: its start, by the clock of the wall.
        duration_s: how long requests arrived.
        ended_s: when the last response ended.
        cpu_s: CPU time of the client's process from the start to ``ended_s``.
    """

    responses: tuple[Response, ...]
    began_unix: float
    duration_s: float
    ended_s: float
    cpu_s: float

    @property
    def busy_share(self) -> float:
        """CPU time of the client over time; at 1 the client is the bottleneck."""
        return self.cpu_s / self.ended_s if self.ended_s else 0.0

    @property
    def dispatch_delay_p50_s(self) -> float | None:
        return self._dispatch_delay_s(50)

    @property
    def dispatch_delay_p99_s(self) -> float | None:
        return self._dispatch_delay_s(99)

    def _dispatch_delay_s(self, percent: float) -> float | None:
        import numpy as np

        delays = [
            response.dispatched_s - response.scheduled_s
            for response in self.responses
            if response.scheduled_s is not None
        ]
        return float(np.percentile(delays, percent)) if delays else None

    @property
    def in_flight(self) -> tuple[tuple[float, int], ...]:
        """Pairs of a time and the requests that had arrived and not ended, evenly spaced."""
        import numpy as np

        times = np.linspace(0, self.duration_s, _IN_FLIGHT_SAMPLES, endpoint=False)
        return tuple(zip(times.tolist(), in_flight(self.responses, times.tolist()), strict=True))


def in_flight(responses: Sequence[Response], times_s: Sequence[float]) -> list[int]:
    """Return how many requests had arrived and not ended at each time."""
    import numpy as np

    arrived = np.sort([response.arrived_s for response in responses])
    ended = np.sort([response.ended_s for response in responses])
    counts = np.searchsorted(arrived, times_s, "right") - np.searchsorted(ended, times_s, "right")
    return [int(count) for count in counts]


def window_to_json(window: Window) -> dict[str, Any]:
    return asdict(window)


def window_from_json(values: dict[str, Any]) -> Window:
    responses = tuple(
        Response(**{**response, "token_s": tuple(response["token_s"])})
        for response in values["responses"]
    )
    return Window(**{**values, "responses": responses})

"""The answer of a completions endpoint, read event by event.

Source: server-sent events, https://html.spec.whatwg.org/multipage/server-sent-events.html; fields
of vLLM 0.26 to 0.33, ``entrypoints/openai/completion/protocol.py``.
"""

from __future__ import annotations

import json
import re
from typing import Any

_BLANK_LINE = re.compile(rb"\r\n\r\n|\n\n")
_DONE = b"[DONE]"


class StreamError(Exception):
    """The server wrote an error, or what is no event, into its stream.

    Attributes:
        kind: as ``Response.error`` names it.
    """

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind


class Answer:
    """What has arrived of one answer.

    Attributes:
        token_s: time of each token, or of each chunk: see ``Response``.
        text: what was written, in pieces.
        usage: the server's own counts; empty until it sends them.
        is_done: the server said that the answer is whole.
    """

    def __init__(self) -> None:
        """Begin with nothing."""
        self.token_s: list[float] = []
        self.text: list[str] = []
        self.usage: dict[str, Any] = {}
        self.finish_reason: str | None = None
        self.top_logprobs: dict[str, float] | None = None
        self.is_done = False
        self._rest = b""

    def feed(self, data: bytes, time_s: float) -> None:
        """Take bytes that arrived together at ``time_s``.

        Raises:
            StreamError: they hold an error, or no event of a completion.
        """
        *events, self._rest = _BLANK_LINE.split(self._rest + data)
        for event in events:
            if content := _content(event):
                self._take(content, time_s)

    @property
    def output_tokens(self) -> int:
        """Output tokens so far: as the server counts, else those that arrived."""
        counted = self.usage.get("completion_tokens")
        return len(self.token_s) if counted is None else int(counted)

    @property
    def cached_tokens(self) -> int | None:
        return (self.usage.get("prompt_tokens_details") or {}).get("cached_tokens")

    def _take(self, content: bytes, time_s: float) -> None:
        if content == _DONE:
            self.is_done = True
            return
        try:
            chunk = json.loads(content)
            self._add(chunk, time_s)
        except (ValueError, TypeError, AttributeError, LookupError):
            raise StreamError("bad_answer", f"no chunk of a completion: {content!r}") from None

    def _add(self, chunk: dict[str, Any], time_s: float) -> None:
        if error := chunk.get("error"):
            raise StreamError(_kind(error), str(error))
        choices = chunk.get("choices")
        if choices:
            choice = choices[0]
            usage = chunk.get("usage") or {}
            self.token_s += [time_s] * self._new_tokens(choice, usage)
            self.text.append(choice.get("text") or "")
            self.finish_reason = choice.get("finish_reason") or self.finish_reason
            if self.top_logprobs is None and (logprobs := choice.get("logprobs")):
                self.top_logprobs = (logprobs.get("top_logprobs") or [None])[0]
        if chunk.get("usage"):
            self.usage = chunk["usage"]

    def _new_tokens(self, choice: dict[str, Any], usage: dict[str, Any]) -> int:
        """Return how many tokens a chunk holds; one if the server does not say."""
        if (token_ids := choice.get("token_ids")) is not None:
            return len(token_ids)
        if usage:
            return int(usage["completion_tokens"]) - len(self.token_s)
        return len((choice.get("logprobs") or {}).get("tokens") or ()) or 1


def _content(event: bytes) -> bytes:
    """Return the data of an event; nothing of a comment, which servers send to keep alive."""
    lines = [line[5:].removeprefix(b" ") for line in event.splitlines() if line[:5] == b"data:"]
    return b"\n".join(lines)


def kind_of_status(status: int) -> str | None:
    """Return the error that an HTTP status is; None of success."""
    if 200 <= status < 300:  # noqa: PLR2004  (success)
        return None
    if 300 <= status < 400:  # noqa: PLR2004  (redirection)
        return "redirect"
    if status == 429:  # noqa: PLR2004  (too many requests)
        return "rate_limited"
    return "server_error" if status >= 500 else f"http_{status}"  # noqa: PLR2004


def _kind(error: object) -> str:
    """Return the kind of an error inside a stream, which may name a status."""
    code = error.get("code") if isinstance(error, dict) else None
    if isinstance(code, int) and 400 <= code < 500:  # noqa: PLR2004  (what the client did)
        return kind_of_status(code) or "server_error"
    return "server_error"

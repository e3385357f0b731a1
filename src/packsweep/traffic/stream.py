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
# Of one event. The longest that makes sense repeats the ids of a prompt of 120,000 tokens.
_MOST_BYTES = 1 << 22
# In one chunk; no server holds so many back.
_MOST_NEW_TOKENS = 1_000_000
_MOST_TOKENS = 2**40
_SHOWN_BYTES = 200


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
        prompt_tokens: as the server counts; None until it does, as the one below.
        cached_tokens: prompt tokens from the prefix cache.
        is_done: the server said that the answer is whole.
    """

    def __init__(self) -> None:
        """Begin with nothing."""
        self.token_s: list[float] = []
        self.prompt_tokens: int | None = None
        self.cached_tokens: int | None = None
        self.finish_reason: str | None = None
        self.top_logprobs: dict[str, float] | None = None
        self.is_done = False
        self._text: list[str] = []
        self._output_tokens: int | None = None
        self._counts_each: bool | None = None
        self._other = self._rest = b""

    def feed(self, data: bytes, time_s: float) -> None:
        """Take bytes that arrived together at ``time_s``.

        Raises:
            StreamError: they hold an error, or no event of a completion.
        """
        *events, self._rest = _BLANK_LINE.split(self._rest + data)
        for event in events:
            if content := _content(event):
                self._take(content, time_s)
            elif not event.startswith(b":"):
                self._other = self._other or event
        if len(self._rest) > _MOST_BYTES:
            raise StreamError("bad_answer", f"an event of more than {_MOST_BYTES:,} bytes")

    @property
    def text(self) -> str:
        """What was written; half a character that a server cut is replaced."""
        return "".join(self._text).encode("utf-16", "surrogatepass").decode("utf-16", "replace")

    @property
    def output_tokens(self) -> int:
        """Output tokens so far: as the server counts, else those that arrived."""
        return len(self.token_s) if self._output_tokens is None else self._output_tokens

    @property
    def other(self) -> str:
        """The beginning of what is no part of an answer; empty if all was."""
        return (self._other or self._rest)[:_SHOWN_BYTES].decode(errors="replace")

    def _take(self, content: bytes, time_s: float) -> None:
        if content == _DONE:
            self.is_done = True
            return
        try:
            self._add(json.loads(content), content, time_s)
        except (ValueError, TypeError, AttributeError, LookupError, RecursionError):
            shown = content[:_SHOWN_BYTES].decode(errors="replace")
            raise StreamError("bad_answer", f"no chunk of a completion: {shown}") from None

    def _add(self, chunk: dict[str, Any], content: bytes, time_s: float) -> None:
        if error := chunk.get("error"):
            raise StreamError(_kind(error), str(error))
        choices, usage = chunk.get("choices"), chunk.get("usage") or {}
        if not choices and not usage:
            self._other = self._other or content
        if choices:
            choice = choices[0]
            text = _text(choice.get("text"))
            if self._counts_each is None:
                self._counts_each = "completion_tokens" in usage
            num_new = self._new_tokens(choice, usage)
            if num_new > _MOST_NEW_TOKENS:
                raise ValueError(num_new)
            self.token_s += [time_s] * num_new
            self._text.append(text)
            self.finish_reason = _text(choice.get("finish_reason")) or self.finish_reason
            if self.top_logprobs is None and (logprobs := choice.get("logprobs")):
                self.top_logprobs = (logprobs.get("top_logprobs") or [None])[0]
        if usage:
            self._count(usage)

    def _count(self, usage: dict[str, Any]) -> None:
        details = usage.get("prompt_tokens_details") or {}
        self.prompt_tokens = _number(usage.get("prompt_tokens"))
        self.cached_tokens = _number(details.get("cached_tokens"))
        self._output_tokens = _number(usage.get("completion_tokens"))

    def _new_tokens(self, choice: dict[str, Any], usage: dict[str, Any]) -> int:
        """Return how many tokens a chunk holds; one if the server does not say.

        A server that counts in its last chunk alone counts all chunks there. One that sends the
        end of an answer in a chunk without text has sent its last token before.
        """
        if (token_ids := choice.get("token_ids")) is not None:
            return len(token_ids)
        if self._counts_each and (so_far := _number(usage.get("completion_tokens"))) is not None:
            return so_far - len(self.token_s)
        if tokens := (choice.get("logprobs") or {}).get("tokens"):
            return len(tokens)
        return 1 if choice.get("text") or not self.token_s else 0


def _text(value: object) -> str:
    """Return a text that may be left out.

    Raises:
        TypeError: it is something else.
    """
    if value is None or isinstance(value, str):
        return value or ""
    raise TypeError(value)


def _number(value: object) -> int | None:
    """Return a number of tokens that may be left out.

    Raises:
        ValueError: it is something else.
    """
    if value is None:
        return None
    if type(value) is int and 0 <= value <= _MOST_TOKENS:
        return value
    raise ValueError(value)


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

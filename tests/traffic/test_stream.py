from __future__ import annotations

import json
from typing import Any

import pytest

from packsweep.traffic.stream import Answer, StreamError, kind_of_status


def event(**chunk: Any) -> bytes:
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


def choice(text: str, **more: Any) -> bytes:
    return event(choices=[{"index": 0, "text": text, "finish_reason": None, **more}])


def answer(*pieces: bytes) -> Answer:
    """Return what is known after pieces that arrive a second apart, the first at 1 s."""
    answer = Answer()
    for second, piece in enumerate(pieces, start=1):
        answer.feed(piece, float(second))
    return answer


def test_token_ids_count_the_tokens_of_a_chunk() -> None:
    read = answer(choice("a", token_ids=[5]), choice("bc", token_ids=[6, 7]))
    assert read.token_s == [1.0, 2.0, 2.0]
    assert "".join(read.text) == "abc"


def test_running_usage_counts_them_too() -> None:
    first = {"index": 0, "text": "a", "finish_reason": None}
    read = answer(
        event(choices=[first], usage={"completion_tokens": 1}),
        event(choices=[first], usage={"completion_tokens": 3}),
    )
    assert read.token_s == [1.0, 2.0, 2.0]


def test_logprobs_count_them_too_and_those_of_the_first_token_are_kept() -> None:
    logprobs = {"tokens": ["a", "b"], "top_logprobs": [{"a": -0.1, "c": -2.0}, {"b": 0.0}]}
    later = {"tokens": ["d"], "top_logprobs": [{"d": -1.0}]}
    read = answer(choice("ab", logprobs=logprobs), choice("d", logprobs=later))
    assert read.token_s == [1.0, 1.0, 2.0]
    assert read.top_logprobs == {"a": -0.1, "c": -2.0}


def test_chunk_without_a_count_is_one_token_and_the_usage_says_the_rest() -> None:
    read = answer(
        choice("ab"), event(choices=[], usage={"completion_tokens": 2, "prompt_tokens": 7})
    )
    assert read.token_s == [1.0]
    assert read.output_tokens == 2
    assert read.usage["prompt_tokens"] == 7
    assert read.cached_tokens is None


def test_text_that_is_held_back_is_a_token_all_the_same() -> None:
    assert answer(choice("", token_ids=[5])).token_s == [1.0]


def test_event_that_is_cut_anywhere_is_read_when_it_is_whole() -> None:
    whole = choice("ab", token_ids=[1, 2]) + b"data: [DONE]\n\n"
    for cut in range(len(whole)):
        read = answer(whole[:cut], whole[cut:])
        assert "".join(read.text) == "ab"
        assert read.is_done
        assert read.token_s in ([1.0, 1.0], [2.0, 2.0])


def test_comments_and_carriage_returns_are_read_as_the_standard_says() -> None:
    read = answer(b": ping\r\n\r\n" + choice("a").replace(b"\n", b"\r\n") + b"data:[DONE]\n\n")
    assert read.text == ["a"]
    assert read.is_done


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"message": "failed", "code": 500}, "server_error"),
        ({"message": "failed", "code": None}, "server_error"),
        ({"message": "failed", "code": "overloaded"}, "server_error"),
        ({"message": "too long", "code": 400}, "http_400"),
        ({"message": "later", "code": 429}, "rate_limited"),
        ("failed", "server_error"),
    ],
)
def test_error_in_a_stream_has_its_kind(error: object, kind: str) -> None:
    with pytest.raises(StreamError) as raised:
        answer(choice("a"), event(error=error))
    assert raised.value.kind == kind


@pytest.mark.parametrize(
    "content",
    [b"not JSON", b"[]", b'"text"', b'{"choices": [7]}', b'{"choices": {"a": 1}}', b"\xff"],
)
def test_what_is_no_completion_is_a_bad_answer(content: bytes) -> None:
    with pytest.raises(StreamError, match="no chunk of a completion") as raised:
        answer(b"data: " + content + b"\n\n")
    assert raised.value.kind == "bad_answer"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (200, None),
        (204, None),
        (301, "redirect"),
        (400, "http_400"),
        (404, "http_404"),
        (429, "rate_limited"),
        (500, "server_error"),
        (599, "server_error"),
    ],
)
def test_status_has_its_kind(status: int, kind: str | None) -> None:
    assert kind_of_status(status) == kind

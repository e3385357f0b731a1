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
    assert read.text == "abc"


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
    assert read.prompt_tokens == 7
    assert read.cached_tokens is None


def test_text_that_is_held_back_is_a_token_all_the_same() -> None:
    assert answer(choice("", token_ids=[5])).token_s == [1.0]


def test_count_in_the_last_chunk_alone_is_of_all_chunks() -> None:
    """Two tokens a chunk, counted at the end: nothing is known of the times between them."""
    last = {"index": 0, "text": "cd", "finish_reason": "length"}
    read = answer(choice("ab"), event(choices=[last], usage={"completion_tokens": 4}))
    assert read.token_s == [1.0, 2.0]
    assert read.output_tokens == 4


def test_end_that_comes_in_a_chunk_of_its_own_is_no_token() -> None:
    """As servers send it that do not count: the last token came at 2 s."""
    end = {"index": 0, "text": "", "finish_reason": "stop"}
    read = answer(choice("a"), choice("b"), event(choices=[end]))
    assert read.token_s == [1.0, 2.0]
    assert read.finish_reason == "stop"
    assert answer(event(choices=[end])).token_s == [1.0]  # the end is all of this answer


def test_character_in_two_halves_is_whole_and_half_a_character_is_replaced() -> None:
    halves = [rb'data: {"choices": [{"text": "%s"}]}' % half for half in (rb"\ud83d", rb"\ude00")]
    assert answer(*(half + b"\n\n" for half in halves)).text == "\U0001f600"
    assert answer(halves[0] + b"\n\n").text == "\ufffd"


def test_event_without_an_end_is_given_up() -> None:
    with pytest.raises(StreamError, match="an event of more than 4,194,304 bytes") as raised:
        answer(b"data: " + b"x" * (1 << 22))
    assert raised.value.kind == "bad_answer"


@pytest.mark.parametrize(
    "received",
    [b'event: error\ndata: {"message": "boom"}\n\n', b"<html>boom</html>\n\n", b"boom"],
)
def test_beginning_of_what_is_no_answer_is_kept(received: bytes) -> None:
    read = answer(b": ping\n\n" + received + b"data: [DONE]\n\n")
    assert "boom" in read.other
    assert not read.token_s


def test_event_that_is_cut_anywhere_is_read_when_it_is_whole() -> None:
    whole = choice("ab", token_ids=[1, 2]) + b"data: [DONE]\n\n"
    for cut in range(len(whole)):
        read = answer(whole[:cut], whole[cut:])
        assert read.text == "ab"
        assert read.is_done
        assert read.token_s in ([1.0, 1.0], [2.0, 2.0])


def test_comments_and_carriage_returns_are_read_as_the_standard_says() -> None:
    read = answer(b": ping\r\n\r\n" + choice("a").replace(b"\n", b"\r\n") + b"data:[DONE]\n\n")
    assert read.text == "a"
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
    [
        b"not JSON",
        b"[]",
        b"[" * 100_000,
        b'"text"',
        b'{"choices": [7]}',
        b'{"choices": {"a": 1}}',
        b'{"choices": [{"text": 5}]}',
        b'{"choices": [{"text": "a", "finish_reason": 7}]}',
        b'{"choices": [{"text": "a"}], "usage": {"completion_tokens": 1000000000000}}',
        b'{"choices": [{"text": "a"}], "usage": {"completion_tokens": -5}}',
        b'{"usage": "none"}',
        b'{"usage": {"completion_tokens": "2"}}',
        b'{"usage": {"prompt_tokens": 1.5}}',
        b'{"usage": {"prompt_tokens_details": "none"}}',
        b'{"usage": {"prompt_tokens_details": {"cached_tokens": true}}}',
        b"\xff",
    ],
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

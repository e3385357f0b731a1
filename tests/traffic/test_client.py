"""The client against servers on loopback that do as they are told."""

from __future__ import annotations

import socket

import pytest
from tests.traffic.servers import BODY, REQUEST, Answer, Server

from packsweep.traffic.client import drive
from packsweep.traffic.window import ERRORS, LoadRequest, Response, Target

KEY = "secret-key"


def one(answer: Answer, *, timeout_s: float = 10.0) -> Response:
    with Server(answer) as server:
        window = drive(Target(server.url, timeout_s=timeout_s), [REQUEST], arrivals=[0.0])
    return window.responses[0]


def test_response_holds_text_and_counts() -> None:
    response = one(Answer(text="negative", chunks=(1, 2)))
    assert response.error is None
    assert response.status == 200
    assert response.text == "negative"
    assert response.prompt_tokens == len(BODY)
    assert response.output_tokens == 3
    assert response.cached_tokens == 0
    assert response.finish_reason == "length"


def test_tokens_of_one_chunk_share_a_time() -> None:
    response = one(Answer(chunks=(1, 2, 1), gap_s=0.05))
    first, second, third, fourth = response.token_s
    assert second == third
    assert second - first > 0.02
    assert fourth - third > 0.02
    assert response.ended_s >= fourth


def test_chunks_without_token_ids_have_a_time_each_and_the_count_is_the_usage() -> None:
    response = one(Answer(chunks=(1, 3), says_tokens=False))
    assert len(response.token_s) == 2
    assert response.output_tokens == 4


@pytest.mark.parametrize(
    ("answer", "error", "status"),
    [
        (Answer(status=400), "http_400", 400),
        (Answer(status=401), "http_401", 401),
        (Answer(status=429), "rate_limited", 429),
        (Answer(status=500), "server_error", 500),
        (Answer(status=503), "server_error", 503),
        (Answer(fault="reset"), "reset", None),
        (Answer(fault="half", chunks=(1, 1)), "truncated", 200),
        (Answer(fault="reset_half", chunks=(1, 1)), "truncated", 200),
        (Answer(fault="error_in_stream", chunks=(1, 1)), "server_error", 200),
        (Answer(fault="not_a_stream"), "bad_answer", 200),
        (Answer(chunks=()), "bad_answer", 200),
        (Answer(first_s=5.0), "timeout", 200),
    ],
)
def test_each_failure_has_its_kind(answer: Answer, error: str, status: int | None) -> None:
    response = one(answer, timeout_s=0.3)
    assert (response.error, response.status) == (error, status)
    assert error in ERRORS or error == f"http_{status}"
    assert response.detail


def test_half_a_stream_keeps_what_arrived() -> None:
    response = one(Answer(fault="half", chunks=(1, 1), text="positive"))
    assert response.text == "posi"
    assert len(response.token_s) == 1


def test_detail_of_half_a_stream_is_how_far_it_came() -> None:
    detail = one(Answer(fault="half", chunks=(1, 1))).detail or ""
    assert detail.startswith("the connection ended after 1 tokens")


def test_detail_of_a_timeout_is_the_limit() -> None:
    assert one(Answer(first_s=5.0), timeout_s=0.3).detail == "not whole after 0.3 s"


def test_detail_is_what_the_server_said() -> None:
    assert "told to say 404" in (one(Answer(status=404)).detail or "")


def test_no_server_is_an_error_of_the_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    window = drive(Target(f"http://127.0.0.1:{port}"), [REQUEST], arrivals=[0.0])
    assert window.responses[0].error == "connect"
    assert window.responses[0].status is None


def test_redirect_is_not_followed_and_the_other_host_gets_no_key() -> None:
    with Server() as other:
        answer = Answer(status=307, headers={"Location": f"{other.url}/v1/completions"})
        with Server(answer) as server:
            window = drive(Target(server.url, api_key=KEY), [REQUEST], arrivals=[0.0])
    assert window.responses[0].error == "redirect"
    assert other.num_received == 0
    assert server.received[0][0]["Authorization"] == f"Bearer {KEY}"


def test_key_is_in_no_repr_and_no_detail() -> None:
    target = Target("http://127.0.0.1:1", api_key=KEY)
    assert KEY not in repr(target)
    with Server(Answer(status=401)) as server:
        said = Target(server.url, api_key="told")  # a word of the server's own message
        window = drive(said, [REQUEST], arrivals=[0.0])
    assert "*** to say 401" in (window.responses[0].detail or "")


def test_open_loop_sends_at_its_times_however_slow_the_server_is() -> None:
    arrivals = [0.0, 0.05, 0.1, 0.15]
    with Server(Answer(first_s=0.4)) as server:
        window = drive(Target(server.url), [REQUEST], arrivals=arrivals, duration_s=0.3)
    assert [response.scheduled_s for response in window.responses] == arrivals
    for response in window.responses:
        assert response.scheduled_s is not None
        assert 0 <= response.dispatched_s - response.scheduled_s < 0.3  # not after an answer
    assert max(count for _, count in window.in_flight) == 4
    assert window.ended_s >= 0.5
    assert window.duration_s == 0.3


def test_stall_shows_in_every_request_that_arrives_in_it() -> None:
    """A client that waited for answers would send one request into the stall and see one."""
    arrivals = [position * 0.05 for position in range(20)]
    with Server(stall=(0.2, 0.7)) as server:
        window = drive(Target(server.url), [REQUEST], arrivals=arrivals)
    stalled = [response for response in window.responses if 0.25 <= response.arrived_s <= 0.65]
    assert len(stalled) == 9
    for response in stalled:
        assert response.token_s[-1] >= 0.7
        assert response.dispatched_s - response.arrived_s < 0.3


def test_closed_loop_keeps_its_concurrency() -> None:
    with Server(Answer(first_s=0.05)) as server:
        window = drive(Target(server.url), [REQUEST], concurrency=3, duration_s=0.5)
    assert {count for _, count in window.in_flight} <= {0, 1, 2, 3}
    assert window.duration_s == 0.5
    assert window.dispatch_delay_p99_s is None
    assert all(response.scheduled_s is None for response in window.responses)
    assert all(0 <= response.dispatched_s < 0.5 for response in window.responses)
    assert [response.index for response in window.responses] == list(range(len(window.responses)))


def test_closed_loop_without_duration_sends_each_once() -> None:
    requests = [LoadRequest(BODY.replace(b"Good", b"Film %d" % index), 1) for index in range(5)]
    with Server() as server:
        window = drive(Target(server.url), requests, concurrency=2)
    sent = sorted(body["prompt"].split(".")[0] for _, body in server.received)
    assert sent == [f"Film {index} film" for index in range(5)]
    assert window.duration_s == window.ended_s


def test_requests_are_sent_in_turn_and_again() -> None:
    requests = [LoadRequest(BODY, 1), LoadRequest(BODY.replace(b"Good", b"Bad"), 4)]
    with Server() as server:
        window = drive(Target(server.url), requests, arrivals=[0.0, 0.02, 0.04])
    assert [response.num_texts for response in window.responses] == [1, 4, 1]
    assert [body["prompt"][:3] for _, body in server.received] == ["Goo", "Bad", "Goo"]


def test_body_of_megabytes_is_sent_as_it_is() -> None:
    body = BODY.replace(b"Good", b"x" * 3_000_000)
    with Server() as server:
        window = drive(Target(server.url), [LoadRequest(body, 400)] * 2, arrivals=[0.0, 0.1])
    assert [response.prompt_tokens for response in window.responses] == [len(body), len(body)]

from __future__ import annotations

from tests.traffic.windows import response, window

from packsweep.traffic.slo import parse
from packsweep.traffic.validity import doubts, rate_held
from packsweep.traffic.window import Window

SLO = parse("p99 e2e <= 500 ms")


def steady(*, late_s: float = 0.0, cpu_s: float = 0.1) -> Window:
    """Ten requests, one a second."""
    return window(*(response(n, float(n), late_s=late_s) for n in range(10)), cpu_s=cpu_s)


def test_window_of_a_client_in_time_is_valid() -> None:
    assert doubts(steady(late_s=0.0049), SLO) == ()


def test_delay_of_a_hundredth_of_the_limit_is_a_doubt() -> None:
    assert doubts(steady(late_s=0.005), SLO) == (
        (
            "requests were sent 5 ms late (p99), which is 1% or more of the SLO's 500 ms: "
            "the client needs an idle processor, or the SLO a longer limit"
        ),
    )


def test_delay_without_slo_is_none() -> None:
    assert doubts(steady(late_s=0.005)) == ()


def test_client_that_falls_behind_is_a_doubt() -> None:
    """Ten requests in 9 s of schedule, sent in 9.1 s: 98.9 % of the rate."""
    late = window(*(response(n, float(n), late_s=n * 0.1 / 9) for n in range(10)))
    assert rate_held(late) == 9 / 9.1
    assert doubts(late) == ("the client sent 98.9% of the requested rate",)


def test_client_that_needs_a_fifth_of_a_processor_is_a_doubt() -> None:
    assert doubts(steady(cpu_s=2.0)) == ()
    (doubt,) = doubts(steady(cpu_s=2.5))
    assert doubt.startswith("the client used 25% of a processor, so it could send 4.0 times the")


def test_lack_of_sockets_is_a_doubt() -> None:
    short = window(response(error="client_limit", tokens=()), response(1, 1.0))
    assert doubts(short) == (
        "this machine had no socket left for 1 requests: raise the limit on open files",
    )


def test_closed_loop_has_no_schedule_to_hold() -> None:
    closed = window(response(scheduled_s=None), response(1, None, late_s=1.0))
    assert rate_held(closed) is None
    assert doubts(closed, SLO) == ()


def test_tpot_of_answers_of_one_token_is_a_doubt() -> None:
    """Nothing could break such an SLO, so it would be kept at any rate."""
    tpot = parse("p99 tpot <= 50 ms")
    one, two = response(tokens=(0.1,)), response(1, 1.0, tokens=(0.1, 0.2))
    assert doubts(window(one), tpot) == (
        "no answer has a second token, so none has a tpot: set online.slo to e2e",
    )
    assert doubts(window(one, two), tpot) == ()
    assert doubts(window(response(error="timeout", tokens=())), tpot) == ()

from __future__ import annotations

import json

import pytest
from tests.traffic.windows import response, window

from packsweep.errors import UserError
from packsweep.traffic.window import Load, in_flight, window_from_json, window_to_json


def test_load_is_open_or_closed_and_sends_something() -> None:
    with pytest.raises(UserError, match="either arrivals or a concurrency"):
        Load()
    with pytest.raises(UserError, match="either arrivals or a concurrency"):
        Load(arrivals=[0.0], concurrency=1)
    with pytest.raises(UserError, match="concurrency is 0"):
        Load(concurrency=0)
    with pytest.raises(UserError, match="no request arrives"):
        Load(arrivals=[])
    with pytest.raises(UserError, match="longer than 0 s"):
        Load(arrivals=[0.0], duration_s=0)


def test_longest_window_counts_what_is_sent_in_turn() -> None:
    assert Load(arrivals=[0.0, 2.0]).longest_s(1, 10.0) == 12.0
    assert Load(arrivals=[0.0], duration_s=5.0).longest_s(1, 10.0) == 15.0
    assert Load(concurrency=4, duration_s=5.0).longest_s(9, 10.0) == 15.0
    assert Load(concurrency=4).longest_s(9, 10.0) == 30.0


def test_requests_in_flight_have_arrived_and_not_ended() -> None:
    """One from 0 to 2 s, one from 1 to 4 s that is sent at 3 s: it is waiting all the same."""
    responses = [
        response(0, 0.0, tokens=(2.0,)),
        response(1, 1.0, tokens=(3.0,), late_s=2.0),
    ]
    assert in_flight(responses, [0.5, 1.5, 2.5, 3.5, 4.5]) == [1, 2, 1, 1, 0]


def test_delays_are_those_of_the_schedule() -> None:
    late = window(*(response(n, 0.0, late_s=n / 1000) for n in range(101)))
    assert late.dispatch_delay_p50_s == pytest.approx(0.05)
    assert late.dispatch_delay_p99_s == pytest.approx(0.099)


def test_busy_share_is_cpu_time_over_time() -> None:
    assert window(response(), duration_s=10.0, cpu_s=2.5).busy_share == 0.25


def test_window_is_the_same_after_json() -> None:
    before = window(response(tokens=(0.1, 0.2)), response(1, None, error="reset", tokens=()))
    assert window_from_json(json.loads(json.dumps(window_to_json(before)))) == before

from __future__ import annotations

import pytest
from tests.traffic.windows import response

from packsweep.errors import UserError
from packsweep.traffic.slo import Slo, parse


@pytest.mark.parametrize(
    ("text", "slo"),
    [
        ("p99 e2e <= 500 ms", Slo(percent=99, metric="e2e", limit_s=0.5)),
        ("p99 e2e <= 2 s", Slo(percent=99, metric="e2e", limit_s=2.0)),
        ("P99.9 TTFT<=0.5S", Slo(percent=99.9, metric="ttft", limit_s=0.5)),
        (" p50  tpot  <=  50ms ", Slo(percent=50, metric="tpot", limit_s=0.05)),
    ],
)
def test_slo_is_read(text: str, slo: Slo) -> None:
    assert parse(text) == slo


@pytest.mark.parametrize("text", ["p99 e2e <= 500 ms", "p99.9 ttft <= 2 s", "p50 tpot <= 1.5 s"])
def test_slo_is_written_as_it_is_read(text: str) -> None:
    assert str(parse(text)) == text


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("p99 e2e <= 500", "the limit has no unit; write ms or s"),
        ("p99 e2e <= 5 min", "the unit min is not known; write ms or s"),
        ("p99 itl <= 5 ms", "itl is not one of ttft, tpot, e2e"),
        ("p100 e2e <= 5 ms", "p100 must lie between p0 and p100"),
        ("p0 e2e <= 5 ms", "p0 must lie between p0 and p100"),
        ("p99 e2e <= 0 ms", "the limit must be above 0"),
        ("p99 e2e <= 100000 s", "the limit must be above 0 and at most a day"),
        ("p99 e2e <= 5 \u00b5s", "it cannot be read"),
        ("p99 e2e <= 5 us", "the unit us is not known; write ms or s"),
        ("p101 e2e <= 5 ms", "p101 must lie between p0 and p100"),
        ("p99 e2e <= 5 ms, p99 ttft <= 1 s", "it cannot be read"),
        ("p9.9.9 e2e <= 1 ms", "9.9.9 is no number"),
        ("mean e2e <= 5 ms", "it cannot be read"),
        ("p99 e2e < 5 ms", "it cannot be read"),
        ("p99 e2e <= -5 ms", "it cannot be read"),
        ("", "SLO empty: it cannot be read"),
    ],
)
def test_slo_that_cannot_be_read_is_one_line(text: str, problem: str) -> None:
    with pytest.raises(UserError, match=problem) as raised:
        parse(text)
    assert "\n" not in str(raised.value)


def test_limit_itself_keeps_it_and_an_error_breaks_it() -> None:
    slo = parse("p99 e2e <= 500 ms")
    assert slo.is_kept(response(tokens=(0.5,)))
    assert not slo.is_kept(response(tokens=(0.51,)))
    assert not slo.is_kept(response(tokens=(0.1,), error="truncated"))
    assert not slo.is_kept(response(tokens=(), error="timeout"))


def test_latency_counts_from_the_schedule_however_late_it_was_sent() -> None:
    assert not parse("p99 e2e <= 500 ms").is_kept(response(tokens=(0.6,), late_s=0.3))


def test_answer_without_the_metric_keeps_it() -> None:
    assert parse("p99 tpot <= 1 ms").is_kept(response(tokens=(0.5,)))


def test_attainment_is_the_share_that_keeps_it() -> None:
    slo = parse("p99 e2e <= 500 ms")
    assert slo.attainment([response(tokens=(0.1,)), response(tokens=(0.9,))]) == 0.5
    assert slo.attainment([]) is None


def test_window_settles_until_queues_have_built_up() -> None:
    assert parse("p99 e2e <= 500 ms").settle_s(60.0) == 6.0
    assert parse("p99 e2e <= 2 s").settle_s(60.0) == 8.0

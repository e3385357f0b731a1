from __future__ import annotations

import pytest
from tests.traffic.windows import response, window

from packsweep.traffic.latency import errors, summarize
from packsweep.traffic.slo import parse


def test_latencies_of_one_answer() -> None:
    """Tokens 1.0, 1.5 and 2.5 s after the schedule, sent 0.25 s late."""
    figures = summarize(window(response(tokens=(1.0, 1.5, 2.5), late_s=0.25)))
    assert figures["ttft_mean_s"] == 1.0
    assert figures["e2e_p99_s"] == 2.5
    assert figures["tpot_p50_s"] == 0.75  # (2.5 - 1.0) / 2
    assert figures["itl_mean_s"] == 0.75
    assert figures["itl_p50_s"] == 0.75  # of 0.5 and 1.0
    assert figures["service_ttft_p50_s"] == 0.75
    assert figures["service_e2e_mean_s"] == 2.25


def test_one_token_has_no_tpot_and_no_itl_and_ttft_is_e2e() -> None:
    figures = summarize(window(response(tokens=(0.5,))))
    assert figures["ttft_p99_s"] == figures["e2e_p99_s"] == 0.5
    for statistic in ("mean", "p50", "p90", "p95", "p99"):
        assert figures[f"tpot_{statistic}_s"] is None
        assert figures[f"itl_{statistic}_s"] is None


def test_percentiles_are_interpolated() -> None:
    """1 to 100 s: the 99th percentile of 100 values lies at 1 + 0.99 * 99."""
    responses = [response(index, tokens=(float(index + 1),)) for index in range(100)]
    figures = summarize(window(*responses))
    assert figures["e2e_mean_s"] == 50.5
    assert figures["e2e_p50_s"] == 50.5
    assert figures["e2e_p90_s"] == pytest.approx(90.1)
    assert figures["e2e_p95_s"] == pytest.approx(95.05)
    assert figures["e2e_p99_s"] == pytest.approx(99.01)


def test_tokens_that_share_a_time_have_no_gap_between_them() -> None:
    assert response(tokens=(1.0, 1.0, 1.5)).itl_s == [0.0, 0.5]


def test_chunks_of_unknown_size_give_tpot_by_the_count_and_no_itl() -> None:
    """Two chunks at 1 and 3 s with five tokens: four gaps in 2 s."""
    answer = response(tokens=(1.0, 3.0), output_tokens=5)
    assert answer.tpot_s == 0.5
    assert answer.itl_s == []


def test_errors_have_no_latency_and_are_counted_by_kind() -> None:
    kinds = ["timeout", "reset", "timeout", None]
    many = window(*(response(index, tokens=(1.0,), error=kind) for index, kind in enumerate(kinds)))
    figures = summarize(many)
    assert figures["num_errors"] == 3
    assert figures["e2e_mean_s"] == 1.0
    assert errors(many) == {"timeout": 2, "reset": 1}


def test_closed_loop_counts_from_the_dispatch() -> None:
    answer = response(scheduled_s=None, late_s=2.0, tokens=(2.5,))
    assert answer.ttft_s == 0.5


def test_achieved_is_offered_where_the_server_keeps_up() -> None:
    """One request a second, each answered after 2 s: 8 of 10 within the window, in 8 s of it."""
    responses = [response(index, index + 0.5, tokens=(2.0,), num_texts=4) for index in range(10)]
    figures = summarize(window(*responses))
    assert figures["offered_requests_per_s"] == 1.0
    assert figures["achieved_requests_per_s"] == 1.0
    assert figures["offered_texts_per_s"] == 4.0
    assert figures["achieved_texts_per_s"] == 4.0


def test_achieved_is_the_capacity_where_it_does_not() -> None:
    """Two a second arrive in 10 s and one a second is served: the last ends at 20 s.

    Their median latency is 5.75 s; 5 end after it and until 10 s.
    """
    responses = [response(n, n / 2, tokens=(n + 1 - n / 2,)) for n in range(20)]
    figures = summarize(window(*responses))
    assert figures["offered_requests_per_s"] == 2.0
    assert figures["achieved_requests_per_s"] == pytest.approx(5 / 4.25)


def test_goodput_counts_texts_that_keep_the_slo() -> None:
    responses = [
        response(0, 0.0, tokens=(0.4,), num_texts=4),
        response(1, 1.0, tokens=(0.6,), num_texts=4),
        response(2, 2.0, tokens=(0.4,), num_texts=4, error="truncated"),
        response(3, 3.0, tokens=(0.5,), num_texts=2),
    ]
    figures = summarize(window(*responses), parse("p99 e2e <= 500 ms"))
    assert figures["attainment"] == 0.5
    assert figures["goodput_texts_per_s"] == 0.6


def test_without_answers_all_is_undefined_but_the_counts() -> None:
    figures = summarize(window(response(error="connect", tokens=())))
    assert figures["e2e_p99_s"] is None
    assert figures["achieved_texts_per_s"] == 0.0
    assert figures["attainment"] is None
    assert figures["num_errors"] == 1

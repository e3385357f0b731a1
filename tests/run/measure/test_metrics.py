"""The numbers of a pass, from results small enough to check by eye."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packsweep.engines import PassResult, RequestResult
from packsweep.plan.roofline import Work
from packsweep.results import schema
from packsweep.run.measure import metrics, scoring
from packsweep.run.measure.metrics import Answered
from packsweep.sweep.prompts import Prompt


def _answered(
    prompt_tokens: int = 10,
    *,
    output_tokens: int = 2,
    cached: int | None = 4,
    expected: int | None = 4,
    answer: str | None = "positive negative",
    **timings: Any,
) -> Answered:
    labels = ("positive", "positive")
    return Answered(
        prompt=Prompt(text="p", first=6, num_texts=2),
        prompt_index=3,
        copy=1,
        result=RequestResult(
            prompt_token_ids=range(prompt_tokens),
            output_tokens=output_tokens,
            cached_tokens=cached,
            text=answer or "",
            answer_cut=False,
            finish_reason="length",
            **timings,
        ),
        expected_cached=expected,
        expected_labels=labels,
        score=None if answer is None else scoring.score(answer, labels, cut=False),
    )


def _values(*items: Answered, seconds: float = 4.0) -> dict[str, Any]:
    measured = PassResult(duration_s=seconds, requests=tuple(item.result for item in items))
    return metrics.pass_values(1, measured, items, tokenize_s=0.5)


def test_pass_values_by_hand() -> None:
    """Two requests of 10 and 20 tokens, 2 out each, 4 cached each, in 4 s."""
    found = _values(_answered(10), _answered(20))
    expected = {
        "repeat": 1,
        "duration_s": 4.0,
        "tokenize_s": 0.5,
        "num_requests": 2,
        "num_texts": 4,
        "prompt_tokens": 30,
        "output_tokens": 4,
        "cached_tokens": 8,
        "expected_cached_tokens": 8,
        "requests_per_s": 0.5,
        "total_tokens_per_s": 8.5,
        "output_tokens_per_s": 1.0,
        "texts_per_s": 1.0,
        "correct_texts_per_s": 0.5,
        "computed_prompt_tokens_per_s": 5.5,
        "cached_share": 8 / 30,
        "labels_found": 4,
        "labels_right": 2,
        "labels_surplus": 0,
        "coverage": 1.0,
        "accuracy": 0.5,
        "majority_class_share": 1.0,
    }
    assert {name: found[name] for name in expected} == expected


def test_pass_values_every_column() -> None:
    """A pass fills exactly the columns that the schema has for it."""
    assert set(_values(_answered())) == {column.name for column in schema.PASS}


def test_request_values_every_column() -> None:
    """A request fills every column but the two names of its attempt and what a server's has."""
    found = set(metrics.request_values(1, 0, _answered()))
    own = [column for column in schema.REQUESTS if column not in schema.SENT]
    assert found == {column.name for column in own} - {"cell_id", "attempt_id"}


def test_request_values_by_hand() -> None:
    """A request's row says which prompt and copy it was, and what was found in its answer."""
    found = metrics.request_values(2, 7, _answered(queue_s=0.25))
    assert (found["repeat"], found["request"], found["prompt"], found["copy"]) == (2, 7, 3, 1)
    assert (found["first_text"], found["num_texts"]) == (6, 2)
    assert (found["prompt_tokens"], found["output_tokens"]) == (10, 2)
    assert (found["queue_s"], found["prefill_s"]) == (0.25, None)
    assert found["expected_labels"] == ["positive", "positive"]
    assert found["found_labels"] == ["positive", "negative"]


def test_pass_values_not_scored() -> None:
    """Answers of random weights have no labels, no accuracy and no correct texts: not 0."""
    found = _values(_answered(answer=None))
    names = ("labels_found", "labels_right", "labels_surplus", "coverage", "accuracy")
    assert {found[name] for name in (*names, "correct_texts_per_s")} == {None}


def test_pass_values_majority_class_share() -> None:
    """Of three positive texts and one negative the majority class is three quarters."""
    both = dataclasses.replace(_answered(), expected_labels=("negative", "positive"))
    assert _values(_answered(), both)["majority_class_share"] == pytest.approx(0.75)
    assert _values(_answered(answer=None))["majority_class_share"] is None


def test_pass_values_nothing_right() -> None:
    """No right label is 0, not undefined."""
    found = _values(_answered(answer="negative negative"))
    assert (found["labels_right"], found["accuracy"], found["correct_texts_per_s"]) == (0, 0, 0)


def test_pass_values_cached_unknown() -> None:
    """One request without a cached count makes the sum unknown."""
    found = _values(_answered(), _answered(cached=None))
    assert found["cached_tokens"] is None
    assert found["computed_prompt_tokens_per_s"] is None
    assert found["cached_share"] is None


def test_work_of_impossible_counts() -> None:
    """What a pass computed is known where each request reports no more than its prompt."""
    assert metrics.work([_answered(10, cached=10)]) == [
        Work(prompt_tokens=10, cached_tokens=10, output_tokens=2)
    ]
    assert metrics.work([_answered(), _answered(cached=None)]) is None
    assert metrics.work([_answered(), _answered(10, cached=11)]) is None


def test_pass_values_cached_zero() -> None:
    """Nothing cached is 0, not undefined."""
    found = _values(_answered(cached=0, expected=None))
    assert (found["cached_tokens"], found["cached_share"]) == (0, 0)
    assert found["expected_cached_tokens"] is None


def test_pass_values_timings() -> None:
    """Timings are medians of the requests that tell, the span is the last token's."""
    found = _values(
        _answered(queue_s=1.0, prefill_s=2.0, last_token_s=3.0),
        _answered(queue_s=2.0, last_token_s=5.0),
        _answered(queue_s=9.0),
    )
    assert (found["queue_p50_s"], found["prefill_p50_s"], found["decode_p50_s"]) == (2, 2, None)
    assert found["engine_span_s"] == 5.0


def test_pass_values_preemptions() -> None:
    """Preemptions are null where the version does not tell, and 0 where there were none."""
    assert _values(_answered())["num_preemptions"] is None
    assert _values(_answered(num_preemptions=0))["num_preemptions"] == 0


@given(
    tokens=st.lists(st.tuples(st.integers(1, 999), st.integers(1, 99)), min_size=1, max_size=6),
    seconds=st.floats(1e-3, 1e5),
)
def test_pass_values_laws(tokens: list[tuple[int, int]], seconds: float) -> None:
    """Rates times the duration give back the counts."""
    items = [_answered(p, output_tokens=o, cached=p - 1) for p, o in tokens]
    found = _values(*items, seconds=seconds)
    total = found["prompt_tokens"] + found["output_tokens"]
    assert found["requests_per_s"] * seconds == pytest.approx(len(tokens))
    assert found["total_tokens_per_s"] * seconds == pytest.approx(total)
    assert found["output_tokens_per_s"] * seconds == pytest.approx(found["output_tokens"])
    assert found["texts_per_s"] * seconds == pytest.approx(found["num_texts"])
    assert found["computed_prompt_tokens_per_s"] * seconds == pytest.approx(len(tokens))
    assert 0 <= found["cached_share"] < 1

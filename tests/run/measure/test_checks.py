"""What disagrees with what was asked for, and how it is said."""

from __future__ import annotations

from typing import Any

import pytest
from tests.fakes import cell

from packsweep.engines import RequestResult
from packsweep.run.measure import checks, scoring
from packsweep.run.measure.metrics import Answered
from packsweep.sweep.prompts import Prompt


def _answered(**changes: Any) -> Answered:
    values = {
        "prompt_token_ids": range(40),
        "output_tokens": 2,
        "cached_tokens": 32,
        "text": "",
        "answer_cut": True,
        "finish_reason": "length",
    }
    return Answered(
        prompt=Prompt(text="p", first=0, num_texts=2),
        prompt_index=0,
        copy=0,
        result=RequestResult(**{**values, **changes}),
        expected_cached=32,
        expected_labels=("positive", "negative"),
        score=scoring.score("", ("positive", "negative"), cut=True),
    )


WANTED = "64 expected in all; first at request 1"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({}, None),
        ({"finish_reason": None}, "request 1 did not finish (finish_reason None)"),
        ({"finish_reason": "abort"}, "request 1 did not finish (finish_reason abort)"),
        ({"error": "bad\n  thing"}, "request 1 failed: bad thing"),
        ({"output_tokens": 1}, "request 1 has 1 output tokens, not 2"),
        (
            {"cached_tokens": 16},
            f"cached tokens 48 observed, {WANTED}: 16 observed, 32 expected",
        ),
        (
            {"cached_tokens": None},
            f"cached tokens 32 observed, {WANTED}: None observed, 32 expected",
        ),
    ],
)
def test_disagreement(changes: dict[str, Any], problem: str | None) -> None:
    """What does not agree is named, with the request and the figures."""
    assert checks.disagreement(cell(), [_answered(), _answered(**changes)]) == problem


def test_disagreement_free_length() -> None:
    """Where lengths are not forced, a short answer is no fault."""
    short = [_answered(output_tokens=1, finish_reason="stop")]
    assert checks.disagreement(cell(ignore_eos=False), short) is None


def test_one_line() -> None:
    """Line breaks become spaces and a long text is cut at the limit."""
    assert checks.one_line("a\n  b\tc") == "a b c"
    assert checks.one_line("abcdef", limit=4) == "abc…"

"""Tasks as people write them: labels, instructions and values that need one line of help."""

from __future__ import annotations

from typing import Any

import pytest

from packsweep.errors import SpecError
from packsweep.sweep.read import parse

TASK = {"name": "teams", "labels": ["billing", "bug"], "instruction": "Which? Answer {labels}."}


def _told(*, grid: dict[str, Any] | None = None, **task: object) -> str:
    values = {
        "model": {"name": "m"},
        "task": {**TASK, **task},
        "texts": {"source": "t.csv"},
        "grid": {"n": 2, "strategy": "separate", **(grid or {})},
    }
    with pytest.raises(SpecError) as caught:
        parse(values, where="s.toml")
    return str(caught.value)


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        ([0, 1], "task.labels: 0 is not allowed: expected a text in quotes"),
        ([True, False], "task.labels: true is not allowed: expected a text in quotes"),
        ("billing", "task.labels: 'billing' is not allowed: expected a list such as [\"one\", "),
        (["\u00e9tat", "e\u0301tat"], "are the same label"),
        (["bug report", "bug  report"], "are the same label"),
        (["bug report", "bug_report"], "are the same label"),
        (["\u2605", "\u2605\u2605"], "name it in words, and let task.label_map read it"),
    ],
)
def test_labels(labels: object, told: str) -> None:
    """Labels are texts that an answer can tell apart."""
    assert told in _told(labels=labels)


def test_a_wrong_type_in_a_table() -> None:
    """A message names what the table takes: a label is a text, a variable of a template any."""
    assert "0 is not allowed: expected a text in quotes" in _told(label_map={"str": 0})
    told = _told(chat_template_kwargs={"effort": [1]})
    assert "[1] is not allowed: expected a text, a number, true or false" in told


@pytest.mark.parametrize(
    "ask",
    ["Which of { labels }?", "Which of {{labels}}?", "{text[0]} {labels}", "Is {n!r}?", "{text"],
)
def test_nearly_a_place(ask: str) -> None:
    """What looks like a place and is none would be sent to the model as it stands."""
    assert "would be sent as it is; write {labels}, {n}, {text}" in _told(instruction=ask)


def test_braces_of_json_are_text() -> None:
    """An example of an answer may hold braces."""
    values = {"model": {"name": "m"}, "grid": {"n": 2}}
    ask = 'Answer {"team": "..."} with one of {labels}, or {} if none fits.'
    assert parse({**values, "task": {**TASK, "instruction": ask}}, where="").task.instruction == ask


def test_a_label_is_not_mapped_to_another() -> None:
    """The file's own label would win over the map, silently."""
    assert "'bug' is a label itself" in _told(label_map={"bug": "billing"})


@pytest.mark.parametrize("name", ["", " ", "a\nb", "\x1b[31m", "x" * 101])
def test_names(name: str) -> None:
    """A name stands in tables and files."""
    assert "task.name: " in _told(name=name)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"grid": {"n": True}}, "grid.n: true is not allowed: expected a whole number"),
        ({"grid": {"n": []}}, "grid.n: [] is not allowed: expected at least one value"),
        ({"grid": {"n": 2}, "texts": {"source": " "}}, "texts.source: blank is not allowed"),
        ({"grid": {"n": 2}, "texts": {"delimiter": "\n"}}, 'expected one character such as ";"'),
        ({"grid": {"n": 2}, "texts": {"delimiter": '"'}}, 'expected one character such as ";"'),
        ({"grid": {"n": 2}, "task": {"label_map": []}}, "should be a table [task.label_map]"),
    ],
)
def test_values(values: dict[str, Any], told: str) -> None:
    """A wrong type is told in the words of a sweep file."""
    with pytest.raises(SpecError) as caught:
        parse({"model": {"name": "m"}, **values}, where="s.toml")
    assert told in str(caught.value)

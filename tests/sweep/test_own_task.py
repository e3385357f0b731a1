"""Tasks as people write them: labels, instructions and values that need one line of help."""

from __future__ import annotations

from typing import Any

import pytest

from packsweep.errors import SpecError
from packsweep.sweep.read import parse
from packsweep.sweep.task import of as task_of

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
        (["A > B", "a>b"], "are the same label"),
        (["US", "us"], "'US' and 'us' are the same label: they differ only in case, spaces"),
        (["\u2764\ufe0f", "\u2764"], "are the same label"),
        (["+", "-"], "'+' is punctuation, which any answer may hold; name it in words, and let"),
        (["\u2014", "\u0301"], "'\u0301' is punctuation"),
        (["a\u00a0b", "c"], "holds U+00A0, which is invisible; write it without, and let task."),
        (["a\u202eb", "c"], "holds U+202E, which is invisible"),
        (["bug\u200d", "bug"], "begins or ends with a space or an invisible character"),
        (['5" pipe', "c"], 'holds "; write it without, and let task.label_map read it'),
    ],
)
def test_labels(labels: object, told: str) -> None:
    """Labels are texts that an answer can tell apart."""
    assert told in _told(labels=labels)


@pytest.mark.parametrize(
    "labels",
    [
        "\U0001f44d \U0001f44e",
        "\u2605 \u2605\u2605 \u2605\u2605\u2605",
        "\u2764\ufe0f #\ufe0f\u20e3 \u203c\ufe0f",
        "\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f468",
        "\U0001f3f4\U000e0067\U000e0062\U000e007f \U0001f1e9\U0001f1ea",
        "\U0001d4b3 \U00020bb7",  # beyond the Basic Multilingual Plane
        "\u092c\u093f\u0932 \u0938\u092e\u0938\u094d\u092f\u093e",  # vowel signs
        "\u062d\u0633\u0627\u0628 \u05d7\u05d9\u05d5\u05d1",  # right to left
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 \u0646\u0647",  # a word with a joiner
        "\U0001fae9 \u2192",  # newer than Python's tables
    ],
)
def test_labels_of_any_script(labels: str) -> None:
    """Emojis, symbols and letters of any script are labels, and so is the name of their task."""
    own = {**TASK, "name": labels, "labels": labels.split()}
    values = {"model": {"name": "m"}, "task": own, "texts": {"source": "t.csv"}, "grid": {"n": 2}}
    assert parse(values, where="s.toml").task.labels == tuple(labels.split())


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


@pytest.mark.parametrize("system", ["Choose one of {labels}.", "{{labels}}", "Read: {text}"])
def test_the_system_message_has_no_places(system: str) -> None:
    """It is sent as it is; a brace of JSON in it is one."""
    told = _told(system=system, grid={"template": "chat"})
    assert "would be sent as it is; only instruction and instruction_many are filled in" in told
    values = {"model": {"name": "m"}, "grid": {"n": 2, "template": "chat"}}
    said = 'Answer {"team": "..."} as {role}.'
    assert parse({**values, "task": {**TASK, "system": said}}, where="").task.system == said


@pytest.mark.parametrize(
    ("task", "unnamed"),
    [
        ({}, []),
        ({"instruction": "Which?"}, ["billing", "bug"]),
        ({"instruction": "BILLING?"}, ["bug"]),
        ({"instruction": "Which?", "system": "Say billing or bug."}, []),
        ({"instruction_many": "Which of {n}?"}, ["billing", "bug"]),
        ({"instruction": "From 1 to 3?", "labels": ["1", "2", "3", "none"]}, ["none"]),
    ],
)
def test_unnamed_labels(task: dict[str, Any], unnamed: list[str]) -> None:
    """Labels that no prompt names are known, since a model cannot guess them."""
    values = {"model": {"name": "m"}, "grid": {"n": 2, "template": "chat"}}
    found = parse({**values, "task": {**TASK, **task}}, where="")
    assert task_of(found.task).unnamed == unnamed


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

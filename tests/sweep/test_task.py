"""What is asked of a text: the task's words in prompts, its name in cells, its faults in a line."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes import REVIEWS, sweep

from packsweep.errors import SpecError
from packsweep.models.chat import ChatTemplate
from packsweep.sweep import answers, expansion, prompts
from packsweep.sweep.cells import Cell
from packsweep.sweep.prompts import Asking
from packsweep.sweep.spec import Format
from packsweep.sweep.task import SENTIMENT, TICKETS, LabellingTask
from packsweep.sweep.texts import LabelledText

TEAMS = ["billing", "bug", "question", "other"]
ASK = "Which team? Answer only {labels}."
TEXTS = tuple(LabelledText(text=f"text{i}", label=TEAMS[i % 4]) for i in range(4))


def _cells(task: dict[str, Any], **tables: dict[str, Any]) -> tuple[Cell, ...]:
    found = sweep(task=task, **tables)
    return expansion.expand(found, TEXTS, model_fingerprint="w", max_model_len=100)


def _own(**task: Any) -> dict[str, Any]:
    return {"name": "teams", "labels": TEAMS, "instruction": ASK, **task}


def _prompt(task: dict[str, Any], **grid: Any) -> str:
    (cell,) = _cells(task, grid=grid)
    return cell.build_prompts(TEXTS)[0].text


def test_no_table_is_the_experiment() -> None:
    """Without the table, and with its name alone, a cell is the one that it always was."""
    (plain,) = expansion.expand(sweep(), REVIEWS, model_fingerprint="weights", max_model_len=100)
    assert (plain.task, plain.task_settings) == ("sentiment", "{}")
    named = sweep(task={"name": "sentiment"})
    again = expansion.expand(named, REVIEWS, model_fingerprint="weights", max_model_len=100)
    assert again == (plain,)


def test_cell_id_golden() -> None:
    """The name of a cell of the experiment, computed before there were tasks."""
    (plain,) = expansion.expand(sweep(), REVIEWS, model_fingerprint="weights", max_model_len=100)
    assert plain.cell_id == "packed-n2-dup1-cold-be87f9202627"


def test_ask_one_after_and_before() -> None:
    """The instruction stands on a line of its own, after the text or before it."""
    asked = "Which team? Answer only billing, bug, question or other."
    assert _prompt(_own(), strategy="separate") == f"text0\n{asked}\n"
    assert _prompt(_own(), strategy="separate", instruction="before") == f"{asked}\ntext0\n"


def test_ask_one_in_its_place() -> None:
    """An instruction with a place for the text has it there."""
    task = _own(instruction='Ticket: "{text}". Team ({labels})?')
    assert _prompt(task, strategy="separate").startswith('Ticket: "text0". Team (billing, bug,')


def test_ask_many_derived() -> None:
    """The question for many is derived: how many texts, and a line for each answer."""
    assert _prompt(_own(), n=2) == (
        "text0\ntext1\nAbove are 2 texts, one on each line. For each of them: Which team? Answer "
        "only billing, bug, question or other. Answer with 2 lines, in the order of the texts, one "
        "answer on each line.\n"
    )


def test_ask_many_own() -> None:
    """A task's own question for many stands as it is."""
    task = _own(instruction_many="Teams of these {n} tickets, {labels}, a line each:")
    asked = "Teams of these 2 tickets, billing, bug, question or other, a line each:"
    assert _prompt(task, n=2) == f"text0\ntext1\n{asked}\n"


@pytest.mark.parametrize(("answer_format", "rule"), [("numbered", "1. billing"), ("json", '{"1":')])
def test_ask_many_numbered(answer_format: str, rule: str) -> None:
    """Texts that are answered by number carry it, and the rule shows how."""
    text = _prompt(_own(), n=2, format=answer_format)
    assert text.startswith("1. text0\n2. text1\n")
    assert rule in text


def test_ask_letters() -> None:
    """Letters are explained by their labels."""
    text = _prompt(_own(), strategy="separate", label_form="letters")
    assert "A (billing), B (bug), C (question) or D (other)" in text


def test_ask_sentiment_numbered() -> None:
    """The experiment's sentences know lines alone; other formats are worded by the task."""
    built = prompts.build(TEXTS[:2], Asking(strategy="packed", format="numbered"))
    assert "Is this comment positive or negative?" in built[0].text


def test_ask_in_chat() -> None:
    """System message and variables reach the chat template; thinking is switched off."""
    chat = ChatTemplate(
        text="{% for m in messages %}{{ m.role }}:{{ m.content }}|{% endfor %}{{ enable_thinking }}"
    )
    task = LabellingTask(
        name="t",
        labels=("a", "b"),
        instruction="{labels}?",
        system="Be brief.",
        chat_template_kwargs=json.dumps({"enable_thinking": False}),
    )
    asking = Asking(strategy="separate", template="chat")
    built = prompts.build(TEXTS[:1], asking, chat=chat, task=task)
    assert built[0].text == "system:Be brief.|user:text0\na or b?|False"


@pytest.mark.parametrize(
    "change",
    [
        {"labels": [*TEAMS[:3], "rest"]},
        {"instruction": "Team? {labels}"},
        {"instruction_many": "Teams? {labels}"},
        {"name": "others"},
    ],
)
def test_cell_id_by_content(change: dict[str, Any]) -> None:
    """Another question is another cell."""
    assert _cells(_own(**change))[0].cell_id != _cells(_own())[0].cell_id


def test_cell_id_not_by_reading() -> None:
    """How a file spells its labels is no part of a cell: the texts and their labels are."""
    task = _own(label_map={"Bug report": "bug"}, text_column="body")
    assert _cells(task)[0] == _cells(_own())[0]


def test_cell_keeps_its_task() -> None:
    """A cell taken apart and put together asks the same."""
    (cell,) = _cells(_own(instruction_many="Teams of {n}? {labels}"))
    task = cell.labelling
    assert (task.labels, task.instruction) == (tuple(TEAMS), ASK)
    assert task.instruction_many == "Teams of {n}? {labels}"


def test_builtin_second_task() -> None:
    """The tickets are a task by their name."""
    (cell,) = _cells({"name": "tickets"})
    assert cell.labelling == TICKETS
    assert cell.words == TICKETS.labels


def test_formats_are_for_many_texts() -> None:
    """One text a prompt has one format; log-probabilities have one text a prompt."""
    found = _cells(
        _own(),
        grid={
            "strategy": ["separate", "packed"],
            "answer": ["choice", "logprob"],
            "format": ["lines", "json"],
        },
    )
    assert [(each.strategy, each.answer, each.format) for each in found] == [
        ("separate", "choice", "lines"),
        ("separate", "logprob", "lines"),
        ("packed", "choice", "lines"),
        ("packed", "choice", "json"),
    ]


@given(
    labels=st.lists(
        st.text(st.characters(codec="utf-8", categories=["L", "N"]), min_size=1, max_size=9),
        min_size=2,
        max_size=6,
        unique_by=str.casefold,
    ),
    num_texts=st.integers(1, 12),
    answer_format=st.sampled_from(["lines", "numbered", "json"]),
)
def test_pattern_accepts_what_is_written(
    labels: list[str], num_texts: int, answer_format: Format
) -> None:
    """The constraint lets through what was asked for, and room is left for it in bytes."""
    chosen = [labels[index % len(labels)] for index in range(num_texts)]
    text = answers.written(chosen, answer_format)
    assert re.fullmatch(answers.pattern(labels, num_texts, answer_format), text)
    room = answers.max_tokens_per_text(labels, num_texts, answer_format)
    assert len(text.encode()) + 1 <= num_texts * room


def test_pattern_escapes() -> None:
    """What means something in a regular expression means itself in a label."""
    assert re.fullmatch(answers.pattern(["C++", "a|b (c)"], 1, "lines"), "a|b (c)")


@pytest.mark.parametrize(
    ("task", "grid", "message"),
    [
        ({"name": "teams"}, {}, "task.labels: is missing; only the tasks sentiment and tickets"),
        ({"name": "teams", "labels": TEAMS}, {}, "task.instruction: is missing"),
        (_own(labels=["a", "A"]), {}, "task.labels: 'A' and 'a' are the same label"),
        (_own(labels=["a", " "]), {}, "task.labels: blank is not a label"),
        (_own(labels=["a"]), {}, "nothing to choose from"),
        (_own(labels=["a", "b\n"]), {}, "control character"),
        (_own(labels=[str(i) for i in range(10_000)]), {}, "10,000 labels are more than the 100"),
        ({"labels": ["good", "bad"]}, {}, "the built-in task sentiment has positive, negative"),
        (_own(instruction=" "), {}, "task.instruction: is empty"),
        (_own(instruction="Which {team}?"), {}, "{team} is not known; write {labels}"),
        (_own(instruction_many="These {texts}?"), {}, "has no placeholder for the texts"),
        (_own(text_column="a", label_column="a"), {}, "task.label_column: is 'a', as text_column"),
        (_own(label_map={"x": "y"}), {}, "task.label_map: 'y' is not one of the labels billing"),
        (_own(system="Hi"), {}, "task.system: has no effect without grid.template"),
        (_own(), {"template": "short"}, "grid.template: short exists for the sentiment question"),
        (_own(instruction="Team?"), {"label_form": "letters"}, "has no {labels}"),
        (_own(labels=[f"l{i}" for i in range(27)]), {"label_form": "letters"}, "26 labels"),
        (_own(instruction="{text}?"), {"instruction": "before"}, "grid.instruction: has no effect"),
        (_own(), {"answer": "logprob"}, "grid.answer: logprob labels one text per prompt"),
        (_own(), {"strategy": "separate", "format": "json"}, "grid.format: has no effect with one"),
        (_own(lables=TEAMS), {}, "task.lables: unknown key; did you mean task.labels?"),
    ],
)
def test_bad_task(task: dict[str, Any], grid: dict[str, Any], message: str) -> None:
    """Whatever is wrong with a task is one line that names the key."""
    with pytest.raises(SpecError, match=re.escape(message)) as caught:
        sweep(task=task, grid=grid)
    assert "\n" not in str(caught.value)


def test_sentiment_settings_are_short() -> None:
    """The experiment's own task has no settings; a changed one has all."""
    assert SENTIMENT.settings == "{}"
    assert "labels" in json.loads(TICKETS.settings)

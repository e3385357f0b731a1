"""What is asked of a text: the labels and the words of the question.

A sweep file without ``[task]`` means ``sentiment``, the experiment that this project reproduces;
its own sentences stand in ``prompts``. Every other task is worded here, from its instruction.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from typing import Any

from packsweep.errors import shown
from packsweep.sweep.answers import JOINT, SEPARATOR
from packsweep.sweep.spec import Format, GridTable, Instruction, LabelForm, Sweep, TaskTable
from packsweep.sweep.texts.builtin import tickets
from packsweep.sweep.texts.text import INVISIBLE, JOINERS, LABELS, folded, is_joining

_PLACE = re.compile(r"\{(labels|n|texts?)\}")
_ANY_PLACE = re.compile(r"\{([A-Za-z_]+)\}")
# What was meant for a place and would be sent as it stands.
_NEARLY_PLACE = re.compile(r"\{(?:\{\s*|\s+)(?:labels|n|texts?)\b|\{(?:labels|n|texts?)(?![\w}])")
_SHOWN_OF_PLACE = 12
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_MOST_LABELS = 100  # vLLM scores at most 128 tokens of a request
_LONGEST_LABEL = _LONGEST_NAME = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class LabellingTask:
    """A question with a fixed set of answers.

    Attributes:
        instruction: asks it of one text; ``{labels}`` is filled in, ``{text}`` is optional.
        instruction_many: asks it of ``{n}`` texts; None: derived from ``instruction``.
        system: what the chat template's system message says; None: there is none.
        chat_template_kwargs: a JSON object of the chat template's own variables.
        spellings: other ways to write a label, in a file and in an answer.
    """

    name: str
    labels: tuple[str, ...]
    instruction: str
    instruction_many: str | None = None
    system: str | None = None
    chat_template_kwargs: str = "{}"
    spellings: Mapping[str, str] = field(default_factory=dict, compare=False)

    @property
    def settings(self) -> str:
        """What the task asks, as JSON; ``{}`` stands for the sentiment task as it is."""
        if self == SENTIMENT:
            return "{}"
        values = asdict(self)
        del values["name"], values["spellings"]
        return json.dumps(values, sort_keys=True)

    @property
    def template_variables(self) -> dict[str, Any]:
        """``chat_template_kwargs`` as a mapping."""
        return dict(json.loads(self.chat_template_kwargs))

    @property
    def unnamed(self) -> list[str]:
        """The labels that a question does not name; of numbers it may say from which to which."""
        asks = filter(None, (self.instruction, self.instruction_many))
        told = [f"{ask} {self.system or ''}".casefold() for ask in asks if "{labels}" not in ask]
        return [
            label
            for label in self.labels
            if not label.isdigit() and any(label.casefold() not in ask for ask in told)
        ]

    def words(self, form: LabelForm) -> tuple[str, ...]:
        """Return what an answer writes for each label: the label, or a letter."""
        return self.labels if form == "words" else tuple(_LETTERS[: len(self.labels)])

    def ask_one(self, text: str, place: Instruction, form: LabelForm) -> str:
        """Return the prompt for one text, which stands on a line of its own or in its place."""
        asked = self._filled(self.instruction, form, 1, text)
        return f"{asked}\n" if _has_text(self.instruction) else _placed(f"{text}\n", asked, place)

    def ask_many(
        self, texts: Sequence[str], place: Instruction, form: LabelForm, answer_format: Format
    ) -> str:
        """Return the prompt for several texts, a line each."""
        numbered = answer_format != "lines"
        lines = [f"{i}. {text}" if numbered else text for i, text in enumerate(texts, 1)]
        ask = self.instruction_many or self._derived(place)
        if self.instruction_many is None or numbered:
            ask += f" {_RULES[answer_format].format(word=self.words(form)[0])}"
        asked = self._filled(ask, form, len(texts), "\n".join(lines))
        return f"{asked}\n" if _has_text(ask) else _placed("\n".join([*lines, ""]), asked, place)

    def _derived(self, place: Instruction) -> str:
        if _has_text(self.instruction):
            return _PLACE.sub(lambda found: _MANY_PLACES.get(found[1], found[0]), self.instruction)
        where = "Above" if place == "after" else "Below"
        return f"{where} are {{n}} texts, one on each line. For each of them: {self.instruction}"

    def _filled(self, ask: str, form: LabelForm, num_texts: int, text: str) -> str:
        values = {"labels": self._listed(form), "n": str(num_texts), "text": text, "texts": text}
        return _PLACE.sub(lambda found: values[found[1]], ask)

    def _listed(self, form: LabelForm) -> str:
        """Return the labels as a sentence lists them: ``billing, bug or other``."""
        pairs = zip(self.words("letters"), self.labels, strict=False)
        named = self.labels if form == "words" else [f"{letter} ({of})" for letter, of in pairs]
        return f"{', '.join(named[:-1])} or {named[-1]}"


_MANY_PLACES = {"text": "{texts}"}
_RULES: dict[Format, str] = {
    "lines": "Answer with {{n}} lines, in the order of the texts, one answer on each line.",
    "numbered": (
        "Answer with {{n}} lines such as 1. {word}: the number of the text, then its answer."
    ),
    "json": (
        'Answer with one JSON object such as {{"1": "{word}"}}: the number of each of the {{n}} '
        "texts and its answer."
    ),
}

SENTIMENT = LabellingTask(
    name="sentiment",
    labels=LABELS,
    instruction="Is this comment positive or negative? Answer only {labels}.",
    # The experiment's own spellings, of its prompts and of its table.
    spellings={"postive": "positive", "negtive": "negative"},
)
TICKETS = LabellingTask(
    name="tickets",
    labels=tickets.LABELS,
    instruction="Which team should handle this support ticket? Answer only {labels}.",
)
BUILTIN = {task.name: task for task in (SENTIMENT, TICKETS)}


def of(table: TaskTable) -> LabellingTask:
    """Return the task that a checked ``[task]`` describes."""
    known = BUILTIN.get(table.name)
    values: dict[str, Any] = {
        "instruction_many": table.instruction_many,
        "system": table.system,
        "chat_template_kwargs": json.dumps(table.chat_template_kwargs, sort_keys=True),
    }
    if known is not None:
        return replace(known, **values, instruction=table.instruction or known.instruction)
    assert table.labels, "problem() refuses a task without labels"
    assert table.instruction, "as above"
    return LabellingTask(
        name=table.name, labels=table.labels, instruction=table.instruction, **values
    )


@cache
def from_settings(name: str, settings: str) -> LabellingTask:
    """Return the task whose name and ``settings`` a cell holds."""
    if settings == "{}":
        return SENTIMENT
    values = json.loads(settings)
    labels = tuple(values.pop("labels"))
    known = BUILTIN.get(name)
    spellings = known.spellings if known is not None and known.labels == labels else {}
    return LabellingTask(name=name, labels=labels, spellings=spellings, **values)


def problem(table: TaskTable) -> str | None:
    """Return what is wrong with a ``[task]``, or None."""
    hidden = any(map(_is_hidden, table.name))
    if not table.name.strip() or hidden or len(table.name) > _LONGEST_NAME:
        return f"task.name: {shown(table.name)} is not a name of 1 to {_LONGEST_NAME} characters"
    if table.name not in BUILTIN:
        missing = next((key for key in ("labels", "instruction") if not getattr(table, key)), None)
        if missing:
            known = " and ".join(BUILTIN)
            return f"task.{missing}: is missing; only the tasks {known} are built in"
    elif table.labels is not None and table.labels != BUILTIN[table.name].labels:
        own = ", ".join(BUILTIN[table.name].labels)
        return f"task.labels: the built-in task {table.name} has {own}; give yours another name"
    return (
        _labels_problem(table.labels or ())
        or _columns_problem(table)
        or _instruction_problem("instruction", table.instruction)
        or _instruction_problem("instruction_many", table.instruction_many)
        or _place_problem(table)
        or _system_problem(table.system)
    )


def _labels_problem(labels: Sequence[str]) -> str | None:
    if len(labels) > _MOST_LABELS:
        return f"task.labels: {len(labels):,} labels are more than the {_MOST_LABELS} allowed"
    if len(labels) == 1:
        return f"task.labels: one label, {shown(labels[0])}, is nothing to choose from"
    seen: dict[str, str] = {}
    for label in labels:
        if fault := _label_fault(label):
            return f"task.labels: {shown(label)} {fault}"
        key = SEPARATOR.sub(r"\1", JOINT.sub(" ", folded(label)))
        if key in seen:
            same = f"task.labels: {seen[key]!r} and {label!r} are the same label"
            return f"{same}: they differ only in case, spaces, hyphens or encoding"
        seen[key] = label
    return None


def _label_fault(label: str) -> str | None:
    if not label.strip():
        return "is not a label"
    if len(label) > _LONGEST_LABEL:
        return f"is longer than {_LONGEST_LABEL} characters"
    if label != label.strip().strip("".join(JOINERS)):
        return "begins or ends with a space or an invisible character"
    strange = next((char for char in label if char in '"\\{}' or _is_hidden(char)), None)
    if strange is not None:
        named = f"U+{ord(strange):04X}, which is invisible" if _is_hidden(strange) else strange
        return f"holds {named}; write it without, and let task.label_map read it"
    if not any(map(_tells, label)):
        return (
            "is punctuation, which any answer may hold; name it in words, and let task.label_map "
            "read it"
        )
    return None


def _is_hidden(char: str) -> bool:
    """Return whether nobody sees a character, or a terminal would obey it."""
    hidden = unicodedata.category(char) in INVISIBLE | {"Cs"}
    return hidden and char != " " and not is_joining(char)


def _tells(char: str) -> bool:
    """Return whether a character is more than the punctuation around an answer."""
    joined = unicodedata.category(char) in {"Mn", "Mc", "Cf"}
    return char.isalnum() or not (char.isascii() or joined)


def _columns_problem(table: TaskTable) -> str | None:
    if table.text_column is not None and table.text_column == table.label_column:
        return f"task.label_column: is {table.text_column!r}, as text_column is"
    labels = table.labels or BUILTIN[table.name].labels
    moved = next((one for one, to in table.label_map.items() if one in labels and one != to), None)
    if moved is not None:
        return f"task.label_map: {moved!r} is a label itself; take it out of one of the two"
    strange = next((to for to in table.label_map.values() if to not in labels), None)
    if strange is not None:
        return f"task.label_map: {strange!r} is not one of the labels {', '.join(labels)}"
    return None


def _instruction_problem(key: str, ask: str | None) -> str | None:
    if ask is None:
        return None
    if not ask.strip():
        return f"task.{key}: is empty"
    known = {found[1] for found in _PLACE.finditer(ask)}
    strange = next((w[1] for w in _ANY_PLACE.finditer(ask) if w[1] not in known), None)
    if strange is not None:
        return f"task.{key}: {{{strange}}} is not known; write {{labels}}, {{n}}, {{text}}"
    nearly = _NEARLY_PLACE.search(ask)
    if nearly is not None:
        found = ask[nearly.start() : nearly.start() + _SHOWN_OF_PLACE]
        message = f"task.{key}: {shown(found)} would be sent as it is"
        return f"{message}; write {{labels}}, {{n}}, {{text}}"
    return None


def _place_problem(table: TaskTable) -> str | None:
    one, many = table.instruction, table.instruction_many
    if one is None or many is None or _has_text(one) == _has_text(many):
        return None
    key = "instruction" if _has_text(many) else "instruction_many"
    return (
        f"task.{key}: has no placeholder for the texts, but the other instruction has one; write "
        "{text} and {texts} in both, or in neither"
    )


def _system_problem(system: str | None) -> str | None:
    place = _PLACE.search(system or "") or _NEARLY_PLACE.search(system or "")
    if place is None:
        return None
    told = f"task.system: {shown(place[0])} would be sent as it is"
    return f"{told}; only instruction and instruction_many are filled in"


def contradiction(sweep: Sweep) -> str | None:
    """Return what is wrong with the task, or contradicts the grid, or None."""
    wrong = problem(sweep.task)
    if wrong:
        return wrong
    task, grid = of(sweep.task), sweep.grid
    return (
        _template_problem(task, grid)
        or _letters_problem(task, grid)
        or _chat_problem(task, grid)
        or _where_problem(task, grid)
    )


def _template_problem(task: LabellingTask, grid: GridTable) -> str | None:
    own_words = set(grid.template) & {"corrected", "short"}
    if not own_words or task.instruction == SENTIMENT.instruction:
        return None
    return (
        f"grid.template: {min(own_words)} exists for the sentiment question only; this task has "
        "original (its own instruction) and chat"
    )


def _letters_problem(task: LabellingTask, grid: GridTable) -> str | None:
    if "letters" not in grid.label_form:
        return None
    if len(task.labels) > len(_LETTERS):
        return f"grid.label_form: there are letters for {len(_LETTERS)} labels at most"
    asked = filter(None, (task.instruction, task.instruction_many))
    if all("{labels}" in ask for ask in asked):
        return None
    return "task.instruction: has no {labels}, which grid.label_form letters needs"


def _chat_problem(task: LabellingTask, grid: GridTable) -> str | None:
    if "chat" in grid.template or (task.system is None and task.chat_template_kwargs == "{}"):
        return None
    key = "chat_template_kwargs" if task.system is None else "system"
    return f'task.{key}: has no effect without grid.template = "chat"'


def _where_problem(task: LabellingTask, grid: GridTable) -> str | None:
    asked = filter(None, (task.instruction, task.instruction_many))
    if grid.instruction == ("after",) or not any(map(_has_text, asked)):
        return None
    return (
        "grid.instruction: has no effect, because the instruction has a placeholder for the texts"
    )


def _has_text(ask: str) -> bool:
    return "{text}" in ask or "{texts}" in ask


def _placed(lines: str, asked: str, place: Instruction) -> str:
    return f"{lines}{asked}\n" if place == "after" else f"{asked}\n{lines}"

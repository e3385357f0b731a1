"""Which columns of a file are the text and its label, and how labels are spelled there.

What a task does not name is guessed where only one reading is possible, and said.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from packsweep.errors import TextsError, nearest, shown
from packsweep.sweep.texts.rows import DELIMITERS, kind
from packsweep.sweep.texts.text import LABELS, LabelledText, checked_text, folded

TEXT_NAMES = ("text", "review", "body", "content", "sentence", "comment", "message", "document")
_LABEL_NAMES = ("label", "sentiment", "class", "category", "target", "team")
# A shortened label, such as pos, has as many letters.
_LEAST_PREFIX = 3
_NUMBER = re.compile(r"[+-]?\d{1,15}(?:\.\d{0,15})?")
_SHOWN_UNUSED = 3
_SHOWN_STRANGE = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How the rows of a file become labelled texts.

    Attributes:
        labels: those that a text can have.
        label_map: what a file writes -> the label.
        text_column: name of the column; None: guessed.
        label_column: name of the column; None: guessed, it may be missing; empty: none.
        delimiter: between the fields of a CSV file; None: by its name and its first line.
        split: of a data set of the hub; None: the only one.
    """

    labels: tuple[str, ...] = LABELS
    label_map: Mapping[str, str] = field(default_factory=dict)
    text_column: str | None = None
    label_column: str | None = None
    delimiter: str | None = None
    split: str | None = None

    @property
    def key(self) -> str:
        """All that changes what is read, as text."""
        return repr(
            (
                self.labels,
                sorted(self.label_map.items()),
                self.text_column,
                self.label_column,
                self.delimiter,
                self.split,
            )
        )


SENTIMENTS = Reading()


class Labeller:
    """Turns the rows of a source's files into texts, and keeps what it guessed.

    The first file decides which columns are read; every further one must have them.
    """

    def __init__(self, reading: Reading) -> None:
        self.reading = reading
        self._first = self._where = ""
        self._names: list[str] = []
        self._columns: tuple[str, str | None] | None = None
        self._notes: list[str] = []
        self._guessed: dict[str, str] = {}
        self._used: set[str] = set()
        # What a file writes that is no label -> the first row with it, and its value.
        self._strange: dict[str, tuple[str, object]] = {}
        self.text_at = 0
        self.label_at: int | None = None
        self._classes: Sequence[str] = ()

    def open(
        self,
        names: Sequence[str],
        where: str,
        class_names: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """Find the columns of a file.

        Args:
            names: the file's columns.
            where: the file, for messages.
            class_names: column -> what its whole numbers stand for, where the file says so.

        Raises:
            TextsError: a column is not there, or more than one could be the text.
        """
        self._names, self._where = list(names), where
        if self._columns is None:
            label = self._label_column()
            self._columns = self._text_column(label), label
            self._first = where
            self._notes += self._said(*self._columns)
        else:
            self._check_alike()
        text, label = self._columns
        self.text_at = self._names.index(text)
        self.label_at = None if label is None else self._names.index(label)
        self._classes = (class_names or {}).get(label or "", ())

    def check_unlabelled(self, names: Sequence[str], where: str) -> None:
        """Refuse labels that begin after texts were taken to have none.

        Raises:
            TextsError: a column of labels is among ``names``.
        """
        late = next((name for name in names if name.strip().lower() in _LABEL_NAMES), None)
        if late is not None and self.label_at is None and self.reading.label_column is None:
            raise TextsError(
                f"{where}: has {late!r}, which {self._first} begins without; name it with "
                'task.label_column, or set that to "" to read no labels'
            )

    @property
    def notes(self) -> list[str]:
        """What was guessed, and which labels no text has, a line each."""
        pairs = ", ".join(f"{shown(one)} as {other}" for one, other in self._guessed.items())
        spelled = [f"{self._first}: labels are read: {pairs}"] if pairs else []
        unused = [shown(label) for label in self.reading.labels if label not in self._used]
        if unused and self._used:
            more = f" and {len(unused) - _SHOWN_UNUSED} more"
            listed = ", ".join(unused[:_SHOWN_UNUSED]) + more * (len(unused) > _SHOWN_UNUSED)
            spelled.append(f"{self._first}: no text is labelled {listed}")
        return [*self._notes, *spelled]

    def text(self, fields: Sequence[object], where: str) -> LabelledText:
        """Return the text in a row; ``where`` names the row.

        A label that is none of the task's waits for ``refuse_strange``, which names them all.

        Raises:
            TextsError: the text is missing.
        """
        text = checked_text(fields[self.text_at], where)
        if self.label_at is None:
            return LabelledText(text=text, label=None)
        return LabelledText(text=text, label=self._label(fields[self.label_at], where))

    def _label(self, value: object, where: str) -> str:
        if isinstance(value, int) and not isinstance(value, bool) and self._classes:
            value = self._classes[value] if 0 <= value < len(self._classes) else value
        word = _written(value)
        label = None if word in self._strange else self._known(word)
        if label is None:
            self._strange.setdefault(word, (where, value))
            return word
        self._used.add(label)
        return label

    def refuse_strange(self) -> None:
        """Refuse labels that are none of the task's, once all rows are read.

        Raises:
            TextsError: there are such; it names the first row with one, and what would help.
        """
        for word, (where, value) in self._strange.items():
            raise TextsError(f"{where}: {self._unknown(value, word)}")

    def _known(self, word: str) -> str | None:
        reading = self.reading
        if word in reading.labels:
            return word
        if word in reading.label_map:
            return reading.label_map[word]
        if word not in self._guessed and len(near := self._similar(word)) == 1:
            self._guessed[word] = near.pop()
        return self._guessed.get(word)

    def _similar(self, word: str) -> set[str]:
        """Return the labels that ``word`` writes in another case or number form, or shortens."""
        reading = self.reading
        meanings = {**{label: label for label in reading.labels}, **reading.label_map}
        plain = folded(word)
        same = {
            label
            for known, label in meanings.items()
            if folded(known) == plain or _is_same_number(known, word)
        }
        if same or len(plain) < _LEAST_PREFIX:
            return same
        return {label for label in reading.labels if folded(label).startswith(plain)}

    def _unknown(self, value: object, word: str) -> str:
        """Say that a row has no label of the task, and what would help."""
        reading = self.reading
        expected = f"{', '.join(reading.labels[:-1])} or {reading.labels[-1]}"
        assert self._columns is not None, "open() was called"
        told = f"the {self._columns[1]} is {shown(value if word else None)}"
        message = f"{told}; expected {expected[:200]}"
        if reading.labels == LABELS:
            message += "; [task] names other labels"
        if isinstance(value, list | dict):
            return message
        if word.strip():
            others = [
                json.dumps(each, ensure_ascii=False) for each in self._strange if each.strip()
            ]
            pairs = ", ".join(f'{other} = "LABEL"' for other in others[:_SHOWN_STRANGE])
            more = f" and {len(others) - _SHOWN_STRANGE:,} more" * (len(others) > _SHOWN_STRANGE)
            return f"{message}; task.label_map can say what is meant: {{ {pairs} }}{more}"
        return f'{message}; remove the row, or read no labels: task.label_column = ""'

    def _check_alike(self) -> None:
        """Refuse a file that lacks a column of the first, or has labels where that has none."""
        assert self._columns is not None, "the first file decided"
        for name in filter(None, self._columns):
            if self._names.count(name) != 1:
                raise TextsError(
                    f"{self._where}: there is no one column {name!r}, which {self._first} has; "
                    f"found {self._listed()}; name files that are alike"
                )
        self.check_unlabelled(self._names, self._where)

    def _label_column(self) -> str | None:
        asked = self.reading.label_column
        if asked is not None:
            return self._named(asked, "label_column") if asked else None
        found = [
            name for name in self._candidates(_LABEL_NAMES) if name != self.reading.text_column
        ]
        if len(found) > 1:
            raise TextsError(self._unclear("label", found))
        return found[0] if found else None

    def _text_column(self, label: str | None) -> str:
        asked = self.reading.text_column
        if asked is not None:
            return self._named(asked, "text_column")
        others = [name for name in self._names if name != label]
        found = [name for name in self._candidates(TEXT_NAMES) if name != label]
        if not found and len(others) == 1:
            found = others
        if len(found) != 1:
            raise TextsError(self._unclear("text", found))
        return found[0]

    def _candidates(self, known: Sequence[str]) -> list[str]:
        return [name for name in self._names if name.strip().lower() in known]

    def _named(self, name: str, key: str) -> str:
        if self._names.count(name) == 1:
            return name
        if name in self._names:
            raise TextsError(f"{self._where}: the column {name!r} is there more than once")
        near = nearest(name, self._names)
        hint = f"did you mean {near!r}?" if near else f"found {self._listed()}"
        raise TextsError(f"{self._where}: there is no column {name!r} (task.{key}); {hint}")

    def _unclear(self, what: str, found: Sequence[str]) -> str:
        fault = "could be" if found else "is"
        which = " and ".join(map(repr, found[:4])) if found else "no column"
        twice = len(set(found)) < len(found)
        problem = (
            f"the column {found[0]} is there more than once"
            if twice
            else (f"{which} {fault} the {what}")
        )
        without = not found and kind(self._where) in DELIMITERS
        told = f"{self._where}: {problem}; found {self._listed()}; name it with task.{what}_column"
        return f"{told}, or put a header above the rows" if without else told

    def _listed(self) -> str:
        return ", ".join(shown(name) for name in self._names[:10]) or "none"

    def _said(self, text: str, label: str | None) -> list[str]:
        reading = self.reading
        known = {text, label} <= {"review", "text", "sentiment", "label"}
        asked = reading.text_column is not None and reading.label_column is not None
        if known or asked or self._names in ([name] for name in TEXT_NAMES):
            return []
        unread = "" if reading.label_column == "" else self._unread(text)
        labels = f"labels from {label!r}" if label else f"no labels{unread}"
        return [f"{self._where}: texts are read from {text!r}, {labels}"]

    def _unread(self, text: str) -> str:
        """Say which columns might hold the labels, and how to name theirs."""
        others = [name for name in self._names if name != text]
        named = " or ".join(shown(name) for name in others[:4])
        return f" (if {named} holds them, name it with task.label_column)" if others else ""


def _written(value: object) -> str:
    """Return a value as a file writes it; nothing where a number is none (NaN)."""
    if value is None or value != value:  # noqa: PLR0124
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _is_same_number(one: str, other: str) -> bool:
    """Return whether both are numbers and equal, such as 1 and 1.0."""
    both = _NUMBER.fullmatch(one.strip()) and _NUMBER.fullmatch(other.strip())
    return bool(both) and float(one) == float(other)

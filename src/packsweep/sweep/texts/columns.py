"""Which columns of a file are the text and its label, and how labels are spelled there.

What a task does not name is guessed where only one reading is possible, and said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from packsweep.errors import TextsError, nearest, shown
from packsweep.sweep.texts.text import LABELS, LabelledText, checked_text

TEXT_NAMES = ("text", "review", "body", "content", "sentence", "comment", "message", "document")
_LABEL_NAMES = ("label", "sentiment", "class", "category", "target", "team")
# A shortened label, such as pos, has as many letters.
_LEAST_PREFIX = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How the rows of a file become labelled texts.

    Attributes:
        labels: those that a text can have.
        label_map: what a file writes -> the label.
        text_column: name of the column; None: guessed.
        label_column: name of the column; None: guessed, and it may be missing.
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
    """Turns the rows of one file into texts, and keeps what it guessed."""

    def __init__(
        self,
        names: Sequence[str],
        reading: Reading,
        where: str,
        class_names: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """Find the columns among ``names``.

        Args:
            names: the file's columns.
            reading: what the task says of them.
            where: the file, for messages.
            class_names: column -> what its whole numbers stand for, where the file says so.

        Raises:
            TextsError: a named column is not there, or more than one could be the text.
        """
        self._names = list(names)
        self._reading = reading
        self._where = where
        self._guessed: dict[str, str] = {}
        label = self._label_column()
        text = self._text_column(label)
        self._notes = self._said(text, label)
        self.text_at = self._names.index(text)
        self.label_at = None if label is None else self._names.index(label)
        self._label_name = label or ""
        self._classes = (class_names or {}).get(self._label_name, ())

    @property
    def notes(self) -> list[str]:
        """What was guessed, a line each."""
        pairs = ", ".join(f"{shown(one)} as {other}" for one, other in self._guessed.items())
        spelled = [f"{self._where}: labels are read: {pairs}"] if pairs else []
        return [*self._notes, *spelled]

    def text(self, fields: Sequence[object], where: str) -> LabelledText:
        """Return the text in a row; ``where`` names the row.

        Raises:
            TextsError: the text is missing, or its label is none of the task's.
        """
        text = checked_text(fields[self.text_at], where)
        if self.label_at is None:
            return LabelledText(text=text, label=None)
        return LabelledText(text=text, label=self._label(fields[self.label_at], where))

    def _label(self, value: object, where: str) -> str:
        reading = self._reading
        if isinstance(value, int) and not isinstance(value, bool) and self._classes:
            value = self._classes[value] if 0 <= value < len(self._classes) else value
        word = value if isinstance(value, str) else "" if value is None else str(value)
        if word in reading.labels:
            return word
        if word in reading.label_map:
            return reading.label_map[word]
        near = self._similar(word.strip().casefold()) if isinstance(value, str) else []
        if len(near) == 1:
            self._guessed[word] = near[0]
            return near[0]
        expected = f"{', '.join(reading.labels[:-1])} or {reading.labels[-1]}"
        name = self._label_name
        message = f"{where}: the {name} is {shown(value)}; expected {expected[:200]}"
        hint = f'; task.label_map can say what it means: {{ {shown(word)} = "LABEL" }}'
        raise TextsError(message + (hint if word.strip() else ""))

    def _similar(self, word: str) -> list[str]:
        """Return the labels that ``word`` writes in another case, or shortens."""
        same = [label for label in self._reading.labels if label.casefold() == word]
        if same or len(word) < _LEAST_PREFIX:
            return same
        return [label for label in self._reading.labels if label.casefold().startswith(word)]

    def _label_column(self) -> str | None:
        asked = self._reading.label_column
        if asked is not None:
            return self._named(asked, "label_column")
        found = [
            name for name in self._candidates(_LABEL_NAMES) if name != self._reading.text_column
        ]
        if len(found) > 1:
            raise TextsError(self._unclear("label", found))
        return found[0] if found else None

    def _text_column(self, label: str | None) -> str:
        asked = self._reading.text_column
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
        return f"{self._where}: {problem}; found {self._listed()}; name it with task.{what}_column"

    def _listed(self) -> str:
        return ", ".join(shown(name) for name in self._names[:10]) or "none"

    def _said(self, text: str, label: str | None) -> list[str]:
        reading = self._reading
        known = {text, label} <= {"review", "text", "sentiment", "label"}
        asked = reading.text_column is not None and reading.label_column is not None
        if known or asked or len(self._names) == 1:
            return []
        labels = f"labels from {label!r}" if label else f"no labels{self._unread(text)}"
        return [f"{self._where}: texts are read from {text!r}, {labels}"]

    def _unread(self, text: str) -> str:
        """Say which columns might hold the labels, and how to name theirs."""
        others = [name for name in self._names if name != text]
        named = " or ".join(shown(name) for name in others[:4])
        return f" (if {named} holds them, name it with task.label_column)" if others else ""

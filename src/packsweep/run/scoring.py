"""Which labels an answer holds, and whether they are right.

Pure functions over text. An answer to a prompt of k texts is read as k labels in order: the
i-th label word found is the label of the i-th text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

# "postive" is how the original prompt spells it, and a model may repeat it.
_WORDS = {"positive": "positive", "postive": "positive", "negative": "negative"}
_LABEL = re.compile(r"(?<![a-z])(positive|postive|negative)(?![a-z])", re.IGNORECASE | re.ASCII)
# An answer cut by its token limit may end inside the label word; three letters are enough to tell.
_CUT = re.compile(r"(?<![a-z])([a-z]{3,7})$", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """What one answer held.

    Attributes:
        labels: the label found for each text, in order; None where there was none.
        num_found: texts for which a label was found.
        num_right: texts whose label is the expected one.
        num_surplus: label words beyond one per text.
    """

    labels: tuple[str | None, ...]
    num_found: int
    num_right: int
    num_surplus: int


def find_labels(text: str, *, cut: bool) -> list[str]:
    """Return the labels in ``text`` in order; ``cut`` says that a token limit ended it."""
    found = [_WORDS[word.lower()] for word in _LABEL.findall(text)]
    last = _CUT.search(text) if cut else None
    if last is None or last.group(1).lower() in _WORDS:
        return found
    starts = {label for word, label in _WORDS.items() if word.startswith(last.group(1).lower())}
    return found + sorted(starts) if len(starts) == 1 else found


def score(text: str, expected: Sequence[str], *, cut: bool) -> Score:
    """Compare the labels in ``text`` with the ``expected`` ones, position by position."""
    found = find_labels(text, cut=cut)
    kept = found[: len(expected)]
    missing: list[str | None] = [None] * (len(expected) - len(kept))
    return Score(
        labels=tuple(kept + missing),
        num_found=len(kept),
        num_right=sum(label == right for label, right in zip(kept, expected, strict=False)),
        num_surplus=len(found) - len(kept),
    )

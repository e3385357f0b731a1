"""A text, and what makes one fit for use.

The values of this package. It knows nothing of files, caches or networks.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass

from packsweep.errors import TextsError

LABELS = ("positive", "negative")


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledText:
    """One text and its sentiment.

    Attributes:
        text: the text; it may hold line breaks where its file does.
        label: ``positive`` or ``negative``.
    """

    text: str
    label: str


def checked(text: object, label: object, where: str) -> LabelledText:
    """Return the text made of ``text`` and ``label``.

    Args:
        text: what the file holds as the text.
        label: what the file holds as its sentiment.
        where: the file and the row, for the message.

    Raises:
        TextsError: the text is missing or blank, or the label is not one of ``LABELS``.
    """
    if not isinstance(text, str) or not text or text.isspace():
        raise TextsError(f"{where}: the text is {_shown(text)}; expected a text")
    if label not in LABELS:
        expected = " or ".join(LABELS)
        raise TextsError(f"{where}: the sentiment is {_shown(label)}; expected {expected}")
    return LabelledText(text=text, label=str(label))


def _shown(value: object, limit: int = 40) -> str:
    if value is None or value == "":
        return "empty"
    if isinstance(value, str) and value.isspace():
        return "blank"
    shown = repr(value)
    return shown if len(shown) <= limit else f"{shown[:limit]}..."


def content_sha256(texts: Sequence[LabelledText]) -> str:
    """Return a hash of the texts and labels, in order.

    Each text and each label is preceded by its length in bytes, so that no two different
    sequences feed the same bytes into the hash.
    """
    digest = hashlib.sha256()
    for text in texts:
        for part in (text.text, text.label):
            encoded = part.encode()
            digest.update(f"{len(encoded)}:".encode())
            digest.update(encoded)
    return digest.hexdigest()


def shuffled(num_items: int, seed: int) -> list[int]:
    """Return the numbers 0 to ``num_items - 1`` in the order that ``seed`` gives.

    ``random()`` is the only method of the generator whose sequence Python promises to keep, so the
    order is that of one random key for each item, and is the same on every version and system.

    Source: https://docs.python.org/3/library/random.html#notes-on-reproducibility
    """
    generator = random.Random(seed)
    keys = [generator.random() for _ in range(num_items)]
    return sorted(range(num_items), key=keys.__getitem__)

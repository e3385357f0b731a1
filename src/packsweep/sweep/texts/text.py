"""A text, and what makes one fit for use.

The values of this package. It knows nothing of files, caches or networks.
"""

from __future__ import annotations

import hashlib
import random
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from packsweep.errors import TextsError, shown

LABELS = ("positive", "negative")


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledText:
    """One text and its label.

    Attributes:
        text: the text; it may hold line breaks where its file does.
        label: one of the task's; None where the source gives none.
    """

    text: str
    label: str | None


def checked_text(text: object, where: str) -> str:
    """Return ``text`` if it is one; ``where`` names the file and the row, for the message.

    Raises:
        TextsError: it is missing or blank, or cannot be written as UTF-8.
    """
    if text is None or (isinstance(text, str) and is_blank(text)):
        found = "blank" if text else "empty"
        raise TextsError(f"{where}: the text is {found}; expected a text; remove the row")
    if not isinstance(text, str):
        raise TextsError(f"{where}: the text is {shown(text)}; expected a text")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        message = f"{where}: the text holds half of a character (at {error.start})"
        raise TextsError(message) from None
    return text


# Categories of Unicode.
INVISIBLE = frozenset({"Cc", "Cf", "Zl", "Zp", "Zs"})


def is_blank(text: str) -> bool:
    """Return whether nothing of ``text`` is to be seen, as of spaces and joiners."""
    return all(unicodedata.category(char) in INVISIBLE for char in text)


# They tie what stands around them into one word or one emoji; tags spell the flag of a region.
JOINERS = frozenset("\u200c\u200d")
_TAGS = frozenset(map(chr, range(0xE0020, 0xE0080)))
# They ask for an emoji in colour or in black; whoever writes one may leave it out.
_SELECTORS = dict.fromkeys((0xFE0E, 0xFE0F))


def composed(text: str) -> str:
    """Return text in the one form that all ways to encode its letters and emojis have."""
    return unicodedata.normalize("NFC", text).translate(_SELECTORS)


def folded(label: str) -> str:
    """Return a label as it is compared: whatever its case, spaces and encoding."""
    return " ".join(composed(label).casefold().split())


def is_joining(char: str) -> bool:
    """Return whether an invisible character is a part of words or emojis."""
    return char in JOINERS or char in _TAGS


def content_sha256(texts: Sequence[LabelledText]) -> str:
    """Return a hash of the texts and labels, in order.

    Each text and each label is preceded by its length in bytes, so that no two different
    sequences feed the same bytes into the hash.
    """
    digest = hashlib.sha256()
    for text in texts:
        for part in (text.text, text.label or ""):
            encoded = part.encode()
            digest.update(f"{len(encoded)}:".encode())
            digest.update(encoded)
    return digest.hexdigest()


def chosen_of(num_items: int, *, limit: int, seed: int | None, kind: str) -> Sequence[int]:
    """Return the numbers of ``limit`` generated texts: the first, or those that ``seed`` chooses.

    Raises:
        TextsError: there are only ``num_items``, called ``kind`` in the message.
    """
    if limit > num_items:
        message = f"builtin: holds {num_items:,} {kind}, but {limit:,} are needed"
        raise TextsError(f"{message}; use a smaller n or a file with more")
    return range(limit) if seed is None else shuffled(num_items, seed)[:limit]


def shuffled(num_items: int, seed: int) -> list[int]:
    """Return the numbers 0 to ``num_items - 1`` in the order that ``seed`` gives.

    ``random()`` is the only method of the generator whose sequence Python promises to keep, so the
    order is that of one random key for each item, and is the same on every version and system.

    Source: https://docs.python.org/3/library/random.html#notes-on-reproducibility
    """
    generator = random.Random(seed)
    keys = [generator.random() for _ in range(num_items)]
    return sorted(range(num_items), key=keys.__getitem__)

"""Generated texts, so that a sweep needs neither a download nor a file."""

from __future__ import annotations

from collections.abc import Callable

from packsweep.sweep.texts.builtin import reviews, tickets
from packsweep.sweep.texts.text import LABELS, LabelledText

Generate = Callable[..., tuple[LabelledText, ...]]

# A built-in task -> its labels, which are no other's, and what generates its texts.
GENERATED: dict[str, tuple[tuple[str, ...], Generate]] = {
    "sentiment": (LABELS, reviews.load),
    "tickets": (tickets.LABELS, tickets.load),
}

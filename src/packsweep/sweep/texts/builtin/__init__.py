"""Generated texts, so that a sweep needs neither a download nor a file."""

from __future__ import annotations

from collections.abc import Callable

from packsweep.sweep.texts.builtin import reviews, tickets
from packsweep.sweep.texts.text import LABELS, LabelledText

# The labels of a task -> what generates its texts.
LOAD: dict[tuple[str, ...], Callable[..., tuple[LabelledText, ...]]] = {
    LABELS: reviews.load,
    tickets.LABELS: tickets.load,
}

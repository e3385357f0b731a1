"""Generated support tickets with four labels, for a second task without a download.

Ticket i is made from i alone and is the same on every system. Its label holds by construction:
what it complains of comes from the label's own sentences alone. No two begin alike: each starts
with a number of its own.
"""

from __future__ import annotations

import random
import re
import tomllib
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any

from packsweep.sweep.texts.text import LabelledText, chosen_of, shuffled

LABELS = ("payment", "bug", "delivery", "account")
NUM_TICKETS = 20_000

_SLOT = re.compile(r"\{(\w+)\}")
# Labels are balanced within each block of this many tickets, in an order of the block's own.
_BLOCK = 5 * len(LABELS)
# Without a common factor with NUM_TICKETS, so that its multiples are all different.
_NUMBER_STEP = 7_919
_MOST_SENTENCES = 4


def load(*, limit: int, seed: int | None) -> tuple[LabelledText, ...]:
    """Return ``limit`` generated tickets: the first, or those that ``seed`` chooses.

    Raises:
        TextsError: ``limit`` is above ``NUM_TICKETS``.
    """
    chosen = chosen_of(NUM_TICKETS, limit=limit, seed=seed, kind="tickets")
    return tuple(ticket(index) for index in chosen)


def ticket(index: int) -> LabelledText:
    block, place = divmod(index, _BLOCK)
    label = LABELS[shuffled(_BLOCK, NUM_TICKETS + block)[place] % len(LABELS)]
    words, chance = _vocabulary(), random.Random(index)
    kept = {
        "number": f"{100_000 + index * _NUMBER_STEP % NUM_TICKETS}",
        "product": _pick(chance, words["words"]["product"]),
    }
    about = _some(chance, words["sentences"][label], 1 + int(chance.random() * _MOST_SENTENCES))
    around = _some(chance, words["neutral"], int(chance.random() * _MOST_SENTENCES))
    body = [*about, *around]
    body = [body[at] for at in shuffled(len(body), index)]
    parts = [_pick(chance, words["greetings"]), *body, _pick(chance, words["closings"])]

    def word(slot: re.Match[str]) -> str:
        return kept.get(slot[1]) or _pick(chance, words["words"][slot[1]])

    text = _SLOT.sub(word, " ".join(parts))
    return LabelledText(text=f"Ticket {kept['number']}: {text}", label=label)


def _some(chance: random.Random, sentences: Sequence[str], count: int) -> list[str]:
    left = list(sentences)
    return [left.pop(int(chance.random() * len(left))) for _ in range(count)]


def _pick(chance: random.Random, choices: Sequence[str]) -> str:
    # random() alone: its sequence is the one that Python promises to keep.
    return choices[int(chance.random() * len(choices))]


@cache
def _vocabulary() -> dict[str, Any]:
    path = resources.files(__package__) / "tickets.toml"
    return tomllib.loads(path.read_text(encoding="utf-8"))

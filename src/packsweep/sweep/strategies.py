"""How n texts are divided among prompts.

A strategy is a word and a row here, and nothing else: the checks of a sweep file, prompts, plan,
tables, the page, ``recommend`` and the ``label.py`` that it writes ask the row. Whatever the
strategy, texts keep their order and each is in one prompt: results name a prompt's texts by the
index of its first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Strategy = Literal["packed", "separate", "chunked"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Division:
    """What a strategy does.

    Attributes:
        texts_per_prompt: (n, pack_size) -> texts in each prompt but the last, which holds what is
            left.
        takes_pack_size: ``grid.pack_size`` is an axis of it; the others have none.
        one_text: each text has a prompt to itself, so that the question is worded for one.
        said: what a prompt holds, ``{size}`` texts of it.
    """

    texts_per_prompt: Callable[[int, int | None], int]
    takes_pack_size: bool = False
    one_text: bool = False
    said: str = "{size} texts per prompt"

    @property
    def follows_n(self) -> bool:
        """A prompt of more texts is what a larger n means: n is a part of the question."""
        return not (self.takes_pack_size or self.one_text)


STRATEGIES: dict[Strategy, Division] = {
    "packed": Division(texts_per_prompt=lambda n, _: n, said="all texts in one prompt"),
    "separate": Division(
        texts_per_prompt=lambda _n, _: 1, one_text=True, said="one text per prompt"
    ),
    "chunked": Division(
        texts_per_prompt=lambda n, pack_size: min(n, pack_size or n), takes_pack_size=True
    ),
}
# Those of one text a prompt, of several, and of as many as ``grid.pack_size`` says.
ONE_TEXT = tuple(name for name, division in STRATEGIES.items() if division.one_text)
SEVERAL = tuple(name for name, division in STRATEGIES.items() if not division.one_text)
SIZED = tuple(name for name, division in STRATEGIES.items() if division.takes_pack_size)

"""How much of a text is sent: at most so many tokens, with its markup or without.

The cheapest lever there is on a prompt's length. What is left out is left out of the prompts
alone: a cell keeps the hash of its whole texts, so that cells of one set of texts compare.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from packsweep.errors import TextsError
from packsweep.sweep.spec import Keep, Markup
from packsweep.sweep.texts.text import LabelledText

if TYPE_CHECKING:
    import tokenizers

_TAG = re.compile(r"<(?:/?[A-Za-z][^<>]*|!--.*?--)>", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """What of a text is sent.

    Attributes:
        max_tokens: at most as many of its tokens; 0: all.
        keep: the first of them, or one half from the beginning and one from the end.
        markup: HTML tags and entities stay, or become spaces and characters.
    """

    max_tokens: int = 0
    keep: Keep = "head"
    markup: Markup = "keep"


Cutter = Callable[[Sequence[LabelledText], Cut], Sequence[LabelledText]]
# A text and its number -> what of it may be sent: entities such as &lt; become characters.
Guard = Callable[[str, int], str]


def cutter(tokenizer: tokenizers.Tokenizer, guard: Guard = lambda text, _: text) -> Cutter:
    """Return what cuts the texts of one sweep, or the first of them, as ``tokenizer`` counts."""
    known: dict[tuple[Cut, int], LabelledText] = {}

    def cut_all(texts: Sequence[LabelledText], cut: Cut) -> Sequence[LabelledText]:
        if cut == Cut():
            return texts
        for index, text in enumerate(texts):
            if (cut, index) not in known:
                known[cut, index] = _cut(text, index + 1, tokenizer, cut, guard)
        return [known[cut, index] for index in range(len(texts))]

    return cut_all


def _cut(
    text: LabelledText, number: int, tokenizer: tokenizers.Tokenizer, cut: Cut, guard: Guard
) -> LabelledText:
    sent = text.text if cut.markup == "keep" else guard(without_markup(text.text), number)
    if cut.max_tokens:
        sent = shortened(sent, tokenizer, cut.max_tokens, cut.keep)
    if not sent or sent.isspace():
        message = f"text {number}: nothing is left of {text.text[:40]!r} as it would be sent"
        raise TextsError(f"{message}; check texts.markup and texts.max_tokens")
    return replace(text, text=sent)


def without_markup(text: str) -> str:
    """Return ``text`` without HTML: tags become spaces, entities characters."""
    return " ".join(html.unescape(_TAG.sub(" ", text)).split())


def broken_up(text: str, control_tokens: Sequence[str]) -> str:
    """Return ``text`` with a space in each control token of the model, which would obey it."""
    pattern = "|".join(map(re.escape, control_tokens))
    if not pattern:
        return text
    return re.sub(pattern, lambda found: f"{found[0][0]} {found[0][1:]}", text)


def shortened(text: str, tokenizer: tokenizers.Tokenizer, max_tokens: int, keep: Keep) -> str:
    """Return at most ``max_tokens`` tokens of ``text``.

    Where it is cut, tokens may merge or fall apart, so one less is kept until the rest is short
    enough.
    """
    encoding = tokenizer.encode(text, add_special_tokens=False)
    num_tokens = len(encoding.ids)
    if num_tokens <= max_tokens:
        return text
    offsets = encoding.offsets
    for kept in range(max_tokens, 0, -1):
        tail = kept // 2 if keep == "head_tail" else 0
        found = text[: offsets[kept - tail - 1][1]]
        if tail:
            found = f"{found} {text[offsets[num_tokens - tail][0] :].lstrip()}"
        if len(tokenizer.encode(found, add_special_tokens=False).ids) <= max_tokens:
            return found
    return text[: offsets[0][1]]

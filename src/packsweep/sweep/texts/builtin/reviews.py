"""Generated reviews, so that a sweep needs neither a download nor a file.

Review i is made from i alone and is the same on every system and in every call: the first four of
40 are the first four of 400. Its label holds by construction, since at least twice as many of its
sentences judge for the label as against it. No two reviews are alike: each is about another title,
named in its first words, so that a prefix cache finds nothing to share between them either.

What a throughput measurement sees of a text is its length, so the lengths in words are distributed
as those of the IMDB set. They follow a low-discrepancy sequence and not chance: the first 40
already have very nearly the distribution of the whole.
"""

from __future__ import annotations

import bisect
import random
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources

from packsweep.sweep.texts.text import LABELS, LabelledText, chosen_of, shuffled

# As many as there are titles, and as many as the IMDB set has reviews.
NUM_REVIEWS = 50_000

# (share of reviews, words in the longest of them).
# Source: counted over the 50,000 labelled reviews of the IMDB set, words split at white space. The
# ends are rounded: the shortest there has 4 words, the longest 2,470.
LENGTH_QUANTILES = (
    (0.0, 10),
    (0.001, 24),
    (0.01, 42),
    (0.05, 63),
    (0.1, 90),
    (0.15, 109),
    (0.2, 119),
    (0.25, 126),
    (0.3, 133),
    (0.4, 151),
    (0.5, 173),
    (0.6, 204),
    (0.7, 248),
    (0.75, 280),
    (0.8, 320),
    (0.85, 372),
    (0.9, 451),
    (0.925, 510),
    (0.95, 590),
    (0.97, 697),
    (0.98, 779),
    (0.99, 908),
    (0.995, 979),
    (0.999, 1010),
    (1.0, 2470),
)

# 2**64 divided by the golden ratio: its multiples, modulo 2**64, fill the range most evenly.
# Source: D. E. Knuth, The Art of Computer Programming, volume 3, section 6.4 (Fibonacci hashing).
_GOLDEN = 0x9E3779B97F4A7C15
# Without a common factor with NUM_REVIEWS, so that its multiples visit every title once.
_TITLE_STEP = 27_059
# Labels are balanced within each block of this many reviews, in an order of the block's own.
_BLOCK = 20
# Below this many words there is no room for a closing sentence.
_CLOSING_FROM = 40
# Of the sentences between opening and closing; the rest tells the story and judges nothing.
_SHARE_FOR = 0.6
_SHARE_AGAINST = 0.12
_SLOT = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """The words and sentences that reviews are made of; ``reviews.toml`` says which is which."""

    title_forms: Sequence[str]
    title_first: Sequence[str]
    title_second: Sequence[str]
    neutral: Sequence[str]
    words: Mapping[str, Sequence[str]]
    openings: Mapping[str, Sequence[str]]
    judgements: Mapping[str, Sequence[str]]
    concessions: Mapping[str, Sequence[str]]
    closings: Mapping[str, Sequence[str]]


_FILE = resources.files(__package__) / "reviews.toml"
VOCABULARY = Vocabulary(**tomllib.loads(_FILE.read_text(encoding="utf-8")))


def load(*, limit: int, seed: int | None) -> tuple[LabelledText, ...]:
    """Return ``limit`` generated reviews: the first, or those that ``seed`` chooses.

    Raises:
        TextsError: ``limit`` is above ``NUM_REVIEWS``.
    """
    chosen = chosen_of(NUM_REVIEWS, limit=limit, seed=seed, kind="reviews")
    return tuple(review(index) for index in chosen)


def review(index: int) -> LabelledText:
    label = _label(index)
    writer = _Writer(index)
    opening = writer.sentence(VOCABULARY.openings[label])
    left = _length(index) - _count(opening)
    closing = [writer.sentence(VOCABULARY.closings[label])] if left >= _CLOSING_FROM else []
    body = writer.body(label, left - sum(map(_count, closing)))
    return LabelledText(text=" ".join([opening, *body, *closing]), label=label)


def _label(index: int) -> str:
    block, place = divmod(index, _BLOCK)
    return LABELS[shuffled(_BLOCK, NUM_REVIEWS + block)[place] % len(LABELS)]


def _length(index: int) -> int:
    """Return how many words the review should have, to within half a sentence."""
    share = ((index + 1) * _GOLDEN % 2**64) / 2**64
    upper = bisect.bisect_right(LENGTH_QUANTILES, (share, float("inf")))
    (share_0, words_0), (share_1, words_1) = LENGTH_QUANTILES[upper - 1 : upper + 1]
    return round(words_0 + (words_1 - words_0) * (share - share_0) / (share_1 - share_0))


def _title(index: int) -> str:
    number = index * _TITLE_STEP % NUM_REVIEWS
    number, first = divmod(number, len(VOCABULARY.title_first))
    form, second = divmod(number, len(VOCABULARY.title_second))
    return VOCABULARY.title_forms[form].format(
        first=VOCABULARY.title_first[first], second=VOCABULARY.title_second[second]
    )


def _count(sentence: str) -> int:
    return len(sentence.split())


class _Writer:
    """Writes the sentences of one review: its own chances, and what it keeps throughout."""

    def __init__(self, index: int) -> None:
        self._random = random.Random(index)
        self._spent: set[str] = set()
        people = VOCABULARY.words["person"]
        lead, support, director = shuffled(len(people), index)[:3]
        self._kept = {
            "title": _title(index),
            "lead": people[lead],
            "support": people[support],
            "director": people[director],
            "genre": self._pick(VOCABULARY.words["genre"]),
            "place": self._pick(VOCABULARY.words["place"]),
        }

    def sentence(self, templates: Sequence[str]) -> str:
        """Return one of ``templates``, none twice before all were used, with its slots filled."""
        if self._spent.issuperset(templates):
            self._spent.difference_update(templates)
        template = self._pick([each for each in templates if each not in self._spent])
        self._spent.add(template)
        used: set[str] = set()
        text = _SLOT.sub(lambda slot: self._word(slot.group(1), used), template)
        return text[0].upper() + text[1:]

    def body(self, label: str, num_words: int) -> list[str]:
        """Return sentences that come as near to ``num_words`` together as whole ones can."""
        sentences: list[str] = []
        # The opening judges for the label.
        judging_for, judging_against = 1, 0
        while True:
            chance = self._random.random()
            templates = VOCABULARY.neutral
            if chance < _SHARE_FOR:
                templates = VOCABULARY.judgements[label]
            elif chance < _SHARE_FOR + _SHARE_AGAINST and judging_for >= 2 * judging_against + 2:
                templates = VOCABULARY.concessions[label]
            sentence = self.sentence(templates)
            if num_words < _count(sentence) / 2:
                return sentences
            judging_for += templates is VOCABULARY.judgements[label]
            judging_against += templates is VOCABULARY.concessions[label]
            num_words -= _count(sentence)
            sentences.append(sentence)

    def _word(self, slot: str, used: set[str]) -> str:
        if slot in self._kept:
            return self._kept[slot]
        # A slot with a number takes another word of its list than the slot without one.
        words = [word for word in VOCABULARY.words[slot.rstrip("2")] if word not in used]
        word = self._pick(words)
        used.add(word)
        return word

    def _pick(self, choices: Sequence[str]) -> str:
        # random() alone: its sequence is the one that Python promises to keep.
        return choices[int(self._random.random() * len(choices))]

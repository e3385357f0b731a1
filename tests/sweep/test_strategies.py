"""Strategies: what each makes of n texts, and that one row is all that a new one needs."""

from __future__ import annotations

from typing import get_args

import pytest

from packsweep.sweep.strategies import STRATEGIES, Strategy


def test_every_word_has_a_row() -> None:
    assert tuple(STRATEGIES) == get_args(Strategy)


@pytest.mark.parametrize(
    ("strategy", "n", "pack_size", "size"),
    [
        ("packed", 9, None, 9),
        ("separate", 9, None, 1),
        ("chunked", 9, 4, 4),
        ("chunked", 3, 4, 3),
    ],
)
def test_texts_per_prompt(strategy: Strategy, n: int, pack_size: int | None, size: int) -> None:
    """A chunk is never larger than n."""
    assert STRATEGIES[strategy].texts_per_prompt(n, pack_size) == size


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_rows_do_as_they_say(strategy: Strategy) -> None:
    """One text is one whatever n is, and a size that is no axis changes nothing."""
    division = STRATEGIES[strategy]
    sizes = {(n, k): division.texts_per_prompt(n, k) for n in (8, 9) for k in (2, 4)}
    assert (set(sizes.values()) == {1}) == division.one_text
    assert (sizes[8, 2] != sizes[8, 4]) == division.takes_pack_size


def test_packed_follows_n() -> None:
    """A larger n is another question in the strategy packed, and more of the same in others."""
    three: tuple[Strategy, ...] = ("packed", "separate", "chunked")
    assert [STRATEGIES[name].follows_n for name in three] == [True, False, False]

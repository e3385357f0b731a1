"""Strategies: what each makes of n texts, and that one row is all that a new one needs."""

from __future__ import annotations

from typing import get_args

import pytest

from packsweep.sweep.strategies import ONE_TEXT, SEVERAL, SIZED, STRATEGIES, Strategy


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


def test_kinds() -> None:
    assert (ONE_TEXT, SEVERAL, SIZED) == (("separate",), ("packed", "chunked"), ("chunked",))
    assert [name for name, row in STRATEGIES.items() if row.follows_n] == ["packed"]

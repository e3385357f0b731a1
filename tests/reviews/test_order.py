from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from packsweep.sweep.reviews.review import shuffled


@given(st.integers(min_value=0, max_value=200), st.integers())
def test_shuffled_is_a_permutation(num_items: int, seed: int) -> None:
    """Each number comes once."""
    assert sorted(shuffled(num_items, seed)) == list(range(num_items))


def test_shuffled_with_a_seed_is_the_pinned_order() -> None:
    """The order of a seed is part of every result, so it may never change."""
    assert shuffled(8, 0) == [3, 7, 5, 2, 4, 1, 6, 0]

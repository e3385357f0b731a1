from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from packsweep.sweep.texts import LABELS, LabelledText, content_sha256
from packsweep.sweep.texts.text import shuffled

REVIEWS = st.lists(st.builds(LabelledText, text=st.text(max_size=8), label=st.sampled_from(LABELS)))


@given(REVIEWS, REVIEWS)
def test_content_sha256_of_two_sequences_agrees_only_if_they_are_equal(
    left: list[LabelledText], right: list[LabelledText]
) -> None:
    """The hash tells different sequences apart."""
    assert (content_sha256(left) == content_sha256(right)) == (left == right)


def test_content_sha256_when_text_moves_between_reviews_differs() -> None:
    """The same characters divided otherwise are other texts."""
    left = [LabelledText(text="ab", label="positive"), LabelledText(text="c", label="positive")]
    right = [LabelledText(text="a", label="positive"), LabelledText(text="bc", label="positive")]
    assert content_sha256(left) != content_sha256(right)


def test_content_sha256_when_a_text_imitates_the_framing_differs() -> None:
    """A text that holds a length and a colon cannot pass for two texts."""
    two = [LabelledText(text="a", label="positive"), LabelledText(text="b", label="positive")]
    one = [LabelledText(text="a8:positive1:b", label="positive")]
    assert content_sha256(two) != content_sha256(one)


def test_content_sha256_when_a_label_changes_differs() -> None:
    """Labels are content too."""
    left, right = (LabelledText(text="a", label=label) for label in LABELS)
    assert content_sha256([left]) != content_sha256([right])


def test_content_sha256_when_the_order_changes_differs() -> None:
    """The order is content too."""
    texts = [LabelledText(text=text, label="positive") for text in "ab"]
    assert content_sha256(texts) != content_sha256(texts[::-1])


@given(st.integers(min_value=0, max_value=200), st.integers())
def test_shuffled_is_a_permutation(num_items: int, seed: int) -> None:
    """Each number comes once."""
    assert sorted(shuffled(num_items, seed)) == list(range(num_items))


def test_shuffled_with_a_seed_is_the_pinned_order() -> None:
    """The order of a seed is part of every result, so it may never change."""
    assert shuffled(8, 0) == [3, 7, 5, 2, 4, 1, 6, 0]

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from packsweep.sweep.reviews import LABELS, Review, content_sha256

REVIEWS = st.lists(st.builds(Review, text=st.text(max_size=8), label=st.sampled_from(LABELS)))


@given(REVIEWS, REVIEWS)
def test_content_sha256_of_two_sequences_agrees_only_if_they_are_equal(
    left: list[Review], right: list[Review]
) -> None:
    """The hash tells different sequences apart."""
    assert (content_sha256(left) == content_sha256(right)) == (left == right)


def test_content_sha256_when_text_moves_between_reviews_differs() -> None:
    """The same characters divided otherwise are other reviews."""
    left = [Review(text="ab", label="positive"), Review(text="c", label="positive")]
    right = [Review(text="a", label="positive"), Review(text="bc", label="positive")]
    assert content_sha256(left) != content_sha256(right)


def test_content_sha256_when_a_text_imitates_the_framing_differs() -> None:
    """A text that holds a length and a colon cannot pass for two reviews."""
    two = [Review(text="a", label="positive"), Review(text="b", label="positive")]
    one = [Review(text="a8:positive1:b", label="positive")]
    assert content_sha256(two) != content_sha256(one)


def test_content_sha256_when_a_label_changes_differs() -> None:
    """Labels are content too."""
    left, right = (Review(text="a", label=label) for label in LABELS)
    assert content_sha256([left]) != content_sha256([right])


def test_content_sha256_when_the_order_changes_differs() -> None:
    """The order is content too."""
    reviews = [Review(text=text, label="positive") for text in "ab"]
    assert content_sha256(reviews) != content_sha256(reviews[::-1])

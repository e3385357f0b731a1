"""Labels in answers: which are found, and which are right."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packsweep.run import scoring

LABELS = st.sampled_from(["positive", "negative"])


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("positive", ["positive"]),
        ("Positive\nNEGATIVE", ["positive", "negative"]),
        ("postive", ["positive"]),
        ("1. negative, 2. positive.", ["negative", "positive"]),
        ("nonpositive positively", []),
        ("", []),
        ("The comments are good", []),
    ],
)
def test_find_labels(text: str, found: list[str]) -> None:
    """Whole label words count, in any case and in the prompt's own spelling."""
    assert scoring.find_labels(text, cut=False) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("pos", ["positive"]),
        ("Neg", ["negative"]),
        ("positive\nnegati", ["positive", "negative"]),
        ("post", ["positive"]),
        ("po", []),
        ("the", []),
        ("positive", ["positive"]),
        ("postive", ["positive"]),
        ("pos.", []),
        ("xpos", []),
    ],
)
def test_find_labels_cut(text: str, found: list[str]) -> None:
    """An answer cut inside a label word counts from three letters on."""
    assert scoring.find_labels(text, cut=True) == found


def test_find_labels_not_cut() -> None:
    """An answer that ended by itself has no cut word."""
    assert scoring.find_labels("pos", cut=False) == []


@pytest.mark.parametrize("text", ["po\u017fitive", "pos\u0131tive", "\u212aneg pos\u0130tive"])
@pytest.mark.parametrize("cut", [False, True])
def test_find_labels_like_letters(text: str, cut: bool) -> None:  # noqa: FBT001
    """Letters that only look like a label's are no label, and no error."""
    assert scoring.find_labels(text, cut=cut) == []


@given(st.text(), st.booleans())
def test_find_labels_any_text(text: str, cut: bool) -> None:  # noqa: FBT001
    """Whatever a model says is read without an error, into labels."""
    assert set(scoring.find_labels(text, cut=cut)) <= {"positive", "negative"}


@given(st.lists(LABELS), st.sampled_from(["\n", ", ", " ", "\n\n2. "]), st.booleans())
def test_find_labels_joined(labels: list[str], between: str, cut: bool) -> None:  # noqa: FBT001
    """Labels with something between them are all found, in order."""
    assert scoring.find_labels(between.join(labels), cut=cut) == labels


def test_score_by_position() -> None:
    """The i-th label found answers the i-th text."""
    found = scoring.score("positive negative", ["positive", "positive", "negative"], cut=False)
    assert found.labels == ("positive", "negative", None)
    assert (found.num_found, found.num_right, found.num_surplus) == (2, 1, 0)


def test_score_surplus() -> None:
    """Labels beyond one per text are counted and not scored."""
    found = scoring.score("negative positive positive", ["negative"], cut=False)
    assert found.labels == ("negative",)
    assert (found.num_found, found.num_right, found.num_surplus) == (1, 1, 2)


def test_score_nothing() -> None:
    """An answer without labels finds none and has none right."""
    found = scoring.score("", ["negative"], cut=True)
    assert (found.labels, found.num_found, found.num_right) == ((None,), 0, 0)


@given(st.text(), st.lists(LABELS, max_size=6), st.booleans())
def test_score_laws(text: str, expected: list[str], cut: bool) -> None:  # noqa: FBT001
    """Right labels are found ones, found ones are expected ones, and each text has its place."""
    found = scoring.score(text, expected, cut=cut)
    assert 0 <= found.num_right <= found.num_found <= len(expected) == len(found.labels)
    assert found.num_found == sum(label is not None for label in found.labels)
    assert found.num_surplus >= 0

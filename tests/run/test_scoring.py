"""Labels in answers: which are found, and which are right."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packsweep.run import scoring

LABELS = st.sampled_from(["positive", "negative"])
SPELLED = {"positive": "positive", "postive": "positive", "negative": "negative"}
# What models write: labels, whole, misspelt, in other letters and cut, among other words.
PIECES = st.one_of(
    st.sampled_from(sorted(SPELLED)).flatmap(
        lambda word: st.sampled_from([word, word.upper(), word[:-1], word[:3], word[:2]])
    ),
    st.sampled_from([" ", "\n", ", ", "1. ", "x"]),
    st.sampled_from(["\u017f", "\u0131", "\u212a", "\u0130"]) | st.text(max_size=3),  # like s, i, k
)
ANSWERS = st.lists(PIECES, max_size=8).map("".join)


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


def _ascii_words(text: str) -> list[str]:
    """Return the longest runs of English letters, by going from letter to letter."""
    runs = itertools.groupby(text, key=lambda letter: letter.isascii() and letter.isalpha())
    return ["".join(letters) for is_word, letters in runs if is_word]


@given(ANSWERS, st.booleans())
def test_find_labels_any_text(text: str, cut: bool) -> None:  # noqa: FBT001
    """Of all words those are labels that are spelled like one, in order; and a cut last one."""
    expected = [SPELLED[word.lower()] for word in _ascii_words(text) if word.lower() in SPELLED]
    last = _ascii_words(text)[-1].lower() if text[-1:].isascii() and text[-1:].isalpha() else ""
    if cut and 3 <= len(last) <= 7 and last not in SPELLED:
        expected += sorted({label for word, label in SPELLED.items() if word.startswith(last)})
    assert scoring.find_labels(text, cut=cut) == expected


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


@given(ANSWERS, st.lists(LABELS, max_size=6), st.booleans())
def test_score_laws(text: str, expected: list[str], cut: bool) -> None:  # noqa: FBT001
    """Right labels are found ones, found ones are expected ones, and each text has its place."""
    found = scoring.score(text, expected, cut=cut)
    assert 0 <= found.num_right <= found.num_found <= len(expected) == len(found.labels)
    assert found.num_found == sum(label is not None for label in found.labels)
    assert found.num_surplus >= 0

from __future__ import annotations

import itertools
import re
import statistics
from pathlib import Path

import pytest
from tests.counting import count

from packsweep.errors import TextsError
from packsweep.sweep.texts import LabelledText, content_sha256, load, vocabulary

# Of the IMDB set, in words; see builtin.LENGTH_QUANTILES.
MEAN_WORDS, MEDIAN_WORDS, P95_WORDS = 231, 173, 590


@pytest.fixture(scope="module")
def many() -> tuple[LabelledText, ...]:
    return load("builtin", limit=10_000)


@pytest.fixture(scope="module")
def lengths(many: tuple[LabelledText, ...]) -> list[int]:
    return sorted(len(review.text.split()) for review in many)


def test_builtin_mean_length_is_that_of_imdb(lengths: list[int]) -> None:
    """The mean number of words is within 3 %."""
    assert statistics.fmean(lengths) == pytest.approx(MEAN_WORDS, rel=0.03)


def test_builtin_median_length_is_that_of_imdb(lengths: list[int]) -> None:
    """The median number of words is within 3 %."""
    assert statistics.median(lengths) == pytest.approx(MEDIAN_WORDS, rel=0.03)


def test_builtin_long_tail_is_that_of_imdb(lengths: list[int]) -> None:
    """The 95th percentile of the number of words is within 3 %."""
    assert lengths[len(lengths) * 95 // 100] == pytest.approx(P95_WORDS, rel=0.03)


def test_builtin_lengths_stay_within_the_ends(lengths: list[int]) -> None:
    """No review is nearly empty, and none is longer than the longest of IMDB."""
    assert lengths[0] >= 8
    assert lengths[-1] <= 2_500


def test_builtin_first_40_have_nearly_the_mean_of_all() -> None:
    """A small n sees the same distribution of lengths, not a lucky draw from it."""
    words = [len(review.text.split()) for review in load("builtin", limit=40)]
    assert statistics.fmean(words) == pytest.approx(MEAN_WORDS, rel=0.06)


def test_builtin_first_words_are_unique(many: tuple[LabelledText, ...]) -> None:
    """No two reviews share their first ten words, less than a block of a prefix cache."""
    assert len({tuple(review.text.split()[:10]) for review in many}) == len(many)


def test_builtin_text_is_one_line_of_ascii(many: tuple[LabelledText, ...]) -> None:
    """A review is a line, as the packed prompts need it."""
    assert all(review.text.isascii() and review.text.isprintable() for review in many)


def test_builtin_labels_are_balanced_within_every_20(many: tuple[LabelledText, ...]) -> None:
    """Half of each block of 20 reviews is positive."""
    labels = [review.label for review in many]
    blocks = [labels[start : start + 20] for start in range(0, len(labels), 20)]
    assert {block.count("positive") for block in blocks} == {10}


def test_builtin_labels_are_not_an_alternation() -> None:
    """The label of a review does not follow from the one before it."""
    labels = [review.label for review in load("builtin", limit=400)]
    same = sum(left == right for left, right in itertools.pairwise(labels))
    assert 120 < same < 280


def test_builtin_judges_for_its_label_at_least_twice_as_often_as_against() -> None:
    """The label holds by construction."""
    for review in load("builtin", limit=200):
        judging_for = 1 + _count(vocabulary.JUDGEMENTS[review.label], review.text)
        judging_against = _count(vocabulary.CONCESSIONS[review.label], review.text)
        assert judging_for >= 2 * judging_against


def test_builtin_says_nothing_of_the_other_label() -> None:
    """No sentence is a judgement for the opposite."""
    other = {"positive": "negative", "negative": "positive"}
    for review in load("builtin", limit=200):
        assert _count(vocabulary.JUDGEMENTS[other[review.label]], review.text) == 0


def _count(templates: tuple[str, ...], text: str) -> int:
    return sum(len(re.findall(_pattern(template), text)) for template in templates)


def _pattern(template: str) -> str:
    """Return what matches ``template`` with the words that its slots allow."""
    pieces = re.split(r"\{(\w+)\}", template)
    slots = [re.escape(piece) if at % 2 == 0 else _words(piece) for at, piece in enumerate(pieces)]
    return "".join(slots)


def _words(slot: str) -> str:
    names = {"lead": "person", "support": "person", "director": "person"}
    words = vocabulary.WORDS[names.get(slot, slot.rstrip("2"))]
    either_case = {*words, *(word[0].upper() + word[1:] for word in words)}
    return f"(?:{'|'.join(map(re.escape, sorted(either_case)))})"


def test_builtin_review_does_not_depend_on_the_limit() -> None:
    """The first four of 40 are the first four."""
    assert load("builtin", limit=40)[:4] == load("builtin", limit=4)


def test_builtin_with_a_seed_does_not_depend_on_the_limit() -> None:
    """A seed gives an order, and the limit cuts it."""
    assert load("builtin", limit=40, seed=3)[:4] == load("builtin", limit=4, seed=3)


def test_builtin_with_another_seed_chooses_others() -> None:
    """The seed matters."""
    assert set(load("builtin", limit=40, seed=0)).isdisjoint(load("builtin", limit=40, seed=1))


def test_builtin_content_is_the_pinned_one() -> None:
    """A change of the generated texts is noticed: results before and after do not compare."""
    found = content_sha256(load("builtin", limit=100))
    assert found == "a3387dc04175ff39f712fbce1c1939804ae6a333e54259e5ce161b4a553b1866"


def test_builtin_titles_can_name_every_review() -> None:
    """There is a title for each of the 50,000, and no word twice in a list."""
    first, second = vocabulary.TITLE_FIRST, vocabulary.TITLE_SECOND
    assert len(set(first)) * len(set(second)) * len(vocabulary.TITLE_FORMS) == 50_000


def test_builtin_above_its_size_is_refused() -> None:
    """More than there are costs one line with both numbers."""
    with pytest.raises(TextsError, match=r"builtin: holds 50,000 reviews, but 50,001"):
        load("builtin", limit=50_001)


def test_builtin_50_do_not_write_all(tmp_path: Path) -> None:
    """Tests and small sweeps do not wait for texts that they do not need."""
    few, more = (
        count(lambda: load("builtin", limit=limit), tmp_path)  # noqa: B023
        for limit in (50, 1000)
    )
    assert few.num_calls < more.num_calls / 10


def test_load_with_limit_below_one_is_a_mistake_of_the_caller() -> None:
    """No reviews at all cannot be asked for."""
    with pytest.raises(ValueError, match="at least 1"):
        load("builtin", limit=0)

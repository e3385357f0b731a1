"""The words of a prompt, and how texts are spread over prompts."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes import REVIEWS

from packsweep.sweep import prompts, spec
from packsweep.sweep.prompts import Asking, Prompt
from packsweep.sweep.strategies import STRATEGIES, Strategy
from packsweep.sweep.texts import LabelledText

# The experiment's own sentences, with its own spelling of "positive".
MANY = (
    "For each line of the above comments, determine whether it is a positive or negative comment. "
    "Answer only postive or negative:\n"
)
ONE = (
    "For the above comment, determine whether it is a positive or negative comment. "
    "Answer only postive or negative:\n"
)


def _build(num_texts: int, strategy: Strategy, **wording: Any) -> tuple[Prompt, ...]:
    return prompts.build(REVIEWS[:num_texts], Asking(strategy=strategy, **wording))


def _texts(built: tuple[Prompt, ...]) -> list[str]:
    return [prompt.text for prompt in built]


def test_build_packed_original() -> None:
    """The author's test 1: the texts a line each, then the sentence for each line."""
    assert _texts(_build(2, "packed")) == [f"text0\ntext1\n{MANY}"]


def test_build_separate_original() -> None:
    """The author's test 2: a prompt of each text and the sentence for one."""
    assert _texts(_build(2, "separate")) == [f"text0\n{ONE}", f"text1\n{ONE}"]


def test_build_packed_one_review() -> None:
    """A packed prompt of one text still asks for each line, as the grid compares wordings."""
    assert _texts(_build(1, "packed")) == [f"text0\n{MANY}"]


def test_build_chunked_remainder() -> None:
    """Five texts in packs of two are two, two and one."""
    built = _build(5, "chunked", pack_size=2)
    assert [(each.first, each.num_texts) for each in built] == [(0, 2), (2, 2), (4, 1)]
    assert built[2].text == f"text4\n{MANY}"


def test_build_chunked_larger_than_n() -> None:
    """A pack larger than n is one prompt of n texts."""
    assert _texts(_build(3, "chunked", pack_size=8)) == _texts(_build(3, "packed"))


def test_build_before() -> None:
    """Placed before, the sentence comes first and points forward."""
    sentence = MANY.replace("above", "following")
    assert _texts(_build(2, "packed", instruction="before")) == [f"{sentence}text0\ntext1\n"]


def test_build_before_separate() -> None:
    """Separate prompts with the sentence before them share it as a prefix."""
    sentence = ONE.replace("above", "following")
    assert _texts(_build(2, "separate", instruction="before")) == [
        f"{sentence}text0\n",
        f"{sentence}text1\n",
    ]


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("place", get_args(spec.Instruction))
def test_build_corrected(strategy: Strategy, place: spec.Instruction) -> None:
    """The corrected template spells "positive" and nothing else."""
    for text in _texts(_build(2, strategy, template="corrected", instruction=place, pack_size=2)):
        assert "postive" not in text
        assert "Answer only positive or negative:\n" in text


def test_templates_complete() -> None:
    """Every template that a sweep file may name has its words."""
    assert set(prompts.TEMPLATES) == set(get_args(spec.Template))


@pytest.mark.parametrize("line_break", ["\n", "\r", "\r\n"])
def test_build_line_break(line_break: str) -> None:
    """A line break inside a text becomes one space, since the wording counts lines."""
    built = prompts.build(
        [LabelledText(text=f"a{line_break}b", label="positive")], Asking(strategy="separate")
    )
    assert built[0].text == f"a b\n{ONE}"


LINES = st.lists(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8).map(
        lambda text: f"<{text}>"
    ),
    min_size=1,
    max_size=9,
)


@given(
    texts=LINES,
    strategy=st.sampled_from(tuple(STRATEGIES)),
    pack_size=st.integers(1, 12),
    place=st.sampled_from(get_args(spec.Instruction)),
    template=st.sampled_from(get_args(spec.Template)),
)
def test_build_every_review_once(
    texts: list[str],
    strategy: Strategy,
    pack_size: int,
    place: spec.Instruction,
    template: spec.Template,
) -> None:
    """Every text is in exactly one prompt, on a line of its own, in the order of the texts."""
    built = prompts.build(
        [LabelledText(text=text, label="positive") for text in texts],
        Asking(strategy=strategy, pack_size=pack_size, instruction=place, template=template),
    )
    folded = [text.replace("\r\n", " ").replace("\n", " ").replace("\r", " ") for text in texts]
    lines = []
    for prompt in built:
        inside = prompt.text.split("\n")[:-1]  # each line ends in a line break
        assert len(inside) == prompt.num_texts + 1
        lines += inside[:-1] if place == "after" else inside[1:]
        assert prompt.first == len(lines) - prompt.num_texts
    assert lines == folded
    size = STRATEGIES[strategy].texts_per_prompt(len(texts), pack_size)
    assert [prompt.num_texts for prompt in built[:-1]] == [size] * (len(built) - 1)
    assert 1 <= built[-1].num_texts <= size


def test_submission_order_grouped() -> None:
    """Grouped copies follow each other."""
    assert prompts.submission_order(2, 3, "grouped") == (0, 0, 0, 1, 1, 1)


def test_submission_order_interleaved() -> None:
    """Interleaved copies come a whole round later."""
    assert prompts.submission_order(2, 3, "interleaved") == (0, 1, 0, 1, 0, 1)


@given(
    num_prompts=st.integers(1, 20),
    duplication=st.integers(1, 20),
    order=st.sampled_from(get_args(spec.DuplicationOrder)),
)
def test_submission_order_counts(
    num_prompts: int, duplication: int, order: spec.DuplicationOrder
) -> None:
    """Either way every prompt is submitted as often as any other."""
    found = prompts.submission_order(num_prompts, duplication, order)
    assert sorted(found) == [index for index in range(num_prompts) for _ in range(duplication)]


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("place", get_args(spec.Instruction))
def test_warmup_text_shape(strategy: Strategy, place: spec.Instruction) -> None:
    """A warm-up has the words of its prompt and starts otherwise than every prompt of the cell."""
    built = _build(5, strategy, pack_size=2, instruction=place)
    firsts = {prompt.text.split()[0] for prompt in built}
    for prompt in built:
        warm = prompts.warmup_text(prompt)
        assert sorted(warm.split(" ")) == sorted(prompt.text.split(" "))
        assert len(warm) == len(prompt.text)
        assert warm.split()[0] not in firsts


def test_content_sha256_boundaries() -> None:
    """Where a prompt ends, and how many labels it asks for, is in the hash."""

    def hashed(*parts: tuple[str, int]) -> str:
        return prompts.content_sha256(
            [Prompt(text=text, first=0, num_texts=count) for text, count in parts]
        )

    variants = [
        (("ab", 1), ("c", 1)),
        (("a", 1), ("bc", 1)),
        (("abc", 1),),
        (("abc", 2),),
        (("abc1 0\n", 1),),
    ]
    assert len({hashed(*variant) for variant in variants}) == len(variants)

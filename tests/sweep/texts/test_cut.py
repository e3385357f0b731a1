"""How much of a text is sent."""

from __future__ import annotations

from pathlib import Path

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes import cells, sweep
from tokenizers import Tokenizer, models, pre_tokenizers

from packsweep.errors import SpecError, TextsError
from packsweep.models import tokenizer as tokenizer_module
from packsweep.sweep import expansion
from packsweep.sweep.spec import Keep
from packsweep.sweep.texts import LabelledText, cut
from packsweep.sweep.texts.cut import Cut

WORDS = {word: index for index, word in enumerate(["?", *"abcdefghij"])}


@pytest.fixture(scope="module")
def words() -> Tokenizer:
    """A tokenizer of one token for each word."""
    found = Tokenizer(models.WordLevel(WORDS, unk_token="?"))  # noqa: S106
    found.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return found


@pytest.mark.parametrize(
    ("max_tokens", "keep", "sent"),
    [
        (3, "head", "a b c"),
        (4, "head_tail", "a b i j"),
        (5, "head_tail", "a b c i j"),
        (1, "head_tail", "a"),
        (10, "head", "a b c d e f g h i j"),
        (99, "head_tail", "a b c d e f g h i j"),
    ],
)
def test_shortened(words: Tokenizer, max_tokens: int, keep: Keep, sent: str) -> None:
    """The first tokens are sent, or the first and the last half."""
    assert cut.shortened("a b c d e f g h i j", words, max_tokens, keep) == sent


@given(
    text=st.text(min_size=1), most=st.integers(1, 40), keep=st.sampled_from(["head", "head_tail"])
)
def test_shortened_never_longer(byte_tokens: Tokenizer, text: str, most: int, keep: Keep) -> None:
    """What is sent has at most so many tokens, or is one character that takes more."""
    sent = cut.shortened(text, byte_tokens, most, keep)
    assert len(byte_tokens.encode(sent, add_special_tokens=False).ids) <= most or len(sent) == 1


@pytest.fixture(scope="module")
def byte_tokens() -> Tokenizer:
    """A tokenizer of one token for each byte."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    found = Tokenizer(models.BPE({letter: index for index, letter in enumerate(letters)}, []))
    found.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return found


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("good<br /><br />film", "good film"),
        ("<p class='x'>3 &lt; 4 &amp; 5</p>", "3 < 4 & 5"),
        ("a < b > c", "a < b > c"),
        ("a<!-- note\n -->b", "a b"),
    ],
)
def test_without_markup(text: str, sent: str) -> None:
    """Tags become spaces, entities their characters, and comparisons stay."""
    assert cut.without_markup(text) == sent


def test_cutter_nothing_left(words: Tokenizer) -> None:
    """A text of markup alone is named."""
    texts = [LabelledText(text="a", label=None), LabelledText(text="<br/>", label=None)]
    with pytest.raises(TextsError, match="text 2: nothing is left of '<br/>'"):
        cut.cutter(words)(texts, Cut(markup="strip"))


def test_axis(words: Tokenizer) -> None:
    """Each length is a cell with its own prompts and the same texts; 0 is the cell as it was."""
    texts = [LabelledText(text="a b c d", label="positive")] * 2
    asked = sweep(texts={"max_tokens": [0, 2], "keep": ["head", "head_tail"]})
    found = expansion.expand(
        asked, texts, model_fingerprint="w", max_model_len=100, cutter=cut.cutter(words)
    )
    assert [(each.text_max_tokens, each.text_keep) for each in found] == [
        (0, "head"),
        (2, "head"),
        (2, "head_tail"),
    ]
    assert len({each.texts_sha256 for each in found}) == 1
    assert len({each.prompts_sha256 for each in found}) == 3
    (whole,) = expansion.expand(sweep(), texts, model_fingerprint="w", max_model_len=100)
    assert found[0] == whole
    assert cells()[0].cut == Cut()


def test_axis_without_effect() -> None:
    """Which part is sent has no effect where all is."""
    with pytest.raises(SpecError, match=r"texts.keep: has no effect on whole texts"):
        sweep(texts={"keep": "head_tail"})


def test_control_tokens(byte_model: Path) -> None:
    """The special tokens that a text could hold are known from the tokenizer."""
    backend = tokenizers.Tokenizer.from_file(str(byte_model / "tokenizer.json"))
    backend.add_special_tokens(["<|end|>", "<|end|>x"])
    found = tokenizer_module.Tokenizer(backend=backend, eos_token_ids=(), chat_template=None)
    assert found.control_tokens == ["<|end|>x", "<|end|>"]

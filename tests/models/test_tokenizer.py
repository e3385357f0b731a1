"""Tokenizers, small ones made here and the embedded ones against transformers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tokenizers
from tests import fakes
from tokenizers import pre_tokenizers, processors
from tokenizers.models import WordLevel

from packsweep.errors import ModelError
from packsweep.models.resolve import resolve
from packsweep.models.tokenizer import Tokenizer
from packsweep.models.tokenizer import load as load_tokenizer
from packsweep.sweep import prompts
from packsweep.sweep.prompts import Asking
from packsweep.sweep.texts import LabelledText

CONFIG = {**fakes.CONFIG, "vocab_size": 8, "max_position_embeddings": 64, "eos_token_id": 6}
TEXTS = [
    "Hello positive negative",
    "It cost 1234 dollars,  9 of them mine.\n\nI'll say: don't!",
    "naïve 日本語 \U0001f600\t<br /><br />  end ",
    "<|im_end|> <|end_of_text|>",
    "",
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model of four words that puts <s> first, cuts at two tokens and pads, if it is let."""
    vocab = {"<s>": 0, "good": 1, "bad": 2, "</s>": 3, "?": 4}
    tokenizer = tokenizers.Tokenizer(WordLevel(vocab, unk_token="?"))  # noqa: S106  # no password
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 0)]
    )
    tokenizer.enable_truncation(2)
    tokenizer.enable_padding(length=5)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    return tmp_path


def _load(folder: Path, **settings: object) -> Tokenizer:
    """Load the tokenizer with ``settings`` as its tokenizer_config.json."""
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return load_tokenizer(resolve(str(folder), load_format="dummy"))


def test_encode_special_tokens(folder: Path) -> None:
    """Special tokens are added, and nothing is cut or padded."""
    assert _load(folder).encode(["good bad good", "bad"]) == [[0, 1, 2, 1], [0, 2]]


def test_encode_no_texts(folder: Path) -> None:
    """No texts make no prompts."""
    assert _load(folder).encode([]) == []


def test_count_as_encode(folder: Path) -> None:
    """A count is the length of the ids."""
    assert _load(folder).count(["good bad good", "bad"]) == [4, 2]


def test_eos_token_ids_config(folder: Path) -> None:
    """Without a generation config the config's end token counts, beside the tokenizer's."""
    assert _load(folder, eos_token={"content": "</s>"}).eos_token_ids == (3, 6)


def test_eos_token_ids_generation_config(folder: Path) -> None:
    """The generation config goes before the config and may name several."""
    (folder / "generation_config.json").write_text('{"eos_token_id": [5, 3]}')
    assert _load(folder, eos_token="</s>").eos_token_ids == (3, 5)  # noqa: S106  # no password


def test_chat_template_none(folder: Path) -> None:
    """A base model has no template."""
    assert _load(folder).chat_template is None


def test_chat_template_entry(folder: Path) -> None:
    """The template may be an entry of tokenizer_config.json."""
    assert _load(folder, chat_template="{{ x }}").chat_template == "{{ x }}"


def test_chat_template_named(folder: Path) -> None:
    """Of several named templates the default is taken."""
    several = [{"name": "tool", "template": "t"}, {"name": "default", "template": "d"}]
    assert _load(folder, chat_template=several).chat_template == "d"


def test_chat_template_file(folder: Path) -> None:
    """A file of its own goes before the entry."""
    (folder / "chat_template.jinja").write_text("file")
    assert _load(folder, chat_template="entry").chat_template == "file"


def test_load_damaged_tokenizer(folder: Path) -> None:
    """A damaged file is named in one line."""
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(ModelError, match=r"cannot read .*tokenizer\.json") as caught:
        _load(folder)
    assert "\n" not in str(caught.value)


def test_load_tokenizer_of_larger_model(folder: Path) -> None:
    """A tokenizer with more tokens than the model has rows is of another model."""
    (folder / "config.json").write_text(json.dumps(CONFIG | {"vocab_size": 4}))
    with pytest.raises(ModelError, match=r"has 5 tokens, .* only 4: check model\.tokenizer"):
        _load(folder)


@pytest.mark.slow
@pytest.mark.usefixtures("embedded_cache")
@pytest.mark.parametrize("name", ["embedded:llama-3.1-8b", "embedded:smollm2-135m"])
def test_encode_as_transformers(name: str) -> None:
    """The ids, the end token and the template are those of transformers' AutoTokenizer."""
    transformers = pytest.importorskip("transformers")
    model = resolve(name, load_format="dummy")
    tokenizer = load_tokenizer(model)
    reference = transformers.AutoTokenizer.from_pretrained(model.tokenizer_path)
    assert tokenizer.encode(TEXTS) == reference(TEXTS).input_ids
    assert tokenizer.eos_token_ids == (reference.eos_token_id,)
    assert tokenizer.chat_template == reference.chat_template


@pytest.mark.slow
@pytest.mark.usefixtures("embedded_cache")
def test_short_wording_fills_a_block() -> None:
    """Asked before a text it is 16 tokens of Llama 3, whatever text comes after it."""
    tokenizer = load_tokenizer(resolve("embedded:llama-3.1-8b", load_format="dummy"))
    asked = [
        prompts.build(
            [LabelledText(text=text, label="positive")],
            Asking(strategy="separate", instruction="before", template="short"),
        )[0].text
        for text in (*TEXTS[:-1], "I", '"Quoted', "9", "...")
    ]
    encoded = tokenizer.encode(asked)
    assert len({tuple(ids[:16]) for ids in encoded}) == 1
    assert len({ids[16] for ids in encoded}) > 1

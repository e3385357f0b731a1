"""Text to token ids, the same ids that the engine computes, without loading the engine.

The ``tokenizers`` library reads tokenizer.json alone. That is what vLLM's ``LLM.generate`` does
with text, through transformers' fast tokenizer: special tokens are added by the file's own
post-processor, and nothing is cut or padded.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from packsweep.errors import ModelError
from packsweep.models.chat import ChatTemplate
from packsweep.models.config import read_table
from packsweep.models.resolve import Model

if TYPE_CHECKING:
    import tokenizers


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokenizer:
    """A model's tokenizer.

    Attributes:
        chat_template: the Jinja text that makes a prompt of messages; None: the model has none.
        bos_token: the special token that begins a text, as text, or empty.
        eos_token: the tokenizer's own end token, as text, or empty.
    """

    backend: tokenizers.Tokenizer
    chat_template: str | None
    bos_token: str = ""
    eos_token: str = ""

    @property
    def chat(self) -> ChatTemplate | None:
        """The chat template with the special tokens that it may write; None: there is none."""
        if self.chat_template is None:
            return None
        return ChatTemplate(
            text=self.chat_template, bos_token=self.bos_token, eos_token=self.eos_token
        )

    def encode(self, texts: Sequence[str], *, add_special_tokens: bool = True) -> list[list[int]]:
        """Return the prompt token ids of each text, special tokens included unless told."""
        found = self.backend.encode_batch_fast(list(texts), add_special_tokens=add_special_tokens)
        return [encoding.ids for encoding in found]

    def count(self, texts: Sequence[str], *, add_special_tokens: bool = True) -> list[int]:
        """Return the number of prompt tokens of each text."""
        return [len(ids) for ids in self.encode(texts, add_special_tokens=add_special_tokens)]


def give_back_memory() -> None:
    """Return to the system what is free; glibc keeps it, after a tokenizer 150 MB and more."""
    with contextlib.suppress(OSError, AttributeError):  # of another C library
        ctypes.CDLL(None).malloc_trim(0)


def load(model: Model) -> Tokenizer:
    """Read the tokenizer of a model.

    Raises:
        ModelError: a file is damaged, or the tokenizer is of another model.
    """
    folder = Path(model.tokenizer_path)
    backend = _backend(folder / "tokenizer.json")
    vocab_size = backend.get_vocab_size(with_added_tokens=False)
    if vocab_size > model.vocab_size:
        raise ModelError(
            f"the tokenizer in {folder} has {vocab_size} tokens, {model.name} only "
            f"{model.vocab_size}: look at model.tokenizer"
        )
    told = folder / "tokenizer_config.json"
    settings = read_table(told) if told.is_file() else {}
    return Tokenizer(
        backend=backend,
        chat_template=_chat_template(folder, settings),
        bos_token=_token_text(settings.get("bos_token")),
        eos_token=_token_text(settings.get("eos_token")),
    )


def _backend(path: Path) -> tokenizers.Tokenizer:
    import tokenizers

    try:
        backend = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing more precise
        raise ModelError(f"cannot read {path}: {error}") from error
    backend.no_truncation()
    backend.no_padding()
    return backend


def _token_text(token: object) -> str:
    """Return a special token's text, which older files wrap in a table."""
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) else ""


def _chat_template(folder: Path, settings: Mapping[str, object]) -> str | None:
    """Return the template; a file of its own goes before an entry of tokenizer_config.json."""
    own = folder / "chat_template.jinja"
    if own.is_file():
        try:
            return own.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise ModelError(f"cannot read {own}: {error}") from error
    entry = settings.get("chat_template")
    if isinstance(entry, list):
        named = [item for item in entry if isinstance(item, dict) and item.get("name") == "default"]
        entry = named[-1].get("template") if named else None
    return entry if isinstance(entry, str) else None

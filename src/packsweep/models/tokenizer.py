"""Text to token ids, the same ids that the engine computes, without loading the engine.

The ``tokenizers`` library reads tokenizer.json alone. That is what vLLM's ``LLM.generate`` does
with text, through transformers' fast tokenizer: special tokens are added by the file's own
post-processor, and nothing is cut or padded.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packsweep.errors import ModelError
from packsweep.models.chat import ChatTemplate
from packsweep.models.resolve import Model

if TYPE_CHECKING:
    import tokenizers


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokenizer:
    """A model's tokenizer.

    Attributes:
        eos_token_ids: every id that ends an answer, ascending; empty if the model names none.
        chat_template: the Jinja text that makes a prompt of messages; None: the model has none.
        bos_token: the special token that begins a text, as text, or empty.
        eos_token: the tokenizer's own end token, as text, or empty.
    """

    backend: tokenizers.Tokenizer
    eos_token_ids: tuple[int, ...]
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

    @property
    def control_tokens(self) -> list[str]:
        """The special tokens that a text could hold, the longest first."""
        added = self.backend.get_added_tokens_decoder().values()
        found = {token.content for token in added if token.special and len(token.content) > 1}
        return sorted(found, key=lambda content: (-len(content), content))

    def encode(self, texts: Sequence[str], *, add_special_tokens: bool = True) -> list[list[int]]:
        """Return the prompt token ids of each text, special tokens included unless asked not to."""
        found = self.backend.encode_batch_fast(list(texts), add_special_tokens=add_special_tokens)
        return [encoding.ids for encoding in found]

    def count(self, texts: Sequence[str], *, add_special_tokens: bool = True) -> list[int]:
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
            f"{model.vocab_size}: check model.tokenizer"
        )
    settings = _read(folder / "tokenizer_config.json")
    return Tokenizer(
        backend=backend,
        eos_token_ids=_eos_token_ids(Path(model.config_path), settings, backend),
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


def _read(path: Path) -> dict[str, Any]:
    """Return the content of an optional JSON file, empty if there is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot read {path}: {error}") from error
    return content if isinstance(content, dict) else {}


def _eos_token_ids(
    config_folder: Path, settings: dict[str, Any], backend: tokenizers.Tokenizer
) -> tuple[int, ...]:
    """Return the tokenizer's end token and those of the generation config, or else the config.

    Source: vLLM stops at the tokenizer's ``eos_token_id`` and at those of the generation config,
    which it takes from config.json where there is no generation_config.json.
    """
    ids: set[int] = set()
    token_id = backend.token_to_id(_token_text(settings.get("eos_token")))
    if token_id is not None:
        ids.add(token_id)
    generation = config_folder / "generation_config.json"
    config = _read(generation if generation.is_file() else config_folder / "config.json")
    more = config.get("eos_token_id")
    ids.update(more if isinstance(more, list) else [] if more is None else [more])
    return tuple(sorted(ids))


def _token_text(token: object) -> str:
    """Return a special token's text, which older files wrap in a table."""
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) else ""


def _chat_template(folder: Path, settings: dict[str, Any]) -> str | None:
    """Return the template; a file of its own goes before an entry of tokenizer_config.json."""
    own = folder / "chat_template.jinja"
    if own.is_file():
        return own.read_text(encoding="utf-8")
    entry = settings.get("chat_template")
    if isinstance(entry, list):
        named = {item.get("name"): item.get("template") for item in entry if isinstance(item, dict)}
        entry = named.get("default")
    return entry if isinstance(entry, str) else None

"""The form of the Hugging Face hub: a model's folder, apart from its weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_SPECIAL_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")


def write(
    folder: Path,
    *,
    config: dict[str, Any],
    tokenizer: Tokenizer,
    tokenizer_config: dict[str, Any],
) -> None:
    """Write everything but the weights; generation takes its special tokens from ``config``."""
    _write_json(folder / "config.json", config)
    ends = {key: config[key] for key in _SPECIAL_IDS if key in config}
    _write_json(folder / "generation_config.json", ends)
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    _write_json(folder / "tokenizer_config.json", tokenizer_config)


def add_special_tokens(tokenizer: Tokenizer, tokens: list[str]) -> None:
    """Add tokens that are found in a text before anything else and never split."""
    from tokenizers import AddedToken

    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in tokens]
    )


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

"""The form of the Hugging Face hub: a model's folder, and its weights as safetensors."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from tokenizers import Tokenizer

_ELEMENT_BYTES = {"I8": 1, "BF16": 2}

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """One tensor of a safetensors file; ``dtype`` is the format's word, I8 or BF16."""

    name: str
    dtype: str
    shape: tuple[int, ...]


def write_safetensors(
    path: Path, tensors: Sequence[Tensor], values: Iterable[np.ndarray[Any, Any]]
) -> None:
    """Write ``tensors``, whose ``values`` come one at a time in the same order.

    Source: the safetensors format: length of the header, the header in JSON, the data in order.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for tensor in tensors:
        begin, end = end, end + _ELEMENT_BYTES[tensor.dtype] * math.prod(tensor.shape)
        entry = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [begin, end]}
        header[tensor.name] = entry
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for data in values:
            file.write(data.data)
        assert file.tell() == 8 + len(text) + end, "values are not of the shapes announced"


def bf16(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Round finite 32-bit floats to bf16, half to even, as 16-bit words."""
    import numpy as np

    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return (rounded >> np.uint32(16)).astype("<u2")


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

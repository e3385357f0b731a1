"""From the name of a model to what the engine, the planner and the tokenizer need of it.

A name is a hub id, a local folder or ``embedded:NAME``. The hub's local cache is asked first, so
that a model that is there needs no network. Weights are not touched: the engine loads them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from packsweep.errors import DesignError, ModelError
from packsweep.models import embedded, kv_cache, parameters
from packsweep.models.config import integer, language_part, stored_dtype, stored_quantization
from packsweep.models.hub import CONFIG, TOKENIZER, Place, remedy, snapshot
from packsweep.models.shape import ModelShape

_LENGTHS = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")
# A word of ours in config.json, true where a checkpoint is noise; vLLM passes it over.
RANDOM_WEIGHTS = "random_weights"


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model that is there, as far as can be told without its weights.

    Attributes:
        name: as the sweep file writes it.
        path: what the engine is given: a folder, or the hub id.
        revision: the commit of a hub model, the package's version of an embedded one, else None.
        fingerprint: changes when the weights or the tokenizer do.
        random_weights: what it answers means nothing.
        shape: None where no formula of ours describes the design.
        design: what it is instead, in words; None where there is a shape.
        kv_elements_per_token: keys and values of all layers; None where no formula is known or
            sliding windows give tokens up again.
        max_model_len: the longest context that the config allows, in tokens.
        torch_dtype: dtype the weights are stored in, by the config's own word.
        quantization: as the checkpoint is stored, ``config.stored_quantization``.
        config_path: folder that holds config.json and, where there is one, generation_config.json.
        tokenizer_path: folder that holds tokenizer.json.
    """

    name: str
    path: str
    revision: str | None
    fingerprint: str
    random_weights: bool
    shape: ModelShape | None
    design: str | None
    kv_elements_per_token: int | None
    vocab_size: int
    max_model_len: int
    torch_dtype: str
    quantization: str | None
    config_path: str
    tokenizer_path: str


def resolve(
    name: str,
    *,
    revision: str | None = None,
    tokenizer: str | None = None,
    load_format: str = "auto",
) -> Model:
    """Find a model and read its shape.

    Args:
        name: hub id, local folder or ``embedded:NAME``.
        revision: branch, tag or commit of a hub model; the hub's main branch if None.
        tokenizer: where the tokenizer comes from, if not from the model; same forms as ``name``.
        load_format: vLLM's word; with ``dummy`` no weights are needed.

    Raises:
        ModelError: the model or its tokenizer is not there, or cannot be used.
    """
    needed = (CONFIG, TOKENIZER) if tokenizer is None else (CONFIG,)
    place = _place(name, revision, needed=needed)
    if load_format != "dummy":
        _check_weights(name, place)
    config = _read_config(place.folder / CONFIG)
    text = language_part(config)
    shape, design = _shape(config)
    words = place if tokenizer is None else _place(tokenizer, None, needed=(TOKENIZER,))
    return Model(
        name=name,
        path=place.path,
        revision=place.revision,
        fingerprint=_fingerprint(place.identity, words.identity),
        random_weights=load_format == "dummy" or config.get(RANDOM_WEIGHTS) is True,
        shape=shape,
        design=design,
        kv_elements_per_token=_kv_elements_per_token(config, shape),
        vocab_size=integer(text, "vocab_size"),
        max_model_len=_max_model_len(text),
        torch_dtype=stored_dtype(text),
        quantization=stored_quantization(config),
        config_path=str(place.folder),
        tokenizer_path=str(words.folder),
    )


def _shape(config: Mapping[str, object]) -> tuple[ModelShape | None, str | None]:
    """Return the shape of a model, or what its design is instead."""
    try:
        return ModelShape.from_config(config), None
    except DesignError as error:
        return None, str(error)


def _kv_elements_per_token(config: Mapping[str, object], shape: ModelShape | None) -> int | None:
    """Return them where a design's cache was checked, not where its config merely has the keys."""
    if shape:
        return shape.kv_elements_per_token
    try:
        checked = parameters.count(config) is not None
        return kv_cache.from_config(config).elements_per_token if checked else None
    except ModelError:
        return None


def _max_model_len(text: Mapping[str, object]) -> int:
    """Read it by the first of its names that the config has.

    Source: vLLM 0.32, transformers_utils/model_arch_config_convertor.py.
    """
    known = [name for name in _LENGTHS if text.get(name)]
    if not known:
        raise ModelError(
            f"config.json says no context length: it has none of {', '.join(_LENGTHS)}"
        )
    return integer(text, known[0])


def read_config(name: str) -> tuple[dict[str, object], str]:
    """Return the content of a model's ``config.json`` and where it stands; nothing else is needed.

    Raises:
        ModelError: the model is not there, or the file cannot be read.
    """
    place = _place(name, None, needed=(CONFIG,))
    config = _read_config(place.folder / CONFIG)
    return config, name if place.path == name else place.path


def is_there(name: str) -> bool:
    """Tell whether ``name`` is a folder or a file here."""
    return Path(name).expanduser().exists()


def _place(name: str, revision: str | None, *, needed: Sequence[str]) -> Place:
    """Return where ``name`` leads; the files ``needed`` are there."""
    if name.startswith(embedded.PREFIX):
        _refuse_revision(name, revision)
        return _embedded(name)
    folder = Path(name).expanduser()
    if folder.exists() or _is_path(name):
        _refuse_revision(name, revision)
        return _local(folder, needed)
    return snapshot(name, revision, needed)


def _is_path(name: str) -> bool:
    """Tell a path from a hub id, which is a word or two words with a slash between them."""
    return not name or name.startswith((".", "~", "/")) or name.count("/") > 1


def _refuse_revision(name: str, revision: str | None) -> None:
    if revision is not None:
        raise ModelError(f"model.revision={revision} goes with a hub id, and {name} is none")


def _embedded(name: str) -> Place:
    entry = embedded.find(name)
    folder = embedded.provide(name)
    return Place(path=str(folder), folder=folder, revision=entry.version, identity=entry.identity)


def _local(folder: Path, needed: Sequence[str]) -> Place:
    """Return a folder of the user's."""
    if not folder.exists():
        raise ModelError(f"no model folder {folder}: give a folder, a hub id or embedded:NAME")
    if not folder.is_dir():
        raise ModelError(f"{folder} is a file: give the folder that holds {CONFIG} and the weights")
    folder = folder.absolute()
    for file in needed:
        if not (folder / file).is_file():
            raise ModelError(f"{folder} holds no {file}{remedy(file)}")
    return Place(path=str(folder), folder=folder, revision=None, identity=_folder_identity(folder))


def _folder_identity(folder: Path) -> str:
    """Return hashes of config and tokenizer, and the names and sizes of the weight files."""
    small = [folder / file for file in (CONFIG, TOKENIZER) if (folder / file).is_file()]
    hashes = [f"{path.name}:{_sha256(path)}" for path in small]
    return " ".join(hashes + [f"{path.name}:{path.stat().st_size}" for path in _weights(folder)])


def _weights(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix in {".safetensors", ".bin"})


def _check_weights(name: str, place: Place) -> None:
    """Refuse a folder without weights; those of a hub id are the engine's to fetch."""
    if place.path == str(place.folder) and not _weights(place.folder):
        raise ModelError(f"{name} has no weights: use it with model.load_format=dummy")


def _read_config(path: Path) -> dict[str, object]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot read {path}: {error}") from error
    if not isinstance(config, dict):
        raise ModelError(f"{path} must hold a table, not a {type(config).__name__}")
    return config


def _fingerprint(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""From the name of a model to what the engine, the planner and the tokenizer need of it.

A name is a hub id, a local folder or ``embedded:NAME``. The hub's local cache is asked first, so
that a model that is there needs no network. Weights are not touched: the engine loads them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from packsweep.errors import DesignError, ModelError
from packsweep.files import expanded
from packsweep.models import embedded
from packsweep.models.architecture import kv_cache, parameters
from packsweep.models.architecture.config import RANDOM_WEIGHTS, ModelConfig
from packsweep.models.architecture.kv_cache import KvLayout
from packsweep.models.architecture.parameters import Parameters
from packsweep.models.architecture.quantization import Quantization
from packsweep.models.architecture.shape import ModelShape
from packsweep.models.hub import CONFIG, TOKENIZER, Place, is_whole, remedy, snapshot

__all__ = ["RANDOM_WEIGHTS", "Model", "is_there", "read_config", "resolve"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model that is there, as far as is known without its weights.

    Attributes:
        name: as the sweep file writes it.
        path: what the engine is given: a folder, or the hub id.
        revision: the commit of a hub model, the package's version of an embedded one, else None.
        fingerprint: changes when the weights or the tokenizer do.
        random_weights: what it answers means nothing.
        config: what its ``config.json`` says.
        shape: None where no formula of ours describes the design.
        design: what it is instead, in words; None where there is a shape.
        parameters: None where no formula is known.
        kv_layout: what it keeps in the KV cache; None where that is not described.
        kv_design: why it is not, in words; None where it is.
        max_model_len: the longest context that vLLM allows, in tokens.
        default_model_len: the context that vLLM takes where none is asked for.
        torch_dtype: dtype the weights are stored in, by the config's own word.
        quantization: of the checkpoint's matrices; None: they are not quantized.
        config_path: folder that holds config.json and, where there is one, generation_config.json.
        tokenizer_path: folder that holds tokenizer.json.
    """

    name: str
    path: str
    revision: str | None
    fingerprint: str
    random_weights: bool
    config: ModelConfig
    shape: ModelShape | None
    design: str | None
    parameters: Parameters | None
    kv_layout: KvLayout | None
    kv_design: str | None
    vocab_size: int
    max_model_len: int
    default_model_len: int
    torch_dtype: str
    quantization: Quantization | None
    config_path: str
    tokenizer_path: str

    @property
    def kv_elements_per_token(self) -> int | None:
        """Elements of a token in the KV cache, where they are known and the same for every token.

        They are known of a design that was checked, not of one whose config merely has the keys.
        """
        if self.kv_layout is None or self.parameters is None:
            return None
        return self.kv_layout.elements_per_token


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
    config = ModelConfig.read(place.folder / CONFIG)
    shape, design = _shape(config)
    kv_layout, kv_design = _kv_layout(config)
    words = place if tokenizer is None else _place(tokenizer, None, needed=(TOKENIZER,))
    vocab_size = config.need("vocab_size")
    return Model(
        name=name,
        path=_given(place, weights=load_format != "dummy"),
        revision=place.revision,
        fingerprint=_fingerprint(place.identity, words.identity),
        random_weights=load_format == "dummy" or config.random_weights,
        config=config,
        shape=shape,
        design=design,
        parameters=_parameters(config),
        kv_layout=kv_layout,
        kv_design=kv_design,
        vocab_size=vocab_size,
        max_model_len=config.need("max_model_len"),
        default_model_len=config.need("default_model_len"),
        torch_dtype=config.dtype,
        quantization=config.quantization,
        config_path=str(place.folder),
        tokenizer_path=str(words.folder),
    )


def _shape(config: ModelConfig) -> tuple[ModelShape | None, str | None]:
    """Return the shape of a model, or what its design is instead."""
    try:
        return ModelShape.from_config(config), None
    except DesignError as error:
        return None, str(error)


def _parameters(config: ModelConfig) -> Parameters | None:
    try:
        return parameters.count(config)
    except ModelError:
        return None


def _kv_layout(config: ModelConfig) -> tuple[KvLayout | None, str | None]:
    """Return what the model keeps in the KV cache, or why that is not known."""
    try:
        return kv_cache.from_config(config), None
    except ModelError as error:
        return None, str(error)


def read_config(name: str) -> tuple[ModelConfig, str]:
    """Return what a model's ``config.json`` says and where it stands; nothing else is needed.

    Raises:
        ModelError: the model is not there, or the file cannot be read.
    """
    place = _place(name, None, needed=(CONFIG,))
    config = ModelConfig.read(place.folder / CONFIG)
    return config, name if place.path == name else place.path


def is_there(name: str) -> bool:
    """Return whether ``name`` is a folder or a file here."""
    return expanded(name).exists()


def _given(place: Place, *, weights: bool) -> str:
    """Return what the engine is given; of a snapshot that is whole the folder: it needs no hub."""
    return str(place.folder) if is_whole(place.folder, weights=weights) else place.path


def _place(name: str, revision: str | None, *, needed: Sequence[str]) -> Place:
    """Return where ``name`` leads; the files ``needed`` are there."""
    if name.startswith(embedded.PREFIX):
        _refuse_revision(name, revision)
        return _embedded(name)
    folder = expanded(name)
    if folder.exists() or _is_path(name):
        _refuse_revision(name, revision)
        return _local(folder, needed)
    return snapshot(name, revision, needed)


def _is_path(name: str) -> bool:
    """Tell a path from a hub id, which is a word or two words with a slash between them."""
    return not name or name.startswith((".", "~", "/")) or name.count("/") > 1


def _refuse_revision(name: str, revision: str | None) -> None:
    if revision is not None:
        raise ModelError(f"model.revision={revision} applies to a hub id, which {name} is not")


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


def _fingerprint(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

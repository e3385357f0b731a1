"""The small files of a hub model, from the local cache or fetched."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from packsweep.errors import ModelError
from packsweep.models.architecture.config import QUANTIZATION, read_table

CONFIG = "config.json"
TOKENIZER = "tokenizer.json"
# Taken along where the repository has them.
_OPTIONAL = (
    "tokenizer_config.json",
    "generation_config.json",
    "chat_template.jinja",
    QUANTIZATION,
)
# Files of weights that vLLM loads, each with the index of one that is divided.
_WHOLE = ("model.safetensors", "pytorch_model.bin")
_PART = re.compile(r"-(\d{5})-of-(\d{5})\.(safetensors|bin)$")
_HUB_TIMEOUT_S = 5.0
_WITHOUT_HUB = (
    "embedded:smollm2-135m runs anywhere, "
    "embedded:llama-3.1-8b with model.load_format=dummy has the shape of Llama 3.1 8B"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a name leads.

    Attributes:
        folder: where its small files lie on this machine.
        identity: what its weights and its tokenizer are, in words that hold on every machine.
    """

    path: str
    folder: Path
    revision: str | None
    identity: str


def remedy(file: str) -> str:
    if file == TOKENIZER:
        return ": name another place with model.tokenizer=..."
    return ": it is not a model folder in the format of Hugging Face"


def snapshot(repo: str, revision: str | None, needed: Sequence[str]) -> Place:
    """Return a hub model, its small files fetched where the cache lacks them."""
    folder = _cached(repo, revision, needed)
    if folder is None:
        folder = _download(repo, revision, needed)
    commit = folder.name
    return Place(path=repo, folder=folder, revision=commit, identity=f"{repo}@{commit}")


def is_whole(folder: Path, *, weights: bool) -> bool:
    """Return whether a snapshot holds all that an engine loads, code of its own among it."""
    own_code = read_table(folder / CONFIG).get("auto_map") and not list(folder.glob("*.py"))
    return not own_code and (not weights or _has_weights(folder))


def _has_weights(folder: Path) -> bool:
    """Return whether a snapshot holds every file of weights of one form."""
    for name in _WHOLE:
        index = folder / f"{name}.index.json"
        if index.is_file():
            files = read_table(index).get("weight_map")
            if isinstance(files, dict) and files:
                return all((folder / str(file)).is_file() for file in set(files.values()))
        if (folder / name).is_file():
            return True
    parts = [found for path in folder.iterdir() if (found := _PART.search(path.name))]
    return bool(parts) and len({part[1] for part in parts}) == int(parts[0][2])


def _cached(repo: str, revision: str | None, needed: Sequence[str]) -> Path | None:
    """Return the snapshot in the hub's local cache that holds every file needed."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = [try_to_load_from_cache(repo, file, revision=revision) for file in needed]
    except HFValidationError:
        raise ModelError(
            f"{repo!r} is neither a folder nor a hub id such as meta-llama/Llama-3.1-8B"
        ) from None
    paths = [Path(path) for path in found if isinstance(path, str)]
    return paths[0].parent if len(paths) == len(needed) else None


def _download(repo: str, revision: str | None, needed: Sequence[str]) -> Path:
    """Fetch the small files and return the snapshot that holds them."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError

    file = needed[0]
    try:
        # One question without the retries of a download, which take half a minute to give up.
        url = hf_hub_url(repo, file, revision=revision)
        get_hf_file_metadata(url, timeout=_HUB_TIMEOUT_S)
        folder = Path(hf_hub_download(repo, file, revision=revision)).parent
        for file in needed[1:]:
            hf_hub_download(repo, file, revision=folder.name)
        for extra in _OPTIONAL:
            try:
                hf_hub_download(repo, extra, revision=folder.name)
            except EntryNotFoundError:
                continue
    except Exception as error:  # which HTTP client the hub library uses, and so its errors, vary
        raise _hub_error(repo, revision, file, error) from error
    return folder


def _hub_error(repo: str, revision: str | None, file: str, error: Exception) -> ModelError:
    """Say in one line what the hub's error means for the user."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return ModelError(f"{repo} is gated: request access on its page and set HF_TOKEN")
    if isinstance(error, errors.RepositoryNotFoundError):
        return ModelError(
            f"the hub has no {repo}, or it is private; for a private one set HF_TOKEN"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return ModelError(f"{repo} has no revision {revision}: check model.revision")
    missing = isinstance(error, errors.EntryNotFoundError)
    if missing and not isinstance(error, errors.LocalEntryNotFoundError):
        return ModelError(f"{repo} holds no {file}{remedy(file)}")
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return ModelError(
        f"{file} of {repo} is not in the local cache and cannot be fetched ({reason}): "
        f"{_WITHOUT_HUB}, and model.tokenizer=... names another tokenizer"
    )

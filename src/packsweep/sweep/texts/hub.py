"""Data sets of the Hugging Face hub: the Parquet files of one split."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from packsweep.errors import TextsError

_ID = re.compile(r"(?:hf://datasets/|datasets/)?([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")
# train-00000-of-00002.parquet; where the hub converted it, train/0000.parquet.
_SHARD = re.compile(r"([A-Za-z]\w*?)(?:-\d+)?(?:-of-\d+)?(?:-[0-9a-f]+)?\.parquet")
# Where the hub keeps what it converted to Parquet itself.
_CONVERTED = "refs/convert/parquet"
_TIMEOUT_S = 10.0


def dataset_id(source: str) -> tuple[str, str | None] | None:
    """Return the id and the revision of a data set that ``source`` names, or None."""
    match = _ID.fullmatch(source)
    return (match[1], match[2]) if match else None


def fetch(source: str, split: str | None) -> list[Path]:
    """Return the Parquet files of a split, downloaded where they are not in the hub's cache.

    Raises:
        TextsError: no such data set, no Parquet files, several splits, or no network.
    """
    named = dataset_id(source)
    assert named is not None
    name, revision = named
    try:
        return _download(source, name, revision, split)
    except TextsError:
        raise
    except Exception as error:  # noqa: BLE001  (which HTTP client the hub library uses varies)
        local = _kept(name, revision)
        if local:
            return [local[file] for file in of_split(source, sorted(local), split)]
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        message = f"{source}: neither a file here nor a data set that the hub gives ({reason})"
        raise TextsError(f"{message}; download it and name the file") from None


def _download(source: str, name: str, revision: str | None, split: str | None) -> list[Path]:
    from huggingface_hub import HfApi, hf_hub_download

    for each in [revision] if revision else [None, _CONVERTED]:
        about = HfApi().dataset_info(name, revision=each, timeout=_TIMEOUT_S)
        listed = [sibling.rfilename for sibling in about.siblings or []]
        files = [file for file in listed if file.endswith(".parquet")]
        if files:
            return [
                Path(hf_hub_download(name, file, repo_type="dataset", revision=each))
                for file in of_split(source, files, split)
            ]
    raise TextsError(f"{source}: the data set has no Parquet files; download it as CSV or JSONL")


def _kept(name: str, revision: str | None) -> dict[str, Path]:
    """Return the Parquet files of a data set in the hub's cache, by their names in it."""
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(
            name, repo_type="dataset", revision=revision, local_files_only=True
        )
    except Exception:  # noqa: BLE001  (it is not there, whatever the library calls that)
        return {}
    paths = Path(folder).rglob("*.parquet")
    return {path.relative_to(folder).as_posix(): path for path in paths}


def of_split(source: str, files: Sequence[str], split: str | None) -> list[str]:
    """Return the files of ``split``, or of the only one there is.

    Raises:
        TextsError: there are several, or none of that name.
    """
    splits: dict[str, list[str]] = {}
    for file in sorted(files):
        path = PurePosixPath(file)
        match = _SHARD.fullmatch(path.name)
        splits.setdefault(match[1] if match else path.parent.name, []).append(file)
    if split is None and len(splits) == 1:
        return next(iter(splits.values()))
    if split is not None and split in splits:
        return splits[split]
    known = ", ".join(splits) or "none"
    wrong = "has several splits" if split is None else f"has no split {split!r}"
    raise TextsError(f"{source}: {wrong} ({known}); name one with texts.split")

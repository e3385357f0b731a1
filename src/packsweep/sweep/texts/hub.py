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


def dataset_id(source: str) -> tuple[str, str | None] | None:
    """Return the id and the revision of a data set that ``source`` names, or None."""
    match = _ID.fullmatch(source)
    return (match[1], match[2]) if match else None


def fetch(source: str, split: str | None) -> list[Path]:
    """Return the Parquet files of a split, downloaded where they are not in the hub's cache.

    Raises:
        TextsError: no such data set, no Parquet files, several splits, or no network.
    """
    from huggingface_hub import HfApi, hf_hub_download, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    named = dataset_id(source)
    assert named is not None
    name, revision = named
    wanted = [revision] if revision else [None, _CONVERTED]
    try:
        for each in wanted:
            listed = HfApi().list_repo_files(name, repo_type="dataset", revision=each)
            files = [file for file in listed if file.endswith(".parquet")]
            if files:
                chosen = of_split(source, files, split)
                return [
                    Path(hf_hub_download(name, file, repo_type="dataset", revision=each))
                    for file in chosen
                ]
    except HfHubHTTPError as error:
        reason = " ".join(str(error).split())[:200]
        raise TextsError(f"{source}: the hub refuses the data set: {reason}") from None
    except (OSError, LocalEntryNotFoundError, ValueError, RuntimeError) as error:
        try:
            folder = Path(snapshot_download(name, repo_type="dataset", local_files_only=True))
        except (OSError, ValueError):
            reason = " ".join(str(error).split())[:200]
            message = f"{source}: neither a file here nor a data set that the hub gives ({reason})"
            raise TextsError(f"{message}; download it and name the file") from None
        local = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.parquet"))
        return [folder / file for file in of_split(source, local, split)]
    raise TextsError(f"{source}: the data set has no Parquet files; download it as CSV or JSONL")


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

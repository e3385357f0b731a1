"""Labelled texts: where they come from, and which of them a sweep uses.

``load`` is the way in. It knows the kinds of sources; how each is read is the business of the
module named for it, and ``cache`` keeps a checked copy so that a source is read once.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from packsweep.errors import TextsError
from packsweep.sweep.texts import aclimdb, builtin, cache, download, files
from packsweep.sweep.texts.text import LABELS, LabelledText, content_sha256

__all__ = ["LABELS", "LabelledText", "content_sha256", "load"]

Read = Callable[[Path], list[LabelledText]]

_READ: dict[tuple[str, ...], Read] = {
    files.CSV_SUFFIXES: files.read_csv,
    files.PARQUET_SUFFIXES: files.read_parquet,
    aclimdb.ARCHIVE_SUFFIXES: aclimdb.read_archive,
}
_SUFFIXES = ", ".join(suffix for suffixes in _READ for suffix in suffixes)


def load(source: str, *, limit: int, seed: int | None = None) -> tuple[LabelledText, ...]:
    """Return the first ``limit`` texts of ``source``.

    Args:
        source: ``builtin`` for generated texts; ``imdb`` for the official archive, downloaded at
            the first use; or the path of a CSV or Parquet file with the columns ``text`` and
            ``sentiment``, of an ``aclImdb`` folder or of a tar.gz of it. A relative path starts
            at the current folder.
        limit: how many texts are wanted, at least 1.
        seed: shuffles the whole set before the first ``limit`` are taken; None keeps its order.

    Raises:
        TextsError: the source is not there, cannot be used, or holds fewer texts.
    """
    if limit < 1:
        raise ValueError(f"limit is {limit}; expected at least 1")
    if source == "builtin":
        return builtin.load(limit=limit, seed=seed)
    read: Read = _read_official
    if source == "imdb":
        path = _official()
    else:
        path = Path(source).expanduser()
        read = _reader(path)
    return cache.select(path, _stamp(path), read, limit=limit, seed=seed)


def _official() -> Path:
    path = cache.folder() / download.OFFICIAL.name
    return path if path.exists() else download.fetch(download.OFFICIAL, cache.folder())


def _read_official(path: Path) -> list[LabelledText]:
    # Checks the hash of a file that was there before, and replaces a wrong one.
    download.fetch(download.OFFICIAL, path.parent)
    return aclimdb.read_archive(path)


def _reader(path: Path) -> Read:
    """Return what reads a source in the file system."""
    if path.is_dir():
        return aclimdb.read_folder
    if not path.exists():
        message = f"{path}: no such file or folder (the current folder is {Path.cwd()})"
        raise TextsError(f"{message}; texts.source is builtin, imdb or a path")
    for suffixes, read in _READ.items():
        if path.name.lower().endswith(suffixes):
            return read
    message = f"{path}: is a file of no known kind; expected a folder aclImdb, or a file whose"
    raise TextsError(f"{message} name ends in {_SUFFIXES}")


def _stamp(path: Path) -> str:
    """Return a text that changes when the source changes."""
    if path.is_dir():
        return aclimdb.folder_stamp(path)
    status = path.stat()
    return f"{status.st_size} {status.st_mtime_ns}"

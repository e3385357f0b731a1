"""Reviews from the IMDB set in its original form: a folder ``aclImdb`` or a tar.gz of it.

The set is one file per review: ``train/pos``, ``train/neg``, ``test/pos`` and ``test/neg``;
``train/unsup`` has no labels and is not read. The files lie grouped by label, so their own order
would make the first n reviews all positive; and a strict alternation could be guessed by a model
that continues its own answers. So the order is fixed and mixed: by the SHA-256 of each file's name
within the set, such as ``train/pos/0_9.txt``. It is the same on every system, for the folder and
for the archive.

Source of the layout: the README of the Large Movie Review Dataset v1.0,
https://ai.stanford.edu/~amaas/data/sentiment/
"""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from packsweep.errors import TextsError
from packsweep.sweep.texts.text import LabelledText, checked_text

_LABEL_OF = {"pos": "positive", "neg": "negative"}
FOLDERS = tuple(f"{split}/{label}" for split in ("train", "test") for label in _LABEL_OF)
ARCHIVE_SUFFIXES = (".tar.gz", ".tgz")
_CHUNK_BYTES = 1 << 20
_MEMBER = re.compile(r"(?:^|/)((?:train|test)/(?:pos|neg)/[^/.][^/]*\.txt)$")


def read_folder(path: Path) -> list[LabelledText]:
    """Read every labelled review below the folder ``aclImdb``, in the fixed order.

    Raises:
        TextsError: the folder is not such a set, or a file of it cannot be used.
    """
    return _ordered(path, ((name, (path / name).read_bytes()) for name, _ in _files(path)))


def is_folder(path: Path) -> bool:
    """Return whether a folder looks like such a set, whole or not."""
    return (path / "train").is_dir() or (path / "aclImdb").is_dir()


def folder_stamp(path: Path) -> str:
    """Return a hash of the names, sizes and modification times of the files that count.

    Raises:
        TextsError: the folder is not such a set.
    """
    digest = hashlib.sha256()
    for name, status in sorted(_files(path)):
        digest.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def read_archive(path: Path) -> list[LabelledText]:
    """Read every labelled review of a tar.gz of the folder, in the fixed order.

    Nothing is unpacked to disk.

    Raises:
        TextsError: the file is not such an archive, or a text of it cannot be used.
    """
    try:
        with gzip.open(path) as unpacked:
            with tarfile.open(fileobj=unpacked, mode="r:") as archive:
                reviews = _ordered(path, _members(archive))
            # gzip compares its checksum at the end of the file, which lies after the last member.
            while unpacked.read(_CHUNK_BYTES):
                pass
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        message = f"{path}: is not a whole tar.gz archive ({error}); copy it again"
        raise TextsError(message) from None
    except OSError as error:
        raise TextsError(f"{path}: cannot be read: {error.strerror or error}") from None
    return reviews


def _files(path: Path) -> Iterator[tuple[str, os.stat_result]]:
    missing = [name for name in FOLDERS if not (path / name).is_dir()]
    if missing:
        raise TextsError(_not_the_set(path, missing))
    for folder in FOLDERS:
        with os.scandir(path / folder) as entries:
            for entry in entries:
                name = f"{folder}/{entry.name}"
                if _MEMBER.fullmatch(name) and entry.is_file():
                    yield name, entry.stat()


def _not_the_set(path: Path, missing: list[str]) -> str:
    inner = path / "aclImdb"
    if inner.is_dir():
        return f"{path}: is a folder without {', '.join(missing)}; did you mean {inner}?"
    return (
        f"{path}: is a folder, but not the set aclImdb: it has no {', '.join(missing)}; "
        "name a CSV or Parquet file in it, or the folder that holds train and test"
    )


def _members(archive: tarfile.TarFile) -> Iterator[tuple[str, bytes]]:
    for member in archive:
        found = _MEMBER.search(member.name)
        content = archive.extractfile(member) if found and member.isfile() else None
        if found and content:
            yield found.group(1), content.read()


def _ordered(path: Path, texts: Iterable[tuple[str, bytes]]) -> list[LabelledText]:
    reviews = [(_place(name), _review(path, name, content)) for name, content in texts]
    if not reviews:
        folders = ", ".join(FOLDERS)
        raise TextsError(f"{path}: holds no reviews; expected *.txt files in {folders}")
    return [review for _, review in sorted(reviews, key=lambda placed: placed[0])]


def _place(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


def _review(path: Path, name: str, content: bytes) -> LabelledText:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TextsError(f"{path}: {name}: is not UTF-8 text (byte {error.start})") from None
    # An editor may have ended the file with a line break; the set's own files have none.
    whole = checked_text(text.rstrip("\r\n"), f"{path}: {name}")
    return LabelledText(text=whole, label=_LABEL_OF[name.split("/")[1]])

"""The official IMDB archive, downloaded once into the cache folder and checked by its hash.

A broken connection is resumed where it broke. The file appears under its name only when it
is whole and its hash is right; until then it has a name of its own, which goes when the download
fails or is interrupted.
"""

from __future__ import annotations

import contextlib
import hashlib
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from packsweep.errors import TextsError

if TYPE_CHECKING:
    from http.client import HTTPResponse

Advance = Callable[[int], None]

_CHUNK_BYTES = 1 << 18
_TIMEOUT_S = 30.0
# Broken connections that are resumed, each after a pause, before the download fails.
_RESUMES = 5
_INSTEAD = (
    "set texts.source to builtin for generated texts, or put the archive or a table with the "
    "columns text and label on this machine and set texts.source to its path"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """A file on the web and what it must be.

    Attributes:
        url: where it is.
        num_bytes: its size.
        sha256: its hash.
        pause_s: how long to wait before a broken connection is resumed.
    """

    url: str
    num_bytes: int
    sha256: str
    pause_s: float = 2.0

    @property
    def name(self) -> str:
        """The file's name, the last part of the address."""
        return self.url.rpartition("/")[2]


# Source: the address is given at https://ai.stanford.edu/~amaas/data/sentiment/. The size and the
# SHA-256 are published alike by TensorFlow Datasets (datasets/imdb_reviews/checksums.tsv) and
# Hugging Face Datasets (datasets/imdb/dataset_infos.json). The MD5 that torchtext, PaddlePaddle and
# others publish for the same address is 7c2ac02c03563afcf9b574c7e56c153a.
OFFICIAL = Archive(
    url="https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz",
    num_bytes=84_125_825,
    sha256="c40f74a18d3b61f90feba1e17730e0d38e8b97c05fde7008942e91923d1658fe",
)


class _BrokenError(Exception):
    """The connection ended before the file did; what came before is good."""


def fetch(archive: Archive, folder: Path) -> Path:
    """Return the path of ``archive`` in ``folder``, downloading it where it is not there.

    Raises:
        TextsError: it cannot be downloaded, is not the expected file, or cannot be written.
    """
    path = folder / archive.name
    part = folder / f"{archive.name}.{uuid.uuid4().hex}.part"
    try:
        if path.exists() and _sha256(path) == archive.sha256:
            return path
        folder.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file, _progress(archive) as advance:
            _fill(archive, file, advance)
        _check(archive, part)
        part.replace(path)
    except OSError as error:
        raise _failed(archive, f"{folder}: {error.strerror or error}") from None
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
    return path


def _fill(archive: Archive, file: IO[bytes], advance: Advance) -> None:
    """Write the whole archive into ``file``, over as many connections as it takes."""
    for resume in range(_RESUMES + 1):
        if resume:
            time.sleep(archive.pause_s)
        try:
            _receive(archive, file, advance, resuming=resume > 0)
        except _BrokenError as error:
            broken = error
        else:
            return
    message = f"the connection broke {_RESUMES + 1} times, last after {file.tell():,} bytes"
    raise _failed(archive, f"{message} ({broken})")


def _receive(archive: Archive, file: IO[bytes], advance: Advance, *, resuming: bool) -> None:
    """Append what one connection brings to ``file``."""
    with _opened(archive, start=file.tell(), resuming=resuming) as response:
        if response.status != HTTPStatus.PARTIAL_CONTENT:
            # The server sends the whole file, whatever was asked for.
            file.seek(0)
            file.truncate()
        _check_length(archive, response, start=file.tell())
        advance(file.tell())
        while chunk := _chunk(response):
            file.write(chunk)
            advance(file.tell())
    if file.tell() < archive.num_bytes:
        raise _BrokenError(f"{file.tell():,} of {archive.num_bytes:,} bytes came")


def _opened(archive: Archive, *, start: int, resuming: bool) -> HTTPResponse:
    import urllib.error
    import urllib.request
    from http.client import HTTPException

    request = urllib.request.Request(archive.url)  # noqa: S310  (the address is ours)
    if start:
        request.add_header("Range", f"bytes={start}-")
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT_S)  # noqa: S310
    except urllib.error.HTTPError as error:
        error.close()
        raise _failed(archive, f"the server answers {error.code} {error.reason}") from None
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        if resuming:
            raise _BrokenError(str(reason)) from None
        raise _failed(archive, f"no connection ({reason})") from None
    return cast("HTTPResponse", response)


def _chunk(response: HTTPResponse) -> bytes:
    from http.client import HTTPException

    try:
        return response.read(_CHUNK_BYTES)
    except (OSError, HTTPException) as error:
        raise _BrokenError(str(error) or type(error).__name__) from None


def _check_length(archive: Archive, response: HTTPResponse, *, start: int) -> None:
    """Refuse at once a page that is not the archive, such as that of a login portal."""
    if response.length is not None and start + response.length != archive.num_bytes:
        offered = f"{start + response.length:,} bytes, expected {archive.num_bytes:,}"
        raise _failed(archive, f"the server offers another file ({offered})")


def _check(archive: Archive, part: Path) -> None:
    found = _sha256(part)
    if found != archive.sha256:
        message = f"the download has the SHA-256 {found}, expected {archive.sha256}"
        raise _failed(archive, message)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _failed(archive: Archive, reason: str) -> TextsError:
    return TextsError(f"{archive.url}: cannot be downloaded: {reason}; {_INSTEAD}")


def _progress(archive: Archive) -> contextlib.AbstractContextManager[Advance]:
    return _bar(archive) if sys.stderr.isatty() else _lines(archive)


@contextlib.contextmanager
def _bar(archive: Archive) -> Iterator[Advance]:
    """Show the progress as a bar, on a terminal."""
    from rich import progress
    from rich.console import Console

    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.DownloadColumn(),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(archive.name, total=archive.num_bytes)
        yield lambda num_bytes: bar.update(task, completed=num_bytes)


@contextlib.contextmanager
def _lines(archive: Archive) -> Iterator[Advance]:
    """Write a line at the start, at every tenth of the file and so at its end, for a log."""
    sys.stderr.write(f"downloading {archive.url} ({archive.num_bytes / 1e6:.1f} MB)\n")
    written = 0

    def advance(num_bytes: int) -> None:
        nonlocal written
        tenths = 10 * num_bytes // archive.num_bytes
        if tenths > written:
            written = tenths
            sys.stderr.write(f"downloading {archive.name}: {10 * tenths} %\n")

    yield advance

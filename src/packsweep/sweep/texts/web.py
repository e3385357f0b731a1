"""A file of texts at an address, https:// or s3://: fetched once into the cache folder.

The file appears under its name only when it is whole. Texts are part of a cell by their content, so
a file that has changed at its address would be other cells: the copy is used until it is deleted.
"""

from __future__ import annotations

import contextlib
import hashlib
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from http.client import HTTPException, HTTPMessage, HTTPResponse
from pathlib import Path
from typing import IO, cast
from urllib.parse import SplitResult, unquote, urlsplit

from packsweep.errors import ResultsError, TextsError
from packsweep.sweep.texts import cache, rows

SCHEMES = ("https", "s3")
MAX_BYTES = 4 << 30
_MOST_REDIRECTS = 5
_TIMEOUT_S = 30.0
_CHUNK_BYTES = 1 << 18


def fetch(source: str, notes: list[str]) -> Path:
    """Return a file with the content at an address; ``notes`` takes where it lies.

    Raises:
        TextsError: the address is none of a file of texts, or the file cannot be fetched.
    """
    address = _address(source)
    name = Path(unquote(address.path)).name
    folder = cache.folder() / "web" / hashlib.sha256(source.encode()).hexdigest()[:24]
    path = folder / name
    if not path.exists():
        part = folder / f"{name}.{uuid.uuid4().hex}.part"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                (_over_https if address.scheme == "https" else _of_a_bucket)(source, file)
            part.replace(path)
        except OSError as error:
            raise TextsError(f"{folder}: cannot be written: {error.strerror or error}") from None
        finally:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
    notes.append(f"{_shown(source)} was fetched to {path}; delete that to fetch it again")
    return path


def _address(source: str) -> SplitResult:
    try:
        address = urlsplit(source)
    except ValueError as error:
        raise TextsError(f"{_shown(source)}: is no address: {error}") from None
    if "@" in address.netloc:
        raise TextsError(f"{address.scheme}://...: an address of texts holds no credentials")
    if not address.netloc or rows.kind(unquote(address.path)) is None:
        kinds = ", ".join(rows.SUFFIXES)
        raise TextsError(f"{_shown(source)}: names no file of texts, which ends in {kinds}")
    return address


def _shown(source: str) -> str:
    """Return an address without what follows its path, which may be secret."""
    return source.partition("?")[0].partition("#")[0][:200]


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows a redirect to https:// alone."""

    max_redirections = _MOST_REDIRECTS

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        if urlsplit(newurl).scheme != "https":
            fp.close()
            raise TextsError(f"{_shown(req.full_url)}: leads to {_shown(newurl)}, not to https://")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _over_https(source: str, file: IO[bytes]) -> None:
    with _asking(source) as response:
        if "html" in response.headers.get_content_type():
            raise TextsError(f"{_shown(source)}: is a page, not a file of texts")
        expected = response.length
        if expected is not None and expected > MAX_BYTES:
            raise _too_large(source)
        while chunk := response.read(_CHUNK_BYTES):
            file.write(chunk)
            if file.tell() > MAX_BYTES:
                raise _too_large(source)
        if expected is not None and file.tell() < expected:
            raise HTTPException(f"{file.tell():,} of {expected:,} bytes came")


@contextlib.contextmanager
def _asking(source: str) -> Iterator[HTTPResponse]:
    """Give the server's answer; whatever goes wrong with it is one line."""
    opener = urllib.request.build_opener(_Redirects)
    try:
        with opener.open(source, timeout=_TIMEOUT_S) as response:
            yield cast("HTTPResponse", response)
    except urllib.error.HTTPError as error:
        error.close()
        raise _failed(source, f"the server answers {error.code} {error.reason}") from None
    except (OSError, HTTPException) as error:
        raise _failed(source, str(getattr(error, "reason", None) or error)) from None


def _of_a_bucket(source: str, file: IO[bytes]) -> None:
    from packsweep.results import storage

    prefix, _, key = source.rpartition("/")
    try:
        content = storage.at(prefix).read(key)
    except ResultsError as error:
        raise _failed(source, str(error)) from None
    if content is None:
        raise _failed(source, "there is no such object")
    if len(content) > MAX_BYTES:
        raise _too_large(source)
    file.write(content)


def _too_large(source: str) -> TextsError:
    return TextsError(f"{_shown(source)}: is larger than the {MAX_BYTES >> 30} GiB allowed")


def _failed(source: str, reason: str) -> TextsError:
    said = " ".join(reason.split())
    return TextsError(f"{_shown(source)}: cannot be fetched: {said}; download it and name the file")

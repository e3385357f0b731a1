"""Where results lie: a folder, or a prefix in an object store.

The store (``packsweep.results.store``) asks for no more than the five verbs below, so a new place
is a module here and a row of ``_OBJECT_STORES``, or of what ``at`` tells apart. A key is a path
below the root with slashes, ``cells/<cell_id>/COMMIT``. Everything that goes wrong is a
``ResultsError`` of one line; a key that is not there is not wrong, and neither is one where a FIFO,
a device or a loop of links lies: it is ignored and named once.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Protocol, TypeVar
from urllib.parse import unquote

from packsweep.errors import ResultsError
from packsweep.files import expanded
from packsweep.results.storage.local import LocalStorage

# pathlib makes one slash of two, and so does a shell's completion now and then.
_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/{1,3}(.*)", re.DOTALL)
_OBJECT_STORES = ("s3", "gs", "az")
# What begins so without a slash is a URI that somebody misspelt and no folder of that name.
_MISSPELT = re.compile(rf"({'|'.join((*_OBJECT_STORES, 'file'))}):(?!/)", re.IGNORECASE)
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")
_MOST_LETTERS = 500  # of a prefix: a key has 1,024 bytes on S3, and ours come after it
# What a process on another machine needs to reach the same place.
ENVIRON = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_PROFILE",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
)
# Requests at a time: a file server or an object store answers in milliseconds, not microseconds.
_NUM_THREADS = 32
_NUM_AHEAD = 256

_In = TypeVar("_In")
_Out = TypeVar("_Out")


class Storage(Protocol):
    """A place for whole files."""

    @property
    def root(self) -> str:
        """Where it is, as the user wrote it."""

    @property
    def absolute(self) -> str:
        """Where it is, for a process in another folder or on another machine."""

    def local(self, key: str) -> Path | None:
        """Return the file of ``key`` where it is one on this machine."""

    def read(self, key: str) -> bytes | None:
        """Return the content of ``key``; None if it is not there."""

    def write(self, key: str, content: bytes) -> None:
        """Put ``content`` at ``key``, whole or not at all, whatever was there."""

    def create(self, key: str, content: bytes) -> bool:
        """Put ``content`` at ``key`` if nothing is there; tell whether ``content`` is there now.

        Of several at once with different contents exactly one gets True.
        """

    def list(self, folder: str) -> Iterator[tuple[str, int]]:
        """Yield key and time of change, in ns, of all below ``folder`` (all: empty), unordered."""


def at(where: str | os.PathLike[str]) -> Storage:
    """Return the storage at a path or a URI.

    Raises:
        ResultsError: the URI is of a kind that is not known, or its client is not installed.
    """
    return _at(os.fspath(where))


@lru_cache(maxsize=32)
def _at(where: str) -> Storage:
    """Every task names its storage; connections are shared within a process."""
    if _MISSPELT.match(where):
        raise ResultsError(
            f"{where!r}: is not an address; write s3://bucket/prefix or file:///folder"
        )
    found = _URI.fullmatch(where)
    if found is None:
        return LocalStorage(expanded(where))
    scheme, rest = found.group(1).lower(), found.group(2)
    if scheme == "file":
        return LocalStorage(Path("/" + unquote(rest)))
    if scheme not in _OBJECT_STORES:
        raise ResultsError(
            f"{where}: {scheme}:// is not known; results lie in a folder or at s3://bucket/prefix"
        )
    bucket, *parts = rest.strip("/").split("/")
    if wrong := _wrong(bucket, parts):
        raise ResultsError(f"{where!r}: {wrong}; expected {scheme}://bucket/prefix")
    from packsweep.results.storage.objects import ObjectStorage

    return ObjectStorage("/".join((f"{scheme}:/", bucket, *parts)))


def _wrong(bucket: str, parts: Sequence[str]) -> str | None:
    """Return what is wrong with an address in an object store, before its client sees it."""
    if "@" in bucket:
        return "an address holds no credentials; set AWS_ACCESS_KEY_ID, or AWS_PROFILE"
    if not _BUCKET.fullmatch(bucket):
        return "names no bucket"
    if any(part in {"", ".", ".."} for part in parts):
        return "a part of the prefix is empty or made of dots"
    if not all(part.isprintable() and not set(part) & set("?#%\\") for part in parts):
        return "the prefix holds a character that keys may not hold (?, #, %, \\ or a control one)"
    if sum(map(len, parts)) > _MOST_LETTERS:
        return f"the prefix has more than {_MOST_LETTERS} letters"
    return None


def is_uri(where: str) -> bool:
    """Tell a URI from a path."""
    return (_URI.fullmatch(where) or _MISSPELT.match(where)) is not None


def in_parallel(function: Callable[[_In], _Out], values: Iterable[_In]) -> Iterator[_Out]:
    """Yield ``function`` of each value, in order, many at a time; few results wait to be taken."""
    waiting = iter(values)
    with ThreadPoolExecutor(_NUM_THREADS) as pool:
        while some := list(islice(waiting, _NUM_AHEAD)):
            yield from pool.map(function, some)

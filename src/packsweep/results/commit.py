"""What a ``COMMIT`` says: which attempt counts, and which files are its own.

Four words: the attempt, the schema version, the SHA-256 of its passes and that of its requests,
``-`` where it has none. Earlier ones lack the fourth and say nothing of the requests.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from packsweep.results import schema

# A name becomes part of a key: no dots, no slashes. Ours are a UUID in hex, with -lost at times.
_ATTEMPT = re.compile(r"[0-9A-Za-z][0-9A-Za-z-]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NONE = "-"
_REQUESTS = re.compile(rf"(?:{_NONE})?|{_SHA256.pattern}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """A ``COMMIT`` that can be used.

    Attributes:
        requests: SHA-256 of the file of requests; ``-``: there is none; None: not known.
    """

    attempt_id: str
    version: str
    passes: str
    requests: str | None

    @classmethod
    def of(cls, attempt_id: str, version: str, passes: bytes, requests: bytes | None) -> Commit:
        return cls(
            attempt_id=attempt_id,
            version=version,
            passes=sha256(passes),
            requests=_NONE if requests is None else sha256(requests),
        )

    def to_bytes(self) -> bytes:
        words = (self.attempt_id, self.version, self.passes, self.requests or _NONE)
        return "".join(f"{word}\n" for word in words).encode()

    def has_requests(self, content: bytes | None) -> bool:
        """Return whether ``content`` is the attempt's file of requests; None: there is no file."""
        return self.requests in {None, _NONE if content is None else sha256(content)}


def read(content: bytes) -> Commit | None:
    """Return what a file says; None where it names no attempt, or one of another schema."""
    words = content.decode("ascii", errors="replace").split()
    if len(words) == 3:  # noqa: PLR2004
        words.append("")
    if len(words) != 4:  # noqa: PLR2004
        return None
    attempt_id, version, passes, requests = words
    if not is_attempt(attempt_id) or version not in schema.READABLE:
        return None
    if not _SHA256.fullmatch(passes) or not _REQUESTS.fullmatch(requests):
        return None
    return Commit(attempt_id=attempt_id, version=version, passes=passes, requests=requests or None)


def is_attempt(name: str) -> bool:
    """Tell the name of an attempt from a path or a foreign name."""
    return _ATTEMPT.fullmatch(name) is not None


def sha256(content: bytes) -> str:
    """Return the hash by which a file is known."""
    return hashlib.sha256(content).hexdigest()

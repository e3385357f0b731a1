"""What a ``COMMIT`` says, and what is none."""

from __future__ import annotations

import pytest

from packsweep.results import commit, schema
from packsweep.results.commit import Commit

DIGEST = "a" * 64
VERSION = str(schema.SCHEMA_VERSION)


@pytest.mark.parametrize("requests", [None, b"rows"])
def test_what_is_written_is_read(requests: bytes | None) -> None:
    made = Commit.of("a0", VERSION, b"passes", requests)
    assert commit.read(made.to_bytes()) == made
    assert made.has_requests(requests)
    assert not made.has_requests(b"other rows")


def test_earlier_one_says_nothing_of_requests() -> None:
    found = commit.read(f"a0\n3\n{DIGEST}\n".encode())
    assert found is not None
    assert found.requests is None
    assert found.has_requests(None)
    assert found.has_requests(b"rows")


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("a0", VERSION),
        ("a0", "2", DIGEST, "-"),
        ("a0", "99", DIGEST, "-"),
        ("../a0", VERSION, DIGEST, "-"),
        ("a0", VERSION, "a" * 63, "-"),
        ("a0", VERSION, DIGEST, "b"),
        ("a0", VERSION, DIGEST, "--"),
        ("a0", VERSION, DIGEST, DIGEST, "more"),
    ],
)
def test_none(words: tuple[str, ...]) -> None:
    assert commit.read("\n".join(words).encode()) is None

"""Messages never hold a URL's credentials, and name what was meant."""

from __future__ import annotations

import pytest

from packsweep.errors import EngineError, UserError, nearest, without_credentials


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("s3://KEY:secret@bucket/x: no", "s3://***@bucket/x: no"),
        ("s3://KEY:sec/ret@bucket", "s3://***@bucket"),
        ("https://u:p@ss@host/a and http://t0ken@b", "https://***@host/a and http://***@b"),
        ("s3:/KEY:secret@bucket", "s3:/***@bucket"),
        ("https://host/a@b", "https://host/a@b"),
        ("mail a@b; 3://x", "mail a@b; 3://x"),
    ],
)
def test_without_credentials(text: str, plain: str) -> None:
    """What stands before a host's @ is not told; what is no URL stays."""
    assert without_credentials(text) == plain
    assert str(UserError(text)) == plain
    assert str(EngineError(text)) == plain


def test_nearest_takes_capitals_as_small_letters() -> None:
    assert nearest("TEXTS_PER_S", ["texts_per_s", "mfu"]) == "texts_per_s"
    assert nearest("teams", ["Teams.toml", "Team"]) == "Team"
    assert nearest("x", ["texts_per_s"]) is None

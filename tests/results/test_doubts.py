"""What is passed over is named once, and of many alike the first with their number."""

from __future__ import annotations

import pytest

from packsweep.results.doubts import gathered, name_once


def test_many_alike_are_one_line(caplog: pytest.LogCaptureFixture) -> None:
    with gathered():
        for name in ("alike/b", "alike/a", "alike/a"):
            name_once(f"{name}: is not there", kind="not there")
        name_once("alike/c: is damaged", kind="damaged")
        assert not caplog.messages
    assert caplog.messages == [
        "packsweep: alike/a: is not there (the first of 2 such files)",
        "packsweep: alike/c: is damaged",
    ]


def test_what_was_named_is_not_named_again(caplog: pytest.LogCaptureFixture) -> None:
    name_once("again/a: is not there", kind="not there")
    with gathered():
        name_once("again/a: is not there", kind="not there")
        name_once("again/b: is not there", kind="not there")
    assert caplog.messages == [
        "packsweep: again/a: is not there",
        "packsweep: again/b: is not there",
    ]


def test_what_is_gathered_is_named_when_the_outermost_has_read(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with gathered():
        with gathered():
            name_once("inner/a: is not there", kind="not there")
        assert not caplog.messages
    assert len(caplog.messages) == 1


def test_an_error_leaves_no_doubt_unnamed(caplog: pytest.LogCaptureFixture) -> None:
    @gathered()
    def read() -> None:
        name_once("error/a: is not there", kind="not there")
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        read()
    assert len(caplog.messages) == 1

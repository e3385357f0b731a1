"""Folders of attempts: whose they are, and that only the abandoned ones go."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import pytest

from packsweep.errors import UserError
from packsweep.machine import process
from packsweep.run import scratch


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for temporary files that is the test's own."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def _owned(folder: Path, owner: object) -> Path:
    folder.mkdir()
    (folder / scratch.OWNER).write_text(json.dumps(owner), encoding="utf-8")
    (folder / "task.json").write_text("texts", encoding="utf-8")
    return folder


def test_remove_abandoned(temporary: Path) -> None:
    """A folder goes when its owner has ended; one of a living, an unknown or nobody stays."""
    mine = process.identity(os.getpid())
    assert mine is not None
    gone = _owned(temporary / "packsweep-gone", mine | {"started": "1"})
    kept = [
        scratch.make(),
        _owned(temporary / "packsweep-elsewhere", mine | {"started": "1", "boot_id": "x"}),
        _owned(temporary / "packsweep-nobody", None),
        _owned(temporary / "other", mine | {"started": "1"}),
    ]
    (temporary / "packsweep-empty").mkdir()
    (temporary / "packsweep-link").symlink_to(gone)
    assert scratch.remove_abandoned() == 1
    assert not gone.exists()
    assert all(folder.exists() for folder in kept)
    assert (temporary / "packsweep-empty").exists()


def test_remove_abandoned_of_another_user(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever made a folder, only its user removes it."""
    mine = process.identity(os.getpid())
    assert mine is not None
    theirs = _owned(temporary / "packsweep-gone", mine | {"started": "1"})
    monkeypatch.setattr(os, "getuid", lambda: theirs.stat().st_uid + 1)
    assert scratch.remove_abandoned() == 0
    assert theirs.exists()


def test_make_no_room(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no temporary file can be written one line says so."""
    monkeypatch.setattr(tempfile, "tempdir", str(temporary / "gone"))
    with pytest.raises(UserError, match="set TMPDIR"):
        scratch.make()

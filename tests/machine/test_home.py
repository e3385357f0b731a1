"""Where caches go for a user without a home."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import pytest

from packsweep.machine import home


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for temporary files that is the test's own."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setenv("HOME", str(tmp_path / "gone"))
    return folder


def test_provide_usable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home that can be used stays, without a word."""
    monkeypatch.setenv("HOME", str(tmp_path))
    assert home.provide() is None
    assert os.environ["HOME"] == str(tmp_path)


def test_provide(temporary: Path, tmp_path: Path) -> None:
    """A home that is not there is replaced by a private folder, which is said; once."""
    line = home.provide()
    folder = temporary / f"packsweep-home-{os.getuid()}"
    assert line is not None
    assert line.startswith(f"the home {tmp_path / 'gone'} cannot be used: caches go to {folder}")
    assert os.environ["HOME"] == str(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert home.provide() is None


def test_provide_no_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does a user whom no password file knows need HOME to be set."""
    for name in ("HOME", "USER", "LOGNAME", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", _unknown)
    assert str(home.provide()).startswith("this user has no home")
    assert os.environ["USER"] == f"uid{os.getuid()}"


def _unknown(uid: int) -> None:
    raise KeyError(uid)


def test_provide_folder_of_another(temporary: Path, tmp_path: Path) -> None:
    """A folder that somebody else made under that name is not used."""
    (temporary / f"packsweep-home-{os.getuid()}").symlink_to(tmp_path)
    home.provide()
    assert Path(os.environ["HOME"]).parent == temporary
    assert not Path(os.environ["HOME"]).is_symlink()

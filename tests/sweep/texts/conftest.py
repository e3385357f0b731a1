"""A cache folder of its own for every test of the texts."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the empty folder that stands for the cache."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("PACKSWEEP_CACHE", str(folder))
    return folder

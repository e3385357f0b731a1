"""The listing of ``src/packsweep``: short enough to be read."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import packsweep

MOST_FILES = 12


def test_folders_are_short() -> None:
    """A folder that outgrows the limit is split by subject, or holds what another one has."""
    package = Path(packsweep.__file__).parent
    files = [
        path.relative_to(package)
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    ]
    sizes = Counter(path.parent.as_posix() for path in files)
    assert len(files) > 100
    assert {name: size for name, size in sizes.items() if size > MOST_FILES} == {}

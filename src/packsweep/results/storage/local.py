"""Results in a folder: a disk, NFS, or whatever else is mounted and can link."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from packsweep.errors import ResultsError
from packsweep.files import link_file, replace_file

_NOT_THERE = (FileNotFoundError, NotADirectoryError, IsADirectoryError)


@dataclass(frozen=True, slots=True)
class LocalStorage:
    """A folder, which need not exist yet."""

    folder: Path

    @property
    def root(self) -> str:
        """The folder as the user wrote it."""
        return str(self.folder)

    @property
    def absolute(self) -> str:
        """The folder without links and dots."""
        return str(self.folder.resolve())

    def local(self, key: str) -> Path:
        """Return the file of ``key``."""
        return self.folder / key

    def read(self, key: str) -> bytes | None:
        """Return a file's content."""
        try:
            return (self.folder / key).read_bytes()
        except _NOT_THERE:
            return None
        except OSError as error:
            raise ResultsError(f"{self.folder / key}: cannot be read: {error.strerror}") from None

    def write(self, key: str, content: bytes) -> None:
        """Write a file by one rename."""
        with self._writing(key) as path:
            replace_file(path, content)

    def create(self, key: str, content: bytes) -> bool:
        """Write a file by one link, which fails where there is one."""
        with self._writing(key) as path:
            try:
                link_file(path, content)
            except FileExistsError:
                # NFS: the link was made, its answer lost, and the second try found the first.
                return self.read(key) == content
        return True

    def list(self, folder: str) -> Iterator[tuple[str, int]]:
        """Walk the folder; names that begin with a dot are not ours."""
        try:
            yield from self._walk(folder)
        except _NOT_THERE:
            return
        except OSError as error:
            raise ResultsError(f"{self.root}: cannot be read: {error.strerror}") from None

    def _walk(self, folder: str) -> Iterator[tuple[str, int]]:
        with os.scandir(self.folder / folder) as entries:
            for entry in entries:
                key = f"{folder}/{entry.name}" if folder else entry.name
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    yield from self._walk(key)
                else:
                    with contextlib.suppress(FileNotFoundError):
                        yield key, entry.stat().st_mtime_ns

    @contextlib.contextmanager
    def _writing(self, key: str) -> Iterator[Path]:
        """Give the path of ``key`` in a folder that exists; what fails is one line."""
        path = self.folder / key
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield path
        except (FileExistsError, NotADirectoryError):
            raise ResultsError(
                f"{self.root}: is a file or lies in one; name a --results folder"
            ) from None
        except OSError as error:
            raise ResultsError(f"{path.parent}: cannot be written: {error.strerror}") from None

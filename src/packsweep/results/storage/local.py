"""Results in a folder: a disk, NFS, or whatever else is mounted and can link."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from packsweep.errors import ResultsError
from packsweep.files import link_file, replace_file
from packsweep.results.doubts import name_once

_NOT_THERE = (FileNotFoundError, NotADirectoryError)
_File = tuple[int, int]  # device and inode


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
        return self.folder / key

    def write(self, key: str, content: bytes) -> None:
        """Write a file by one rename; the root itself is not recreated where it was deleted."""
        with self._writing(key) as path:
            if not self.folder.is_dir():
                raise ResultsError(f"{self.root}: is not there; was it deleted or moved meanwhile?")
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(path, content)

    def create(self, key: str, content: bytes) -> bool:
        """Write a file by one link, which fails where there is one."""
        with self._writing(key) as path:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                link_file(path, content)
            except FileExistsError:
                # NFS: the link was made, its answer lost, and the second try found the first.
                return self.read(key) == content
        return True

    def list(self, folder: str) -> Iterator[tuple[str, int]]:
        """Walk the folder; names that begin with a dot are not ours."""
        if not (self.folder / folder).is_dir():
            return
        left: list[tuple[str, frozenset[_File]]] = [(folder, frozenset())]
        while left:
            key, above = left.pop()
            found = self._stat(key)
            if found is None:
                continue
            own = (found.st_dev, found.st_ino)
            if own in above:
                self._skip(key, stat.S_IFLNK)
            elif stat.S_ISDIR(found.st_mode):
                left += [(name, above | {own}) for name in self._keys(key)]
            elif stat.S_ISREG(found.st_mode):
                yield key, found.st_mtime_ns
            else:
                self._skip(key, found.st_mode)

    def _keys(self, folder: str) -> Sequence[str]:
        """Return what lies in one folder; nothing where it has just vanished."""
        try:
            names = [path.name for path in (self.folder / folder).iterdir()]
        except _NOT_THERE:
            return ()
        except OSError as error:
            message = f"{self.folder / folder}: cannot be read: {error.strerror}"
            raise ResultsError(message) from None
        return [f"{folder}/{name}" if folder else name for name in names if name[0] != "."]

    def _stat(self, key: str) -> os.stat_result | None:
        """Return what lies at a key; None where it has just vanished, or is a loop of links."""
        try:
            return (self.folder / key).stat()
        except _NOT_THERE:
            return None
        except OSError as error:
            if error.errno != errno.ELOOP:
                message = f"{self.folder / key}: cannot be read: {error.strerror}"
                raise ResultsError(message) from None
            self._skip(key, stat.S_IFLNK)
            return None

    def read(self, key: str) -> bytes | None:
        """Return a file's content; whoever opened a FIFO would wait forever."""
        found = self._stat(key)
        if found is None or stat.S_ISDIR(found.st_mode):
            return None
        if not stat.S_ISREG(found.st_mode):
            self._skip(key, found.st_mode)
            return None
        try:
            return (self.folder / key).read_bytes()
        except _NOT_THERE:
            return None
        except OSError as error:
            raise ResultsError(f"{self.folder / key}: cannot be read: {error.strerror}") from None

    def _skip(self, key: str, mode: int) -> None:
        kinds = {stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket", stat.S_IFLNK: "a loop of links"}
        kind = kinds.get(stat.S_IFMT(mode), "a device")
        line = f"{self.folder / key}: is {kind} and no file; it is ignored"
        name_once(line, kind=f"{self.folder} {kind}")

    @contextlib.contextmanager
    def _writing(self, key: str) -> Iterator[Path]:
        """Give the path of ``key``; what fails is one line."""
        path = self.folder / key
        try:
            yield path
        except (FileExistsError, NotADirectoryError):
            raise ResultsError(
                f"{self.root}: is a file or lies in one; name a --results folder"
            ) from None
        except OSError as error:
            raise ResultsError(f"{path.parent}: cannot be written: {error.strerror}") from None

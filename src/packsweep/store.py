"""Results on disk: where everything lies, and how a result becomes the one that counts.

    <root>/packsweep.json                              says that the folder is ours
    <root>/sweep.toml                                  the sweep file of the last run
    <root>/cells/<cell_id>/<attempt_id>.parquet        one row per repeat
    <root>/cells/<cell_id>/requests-<attempt_id>.parquet   one row per request
    <root>/cells/<cell_id>/COMMIT                      names the attempt that counts
    <root>/logs/<cell_id>/<attempt_id>.log             what the worker and its engine printed
    <root>/summary.parquet, summary.csv                one row per cell

Nothing is written in its final place: a whole file under a unique name, then one rename. ``COMMIT``
is made by a link that fails if it is there, so of two attempts the first wins; it holds the
attempt's id, the schema version and the file's hash. Failed attempts are files without a
``COMMIT``. A cell whose file is not the committed one, or has another schema, is not done.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packsweep import schema
from packsweep.errors import ResultsError

if TYPE_CHECKING:
    import pyarrow as pa

MARKER = "packsweep.json"
COMMIT = "COMMIT"
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Store:
    """The results of one sweep under ``root``."""

    root: Path

    @property
    def cells(self) -> Path:
        """Folder of all cells."""
        return self.root / "cells"

    @property
    def summary(self) -> Path:
        """Path of the summary table, without its ending."""
        return self.root / "summary"

    def cell(self, cell_id: str) -> Path:
        """Folder of one cell."""
        return self.cells / cell_id

    def attempt(self, cell_id: str, attempt_id: str) -> Path:
        """File with the passes of one attempt."""
        return self.cell(cell_id) / f"{attempt_id}.parquet"

    def requests(self, cell_id: str, attempt_id: str) -> Path:
        """File with the requests of one attempt."""
        return self.cell(cell_id) / f"requests-{attempt_id}.parquet"

    def log(self, cell_id: str, attempt_id: str) -> Path:
        """File with what the worker printed."""
        return self.root / "logs" / cell_id / f"{attempt_id}.log"

    def prepare(self) -> None:
        """Make the folder ours.

        Raises:
            ResultsError: it cannot be written, is a file, or holds something else.
        """
        with _as_results_error(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
            if not (self.root / MARKER).exists():
                self._refuse_foreign()
            self.cells.mkdir(exist_ok=True)
            replace_file(self.root / MARKER, json.dumps({"format": 1}).encode())

    def check(self) -> None:
        """Refuse to read a folder that holds no results.

        Raises:
            ResultsError: it is not there or is not ours.
        """
        if not self.root.exists():
            raise ResultsError(f"{self.root}: no such results folder; packsweep run makes it")
        if not (self.root / MARKER).is_file():
            raise ResultsError(f"{self.root}: holds no packsweep results (no {MARKER} in it)")

    def _refuse_foreign(self) -> None:
        found = next((p.name for p in self.root.iterdir() if not p.name.startswith(".")), None)
        if found is not None:
            raise ResultsError(
                f"{self.root}: holds something else ({found}); name another --results folder"
            )

    def write(
        self, cell_id: str, attempt_id: str, passes: Sequence[Row], requests: Sequence[Row]
    ) -> None:
        """Write an attempt's tables, each whole or not at all; nothing counts before ``commit``.

        Raises:
            ResultsError: the disk is full, or the folder cannot be written any more.
        """
        with _as_results_error(self.cell(cell_id)):
            if requests:
                _write_table(self.requests(cell_id, attempt_id), requests, schema.REQUESTS)
            _write_table(self.attempt(cell_id, attempt_id), passes, schema.PASSES)

    def commit(self, cell_id: str, attempt_id: str) -> bool:
        """Make ``attempt_id`` the one that counts; False if another was first.

        Raises:
            ResultsError: the folder cannot be written.
        """
        path = self.cell(cell_id) / COMMIT
        with _as_results_error(self.cell(cell_id)):
            content = _commit_text(self.attempt(cell_id, attempt_id), attempt_id)
            if path.exists() and not self.is_done(cell_id):
                replace_file(path, content)  # it names nothing that can be read
                return True
            with _scratch(path) as scratch:
                _write_synced(scratch, content)
                try:
                    os.link(scratch, path)
                except FileExistsError:
                    return False
        return True

    def committed(self, cell_id: str) -> str | None:
        """Return the attempt that counts, or None."""
        lines = self._commit_lines(cell_id)
        return lines[0] if lines else None

    def is_done(self, cell_id: str) -> bool:
        """Tell whether the cell's file is the committed one and has the current schema."""
        try:
            attempt_id, version, digest = self._commit_lines(cell_id)
            content = self.attempt(cell_id, attempt_id).read_bytes()
        except (OSError, ValueError):
            return False
        current = version == str(schema.SCHEMA_VERSION)
        return current and hashlib.sha256(content).hexdigest() == digest

    def _commit_lines(self, cell_id: str) -> list[str]:
        try:
            return (self.cell(cell_id) / COMMIT).read_text(encoding="ascii").split()
        except (OSError, UnicodeDecodeError):
            return []

    def engine(self) -> str | None:
        """Return the engine that the committed cells ran on, or None where there is none."""
        for cell_id in self.cell_ids():
            if self.is_done(cell_id):
                rows = self._rows(self.attempt(cell_id, str(self.committed(cell_id))), ["engine"])
                return None if rows is None else str(rows.column("engine")[0])
        return None

    def cell_ids(self) -> list[str]:
        """Return the cells that have a folder, in order of name."""
        if not self.cells.is_dir():
            return []
        return sorted(entry.name for entry in os.scandir(self.cells) if entry.is_dir())

    def attempts(self, cell_id: str) -> list[str]:
        """Return the attempts that left a file, committed or not, oldest first."""
        with contextlib.suppress(FileNotFoundError):
            files = [
                path
                for path in self.cell(cell_id).glob("*.parquet")
                if not path.name.startswith(("requests-", "."))
            ]
            return [path.stem for path in sorted(files, key=lambda path: path.stat().st_mtime_ns)]
        return []

    def counting(self, cell_id: str) -> str | None:
        """Return the committed attempt, else the last readable failed one, else None.

        An attempt that ended well but was killed before its commit is not measured.
        """
        if self.is_done(cell_id):
            return self.committed(cell_id)
        for attempt_id in reversed(self.attempts(cell_id)):
            rows = self._rows(self.attempt(cell_id, attempt_id), ["outcome"])
            if rows is not None and "ok" not in rows.column("outcome").to_pylist():
                return attempt_id
        return None

    def read_passes(self) -> pa.Table:
        """Return the passes of every cell: committed attempts, and failed ones where none is."""
        return self._read(self.attempt, schema.PASSES)

    def read_requests(self) -> pa.Table:
        """Return the requests of every attempt that ``read_passes`` returns."""
        return self._read(self.requests, schema.REQUESTS)

    def _read(
        self, path_of: Callable[[str, str], Path], columns: Sequence[schema.Column]
    ) -> pa.Table:
        import pyarrow as pa

        tables = [schema.arrow_schema(columns).empty_table()]
        for cell_id in self.cell_ids():
            attempt_id = self.counting(cell_id)
            rows = self._rows(path_of(cell_id, attempt_id)) if attempt_id else None
            if rows is not None:
                tables.append(rows)
        return pa.concat_tables(tables)

    def _rows(self, path: Path, columns: list[str] | None = None) -> pa.Table | None:
        """Return a table of ours; None where it is torn, empty, or of another schema."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            with pq.ParquetFile(path) as file:
                metadata = file.metadata
                version = (metadata.metadata or {}).get(schema.VERSION_KEY)
                if not metadata.num_rows or version != str(schema.SCHEMA_VERSION).encode():
                    return None
                return file.read(columns)
        except (OSError, pa.ArrowException):
            return None

    def write_summary(self, rows: Sequence[Row]) -> None:
        """Write the summary as Parquet and as CSV.

        Raises:
            ResultsError: the folder cannot be written.
        """
        import pyarrow.csv

        table = _table(rows, schema.SUMMARY)
        path = self.summary.with_suffix(".csv")
        with _as_results_error(self.root):
            _write_arrow(self.summary.with_suffix(".parquet"), table)
            with _scratch(path) as scratch:
                pyarrow.csv.write_csv(_flat(table), scratch)
                scratch.replace(path)


def replace_file(path: Path, content: bytes) -> None:
    """Write ``content`` under a unique name and move it to ``path`` in one step."""
    with _scratch(path) as scratch:
        _write_synced(scratch, content)
        scratch.replace(path)


@contextlib.contextmanager
def _scratch(path: Path) -> Iterator[Path]:
    """Give a unique name beside ``path``; whatever is still there in the end is removed."""
    scratch = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        yield scratch
    finally:
        scratch.unlink(missing_ok=True)


def _write_synced(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _commit_text(path: Path, attempt_id: str) -> bytes:
    """Return what ``COMMIT`` says of an attempt's file.

    Raises:
        ValueError: the file is no table of passes.
    """
    content = path.read_bytes()
    version = _schema_version(content)
    return f"{attempt_id}\n{version}\n{hashlib.sha256(content).hexdigest()}\n".encode()


def _schema_version(content: bytes) -> str:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        metadata = pq.read_metadata(pa.BufferReader(content))
        return str((metadata.metadata or {})[schema.VERSION_KEY].decode())
    except (OSError, pa.ArrowException, KeyError) as error:
        raise ValueError("no table of passes") from error


def _table(rows: Iterable[Row], columns: Sequence[schema.Column]) -> pa.Table:
    """Return rows as a table; a key that is no column is a mistake of ours."""
    import pyarrow as pa

    names = {column.name for column in columns}
    listed = list(rows)
    unknown = {key for row in listed for key in row} - names
    assert not unknown, f"no such columns: {sorted(unknown)}"
    return pa.Table.from_pylist(
        [{name: row.get(name) for name in names} for row in listed],
        schema=schema.arrow_schema(columns),
    )


def _flat(table: pa.Table) -> pa.Table:
    """Return a table without lists, which CSV does not know: their words with spaces between."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for index, field in enumerate(table.schema):
        if pa.types.is_list(field.type):
            joined = pc.binary_join(table.column(index), " ")
            table = table.set_column(index, field.name, joined)
    return table


def _write_table(path: Path, rows: Sequence[Row], columns: Sequence[schema.Column]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    _write_arrow(path, _table(rows, columns))


def _write_arrow(path: Path, table: pa.Table) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    replace_file(path, sink.getvalue().to_pybytes())


@contextlib.contextmanager
def _as_results_error(root: Path) -> Iterator[None]:
    try:
        yield
    except (FileExistsError, NotADirectoryError):
        raise ResultsError(f"{root}: is a file or lies in one; name a --results folder") from None
    except OSError as error:
        raise ResultsError(f"{root}: cannot be written: {error.strerror}") from None

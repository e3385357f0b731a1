"""The results of a sweep: what lies where, and how a result becomes the one that counts.

    packsweep.json                              says that the place is ours
    sweep.toml                                  the sweep file of the last run
    cells/<cell_id>/<attempt_id>.parquet        one row per repeat
    cells/<cell_id>/requests-<attempt_id>.parquet   one row per request
    cells/<cell_id>/COMMIT                      names the attempt that counts
    logs/<cell_id>/<attempt_id>.log             what the worker and its engine printed
    summary.parquet, summary.csv                one row per cell
    index/<id>.parquet                          of large sweeps: the passes of many cells

That is below a folder or below a prefix in an object store; ``storage/`` knows the difference.
Nothing is ever seen half written. ``COMMIT`` is made only where there is none, so of two attempts
the first wins; it holds the attempt's id, the schema version and the file's hash. Failed attempts
are files without a ``COMMIT``. A cell whose file is not the committed one, or has another schema,
is not done. What the storage cannot say is an error: never "not done", never "not there".
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from packsweep.errors import ResultsError
from packsweep.results import index, parquet, schema, storage
from packsweep.results.schema import Row

if TYPE_CHECKING:
    import pyarrow as pa

MARKER = "packsweep.json"
COMMIT = "COMMIT"
_CELLS = "cells"


@dataclass(frozen=True, slots=True)
class Store:
    """The results of one sweep at ``where``, a path or a URI."""

    where: str | os.PathLike[str]

    @property
    def storage(self) -> storage.Storage:
        """What the results lie in."""
        return storage.at(self.where)

    @property
    def root(self) -> str:
        """Where the results lie, as the user wrote it."""
        return self.storage.root

    @property
    def absolute(self) -> str:
        """Where the results lie, for other processes."""
        return self.storage.absolute

    @property
    def summary(self) -> str:
        """Where the summary table lies, without its ending."""
        return f"{self.root}/summary"

    def cell(self, cell_id: str) -> str:
        """Key of all that a cell has."""
        return f"{_CELLS}/{cell_id}"

    def attempt(self, cell_id: str, attempt_id: str) -> str:
        """Key of the passes of one attempt."""
        return f"{self.cell(cell_id)}/{attempt_id}.parquet"

    def requests(self, cell_id: str, attempt_id: str) -> str:
        """Key of the requests of one attempt."""
        return f"{self.cell(cell_id)}/requests-{attempt_id}.parquet"

    def log(self, cell_id: str, attempt_id: str) -> str:
        """Key of what the worker printed."""
        return f"logs/{cell_id}/{attempt_id}.log"

    def prepare(self) -> None:
        """Make the place ours.

        Raises:
            ResultsError: it cannot be written, is a file, holds something else, or would let a
                second attempt take the place of the first.
        """
        if self.storage.read(MARKER) is None:
            self._refuse_foreign()
        first, second = (json.dumps({"format": 1, **more}).encode() for more in ({}, {"again": 1}))
        if self.storage.create(MARKER, first) and self.storage.create(MARKER, second):
            raise ResultsError(
                f"{self.root}: the server ignores If-None-Match, so two attempts at a cell could "
                "both count; name another place with --results"
            )

    def check(self) -> None:
        """Refuse to read a place that holds no results.

        Raises:
            ResultsError: it is not there or is not ours.
        """
        if self.storage.read(MARKER) is not None:
            return
        folder = self.storage.local("")
        if folder is not None and not folder.exists():
            raise ResultsError(f"{self.root}: no such results folder; packsweep run makes it")
        raise ResultsError(f"{self.root}: holds no packsweep results (no {MARKER} in it)")

    def check_writable(self) -> None:
        """Refuse a place that cannot be written any more.

        Raises:
            ResultsError: it is gone, full, or not ours to write.
        """
        self.check()
        self.storage.write(MARKER, self.storage.read(MARKER) or b"")

    def _refuse_foreign(self) -> None:
        found = next((key for key, _ in self.storage.list("")), None)
        if found is not None:
            raise ResultsError(
                f"{self.root}: holds something else ({found}); name another --results folder"
            )

    def keep_sweep(self, content: bytes) -> None:
        """Keep the sweep file of this run beside its results."""
        self.storage.write("sweep.toml", content)

    def local_log(self, cell_id: str, attempt_id: str) -> Path | None:
        """Return the file that a log is written to as it grows; None where there are no files."""
        return self.storage.local(self.log(cell_id, attempt_id))

    def write_log(self, cell_id: str, attempt_id: str, content: bytes) -> None:
        """Keep a log that was written elsewhere."""
        self.storage.write(self.log(cell_id, attempt_id), content)

    def write(
        self, cell_id: str, attempt_id: str, passes: Sequence[Row], requests: Sequence[Row]
    ) -> None:
        """Write an attempt's tables, each whole or not at all; nothing counts before ``commit``.

        Raises:
            ResultsError: the disk is full, or the place cannot be written any more.
        """
        if requests:
            content = parquet.to_parquet(parquet.table(requests, schema.REQUESTS))
            self.storage.write(self.requests(cell_id, attempt_id), content)
        content = parquet.to_parquet(parquet.table(passes, schema.PASSES))
        self.storage.write(self.attempt(cell_id, attempt_id), content)

    def commit(self, cell_id: str, attempt_id: str) -> bool:
        """Make ``attempt_id`` the one that counts; False if another was first.

        Raises:
            ResultsError: the place cannot be written.
        """
        key = f"{self.cell(cell_id)}/{COMMIT}"
        content = self.storage.read(self.attempt(cell_id, attempt_id)) or b""
        version, digest = parquet.schema_version(content), hashlib.sha256(content).hexdigest()
        line = f"{attempt_id}\n{version}\n{digest}\n".encode()
        if self.storage.create(key, line):
            return True
        if self.is_done(cell_id):
            return False
        self.storage.write(key, line)  # what is there names nothing that can be read
        return True

    def committed(self, cell_id: str) -> str | None:
        """Return the attempt that counts, or None."""
        lines = self._commit_lines(cell_id)
        return lines[0] if lines else None

    def is_done(self, cell_id: str) -> bool:
        """Tell whether the cell's file is the committed one and has the current schema."""
        return self._committed_file(cell_id) is not None

    def done(self, cell_ids: Sequence[str]) -> set[str]:
        """Return those of ``cell_ids`` that are done."""
        found = storage.in_parallel(self.is_done, cell_ids)
        return {cell_id for cell_id, is_done in zip(cell_ids, found, strict=True) if is_done}

    def _committed_file(self, cell_id: str) -> tuple[str, bytes] | None:
        """Return the attempt that counts and its file; None where the cell is not done."""
        try:
            attempt_id, version, digest = self._commit_lines(cell_id)
        except ValueError:
            return None
        if version not in schema.READABLE:
            return None
        content = self.storage.read(self.attempt(cell_id, attempt_id))
        if content is None or hashlib.sha256(content).hexdigest() != digest:
            return None
        return attempt_id, content

    def _commit_lines(self, cell_id: str) -> list[str]:
        content = self.storage.read(f"{self.cell(cell_id)}/{COMMIT}") or b""
        return content.decode("ascii", errors="replace").split()

    def engine(self) -> str | None:
        """Return the engine that the committed cells ran on, or None where there is none."""
        for cell_id in self.cell_ids():
            found = self._committed_file(cell_id)
            if found is not None:
                rows = parquet.from_parquet(found[1], ["engine"])
                return None if rows is None else str(rows.column("engine")[0])
        return None

    def cell_ids(self) -> list[str]:
        """Return the cells that something lies of, in order of name."""
        return sorted(self.all_attempts())

    def attempts(self, cell_id: str) -> list[str]:
        """Return the attempts that left a file, committed or not, oldest first."""
        return _attempts(self.storage.list(self.cell(cell_id))).get(cell_id, [])

    def all_attempts(self) -> dict[str, list[str]]:
        """Return the ``attempts`` of every cell."""
        return _attempts(self.storage.list(_CELLS))

    def counting(self, cell_id: str) -> str | None:
        """Return the committed attempt, else the last readable failed one, else None.

        An attempt that ended well but was killed before its commit is not measured.
        """
        found = self._counting_file(cell_id, self.attempts(cell_id))
        return None if found is None else found[0]

    def _counting_file(self, cell_id: str, attempts: Sequence[str]) -> tuple[str, bytes] | None:
        if committed := self._committed_file(cell_id):
            return committed
        for attempt_id in reversed(attempts):
            content = self.storage.read(self.attempt(cell_id, attempt_id)) or b""
            rows = parquet.from_parquet(content, ["outcome"])
            if rows is not None and "ok" not in rows.column("outcome").to_pylist():
                return attempt_id, content
        return None

    def read_passes(self, *, keep: bool = False) -> pa.Table:
        """Return the passes of every cell: committed attempts, and failed ones where none is.

        In order of cell and repeat.

        Args:
            keep: add to the index what it lacks where that saves the next reader some time.

        Raises:
            ResultsError: the place cannot be read; or, with ``keep``, not be written.
        """
        return _in_order(self._tables(keep=keep))

    def _tables(self, *, keep: bool) -> list[pa.Table]:
        """Return the passes of every cell as ``read_passes`` does, in no order."""
        parts = self._index()
        known = index.known(parts)
        files: dict[str, str] = {}

        def new_file(one: tuple[str, list[str]]) -> _File | None:
            found = self._counting_file(*one)
            if found is None:
                return None
            file = _File(one[0], found[1])
            files[file.cell_id] = file.digest
            return None if file.digest in known.get(file.cell_id, ()) else file

        new = storage.in_parallel(new_file, sorted(self.all_attempts().items()))
        tables = [schema.arrow_schema(schema.PASSES).empty_table()]
        for part in _parts(new):
            tables.append(part.table)
            if keep and len(part.files) == index.NUM_TOGETHER:
                self.storage.write(index.new_key(), part.to_parquet())
        return [*tables, *index.select(parts, files)]

    def add_to_index(self, cell_ids: Sequence[str]) -> None:
        """Put the passes of cells that were committed into the index.

        Raises:
            ResultsError: the place cannot be read or written.
        """

        def file(cell_id: str) -> _File | None:
            found = self._committed_file(cell_id)
            return None if found is None else _File(cell_id, found[1])

        for part in _parts(storage.in_parallel(file, cell_ids)):
            self.storage.write(index.new_key(), part.to_parquet())

    def _index(self) -> list[index.Part]:
        """Return the parts of the index that can be used."""
        keys = [key for key, _ in self.storage.list(index.FOLDER)]
        parts = map(index.read, storage.in_parallel(self.storage.read, keys))
        return [part for part in parts if part is not None]

    def read_requests(self, cell_ids: Container[str] | None = None) -> pa.Table:
        """Return the requests of every attempt that ``read_passes`` returns.

        Args:
            cell_ids: of these cells alone.

        Raises:
            ResultsError: the place cannot be read.
        """

        def requests(one: tuple[str, list[str]]) -> bytes | None:
            if cell_ids is not None and one[0] not in cell_ids:
                return None
            found = self._counting_file(*one)
            return None if found is None else self.storage.read(self.requests(one[0], found[0]))

        contents = storage.in_parallel(requests, sorted(self.all_attempts().items()))
        tables = (table for table in map(parquet.from_parquet, contents) if table is not None)
        parts = [schema.arrow_schema(schema.REQUESTS).empty_table()]
        while some := list(islice(tables, index.NUM_TOGETHER)):
            parts.append(index.joined(some))
        return index.joined(parts)

    def write_summary(self, rows: Sequence[Row]) -> None:
        """Write the summary as Parquet and as CSV.

        Raises:
            ResultsError: the place cannot be written.
        """
        import pyarrow as pa

        table = parquet.table(rows, schema.SUMMARY)
        for name, written in (("parquet", parquet.to_parquet), ("csv", parquet.to_csv)):
            self.storage.write(f"summary.{name}", written(table))
            pa.default_memory_pool().release_unused()  # of thousands of cells tens of MB


class _File:
    """The file of passes that counts for a cell."""

    def __init__(self, cell_id: str, content: bytes) -> None:
        self.cell_id, self.content = cell_id, content
        self.digest = hashlib.sha256(content).hexdigest()


def _parts(files: Iterable[_File | None]) -> Iterator[index.Part]:
    """Yield the rows of many files in one piece each.

    Files are read in threads; decoding is work for the processor, which threads only hinder.
    """
    tables = (
        (file, table)
        for file in files
        if file is not None and (table := parquet.passes_from_parquet(file.content)) is not None
    )
    while some := list(islice(tables, index.NUM_TOGETHER)):
        digests = {file.cell_id: file.digest for file, _ in some}
        yield index.Part(index.joined(table for _, table in some), digests)


def _in_order(tables: list[pa.Table]) -> pa.Table:
    """Return the rows of ``tables``, which is emptied, in order of cell and repeat.

    A column at a time, each given back when it is copied: a large sweep's rows are 100 MB.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    left = pa.concat_tables(tables)
    tables.clear()
    columns, pool = left.schema, pa.default_memory_pool()
    order = pc.sort_indices(left, sort_keys=[("cell_id", "ascending"), ("repeat", "ascending")])
    ordered = []
    for name in columns.names:
        ordered.append(left[name].take(order))
        left = left.drop_columns([name])
        pool.release_unused()
    return pa.Table.from_arrays(ordered, schema=columns)


def _attempts(files: Iterable[tuple[str, int]]) -> dict[str, list[str]]:
    """Return cell -> attempts, oldest first, of the files below ``cells/``."""
    found: dict[str, list[str]] = {}
    for key, _ in sorted(files, key=lambda file: (file[1], file[0])):
        _, cell_id, *name = key.split("/")
        if not name:
            continue
        known = found.setdefault(cell_id, [])
        if name[0].endswith(".parquet") and not name[0].startswith(("requests-", ".")):
            known.append(name[0].removesuffix(".parquet"))
    return found

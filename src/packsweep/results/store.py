"""The results of a sweep: what lies where, and how a result becomes the one that counts.

    packsweep.json                              says that the place is ours
    sweep.toml, sweep_cells.json                the sweep file of the last run, and its cells
    cells/<cell_id>/<attempt_id>.parquet        one row per repeat
    cells/<cell_id>/requests-<attempt_id>.parquet   one row per request
    cells/<cell_id>/COMMIT                      names the attempt that counts and its files' hashes
    logs/<cell_id>/<attempt_id>.log             what the worker and its engine printed
    summary.parquet, summary.csv                one row per cell
    index/<id>.parquet                          of large sweeps: the passes of many cells

That is below a folder or below a prefix in an object store; ``storage/`` knows the difference.
Nothing is ever seen half written. ``COMMIT`` is made only where there is none, so of two attempts
the first wins. Failed attempts are files without a ``COMMIT``.

No file is believed: a cell is done when the committed files have the committed hashes and hold rows
of this cell and this attempt. What is there and does not count is named once, and hurts no other
cell. What the storage cannot say is an error: never "not done", never "not there".
"""

from __future__ import annotations

import json
import os
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from packsweep.errors import ResultsError
from packsweep.results import commit, index, parquet, schema, storage
from packsweep.results.commit import Commit
from packsweep.results.doubts import gathered, name_once
from packsweep.results.schema import Row

if TYPE_CHECKING:
    import pyarrow as pa

MARKER = "packsweep.json"
COMMIT = "COMMIT"
_CELLS = "cells"
_SWEEP, _SWEEP_CELLS = "sweep.toml", "sweep_cells.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptSweep:
    """The sweep that was run last; earlier versions did not list its cells."""

    text: str | None = None
    cell_ids: Sequence[str] | None = None


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
        return f"{self.cell(cell_id)}/{attempt_id}.parquet"

    def requests(self, cell_id: str, attempt_id: str) -> str:
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
            near = folder.parent / "results" / folder.name
            hint = f"did you mean {near}?" if near.is_dir() else "not made yet, or deleted"
            raise ResultsError(f"{self.root}: no such results folder; {hint}")
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
                f"{self.root}: contains other files ({found}); name another --results folder"
            )

    def keep_sweep(self, content: bytes, cell_ids: Sequence[str]) -> None:
        """Keep the sweep file of this run and its cells beside the results."""
        self.storage.write(_SWEEP_CELLS, json.dumps(cell_ids, indent=0).encode())
        self.storage.write(_SWEEP, content)

    def kept_sweep(self) -> KeptSweep:
        """Return what ``keep_sweep`` kept, as far as it is there."""
        text, listed = (self.storage.read(key) for key in (_SWEEP, _SWEEP_CELLS))
        cell_ids = None
        try:
            cell_ids = None if listed is None else tuple(map(str, json.loads(listed)))
        except (ValueError, TypeError):
            self._name(_SWEEP_CELLS, "is damaged")
        return KeptSweep(text=None if text is None else text.decode(), cell_ids=cell_ids)

    def local_log(self, cell_id: str, attempt_id: str) -> Path | None:
        """Return the file that a log is written to as it grows; None where there are no files.

        Raises:
            ResultsError: the place cannot be written, or is gone.
        """
        path = self.storage.local(self.log(cell_id, attempt_id))
        if path is None:
            return None
        self.check()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            message = f"{path.parent}: cannot be written: {error.strerror}"
            raise ResultsError(message) from None
        return path

    def write_log(self, cell_id: str, attempt_id: str, content: bytes) -> None:
        """Keep a log that was written elsewhere."""
        self.storage.write(self.log(cell_id, attempt_id), content)

    def write(
        self, cell_id: str, attempt_id: str, passes: Sequence[Row], requests: Sequence[Row]
    ) -> None:
        """Write an attempt's tables, each whole or not at all; nothing counts before ``commit``.

        Raises:
            ResultsError: the disk is full, or the place cannot be written any more or is gone.
        """
        self.check()
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
        key, line = f"{self.cell(cell_id)}/{COMMIT}", self._to_commit(cell_id, attempt_id)
        if self.storage.create(key, line):
            return True
        if self.is_done(cell_id):
            return False
        self.storage.write(key, line)  # what is there names nothing that can be read
        return True

    def _to_commit(self, cell_id: str, attempt_id: str) -> bytes:
        """Return the ``COMMIT`` of files as they lie there now."""
        key = self.attempt(cell_id, attempt_id)
        content = self.storage.read(key)
        table = parquet.from_parquet(content)
        if content is None or table is None or parquet.owners(table) != {(cell_id, attempt_id)}:
            raise ResultsError(f"{self.root}/{key}: is not there as it was written")
        version = table.schema.metadata[schema.VERSION_KEY].decode()
        requests = self.storage.read(self.requests(cell_id, attempt_id))
        return Commit.of(attempt_id, version, content, requests).to_bytes()

    def committed(self, cell_id: str) -> str | None:
        """Return the attempt that counts, or None."""
        found = self._commit(cell_id)
        return None if found is None else found.attempt_id

    def is_done(self, cell_id: str) -> bool:
        """Return whether the cell's files are the committed ones and can be read."""
        file = self._committed_file(cell_id)
        return file is not None and self._requests_of(file) is not None

    @gathered()
    def done(self, cell_ids: Sequence[str]) -> set[str]:
        found = storage.in_parallel(self.is_done, cell_ids)
        return {cell_id for cell_id, is_done in zip(cell_ids, found, strict=True) if is_done}

    def _commit(self, cell_id: str) -> Commit | None:
        key = f"{self.cell(cell_id)}/{COMMIT}"
        content = self.storage.read(key)
        found = None if content is None else commit.read(content)
        if content is not None and found is None:
            self._name(key, "names no attempt of a schema that is read here")
        return found

    def _committed_file(self, cell_id: str, known: Container[str] = ()) -> _File | None:
        """Return the file of the attempt that counts; None where the cell is not done.

        Args:
            cell_id: the cell.
            known: hashes of its files whose rows need not be read again.
        """
        named = self._commit(cell_id)
        if named is None:
            return None
        key = self.attempt(cell_id, named.attempt_id)
        content = self.storage.read(key)
        if content is None or commit.sha256(content) != named.passes:
            self._name(key, "is not there" if content is None else "is not as it was committed")
            return None
        file = _File(cell_id, named.attempt_id, content, named)
        if named.passes in known or self._rows(file) is not None:
            return file
        return None

    def _rows(self, file: _File) -> pa.Table | None:
        """Return the outcomes in a file of passes; None where they are not of its attempt."""
        key = self.attempt(file.cell_id, file.attempt_id)
        table = parquet.from_parquet(file.content, ["cell_id", "attempt_id", "outcome"])
        if table is None:
            self._name(key, "is damaged, or no file of this version of packsweep")
            return None
        return table if self._are_own(table, key, file) else None

    def _are_own(self, table: pa.Table, key: str, file: _File) -> bool:
        own = (file.cell_id, file.attempt_id)
        owners = parquet.owners(table)
        if owners != {own}:
            others = [f"{cell_id} (attempt {attempt})" for cell_id, attempt in owners - {own}]
            whose = min(others, default="of no cell")
            self._name(key, "holds other rows than its own", whose)
        return owners == {own}

    def _name(self, key: str, what: str, detail: str = "") -> None:
        """Name a file that does not count, a table of requests apart from one of passes."""
        told = f"{what}: {detail}" if detail else what
        of = "requests" if key.rpartition("/")[2].startswith("requests-") else "passes"
        name_once(f"{self.root}/{key}: {told}; it does not count", kind=f"{self.root} {of} {what}")

    def _requests_of(self, file: _File) -> bytes | None:
        """Return an attempt's file of requests, empty if none; None if it is not the committed."""
        key = self.requests(file.cell_id, file.attempt_id)
        content = self.storage.read(key)
        if file.commit is not None and not file.commit.has_requests(content):
            self._name(key, "is not there" if content is None else "is not as it was committed")
            return None
        return content or b""

    @gathered()
    def engine(self) -> str | None:
        """Return the engine that the committed cells ran on, or None where there is none."""
        for cell_id in self.cell_ids():
            file = self._committed_file(cell_id)
            if file is not None:
                rows = parquet.from_parquet(file.content, ["engine"])
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

    def _counting_file(
        self, cell_id: str, attempts: Sequence[str], known: Container[str] = ()
    ) -> _File | None:
        """Return the file of the committed attempt, else of the last failed one, else None.

        An attempt that ended well but was killed before its commit is not measured.
        """
        if committed := self._committed_file(cell_id, known):
            return committed
        for attempt_id in reversed(attempts):
            content = self.storage.read(self.attempt(cell_id, attempt_id))
            if content is None:
                continue
            file = _File(cell_id, attempt_id, content)
            rows = self._rows(file)
            if rows is not None and "ok" not in rows.column("outcome").to_pylist():
                return file
        return None

    @gathered()
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
            cell_id, attempts = one
            file = self._counting_file(cell_id, attempts, known.get(cell_id, ()))
            if file is None:
                return None
            files[cell_id] = file.digest
            return None if file.digest in known.get(cell_id, ()) else file

        new = storage.in_parallel(new_file, sorted(self.all_attempts().items()))
        tables = [schema.arrow_schema(schema.PASSES).empty_table()]
        for part in _parts(new):
            tables.append(part.table)
            if keep and len(part.files) == index.NUM_TOGETHER:
                self.storage.write(index.new_key(), part.to_parquet())
        return [*tables, *index.select(parts, files)]

    @gathered()
    def add_to_index(self, cell_ids: Sequence[str]) -> None:
        """Put the passes of cells that were committed into the index.

        Raises:
            ResultsError: the place cannot be read or written.
        """
        for part in _parts(storage.in_parallel(self._committed_file, cell_ids)):
            self.storage.write(index.new_key(), part.to_parquet())

    def _index(self) -> list[index.Part]:
        """Return the parts of the index that can be used."""
        keys = [key for key, _ in self.storage.list(index.FOLDER)]
        found = []
        for key, content in zip(keys, storage.in_parallel(self.storage.read, keys), strict=True):
            part = index.read(content)
            if part is not None:
                found.append(part)
            elif content is not None:
                what = "is damaged or of another version; cells are read one by one"
                name_once(f"{self.root}/{key}: {what}", kind=f"{self.root} {what}")
        return found

    @gathered()
    def read_requests(self, cell_ids: Container[str] | None = None) -> pa.Table:
        """Return the requests of every attempt that ``read_passes`` returns.

        Args:
            cell_ids: of these cells alone.

        Raises:
            ResultsError: the place cannot be read.
        """

        def requests(one: tuple[str, list[str]]) -> tuple[_File, bytes] | None:
            if cell_ids is not None and one[0] not in cell_ids:
                return None
            file = self._counting_file(*one)
            content = None if file is None else self._requests_of(file)
            return (file, content) if file is not None and content else None

        contents = storage.in_parallel(requests, sorted(self.all_attempts().items()))
        tables = (
            table
            for one in contents
            if one is not None and (table := self._request_rows(*one)) is not None
        )
        parts = [schema.arrow_schema(schema.REQUESTS).empty_table()]
        while some := list(islice(tables, index.NUM_TOGETHER)):
            parts.append(index.joined(some))
        return index.joined(parts)

    def _request_rows(self, file: _File, content: bytes) -> pa.Table | None:
        key = self.requests(file.cell_id, file.attempt_id)
        table = parquet.requests_from_parquet(content)
        if table is None:
            self._name(key, "is damaged, or no file of this version of packsweep")
            return None
        return table if self._are_own(table, key, file) else None

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


@dataclass(frozen=True, slots=True)
class _File:
    """The file of passes that counts for a cell; a failed attempt has no ``commit``."""

    cell_id: str
    attempt_id: str
    content: bytes
    commit: Commit | None = None

    @property
    def digest(self) -> str:
        """The hash by which the index knows it."""
        return self.commit.passes if self.commit else commit.sha256(self.content)


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
        _, cell_id, *names = key.split("/")
        if not names:
            continue
        known = found.setdefault(cell_id, [])
        name = names[0].removesuffix(".parquet")
        is_requests = name.startswith("requests-")
        if names == [f"{name}.parquet"] and not is_requests and commit.is_attempt(name):
            known.append(name)
    return found

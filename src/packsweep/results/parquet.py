"""Rows as Parquet files and back, with the one explicit schema that every file carries.

A file is sealed: its metadata holds the SHA-256 of all its bytes, those of the hash read as zeros.
So a flipped bit is found wherever it is, also in files that no ``COMMIT`` names.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from packsweep.results import schema
from packsweep.results.schema import Row

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

_MANY_ROWS = 50
# From so many on, compressing takes more off a file than half a millisecond of reading is worth.
_SOME_ROWS = 8
# What a spreadsheet takes for the beginning of a formula.
_FORMULA = r"[=+\-@\t\r]"
_SEAL_KEY = b"packsweep.sha256"
_NO_SEAL = b"0" * 64
_READABLE = frozenset(version.encode() for version in schema.READABLE)
_UNSEALED = frozenset(version.encode() for version in schema.UNSEALED)


def table(rows: Iterable[Row], columns: Sequence[schema.Column]) -> pa.Table:
    """Return rows as a table; a key that is no column is a mistake of ours."""
    import pyarrow as pa

    types = schema.arrow_schema(columns)
    listed = list(rows)
    unknown = {key for row in listed for key in row} - set(types.names)
    assert not unknown, f"no such columns: {sorted(unknown)}"
    arrays = [pa.array([row.get(each.name) for row in listed], each.type) for each in types]
    return pa.Table.from_arrays(arrays, schema=types)


def to_parquet(found: pa.Table) -> bytes:
    """Return a table as a Parquet file.

    A few rows in a hundred columns are hardly smaller for compression and dictionaries, and take
    three times as long to read back; 20 rows are a third of the size if compressed alone. Parquet's
    own types say all that ours do, so Arrow's form of the schema, a third of such a file, is left
    out.
    """
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    many = found.num_rows >= _MANY_ROWS
    with pq.ParquetWriter(
        sink,
        found.schema,
        compression="zstd" if found.num_rows >= _SOME_ROWS else "none",
        use_dictionary=many,
        write_statistics=many,
        store_schema=False,
    ) as writer:
        writer.write_table(found)
        writer.add_key_value_metadata({**(found.schema.metadata or {}), _SEAL_KEY: _NO_SEAL})
    return _with_seal(sink.getvalue(), _NO_SEAL)


def _with_seal(content: bytes, before: bytes) -> bytes:
    """Return a file whose seal is ``before`` with the right one; it stands last of such words."""
    head, _, tail = content.rpartition(before)
    digest = hashlib.sha256(head + _NO_SEAL + tail).hexdigest()
    return head + digest.encode() + tail


def _is_whole(content: bytes, metadata: Mapping[bytes, bytes]) -> bool:
    """Return whether a file is as it was written; one of the time before there were seals passes.

    One flipped bit in the seal's name, and a file of today has none: it is not whole.
    """
    seal = metadata.get(_SEAL_KEY)
    if seal is None:
        return metadata.get(schema.VERSION_KEY) in _UNSEALED
    return len(seal) == len(_NO_SEAL) and _with_seal(content, seal) == content


def from_parquet(
    content: bytes | None, columns: list[str] | None = None, *, sealed: bool = False
) -> pa.Table | None:
    """Return the table in a file of ours; None where there is none, or none that can be used.

    It may be torn, empty, or of another schema; or without a seal, which files of this schema have,
    and all that must be ``sealed``.
    """
    if content is None:
        return None
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(pa.BufferReader(content)) as file:
            metadata = file.metadata.metadata or {}
            version = metadata.get(schema.VERSION_KEY)
            if not file.metadata.num_rows or version not in _READABLE:
                return None
            if not _is_whole(content, metadata) or (sealed and _SEAL_KEY not in metadata):
                return None
            return _read(file, columns)
    except (OSError, pa.ArrowException, ValueError):
        return None


def _read(file: pq.ParquetFile, columns: list[str] | None) -> pa.Table:
    """Read ``columns``, all if None; those of an earlier schema come under their present names."""
    stored = set(file.schema_arrow.names)
    former = {old: new for new, old in schema.FORMER_NAMES.items() if old in stored}
    present = {new: old for old, new in former.items()}
    wanted = None if columns is None else [present.get(name, name) for name in columns]
    found = file.read(wanted, use_threads=False)
    names = [former.get(name, name) for name in found.column_names]
    metadata = {key: text for key, text in found.schema.metadata.items() if key != _SEAL_KEY}
    return found.rename_columns(names).replace_schema_metadata(metadata)


def owners(table: pa.Table) -> set[tuple[str, str]]:
    """Return the cells and attempts whose rows a table holds; a foreign one has none."""
    names = ("cell_id", "attempt_id")
    if not set(names) <= set(table.column_names):
        return set()
    return set(zip(*(table.column(name).to_pylist() for name in names), strict=True))


def passes_from_parquet(content: bytes | None, *, sealed: bool = False) -> pa.Table | None:
    """Return the passes in a file of ours, one of an earlier version in the form of this one.

    A column that the file lacks holds what it would have held, else null; one that is not known
    here is left out.
    """
    found = from_parquet(content, sealed=sealed)
    if found is None:
        return None
    import pyarrow as pa

    now = schema.arrow_schema(schema.PASSES)
    stored = set(found.column_names)
    found = found.select([name for name in now.names if name in stored])
    for index, (column, field) in enumerate(zip(schema.PASSES, now, strict=True)):
        if column.name not in stored:
            found = found.add_column(index, field, pa.array(_former(column, found), field.type))
    return found.replace_schema_metadata({**(found.schema.metadata or {}), **now.metadata})


def _former(column: schema.Column, found: pa.Table) -> list[str | int | None]:
    """Return what the rows of an earlier version would have held in ``column``."""
    if not column.formerly_where:
        return [column.formerly] * found.num_rows
    known = found.column(column.formerly_where).is_valid().to_pylist()
    return [column.formerly if each else None for each in known]


def requests_from_parquet(content: bytes | None) -> pa.Table | None:
    """Return the requests in a file of ours; a column that its version did not have is null."""
    found = from_parquet(content)
    if found is None:
        return None
    import pyarrow as pa

    now = schema.arrow_schema(schema.REQUESTS)
    for field in now:
        if field.name not in found.column_names:
            found = found.append_column(field, pa.nulls(found.num_rows, field.type))
    return found.select(now.names).replace_schema_metadata(now.metadata)


def to_csv(found: pa.Table) -> bytes:
    """Return a table as CSV, which knows no lists: their words with spaces between.

    A text that a spreadsheet would take for a formula gets an apostrophe before it.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.csv

    for index, field in enumerate(found.schema):
        column = found.column(index)
        if pa.types.is_list(field.type):
            column = pc.binary_join(column, " ")
        if pa.types.is_string(column.type):
            column = pc.replace_substring_regex(column, f"^({_FORMULA})", r"'\1")
            found = found.set_column(index, field.name, column)
    sink = io.BytesIO()
    pyarrow.csv.write_csv(found, sink)
    return sink.getvalue()


def guarded(text: str) -> str:
    """Return a text for a CSV cell, which no spreadsheet takes for a formula."""
    return f"'{text}" if re.match(_FORMULA, text) else text

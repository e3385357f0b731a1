"""Rows as Parquet files and back, with the one explicit schema that every file carries."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from packsweep.results import schema
from packsweep.results.schema import Row

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

_MANY_ROWS = 50
_READABLE = frozenset(version.encode() for version in schema.READABLE)


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
    three times as long to read back. Parquet's own types say all that ours do, so Arrow's form of
    the schema, a third of such a file, is left out.
    """
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    many = found.num_rows >= _MANY_ROWS
    with pq.ParquetWriter(
        sink,
        found.schema,
        compression="zstd" if many else "none",
        use_dictionary=many,
        write_statistics=many,
        store_schema=False,
    ) as writer:
        writer.write_table(found)
        writer.add_key_value_metadata(found.schema.metadata)
    return sink.getvalue()


def from_parquet(content: bytes | None, columns: list[str] | None = None) -> pa.Table | None:
    """Return the table in a file of ours; None where there is none, or none that can be used.

    It may be torn, empty, or of another schema.
    """
    if content is None:
        return None
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(pa.BufferReader(content)) as file:
            metadata = file.metadata
            version = (metadata.metadata or {}).get(schema.VERSION_KEY)
            if not metadata.num_rows or version not in _READABLE:
                return None
            return _read(file, columns)
    except (OSError, pa.ArrowException):
        return None


def _read(file: pq.ParquetFile, columns: list[str] | None) -> pa.Table:
    """Read ``columns``, all if None; those of an earlier schema come under their present names."""
    stored = set(file.schema_arrow.names)
    former = {old: new for new, old in schema.FORMER_NAMES.items() if old in stored}
    present = {new: old for old, new in former.items()}
    wanted = None if columns is None else [present.get(name, name) for name in columns]
    found = file.read(wanted, use_threads=False)
    names = [former.get(name, name) for name in found.column_names]
    return found.rename_columns(names).replace_schema_metadata(found.schema.metadata)


def passes_from_parquet(content: bytes | None) -> pa.Table | None:
    """Return the passes in a file of ours, one of an earlier version in the form of this one."""
    found = from_parquet(content)
    if found is None:
        return None
    import pyarrow as pa

    now = schema.arrow_schema(schema.PASSES)
    for index, column in enumerate(schema.PASSES):
        if column.formerly is not None and column.name not in found.column_names:
            values = pa.repeat(column.formerly, found.num_rows)
            found = found.add_column(index, now.field(column.name), values)
    return found.replace_schema_metadata({**(found.schema.metadata or {}), **now.metadata})


def schema_version(content: bytes) -> str:
    """Return the schema version in a file's footer.

    Raises:
        ValueError: the file is no table of ours.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        metadata = pq.read_metadata(pa.BufferReader(content))
        return str((metadata.metadata or {})[schema.VERSION_KEY].decode())
    except (OSError, pa.ArrowException, KeyError) as error:
        raise ValueError("no table of passes") from error


def to_csv(found: pa.Table) -> bytes:
    """Return a table as CSV, which knows no lists: their words with spaces between."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.csv

    for index, field in enumerate(found.schema):
        if pa.types.is_list(field.type):
            joined = pc.binary_join(found.column(index), " ")
            found = found.set_column(index, field.name, joined)
    sink = io.BytesIO()
    pyarrow.csv.write_csv(found, sink)
    return sink.getvalue()

"""The passes of all cells in one file, so that thousands of small ones are decoded once.

A copy and never the truth: it says of every cell which file its rows came from, by hash, and they
count only while that is the file that counts. Deleting it costs time and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from packsweep import arrow, schema

if TYPE_CHECKING:
    import pyarrow as pa

KEY = "index.parquet"
# Fewer new files than this are read again as fast as an index is written.
WORTH_KEEPING = 200
_FILES_KEY = b"packsweep.files"
_NUM_TOGETHER = 256


@dataclass(frozen=True, slots=True)
class Index:
    """Rows of many cells, and cell -> SHA-256 of the file that they came from."""

    table: pa.Table
    files: Mapping[str, str]

    def with_rows(self, cell_ids: Collection[str], more: pa.Table) -> pa.Table:
        """Return the rows of some of the cells and ``more``, in order of cell and repeat."""
        import pyarrow as pa
        import pyarrow.compute as pc

        if len(cell_ids) == len(self.files) and not more.num_rows:
            return self.table  # as it is: a large sweep's rows are 100 MB, and once is enough
        wanted = pa.array(list(cell_ids), pa.string())
        kept = self.table.filter(pc.is_in(self.table["cell_id"], value_set=wanted))
        order = [("cell_id", "ascending"), ("repeat", "ascending")]
        return pa.concat_tables([kept, more]).sort_by(order)

    def to_parquet(self) -> bytes:
        """Return the index as a file."""
        metadata = {**self.table.schema.metadata, _FILES_KEY: json.dumps(dict(self.files))}
        return arrow.to_parquet(self.table.replace_schema_metadata(metadata))


def read(content: bytes | None) -> Index:
    """Return the index in a file; an empty one where there is none that can be used."""
    columns = schema.arrow_schema(schema.PASSES)
    table = arrow.from_parquet(content)
    if table is not None:
        files = (table.schema.metadata or {}).get(_FILES_KEY)
        table = table.replace_schema_metadata(columns.metadata)
        if files is not None and table.schema.equals(columns):
            return Index(table, json.loads(files))
    return Index(columns.empty_table(), {})


def concatenated(tables: Iterator[pa.Table], columns: pa.Schema) -> pa.Table:
    """Return the rows of all tables; many at a time, since a small table has a large overhead."""
    import pyarrow as pa

    parts = [columns.empty_table()]
    while some := list(islice(tables, _NUM_TOGETHER)):
        parts.append(pa.concat_tables(some).combine_chunks())
    return pa.concat_tables(parts)

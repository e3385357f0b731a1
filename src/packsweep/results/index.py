"""The passes of many cells in a few files, so that thousands of small ones are decoded once.

A copy and never the truth: a part of it says of every cell which file its rows came from, by hash,
and they count only while that is the file that counts. Parts are written whole, under names of
their own, and never changed: a driver adds one for every so many cells that it sees end, a merge
those that are missing; of two that hold the same cell either will do. Deleting them costs time and
nothing else.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from packsweep.results import parquet, schema

if TYPE_CHECKING:
    import pyarrow as pa

FOLDER = "index"
# Cells of a part. Fewer are read again as fast as a part is written.
NUM_TOGETHER = 200
_FILES_KEY = b"packsweep.files"


@dataclass(frozen=True, slots=True)
class Part:
    """Rows of some cells, and cell -> SHA-256 of the file that they came from."""

    table: pa.Table
    files: Mapping[str, str]

    def of_cells(self, cell_ids: Sequence[str]) -> pa.Table:
        """Return the rows of some of its cells."""
        import pyarrow as pa
        import pyarrow.compute as pc

        if len(cell_ids) == len(self.files):
            return self.table
        wanted = pa.array(cell_ids, pa.string())
        return self.table.filter(pc.is_in(self.table["cell_id"], value_set=wanted))

    def to_parquet(self) -> bytes:
        metadata = {**self.table.schema.metadata, _FILES_KEY: json.dumps(dict(self.files))}
        return parquet.to_parquet(self.table.replace_schema_metadata(metadata))


def new_key() -> str:
    return f"{FOLDER}/{uuid.uuid4().hex}.parquet"


def read(content: bytes | None) -> Part | None:
    """Return the part in a file; None where it cannot be used: torn, of another schema or form."""
    table = parquet.passes_from_parquet(content, sealed=True)
    if table is None:
        return None
    columns = schema.arrow_schema(schema.PASSES)
    files = json.loads((table.schema.metadata or {}).get(_FILES_KEY, "{}"))
    table = table.replace_schema_metadata(columns.metadata)
    if not table.schema.equals(columns) or set(table["cell_id"].to_pylist()) != set(files):
        return None
    return Part(table, files)


def known(parts: Iterable[Part]) -> dict[str, set[str]]:
    """Return cell -> hashes of the files whose rows some part holds."""
    found: dict[str, set[str]] = {}
    for part in parts:
        for cell_id, digest in part.files.items():
            found.setdefault(cell_id, set()).add(digest)
    return found


def select(parts: Iterable[Part], files: Mapping[str, str]) -> Iterator[pa.Table]:
    """Yield the rows that came from ``files``, cell -> hash, each once."""
    left = dict(files)
    for part in parts:
        some = [cell_id for cell_id, digest in part.files.items() if left.get(cell_id) == digest]
        for cell_id in some:
            del left[cell_id]
        if some:
            yield part.of_cells(some)


def joined(tables: Iterable[pa.Table]) -> pa.Table:
    """Return the rows of all tables in one piece; many small ones have a large overhead."""
    import pyarrow as pa

    return pa.concat_tables(tables).combine_chunks()

"""A checked copy of each texts file, so that only the first use of a file reads all of it.

The copy is a Parquet file in the cache folder with the columns ``text`` and ``label`` in
small row groups; the first rows are read without the others. It carries the absolute path of its
source and a stamp (size and modification time). A copy that is torn, of another source or of an
older state of it is ignored and rewritten. Without a writable cache folder, everything works
and each use reads the whole file.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from packsweep.errors import TextsError, counted
from packsweep.files import cache_root
from packsweep.sweep.texts.text import LabelledText, shuffled

if TYPE_CHECKING:
    import pyarrow.parquet as pq

# Part of the stamp: a change of what is written, or of how a source is read, makes copies stale.
_FORMAT = "packsweep-texts-3"
_ROWS_PER_GROUP = 500


def folder() -> Path:
    """Return the folder for copies and downloads; it need not exist."""
    return cache_root() / "texts"


def select(
    path: Path,
    stamp: str,
    read: Callable[[Path], list[LabelledText]],
    *,
    limit: int,
    seed: int | None,
    notes: list[str] | None = None,
) -> tuple[LabelledText, ...]:
    """Return ``limit`` texts of the source at ``path``.

    Args:
        path: the source.
        stamp: changes when the source changes.
        read: reads and checks the whole source; called only where there is no copy of it.
        limit: how many texts are wanted.
        seed: shuffles the whole set before the first ``limit`` are taken; None keeps its order.
        notes: where ``read`` leaves what it guessed, and takes from the copy what it guessed then.

    Raises:
        TextsError: the source cannot be used, or holds fewer texts.
    """
    notes = [] if notes is None else notes
    absolute = Path(os.path.abspath(path))  # noqa: PTH100  (also removes "..")
    copy = folder() / f"{hashlib.sha256(str(absolute).encode()).hexdigest()[:24]}.parquet"
    key = f"{_FORMAT}\n{stamp}\n{absolute}"
    selected = _from_copy(copy, key, path, limit=limit, seed=seed, notes=notes)
    if selected is not None:
        return selected
    texts = read(path)
    # A read-only or full disk costs time at the next use, not the result of this one.
    with contextlib.suppress(OSError):
        _write(copy, key, texts, notes)
    return tuple(texts[row] for row in _chosen(path, len(texts), limit, seed))


def _chosen(path: Path, num_rows: int, limit: int, seed: int | None) -> Sequence[int]:
    if limit > num_rows:
        message = f"{path}: holds {counted(num_rows, 'text')}, but {limit:,} are needed"
        raise TextsError(f"{message}; use a smaller n or a larger file")
    return range(limit) if seed is None else shuffled(num_rows, seed)[:limit]


def _from_copy(
    copy: Path, key: str, path: Path, *, limit: int, seed: int | None, notes: list[str]
) -> tuple[LabelledText, ...] | None:
    if not copy.exists():
        return None
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(copy, page_checksum_verification=True) as file:
            about = file.schema_arrow.metadata or {}
            if about.get(b"source") != key.encode():
                return None
            rows = _chosen(path, file.metadata.num_rows, limit, seed)
            found = tuple(_read_rows(file, rows))
            notes += about.get(b"notes", b"").decode().splitlines()
            return found
    except (pa.ArrowException, OSError, UnicodeDecodeError):
        return None


def _read_rows(file: pq.ParquetFile, rows: Sequence[int]) -> Iterator[LabelledText]:
    groups = range(file.num_row_groups)
    if isinstance(rows, range):
        groups = range(-(-len(rows) // _ROWS_PER_GROUP))
    table = file.read_row_groups(list(groups)).combine_chunks()
    # Item by item: Arrow's take() would import pandas to look at a list of indices.
    texts, labels = table.column("text"), table.column("label")
    for row in rows:
        yield LabelledText(text=texts[row].as_py(), label=labels[row].as_py())


def _write(copy: Path, key: str, texts: Sequence[LabelledText], notes: Sequence[str]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {
        "text": pa.array([text.text for text in texts], pa.large_string()),
        "label": pa.array([text.label for text in texts], pa.string()),
    }
    table = pa.table(columns).replace_schema_metadata({"source": key, "notes": "\n".join(notes)})
    copy.parent.mkdir(parents=True, exist_ok=True)
    part = copy.with_name(f"{copy.name}.{uuid.uuid4().hex}.part")
    try:
        pq.write_table(table, part, row_group_size=_ROWS_PER_GROUP, write_page_checksum=True)
        part.replace(copy)
    finally:
        part.unlink(missing_ok=True)

"""Texts from a CSV or a Parquet file with the columns ``review`` and ``sentiment``.

A file is read and checked as a whole, row by row; the first thing that is wrong ends it with one
line that names the file and the row. Rows are counted from 1 and without the header, lines from 1
and with it. Texts that occur twice are allowed: the IMDB set has some.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import lzma
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from packsweep.errors import TextsError
from packsweep.sweep.texts.text import LabelledText, checked

if TYPE_CHECKING:
    from _csv import Reader

    import pyarrow as pa

COLUMNS = ("review", "sentiment")

CSV_SUFFIXES = (".csv", ".csv.gz", ".csv.xz")
PARQUET_SUFFIXES = (".parquet",)


def read_csv(path: Path) -> list[LabelledText]:
    """Read every row of a CSV file, which may be packed with gzip or xz.

    The file is UTF-8, with or without a byte order mark; the separator is a comma. A quoted field
    may hold line breaks. Other columns than the two are ignored, and so are empty lines at the end.

    Raises:
        TextsError: the file cannot be read, or a row of it cannot be used.
    """
    try:
        with _open(path) as lines:
            texts = list(_rows(path, lines))
    except (gzip.BadGzipFile, lzma.LZMAError, zlib.error, EOFError) as error:
        kind = path.suffix.lower().removeprefix(".")
        message = f"{path}: is not a whole {kind} file ({error}); copy it again or unpack it"
        raise TextsError(message) from None
    except OSError as error:
        raise TextsError(f"{path}: cannot be read: {error.strerror or error}") from None
    if not texts:
        raise TextsError(f"{path}: holds no texts, only the header")
    return texts


def _open(path: Path) -> IO[bytes]:
    if path.suffix.lower() == ".gz":
        return cast("IO[bytes]", gzip.open(path, "rb"))
    if path.suffix.lower() == ".xz":
        return cast("IO[bytes]", lzma.open(path, "rb"))
    return path.open("rb")


def _rows(path: Path, packed: Iterable[bytes]) -> Iterator[LabelledText]:
    # strict: a stray or an open quote is an error, not a guess at what was meant.
    rows = csv.reader(_lines(path, packed), strict=True)
    header = _next(path, rows, row=0)
    if header is None:
        raise TextsError(f"{path}: is empty; expected the columns {','.join(COLUMNS)}")
    text_at, label_at = _positions(path, header)
    row, start = 0, rows.line_num + 1
    while (fields := _next(path, rows, row=row + 1)) is not None:
        row += 1
        where = f"{path}: row {row} (line {start})"
        if not fields and _only_empty_lines(rows):
            return
        if len(fields) != len(header):
            raise TextsError(f"{where}: {_wrong_width(len(fields), len(header))}")
        yield checked(fields[text_at], fields[label_at], where)
        start = rows.line_num + 1


def _lines(path: Path, packed: Iterable[bytes]) -> Iterator[str]:
    """Decode line by line, so that the first wrong byte can be named."""
    num_bytes = 0
    for number, line in enumerate(packed, start=1):
        try:
            yield line.removeprefix(codecs.BOM_UTF8).decode() if number == 1 else line.decode()
        except UnicodeDecodeError as error:
            at = num_bytes + line.index(error.object) + error.start
            message = f"{path}: line {number}: is not UTF-8 text (byte {at} of the unpacked file)"
            raise TextsError(f"{message}; save it as UTF-8") from None
        num_bytes += len(line)


def _next(path: Path, rows: Reader, *, row: int) -> list[str] | None:
    try:
        return next(rows, None)
    except csv.Error as error:
        name = f"row {row}" if row else "the header"
        message = f"{path}: {name}, up to line {rows.line_num}, is not valid CSV: {error}"
        raise TextsError(f"{message}; is a quote left open or not doubled?") from None


def _only_empty_lines(rows: Reader) -> bool:
    try:
        return not any(rows)
    except csv.Error:
        return False


def _wrong_width(found: int, expected: int) -> str:
    if not found:
        return "the row is empty"
    return f"{found} fields where the header has {expected}; is a text with commas not quoted?"


def _positions(path: Path, found: list[str]) -> tuple[int, int]:
    for name in COLUMNS:
        if found.count(name) != 1:
            fault = "is missing" if name not in found else "is there more than once"
            names = ", ".join(repr(column) for column in found[:10]) or "none"
            expected = ",".join(COLUMNS)
            message = f"{path}: the column {name} {fault}; found {names}; expected {expected}"
            raise TextsError(message)
    return found.index(COLUMNS[0]), found.index(COLUMNS[1])


def read_parquet(path: Path) -> list[LabelledText]:
    """Read every row of a Parquet file.

    Raises:
        TextsError: the file cannot be read, or a row of it cannot be used.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.stat().st_size:
        raise TextsError(f"{path}: is empty; expected the columns {','.join(COLUMNS)}")
    try:
        with pq.ParquetFile(path) as file:
            _positions(path, file.schema_arrow.names)
            table = file.read(columns=list(COLUMNS))
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise TextsError(f"{path}: is not a whole Parquet file: {reason}") from None
    if not table.num_rows:
        raise TextsError(f"{path}: holds no texts, only the columns")
    pairs = zip(*(_values(path, table, name) for name in COLUMNS), strict=True)
    return [
        checked(text, label, f"{path}: row {row}")
        for row, (text, label) in enumerate(pairs, start=1)
    ]


def _values(path: Path, table: pa.Table, name: str) -> Iterator[object]:
    """Yield the values of a column; Arrow checks text for UTF-8 only when it hands it out."""
    for row, value in enumerate(table.column(name), start=1):
        try:
            yield value.as_py()
        except UnicodeDecodeError as error:
            message = f"{path}: row {row}: the {name} is not UTF-8 text (byte {error.start} of it)"
            raise TextsError(message) from None

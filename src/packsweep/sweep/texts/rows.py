"""The rows of files as they stand: CSV and TSV, JSON, lines of text; compressed or not.

Nothing here knows of labels: ``files`` makes labelled texts of the rows, and the ``label.py`` that
``recommend`` writes reads with the same code what was measured. Text is UTF-8, with or without a
byte order mark. The first thing that is wrong is one line that names the file and the row. Rows are
counted from 1 and without the header, lines from 1 and with it.
"""

from __future__ import annotations

import bz2
import codecs
import contextlib
import csv
import gzip
import io
import itertools
import json
import lzma
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from packsweep.errors import TextsError, counted, shown

if TYPE_CHECKING:
    from _csv import Reader

DELIMITERS = {".csv": ",", ".tsv": "\t", ".tab": "\t", ".psv": "|"}
SUFFIXES = (*DELIMITERS, ".jsonl", ".ndjson", ".json", ".txt", ".parquet")
OTHER_DELIMITERS = (",", ";", "\t", "|")
_NAMES_DELIMITER = "sep="  # Excel's own first line
_COMPRESSED = (".gz", ".xz", ".bz2", ".zst", ".zip")
# What a file begins with whose name says something else.
_OTHER_KINDS = {
    codecs.BOM_UTF16_LE: "UTF-16 text; save it as UTF-8",
    codecs.BOM_UTF16_BE: "UTF-16 text; save it as UTF-8",
    b"\x1f\x8b": "compressed; its name should end in .gz",
    b"\xfd7zXZ": "compressed; its name should end in .xz",
    b"BZh": "compressed; its name should end in .bz2",
    b"\x28\xb5\x2f\xfd": "compressed; its name should end in .zst",
    b"PK\x03\x04": "an archive or a spreadsheet; save it as CSV",
    b"PAR1": "Parquet; its name should end in .parquet",
}
# A line beyond it is no text: a small compressed file may hold one of many gigabytes.
MAX_LINE_BYTES = 1 << 26
_CSV_FIELD_LIMIT = 1 << 30


def kind(name: str) -> str | None:
    """Return the suffix that tells how a file is read, or None; of what a compressed file holds."""
    lowered = name.lower()
    if lowered.endswith(".zip") and not _suffix(lowered.removesuffix(".zip")):
        return ".zip"
    for compressed in _COMPRESSED:
        lowered = lowered.removesuffix(compressed)
    return _suffix(lowered)


def _suffix(name: str) -> str | None:
    return next((suffix for suffix in SUFFIXES if name.endswith(suffix)), None)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[tuple[str, Iterator[str]]]:
    """Give the name of what is in a file, and its lines.

    Raises:
        TextsError: it cannot be read or decompressed, or is no UTF-8 text.
    """
    try:
        with _decompressed(path) as (name, file):
            yield name, _decoded(path, _bounded(path, file))
    except (gzip.BadGzipFile, lzma.LZMAError, zlib.error, EOFError, zipfile.BadZipFile) as error:
        suffix = path.suffix.lower().removeprefix(".")
        message = f"{path}: is not a whole {suffix} file ({error}); copy it again or unpack it"
        raise TextsError(message) from None
    except OSError as error:
        raise TextsError(f"{path}: cannot be read: {error.strerror or error}") from None


@contextlib.contextmanager
def _decompressed(path: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Give the name of what is in a file, and its bytes."""
    openers: dict[str, Any] = {
        ".gz": gzip.open,
        ".xz": lzma.open,
        ".bz2": bz2.open,
        ".zst": _open_zstandard,
    }
    suffix = path.suffix.lower()
    if suffix == ".zip":
        with zipfile.ZipFile(path) as archive, _member(path, archive) as file:
            yield file.name, file
    elif suffix in openers:
        with cast("IO[bytes]", openers[suffix](path, "rb")) as file:
            yield path.name, file
    else:
        with path.open("rb") as file:
            yield path.name, file


def _open_zstandard(path: Path, _mode: str) -> IO[bytes]:
    import pyarrow as pa

    return io.BufferedReader(pa.input_stream(str(path), compression="zstd"))


def _member(path: Path, archive: zipfile.ZipFile) -> IO[bytes]:
    names = [name for name in archive.namelist() if kind(name) not in {None, ".zip", ".parquet"}]
    names = [name for name in names if not name.startswith("__MACOSX/")]
    if len(names) != 1:
        found = ", ".join(shown(name) for name in archive.namelist()[:5]) or "nothing"
        message = f"{path}: holds {found}; expected one file of texts (CSV, TSV, JSONL or TXT)"
        raise TextsError(message)
    try:
        return archive.open(names[0])
    except (RuntimeError, NotImplementedError) as error:  # encrypted, or an unknown method
        raise TextsError(f"{path}: {shown(names[0])} cannot be decompressed: {error}") from None


def _bounded(path: Path, file: IO[bytes]) -> Iterator[bytes]:
    number = 0
    while line := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(line) > MAX_LINE_BYTES:
            message = f"{path}: line {number}: is longer than {MAX_LINE_BYTES >> 20} MiB"
            raise TextsError(message)
        yield line


def _decoded(path: Path, raw_lines: Iterable[bytes]) -> Iterator[str]:
    """Decode line by line, so that the first wrong byte can be named."""
    num_bytes = 0
    for number, line in enumerate(raw_lines, start=1):
        if number == 1:
            _check_beginning(path, line)
        try:
            yield line.removeprefix(codecs.BOM_UTF8).decode() if number == 1 else line.decode()
        except UnicodeDecodeError as error:
            at = num_bytes + line.index(error.object) + error.start
            message = f"{path}: line {number}: is not UTF-8 text (byte {at} of its content)"
            raise TextsError(
                f"{message}; save it as UTF-8, e.g. by iconv -f WINDOWS-1252 -t UTF-8"
            ) from None
        num_bytes += len(line)


def _check_beginning(path: Path, line: bytes) -> None:
    """Refuse a file that is of another kind than its name says."""
    for beginning, told in _OTHER_KINDS.items():
        if line.startswith(beginning):
            raise TextsError(f"{path}: is {told}")
    if b"\0" in line and line.count(b"\0") * 3 > len(line):
        raise TextsError(f"{path}: is {_OTHER_KINDS[codecs.BOM_UTF16_LE]}")


def delimited(
    path: Path, name: str, lines: Iterator[str], delimiter: str | None
) -> Iterator[tuple[str, list[str]]]:
    """Yield the header of a CSV file, and each row with where it stands, blank ones too.

    Args:
        path: the file, for messages.
        name: of what is in it, which tells what stands between fields.
        lines: of the file.
        delimiter: what stands there if not that.
    """
    head, declared = _head(path, lines)
    delimiter = delimiter or declared or _delimiter(name, head[-1])
    csv.field_size_limit(_CSV_FIELD_LIMIT)
    # strict: a stray or an open quote is an error, not a guess at what was meant.
    rows = csv.reader(itertools.chain(head, lines), strict=True, delimiter=delimiter)
    header = _next(path, rows, row=0)
    while header is not None and (is_empty(header) or header[0] == _NAMES_DELIMITER):
        header = _next(path, rows, row=0)
    header = header or []
    yield str(path), header
    row, start = 0, rows.line_num + 1
    while (fields := _next(path, rows, row=row + 1)) is not None:
        row += not is_empty(fields)
        where = f"{path}: row {row} (line {start})"
        if len(fields) != len(header) and not is_empty(fields):
            raise TextsError(f"{where}: {_wrong_width(len(fields), len(header), delimiter)}")
        if fields:
            yield where, fields
        start = rows.line_num + 1


def _head(path: Path, lines: Iterator[str]) -> tuple[list[str], str | None]:
    """Return the lines down to the header, and the delimiter that one of them names."""
    head, declared = [], None
    for line in lines:
        head.append(line)
        found = line.strip("\r\n")
        if found.startswith(_NAMES_DELIMITER) and len(found) == len(_NAMES_DELIMITER) + 1:
            declared = found[-1]
        elif line.strip():
            return head, declared
    raise TextsError(f"{path}: is empty; expected a header and texts")


def is_empty(fields: Sequence[str]) -> bool:
    return not any(map(str.strip, fields))


def _delimiter(name: str, header: str) -> str:
    """Return what stands between fields: by the file's name, unless only one other can be meant."""
    named = DELIMITERS.get(kind(name) or "", ",")
    others = [each for each in OTHER_DELIMITERS if each != named and _width(header, each) > 1]
    return others[0] if _width(header, named) <= 1 and len(others) == 1 else named


def _width(header: str, delimiter: str) -> int:
    """Return the columns of a header, 0 where it cannot be read so."""
    try:
        return len(next(csv.reader([header], strict=True, delimiter=delimiter), []))
    except csv.Error:
        return 0


def _next(path: Path, rows: Reader, *, row: int) -> list[str] | None:
    try:
        return next(rows, None)
    except csv.Error as error:
        name = f"row {row}" if row else "the header"
        if "new-line character" in str(error):
            message = f"{path}: {name} has a carriage return (CR) outside of quotes"
            raise TextsError(f"{message}; save the file with LF or CRLF line ends") from None
        message = f"{path}: {name}, up to line {rows.line_num}, is not valid CSV: {error}"
        raise TextsError(f"{message}; is a quote left open or not doubled?") from None


def _wrong_width(found: int, expected: int, delimiter: str) -> str:
    between = {",": "commas", "\t": "tabs"}.get(delimiter, f"{delimiter!r}")
    hint = f"is a text with {between} not quoted?"
    return f"{counted(found, 'field')} where the header has {expected}; {hint}"


def objects(path: Path, name: str, lines: Iterable[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the objects of JSON lines, or of one array, each with where it stands.

    What is in an object inside of one has a name such as ``document.text``.

    Args:
        path: the file, for messages.
        name: of what is in it, which tells whether it may be an array.
        lines: of the file.
    """
    filled = ((number, line) for number, line in enumerate(lines, 1) if line.strip())
    first = next(filled, (0, ""))
    if kind(name) == ".json" and first[1].lstrip().startswith("["):
        whole = "".join([first[1], *(line for _, line in filled)])
        for row, values in enumerate(_json(whole, str(path), "an array of objects"), 1):
            yield (where := f"{path}: row {row}"), _object(values, where)
        return
    for row, (number, line) in enumerate(itertools.chain([first], filled), 1):
        if line:
            where = f"{path}: row {row} (line {number})"
            yield where, _object(_json(line, where), where)


def _object(values: object, where: str) -> dict[str, Any]:
    if not isinstance(values, dict):
        raise TextsError(f"{where}: is {shown(values)}; expected a JSON object")
    try:
        return dict(_flat(values))
    except RecursionError:
        raise TextsError(f"{where}: is nested too deeply") from None


def _flat(values: Mapping[str, Any], within: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{within}{name}.")
        else:
            yield f"{within}{name}", value


def _json(content: str, where: str, expected: str = "one object on each line") -> Any:  # noqa: ANN401
    try:
        return json.loads(content, object_pairs_hook=_unique)
    except RecursionError:
        raise TextsError(f"{where}: is nested too deeply") from None
    except ValueError as error:
        told = error.msg if isinstance(error, json.JSONDecodeError) else error
        raise TextsError(f"{where}: is not JSON: {told}; expected {expected}") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{shown(twice)} is there more than once")
    return values

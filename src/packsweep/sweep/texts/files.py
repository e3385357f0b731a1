"""Texts from files: CSV and TSV, JSON lines, Parquet, lines of text; compressed or not.

A file is read and checked as a whole, row by row; the first thing that is wrong ends it with one
line that names the file and the row. Rows are counted from 1 and without the header, lines from 1
and with it. Texts that occur twice are allowed: the IMDB set has some.
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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from packsweep.errors import TextsError, counted, shown
from packsweep.sweep.texts.columns import Labeller, Reading
from packsweep.sweep.texts.text import LabelledText, is_blank

if TYPE_CHECKING:
    from _csv import Reader

    import pyarrow as pa

_DELIMITERS = {".csv": ",", ".tsv": "\t", ".tab": "\t", ".psv": "|"}
_OTHER_DELIMITERS = (",", ";", "\t", "|")
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


def read(paths: Sequence[Path], reading: Reading, notes: list[str]) -> list[LabelledText]:
    """Read every row of the files of a source, by the kind that their names tell.

    Text is UTF-8, with or without a byte order mark. Columns that are neither the text nor its
    label are ignored, and so are empty lines. A quoted field may hold line breaks. A file without
    rows is passed over if another has some.

    Args:
        paths: the files, with the columns of the first.
        reading: which columns are the text and its label.
        notes: takes what was guessed, a line each.

    Raises:
        TextsError: a file cannot be read, or a row of it cannot be used.
    """
    labeller = Labeller(reading)
    texts = [text for path in paths for text in _read(path, labeller)]
    if not texts:
        raise TextsError(f"{paths[0]}: holds no texts")
    notes += labeller.notes
    return texts


def _read(path: Path, labeller: Labeller) -> list[LabelledText]:
    if kind(path.name) == ".parquet":
        return _read_parquet(path, labeller)
    try:
        with _opened(path) as (name, lines):
            reader = _READERS[kind(name) or ""]
            return list(reader(path, _bounded(path, lines), labeller))
    except (gzip.BadGzipFile, lzma.LZMAError, zlib.error, EOFError, zipfile.BadZipFile) as error:
        suffix = path.suffix.lower().removeprefix(".")
        message = f"{path}: is not a whole {suffix} file ({error}); copy it again or unpack it"
        raise TextsError(message) from None
    except OSError as error:
        raise TextsError(f"{path}: cannot be read: {error.strerror or error}") from None


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
def _opened(path: Path) -> Iterator[tuple[str, IO[bytes]]]:
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
            raise TextsError(f"{message}; save it as UTF-8") from None
        num_bytes += len(line)


def _check_beginning(path: Path, line: bytes) -> None:
    """Refuse a file that is of another kind than its name says."""
    for beginning, told in _OTHER_KINDS.items():
        if line.startswith(beginning):
            raise TextsError(f"{path}: is {told}")
    if b"\0" in line and line.count(b"\0") * 3 > len(line):
        raise TextsError(f"{path}: is {_OTHER_KINDS[codecs.BOM_UTF16_LE]}")


def _delimited(
    path: Path, raw_lines: Iterable[bytes], labeller: Labeller
) -> Iterator[LabelledText]:
    lines = _decoded(path, raw_lines)
    head, declared = _head(path, lines)
    delimiter = labeller.reading.delimiter or declared or _delimiter(path.name, head[-1])
    csv.field_size_limit(_CSV_FIELD_LIMIT)
    # strict: a stray or an open quote is an error, not a guess at what was meant.
    rows = csv.reader(itertools.chain(head, lines), strict=True, delimiter=delimiter)
    header = _next(path, rows, row=0)
    while header is not None and (_is_empty(header) or header[0] == _NAMES_DELIMITER):
        header = _next(path, rows, row=0)
    header = header or []
    _check_header(path, header, labeller.reading)
    labeller.open(header, str(path))
    row, start = 0, rows.line_num + 1
    while (fields := _next(path, rows, row=row + 1)) is not None:
        if not _is_empty(fields):
            row += 1
            where = f"{path}: row {row} (line {start})"
            if len(fields) != len(header):
                raise TextsError(f"{where}: {_wrong_width(len(fields), len(header), delimiter)}")
            yield labeller.text(fields, where)
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


def _is_empty(fields: Sequence[str]) -> bool:
    return not any(map(str.strip, fields))


def _delimiter(name: str, header: str) -> str:
    """Return what stands between fields: by the file's name, unless only one other can be meant."""
    named = _DELIMITERS.get(kind(name) or "", ",")
    others = [each for each in _OTHER_DELIMITERS if each != named and _width(header, each) > 1]
    return others[0] if _width(header, named) <= 1 and len(others) == 1 else named


def _width(header: str, delimiter: str) -> int:
    """Return the columns of a header, 0 where it cannot be read so."""
    try:
        return len(next(csv.reader([header], strict=True, delimiter=delimiter), []))
    except csv.Error:
        return 0


def _check_header(path: Path, header: Sequence[str], reading: Reading) -> None:
    """Refuse a header that a wrong delimiter leaves in one piece: rows would be taken whole."""
    if len(header) != 1 or header[0] == reading.text_column:
        return
    if any(each in header[0] for each in _OTHER_DELIMITERS):
        raise TextsError(
            f"{path}: the header {shown(header[0])} is one column; texts.delimiter says what "
            'stands between columns, e.g. ";"'
        )


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


def _json_lines(
    path: Path, raw_lines: Iterable[bytes], labeller: Labeller
) -> Iterator[LabelledText]:
    return _line_by_line(path, _decoded(path, raw_lines), labeller)


def _json_file(
    path: Path, raw_lines: Iterable[bytes], labeller: Labeller
) -> Iterator[LabelledText]:
    """Read one array of objects, or what is JSON lines by another name."""
    lines = list(_decoded(path, raw_lines))
    if not next((line for line in lines if line.strip()), "").lstrip().startswith("["):
        return _line_by_line(path, lines, labeller)
    rows = enumerate(_json("".join(lines), str(path), "an array of objects"), 1)
    return _objects(path, ((f"{path}: row {row}", each) for row, each in rows), labeller)


def _line_by_line(path: Path, lines: Iterable[str], labeller: Labeller) -> Iterator[LabelledText]:
    filled = ((number, line) for number, line in enumerate(lines, 1) if line.strip())
    places = (
        (f"{path}: row {row} (line {each[0]})", each[1]) for row, each in enumerate(filled, 1)
    )
    return _objects(path, ((where, _json(line, where)) for where, line in places), labeller)


def _objects(
    path: Path, rows: Iterable[tuple[str, Any]], labeller: Labeller
) -> Iterator[LabelledText]:
    """Yield the texts of JSON objects, each with where it stands."""
    names: dict[str, None] = {}
    for where, values in rows:
        if not isinstance(values, dict):
            raise TextsError(f"{where}: is {shown(values)}; expected a JSON object")
        if not names:
            labeller.open(list(values), str(path))
        elif not values.keys() <= names.keys():
            labeller.check_unlabelled([name for name in values if name not in names], where)
        names.update(dict.fromkeys(values))
        yield labeller.text([values.get(name) for name in names], where)


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


def _plain_lines(
    path: Path, raw_lines: Iterable[bytes], labeller: Labeller
) -> Iterator[LabelledText]:
    named = labeller.reading.text_column or labeller.reading.label_column
    if named is not None:
        raise TextsError(f"{path}: is lines of text, without the column {named!r}")
    for line in _decoded(path, raw_lines):
        if not is_blank(line):
            yield LabelledText(text=line.rstrip("\r\n"), label=None)


def _read_parquet(path: Path, labeller: Labeller) -> list[LabelledText]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.stat().st_size:
        raise TextsError(f"{path}: is empty; expected a Parquet file")
    try:
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow
            labeller.open(schema.names, str(path), _class_names(schema))
            names = [schema.names[labeller.text_at]]
            names += [] if labeller.label_at is None else [schema.names[labeller.label_at]]
            table = file.read(columns=names)
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        message = f"{path}: is not a whole Parquet file: {reason}"
        raise TextsError(f"{message}; copy it again or unpack it") from None
    fields: list[object] = [None] * len(schema.names)
    texts = []
    for row, values in enumerate(zip(*(_values(path, table, n) for n in names), strict=True), 1):
        fields[labeller.text_at] = values[0]
        if labeller.label_at is not None:
            fields[labeller.label_at] = values[1]
        texts.append(labeller.text(fields, f"{path}: row {row}"))
    return texts


def _class_names(schema: pa.Schema) -> Mapping[str, Sequence[str]]:
    """Return what whole numbers stand for, which files of the hub's data sets say."""
    try:
        about = json.loads((schema.metadata or {})[b"huggingface"])
        features = about["info"]["features"]
        return {
            name: tuple(map(str, feature["names"]))
            for name, feature in features.items()
            if isinstance(feature, dict) and isinstance(feature.get("names"), list)
        }
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return {}


def _values(path: Path, table: pa.Table, name: str) -> Iterator[object]:
    """Yield the values of a column; Arrow checks text for UTF-8 only when it hands it out."""
    for row, value in enumerate(table.column(name), start=1):
        try:
            yield value.as_py()
        except UnicodeDecodeError as error:
            message = f"{path}: row {row}: the {name} is not UTF-8 text (byte {error.start} of it)"
            raise TextsError(message) from None


_ReadLines = Callable[[Path, Iterable[bytes], Labeller], Iterator[LabelledText]]
_READERS: dict[str, _ReadLines] = {
    **dict.fromkeys(_DELIMITERS, _delimited),
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".json": _json_file,
    ".txt": _plain_lines,
}
SUFFIXES = (*_READERS, ".parquet")

"""Labelled texts from the rows of files (``rows``) and from Parquet.

A file is read and checked as a whole; the first thing that is wrong ends it with one line that
names the file and the row. Texts that occur twice are allowed: the IMDB set has some.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packsweep.errors import TextsError, shown
from packsweep.sweep.texts import rows
from packsweep.sweep.texts.columns import Labeller, Reading
from packsweep.sweep.texts.text import LabelledText, is_blank

if TYPE_CHECKING:
    import pyarrow as pa


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
    labeller.refuse_strange()
    if not texts:
        raise TextsError(f"{paths[0]}: holds no texts")
    notes += labeller.notes
    return texts


def _read(path: Path, labeller: Labeller) -> list[LabelledText]:
    if rows.kind(path.name) == ".parquet":
        return _read_parquet(path, labeller)
    with rows.opened(path) as (name, lines):
        ending = rows.kind(name)
        if ending == ".txt":
            return list(_plain_lines(path, lines, labeller))
        if ending not in rows.DELIMITERS:
            return list(_objects(path, rows.objects(path, name, lines), labeller))
        delimiter = labeller.reading.delimiter
        return list(_delimited(path, rows.delimited(path, name, lines, delimiter), labeller))


def _delimited(
    path: Path, found: Iterator[tuple[str, list[str]]], labeller: Labeller
) -> Iterator[LabelledText]:
    _, header = next(found)
    _check_header(path, header, labeller.reading)
    labeller.open(header, str(path))
    yield from (
        labeller.text(fields, where) for where, fields in found if not rows.is_empty(fields)
    )


def _check_header(path: Path, header: Sequence[str], reading: Reading) -> None:
    """Refuse a header that a wrong delimiter leaves in one piece: rows would be taken whole."""
    if len(header) != 1 or header[0] == reading.text_column:
        return
    if any(each in header[0] for each in rows.OTHER_DELIMITERS):
        raise TextsError(
            f"{path}: the header {shown(header[0])} is one column; texts.delimiter says what "
            'stands between columns, e.g. ";"'
        )


def _objects(
    path: Path, found: Iterable[tuple[str, dict[str, Any]]], labeller: Labeller
) -> Iterator[LabelledText]:
    names: dict[str, None] = {}
    for where, values in found:
        if not names:
            labeller.open(list(values), str(path))
        elif not values.keys() <= names.keys():
            labeller.check_unlabelled([name for name in values if name not in names], where)
        names.update(dict.fromkeys(values))
        yield labeller.text([values.get(name) for name in names], where)


def _plain_lines(path: Path, lines: Iterable[str], labeller: Labeller) -> Iterator[LabelledText]:
    named = labeller.reading.text_column or labeller.reading.label_column
    if named is not None:
        raise TextsError(f"{path}: is lines of text, without the column {named!r}")
    for line in lines:
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

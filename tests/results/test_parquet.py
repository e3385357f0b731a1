"""Tables as Parquet and CSV: the seal, whose rows they are, and cells that are no formulas."""

from __future__ import annotations

import csv
import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.fakes import cell, pass_row

from packsweep.results import parquet, schema

ROW = pass_row(cell(), texts_per_s=1.5)
CONTENT = parquet.to_parquet(parquet.table([ROW], schema.PASSES))


def test_sealed() -> None:
    """A file comes back as it was written; its seal is no part of the table."""
    table = parquet.passes_from_parquet(CONTENT, sealed=True)
    assert table is not None
    assert table.to_pylist()[0]["texts_per_s"] == 1.5
    assert list(table.schema.metadata) == [schema.VERSION_KEY]


@pytest.mark.parametrize("text", ["0" * 64, "0" * 200, "packsweep.sha256"])
def test_sealed_beside_zeros(text: str) -> None:
    """Text that looks like the place of a seal does not move it."""
    content = parquet.to_parquet(parquet.table([{**ROW, "reason": text}], schema.PASSES))
    table = parquet.from_parquet(content, ["reason"], sealed=True)
    assert table is not None
    assert table.column("reason").to_pylist() == [text]


def test_other_seal() -> None:
    """A seal that is another file's, or none, is none."""
    other = parquet.to_parquet(parquet.table([{**ROW, "texts_per_s": 9.5}], schema.PASSES))
    seals = [
        pq.read_metadata(pa.BufferReader(each)).metadata[b"packsweep.sha256"]
        for each in (CONTENT, other)
    ]
    assert seals[0] != seals[1]
    assert parquet.from_parquet(CONTENT.replace(seals[0], seals[1])) is None
    assert parquet.from_parquet(CONTENT.replace(seals[0], b"0" * 64)) is None


def test_without_seal() -> None:
    """A file of an earlier schema is read, but not where a seal must be, and none of this one."""
    table = parquet.table([ROW], schema.PASSES)
    contents = []
    for version in (b"4", str(schema.SCHEMA_VERSION).encode()):
        file = io.BytesIO()
        pq.write_table(table.replace_schema_metadata({schema.VERSION_KEY: version}), file)
        contents.append(file.getvalue())
    earlier, present = contents
    assert parquet.passes_from_parquet(earlier) is not None
    assert parquet.passes_from_parquet(earlier, sealed=True) is None
    assert parquet.passes_from_parquet(present) is None


def test_owners() -> None:
    """Whose rows a table holds; a foreign table has no owner."""
    rows = [pass_row(cell(n=n), f"a{n}") for n in (3, 4)]
    table = parquet.table([*rows, rows[0]], schema.PASSES)
    assert parquet.owners(table) == {(cell(n=n).cell_id, f"a{n}") for n in (3, 4)}
    assert parquet.owners(pa.table({"cell_id": ["x"]})) == set()


FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"]


@pytest.mark.parametrize("text", [*FORMULAS, "a=1", "", "'=1", "1"])
def test_csv_formula(text: str) -> None:
    """Text that a spreadsheet would compute is text there; all else, and numbers, stay."""
    row = {"cell_id": text, "stop_at_half_width": -1.5, "warnings": [text, "b"]}
    content = parquet.to_csv(parquet.table([row], schema.SUMMARY)).decode()
    found = next(csv.DictReader(io.StringIO(content, newline="")))
    mark = "'" if text in FORMULAS else ""
    assert found["cell_id"] == mark + text == parquet.guarded(text)
    assert found["warnings"] == f"{mark}{text} b"
    assert float(found["stop_at_half_width"]) == -1.5

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


def _unsealed(version: bytes) -> bytes:
    table = parquet.table([ROW], schema.PASSES)
    file = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({schema.VERSION_KEY: version}), file)
    return file.getvalue()


def test_without_seal() -> None:
    """A file of before is read, but not where a seal must be."""
    assert parquet.passes_from_parquet(_unsealed(b"4")) is not None
    assert parquet.passes_from_parquet(_unsealed(b"4"), sealed=True) is None


def test_seal_lost() -> None:
    """One of today has a seal: a bit that flips in the seal's name does not take it away."""
    at = CONTENT.rindex(b"packsweep.sha256")
    flipped = CONTENT[:at] + bytes([CONTENT[at] ^ 1]) + CONTENT[at + 1 :]
    assert parquet.passes_from_parquet(flipped) is None
    assert parquet.passes_from_parquet(_unsealed(b"5")) is None


def test_columns_of_another_version() -> None:
    """What a file lacks is what it would have held, else null; what it has on top is left out."""
    rows = parquet.table([ROW], schema.PASSES).drop_columns(["prompt_type", "texts_per_s"])
    rows = rows.append_column("later", pa.array([1]))
    table = parquet.passes_from_parquet(parquet.to_parquet(rows))
    assert table is not None
    assert table.schema.equals(schema.arrow_schema(schema.PASSES))
    found = table.to_pylist()[0]
    assert (found["prompt_type"], found["texts_per_s"]) == ("text", None)
    assert found["cell_id"] == ROW["cell_id"]


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


def test_num_gpus_of_an_earlier_version() -> None:
    """A row from before the column had one GPU where it names it, and none on a CPU."""
    rows = [{**ROW, "device_uuid": "GPU-0"}, {**ROW, "device_uuid": None}]
    table = parquet.table(rows, schema.PASSES).drop_columns(["num_gpus"])
    found = parquet.passes_from_parquet(parquet.to_parquet(table))
    assert found is not None
    assert found.column("num_gpus").to_pylist() == [1, None]

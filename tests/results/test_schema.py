"""The column table: complete, without doubles, and the same after a trip through Parquet."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

import packsweep
from packsweep.analysis import labels
from packsweep.results import parquet, schema
from packsweep.results.schema import Column
from packsweep.sweep.cells import Cell

TABLES = {"passes": schema.PASSES, "requests": schema.REQUESTS, "summary": schema.SUMMARY}
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "string": st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    "json": st.just("{}"),
    "int": st.integers(-(2**63), 2**63 - 1),
    "float": st.floats(allow_nan=False),
    "bool": st.booleans(),
    "time": st.datetimes(
        datetime.fromisoformat("1970-01-01"),
        datetime.fromisoformat("2100-01-01"),
        timezones=st.just(UTC),
    ),
    "strings": st.lists(st.none() | st.sampled_from(["positive", "negative"]), max_size=3),
}


@pytest.mark.parametrize("table", TABLES)
def test_names_unique(table: str) -> None:
    """No table has two columns of one name."""
    names = [column.name for column in TABLES[table]]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("table", TABLES)
def test_columns_explained(table: str) -> None:
    """Every column has a meaning or a formula."""
    assert [column.name for column in TABLES[table] if not column.meaning + column.formula] == []


def _suffix_unit(name: str) -> str | None:
    """Return the unit that a column's name promises."""
    for part in ("_median", "_mean", "_ci_low", "_ci_high"):
        name = name.removesuffix(part)
    if name.endswith("_per_s"):
        what = name.rpartition("_per_s")[0].rpartition("_")[2]
        return {"bytes": "B", "flops": "FLOP"}.get(what, what) + "/s"
    return {"_s": "s", "_bytes": "B"}.get("_" + name.rpartition("_")[2])


@pytest.mark.parametrize("table", TABLES)
def test_units_as_named(table: str) -> None:
    """A unit in a name is the unit of the column."""
    promised = {c.name: _suffix_unit(c.name) for c in TABLES[table] if _suffix_unit(c.name)}
    assert {c.name: c.unit for c in TABLES[table] if c.name in promised} == promised


@pytest.mark.parametrize("table", TABLES)
def test_formula_names_columns(table: str) -> None:
    """A formula over columns names columns of the same table."""
    names = {column.name for column in TABLES[table]}
    for column in TABLES[table]:
        if " / " in column.formula and "sum over" not in column.formula:
            words = column.formula.replace("(", " ").replace(")", " ").split()
            named = {word for word in words if word not in "+-/*" and not word.isdigit()}
            assert named <= names, column.name


def test_cell_columns() -> None:
    """The columns of a cell are the fields of a cell."""
    assert [column.name for column in schema.CELL] == [field.name for field in fields(Cell)]


def test_summary_condenses_every_column_of_a_pass() -> None:
    """A metric is in the summary as its column says, without a second list to enter it into."""
    summary = {column.name for column in schema.SUMMARY}
    of_pass = (*schema.PASS, *schema.WINDOW, *schema.UTILIZATION, *schema.CONDITIONS)
    several = {f"{each.name}_ci_low" for each in of_pass if each.over_repeats == "interval"}
    left_out = {each.name for each in of_pass if each.over_repeats is None}
    assert left_out == {"repeat", "queue_p50_s", "num_preemptions"} - summary
    assert len(several) == 11
    assert several <= summary
    one = {each.name for each in of_pass if each.over_repeats not in {"interval", None}}
    assert one <= summary


def test_cell_roles() -> None:
    """Every column of a cell says what it is to those who tell cells apart, and no other does."""
    assert [column.name for column in schema.CELL if column.role is None] == []
    assert {column.role for column in schema.CELL} == set(get_args(schema.Role))
    elsewhere = [column for table in TABLES.values() for column in table]
    assert {column.name for column in elsewhere if column.role} == {c.name for c in schema.CELL}


def test_cell_settings() -> None:
    """A setting has a key of the sweep file, and what follows, follows from a column."""
    names = {column.name for column in schema.CELL}
    assert all(column.key for column in schema.CELL if column.role == "setting")
    assert {each for column in schema.CELL for each in column.follows} <= names


def test_parsed() -> None:
    """A text of JSON is parsed once, and nobody changes what others read."""
    assert schema.parsed('{"a": 1}') == {"a": 1}
    assert schema.parsed(None) == {}
    assert schema.parsed('{"a": 1}') is schema.parsed('{"a": 1}')
    with pytest.raises(TypeError):
        schema.parsed('{"a": 1}')["a"] = 2  # type: ignore[index]


@pytest.mark.parametrize("table", TABLES)
def test_arrow_version(table: str) -> None:
    """The version of the schema is in the file's metadata."""
    metadata = schema.arrow_schema(TABLES[table]).metadata
    assert metadata == {b"packsweep.schema_version": str(schema.SCHEMA_VERSION).encode()}


def _rows(columns: tuple[Column, ...]) -> st.SearchStrategy[list[dict[str, Any]]]:
    every = {column.name: st.none() | VALUES[column.kind] for column in columns}
    few = st.lists(st.fixed_dictionaries(every), max_size=3)
    return few.flatmap(lambda rows: st.sampled_from([rows, rows * 20]))  # written in two ways


KINDS = tuple({column.kind: column for column in (*schema.PASSES, *schema.REQUESTS)}.values())


@given(_rows(KINDS))
def test_parquet_round_trip(rows: list[dict[str, Any]]) -> None:
    """Values of every kind, and missing ones, come back from a file of ours as they were."""
    found = parquet.from_parquet(parquet.to_parquet(parquet.table(rows, KINDS)))
    if not rows:
        assert found is None
        return
    assert found is not None
    assert found.schema.equals(schema.arrow_schema(KINDS))
    assert found.to_pylist() == rows


# Names of variables that hold rows, or frames of them.
ROWS = {"row", "rows", "best", "first", "last", "passes", "requests", "measured", "ok"}


def _columns_read(source: str) -> Iterator[str]:
    """Yield the strings by which code looks into rows: ``row["n"]``, ``row.get("n")``."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Subscript(value=ast.Name(id=name), slice=ast.Constant(value=str(column))):
                pass
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id=name), attr="get"),
                args=[ast.Constant(value=str(column)), *_],
            ):
                pass
            case _:
                continue
        if name in ROWS:
            yield column


def test_columns_that_code_reads_exist() -> None:
    """No branch, however seldom it runs, asks a row for a column of another name."""
    known = {column.name for table in TABLES.values() for column in table}
    known |= {*labels.COLUMNS, *labels.POSITIONS}
    read = {
        column
        for wing in ("analysis", "report", "results")
        for path in (Path(packsweep.__file__).parent / wing).rglob("*.py")
        for column in _columns_read(path.read_text(encoding="utf-8"))
    }
    assert len(read) > 50
    assert read - known == set()

"""The index of all passes: a copy that is never taken for the truth."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.fakes import cell, pass_row, written

from packsweep import arrow, index
from packsweep.store import Store

CELLS = [cell(repeats=count) for count in range(1, index.WORTH_KEEPING + 1)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of as many cells as make an index worth keeping, and their index."""
    found = Store(tmp_path_factory.mktemp("index") / "results")
    found.prepare()
    for each in CELLS:
        written(found, each, duration_s=1.0)
    found.read_passes(keep=True)
    return Path(found.root)


@pytest.fixture
def store(whole: Path, tmp_path: Path) -> Store:
    """A copy of them."""
    return Store(shutil.copytree(whole, tmp_path / "results"))


def _path(store: Store) -> Path:
    return Path(store.root) / index.KEY


def _durations(store: Store) -> dict[str, float]:
    return {row["cell_id"]: row["duration_s"] for row in store.read_passes().to_pylist()}


def test_kept(store: Store) -> None:
    """What is read with the index is what is read without."""
    with_index = store.read_passes()
    _path(store).unlink()
    without = store.read_passes()
    assert with_index.num_rows == len(CELLS)
    assert with_index.equals(without)


def test_used(store: Store) -> None:
    """Its rows are taken where the files are those it was made of."""
    known = index.read(_path(store).read_bytes())
    marked = known.table.set_column(
        known.table.schema.get_field_index("duration_s"),
        known.table.schema.field("duration_s"),
        [[7.0] * len(CELLS)],
    )
    _path(store).write_bytes(index.Index(marked, known.files).to_parquet())
    assert set(_durations(store).values()) == {7.0}


def test_other_file(store: Store) -> None:
    """Where another file counts now, its rows are read from there, in the same order as ever."""
    changed = CELLS[3]
    row = pass_row(changed, "a1", duration_s=2.0)
    store.write(changed.cell_id, "a1", [row], [])
    store.storage.write(f"{store.cell(changed.cell_id)}/COMMIT", b"gone")
    assert store.commit(changed.cell_id, "a1")
    found = _durations(store)
    assert found.pop(changed.cell_id) == 2.0
    assert set(found.values()) == {1.0}
    assert list(_durations(store)) == sorted(each.cell_id for each in CELLS)


def test_damaged_cell(store: Store) -> None:
    """A file that is torn by now does not count, though the index still has its rows."""
    torn = CELLS[5].cell_id
    store.storage.write(store.attempt(torn, "a0"), b"torn")
    assert torn not in _durations(store)


@pytest.mark.parametrize("content", [b"", b"torn"])
def test_damaged_index(store: Store, content: bytes) -> None:
    """A damaged index is as good as none."""
    _path(store).write_bytes(content)
    assert len(_durations(store)) == len(CELLS)


def test_foreign_index(store: Store) -> None:
    """A file of passes that is no index is none."""
    table = arrow.from_parquet(_path(store).read_bytes())
    assert table is not None
    plain = table.replace_schema_metadata(
        {k: v for k, v in table.schema.metadata.items() if k != b"packsweep.files"}
    )
    _path(store).write_bytes(arrow.to_parquet(plain))
    assert len(_durations(store)) == len(CELLS)


def test_not_kept_small(tmp_path: Path) -> None:
    """Few cells need no index."""
    store = Store(tmp_path / "results")
    store.prepare()
    written(store, CELLS[0])
    store.read_passes(keep=True)
    assert not _path(store).exists()

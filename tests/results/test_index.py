"""The index of all passes: a copy that is never taken for the truth."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.fakes import cell, pass_row, written

from packsweep.results import index, parquet
from packsweep.results.store import Store

NUM_PARTS = 3
CELLS = [cell(repeats=count) for count in range(1, NUM_PARTS * index.NUM_TOGETHER // 10 + 1)]


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of fewer cells, for speed."""
    monkeypatch.setattr(index, "NUM_TOGETHER", len(CELLS) // NUM_PARTS)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of as many cells as make a few parts, without an index."""
    found = Store(tmp_path_factory.mktemp("index") / "results")
    found.prepare()
    for each in CELLS:
        written(found, each, duration_s=1.0)
    return Path(found.root)


@pytest.fixture
def store(whole: Path, tmp_path: Path) -> Store:
    """A copy of them with its index."""
    found = Store(shutil.copytree(whole, tmp_path / "results"))
    found.read_passes(keep=True)
    return found


def _parts(store: Store) -> list[Path]:
    return sorted((Path(store.root) / index.FOLDER).glob("*.parquet"))


def _durations(store: Store) -> dict[str, float]:
    rows = store.read_passes().to_pylist()
    found = {row["cell_id"]: row["duration_s"] for row in rows}
    assert len(found) == len(rows)
    return found


def _mark(path: Path, duration_s: float) -> None:
    """Give the rows of a part a value that their files do not have."""
    part = index.read(path.read_bytes())
    assert part is not None
    place = part.table.schema.get_field_index("duration_s")
    values = [[duration_s] * part.table.num_rows]
    marked = part.table.set_column(place, part.table.schema.field(place), values)
    path.write_bytes(index.Part(marked, part.files).to_parquet())


def test_kept(store: Store, whole: Path) -> None:
    """What is read with the index is what is read without."""
    assert len(_parts(store)) == NUM_PARTS
    with_index = store.read_passes()
    assert with_index.num_rows == len(CELLS)
    assert with_index.equals(Store(whole).read_passes())


def test_used(store: Store) -> None:
    """Its rows are taken where the files are those it was made of."""
    for path in _parts(store):
        _mark(path, 7.0)
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
def test_damaged_part(store: Store, content: bytes) -> None:
    """A damaged part is as good as none."""
    _parts(store)[1].write_bytes(content)
    assert len(_durations(store)) == len(CELLS)


def test_torn_anywhere(store: Store, whole: Path) -> None:
    """Wherever a part ends too early, what is read is the same."""
    path = _parts(store)[0]
    content = path.read_bytes()
    without = Store(whole).read_passes()
    for length in range(0, len(content), len(content) // 7):
        path.write_bytes(content[:length])
        assert store.read_passes().equals(without)


def test_flipped_bit(store: Store, whole: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One flipped bit anywhere in a part costs time alone, and is reported once."""
    path = _parts(store)[0]
    content = path.read_bytes()
    without = Store(whole).read_passes()
    for number, bit in enumerate(random.Random(0).sample(range(8 * len(content)), 100)):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        assert index.read(bytes(flipped)) is None
        if number < 3:
            path.write_bytes(flipped)
            assert store.read_passes().equals(without)
    assert caplog.messages == [
        f"packsweep: {path}: is damaged or of another version; cells are read one by one"
    ]


def test_lacking_rows(store: Store) -> None:
    """A part that lacks rows of a cell that it names makes no cell vanish."""
    path = _parts(store)[0]
    part = index.read(path.read_bytes())
    assert part is not None
    path.write_bytes(index.Part(part.table.slice(1), part.files).to_parquet())
    assert len(_durations(store)) == len(CELLS)


def test_without_seal(store: Store) -> None:
    """A part of before files were sealed is not used: nothing could tell what happened to it."""
    path = _parts(store)[0]
    table = pq.read_table(pa.BufferReader(path.read_bytes()))
    metadata = {k: v for k, v in table.schema.metadata.items() if k != b"packsweep.sha256"}
    pq.write_table(table.replace_schema_metadata(metadata), path)
    assert index.read(path.read_bytes()) is None
    assert len(_durations(store)) == len(CELLS)


def test_foreign_part(store: Store) -> None:
    """A file of passes that is no part is none."""
    path = _parts(store)[0]
    table = parquet.from_parquet(path.read_bytes())
    assert table is not None
    plain = table.replace_schema_metadata(
        {k: v for k, v in table.schema.metadata.items() if k != b"packsweep.files"}
    )
    path.write_bytes(parquet.to_parquet(plain))
    assert len(_durations(store)) == len(CELLS)


def test_twice(store: Store, whole: Path) -> None:
    """Cells that two drivers put into the index count once."""
    store.add_to_index([each.cell_id for each in CELLS[:5]])
    store.add_to_index([each.cell_id for each in CELLS[3:]])
    assert len(_parts(store)) > NUM_PARTS
    assert store.read_passes().equals(Store(whole).read_passes())


def test_older_part(store: Store) -> None:
    """Of two parts that hold a cell, the one of the file that counts is taken."""
    changed = CELLS[0]
    for attempt_id, value in (("a1", 2.0), ("a2", 3.0)):
        store.write(
            changed.cell_id, attempt_id, [pass_row(changed, attempt_id, duration_s=value)], []
        )
        store.storage.write(f"{store.cell(changed.cell_id)}/COMMIT", b"gone")
        assert store.commit(changed.cell_id, attempt_id)
        store.add_to_index([changed.cell_id])
    assert _durations(store)[changed.cell_id] == 3.0


def test_not_committed(whole: Path, tmp_path: Path) -> None:
    """A cell that is not done is not put into the index, and neither is one that is not there."""
    store = Store(shutil.copytree(whole, tmp_path / "results"))
    failed = cell(repeats=10**6)
    store.write(failed.cell_id, "a0", [pass_row(failed, outcome="oom", reason="full")], [])
    store.add_to_index([failed.cell_id, "nowhere-n1"])
    assert _parts(store) == []
    assert len(_durations(store)) == len(CELLS) + 1


def test_not_kept_small(tmp_path: Path) -> None:
    """Few cells need no index."""
    store = Store(tmp_path / "results")
    store.prepare()
    written(store, CELLS[0])
    store.read_passes(keep=True)
    assert _parts(store) == []


def test_not_kept_again(store: Store) -> None:
    """What is in the index is not added again."""
    parts = _parts(store)
    store.read_passes(keep=True)
    assert _parts(store) == parts


def test_bucket(bucket: str) -> None:
    """In a bucket the index is made and used as in a folder."""
    store = Store(bucket)
    store.prepare()
    some = CELLS[:4]
    for each in some:
        written(store, each, duration_s=1.0)
    without = store.read_passes()
    store.add_to_index([each.cell_id for each in some[1:]])
    assert len(list(store.storage.list(index.FOLDER))) == 1
    assert store.read_passes().equals(without)

"""Results on disk: paths, refusals, the commit that one attempt wins, and what is read back."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fakes import cell, pass_row, written

from packsweep.errors import ResultsError
from packsweep.results import parquet, schema
from packsweep.results.commit import sha256
from packsweep.results.storage.objects import ObjectStorage
from packsweep.results.store import KeptSweep, Store

CELL = cell()
OTHER = cell(n=3)
ID = CELL.cell_id
REQUEST = {"cell_id": ID, "attempt_id": "a0", "repeat": 0, "request": 0, "text": "negative"}


@pytest.fixture(params=["folder", "s3"])
def anywhere(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """Empty results, in a folder and in a bucket."""
    place = tmp_path / "results"
    if request.param == "s3":
        place = request.getfixturevalue("bucket")
    found = Store(place)
    found.prepare()
    return found


def _files(store: Store | Path) -> list[str]:
    """Return all files, hidden ones too; of an object store, its keys."""
    root = store if isinstance(store, Path) else store.storage.local("")
    if root is None:
        return sorted(key for key, _ in Store(str(store.root)).storage.list(""))
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def _put(store: Store, key: str, content: bytes) -> None:
    store.storage.write(key, content)


def _get(store: Store, key: str) -> bytes:
    content = store.storage.read(key)
    assert content is not None
    return content


def _reasons(store: Store) -> list[Any]:
    return [row["reason"] for row in store.read_passes().to_pylist()]


def _refusal(store: Store) -> str:
    """Return why ``prepare`` refuses the folder, after checking that it is one line."""
    with pytest.raises(ResultsError) as caught:
        store.prepare()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_paths() -> None:
    """Everything of an attempt lies where the head of the module says."""
    store = Store("r")
    assert store.attempt("c", "a") == "cells/c/a.parquet"
    assert store.requests("c", "a") == "cells/c/requests-a.parquet"
    assert store.log("c", "a") == "logs/c/a.log"
    assert store.summary == "r/summary"


def test_prepare_new(anywhere: Store) -> None:
    """A new folder is marked as ours and holds no scratch file."""
    assert _files(anywhere) == ["packsweep.json"]
    anywhere.check()


def test_prepare_twice(anywhere: Store) -> None:
    """A folder of ours is taken as it is."""
    written(anywhere, CELL)
    anywhere.prepare()
    assert anywhere.is_done(ID)


def test_prepare_foreign(tmp_path: Path) -> None:
    """A folder that holds something else is refused, and stays as it was."""
    (tmp_path / "thesis.tex").touch()
    assert "contains other files (thesis.tex)" in _refusal(Store(tmp_path))
    assert _files(tmp_path) == ["thesis.tex"]


@pytest.mark.parametrize(
    ("folder", "reason"),
    [
        ("a", "is a file or lies in one"),
        ("a/b", "is a file or lies in one"),
        ("/proc/packsweep", "cannot be written: "),
    ],
)
def test_prepare_refused(tmp_path: Path, folder: str, reason: str) -> None:
    """A file is no folder and holds none, and what the system refuses has its reason."""
    (tmp_path / "a").touch()
    assert reason in _refusal(Store(tmp_path / folder))


def test_prepare_read_only(store: Store) -> None:
    """A folder of ours that cannot be written any more is refused."""
    if os.geteuid() == 0:
        pytest.skip("root writes everywhere")
    Path(store.root).chmod(0o500)
    assert "cannot be written: " in _refusal(store)
    Path(store.root).chmod(0o700)


def test_check_missing(tmp_path: Path) -> None:
    """Results that are not there are said to be so."""
    with pytest.raises(ResultsError, match="no such results folder"):
        Store(tmp_path / "no").check()


def test_check_missing_in_results(tmp_path: Path) -> None:
    """Results lie in a folder of that name, which is easily left out."""
    (tmp_path / "results" / "no").mkdir(parents=True)
    with pytest.raises(ResultsError, match=r"did you mean .*/results/no\?"):
        Store(tmp_path / "no").check()


def test_check_foreign(tmp_path: Path) -> None:
    """A folder without our mark holds no results."""
    with pytest.raises(ResultsError, match="holds no packsweep results"):
        Store(tmp_path).check()


def test_write_no_scratch(anywhere: Store) -> None:
    """Writing leaves the two files of the attempt and nothing else."""
    anywhere.write(ID, "a0", [pass_row(CELL)], [REQUEST])
    found = [f"cells/{ID}/a0.parquet", f"cells/{ID}/requests-a0.parquet", "packsweep.json"]
    assert _files(anywhere) == found


def test_write_unknown_column(store: Store) -> None:
    """A value without a column is our mistake, not silently lost."""
    with pytest.raises(AssertionError, match="no such columns"):
        store.write(ID, "a0", [pass_row(CELL, zzz=1)], [])


def test_write_disk_full(store: Store) -> None:
    """A write that fails half way raises and leaves no scratch file."""
    code = (
        "import resource, sys; from pathlib import Path; "
        "from packsweep.files import replace_file; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10)); "
        "replace_file(Path(sys.argv[1]), bytes(100))"
    )
    path = Path(store.root) / "big"
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False
    )
    assert "OSError: [Errno 27]" in done.stderr
    assert _files(store) == ["packsweep.json"]


def test_commit_first_wins(anywhere: Store) -> None:
    """The first of two attempts counts, and the second is reported."""
    written(anywhere, CELL, "a0")
    anywhere.write(ID, "a1", [pass_row(CELL, "a1")], [])
    assert not anywhere.commit(ID, "a1")
    assert anywhere.committed(ID) == "a0"


def test_commit_no_scratch(anywhere: Store) -> None:
    """Winning or losing, a commit leaves one file."""
    written(anywhere, CELL, "a0")
    anywhere.commit(ID, "a0")
    assert _files(anywhere) == [f"cells/{ID}/COMMIT", f"cells/{ID}/a0.parquet", "packsweep.json"]


def test_commit_racing_threads(anywhere: Store) -> None:
    """Of attempts that commit at once exactly one wins, every time, and it is the one named."""
    for round_ in range(30):
        one = cell(repeats=round_ + 1)
        names = [f"a{index}" for index in range(4)]
        for name in names:
            anywhere.write(one.cell_id, name, [pass_row(one, name)], [])
        barrier = threading.Barrier(4)
        won: list[str] = []

        def race(
            name: str,
            cell_id: str = one.cell_id,
            barrier: threading.Barrier = barrier,
            won: list[str] = won,
        ) -> None:
            barrier.wait()
            if anywhere.commit(cell_id, name):
                won.append(name)

        threads = [threading.Thread(target=race, args=(name,)) for name in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert won == [anywhere.committed(one.cell_id)]


Won = tuple[str, str, bool]  # cell, attempt, told that it was first


def _race(root: str, name: str, cell_ids: list[str], barrier: Barrier, won: Queue[Won]) -> None:
    for cell_id in cell_ids:
        barrier.wait()
        won.put((cell_id, name, Store(root).commit(cell_id, name)))


def test_commit_racing_processes(store: Store) -> None:
    """The same with processes, which share nothing but the folder."""
    context = multiprocessing.get_context("fork")
    some = [cell(repeats=count) for count in range(1, 31)]
    for one in some:
        for name in ("a0", "a1"):
            store.write(one.cell_id, name, [pass_row(one, name)], [])
    ids = [one.cell_id for one in some]
    barrier = context.Barrier(2)
    won: Queue[Won] = context.Queue()
    racers = [
        context.Process(target=_race, args=(store.root, name, ids, barrier, won))
        for name in ("a0", "a1")
    ]
    for racer in racers:
        racer.start()
    answers = [won.get(timeout=300) for _ in range(2 * len(ids))]
    for racer in racers:
        racer.join()
    winners = {cell_id: name for cell_id, name, first in answers if first}
    assert len([None for *_, first in answers if first]) == len(ids)
    assert winners == {cell_id: store.committed(cell_id) for cell_id in ids}


def test_commit_broken_replaced(anywhere: Store) -> None:
    """A COMMIT that names nothing readable gives way to the next attempt."""
    anywhere.write(ID, "a1", [pass_row(CELL, "a1")], [])
    _put(anywhere, f"cells/{ID}/COMMIT", b"gone")
    assert not anywhere.is_done(ID)
    assert anywhere.commit(ID, "a1")
    assert anywhere.is_done(ID)


def _truncated(content: bytes) -> bytes:
    return content[:-10]


def _zero_middle(content: bytes) -> bytes:
    torn = bytearray(content)
    torn[4 : len(torn) // 4] = bytes(len(torn) // 4 - 4)
    return bytes(torn)


def _with_metadata(content: bytes, metadata: dict[bytes, bytes]) -> bytes:
    table = pq.read_table(pa.BufferReader(content))
    return parquet.to_parquet(table.replace_schema_metadata(metadata))


def _other_version(content: bytes) -> bytes:
    return _with_metadata(content, {schema.VERSION_KEY: str(schema.SCHEMA_VERSION + 1).encode()})


def _version_of_bytes(content: bytes) -> bytes:
    return _with_metadata(content, {schema.VERSION_KEY: bytes([255])})


def _no_version(content: bytes) -> bytes:
    return _with_metadata(content, {})


def _no_rows(content: bytes) -> bytes:
    return parquet.to_parquet(pq.read_table(pa.BufferReader(content)).slice(0, 0))


DAMAGE = [
    _truncated,
    _zero_middle,
    lambda _: b"",
    _other_version,
    _version_of_bytes,
    _no_version,
    _no_rows,
]
DAMAGE_IDS = ["truncated", "torn", "empty", "other version", "bytes", "no version", "no rows"]


def test_is_done_missing(store: Store) -> None:
    """A committed file that is gone does not count, and hurts no other cell."""
    written(store, CELL)
    written(store, cell(n=3))
    (Path(store.root) / store.attempt(ID, "a0")).unlink()
    assert not store.is_done(ID)
    assert [row["n"] for row in store.read_passes().to_pylist()] == [3]


@pytest.mark.parametrize("damage", DAMAGE, ids=DAMAGE_IDS)
def test_is_done_damaged(anywhere: Store, damage: Callable[[bytes], bytes]) -> None:
    """A committed file that does not read back does not count, and hurts no other cell."""
    other = cell(n=3)
    written(anywhere, CELL)
    written(anywhere, other)
    key = anywhere.attempt(ID, "a0")
    _put(anywhere, key, damage(_get(anywhere, key)))
    assert not anywhere.is_done(ID)
    assert anywhere.done([ID, other.cell_id]) == {other.cell_id}
    assert [row["n"] for row in anywhere.read_passes().to_pylist()] == [3]


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"\n"])
def test_is_done_broken_commit(anywhere: Store, content: bytes) -> None:
    """A COMMIT that is empty or no text commits nothing."""
    written(anywhere, CELL)
    _put(anywhere, f"cells/{ID}/COMMIT", content)
    assert not anywhere.is_done(ID)


def test_is_done_unknown_cell(anywhere: Store) -> None:
    """A cell without a folder is not done."""
    assert not anywhere.is_done("never-seen")
    assert anywhere.attempts("never-seen") == []


def test_read_failed_attempt(store: Store) -> None:
    """Where nothing is committed, the last failed attempt is returned with its reason."""
    for index, reason in enumerate(["first", "second"]):
        row = pass_row(CELL, f"a{index}", outcome="crashed", reason=reason)
        store.write(ID, f"a{index}", [row], [])
        os.utime(Path(store.root) / store.attempt(ID, f"a{index}"), ns=(index, index))
    assert _reasons(store) == ["second"]
    assert store.attempts(ID) == ["a0", "a1"]


def test_read_committed_over_failed(anywhere: Store) -> None:
    """A committed attempt counts, whatever failed before or after."""
    anywhere.write(ID, "a0", [pass_row(CELL, "a0", outcome="crashed", reason="before")], [])
    written(anywhere, CELL, "a1")
    anywhere.write(ID, "a2", [pass_row(CELL, "a2", outcome="crashed", reason="after")], [])
    assert _reasons(anywhere) == [None]


def test_read_ok_not_committed(anywhere: Store) -> None:
    """A good attempt that died before its commit is not done and does not count as measured."""
    anywhere.write(ID, "a0", [pass_row(CELL)], [])
    assert not anywhere.is_done(ID)
    assert [row for row in anywhere.read_passes().to_pylist() if row["outcome"] == "ok"] == []


def test_read_requests_of_counting(anywhere: Store) -> None:
    """The requests returned are those of the attempt that counts."""
    anywhere.write(ID, "a1", [pass_row(CELL, "a1")], [{**REQUEST, "attempt_id": "a1"}])
    anywhere.write(ID, "a0", [pass_row(CELL)], [REQUEST])
    anywhere.commit(ID, "a0")
    assert [row["attempt_id"] for row in anywhere.read_requests().to_pylist()] == ["a0"]


def test_read_requests_damaged(anywhere: Store) -> None:
    """A torn file of requests does not make the others unreadable."""
    other = cell(n=3)
    for one in (CELL, other):
        anywhere.write(one.cell_id, "a0", [pass_row(one)], [{**REQUEST, "cell_id": one.cell_id}])
        anywhere.commit(one.cell_id, "a0")
    key = anywhere.requests(ID, "a0")
    _put(anywhere, key, _truncated(_get(anywhere, key)))
    assert {row["cell_id"] for row in anywhere.read_requests().to_pylist()} == {other.cell_id}


def _earlier(content: bytes) -> bytes:
    """Return a file of passes as the version before ``prompt_type`` wrote it."""
    table = pq.read_table(pa.BufferReader(content)).drop_columns(["prompt_type"])
    return parquet.to_parquet(table.replace_schema_metadata({schema.VERSION_KEY: b"3"}))


def test_read_earlier_version(anywhere: Store) -> None:
    """Cells of an earlier version are done; a column that they lack holds what was the rule."""
    old, new = cell(n=3), cell(n=4, prompt_type="tokens")
    for one in (old, new):
        anywhere.write(one.cell_id, "a0", [pass_row(one)], [])
    key = anywhere.attempt(old.cell_id, "a0")
    _put(anywhere, key, _earlier(_get(anywhere, key)))
    for one in (old, new):
        anywhere.commit(one.cell_id, "a0")
    assert anywhere.done([old.cell_id, new.cell_id]) == {old.cell_id, new.cell_id}
    for _ in range(2):  # from the files, then from the index
        passes = anywhere.read_passes(keep=True)
        assert passes.schema.equals(schema.arrow_schema(schema.PASSES), check_metadata=True)
        assert passes.select(["n", "prompt_type"]).to_pylist() == [
            {"n": 3, "prompt_type": "text"},
            {"n": 4, "prompt_type": "tokens"},
        ]
        anywhere.add_to_index([old.cell_id, new.cell_id])


def _earlier_requests(content: bytes) -> bytes:
    """Return a file of requests as the version before ``confidence`` wrote it."""
    table = pq.read_table(pa.BufferReader(content)).drop_columns(["confidence"])
    return parquet.to_parquet(table.replace_schema_metadata({schema.VERSION_KEY: b"4"}))


def test_read_requests_of_earlier_version(anywhere: Store) -> None:
    """Requests of two versions are one table; what the earlier one did not record is null."""
    other = cell(n=3)
    for one in (CELL, other):
        request = {**REQUEST, "cell_id": one.cell_id, "confidence": 0.5}
        anywhere.write(one.cell_id, "a0", [pass_row(one)], [request])
    key = anywhere.requests(ID, "a0")
    _put(anywhere, key, _earlier_requests(_get(anywhere, key)))
    for one in (CELL, other):
        anywhere.commit(one.cell_id, "a0")
    rows = anywhere.read_requests().to_pylist()
    assert {row["cell_id"]: row["confidence"] for row in rows} == {ID: None, other.cell_id: 0.5}


def test_read_nothing(anywhere: Store) -> None:
    """Empty results are empty tables with all columns."""
    assert anywhere.read_passes().schema.names == [column.name for column in schema.PASSES]
    assert anywhere.read_requests().num_rows == 0


def test_read_foreign_files(anywhere: Store) -> None:
    """Files and folders that are not ours are passed over."""
    written(anywhere, CELL)
    foreign = ["cells/notes.txt", "cells/a/b/c.parquet", f"cells/{ID}/copy of a0.xlsx", "todo.md"]
    foreign += [f"cells/{ID}/.0123.tmp", f"cells/{ID}/.hidden.parquet"]
    for key in foreign:
        _put(anywhere, key, b"half")
    _put(anywhere, f"cells/{ID}/mine.parquet", parquet.to_parquet(pa.table({"x": [1]})))
    assert anywhere.is_done(ID)
    assert _reasons(anywhere) == [None]


def test_read_foreign_file_alone(anywhere: Store) -> None:
    """A foreign Parquet file in the folder of a cell is no attempt that counts."""
    _put(anywhere, f"cells/{ID}/mine.parquet", parquet.to_parquet(pa.table({"x": [1]})))
    assert anywhere.read_passes().num_rows == 0


# Nothing is believed.


def _two(store: Store) -> tuple[str, str]:
    """Write and commit two cells with requests; return their ids."""
    for one in (CELL, OTHER):
        request = {**REQUEST, "cell_id": one.cell_id}
        store.write(one.cell_id, "a0", [pass_row(one)], [request])
        assert store.commit(one.cell_id, "a0")
    return CELL.cell_id, OTHER.cell_id


def _named(caplog: pytest.LogCaptureFixture, *parts: str) -> None:
    """Check that the one thing that is wrong was named once, on one line, with ``parts``."""
    assert len(caplog.messages) == 1
    assert "\n" not in caplog.messages[0]
    assert all(part in caplog.messages[0] for part in parts)


def test_copied_folder(anywhere: Store, caplog: pytest.LogCaptureFixture) -> None:
    """A copy of a cell's folder does not double its repeats; it is named once."""
    _two(anywhere)
    for name in ("COMMIT", "a0.parquet", "requests-a0.parquet"):
        _put(anywhere, f"cells/{ID}.bak/{name}", _get(anywhere, f"cells/{ID}/{name}"))
    for _ in range(2):
        passes = anywhere.read_passes().to_pylist()
        assert sorted(row["cell_id"] for row in passes) == sorted([ID, OTHER.cell_id])
        assert anywhere.read_requests().num_rows == 2
    assert not anywhere.is_done(f"{ID}.bak")
    _named(caplog, f"cells/{ID}.bak/a0.parquet: holds other rows than its own: {ID} (attempt a0)")


@pytest.mark.parametrize("with_requests", [True, False])
def test_file_of_another_cell(
    anywhere: Store, caplog: pytest.LogCaptureFixture, *, with_requests: bool
) -> None:
    """Another cell's file does not count under a ``COMMIT`` that fits it, of today or of before."""
    _two(anywhere)
    content = _get(anywhere, anywhere.attempt(OTHER.cell_id, "a0"))
    _put(anywhere, anywhere.attempt(ID, "a0"), content)
    words = ["a0", str(schema.SCHEMA_VERSION), sha256(content)]
    if with_requests:
        words.append(sha256(_get(anywhere, anywhere.requests(ID, "a0"))))
    _put(anywhere, f"cells/{ID}/COMMIT", "\n".join(words).encode())
    assert anywhere.done([ID, OTHER.cell_id]) == {OTHER.cell_id}
    assert anywhere.read_passes().column("n").to_pylist() == [OTHER.n]
    _named(caplog, f"cells/{ID}/a0.parquet: holds other rows", f"{OTHER.cell_id} (attempt a0)")


def test_file_of_another_attempt(anywhere: Store, caplog: pytest.LogCaptureFixture) -> None:
    """A file under the name of another attempt of the same cell does not count."""
    anywhere.write(ID, "a1", [pass_row(CELL, "a0")], [])
    with pytest.raises(ResultsError, match=f"cells/{ID}/a1.parquet: is not there as it was"):
        anywhere.commit(ID, "a1")
    assert not caplog.messages
    failed = pass_row(CELL, "a0", outcome="crashed", reason="gone")
    anywhere.write(ID, "a1", [failed], [])
    assert _reasons(anywhere) == []
    _named(caplog, "a1.parquet: holds other rows than its own", "(attempt a0)")


@pytest.mark.parametrize(
    "name",
    ["../../x", "../x/a0", "/etc/passwd", "a/b", "a.0", "..", "-", "a" * 65, "a" * 300, "a\0b", ""],
)
def test_commit_names_path(anywhere: Store, caplog: pytest.LogCaptureFixture, name: str) -> None:
    """What is no plain name names no attempt; nothing outside the cell's folder is read."""
    _two(anywhere)
    words = (name, str(schema.SCHEMA_VERSION), "0" * 64)
    _put(anywhere, f"cells/{ID}/COMMIT", "\n".join(words).encode())
    assert anywhere.committed(ID) is None
    assert anywhere.done([ID, OTHER.cell_id]) == {OTHER.cell_id}
    assert anywhere.read_passes().column("n").to_pylist() == [OTHER.n]
    _named(caplog, f"cells/{ID}/COMMIT: names no attempt of a schema that is read here")
    assert anywhere.commit(ID, "a0")
    assert anywhere.is_done(ID)


def test_commit_path_outside(store: Store) -> None:
    """A file outside is not read, whatever ``COMMIT`` says of it."""
    _two(store)
    content = _get(store, store.attempt(ID, "a0"))
    (Path(store.root) / "x.parquet").write_bytes(content)
    line = f"../../x\n{schema.SCHEMA_VERSION}\n{sha256(content)}\n"
    _put(store, f"cells/{ID}/COMMIT", line.encode())
    assert not store.is_done(ID)


@pytest.mark.parametrize("kind", ["requests", "passes"])
def test_not_committed(anywhere: Store, caplog: pytest.LogCaptureFixture, kind: str) -> None:
    """Whole, sealed rows of the same attempt that are not those committed: the cell is not done.

    Without its requests the passes still hold.
    """
    _two(anywhere)
    other = parquet.table([pass_row(CELL, texts_per_s=9.5)], schema.PASSES)
    key = anywhere.attempt(ID, "a0")
    if kind == "requests":
        other = parquet.table([{**REQUEST, "text": "positive"}], schema.REQUESTS)
        key = anywhere.requests(ID, "a0")
    _put(anywhere, key, parquet.to_parquet(other))
    assert anywhere.done([ID, OTHER.cell_id]) == {OTHER.cell_id}
    if kind == "requests":
        assert anywhere.read_requests().column("cell_id").to_pylist() == [OTHER.cell_id]
        assert anywhere.read_passes().num_rows == 2
    _named(caplog, f"{key}: is not as it was committed; it does not count")
    anywhere.write(ID, "a1", [pass_row(CELL, "a1")], [])
    assert anywhere.commit(ID, "a1")


def test_requests_missing(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """Requests that were committed and are gone are missed."""
    _two(store)
    key = store.requests(ID, "a0")
    (Path(store.root) / key).unlink()
    assert not store.is_done(ID)
    _named(caplog, f"{key}: is not there")


def test_requests_missing_of_many_cells(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """Who deletes the tables of requests gets one line; that passes are missing is another."""
    _two(store)
    for cell_id in (ID, OTHER.cell_id):
        (Path(store.root) / store.requests(cell_id, "a0")).unlink()
    assert store.read_requests().num_rows == 0
    _named(caplog, f"{store.requests(min(ID, OTHER.cell_id), 'a0')}: is not there", "of 2 such")
    caplog.clear()
    (Path(store.root) / store.attempt(ID, "a0")).unlink()
    store.read_passes()
    _named(caplog, f"{store.attempt(ID, 'a0')}: is not there; it does not count")


def test_commit_of_before(anywhere: Store, caplog: pytest.LogCaptureFixture) -> None:
    """A ``COMMIT`` of before says nothing of requests: the cell is done, and they are read."""
    _two(anywhere)
    words = _get(anywhere, f"cells/{ID}/COMMIT").split()
    _put(anywhere, f"cells/{ID}/COMMIT", b"\n".join(words[:3]) + b"\n")
    assert anywhere.done([ID, OTHER.cell_id]) == {ID, OTHER.cell_id}
    assert anywhere.read_requests().num_rows == 2
    assert not caplog.messages


@pytest.mark.timeout(10)
@pytest.mark.parametrize("name", ["COMMIT", "a0.parquet", "requests-a0.parquet"])
@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, lambda path: path.symlink_to(path)])
def test_strange_entry(store: Store, name: str, make: Callable[[Path], object]) -> None:
    """A FIFO, a folder or a loop of links in the place of a file costs its own cell alone."""
    _two(store)
    path = Path(store.root, store.cell(ID), name)
    path.unlink()
    make(path)
    assert store.done([ID, OTHER.cell_id]) == {OTHER.cell_id}
    assert OTHER.n in store.read_passes().column("n").to_pylist()
    assert OTHER.cell_id in store.read_requests().column("cell_id").to_pylist()
    assert store.cell_ids() == sorted([ID, OTHER.cell_id])


def _flipped(content: bytes, bit: int) -> bytes:
    flipped = bytearray(content)
    flipped[bit // 8] ^= 1 << bit % 8
    return bytes(flipped)


FLIPS = 60


@pytest.mark.parametrize("kind", ["COMMIT", "a0.parquet", "requests-a0.parquet"])
def test_flipped_bit(store: Store, kind: str) -> None:
    """One flipped bit of any committed file changes no value that is read."""
    _two(store)
    whole = [store.read_passes(), store.read_requests()]
    key = f"cells/{ID}/{kind}"
    content = _get(store, key)
    source = random.Random(kind)
    for bit in source.sample(range(8 * len(content)), min(FLIPS, 8 * len(content))):
        _put(store, key, _flipped(content, bit))
        assert kind == "COMMIT" or not store.is_done(ID)
        for table, before in zip([store.read_passes(), store.read_requests()], whole, strict=True):
            rows, known = table.to_pylist(), before.to_pylist()
            assert all(row in known for row in rows)
            assert [row for row in known if row["cell_id"] == OTHER.cell_id] == [
                row for row in rows if row["cell_id"] == OTHER.cell_id
            ]


def test_flipped_bit_failed(store: Store) -> None:
    """And none of the file of a failed attempt, which no ``COMMIT`` vouches for."""
    store.write(ID, "a0", [pass_row(CELL, outcome="crashed", reason="the reason")], [])
    key = store.attempt(ID, "a0")
    content = _get(store, key)
    bits = random.Random(0).sample(range(8 * len(content)), FLIPS)
    name_of_seal = 8 * content.index(b"packsweep.sha256")
    for bit in (*bits, *range(name_of_seal, name_of_seal + 8 * len("packsweep.sha256"))):
        _put(store, key, _flipped(content, bit))
        assert store.read_passes().num_rows == 0


# The place is lost.


def test_lost(store: Store) -> None:
    """Where the folder is deleted meanwhile, a write says so and makes no other folder."""
    store.check_writable()
    shutil.rmtree(store.root)
    acts: list[Callable[[], object]] = [
        store.check,
        store.check_writable,
        lambda: store.write(ID, "a0", [pass_row(CELL)], []),
        lambda: store.commit(ID, "a0"),
        lambda: store.local_log(ID, "a0"),
        lambda: store.write_log(ID, "a0", b""),
        lambda: store.write_summary([]),
        lambda: store.keep_sweep(b"", []),
    ]
    for act in acts:
        with pytest.raises(ResultsError) as caught:
            act()
        assert "\n" not in str(caught.value)
    assert not Path(store.root).exists()


@pytest.mark.parametrize(
    ("content", "cells"), [(b'["a-1", "b-2"]', ("a-1", "b-2")), (b'["a-1"', None), (None, None)]
)
def test_sweep_cells(store: Store, content: bytes | None, cells: tuple[str, ...] | None) -> None:
    """Results of earlier versions have no list, and a damaged one is none."""
    if content is not None:
        store.storage.write("sweep_cells.json", content)
    assert store.kept_sweep() == KeptSweep(cell_ids=cells)


def test_emptied(anywhere: Store) -> None:
    """A place that was emptied is as good as lost: what is written there nobody could read."""
    written(anywhere, CELL)
    _delete(anywhere)
    with pytest.raises(ResultsError, match="holds no packsweep results"):
        anywhere.write(ID, "a1", [pass_row(CELL, "a1")], [])


def _delete(store: Store) -> None:
    folder = store.storage.local("")
    if folder is not None:
        (folder / "packsweep.json").unlink()
        return
    import obstore

    storage = store.storage
    assert isinstance(storage, ObjectStorage)
    obstore.delete(storage._quick, "packsweep.json")


def test_log_not_writable(store: Store) -> None:
    """A log that cannot be made is one line."""
    (Path(store.root) / "logs").touch()
    with pytest.raises(ResultsError, match=r"logs/.*: cannot be written: Not a directory"):
        store.local_log(ID, "a0")


CELLS = tuple(cell(n=n) for n in range(1, 5))


@settings(max_examples=15)
@given(order=st.permutations(CELLS))
def test_read_order(order: list[Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    """What is read does not depend on the order in which cells were committed."""
    store = Store(tmp_path_factory.mktemp("store"))
    store.prepare()
    for one in order:
        written(store, one)
    assert [row["n"] for row in store.read_passes().to_pylist()] == [1, 2, 3, 4]


def test_write_summary(store: Store) -> None:
    """The summary is written as Parquet and as CSV, and leaves no scratch file."""
    store.write_summary([{"cell_id": "c", "n": 4, "pack_size": None}])
    assert _files(store) == ["packsweep.json", "summary.csv", "summary.parquet"]
    row = pq.read_table(f"{store.summary}.parquet").to_pylist()[0]
    assert (row["n"], row["pack_size"]) == (4, None)
    header, line = Path(f"{store.summary}.csv").read_text(encoding="utf-8").splitlines()
    assert header.startswith('"cell_id","group_id","attempt_id"')
    assert line.startswith('"c",')


def test_check_writable(tmp_path: Path) -> None:
    """A place that is there is written and stays what it is; one that is gone is not made again."""
    store = Store(tmp_path / "results")
    store.prepare()
    before = (tmp_path / "results" / "packsweep.json").read_bytes()
    store.check_writable()
    assert (tmp_path / "results" / "packsweep.json").read_bytes() == before
    shutil.rmtree(tmp_path / "results")
    with pytest.raises(ResultsError, match="no such results folder"):
        store.check_writable()
    assert not (tmp_path / "results").exists()

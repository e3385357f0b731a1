"""What a Ray task tells its driver, without Ray: phases, the end, and why it does not begin."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.fakes import cells, task, written

from packsweep.errors import ResultsError
from packsweep.results.store import Store
from packsweep.run.executors import ray as ray_executor
from packsweep.run.executors import ray_address
from packsweep.run.executors.nodes import Demand
from packsweep.run.executors.ray import (
    RayExecutor,
    _env_vars,
    stream_attempt,
    stream_attempts,
)
from packsweep.run.launch import Interpreter
from packsweep.run.task import Status, task_from_json
from packsweep.sweep.cells import Cell
from packsweep.sweep.spec import LimitsTable


def _cell(model: Path, **simulated: Any) -> Cell:
    return cells(model={"name": str(model)}, simulated=simulated)[0]


def test_stream_attempt(store: Store, byte_model: Path) -> None:
    """The first word says that it began and where, the last one how it ended."""
    told = list(stream_attempt(task(_cell(byte_model, real_seconds=0.6), store.root), "node"))
    assert isinstance(told[0], dict)
    assert (told[0]["phase"], told[0]["node_id"]) == ("spawn", "node")
    assert {"warmup", "pass 0"} <= {word["phase"] for word in told if isinstance(word, dict)}
    assert json.loads(str(told[-1]))["outcome"] == "ok"


def test_stream_attempt_done_before(store: Store, byte_model: Path) -> None:
    """A cell that was committed while its attempt was queued is not begun."""
    done = _cell(byte_model)
    written(store, done, "other")
    (word,) = stream_attempt(task(done, store.root), "node")
    assert json.loads(str(word))["reason"] == "another attempt was committed meanwhile"
    assert store.storage.read(store.log(done.cell_id, "a0")) is None


def test_stream_attempt_done_meanwhile(store: Store, byte_model: Path) -> None:
    """An attempt is ended at its next phase once another one was committed."""
    slow = _cell(byte_model, real_seconds=1.0)
    told = stream_attempt(task(slow, store.root), "node")
    next(told)
    written(store, slow, "other")
    *_, last = told
    assert json.loads(str(last))["reason"] == "another attempt was committed meanwhile"
    assert store.attempts(slow.cell_id) == ["other"]


def test_stream_attempt_folder_not_shared(tmp_path: Path, byte_model: Path) -> None:
    """A node that does not see the driver's folder makes none of its own."""
    told = stream_attempt(task(_cell(byte_model), tmp_path / "elsewhere"), "node")
    next(told)
    with pytest.raises(ResultsError, match="no such results folder"):
        next(told)
    assert not (tmp_path / "elsewhere").exists()


def _children() -> set[psutil.Process]:
    """Return what runs below this process; after other tests multiprocessing's tracker does."""
    return set(psutil.Process().children(recursive=True))


def test_stream_attempts(store: Store, byte_model: Path) -> None:
    """Cells of one engine run one after the other in one worker, which is gone at the end."""
    shared = cells(
        model={"name": str(byte_model)}, grid={"n": [2, 3, 4]}, measure={"isolation": "engine"}
    )
    tasks = [task(each, store.root, attempt_id=f"a{each.n}") for each in shared]
    written(store, shared[1], "other")
    before = _children()
    told = list(stream_attempts(tasks, "node", Interpreter()))
    ends = [json.loads(word) for word in told if isinstance(word, str)]
    assert [(end["attempt_id"], end["outcome"]) for end in ends] == [
        ("a2", "ok"),
        ("a3", ends[1]["outcome"]),
        ("a4", "ok"),
    ]
    assert ends[1]["reason"] == "another attempt was committed meanwhile"
    rows = store.read_passes().to_pylist()
    methods = {row["n"]: row["start_method"] for row in rows if row["attempt_id"] != "other"}
    assert methods == {2: "spawn", 4: "shared"}
    assert _children() <= before


def test_stream_attempts_cancelled(store: Store, byte_model: Path) -> None:
    """A task that is ended in the middle of its batch leaves no worker and no result."""
    shared = cells(
        model={"name": str(byte_model)},
        grid={"n": [2, 3]},
        measure={"isolation": "engine"},
        simulated={"real_seconds": 30.0},
    )
    before = _children()
    told = stream_attempts([task(each, store.root) for each in shared], "node", Interpreter())
    while next(told)["phase"] != "warmup":  # type: ignore[index]
        pass
    told.close()  # type: ignore[attr-defined]
    assert _children() <= before
    assert store.committed(shared[0].cell_id) is None


class _Batch:
    """What a task of ``_Cluster`` tells, one word after the other, of the node that it is on."""

    def __init__(self, tasks: list[str], node_id: str, outcome: str) -> None:
        self.attempts = [task_from_json(each).attempt_id for each in tasks]
        self._words = iter(
            [
                word
                for each in map(task_from_json, tasks)
                for word in (
                    {"phase": "spawn", "host": node_id, "node_id": node_id},
                    Status(
                        cell_id=each.cell.cell_id,
                        attempt_id=each.attempt_id,
                        attempt=0,
                        outcome=outcome,
                    ).to_json(),
                )
            ]
        )

    def __next__(self) -> dict[str, str] | str:
        return next(self._words)


class _Cluster:
    """Two nodes of a GPU each, as Ray shows them: on "bad" every attempt crashes."""

    class exceptions:  # noqa: N801  (Ray's name)
        RayError = type("RayError", (Exception,), {})
        RayTaskError = type("RayTaskError", (RayError,), {})

    def __init__(self) -> None:
        self.submitted: list[_Batch] = []
        self.cancelled: list[_Batch] = []
        self._without_bad = False

    def nodes(self) -> list[dict[str, Any]]:
        resources = {"GPU": 1.0, "CPU": 8.0}
        return [
            {"NodeID": name, "Alive": True, "Labels": {}, "Resources": resources}
            for name in ("bad", "good")
        ]

    def options(self, **options: Any) -> _Cluster:
        self._without_bad = "bad" in str(options.get("label_selector"))
        return self

    def remote(self, tasks: list[str], _: object) -> _Batch:
        on_bad = not self.submitted and not self._without_bad
        self.submitted.append(_Batch(tasks, *(("bad", "crashed") if on_bad else ("good", "ok"))))
        return self.submitted[-1]

    def wait(self, refs: list[_Batch], **_: object) -> tuple[list[_Batch], list[_Batch]]:
        return refs[:1], refs[1:]

    def get(self, word: object) -> object:
        return word

    def cancel(self, ref: _Batch, *, force: bool) -> None:
        assert force
        self.cancelled.append(ref)


def _joined(
    cluster: _Cluster, monkeypatch: pytest.MonkeyPatch, demand: Demand, **more: Any
) -> RayExecutor:
    monkeypatch.setattr(ray_address, "check_version", lambda: None)
    monkeypatch.setattr(ray_address, "check_address", lambda _: None)
    monkeypatch.setattr(ray_executor, "_join", lambda _: cluster)
    monkeypatch.setattr(ray_executor, "_remote", lambda _: cluster)
    return RayExecutor("there", demand, **{"say": lambda _: None, **more})


def test_batch_of_an_excluded_node(
    store: Store, byte_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a batch has not begun when its node is excluded goes elsewhere; each attempt ends once.

    Two failures exclude a node here.
    """
    cluster, said = _Cluster(), list[str]()
    executor = _joined(cluster, monkeypatch, Demand(), say=said.append, share_engines=True)
    shared = cells(
        model={"name": str(byte_model)},
        grid={"n": [2, 3, 4, 5, 6, 7, 8, 9]},
        measure={"isolation": "engine"},
    )
    limits = LimitsTable(stop_after_failures=2)
    for each in shared:
        executor.start(task(each, store.root, attempt_id=f"a{each.n}", limits=limits))
    ended = [
        status
        for _ in range(40)
        if executor._pending or executor._running
        for status in executor.wait(0.0)
    ]
    bad, *_ = cluster.submitted
    assert len(bad.attempts) == 4
    assert [each.attempt_id for each in ended if each.outcome == "crashed"] == bad.attempts[:2]
    assert sorted(each.attempt_id for each in ended) == [f"a{n}" for n in range(2, 10)]
    assert bad in cluster.cancelled
    assert sum("gets no more cells" in line for line in said) == 1


def test_env_vars(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes learn where things are, never a secret."""
    for name in ("PACKSWEEP_CACHE", "HF_HOME", "AWS_REGION"):
        monkeypatch.setenv(name, "there")
    for name in ("HF_TOKEN", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://me:secret@store")
    found = _env_vars()
    assert {"PACKSWEEP_CACHE", "HF_HOME", "AWS_REGION"} <= found.keys()
    assert "secret" not in " ".join(found.values())


class _Nodes(_Cluster):
    """Nodes of so many GPUs; each that gets free goes to the smallest task that fits, as Ray's may.

    Attributes:
        begun: GPUs of the tasks that began, in order.
    """

    def __init__(self, *num_gpus: int) -> None:
        super().__init__()
        self.begun: list[int] = []
        self.taken = 0
        self._num_gpus = num_gpus
        self._asked = 0
        self._on: list[tuple[_Batch, int, int]] = []
        self._queued: list[tuple[int, _Batch]] = []

    def nodes(self) -> list[dict[str, Any]]:
        return [
            {"NodeID": str(i), "Alive": True, "Labels": {}, "Resources": {"GPU": num, "CPU": 8.0}}
            for i, num in enumerate(self._num_gpus)
        ]

    def options(self, **options: Any) -> _Nodes:
        self._asked = options["num_gpus"]
        return self

    def remote(self, tasks: list[str], _: object) -> _Batch:
        batch = _Batch(tasks, "node", "ok")
        self._queued.append((self._asked, batch))
        return batch

    def wait(self, refs: list[_Batch], **_: object) -> tuple[list[_Batch], list[_Batch]]:
        self._on = [each for each in self._on if each[0] in refs]
        for size, batch in sorted(self._queued, key=lambda pair: pair[0]):
            for node, num in enumerate(self._num_gpus):
                free = num - self.taken - sum(gpus for _, on, gpus in self._on if on == node)
                if free >= size:
                    self._queued.remove((size, batch))
                    self._on.append((batch, node, size))
                    self.begun.append(size)
                    break
        ready = [batch for batch, _, _ in self._on]
        return ready[:1], ready[1:]


def _sizes_begun(
    cluster: _Nodes,
    sizes: list[int],
    store: Store,
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
    **more: Any,
) -> list[int]:
    """Return the GPUs of the tasks in the order in which they began, all attempts ended."""
    executor = _joined(cluster, monkeypatch, Demand(num_gpus=2, least_gpus=1), **more)
    made = cells(
        model={"name": str(model)},
        grid={"n": [*range(1, 9)]},
        engine={"tensor_parallel_size": [1, 2]},
        measure={"isolation": "engine"} if more else {},
    )
    left = {size: [each for each in made if each.num_gpus == size] for size in (1, 2)}
    for size in sizes:
        one = left[size].pop()
        executor.start(task(one, store.root, attempt_id=one.cell_id))
    ended = [status for _ in range(40) for status in executor.wait(0.0)]
    assert len(ended) == len(sizes)
    return cluster.begun


def test_engines_of_two_sizes(
    store: Store, byte_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What fits first does not pass by what waits for both GPUs, and does not wait at its side."""

    def begun(*sizes: int) -> list[int]:
        return _sizes_begun(_Nodes(2), [*sizes], store, byte_model, monkeypatch)

    assert begun(2, 2, 2, 1, 1, 1) == [2, 2, 2, 1, 1, 1]
    assert begun(1, 1, 1, 2, 2) == [1, 1, 1, 2, 2]


def test_small_engines_beside_large_ones(
    store: Store, byte_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU that engines of two leave over is not idle meanwhile; it takes one at a time."""
    found = _sizes_begun(_Nodes(3), [2, 2, 2, 2, 1, 1, 1], store, byte_model, monkeypatch)
    assert found[:6] == [1, 2, 1, 2, 1, 2]


def test_engines_of_two_sizes_beside_others(
    store: Store, byte_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where somebody else uses a GPU, or a node has one alone, small engines need not wait."""
    cluster = _Nodes(2)
    cluster.taken = 1
    executor = _joined(cluster, monkeypatch, Demand(num_gpus=2, least_gpus=1))
    assert executor.num_at_once == 2
    two, one = cells(engine={"tensor_parallel_size": [2, 1]}, grid={"n": 1})
    for each in (two, one):
        executor.start(task(each, store.root, attempt_id=each.cell_id))
    executor.wait(0.0)
    assert cluster.begun == []
    monkeypatch.setattr(ray_executor, "_BEGIN_S", 0.0)
    for _ in range(5):
        executor.wait(0.0)
    assert cluster.begun == [1]
    uneven = _Nodes(2, 1)
    found = _sizes_begun(uneven, [2, 2, 2, 1, 1], store, byte_model, monkeypatch)
    assert sorted(found[:2]) == [1, 1]


def test_shared_engines_of_two_sizes(
    store: Store, byte_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of eight cells on two GPUs those across both take one engine, the others two."""
    sizes = [2, 2, 2, 2, 1, 1, 1, 1]
    found = _sizes_begun(_Nodes(2), sizes, store, byte_model, monkeypatch, share_engines=True)
    assert found == [2, 1, 1]

"""What a worker is given and what it gives back.

Both are JSON files, so a worker is a process like any other: locally, in a Ray task, or started by
hand to look into a failure (``python -m packsweep.run.worker TASK``).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from packsweep.models.chat import ChatTemplate
from packsweep.models.resolve import Model, resolve
from packsweep.results import schema
from packsweep.results.store import Store
from packsweep.sweep import cells as sweep_cells
from packsweep.sweep.cells import Cell
from packsweep.sweep.spec import LimitsTable
from packsweep.sweep.texts import LabelledText

# File in which a supervisor notes the moment at which it starts the worker (machine.process).
BEGAN = "began"
# File in which a worker keeps the phase that it is in.
PHASE = "phase"
# File in which a worker says how its attempt ended.
STATUS = "status.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One attempt at one cell.

    Attributes:
        results: absolute path or URI of the results.
        attempt: how many attempts there were before.
        texts: the cell's n texts.
        chat: the chat template that the cell's prompts are rendered with, if they are.
        gpu_hour_usd: what an hour of a GPU costs; None where the sweep does not say.
        api_key_env: the environment's name for the key of a server that is there.
    """

    cell: Cell
    attempt_id: str
    attempt: int
    results: str
    texts: Sequence[LabelledText]
    limits: LimitsTable
    chat: ChatTemplate | None = None
    gpu_hour_usd: float | None = None
    api_key_env: str | None = None

    @property
    def store(self) -> Store:
        """The results that the attempt belongs to."""
        return Store(self.results)

    @property
    def log(self) -> str:
        """Where what the worker prints lies in the end."""
        store = self.store
        return f"{store.absolute}/{store.log(self.cell.cell_id, self.attempt_id)}"

    def log_path(self, folder: Path) -> Path:
        """Return the file that the worker prints into: the log itself, or one in ``folder``."""
        return self.store.local_log(self.cell.cell_id, self.attempt_id) or folder / "worker.log"

    def resolve_model(self) -> Model:
        """Find the cell's model on this machine, as ``models.resolve`` does.

        Raises:
            ModelError: it is not there or cannot be used.
        """
        return resolve(
            self.cell.model,
            revision=self.cell.model_revision,
            tokenizer=self.cell.tokenizer,
            load_format=self.cell.load_format,
        )

    def to_json(self) -> str:
        return json.dumps({**_plain(self), "limits": self.limits.model_dump()})


def task_from_json(text: str) -> Task:
    values = json.loads(text)
    return Task(
        cell=sweep_cells.from_dict(values["cell"]),
        attempt_id=values["attempt_id"],
        attempt=values["attempt"],
        results=values["results"],
        texts=tuple(LabelledText(**text) for text in values["texts"]),
        limits=LimitsTable(**values["limits"]),
        chat=None if values["chat"] is None else ChatTemplate(**values["chat"]),
        gpu_hour_usd=values.get("gpu_hour_usd"),
        api_key_env=values.get("api_key_env"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """How an attempt ended, small enough to be sent around.

    Attributes:
        outcome: one of ``schema.OUTCOMES``.
        reason: one line; of an ok attempt only where another one counts.
        texts_per_s: as the summary has it, of a search at one of its rates; None unless ok.
        cached_share: the same.
        wall_s: from the worker's start to its end, the engine's start and stop included.
        log: path or URI of what the worker printed.
        lost: the cluster lost it, which says nothing about the cell.
        final: another attempt would end the same way.
        unwritten: its row could not be written.
        place: the node that it ran on, by Ray's id; None on this machine.
    """

    cell_id: str
    attempt_id: str
    attempt: int
    outcome: str
    reason: str | None = None
    texts_per_s: float | None = None
    cached_share: float | None = None
    wall_s: float = 0.0
    log: str | None = None
    lost: bool = False
    final: bool = False
    unwritten: bool = False
    place: str | None = None

    @property
    def is_retryable(self) -> bool:
        """Another attempt may end better."""
        return self.outcome != "ok" and self.outcome not in schema.DETERMINISTIC and not self.final

    def to_json(self) -> str:
        return json.dumps(asdict(self))


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """What a running attempt is at.

    Attributes:
        phase: as the worker names it: start, warmup, pass 0, ...; "queued" before it has begun.
        seconds: since the phase began.
        tokens_per_s: prompt tokens that vLLM said last in this phase; None where it said nothing.
    """

    cell_id: str
    phase: str
    seconds: float
    tokens_per_s: float | None = None


def done_by_another(task: Task) -> Status:
    """Return how an attempt ended that was not needed any more: its cell is done."""
    return Status(
        cell_id=task.cell.cell_id,
        attempt_id=task.attempt_id,
        attempt=task.attempt,
        outcome="ok",
        reason="another attempt was committed meanwhile",
    )


def status_from_json(text: str) -> Status:
    return Status(**json.loads(text))


def _plain(task: Task) -> dict[str, Any]:
    return {
        "cell": asdict(task.cell),
        "attempt_id": task.attempt_id,
        "attempt": task.attempt,
        "results": task.results,
        "gpu_hour_usd": task.gpu_hour_usd,
        "api_key_env": task.api_key_env,
        "texts": [{"text": text.text, "label": text.label} for text in task.texts],
        "chat": None if task.chat is None else asdict(task.chat),
    }

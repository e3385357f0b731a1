"""Cells with a known truth: rows of a summary and answers, without engines and files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tests.fakes import cell, pass_row

from packsweep.analysis.quality import Answers
from packsweep.results import schema, summary
from packsweep.results.schema import Row

LABELS = ("positive", "negative")


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way to label.

    Attributes:
        accuracy: the true one.
        pack_size: texts a prompt; one a prompt where None.
        whole: share of the wrong answers that come from prompts that go wrong as a whole.
    """

    accuracy: float
    texts_per_s: float = 100.0
    pack_size: int | None = None
    template: str = "original"
    whole: float = 0.0


def row(way: Way, num_texts: int, **values: Any) -> Row:
    """Return the way's row of a summary."""
    of = cell(
        strategy="separate" if way.pack_size is None else "chunked",
        pack_size=way.pack_size,
        n=num_texts,
        template=way.template,
        engine="vllm",
        load_format="auto",
    )
    speeds = dict.fromkeys(schema.MEASURED, way.texts_per_s)
    measured = {"duration_s": 1.0, "coverage": 1.0, "device": "NVIDIA H200", "device_uuid": "GPU-0"}
    passes = [pass_row(of, **{**speeds, **measured, **values}) for _ in range(2)]
    every = dict.fromkeys(column.name for column in schema.PASSES)
    made = summary.of_cell([{**every, **each} for each in passes])
    return {**dict.fromkeys(column.name for column in schema.SUMMARY), **made}


def answers(
    way: Way, of: Row, shared: np.ndarray[Any, Any], source: np.random.Generator, alike: float
) -> Answers:
    """Draw the way's answers.

    Args:
        way: whose truth.
        of: its row.
        shared: how hard each text is, 0 to 1, the same for all ways.
        source: of chance.
        alike: share of the texts on which all ways err together.
    """
    num_texts = len(shared)
    size = way.pack_size or 1
    prompts = np.arange(num_texts) // size
    hard = np.where(source.random(num_texts) < alike, shared, source.random(num_texts))
    whole = (1 - way.accuracy) * way.whole
    lost = source.random(int(prompts[-1]) + 1)[prompts] < whole
    single = (1 - way.accuracy - whole) / (1 - whole)
    right = (hard >= single) & ~lost
    expected = [LABELS[index % 2] for index in range(num_texts)]
    found = [
        label if good else LABELS[label == LABELS[0]]
        for label, good in zip(expected, right, strict=True)
    ]
    return Answers(
        group_id=of["group_id"],
        texts_sha256=of["texts_sha256"],
        texts=np.arange(num_texts),
        prompts=prompts.astype(np.int64),
        expected=tuple(expected),
        found=tuple(found),
    )


def draw(
    ways: Sequence[Way], rows: Sequence[Row], source: np.random.Generator, *, alike: float = 0.8
) -> dict[str, Answers]:
    """Return the answers of all ways over the same texts."""
    shared = source.random(int(rows[0]["n"]))
    return {
        of["group_id"]: answers(way, of, shared, source, alike)
        for way, of in zip(ways, rows, strict=True)
    }

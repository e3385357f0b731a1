"""From a sweep to cells: how many, which names, and what the names depend on."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes import REVIEWS, cell, cells, sweep

import packsweep
from packsweep.errors import TextsError
from packsweep.sweep import cells as sweep_cells
from packsweep.sweep import expansion
from packsweep.sweep.cells import Cell

REFERENCE = Path(__file__).resolve().parents[2] / "results" / "reference" / "h200"
AXES = st.fixed_dictionaries(
    {
        "n": st.lists(st.integers(1, 12), min_size=1, max_size=3, unique=True),
        "duplication": st.lists(st.integers(1, 5), min_size=1, max_size=3, unique=True),
        "instruction": st.sampled_from([["after"], ["before"], ["after", "before"]]),
        "template": st.sampled_from([["original"], ["original", "corrected"]]),
    }
)
SEQS = st.lists(st.integers(1, 64), min_size=1, max_size=3, unique=True)
SIZES = st.lists(st.integers(1, 12), min_size=1, max_size=3, unique=True)


def _length(axes: dict[str, list[Any]]) -> int:
    length = 1
    for values in axes.values():
        length *= len(values)
    return length


@given(AXES, SEQS)
def test_expand_length(axes: dict[str, list[Any]], seqs: list[int]) -> None:
    """There are as many cells as the product of the axes, each with a name of its own."""
    found = cells(grid={**axes, "strategy": ["packed", "separate"]}, engine={"max_num_seqs": seqs})
    assert len(found) == len({each.cell_id for each in found}) == 2 * _length(axes) * len(seqs)


@given(AXES, SIZES)
def test_expand_length_chunked(axes: dict[str, list[Any]], sizes: list[int]) -> None:
    """pack_size is an axis of the strategy chunked alone."""
    found = cells(grid={**axes, "strategy": ["packed", "chunked"], "pack_size": sizes})
    assert len(found) == _length(axes) * (1 + len(sizes))
    assert {each.pack_size for each in found if each.strategy == "packed"} == {None}
    assert {each.pack_size for each in found if each.strategy == "chunked"} == set(sizes)


def test_expand_repeated_value() -> None:
    """A value that stands twice in an axis makes one cell."""
    assert len(cells(grid={"n": [4, 4]})) == 1


def test_expand_order() -> None:
    """The grid's axes change fastest, in the order of the file."""
    found = cells(grid={"n": [4, 2]}, engine={"max_num_seqs": [8, 1]})
    assert [(each.settings["max_num_seqs"], each.n) for each in found] == [
        (8, 4),
        (8, 2),
        (1, 4),
        (1, 2),
    ]


def test_expand_too_few_reviews() -> None:
    """An n above the number of texts is refused with both numbers."""
    with pytest.raises(TextsError, match=r"grid\.n: 13 is more than the 12 texts there are"):
        cells(grid={"n": [4, 13]})


def test_expand_model_limit() -> None:
    """Where the sweep names no context limit, the model's own is passed to the engine."""
    assert cells()[0].settings["max_model_len"] == 100
    assert cells(engine={"max_model_len": 50})[0].settings["max_model_len"] == 50


@pytest.mark.parametrize(("state", "caching"), [("cold", True), ("primed", True), ("off", False)])
def test_expand_prefix_caching(state: str, caching: bool) -> None:  # noqa: FBT001
    """The cache state decides whether the engine caches prefixes."""
    found = cells(measure={"cache_state": state})
    assert [each.settings["enable_prefix_caching"] for each in found] == [caching]


def test_expand_fault_axis() -> None:
    """A list of planted faults makes a cell of each."""
    found = cells(simulated={"fault": ["none", "oom"]})
    assert [dict(each.simulated_settings)["fault"] for each in found] == ["none", "oom"]


@pytest.mark.parametrize(
    "change",
    [
        {"engine": {"max_num_seqs": 8}},
        {"engine": {"seed": 1}},
        {"engine": {"tensor_parallel_size": 2}},
        {"engine": {"pipeline_parallel_size": 2}},
        {"engine": {"max_model_len": 99}},
        {"grid": {"template": "corrected"}},
        {"grid": {"instruction": "before"}},
        {"grid": {"duplication_order": "interleaved"}},
        {"grid": {"output_tokens_per_text": 2}},
        {"grid": {"prompt_type": "tokens"}},
        {"measure": {"repeats": 4}},
        {"measure": {"warmup_passes": 0}},
        {"measure": {"ignore_eos": False}},
        {"measure": {"cache_state": "primed"}},
        {"model": {"load_format": "auto"}},
        {"model": {"revision": "v2"}},
        {"model": {"tokenizer": "other/words"}},
        {"simulated": {"seed": 1}},
    ],
)
def test_cell_id_other_value(change: dict[str, dict[str, Any]]) -> None:
    """Whatever changes the measurement changes the name."""
    assert cells(**change)[0].cell_id != cells()[0].cell_id


LOST = (
    "older cells lost their ids: a new column of schema.CELL has formerly, a new engine setting is "
    "a LaterAxis"
)


def test_cell_id_of_earlier_version() -> None:
    """Cells measured before a setting was there keep the ids that they have on disk."""
    passes = packsweep.load(REFERENCE).to_dict("records")
    fields = {field.name for field in dataclasses.fields(sweep_cells.Cell)}
    optional = ("pack_size", "max_repeats", "stop_at_half_width", "model_revision", "tokenizer")
    for row in passes:
        values = {name: row[name] for name in fields}
        values |= {name: None for name in optional if pd.isna(row[name])}
        values |= {
            name: tuple(json.loads(row[name]).items())
            for name in ("engine_settings", "simulated_settings")
        }
        assert sweep_cells.from_dict(values).cell_id == row["cell_id"], LOST


def test_num_gpus() -> None:
    """An engine has as many GPUs as its two parallel sizes multiply to."""
    found = cells(engine={"tensor_parallel_size": [1, 4], "pipeline_parallel_size": [1, 2]})
    assert [each.num_gpus for each in found] == [1, 2, 4, 8]


def test_cell_id_one_gpu() -> None:
    """An engine on one GPU is the cell that it was before there was a choice."""
    one = cells(engine={"tensor_parallel_size": 1, "pipeline_parallel_size": 1})[0]
    assert one.cell_id == cells()[0].cell_id
    assert one.cell_id == "packed-n2-dup1-cold-be87f9202627", LOST
    assert "tensor_parallel_size" not in one.settings
    assert cells(engine={"tensor_parallel_size": 2})[0].cell_id != one.cell_id


@pytest.mark.parametrize("field", ["text", "label"])
def test_cell_id_other_review(field: str) -> None:
    """A text's text and its label are in the name."""
    changed = replace(REVIEWS[1], **{field: "negative" if field == "text" else "positive"})
    found = expansion.expand(
        sweep(), (REVIEWS[0], changed), model_fingerprint="weights", max_model_len=100
    )
    assert found[0].cell_id != cells()[0].cell_id


def test_cell_id_unused_review() -> None:
    """Texts beyond the cell's n are not in the name."""
    found = expansion.expand(sweep(), REVIEWS[:2], model_fingerprint="weights", max_model_len=100)
    assert found[0].cell_id == cells()[0].cell_id


def test_cell_id_other_weights() -> None:
    """Another fingerprint of the model is another cell."""
    found = expansion.expand(sweep(), REVIEWS, model_fingerprint="other", max_model_len=100)
    assert found[0].cell_id != cells()[0].cell_id


@given(st.floats(0.1, 1e6), st.integers(1, 99), st.integers(1, 99))
def test_cell_id_other_limits(timeout_s: float, attempts: int, failures: int) -> None:
    """When to give up is no part of a cell."""
    limits = {
        "pass_timeout_s": timeout_s,
        "max_attempts": attempts,
        "stop_after_failures": failures,
    }
    assert cells(limits=limits)[0].cell_id == cells()[0].cell_id


@pytest.mark.parametrize("field", sorted(asdict(cell())))
def test_cell_id_every_field(field: str) -> None:
    """No field of a cell is left out of its name."""
    value: Any = (("x", 1),) if field.endswith("settings") else 77
    assert cell(**{field: value}).cell_id != cell().cell_id


def test_slug_chunked() -> None:
    """The slug names strategy, pack size, place, n, duplication and cache state."""
    chunked = cell(strategy="chunked", pack_size=4, n=16, instruction="before")
    assert chunked.slug == "chunked4-before-n16-dup1-cold"
    assert chunked.cell_id.startswith("chunked4-before-n16-dup1-cold-")


@given(AXES, st.none() | st.floats(0.1, 1.0))
def test_cell_round_trip(axes: dict[str, list[Any]], share: float | None) -> None:
    """A cell taken apart into JSON and put together again is the same cell."""
    engine = {} if share is None else {"gpu_memory_utilization": share}
    for each in cells(grid=axes, engine=engine):
        again = sweep_cells.from_dict(json.loads(json.dumps(asdict(each))))
        assert again == each
        assert again.cell_id == each.cell_id


def test_cell_id_other_process() -> None:
    """The name does not depend on the process or on its hash seed."""
    original: Cell = cell()
    code = (
        "import json, sys; from packsweep.sweep import cells; "
        "print(cells.from_dict(json.load(sys.stdin)).cell_id)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps(asdict(original)),
        env={**os.environ, "PYTHONHASHSEED": "12345"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == original.cell_id

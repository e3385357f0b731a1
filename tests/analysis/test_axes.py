"""What tells cells apart, by the roles in the schema."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.fakes import cell, pass_row

from packsweep.analysis import axes, contrasts, frames
from packsweep.results import parquet, schema
from packsweep.run.rows import cell_values
from packsweep.sweep.spec import GridTable


def test_work() -> None:
    """Cells of two folders are paired by these, and by later axes, which older cells have too."""
    first = (
        "strategy",
        "n",
        "pack_size",
        "duplication",
        "duplication_order",
        "instruction",
        "template",
        "answer",
        "format",
        "label_form",
        "task",
        "text_max_tokens",
        "text_keep",
        "text_markup",
        "output_tokens_per_text",
        "cache_state",
        "ignore_eos",
        "mode",
    )
    assert tuple(name for name in axes.WORK if name in first) == first
    later = [column for column in schema.CELL if column.name in {*axes.WORK} - {*first}]
    assert [column.name for column in later if column.formerly is None] == []


def test_settings() -> None:
    """Settings go by the keys of the sweep file."""
    assert axes.SETTINGS == {
        "task_settings": "task",
        "prompt_type": "grid.prompt_type",
        "model": "model.name",
        "model_revision": "model.revision",
        "tokenizer": "model.tokenizer",
        "load_format": "model.load_format",
        "model_fingerprint": "model_fingerprint",
    }
    assert axes.JSON_SETTINGS == {
        "engine_settings": "engine",
        "simulated_settings": "simulated",
        "environ": "environ",
        "online": "online",
    }
    assert axes.MEASURE["repeats"] == "measure.repeats"


@pytest.mark.parametrize("name", GridTable.model_fields)
def test_grid(name: str) -> None:
    """Every axis of the grid tells cells apart: by its own column, or where it varies."""
    column = next(column for column in schema.CELL if column.name == name)
    assert name in {*axes.SHAPE, *axes.NAMED} or column.follows


def test_varying() -> None:
    """What is the same in all cells, or follows from what is named, is not named."""
    rows = [cell_values(cell(template=template)) for template in ("original", "short")]
    rows[1]["engine_settings"] = json.dumps({"max_num_seqs": 8, "enable_prefix_caching": False})
    varied = axes.varying(rows)
    assert varied["template"] == ["original", "short"]
    assert varied["max_num_seqs"] == ["1024", "8"]
    assert "enable_prefix_caching" not in varied
    assert "n" not in varied
    assert axes.unusual(varied, 1)["template"] == "short"


def test_varying_parallel_size() -> None:
    """A cell of one GPU does not name the size, also of an earlier version, and has it."""
    several = cell(engine_settings=(*cell().engine_settings, ("tensor_parallel_size", 2)))
    varied = axes.varying([cell_values(cell()), cell_values(several)])
    assert varied == {"tensor_parallel_size": ["1", "2"]}
    assert axes.unusual(varied, 0) == {}
    assert axes.unusual(varied, 1) == {"tensor_parallel_size": "2"}


@pytest.mark.parametrize(
    "change",
    [
        {"template": "short"},
        {"instruction": "before"},
        {"cache_state": "off"},
        {"answer": "choice"},
    ],
)
def test_has_defaults(change: dict[str, Any]) -> None:
    """One axis off its default is enough."""
    assert axes.has_defaults(cell_values(cell()))
    assert not axes.has_defaults(cell_values(cell(**change)))


def test_cache_state_alone() -> None:
    """A cell is not compared with a cold one that has other settings of the engine as well."""

    def compared(**settings: object) -> list[tuple[str, str]]:
        cells = [
            cell(cache_state="cold", engine_settings=(("enable_prefix_caching", True),)),
            cell(
                cache_state="off",
                engine_settings=(("enable_prefix_caching", False), *settings.items()),
            ),
        ]
        rows = [pass_row(each, texts_per_s=1.0) for each in cells]
        passes = frames.to_pandas(parquet.table(rows, schema.PASSES))
        found = contrasts.of(passes)
        return [(each.axis, each.baseline) for each in found if each.axis == "cache_state"]

    assert len(compared()) == 1
    assert compared(max_num_seqs=8) == []


@pytest.mark.parametrize(
    ("texts", "named"),
    [
        ([(4, "aaaaaaaa"), (4, "bbbbbbbb")], ["aaaaaa", "bbbbbb"]),
        ([(4, "aaaaaaaa"), (8, "bbbbbbbb")], None),
        ([(4, "aaaaaaaa"), (4, "aaaaaaaa")], None),
    ],
)
def test_texts_vary_where_as_many_are_others(
    texts: list[tuple[int, str]], named: list[str] | None
) -> None:
    """Cells over two files do not look alike; those over more texts of one file do."""
    rows = [{**pass_row(cell()), "n": n, "texts_sha256": digest} for n, digest in texts]
    assert axes.varying(rows).get("texts") == named

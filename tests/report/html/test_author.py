"""Which cells may stand beside the author's, and what stands there."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
from tests.report.html.test_first_screen import row

from packsweep.models.architecture.config import ModelConfig
from packsweep.models.architecture.shape import ModelShape
from packsweep.models.embedded.llama3 import CONFIG
from packsweep.plan import roofline
from packsweep.plan.roofline import Work
from packsweep.report.html import author
from packsweep.results import schema

NAME = "NousResearch/Hermes-3-Llama-3.1-8B"
NO_REQUESTS = pd.DataFrame(columns=[column.name for column in schema.REQUESTS])


def measured(strategy: str, n: int, duplication: int = 1, **more: Any) -> dict[str, Any]:
    """Return a cell with what the table shows."""
    speeds = {
        f"{name}_{suffix}": value
        for name, value in (("texts_per_s", 33.6), ("total_tokens_per_s", 9500.0))
        for suffix in ("median", "mean", "ci_low", "ci_high")
    }
    return {
        **row(
            strategy,
            n,
            duplication,
            output_tokens_per_text=1,
            model=NAME,
            model_fingerprint="8b",
            flops=None,
        ),
        **speeds,
        "prompt_tokens": 115_419,
        **more,
    }


def test_section_beside() -> None:
    """Ours over the author's, in texts per second."""
    found = author.section([measured("packed", 400)], NO_REQUESTS)
    assert found is not None
    cells = dict(zip(found.tables[0].headings, found.tables[0].rows[0], strict=True))
    assert cells["texts/s, H800"] == "16.80"
    assert cells["texts/s, here"] == "33.60±0.0%"
    assert cells["here / H800"] == "2.00x"


def test_section_other_model() -> None:
    """Another model has no place there: the section is left out."""
    assert author.section([measured("packed", 400, model="other/model")], NO_REQUESTS) is None


def test_section_two_models() -> None:
    """Cells of another model beside the author's are left out."""
    other = measured("separate", 400, model="other/model", model_fingerprint="other")
    found = author.section([measured("packed", 400), other], NO_REQUESTS)
    assert found is not None
    assert [row[0] for row in found.tables[0].rows] == ["packed"]


@pytest.mark.parametrize(
    "cell",
    [
        measured("packed", 8),
        measured("packed", 40, 10),
        measured("packed", 400, template="chat"),
        measured("packed", 400, cache_state="primed"),
        measured("packed", 400, outcome="oom"),
    ],
)
def test_section_other_cells(cell: dict[str, Any]) -> None:
    """Cells that were not asked as the author did are not put beside theirs."""
    found = author.section([cell], NO_REQUESTS)
    assert found is not None
    assert not found.tables
    assert found.lines[0].startswith("No measured cell")


def test_is_8b_by_flops() -> None:
    """A model whose name says nothing is known by the FLOPs of its requests."""
    works = [Work(prompt_tokens=300, cached_tokens=16, output_tokens=1)] * 2
    flops = roofline.flops(ModelShape.from_config(ModelConfig.of(CONFIG)), works)
    cell = measured("separate", 2, model="/models/mine", flops=flops)
    requests = pd.DataFrame(
        [
            {
                "cell_id": cell["cell_id"],
                "repeat": repeat,
                "prompt_tokens": 300,
                "cached_tokens": 16,
                "output_tokens": 1,
            }
            for repeat in (0, 0, 1, 1)
        ]
    )
    assert author.is_8b(cell, requests)
    assert not author.is_8b({**cell, "flops": 1.01 * flops}, requests)

"""What the simulated engine computes for several GPUs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.fakes import cells, write_byte_model
from tests.simulated_passes import simulated

from packsweep import engines
from packsweep.models.resolve import resolve

LLAMA = {
    "num_hidden_layers": 32,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
}
EXACT = {"spread": 0.0}


@pytest.fixture(scope="module")
def large_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of the shape of Llama-3.1-8B, with one token a byte."""
    return write_byte_model(tmp_path_factory.mktemp("large") / "model", **LLAMA)


def test_several_gpus_are_faster(large_model: Path) -> None:
    """Long answers are bound by reading the weights, of which each of four GPUs reads a quarter."""
    engine: dict[str, Any] = {"tensor_parallel_size": [1, 2, 4], "max_model_len": 4096}
    grid = {"output_tokens_per_text": 200, "n": 8}
    rows = simulated(large_model, repeats=1, engine=engine, grid=grid, simulated=EXACT)
    one, two, four = (row["duration_s"] for row in rows)
    # A step takes 1.7 ms besides reading 15 GB at 60 % of 4.8 TB/s, which one GPU does in 5.2 ms.
    assert one / two == pytest.approx((5.2 + 1.7) / (2.6 + 1.7), rel=0.05)
    assert one / four == pytest.approx((5.2 + 1.7) / (1.3 + 1.7), rel=0.07)


def test_number_of_gpus(byte_model: Path) -> None:
    """It says for how many GPUs it stands."""
    model = resolve(str(byte_model), load_format="dummy")
    sizes = {"tensor_parallel_size": [1, 2], "pipeline_parallel_size": 1}
    found = [engines.start(each, model).info for each in cells(engine=sizes)]
    assert [info.num_gpus for info in found] == [1, 2]
    assert found[1].resolved["tensor_parallel_size"] == 2

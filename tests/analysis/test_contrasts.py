"""Engines of several GPUs beside those of one: what is compared, of what, over which GPUs."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pandas as pd
import pytest
from tests.fakes import NOON, cell, pass_row

from packsweep.analysis import contrasts
from packsweep.analysis.contrasts import GPUS, SETTINGS, Comparison
from packsweep.sweep.cells import Cell

ONE = cell(strategy="separate", n=8, engine="vllm", engine_settings=())


def _cell(**settings: Any) -> Cell:
    return cell(strategy="separate", n=8, engine="vllm", engine_settings=tuple(settings.items()))


TWO = _cell(tensor_parallel_size=2)


def _measured(of: Cell, gpus: str, *speeds: float, began: float = 0.0) -> list[dict[str, Any]]:
    """Return processes of two repeats on the GPUs, one after the other."""
    return [
        pass_row(
            of,
            f"{of.group_id}-{gpus}-{index}",
            texts_per_s=speed,
            device_uuid=gpus,
            num_gpus=gpus.count(",") + 1,
            hostname="host",
            started_at=NOON + timedelta(seconds=began + 100 * index),
            passes_s=10.0,
            between_s=1.0,
        )
        for index, speed in enumerate(speeds)
        for _ in range(2)
    ]


def _compared(*rows: list[dict[str, Any]]) -> list[Comparison]:
    return contrasts.of(pd.DataFrame([row for each in rows for row in each]))


def test_ratio_is_of_a_gpu() -> None:
    """150 texts/s on two GPUs are three quarters of 100 on one."""
    (found,) = _compared(
        _measured(ONE, "a", 99.0, 100.0, 101.0), _measured(TWO, "a,b", 148.0, 150.0, 152.0)
    )
    assert (found.axis, found.cell, found.baseline) == (GPUS, TWO.group_id, ONE.group_id)
    assert found.ratio.value == pytest.approx(0.75, rel=1e-3)
    assert (found.per_gpu, found.same_gpu, found.speed) == (True, True, "down")
    assert found.ratio.between_processes


def test_beside_counts_processes_of_the_small_engine() -> None:
    """Two of the three were timed while the other GPU of the host was."""
    first = _measured(ONE, "a", 100.0, 100.0)
    second = _measured(ONE, "b", 100.0, began=5.0)
    (found,) = _compared(first, second, _measured(TWO, "a,b", 150.0, began=1000.0))
    assert found.beside == (2, 3)


def test_settings_are_compared_among_as_many_gpus() -> None:
    """Another setting has its baseline of as many GPUs, and each size its own."""
    fewer = _cell(max_num_seqs=8)
    both = _cell(max_num_seqs=8, tensor_parallel_size=2)
    found = _compared(
        _measured(ONE, "a", 100.0),
        _measured(TWO, "a,b", 150.0),
        _measured(fewer, "a", 90.0),
        _measured(both, "a,b", 130.0),
    )
    pairs = {(each.axis, each.cell, each.baseline, each.per_gpu) for each in found}
    assert pairs == {
        (GPUS, TWO.group_id, ONE.group_id, True),
        (GPUS, both.group_id, fewer.group_id, True),
        (SETTINGS, fewer.group_id, ONE.group_id, False),
        (SETTINGS, both.group_id, TWO.group_id, False),
    }


def test_fewest_gpus_are_the_baseline() -> None:
    """Without an engine of one GPU it is the smallest; stages come after tensor parallelism."""
    four, stages = _cell(tensor_parallel_size=4), _cell(pipeline_parallel_size=2)
    found = _compared(
        _measured(stages, "a,b", 120.0),
        _measured(four, "a,b,c,d", 200.0),
        _measured(TWO, "a,b", 150.0),
    )
    beside = {each.cell: (each.baseline, each.per_gpu) for each in found}
    assert beside == {
        four.group_id: (TWO.group_id, True),
        stages.group_id: (TWO.group_id, False),
    }
    ratios = {each.cell: each.ratio.value for each in found}
    assert ratios[four.group_id] == pytest.approx(50 / 75)
    assert ratios[stages.group_id] == pytest.approx(120 / 150)


def test_engines_of_one_gpu_have_no_such_axis() -> None:
    found = _compared(_measured(ONE, "a", 100.0), _measured(_cell(max_num_seqs=8), "a", 90.0))
    assert [each.axis for each in found] == [SETTINGS]

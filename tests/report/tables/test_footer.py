"""What the lines below a table say of engines over several GPUs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.report.test_format import _row, _settings

from packsweep.analysis.contrasts import GPUS, Comparison
from packsweep.report.tables import footer
from packsweep.results.stats import Ratio

RATIO = Ratio(
    value=0.87, ci_low=0.8, ci_high=0.93, between_processes=True, log_error=0.02, freedom=4
)


def _of(name: str, n: int = 400, **settings: Any) -> dict[str, Any]:
    return _row(cell_id=name, strategy="separate", n=n, engine_settings=_settings(**settings))


ONE, TWO = _of("one"), _of("two", tensor_parallel_size=2)
STAGES = _of("stages", pipeline_parallel_size=2)


def _compared(cell: str, baseline: str, *, per_gpu: bool = True) -> Comparison:
    return Comparison(
        cell=cell,
        baseline=baseline,
        axis=GPUS,
        ratio=RATIO,
        speed="down",
        per_gpu=per_gpu,
        beside=(2, 3),
    )


def test_comparisons_per_gpu() -> None:
    assert footer.comparisons([_compared("two", "one")], [ONE, TWO]) == [
        (
            "tensor_parallel_size=2 vs default, separate n=400: 0.87x [0.80, 0.93] per GPU, slower "
            "(significant)"
        )
    ]


def test_several_gpus() -> None:
    """The user's question in one line, with what it rests on."""
    assert footer.several_gpus([_compared("two", "one")], [ONE, TWO]) == [
        (
            "separate n=400: one engine across 2 GPUs (TP 2) has 0.87x [0.80, 0.93] the throughput "
            "of 2 engines on one GPU each, slower (significant); extrapolated from one such engine "
            "(2 of 3 processes ran beside another engine)"
        )
    ]


def test_several_gpus_no_interval() -> None:
    """One repeat each, on GPUs that have nothing in common."""
    alone = replace(RATIO, ci_low=None, ci_high=None)
    compared = replace(
        _compared("two", "one"), ratio=alone, speed="no_interval", same_gpu=False, beside=(0, 1)
    )
    (line,) = footer.several_gpus([compared], [ONE, TWO])
    assert "has 0.87x the throughput of 2 engines" in line
    assert "on one GPU each, no interval, on different GPUs; extrapolated" in line


def test_several_gpus_of_one_number() -> None:
    """Two ways to divide a model among as many GPUs."""
    compared = _compared("stages", "two", per_gpu=False)
    assert footer.several_gpus([compared], [TWO, STAGES]) == [
        (
            "separate n=400: TP 1 x PP 2 has 0.87x [0.80, 0.93] the throughput of TP 2, slower "
            "(significant)"
        )
    ]


def test_several_ranks_of_a_processor() -> None:
    """Two ranks share one processor: nothing is said of GPUs."""
    (line,) = footer.several_gpus([_compared("two", "one", per_gpu=False)], [ONE, TWO])
    assert line.startswith("separate n=400: TP 2 has 0.87x [0.80, 0.93] the throughput of TP 1")


def test_several_gpus_largest_first() -> None:
    """Where few lines are shown they are those of the largest n; other axes have none."""
    small = [_of("one4", 4), _of("two4", 4, tensor_parallel_size=2)]
    compared = [_compared("two4", "one4"), _compared("two", "one")]
    (line,) = footer.several_gpus(compared, [*small, ONE, TWO], most=1)
    assert line.startswith("separate n=400: ")
    other = Comparison(cell="two", baseline="one", axis="settings", ratio=RATIO)
    assert not footer.several_gpus([other], [ONE, TWO])

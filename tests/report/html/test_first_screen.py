"""The first screen: what is recommended and when nothing is, three numbers, the frontier."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packsweep.analysis.contrasts import Comparison
from packsweep.report.html import first_screen, sections
from packsweep.results import schema
from packsweep.results.shares import Figure
from packsweep.results.stats import Ratio, verdicts

SPEEDS = {"separate": 100.0, "packed": 50.0, "chunked4": 130.0}


def row(strategy: str, n: int = 400, duplication: int = 1, **more: Any) -> dict[str, Any]:
    """Return what the page needs of a cell."""
    name, _, size = strategy.partition("chunked")
    speed = SPEEDS.get(strategy, 10.0)
    return {
        **{column.name: column.formerly for column in schema.CELL if column.formerly is not None},
        "load_format": "auto",
        "cell_id": f"{strategy}-n{n}-dup{duplication}",
        "strategy": name or "chunked",
        "pack_size": int(size) if size else None,
        "n": n,
        "duplication": duplication,
        "instruction": "after",
        "model": "a-model",
        "template": "original",
        "prompt_type": "text",
        "answer": "free",
        "cache_state": "cold",
        "duplication_order": "grouped",
        "engine_settings": "{}",
        "simulated_settings": "{}",
        "engine": "vllm",
        "device_uuid": "GPU-0",
        "outcome": "ok",
        "texts_per_s_median": speed,
        "texts_per_s_mean": speed,
        "texts_per_s_ci_low": 0.99 * speed,
        "texts_per_s_ci_high": 1.01 * speed,
        "accuracy": None,
        "accuracy_ci_low": None,
        "accuracy_ci_high": None,
        "majority_class_share": None,
        "gpu_hour_usd": None,
        "usd_per_1000_texts": None,
        "usd_per_1000_correct_texts": None,
        **more,
    }


def compared(
    cell: dict[str, Any], baseline: dict[str, Any], value: float, *, error: float | None = 0.01
) -> Comparison:
    """Return a comparison with an interval of 4 % to either side; without one if no error."""
    low, high = (None, None) if error is None else (0.96 * value, 1.04 * value)
    ratio = Ratio(
        value=value,
        ci_low=low,
        ci_high=high,
        between_processes=True,
        log_error=error,
        freedom=None if error is None else 4,
    )
    axis = "strategy" if cell["strategy"] != baseline["strategy"] else "settings"
    (speed,) = verdicts([ratio])
    return Comparison(
        cell=cell["cell_id"], baseline=baseline["cell_id"], axis=axis, ratio=ratio, speed=speed
    )


SEPARATE, PACKED, CHUNKED = row("separate"), row("packed"), row("chunked4")
ROWS = [PACKED, SEPARATE, CHUNKED]
FP8 = row(
    "separate", cell_id="fp8", engine_settings='{"quantization": "fp8"}', texts_per_s_median=176.0
)


def sentence(rows: list[dict[str, Any]], *comparisons: Comparison) -> str:
    return first_screen.advise(rows, comparisons).sentence


def test_another_strategy_is_faster() -> None:
    advice = first_screen.advise(
        ROWS, [compared(CHUNKED, SEPARATE, 1.3), compared(PACKED, SEPARATE, 0.5)]
    )
    assert advice.sentence == (
        "Use 4 texts per prompt for 400 texts: 1.30x [1.25, 1.35] the speed of separate."
    )
    assert advice.points[0].standing == "recommended"
    assert [point.name for point in advice.points] == [
        *("chunked4 n=400", "separate n=400", "packed n=400")
    ]


def test_separate_is_the_fastest() -> None:
    """The baseline of the comparisons is set beside the nearest other, the ratio turned."""
    assert sentence([PACKED, SEPARATE], compared(PACKED, SEPARATE, 0.5)) == (
        "Use one text per prompt for 400 texts: 2.00x [1.92, 2.08] the speed of all in one prompt."
    )


def test_the_fastest_of_a_gpu_leads() -> None:
    """An engine over two GPUs that labels half as much again is no better than two over one."""
    large = row(
        "separate",
        cell_id="large",
        num_gpus=2,
        engine_settings='{"tensor_parallel_size": 2}',
        texts_per_s_median=1.5 * SEPARATE["texts_per_s_median"],
    )
    found = replace(compared(large, SEPARATE, 0.75), axis="gpus", per_gpu=True)
    assert sentence([SEPARATE, large], found) == (
        "Use one text per prompt for 400 texts: 1.33x [1.28, 1.39] the speed per GPU of "
        "tensor_parallel_size=2."
    )
    found = replace(compared(large, SEPARATE, 1.2), axis="gpus", per_gpu=True)
    faster = {**large, "texts_per_s_median": 2.4 * SEPARATE["texts_per_s_median"]}
    advice = first_screen.advise([SEPARATE, faster], [found])
    assert advice.sentence == (
        "Use one text per prompt with tensor_parallel_size=2 for 400 texts: 1.20x [1.15, 1.25] the "
        "speed per GPU of the defaults."
    )
    assert advice.numbers is not None
    assert advice.numbers[1].label == "texts per second on 2 GPUs"


def test_settings_are_named() -> None:
    assert sentence([SEPARATE, FP8], compared(FP8, SEPARATE, 1.76)) == (
        "Use one text per prompt with quantization=fp8 for 400 texts: 1.76x [1.69, 1.83] the speed "
        "of the defaults."
    )


def test_another_strategy_is_named_before_other_settings() -> None:
    fast = row("chunked4", cell_id="fast", texts_per_s_median=200.0)
    settings = compared({**fast, "strategy": "separate"}, FP8, 1.1)
    assert settings.axis == "settings"
    assert sentence([SEPARATE, FP8, fast], settings, compared(fast, SEPARATE, 2.0)) == (
        "Use 4 texts per prompt for 400 texts: 2.00x [1.92, 2.08] the speed of separate."
    )


def test_no_clear_winner() -> None:
    """What is faster by its median alone is not recommended."""
    near = compared(CHUNKED, SEPARATE, 1.01)
    advice = first_screen.advise([SEPARATE, CHUNKED], [near])
    assert advice.sentence.startswith(
        "No clear winner for 400 texts: 4 texts per prompt reached 1.01x"
    )
    assert {point.standing for point in advice.points} == {"not_compared"}
    far = compared(CHUNKED, SEPARATE, 5.0, error=None)
    assert sentence([SEPARATE, CHUNKED], far).startswith("No clear winner")


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([], "No cell has been measured yet."),
        ([row("packed", outcome="oom")], "No cell has been measured yet."),
        ([SEPARATE], "Only one setting was measured for 400 texts: nothing to choose from."),
        (
            [SEPARATE, PACKED],
            "Fastest for 400 texts: one text per prompt. No comparison shows by how much.",
        ),
    ],
)
def test_nothing_to_compare(rows: list[dict[str, Any]], expected: str) -> None:
    assert sentence(rows) == expected


def test_largest_workload_decides() -> None:
    """Most texts, each submitted the least often; a primed cache is no workload."""
    rows = [row(name, n, d) for name in ("packed", "separate") for n in (4, 400) for d in (1, 10)]
    rows.append(row("chunked4", cache_state="primed", cell_id="primed"))
    advice = first_screen.advise(rows, [compared(PACKED, SEPARATE, 0.5)])
    assert {point.cell_id for point in advice.points} == {
        *("packed-n400-dup1", "separate-n400-dup1")
    }


def test_simulated_says_so_first() -> None:
    rows = [{**each, "engine": "simulated"} for each in ROWS]
    assert sentence(rows, compared(CHUNKED, SEPARATE, 1.3)).startswith(
        "Simulated, not measured: use 4 texts per prompt"
    )


@given(
    st.lists(
        st.sampled_from(["instruction", "template", "answer", "prompt_type", "model"]), unique=True
    ),
    st.integers(0, 12),
    st.floats(0.3, 3),
)
def test_sentence_has_at_most_25_words(names: list[str], settings: int, value: float) -> None:
    """However many settings are changed, the recommendation stays short."""
    engine = ", ".join(f'"setting_{index}": {index}' for index in range(settings))
    other = row("chunked4", cell_id="o", engine_settings=f"{{{engine}}}")
    other |= dict.fromkeys(names, "x")
    said = sentence([SEPARATE, other], compared(other, SEPARATE, value))
    assert len(said.split()) <= 25


def test_numbers_without_scores() -> None:
    """Speed only: how much faster, how fast, and how long a million texts take."""
    advice = first_screen.advise([SEPARATE, FP8], [compared(FP8, SEPARATE, 1.76)])
    assert advice.numbers is not None
    assert [(each.value, each.label) for each in advice.numbers] == [
        ("1.76x", "the speed of the defaults"),
        ("176.00", "texts per second"),
        ("1.58 h", "per million texts"),
    ]
    assert advice.not_shown == ("Speed only: answers were not scored.",)
    random = [{**each, "load_format": "dummy"} for each in (SEPARATE, FP8)]
    assert first_screen.advise(random, []).not_shown == ("Speed only: the weights are random.",)
    assert first_screen.frontier(advice, [SEPARATE, FP8]) is None


SCORED = {
    "accuracy": 0.9,
    "accuracy_ci_low": 0.8,
    "accuracy_ci_high": 0.95,
    "majority_class_share": 0.5,
    "gpu_hour_usd": 3.5,
    "usd_per_1000_texts": 0.02,
    "usd_per_1000_correct_texts": 0.0222,
}


def test_numbers_with_scores_that_nothing_can_be_chosen_by() -> None:
    """The recommendation stays one of speed, with its price, and says so."""
    rows = [{**SEPARATE, **SCORED}, {**PACKED, **SCORED, "accuracy": 0.85}]
    advice = first_screen.advise(rows, [compared(PACKED, SEPARATE, 0.5)])
    assert advice.numbers is not None
    assert [(each.value, each.label) for each in advice.numbers] == [
        ("2.00x", "the speed of all in one prompt"),
        ("100.00", "texts per second"),
        ("$0.02", "per 1,000 texts"),
    ]
    assert advice.not_shown == ("Speed only: compare the accuracies below.",)
    assert [point.on_frontier for point in advice.points] == [True, False]


def test_frontier_shows_the_quality_and_what_a_guess_reaches() -> None:
    rows = [{**SEPARATE, **SCORED}]
    advice = first_screen.advise(rows, [])
    quality = Figure(value=0.9, ci_low=0.8, ci_high=0.95)
    points = (replace(advice.points[0], quality=quality),)
    figure = first_screen.frontier(replace(advice, quality_kind="accuracy", points=points), rows)
    assert figure is not None
    assert figure.data.rows[0][:3] == ("separate n=400", "0.9", "[0.80, 0.95]")
    assert "Dashed: always giving the most frequent label, 50%." in figure.notes[0]


def test_comparisons_table_has_the_verdict() -> None:
    """The table beside the chart says of every comparison what the chart shows."""
    slower = replace(compared(PACKED, SEPARATE, 0.24), same_gpu=False)
    section = sections.comparisons([slower], [PACKED, SEPARATE])
    assert [line[-1] for line in section.figures[0].data.rows] == [
        "0.24x [0.230, 0.250], slower (significant)"
    ]
    assert "1 of 1 between different GPUs of one kind." in section.lines

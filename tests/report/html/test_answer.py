"""The answer in one sentence, and when nothing may be called."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packsweep.analysis.contrasts import Comparison
from packsweep.report import format as fmt
from packsweep.report.html import answer, sections
from packsweep.results.stats import Ratio


def row(strategy: str, n: int = 400, duplication: int = 1, **more: Any) -> dict[str, Any]:
    """Return what the answer needs of a cell."""
    name, _, size = strategy.partition("chunked")
    return {
        "cell_id": f"{strategy}-n{n}-dup{duplication}",
        "strategy": name or "chunked",
        "pack_size": int(size) if size else None,
        "n": n,
        "duplication": duplication,
        "instruction": "after",
        "model": "a-model",
        "template": "original",
        "prompt_type": "text",
        "task": "sentiment",
        "task_settings": "{}",
        "format": "lines",
        "label_form": "words",
        "text_max_tokens": 0,
        "text_keep": "head",
        "text_markup": "keep",
        "answer": "free",
        "cache_state": "cold",
        "duplication_order": "grouped",
        "engine_settings": "{}",
        "simulated_settings": "{}",
        "engine": "vllm",
        "outcome": "ok",
        "accuracy": None,
        "accuracy_ci_low": None,
        "accuracy_ci_high": None,
        **more,
    }


def against_separate(
    cell: dict[str, Any],
    value: float,
    low: float | None = None,
    high: float | None = None,
    *,
    between: bool = True,
) -> Comparison:
    """Return the comparison of a cell with separate."""
    baseline = f"separate-n{cell['n']}-dup{cell['duplication']}"
    ratio = Ratio(value=value, ci_low=low, ci_high=high, between_processes=between)
    return Comparison(cell=cell["cell_id"], baseline=baseline, axis="strategy", ratio=ratio)


SEPARATE, PACKED, CHUNKED = row("separate"), row("packed"), row("chunked4")
ROWS = [PACKED, SEPARATE, CHUNKED]


def test_sentence_other_strategy_faster() -> None:
    """An interval above 1 calls the other strategy."""
    found = answer.sentence(ROWS[:2], [against_separate(PACKED, 1.3, 1.2, 1.4)])
    assert found == (
        "At n = 400, packed labelled the most texts per second, 1.30 times [1.20, 1.40] those of "
        "separate (95 % interval over engine processes)."
    )


def test_sentence_separate_fastest() -> None:
    """All intervals below 1 call separate, with the nearest other."""
    compared = [
        against_separate(PACKED, 0.24, 0.23, 0.25),
        against_separate(CHUNKED, 0.9, 0.8, 0.95),
    ]
    found = answer.sentence(ROWS, compared)
    assert found.startswith("At n = 400, separate labelled the most texts per second: chunked4, ")
    assert "the nearest other, reached 0.90 times [0.80, 0.95] its rate" in found


def test_sentence_interval_holds_1() -> None:
    """An interval that holds 1 calls nothing."""
    found = answer.sentence(ROWS[:2], [against_separate(PACKED, 1.08, 0.99, 1.17)])
    assert found.startswith("Nothing can be called at n = 400: packed labelled 1.08 times ")
    assert found.endswith(
        "[0.99, 1.17] the texts per second of separate, and that 95 % interval "
        "over engine processes holds 1."
    )


def test_sentence_one_process_each() -> None:
    """One process each shows no spread between processes, so a small difference is not called."""
    near = against_separate(PACKED, 1.1, 1.05, 1.15, between=False)
    assert answer.sentence(ROWS[:2], [near]) == (
        "Nothing can be called at n = 400: packed labelled 1.10 times [1.05, 1.15] the texts per "
        "second of separate, and that 95 % interval over repeats within one process each does "
        "not go beyond the 25% by which two processes may differ."
    )
    far = against_separate(PACKED, 1.5, 1.4, 1.6, between=False)
    assert answer.sentence(ROWS[:2], [far]).startswith("At n = 400, packed labelled the most")


def test_sentence_slower_beside_undecided() -> None:
    """Separate is not called the fastest while one other is undecided; what lags is told."""
    compared = [against_separate(PACKED, 0.9, 0.85, 0.95), against_separate(CHUNKED, 0.8, 0.5, 1.2)]
    assert answer.sentence(ROWS, compared) == (
        "At n = 400, nothing was shown to label more texts per second than separate: packed 0.90 "
        "times [0.85, 0.95] its rate (95 % interval over engine processes); not told apart from "
        "it: chunked4."
    )


def test_sentence_faster_beside_undecided() -> None:
    """What is shown to be faster is called, though another's uncertain median lies above it."""
    compared = [against_separate(PACKED, 1.3, 1.2, 1.4), against_separate(CHUNKED, 1.5, 0.9, 2.1)]
    assert answer.sentence(ROWS, compared) == (
        "At n = 400, packed labelled the most texts per second, 1.30 times [1.20, 1.40] those of "
        "separate (95 % interval over engine processes); not told apart from chunked4."
    )


FP8 = row("separate", cell_id="fp8", engine_settings='{"quantization": "fp8"}')
INT8 = row("separate", cell_id="int8", model="int8")
FP8_CHANGE, INT8_CHANGE = (("quantization", "fp8"),), (("model", "int8"), ("template", "short"))


def of_settings(cell: str, change: tuple[tuple[str, str], ...], *ends: float) -> Comparison:
    """Return the comparison of a cell with the plain one: ratio, and the ends of its interval."""
    value, low, high = (*ends, None, None)[:3]
    assert value is not None
    ratio = Ratio(value=value, ci_low=low, ci_high=high, between_processes=True)
    base = SEPARATE["cell_id"]
    return Comparison(cell=cell, baseline=base, axis="settings", ratio=ratio, change=change)


def test_sentence_settings_faster() -> None:
    """Without a second strategy the settings that were shown to be faster are the answer."""
    compared = [
        of_settings("fp8", FP8_CHANGE, 1.76, 1.74, 1.81),
        of_settings("int8", INT8_CHANGE, 1.80, 1.78, 1.82),
    ]
    assert answer.sentence([SEPARATE, FP8, INT8], compared) == (
        "At n = 400, separate labelled the most texts per second with model int8, template "
        "short: 1.80 times [1.78, 1.82] those without (95 % interval over engine processes); not "
        "told apart from quantization fp8."
    )


def test_sentence_settings_not_faster() -> None:
    """No setting is called that may as well be slower; one repeat each calls nothing."""
    near = of_settings("fp8", FP8_CHANGE, 1.05, 0.95, 1.15)
    assert answer.sentence([SEPARATE, FP8], [near]) == (
        "At n = 400, no setting was shown to label more texts per second than separate without: "
        "quantization fp8 1.05 times [0.95, 1.15] (95 % interval over engine processes)."
    )
    assert answer.sentence([SEPARATE, FP8], [of_settings("fp8", FP8_CHANGE, 1.5)]) == (
        "Nothing can be called at n = 400: separate with quantization fp8 labelled 1.50 times the "
        "texts per second of separate without, and one repeat each gives no interval."
    )


def test_sentence_settings_against_no_default() -> None:
    """A baseline that is not at its defaults is said with what it has."""
    change, instead = (("max_num_batched_tokens", "4096"),), (("max_num_batched_tokens", "2048"),)
    near = replace(of_settings("fp8", change, 1.02, 0.95, 1.15), instead=instead)
    assert answer.sentence([SEPARATE, FP8], [near]) == (
        "At n = 400, no setting was shown to label more texts per second than separate with max "
        "num batched tokens 2048: max num batched tokens 4096 1.02 times [0.95, 1.15] (95 % "
        "interval over engine processes)."
    )
    fast = replace(of_settings("fp8", change, 1.5, 1.4, 1.6), instead=instead)
    told = "1.50 times [1.40, 1.60] those with max num batched tokens 2048"
    assert told in answer.sentence([SEPARATE, FP8], [fast])


def test_ratios_table_has_the_ratio() -> None:
    """The table beside the chart says of every comparison what the chart shows, and its scope."""
    ratio = Ratio(value=0.24, ci_low=0.23, ci_high=0.25, between_processes=False)
    ends = {"cell": PACKED["cell_id"], "baseline": SEPARATE["cell_id"], "axis": "strategy"}
    found = sections.ratios([Comparison(**ends, ratio=ratio, same_gpu=False)], [PACKED, SEPARATE])
    assert found is not None
    said = "0.24x [0.23, 0.25], slower, one process each: beyond 25% is called, on different GPUs"
    assert [line[-1] for line in found.data.rows] == [said]


def test_sentence_strategy_before_settings() -> None:
    """Where strategies were compared the sentence is about them."""
    compared = [of_settings("fp8", FP8_CHANGE, 1.76, 1.74, 1.81)]
    compared.append(against_separate(PACKED, 0.24, 0.23, 0.25))
    found = answer.sentence([SEPARATE, FP8, PACKED], compared)
    assert found.startswith("At n = 400, settings at their defaults, separate labelled the most")


def test_fastest_has_a_ratio() -> None:
    """The fastest of all cells is held against separate where it differs in settings alone."""
    speeds = {f"texts_per_s_{suffix}": 1.0 for suffix in ("mean", "ci_low", "ci_high")}
    slow = {**SEPARATE, **speeds, "texts_per_s_median": 1.0}
    fast = {**FP8, **speeds, "texts_per_s_median": 1.76}
    packed = {**PACKED, **speeds, "texts_per_s_median": 0.2}
    compared = [against_separate(PACKED, 0.2, 0.19, 0.21)]
    compared.append(of_settings("fp8", FP8_CHANGE, 1.76, 1.74, 1.81))
    found = answer.fastest([slow, fast, packed], compared)
    assert found == (
        "Fastest of all cells of that size: separate, quantization fp8, 1.76±0.0% texts/s, "
        "beside 1.00±0.0% of separate above (1.76 times [1.74, 1.81], 95 % interval over "
        "engine processes)."
    )


def test_sentence_names_what_is_unusual() -> None:
    """Of the settings that vary those are named that a sweep file has to name."""
    rows = [
        row(strategy, instruction=place, cell_id=f"{strategy}-{place}")
        for place in ("after", "before")
        for strategy in ("separate", "packed")
    ]
    ratio = Ratio(value=1.3, ci_low=1.2, ci_high=1.4, between_processes=True)
    said = {
        place: answer.sentence(
            rows,
            [
                Comparison(
                    cell=f"packed-{place}",
                    baseline=f"separate-{place}",
                    axis="strategy",
                    ratio=ratio,
                )
            ],
        )
        for place in ("after", "before")
    }
    assert said["after"].startswith("At n = 400, settings at their defaults, packed labelled")
    assert said["before"].startswith("At n = 400, instruction before, packed labelled")


def test_sentence_no_interval() -> None:
    """One repeat each calls nothing, however far apart."""
    found = answer.sentence(ROWS[:2], [against_separate(PACKED, 5.0)])
    assert found == (
        "Nothing can be called at n = 400: packed labelled 5.00 times the texts per second of "
        "separate, and one repeat each gives no interval."
    )


def test_sentence_tied_others() -> None:
    """A strategy whose interval overlaps that of the best is named."""
    compared = [
        against_separate(PACKED, 1.25, 1.15, 1.35),
        against_separate(CHUNKED, 1.3, 1.2, 1.4),
    ]
    assert answer.sentence(ROWS, compared).endswith("; not told apart from packed.")


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], "there are no cells yet"),
        ([row("packed", outcome="oom")], "the only cell was not measured"),
        ([row("packed", outcome="oom")] * 2, "none of the 2 cells was measured"),
        ([SEPARATE], "no other strategy was measured beside separate"),
    ],
)
def test_sentence_nothing_compared(rows: list[dict[str, Any]], said: str) -> None:
    """Without a comparison the sentence says why."""
    found = answer.sentence(rows, [])
    assert found.startswith("Nothing can be called: ")
    assert said in found


def test_sentence_largest_workload() -> None:
    """The answer is about the largest n, each request submitted least often."""
    rows = [row(name, n, d) for name in ("packed", "separate") for n in (4, 400) for d in (1, 10)]
    compared = [against_separate(each, 1.5, 1.4, 1.6) for each in rows[:4]]
    found = answer.sentence(rows, compared)
    assert found.startswith("At n = 400, each request submitted once, packed labelled")


def test_sentence_simulated() -> None:
    """What was not measured says so first."""
    rows = [{**each, "engine": "simulated"} for each in ROWS[:2]]
    found = answer.sentence(rows, [against_separate(PACKED, 1.3, 1.2, 1.4)])
    assert found.startswith("Simulated, not measured: at n = 400, packed")


def test_sentence_end_near_1() -> None:
    """An end that two decimals would print as 1.00 keeps its side of 1."""
    found = answer.sentence(ROWS[:2], [against_separate(PACKED, 1.02, 1.0012, 1.04)])
    assert "1.0200 times [1.0012, 1.0400]" in found


@given(
    st.lists(
        st.tuples(st.floats(0.1, 0.9), st.floats(1.01, 3), st.floats(0.2, 5)),
        min_size=1,
        max_size=3,
    )
)
def test_sentence_calls_only_what_differs(ends: list[tuple[float, float, float]]) -> None:
    """Whatever the intervals are, something is called where one excludes 1, and only there."""
    compared = []
    rows = [SEPARATE]
    for index, (low, high, shift) in enumerate(ends):
        rows.append(row(f"chunked{index + 1}"))
        middle = shift * (low * high) ** 0.5
        compared.append(against_separate(rows[-1], middle, low * shift, high * shift))
    found = answer.sentence(rows, compared)
    ends_of = [(each.ratio.ci_low or 0, each.ratio.ci_high or 1) for each in compared]
    assert found.startswith("At n = 400") == any(low > 1 or high < 1 for low, high in ends_of)


def test_counts() -> None:
    """Every comparison with separate is counted."""
    compared = [against_separate(PACKED, 0.5, 0.4, 0.6), against_separate(CHUNKED, 1.1, 0.9, 1.3)]
    assert answer.counts(ROWS, compared) == (
        "Of 2 comparisons with separate: packed slower in 1; chunked4 not told apart in 1."
    )


def test_answers_right() -> None:
    """The accuracy of the compared cells stands below, or that there is none."""
    compared = [against_separate(PACKED, 0.5, 0.4, 0.6)]
    scored = {"accuracy": 0.5, "accuracy_ci_low": 0.25, "accuracy_ci_high": 0.75}
    rows = [{**PACKED, **scored}, SEPARATE, {**CHUNKED, **scored}]
    told = answer.answers_right(rows, compared)
    assert told == f"Answers right there, with the 95 % interval: packed {fmt.accuracy(rows[0])}."
    assert "not scored" in answer.answers_right(ROWS, compared)


def _with(cell: dict[str, Any], speed: float, **settings: Any) -> dict[str, Any]:
    """Return a cell that was measured with other settings."""
    told = json.dumps(settings)
    return {
        **cell,
        "cell_id": f"{cell['cell_id']}-{told}",
        "engine_settings": told,
        "texts_per_s_median": speed,
        "texts_per_s_mean": speed,
        "texts_per_s_ci_low": speed * 0.99,
        "texts_per_s_ci_high": speed * 1.01,
    }


def test_settings_of_most_cells_lead_and_the_fastest_cell_is_named() -> None:
    """The sentence is about the settings that most cells have; the fastest cell comes after it."""
    plain = [
        _with(cell, speed, quantization=None) for cell, speed in ((SEPARATE, 139), (PACKED, 33))
    ]
    fp8 = [
        _with(cell, speed, quantization="fp8") for cell, speed in ((SEPARATE, 228), (CHUNKED, 226))
    ]
    ratio = Ratio(value=0.5, ci_low=0.45, ci_high=0.55, between_processes=True)
    compared = [
        Comparison(cell=other["cell_id"], baseline=base["cell_id"], axis="strategy", ratio=ratio)
        for base, other in (fp8, plain)
    ]
    rows = [*fp8, *plain, _with(row("packed", n=40), 60, quantization=None)]
    assert answer.sentence(rows, compared).startswith(
        "At n = 400, settings at their defaults, separate "
    )
    assert answer.fastest(rows, compared) == (
        "Fastest of all cells of that size: separate, quantization fp8, 228.00±1.0% texts/s, "
        "beside 139.00±1.0% of separate above."
    )
    assert answer.fastest(plain, compared[1:]) is None

"""The first screen: its sentence, its numbers and its frontier."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.fabricated import Way, draw, row
from tests.fakes import cell

from packsweep.analysis import advice, recommend
from packsweep.analysis.advice import Terms
from packsweep.errors import ResultsError
from packsweep.report.tables import advice_text

WAYS = (
    Way(accuracy=0.95, texts_per_s=10),
    Way(accuracy=0.95, texts_per_s=20, template="short"),
    Way(accuracy=0.7, texts_per_s=40, pack_size=4),
    Way(accuracy=0.6, texts_per_s=5, template="corrected"),
)


def given(num_texts: int = 3000, terms: Terms | None = None, **values: Any) -> advice.Advice:
    rows = [row(way, num_texts, **values) for way in WAYS]
    drawn = draw(WAYS, rows, np.random.default_rng(0), alike=1.0)
    return advice.advise(rows, drawn, terms)


def test_the_cheapest_shown_setting_is_recommended() -> None:
    found = given()
    standings = {point.name: point.standing for point in found.points}
    assert standings == {
        "chunked 4": "worse",
        "separate, template short": "recommended",
        "separate": "shown",
        "separate, template corrected": "worse",
    }
    assert found.sentence == (
        "Run separate, template short, 20 texts/s: shown to lose at most 1 point of accuracy to "
        "any other setting."
    )
    assert len(found.not_shown) == 1
    assert found.not_shown[0].startswith("chunked 4: loses 2")


def test_the_frontier_has_no_point_that_another_beats_in_both() -> None:
    assert [point.on_frontier for point in given().points] == [True, True, False, False]


def test_few_texts_show_nothing_and_say_how_many_may() -> None:
    found = given(num_texts=100)
    assert [point.standing for point in found.points].count("provisional") == 1
    assert found.sentence.startswith("No setting is shown to lose at most 1 point; for now run ")
    assert any("more labelled texts may decide" in line for line in found.not_shown)


@pytest.mark.parametrize("num_texts", [100, 3000])
@pytest.mark.parametrize("max_loss", [0.001, 0.015])
def test_the_sentence_has_at_most_25_words(num_texts: int, max_loss: float) -> None:
    assert len(given(num_texts, Terms(max_loss=max_loss)).sentence.split()) <= 25


def test_a_long_name_is_cut_to_its_strategy() -> None:
    (choice, terms) = _choice(3000)
    long = ", ".join(f"some_setting_{i} {i}" for i in range(12))
    settings = tuple(replace(each, name=f"separate, {long}") for each in choice.settings)
    sentence = advice.of_choice(replace(choice, settings=settings), terms).sentence
    assert sentence.startswith("Run separate, 20 texts/s")


def _choice(num_texts: int) -> tuple[recommend.Choice, Terms]:
    rows = [row(way, num_texts) for way in WAYS]
    drawn = draw(WAYS, rows, np.random.default_rng(0), alike=1.0)
    return recommend.choose(rows, drawn, Terms()), Terms()


def test_numbers_tell_hours_and_money() -> None:
    found = given(terms=Terms(num_texts=1_440_000, num_gpus=2, gpu_hour_usd=3.0))
    assert found.numbers is not None
    quality, speed, cost = found.numbers
    assert quality.label == "correct labels"
    assert (speed.value, speed.label) == ("20", "texts/s on one GPU")
    assert speed.detail == "95 % interval 20 to 20"
    assert (cost.value, cost.label) == ("$60.00", "for 1,440,000 texts")
    assert cost.detail == "10 hours on 2 GPUs, engine start not included"


def test_words_follow_the_device() -> None:
    rows = [row(way, 2000, device="AMD EPYC", device_uuid=None) for way in WAYS]
    found = advice.advise(rows, {}, Terms(num_texts=1_440_000))
    assert found.numbers is not None
    assert found.numbers[1].label == "texts/s on one CPU"
    assert found.numbers[2].detail == "10 hours on 1 CPU"
    per_million = advice.advise(rows, {}).numbers
    assert per_million is not None
    hours = per_million[2]
    assert (hours.value, hours.label) == ("6.94 h", "of a CPU for a million texts")


def test_speed_measured_once_has_no_interval() -> None:
    once = {"texts_per_s_ci_low": None, "texts_per_s_ci_high": None}
    rows = [{**row(way, 2000), **once} for way in WAYS]
    found = advice.advise(rows, draw(WAYS, rows, np.random.default_rng(0), alike=1.0))
    assert found.numbers is not None
    assert found.numbers[1].detail == "no interval: measured once"


LARGE = {
    "engine_settings": json.dumps({**cell().settings, "tensor_parallel_size": 2}),
    "num_gpus": 2,
    "device_uuid": "GPU-0,GPU-1",
}


def several_gpus(terms: Terms, *, texts_per_s: float = 30.0) -> advice.Advice:
    """Return what is said of an engine over two GPUs beside one of 20 texts/s over one."""
    ways = (Way(accuracy=0.95, texts_per_s=20), Way(accuracy=0.95, texts_per_s=texts_per_s))
    rows = [row(ways[0], 3000, num_gpus=1), row(ways[1], 3000, **LARGE)]
    rows[1] = {**rows[1], "group_id": "large", "cell_id": "large"}
    drawn = draw(ways, rows, np.random.default_rng(0), alike=1.0)
    return advice.advise(rows, drawn, terms)


def test_the_cheapest_is_the_fastest_of_a_gpu() -> None:
    """30 texts/s on two GPUs are 15 a GPU, and cost more than 20 on one."""
    found = several_gpus(Terms(gpu_hour_usd=3.6))
    small, large = found.points
    assert (small.standing, large.standing) == ("recommended", "shown")
    assert (small.name, large.name) == ("separate", "separate, tensor_parallel_size 2")
    assert (large.num_gpus, large.texts_per_s_per_gpu.value) == (2, 15)
    assert (small.on_frontier, large.on_frontier) == (True, False)
    dollars = [each.usd_per_1000_right.value or 0.0 for each in (small, large)]
    shares = [each.quality.value or 0.0 for each in (small, large)]
    assert dollars == pytest.approx([1 / 20 / shares[0], 1 / 15 / shares[1]])


def test_gpus_are_shared_out_among_engines() -> None:
    """Seven GPUs hold three engines of two; hours and money are those of six."""
    terms = Terms(num_texts=1_296_000, num_gpus=7, gpu_hour_usd=3.0)
    found = several_gpus(terms, texts_per_s=60.0)
    assert found.sentence.startswith("Run separate, tensor_parallel_size 2, 60 texts/s on 2 GPUs: ")
    assert len(found.sentence.split()) <= 25
    assert found.numbers is not None
    _, speed, cost = found.numbers
    assert speed.label == "texts/s on 2 GPUs"
    assert (cost.value, cost.detail) == ("$36.00", "2 hours on 6 GPUs, engine start not included")


def test_an_engine_of_more_gpus_than_there_are_is_not_compared() -> None:
    found = several_gpus(Terms(num_gpus=1), texts_per_s=60.0)
    large = next(each for each in found.points if each.num_gpus == 2)
    assert large.why == "an engine takes 2 GPUs, more than there are"
    assert large.standing == "not_compared"
    assert [each.on_frontier for each in found.points if each is not large] == [True]
    assert not large.on_frontier
    small = row(Way(accuracy=0.95), 3000)
    fast = {**row(Way(accuracy=0.95, texts_per_s=90), 3000, **LARGE), "cell_id": "large"}
    speed_only = advice.advise([small, fast], {}, Terms(num_gpus=1))
    assert {each.num_gpus: each.on_frontier for each in speed_only.points} == {1: True, 2: False}
    rows = [row(Way(accuracy=0.95), 3000, **LARGE)]
    with pytest.raises(ResultsError, match="--gpus 1: an engine of what was measured takes 2"):
        advice.advise(rows, {}, Terms(num_gpus=1))


def test_an_engine_of_more_gpus_is_not_named_where_nothing_is_compared() -> None:
    """The fastest has no room, so the next is named."""
    (choice, _) = _choice(100)
    open_ = [replace(each, standing="not_compared") for each in choice.settings]
    large = {**open_[0].row, **LARGE}
    settings = (replace(open_[0], row=large, name="large"), replace(open_[1], name="small"))
    found = advice.of_choice(replace(choice, settings=settings), Terms(num_gpus=1))
    assert "small" in found.sentence
    assert "large" not in found.sentence


def test_the_price_of_right_labels_counts_the_wrong_ones() -> None:
    point = given(terms=Terms(gpu_hour_usd=3.6)).points[1]
    assert point.usd_per_1000_right.value == pytest.approx(3.6 / 3600 * 1000 / 20 / 0.95, rel=0.02)
    assert (point.usd_per_1000_right.ci_low or 9) < (point.usd_per_1000_right.value or 0)


def test_where_nothing_can_be_compared_the_reasons_are_told() -> None:
    """The reader sees other settings in the table, slower ones too, so each has its reason."""
    ways = (WAYS[0], Way(accuracy=0.95, texts_per_s=5, pack_size=400))
    rows = [row(way, 400) for way in ways]
    found = advice.advise(rows, draw(ways, rows, np.random.default_rng(0)))
    assert found.sentence.endswith("correct: no other setting can be compared.")
    (line,) = found.not_shown
    assert line.startswith("chunked 400: ")
    assert "its texts are in one prompt, and fewer than 10 say nothing about other texts" in line
    alone = advice.advise(rows[:1], draw(ways[:1], rows[:1], np.random.default_rng(0)))
    assert alone.sentence.endswith("correct: nothing to compare.")
    assert alone.not_shown == (
        "nothing to compare with: measure another setting over the same texts",
    )


def test_a_guess_is_told_beside_its_accuracy() -> None:
    rows = [row(WAYS[0], 400)]
    drawn = draw(WAYS[:1], rows, np.random.default_rng(0))
    for warnings, told in ((["spread"], False), (["spread", "guessing"], True)):
        guess = {**rows[0], "warnings": warnings, "majority_class_share": 0.9}
        found = advice.advise([guess], drawn)
        assert found.numbers is not None
        assert found.numbers[0].detail.endswith("; the most frequent label alone: 90.0 %") is told
        line = (
            "separate is not shown to be right more often than the most frequent label for every "
            "text, 90.0 %"
        )
        assert any(each.startswith(line) for each in found.not_shown) is told


def test_what_was_shown_is_said_only_where_something_was() -> None:
    """A setting alone is compared with nothing, whatever its column says."""
    rows = [row(way, 3000) for way in WAYS[:2]]
    drawn = draw(WAYS[:2], rows, np.random.default_rng(0), alike=1.0)
    alone, both = advice.advise(rows[:1], drawn), advice.advise(rows, drawn)
    told = [advice_text.lines_below(each, Terms())[-1] for each in (alone, both)]
    assert told[0] == f"  {alone.not_shown[-1]}"
    assert told[1].startswith("shown: loses at most 1 point")


def test_a_price_below_a_dollar_is_no_zero() -> None:
    numbers = given(terms=Terms(gpu_hour_usd=3.6, num_texts=100)).numbers
    assert numbers is not None
    assert numbers[2].value == "$0.005"


def test_where_every_setting_guesses_no_setting_is_named() -> None:
    """A better model comes first: which guess is the fastest helps nobody."""
    rows = [row(way, 100) for way in WAYS]
    drawn = draw(WAYS, rows, np.random.default_rng(0))
    guessing = [{**each, "warnings": ["guessing"], "majority_class_share": 0.9} for each in rows]
    assert advice.advise(guessing, drawn).sentence == (
        "No setting is shown to label better than the most frequent label alone (90.0 %): try a "
        "larger model or another wording."
    )
    assert "recommended" not in {each.standing for each in advice.advise(guessing, drawn).points}
    one_does_not = [*guessing[1:], {**guessing[0], "warnings": []}]
    assert "for now run" in advice.advise(one_does_not, drawn).sentence


def test_unscored_answers_are_speed_only_and_say_so() -> None:
    rows = [row(way, 100, coverage=None) for way in WAYS]
    found = advice.advise(rows, {})
    assert found.quality_kind is None
    assert found.sentence == (
        "Speed only, answers were not scored: chunked 4 labels most, 40 texts/s."
    )
    assert {point.standing for point in found.points} == {"not_compared"}
    assert len(found.not_shown) == 1


def test_answers_that_were_scored_and_are_gone_are_called_gone() -> None:
    found = advice.advise([row(way, 100) for way in WAYS], {})
    assert found.sentence == (
        "Speed only, the tables of requests are gone: chunked 4 labels most, 40 texts/s."
    )
    (reason,) = found.not_shown
    assert reason == (
        "speed only: the tables of requests are gone, so accuracies cannot be compared; measure "
        "again"
    )
    assert found.numbers is not None
    assert found.numbers[0].detail == "the tables of requests are gone"


def test_as_many_texts_of_two_sources_are_two_settings() -> None:
    """Neither stands for the other, and a cell of fewer texts for none."""
    sizes = {"first": 400, "second": 400, "fewer": 100}
    rows = [
        {**row(WAYS[0], num), "texts_sha256": texts, "cell_id": texts, "group_id": texts}
        for texts, num in sizes.items()
    ]
    found = advice.advise(rows, {})
    assert sorted(point.name for point in found.points) == [
        "separate, texts first",
        "separate, texts second",
    ]


def test_simulated_answers_are_never_quality() -> None:
    rows = [{**row(way, 2000), "engine": "simulated"} for way in WAYS]
    found = advice.advise(rows, draw(WAYS, rows, np.random.default_rng(0)))
    assert found.quality_kind is None
    assert found.sentence.startswith("Simulated, so accuracy is unknown")


@pytest.mark.parametrize(
    ("accuracy", "standing"), [(0.95, "not_compared"), (0.99, "not_compared"), (0.7, "worse")]
)
def test_one_prompt_may_show_a_loss_on_its_texts_and_nothing_else(
    accuracy: float, standing: str
) -> None:
    ways = (WAYS[0], Way(accuracy=accuracy, texts_per_s=50, pack_size=400))
    rows = [row(way, 400) for way in ways]
    found = advice.advise(rows, draw(ways, rows, np.random.default_rng(0)))
    assert found.points[0].standing == standing
    assert " beside separate on these 400 texts; its texts are in one pr" in found.points[0].why
    assert "recommended" not in {point.standing for point in found.points[:1]}


def test_a_smaller_n_is_not_compared() -> None:
    rows = [row(WAYS[0], 400), row(WAYS[1], 40)]
    source = np.random.default_rng(0)
    drawn = draw(WAYS[:1], rows[:1], source) | draw(WAYS[1:2], rows[1:], source)
    found = advice.advise(rows, drawn)
    assert found.points[0].why == "measured over 40 texts, the others over 400"


def test_a_least_accuracy_has_to_be_shown() -> None:
    found = given(terms=Terms(min_accuracy=0.99))
    assert "recommended" not in {point.standing for point in found.points}
    assert found.points[1].why == "an accuracy of 99.0% or more is not shown"
    assert given(terms=Terms(min_accuracy=0.9)).points[1].standing == "recommended"


def test_primed_and_copied_cells_are_no_ground_for_a_recommendation() -> None:
    rows = [{**row(WAYS[0], 100), "duplication": 4}, {**row(WAYS[1], 100), "cache_state": "primed"}]
    with pytest.raises(ResultsError, match="no cell is ok with duplication 1"):
        advice.advise(rows, {})


def test_online_cells_are_no_ground_for_a_recommendation() -> None:
    with pytest.raises(ResultsError, match="measured online, and offline cells are what"):
        advice.advise([{**row(WAYS[0], 100), "mode": "online"}], {})


def test_texts_without_labels_must_be_labelled_as_the_baseline_labels() -> None:
    rows = [row(way, 2000) for way in WAYS]
    drawn = {
        name: replace(own, expected=(None,) * len(own.expected))
        for name, own in draw(WAYS, rows, np.random.default_rng(0), alike=1.0).items()
    }
    found = advice.advise(rows, drawn)
    assert found.quality_kind == "agreement"
    assert found.baseline == rows[0]["cell_id"]
    assert found.points[1].standing == "recommended"  # errs on the same texts
    assert found.points[1].quality.value == 1.0
    assert found.points[0].standing == "not_shown"
    assert "shown to change at most 1 % of the baseline's labels" in found.sentence
    below = advice_text.lines_below(found, Terms())
    assert "texts have no labels: agreement with the baseline replaces accuracy" in below
    with pytest.raises(ResultsError, match="the texts have no labels"):
        advice.advise(rows, drawn, Terms(min_accuracy=0.9))

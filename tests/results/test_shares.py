"""Shares of right answers against published examples, brute force and simulation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from packsweep.results import shares, stats
from packsweep.results.shares import PairedCounts, Units


def units(*sizes: int) -> Units:
    return Units(of_text=np.repeat(np.arange(len(sizes)), sizes))


def flags(*runs: tuple[bool, int]) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    return np.concatenate([np.full(length, value) for value, length in runs])


# Source: Bentur et al. (2009) as in Fagerland, Lydersen and Laake (2014), table II.
AIRWAY = (
    flags((True, 1), (True, 1), (False, 7), (False, 12)),
    flags((True, 1), (False, 1), (True, 7), (False, 12)),
)


def test_paired_difference_of_a_published_example() -> None:
    found = shares.paired_difference(*AIRWAY, units(*[1] * 21))
    assert (found.gained, found.lost, found.num_texts) == (1, 7, 21)
    assert found.value == pytest.approx(-6 / 21)
    assert found.p_differs == pytest.approx(0.0703, abs=5e-5)  # McNemar's exact test
    assert (found.ci_low, found.ci_high) == pytest.approx((-0.517, -0.026), abs=5e-4)  # Tango's


def test_paired_difference_turned_around_is_its_mirror_image() -> None:
    one, other = (
        shares.paired_difference(cell, base, units(*[1] * 21))
        for cell, base in (AIRWAY, AIRWAY[::-1])
    )
    assert one.p_differs == other.p_differs
    assert one.ci_low is not None
    assert one.ci_low == pytest.approx(-(other.ci_high or 0))


def test_p_loses_without_a_disagreement_has_a_closed_form() -> None:
    counts = PairedCounts(num_texts=400, gained=0, lost=0, freedom=math.inf)
    assert counts.p_loses(0.01) == pytest.approx(scipy_stats.norm.sf(math.sqrt(400 * 0.01 / 0.99)))


def test_p_loses_is_half_where_the_loss_seen_is_the_loss_allowed() -> None:
    counts = PairedCounts(num_texts=100, gained=2, lost=7, freedom=math.inf)
    assert counts.p_loses(0.05) == pytest.approx(0.5)
    assert counts.p_loses(0.10) < 0.5 < counts.p_loses(0.01)


@pytest.mark.parametrize("gained", [0, 3, 40])
def test_swap_p_is_mcnemars_where_texts_are_the_units(gained: int) -> None:
    sums = np.array([1.0] * gained + [-1.0] * 12 + [0.0] * 50)
    exact = scipy_stats.binomtest(gained, gained + 12).pvalue
    assert shares.swap_p(sums) == pytest.approx(exact)


def test_swap_p_of_prompts_counts_every_way_to_turn_their_signs() -> None:
    sums = np.array([3.0, -1.0, 2.0, 2.0, 0.0, 5.0, 1.0])
    ways = [
        abs(sum(sign * size for sign, size in zip(signs, sums, strict=True)))
        for signs in itertools.product((-1, 1), repeat=len(sums))
    ]
    assert shares.swap_p(sums) == pytest.approx(np.mean([way >= sums.sum() for way in ways]))


def test_swap_p_of_thousands_of_disagreements_is_one_where_they_balance() -> None:
    assert shares.swap_p(np.array([1.0, -1.0] * 5000)) == 1.0
    assert shares.swap_p(np.array([1.0] * 5200 + [-1.0] * 4800)) == pytest.approx(6.5e-5, rel=0.05)


def test_units_are_texts_where_prompts_hold_one_and_prompts_where_there_are_ten() -> None:
    assert units(*[1] * 12).unit == "text"
    assert units(*[3] * 10).unit == "prompt"
    assert units(*[3] * 10).count == 10
    few = units(*[3] * 9)
    assert (few.unit, few.count, few.independence_assumed) == ("text", 27, True)
    assert not units(1, 1, 1).independence_assumed


def test_units_of_two_cells_join_prompts_that_share_texts() -> None:
    pairs, triples = np.arange(12) // 2, np.arange(12) // 3
    assert shares.units_of(pairs, triples).of_text.tolist() == [0] * 6 + [1] * 6
    assert shares.units_of(pairs, np.arange(12)).num_prompts == 6


def test_design_effect_is_the_size_of_a_prompt_where_prompts_fail_whole() -> None:
    prompts = units(*[8] * 50)
    whole = np.repeat(np.arange(50) % 2 == 0, 8).astype(float) - 0.5
    assert prompts.design_effect(whole) == pytest.approx(8, rel=0.05)


def test_design_effect_without_an_error_is_the_size_of_a_prompt() -> None:
    assert units(*[8] * 50).design_effect(np.zeros(400)) == 8
    assert units(*[1] * 50).design_effect(np.zeros(50)) == 1


def test_share_of_independent_texts_is_wilsons() -> None:
    found = shares.share(flags((True, 9), (False, 1)), units(*[1] * 10))
    assert (found.ci_low, found.ci_high) == pytest.approx(stats.wilson(9, 10))


def test_share_of_prompts_that_fail_whole_is_wider() -> None:
    hits = np.repeat(np.arange(50) % 10 > 0, 8)
    alone, together = (shares.share(hits, each) for each in (units(*[1] * 400), units(*[8] * 50)))
    widths = [(each.ci_high or 0) - (each.ci_low or 0) for each in (alone, together)]
    assert widths[1] == pytest.approx(widths[0] * math.sqrt(8), rel=0.1)


def test_share_without_texts_is_undefined() -> None:
    assert shares.share(flags((True, 0)), units()) == shares.Figure()


def test_macro_f1_is_the_mean_over_labels_that_occur() -> None:
    expected, answered = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 3, 2])
    found = shares.macro_f1(expected, answered, 3, units(*[1] * 6))
    assert found.value == pytest.approx((4 / 5 + 2 / 4 + 1) / 3)
    answered[4] = 5  # no label, where there are five
    assert shares.macro_f1(expected, answered, 5, units(*[1] * 6)).value == found.value


def test_macro_f1_where_all_is_right_shows_no_spread() -> None:
    same = np.array([0, 1, 0])
    assert shares.macro_f1(same, same, 2, units(1, 1, 1)) == shares.Figure(value=1.0)


# Source: Fleiss, Levin and Paik (2003), Statistical Methods for Rates and Proportions, chapter 18.
def test_kappa_of_a_published_table() -> None:
    table = np.array([[75, 1, 4], [5, 4, 1], [0, 0, 10]])
    cells = [(i, j) for i in range(3) for j in range(3) for _ in range(table[i, j])]
    one, other = (np.array(side) for side in zip(*cells, strict=True))
    found = shares.kappa(one, other, 3, units(*[1] * 100))
    assert found.value == pytest.approx(0.68, abs=0.005)
    assert ((found.value or 0) - (found.ci_low or 0)) / 1.96 == pytest.approx(0.088, abs=5e-4)


def test_kappa_is_undefined_where_both_give_one_label_to_all() -> None:
    zeros = np.zeros(5, dtype=int)
    assert shares.kappa(zeros, zeros, 2, units(*[1] * 5)) == shares.Figure()


def covered(intervals: list[shares.Figure], truth: float) -> float:
    return float(
        np.mean([(each.ci_low or 0) <= truth <= (each.ci_high or 1) for each in intervals])
    )


def test_intervals_cover_the_truth_also_where_prompts_fail_whole() -> None:
    source = np.random.default_rng(0)
    prompts, drawn = units(*[8] * 50), []
    for _ in range(300):
        chances = source.beta(0.8 * 4, 0.2 * 4, size=50)  # correlation 0.2 within a prompt
        drawn.append(shares.share(source.random(400) < np.repeat(chances, 8), prompts))
    assert covered(drawn, 0.8) > 0.92


def test_macro_f1_interval_covers_the_truth() -> None:
    source = np.random.default_rng(1)
    texts, drawn = units(*[1] * 300), []
    for _ in range(300):
        expected = (source.random(300) < 0.3).astype(int)
        right = source.random(300) < 0.85
        drawn.append(shares.macro_f1(expected, np.where(right, expected, 1 - expected), 2, texts))
    f1 = [
        2 * 0.7 * 0.85 / (0.7 + 0.7 * 0.85 + 0.3 * 0.15),
        2 * 0.3 * 0.85 / (0.3 + 0.3 * 0.85 + 0.7 * 0.15),
    ]
    assert covered(drawn, float(np.mean(f1))) > 0.92

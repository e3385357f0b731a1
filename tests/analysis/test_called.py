"""How often differences of answers are called, where there are none and where one was planted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats
from tests.fabricated import Way, draw, row
from tests.fakes import cell, pass_row

from packsweep.analysis import contrasts
from packsweep.analysis.contrasts import Comparison
from packsweep.results.schema import Row

EQUAL = (
    Way(accuracy=0.9),
    Way(accuracy=0.9, template="short"),
    Way(accuracy=0.9, template="corrected"),
    Way(accuracy=0.9, pack_size=4, whole=0.3),
    Way(accuracy=0.9, pack_size=16, whole=0.3),
)
NUM_TEXTS = 400
ALIKE = 0.8


def passes(ways: Sequence[Way], rows: Sequence[Row], source: np.random.Generator) -> pd.DataFrame:
    """Return three processes of three repeats for each way, all equally fast."""
    made = []
    for way, of in zip(ways, rows, strict=True):
        one = cell(
            strategy="separate" if way.pack_size is None else "chunked",
            pack_size=way.pack_size,
            n=of["n"],
            template=way.template,
            engine="vllm",
            load_format="auto",
        )
        assert one.group_id == of["group_id"]
        speeds = source.normal(np.repeat(source.normal(100, 1, size=3), 3), 0.5)
        made += [
            pass_row(one, f"{of['group_id']}-{index // 3}", texts_per_s=speed, device_uuid="gpu")
            for index, speed in enumerate(speeds.tolist())
        ]
    return pd.DataFrame(made)


def compared(
    ways: Sequence[Way], rows: Sequence[Row], source: np.random.Generator
) -> list[Comparison]:
    answers = draw(ways, rows, source, alike=ALIKE)
    return contrasts.of(passes(ways, rows, source), answers)


def share_called(ways: Sequence[Way], sweeps: int, seed: int) -> tuple[float, float]:
    """Return in which share of sweeps anything is called, and in which any quality is."""
    source, rows = np.random.default_rng(seed), [row(way, NUM_TEXTS) for way in ways]
    called = {"up", "down"}
    any_, quality = 0, 0
    for _ in range(sweeps):
        found = compared(ways, rows, source)
        quality += bool(called & {each.quality for each in found})
        any_ += bool(called & {word for each in found for word in (each.speed, each.quality)})
    return any_ / sweeps, quality / sweeps


def power(p_lost: float, p_gained: float, chance: float, num_texts: int = NUM_TEXTS) -> float:
    """Return how often McNemar's exact test calls a loss: theory, by summing over all outcomes."""
    total = 0.0
    disagreements = np.arange(1, num_texts + 1)
    weights = scipy_stats.binom.pmf(disagreements, num_texts, p_lost + p_gained)
    for number, weight in zip(disagreements.tolist(), weights.tolist(), strict=True):
        if weight > 1e-9:
            most = scipy_stats.binom.ppf(chance / 2, number, 0.5)
            while most >= 0 and 2 * scipy_stats.binom.cdf(most, number, 0.5) > chance:
                most -= 1
            share = p_gained / (p_lost + p_gained)
            total += weight * scipy_stats.binom.cdf(most, number, share)
    return total


def disagreements(base: float, other: float) -> tuple[float, float]:
    """Return how often the base alone is right, and the other alone (``fabricated.answers``)."""
    shared = ALIKE**2
    alone = 1 - shared
    return (
        shared * (base - other) + alone * base * (1 - other),
        alone * (1 - base) * other,
    )


def planted(sweeps: int, seed: int) -> tuple[float, float]:
    """Return how often a loss of 5 points is called, and how often theory says."""
    ways = (EQUAL[0], replace(EQUAL[1], accuracy=0.85), EQUAL[2])
    source, rows = np.random.default_rng(seed), [row(way, NUM_TEXTS) for way in ways]
    worse = rows[1]["group_id"]
    called = 0
    for _ in range(sweeps):
        found = compared(ways, rows, source)
        called += any(each.cell == worse and each.quality == "down" for each in found)
    num_tests = 2 * len(found)
    return called / sweeps, power(*disagreements(0.9, 0.85), 0.05 / num_tests)


def test_every_way_of_asking_is_compared_once_with_its_baseline() -> None:
    source, rows = np.random.default_rng(0), [row(way, NUM_TEXTS) for way in EQUAL]
    found = compared(EQUAL, rows, source)
    assert len(found) == 4
    assert all(each.answers is not None and each.answers.num_texts == 400 for each in found)
    units = [each.answers.unit for each in found if each.answers]
    assert sorted(units) == ["prompt", "prompt", "text", "text"]


def test_one_text_a_prompt_is_compared_with_every_format() -> None:
    """An answer to one text has one form, and room that follows from it."""
    common = {"n": 8, "answer": "choice", "engine": "vllm"}
    cells = [
        cell(strategy="separate", output_tokens_per_text=1, ignore_eos=True, **common),
        *(
            cell(
                strategy="chunked",
                pack_size=4,
                format=form,
                output_tokens_per_text=room,
                ignore_eos=False,
                **common,
            )
            for form, room in (("lines", 9), ("numbered", 13), ("json", 16))
        ),
    ]
    rows = [pass_row(each, each.cell_id, texts_per_s=1.0, device_uuid=None) for each in cells]
    found = contrasts.of(pd.DataFrame(rows))
    asked = [each.cell for each in found if each.axis == "strategy"]
    assert asked == [of.group_id for of in cells[1:]]
    assert {each.baseline for each in found if each.axis == "strategy"} == {cells[0].group_id}


def test_equal_cells_are_seldom_called() -> None:
    any_, quality = share_called(EQUAL, 60, seed=0)
    assert quality <= any_ <= 0.1


def test_a_planted_loss_of_5_points_is_called_about_as_often_as_theory_says() -> None:
    seen, theory = planted(60, seed=0)
    assert seen == pytest.approx(theory, abs=3 * (0.25 / 60) ** 0.5)


@pytest.mark.long
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("num_ways", [2, 5])
def test_equal_cells_are_called_in_at_most_5_of_100_sweeps(num_ways: int) -> None:
    any_, quality = share_called(EQUAL[:num_ways], 2000, seed=num_ways)
    print(f"{num_ways} cells: anything {any_:.2%}, quality {quality:.2%} of 2000 sweeps")  # noqa: T201
    assert quality <= any_ <= 0.05 + 3 * (0.05 * 0.95 / 2000) ** 0.5


@pytest.mark.long
@pytest.mark.timeout(3000)
def test_a_planted_loss_of_5_points_is_called_at_the_power_of_theory() -> None:
    seen, theory = planted(2000, seed=1)
    print(f"called in {seen:.1%} of 2000 sweeps, theory {theory:.1%}")  # noqa: T201
    assert seen == pytest.approx(theory, abs=3 * (0.25 / 2000) ** 0.5)

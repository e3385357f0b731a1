"""The quality of a cell's labels, and two cells' labels beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest

from packsweep.analysis import labels, quality
from packsweep.analysis.labels import NONE
from packsweep.analysis.quality import Answers


def answers(
    expected: Sequence[str | None],
    found: Sequence[str],
    *,
    name: str = "a",
    size: int = 1,
    texts: str = "texts",
) -> Answers:
    return Answers(
        group_id=name,
        texts_sha256=texts,
        texts=np.arange(len(found)),
        prompts=np.arange(len(found)) // size,
        expected=tuple(expected),
        found=tuple(found),
    )


MIXED = answers(
    ["bug", "bug", "bug", "other", "other", "billing"],
    ["bug", "other", NONE, "other", "bug", "billing"],
)


def test_a_lost_answer_is_wrong_and_no_label() -> None:
    found = quality.of_cell(MIXED)
    assert found.accuracy.value == pytest.approx(3 / 6)
    assert [each.label for each in found.labels] == ["billing", "bug", "other"]
    assert found.confusion["bug", NONE] == 1


def test_a_label_may_be_called_none() -> None:
    found = quality.of_cell(answers(["none", "other"], ["none", NONE]))
    assert [(each.label, each.recall.value) for each in found.labels] == [("none", 1), ("other", 0)]


def test_each_label_has_its_precision_and_recall() -> None:
    bug = quality.of_cell(MIXED).labels[1]
    assert (bug.num_expected, bug.num_found) == (3, 2)
    assert bug.precision.value == pytest.approx(1 / 2)
    assert bug.recall.value == pytest.approx(1 / 3)
    assert bug.found_share.value == pytest.approx(2 / 6)
    assert bug.recall.ci_low is not None


def test_macro_f1_is_the_mean_over_labels() -> None:
    f1 = (1.0 + 2 / 5 + 2 * 1 / 4) / 3
    assert quality.of_cell(MIXED).macro_f1.value == pytest.approx(f1)


def test_a_label_that_no_answer_gives_has_no_precision() -> None:
    found = quality.of_cell(answers(["bug", "other"], ["bug", "bug"]))
    other = found.labels[1]
    assert other.precision.value is None
    assert other.recall.value == 0.0


def test_texts_without_labels_have_shares_and_agreement_alone() -> None:
    none = [None] * 4
    base = answers(none, ["bug", "bug", "other", "other"], name="base")
    found = quality.of_cell(answers(none, ["bug", "bug", "other", "bug"]), base)
    assert found.accuracy.value is found.macro_f1.value is None
    assert found.labels[0].recall.value is None
    assert found.labels[0].found_share.value == pytest.approx(3 / 4)
    assert found.agreement is not None
    assert found.agreement.share.value == pytest.approx(3 / 4)
    assert found.agreement.kappa.value == pytest.approx((3 / 4 - 1 / 2) / (1 / 2))
    assert found.confusion == {}


def test_cells_of_a_smaller_n_are_compared_over_the_texts_they_share() -> None:
    expected = ["bug", "other"] * 10
    large = answers(expected, expected, name="large", texts="twenty")
    small = answers(expected[:8], ["bug"] * 8, name="small", texts="eight")
    found = quality.difference(small, large)
    assert (found.num_texts, found.gained, found.lost) == (8, 0, 4)


def test_cells_over_other_texts_are_not_compared() -> None:
    one = answers(["bug", "other"], ["bug", "bug"], texts="one")
    other = answers(["other", "other"], ["bug", "bug"], texts="other")
    assert quality.difference(one, other).num_texts == 0
    assert quality.agreement(one, other) is None


def test_answers_of_a_server_are_compared_over_the_texts_that_came_to_both() -> None:
    """A window draws from the n texts, and another cell's window may draw others."""
    every = answers(["bug", "bug", "other", "other"], ["bug", "other", "bug", "other"])
    came = every.on(np.array([1, 3]))
    assert came.found == ("other", "other")
    found = quality.agreement(came, every)
    assert found is not None
    assert (found.num_texts, found.share.value) == (2, 1.0)
    assert quality.agreement(came, every.on(np.array([0, 2]))) is None
    difference = quality.difference(every, came)
    assert (difference.num_texts, difference.gained, difference.lost) == (2, 0, 0)


def test_as_many_texts_of_another_source_are_other_texts_even_if_their_labels_agree() -> None:
    one, other = (answers(["bug", "other"], ["bug", "bug"], texts=texts) for texts in "ab")
    assert quality.difference(one, other).num_texts == 0
    assert quality.agreement(one, other) is None


def requests(**changes: Any) -> pd.DataFrame:
    rows = [
        {
            "cell_id": cell_id,
            "repeat": repeat,
            "copy": copy,
            "first_text": first,
            "expected_labels": ["bug", "other"],
            "found_labels": ["bug", found],
        }
        for cell_id, found in (("g", "other"), ("g-r1", "bug"))
        for repeat in range(2)
        for copy in range(2)
        for first in (2, 0)
    ]
    return pd.DataFrame([{**row, **changes} for row in rows])


CELLS = [{"cell_id": cell_id, "group_id": "g", "texts_sha256": "x"} for cell_id in ("g-r1", "g")]


def test_repeats_copies_and_replicates_are_no_further_texts() -> None:
    found = quality.of_cells(labels.of_requests(requests()), CELLS)["g"]
    assert found.found == ("bug", "other", "bug", "other")  # of the first process
    assert found.prompts.tolist() == [0, 0, 2, 2]


def test_where_the_first_process_failed_another_speaks() -> None:
    own = requests()
    found = quality.of_cells(labels.of_requests(own[own["cell_id"] == "g-r1"]), CELLS[:1])["g"]
    assert found.found == ("bug", "bug", "bug", "bug")


def test_positions_of_texts_without_labels_have_no_accuracy() -> None:
    unlabelled = requests(expected_labels=[None, None])
    found = labels.by_position(labels.of_requests(unlabelled))
    assert found["accuracy"].isna().all()
    assert found["coverage"].eq(1).all()
    assert not quality.of_cells(labels.of_requests(unlabelled), CELLS)["g"].labelled

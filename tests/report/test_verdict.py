"""What is said below a list of comparisons."""

from __future__ import annotations

from packsweep.report import verdict
from packsweep.results import shares, stats

FASTER = stats.ratio([[9.0, 9.1]], [[1.0, 1.1]])
ONCE = stats.ratio([[9.0]], [[1.0]])
ANSWERS = shares.PairedDifference(num_texts=8, value=0.0, ci_low=-0.3, ci_high=0.3, p_differs=1.0)


def test_the_correction_counts_all_that_is_called_together() -> None:
    """Speeds and answers alike; what has no interval is never called."""
    assert verdict.correction([FASTER, FASTER, ONCE], [ANSWERS, None, ANSWERS]) == (
        "at 5% after Holm's correction over 4 comparisons"
    )
    lines = verdict.explained([FASTER, ONCE], [ANSWERS])
    assert lines[0] == "significant: at 5% after Holm's correction over 2 comparisons"
    assert lines[1].endswith("not significant: it does not, which may be chance")


def test_one_comparison_takes_no_correction() -> None:
    assert verdict.correction([FASTER], [None]) == "at 5%"

"""What to do with results in pandas, without a notebook: ``python docs/analysis.py RESULTS``.

Reads a results folder, prints the speed of every strategy against n, what packing and the prefix
cache do to it with their intervals, and how accuracy falls with the position in a packed prompt.
"""

from __future__ import annotations

import sys

import pandas as pd

import packsweep
from packsweep.results import stats


def speeds(summary: pd.DataFrame) -> pd.DataFrame:
    """Return texts per second: a row for each n and duplication, a column for each strategy."""
    ok = summary[summary["outcome"] == "ok"]
    return ok.pivot_table(
        index=["n", "duplication"], columns="strategy", values="texts_per_s_median"
    )


def by_process(passes: pd.DataFrame, **cell: object) -> list[list[float]]:
    """Return the repeats of each engine process of the cells that have these values."""
    wanted = passes[passes["outcome"] == "ok"]
    for name, value in cell.items():
        wanted = wanted[wanted[name] == value]
    return [list(part) for _, part in wanted.groupby("attempt_id")["texts_per_s"]]


def packed_over_separate(passes: pd.DataFrame) -> pd.DataFrame:
    """Return the ratio with its 95 % interval for each n and duplication, where both were run."""
    rows = []
    for (n, duplication), part in passes.groupby(["n", "duplication"]):
        packed, separate = (by_process(part, strategy=name) for name in ("packed", "separate"))
        found = stats.ratio(packed, separate)
        rows.append((n, duplication, found.value, found.ci_low, found.ci_high))
    return pd.DataFrame(rows, columns=["n", "duplication", "ratio", "ci_low", "ci_high"])


def accuracy_by_position(labels: pd.DataFrame) -> pd.Series[float]:
    """Return the share of correct labels at each position of a packed prompt."""
    right = (labels["found"] == labels["expected"]).astype(float)
    return right.groupby(labels["position"]).mean()


def main(results: str) -> None:
    """Print all of it."""
    passes = packsweep.load(results)
    print("texts per second", speeds(packsweep.load(results, "summary")), sep="\n")
    print("\npacked / separate", packed_over_separate(passes).to_string(index=False), sep="\n")
    labels = packsweep.load(results, "labels")
    if len(labels):
        print("\naccuracy by position", accuracy_by_position(labels), sep="\n")


if __name__ == "__main__":
    if len(sys.argv) != 2:  # noqa: PLR2004  (the script and RESULTS)
        sys.exit("usage: python docs/analysis.py RESULTS, e.g. results/quick")
    main(sys.argv[1])

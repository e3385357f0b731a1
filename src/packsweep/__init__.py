"""packsweep: how to ask an LLM to label many short texts, measured.

The Parquet files of a sweep are the interface; ``load`` reads them into pandas.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from packsweep.version import __version__

if TYPE_CHECKING:
    from os import PathLike

    import pandas as pd

__all__ = ["__version__", "load"]


def load(
    results: str | PathLike[str],
    table: Literal["passes", "requests", "summary", "labels"] = "passes",
) -> pd.DataFrame:
    """Return a table of a results folder as a pandas frame.

    Args:
        results: folder of one sweep, e.g. ``results/seed``.
        table: ``passes`` has a row per repeat (and a row per failed cell), ``requests`` a row per
            request, ``summary`` a row per cell, ``labels`` a row per text: its position in the
            prompt, the expected label and the one found. ``docs/METRICS.md`` explains the columns
            of the first three.

    Raises:
        ResultsError: the folder is not there or holds no results.
    """
    from packsweep.analysis.frames import load_table

    return load_table(results, table)

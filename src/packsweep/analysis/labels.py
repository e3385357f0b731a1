"""The answers of a results folder: labels by their position in a prompt, and what for what.

Tidy frames over the distinct texts of one pass of each cell, its first: repeats and copies ask
the same again at temperature 0, so counting them would only feign evidence.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from packsweep.results import stats

if TYPE_CHECKING:
    import pandas as pd

# What was found where no label was: a label may be called "none".
NONE = ""
COLUMNS = ("cell_id", "text", "position", "expected", "found")
POSITIONS = (
    "cell_id",
    "first",
    "last",
    "num_texts",
    "labels_found",
    "labels_right",
    "coverage",
    "accuracy",
    "accuracy_ci_low",
    "accuracy_ci_high",
)


def of_requests(requests: pd.DataFrame) -> pd.DataFrame:
    """Return a row for every distinct text of every scored cell.

    Columns: ``cell_id``; ``text``, its index among the cell's n; ``position``, its place in its
    prompt, from 0; ``expected``, None where the text has no label; ``found``, a label or ``NONE``.
    """
    import pandas as pd

    rows = [row for record in _first_pass(requests) for row in _label_rows(record)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _first_pass(requests: pd.DataFrame) -> list[dict[Any, Any]]:
    """Return the scored requests of each cell's first pass, the first copy of each prompt."""
    first = requests["repeat"].eq(0) & requests["copy"].eq(0) & requests["found_labels"].notna()
    return requests[first].to_dict(orient="records")


def _label_rows(record: dict[Any, Any]) -> Iterator[tuple[str, int, int, str | None, str]]:
    labels = record["found_labels"]
    known = record["expected_labels"]
    pairs = zip([None] * len(labels) if known is None else known, labels, strict=True)
    for position, (expected, found) in enumerate(pairs):
        text = record["first_text"] + position
        yield record["cell_id"], text, position, expected, found or NONE


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a frame; undefined is None."""
    known = frame.astype(object).where(frame.notna(), None)
    return [{str(name): value for name, value in row.items()} for row in known.to_dict("records")]


def by_position(found: pd.DataFrame, *, num_ranges: int | None = None) -> pd.DataFrame:
    """Return coverage and accuracy by position within the prompt, from the rows of ``of_requests``.

    Args:
        found: what ``of_requests`` returned.
        num_ranges: into how many ranges of nearly equal length a cell's positions are gathered;
            None gives each position a row.

    Returns:
        A row for each cell and range ``first`` to ``last``, both included and counted from 0. The
        interval is Wilson's over the range's texts.
    """
    import pandas as pd

    rows = []
    for cell_id, cell in found.groupby("cell_id", sort=False):
        length = int(cell["position"].max()) + 1
        count = min(length, num_ranges or length)
        place = cell["position"].astype(int) * count // length
        for _, part in cell.groupby(place, sort=True):
            rows.append(_position_row(str(cell_id), part))
    return pd.DataFrame(rows, columns=list(POSITIONS))


def _position_row(cell_id: str, part: pd.DataFrame) -> dict[str, Any]:
    total = len(part)
    num_found = int(part["found"].ne(NONE).sum())
    labelled = bool(part["expected"].notna().all())
    num_right = int(part["found"].eq(part["expected"]).sum()) if labelled else None
    interval = (None, None) if num_right is None else stats.wilson(num_right, total)
    assert interval is not None  # a group has rows
    values = (
        cell_id,
        int(part["position"].min()),
        int(part["position"].max()),
        total,
        num_found,
        num_right,
        num_found / total,
        None if num_right is None else num_right / total,
        *interval,
    )
    return dict(zip(POSITIONS, values, strict=True))


def confusion(found: pd.DataFrame) -> pd.DataFrame:
    """Return how often which label, or none, was found for each expected one, per cell.

    Takes the rows of ``of_requests``.
    Columns: ``cell_id``, ``expected``, ``found``, ``num_texts``; a pair that does not occur has
    no row.
    """
    keys = ["cell_id", "expected", "found"]
    counted = found.groupby(keys, sort=False, as_index=False).size()
    return counted.rename(columns={"size": "num_texts"})

"""Opening a results folder: its passes and the rows of its summary, narrowed and sorted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from packsweep.cli.options import place
from packsweep.errors import ResultsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from packsweep.analysis.frames import Overrides
    from packsweep.results.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """What ``--where`` and ``--sort`` leave of a results folder.

    Attributes:
        passes: of the cells in ``rows``.
        rows: of the summary.
        mixed: what differs between cells that were measured and should not.
        nothing: why no row is left, where the folder has some.
    """

    store: Store
    passes: pd.DataFrame
    rows: list[dict[str, Any]]
    mixed: list[str]
    nothing: str | None = None


def open_store(results: str) -> Store:
    """Return the store at a user's RESULTS.

    Raises:
        UserError: it is not there or holds no results.
    """
    from packsweep.results.store import Store

    store = Store(place(results))
    store.check()
    return store


def open_results(
    results: str,
    *,
    where: Sequence[str] = (),
    sort: str | None = None,
    reverse: bool = False,
    overrides: Overrides | None = None,
    allow_mixed: bool = False,
) -> Results:
    """Read a results folder.

    Raises:
        UserError: it holds no results, an option names no column, or rows may not be merged.
    """
    from packsweep.analysis import frames, selection

    store = open_store(results)
    passes = frames.to_pandas(store.read_passes())
    if overrides is not None:
        passes = overrides.apply(passes)
    every = frames.summarise(passes)
    rows = selected(every, where, sort, reverse=reverse)
    if len(rows) < len(every):
        passes = passes[passes["group_id"].isin({row["group_id"] for row in rows})]
    try:
        mixed = frames.check_alike(passes, allow_mixed=allow_mixed)
    except ResultsError as error:
        raise ResultsError(f"{results}: {error}") from None
    nothing = None
    if every and not rows:
        nothing = selection.nothing_matches(selection.widened(every), where)
    return Results(store=store, passes=passes, rows=rows, mixed=mixed, nothing=nothing)


def selected(
    rows: list[dict[str, Any]],
    where: Sequence[str],
    sort: str | None,
    *,
    reverse: bool = False,
) -> list[dict[str, Any]]:
    """Return the rows that ``--where`` and ``--sort`` ask for.

    Raises:
        ResultsError: they name no column.
    """
    from packsweep.analysis import selection

    if not rows or not (where or sort or reverse):
        return rows
    wide = selection.widened(rows)
    originals = {id(each): row for each, row in zip(wide, rows, strict=True)}
    kept = selection.where(wide, where)
    if sort:
        name = selection.name_of(sort, wide, option="--sort")
        kept = selection.sort(kept, name, reverse=reverse)
    elif reverse:
        kept.reverse()
    return [originals[id(each)] for each in kept]

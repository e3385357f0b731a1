"""From the passes of a sweep to a row per cell, and from a folder to pandas.

Rows that were not measured alike are not put side by side unless asked: one device, one driver,
one version of vLLM and torch; simulated rows never with real ones.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packsweep import advice, schema, stats
from packsweep.ceilings import Measured
from packsweep.errors import ResultsError
from packsweep.store import Store

if TYPE_CHECKING:
    import pandas as pd

_ALIKE = ("device", "driver_version", "vllm_version", "torch_version")
_ORDER = ["engine_settings", "cache_state", "strategy", "pack_size", "instruction", "n"]
_CONDENSE: dict[str, Callable[[list[Any]], Any]] = {
    "median": statistics.median,
    "lowest": min,
    "highest": max,
    "sum": sum,
}
_STRATEGIES = ("packed", "separate", "chunked")


def load_table(results: str | PathLike[str], table: str) -> pd.DataFrame:
    """Return ``passes``, ``requests`` or ``summary`` of a results folder.

    Raises:
        ResultsError: the folder is not there or holds no results, or there is no such table.
    """
    store = Store(Path(results))
    store.check()
    if table == "passes":
        return to_pandas(store.read_passes())
    if table == "requests":
        return to_pandas(store.read_requests())
    if table == "summary":
        return summarise(to_pandas(store.read_passes()))
    raise ResultsError(f"{table!r} is no table; there are passes, requests and summary")


def to_pandas(table: Any) -> pd.DataFrame:  # noqa: ANN401  (an Arrow table)
    """Return an Arrow table as pandas with nullable types: an undefined integer stays undefined."""
    import pandas as pd

    kinds = {
        "int64": pd.Int64Dtype(),
        "double": pd.Float64Dtype(),
        "string": pd.StringDtype(),
        "bool": pd.BooleanDtype(),
    }
    frame: pd.DataFrame = table.to_pandas(types_mapper=lambda kind: kinds.get(str(kind)))
    return frame


def check_alike(passes: pd.DataFrame, *, allow_mixed: bool = False) -> list[str]:
    """Return what differs between rows that were measured; refuse it unless allowed.

    Raises:
        ResultsError: simulated beside real rows; or other differences without ``allow_mixed``.
    """
    measured = passes[passes["outcome"] == "ok"]
    engines = sorted(measured["engine"].unique())
    if len(engines) > 1:
        message = "simulated and real results lie in one folder and are never merged"
        raise ResultsError(message)
    mixed = [
        f"{name}: {', '.join(values)}"
        for name in _ALIKE
        if len(values := sorted(str(value) for value in measured[name].unique())) > 1
    ]
    if mixed and not allow_mixed:
        raise ResultsError(
            f"results differ in {'; '.join(mixed)}; measure again into another --results folder, "
            "or merge them knowingly with --allow-mixed"
        )
    return mixed


@dataclass(frozen=True, slots=True, kw_only=True)
class Against:
    """What a summary is held against in place of what the rows say; None: what they say.

    Attributes:
        ceiling: for MFU and MBU.
        gpu_hour_usd: for the cost of reviews.
    """

    ceiling: Measured | None = None
    gpu_hour_usd: float | None = None

    def apply(self, passes: pd.DataFrame) -> pd.DataFrame:
        """Return ``passes`` with ceiling and price replaced."""
        changed = passes if self.ceiling is None else with_ceiling(passes, self.ceiling)
        if self.gpu_hour_usd is None:
            return changed
        return changed.assign(gpu_hour_usd=self.gpu_hour_usd)


def with_ceiling(passes: pd.DataFrame, measured: Measured) -> pd.DataFrame:
    """Return ``passes`` with MFU and MBU against a measured ceiling instead of a data sheet's.

    Raises:
        ResultsError: the ceiling is another device's.
    """
    others = sorted(set(passes.loc[passes["outcome"] == "ok", "device"]) - {measured.device})
    if others:
        message = f"the ceiling is that of {measured.device}, results are of {', '.join(others)}"
        raise ResultsError(message)
    changed = passes.copy()
    for name in (column.name for column in schema.CEILING):
        values = [getattr(measured.ceiling(_plain(dtype)), name) for dtype in passes["peak_dtype"]]
        changed[name] = to_dtype(values, passes[name])
    per_s = {"mfu": ("flops", "peak_flops_per_s"), "mbu": ("read_bytes", "peak_bytes_per_s")}
    for share, (done, peak) in per_s.items():
        changed[share] = changed[done] / changed["duration_s"] / changed[peak]
    return changed


def to_dtype(values: Sequence[Any], like: pd.Series[Any]) -> pd.Series[Any]:
    """Return values as a column of the same type and index as ``like``."""
    import pandas as pd

    return pd.Series(list(values), index=like.index, dtype=like.dtype)


def summarise(passes: pd.DataFrame) -> pd.DataFrame:
    """Return one row per cell, with ``schema.SUMMARY``'s columns, in the order of the grid."""
    import pandas as pd

    rows = [_summary_row(group) for _, group in passes.groupby("cell_id", sort=False)]
    names = [column.name for column in schema.SUMMARY]
    frame = pd.DataFrame(rows, columns=names)
    return frame.sort_values(
        [*_ORDER, "duplication"], key=_grid_order, kind="stable", ignore_index=True
    )


def _summary_row(group: pd.DataFrame) -> dict[str, Any]:
    """Condense the repeats of one cell; an invalid or failed one keeps no measured value."""
    first = group.iloc[0]
    shared = (
        *schema.IDENTITY,
        *schema.CELL,
        *schema.PHASES,
        *schema.PRICE,
        *schema.CEILING,
        *schema.ENVIRONMENT,
    )
    row: dict[str, Any] = {column.name: _plain(first[column.name]) for column in shared}
    ok = first["outcome"] == "ok"
    row["num_repeats"] = len(group) if ok else 0
    if not ok:
        return row
    for name in schema.MEASURED:
        row.update(_estimates(name, group[name].dropna().tolist()))
    for name in schema.CONSTANT:
        row[name] = _condense(group[name], "median")
    for column in (*schema.WORK, *schema.CONDITIONS, *schema.ENERGY):
        row[column.name] = _condense(group[column.name], column.over_repeats)
    row.update(_cost(row))
    row["warnings"] = advice.codes(_plain_rows(group))
    return row


def _cost(row: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the price of 1,000 reviews: GPU time at their speed; null where undefined."""
    price = row["gpu_hour_usd"]
    return {
        f"usd_per_1000_{name}": None if not price or not speed else price / 3600 * 1000 / speed
        for name in ("reviews", "correct_reviews")
        for speed in (row[f"{name}_per_s_median"],)
    }


def _plain_rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {str(name): _plain(value) for name, value in row.items()}
        for row in frame.to_dict(orient="records")
    ]


def _condense(values: pd.Series[Any], how: schema.Condensed) -> Any:  # noqa: ANN401
    """Return one value for those of all repeats; None where none is known."""
    known = [_plain(value) for value in values if _plain(value) is not None]
    if not known:
        return None
    if how == "union":
        return sorted({one for each in known for one in each})
    return _CONDENSE[how](known)


def _estimates(name: str, values: list[float]) -> dict[str, float | None]:
    found = stats.estimate(values)
    return {
        f"{name}_median": found.median,
        f"{name}_mean": found.mean,
        f"{name}_ci_low": found.ci_low,
        f"{name}_ci_high": found.ci_high,
    }


def _plain(value: Any) -> Any:  # noqa: ANN401
    """Return a Python value; what pandas calls missing is None, an array is a list."""
    import pandas as pd

    if pd.api.types.is_list_like(value):
        return list(value)
    return None if pd.isna(value) else getattr(value, "item", lambda: value)()


def _grid_order(column: pd.Series[Any]) -> pd.Series[Any]:
    if column.name == "strategy":
        return column.map(_STRATEGIES.index)
    return column


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a summary as plain values; undefined is None."""
    kinds = {column.name: column.kind for column in schema.SUMMARY}
    return [
        {str(name): _typed(_plain(value), kinds[str(name)]) for name, value in row.items()}
        for row in frame.to_dict(orient="records")
    ]


def _typed(value: Any, kind: str) -> Any:  # noqa: ANN401
    return round(value) if kind == "int" and value is not None else value


def merge(
    store: Store, *, allow_mixed: bool = False, against: Against | None = None
) -> list[dict[str, Any]]:
    """Read every cell of ``store``, write its summary and return its rows.

    Raises:
        ResultsError: rows do not belong together, or the folder cannot be written.
    """
    passes = to_pandas(store.read_passes())
    check_alike(passes, allow_mixed=allow_mixed)
    rows = records(summarise((against or Against()).apply(passes)))
    store.write_summary(rows)
    return rows

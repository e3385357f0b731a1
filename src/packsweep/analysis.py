"""From the passes of a sweep to a row per cell, and from a folder to pandas.

Rows that were not measured alike are not put side by side unless asked: one device, one driver,
one version of vLLM and torch; simulated rows never with real ones.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any

from packsweep import advice, labels, schema, stats
from packsweep.ceilings import Measured
from packsweep.errors import ResultsError
from packsweep.store import Store

if TYPE_CHECKING:
    import pandas as pd

_ALIKE = ("device", "driver_version", "vllm_version", "torch_version")
_ORDER = ["engine_settings", "cache_state", "strategy", "pack_size"]
_ORDER += ["instruction", "template", "answer", "n"]
_CONDENSE: dict[str, Callable[[list[Any]], Any]] = {
    "median": statistics.median,
    "lowest": min,
    "highest": max,
    "sum": sum,
}
_STRATEGIES = ("packed", "separate", "chunked")


def load_table(results: str | PathLike[str], table: str) -> pd.DataFrame:
    """Return ``passes``, ``requests``, ``summary`` or ``labels`` of a results folder.

    Raises:
        ResultsError: the folder is not there or holds no results, or there is no such table.
    """
    store = Store(results)
    store.check()
    if table == "passes":
        return to_pandas(store.read_passes())
    if table == "requests":
        return to_pandas(store.read_requests())
    if table == "summary":
        return _load_summary(to_pandas(store.read_passes()))
    if table == "labels":
        return load_labels(store)
    raise ResultsError(f"{table!r} is no table; there are passes, requests, summary and labels")


def load_labels(store: Store) -> pd.DataFrame:
    """Return the rows of ``labels.of_requests`` for the cells that count."""
    passes = to_pandas(store.read_passes())
    counts = passes.loc[passes["outcome"] == "ok", "cell_id"]
    requests = to_pandas(store.read_requests())
    return labels.of_requests(requests[requests["cell_id"].isin(counts)])


def _load_summary(passes: pd.DataFrame) -> pd.DataFrame:
    """Return the summary with the nullable types of its schema."""
    import pyarrow as pa

    check_alike(passes, allow_mixed=True)
    columns = schema.arrow_schema(schema.SUMMARY)
    return to_pandas(pa.Table.from_pylist(records(summarise(passes)), schema=columns))


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

    rows = [_summary_row(group) for _, group in passes.groupby("group_id", sort=False)]
    names = [column.name for column in schema.SUMMARY]
    frame = pd.DataFrame(rows, columns=names)
    return frame.sort_values(
        [*_ORDER, "duplication"], key=_grid_order, kind="stable", ignore_index=True
    )


def _summary_row(group: pd.DataFrame) -> dict[str, Any]:
    """Condense the repeats and replicates of one cell; what failed keeps no measured value.

    A cell with replicates that failed beside some that did not is ok, and its reason tells.
    """
    ok = group[group["outcome"] == "ok"]
    first = (group if ok.empty else ok).iloc[0]
    shared = (
        *schema.IDENTITY,
        *schema.CELL,
        *schema.PHASES,
        *schema.PRICE,
        *schema.CEILING,
        *schema.ENVIRONMENT,
    )
    row: dict[str, Any] = {column.name: _plain(first[column.name]) for column in shared}
    row["cell_id"] = row["group_id"]
    row["num_repeats"], row["num_processes"] = len(ok), ok["attempt_id"].nunique()
    if ok.empty:
        return row
    row["reason"] = _failed_replicates(group)
    for name in schema.MEASURED:
        row.update(_estimates(name, _processes(ok, name)))
    row["repeats_for_1_percent"] = _repeats_for(_processes(ok, "reviews_per_s"))
    for name in schema.CONSTANT:
        row[name] = _condense(ok[name], "median")
    for column in (*schema.WORK, *schema.CONDITIONS, *schema.ENERGY):
        row[column.name] = _condense(ok[column.name], column.over_repeats)
    row.update(_cost(row))
    row["warnings"] = advice.codes(_plain_rows(ok))
    row.update(_accuracy_interval(row["accuracy"], row["n"]))
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


def _accuracy_interval(accuracy: float | None, num_reviews: int) -> dict[str, float]:
    """Return the interval of an accuracy over ``num_reviews`` distinct reviews."""
    interval = None if accuracy is None else stats.wilson(accuracy * num_reviews, num_reviews)
    if interval is None:
        return {}
    return {"accuracy_ci_low": interval[0], "accuracy_ci_high": interval[1]}


def _failed_replicates(group: pd.DataFrame) -> str | None:
    failed = group[group["outcome"] != "ok"].drop_duplicates("cell_id")
    if failed.empty:
        return None
    last = failed.iloc[-1]
    told = f"{last['outcome']}: {last['reason']}"
    return f"{len(failed)} of {group['cell_id'].nunique()} replicates failed, last {told}"


def _processes(ok: pd.DataFrame, name: str) -> list[list[float]]:
    """Return the repeats of each engine process, leaving out what is undefined."""
    found = [part[name].dropna().tolist() for _, part in ok.groupby("attempt_id", sort=False)]
    return [values for values in found if values]


def _estimates(name: str, processes: list[list[float]]) -> dict[str, float | None]:
    found, _ = stats.nested(processes)
    return {
        f"{name}_median": found.median,
        f"{name}_mean": found.mean,
        f"{name}_ci_low": found.ci_low,
        f"{name}_ci_high": found.ci_high,
    }


def _repeats_for(processes: list[list[float]]) -> int | None:
    means = [statistics.fmean(values) for values in processes]
    pooled = [value for values in processes for value in values]
    return stats.repeats_for(means if len(means) > 1 else pooled, 0.01)


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


# What a cell is compared with: column -> the value of the other cell, all else being equal.
_BASELINES = {"strategy": "separate", "cache_state": "cold"}
_FREE = {"strategy": ("pack_size", "prompts_sha256"), "cache_state": ("engine_settings",)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A cell beside the one that differs from it in one axis alone.

    Attributes:
        cell: group_id of the cell.
        baseline: group_id of the other.
        axis: what differs, ``strategy`` or ``cache_state``.
        ratio: reviews per second of the cell over that of the baseline.
    """

    cell: str
    baseline: str
    axis: str
    ratio: stats.Ratio


def compare(passes: pd.DataFrame) -> list[Comparison]:
    """Compare every cell with ``separate``, and with ``cold``, where that was measured as well.

    Both sides are blocked by GPU: a GPU that measured only one of them does not count.
    """
    ok = passes[passes["outcome"] == "ok"]
    first = ok.drop_duplicates("group_id").set_index("group_id")
    found = []
    for axis, baseline in _BASELINES.items():
        names = [column.name for column in schema.CELL]
        shared = [name for name in names if name not in {axis, "replicate", *_FREE[axis]}]
        for _, alike in first.groupby(shared, dropna=False, sort=False):
            bases = alike.index[alike[axis] == baseline]
            others = alike.index[alike[axis] != baseline]
            found += [_comparison(ok, cell, base, axis) for base in bases for cell in others]
    return found


def _comparison(ok: pd.DataFrame, cell: str, baseline: str, axis: str) -> Comparison:
    sides = [ok[ok["group_id"] == group_id] for group_id in (cell, baseline)]
    devices = ok["device_uuid"].fillna("").unique()
    blocks = [
        tuple(_processes(s[s["device_uuid"].fillna("") == device], "reviews_per_s") for s in sides)
        for device in devices
    ]
    ratio = stats.blocked_ratio([(block[0], block[1]) for block in blocks])
    return Comparison(cell=cell, baseline=baseline, axis=axis, ratio=ratio)


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
    return merge_passes(store, passes, allow_mixed=allow_mixed, against=against or Against())


def merge_passes(
    store: Store, passes: pd.DataFrame, *, allow_mixed: bool, against: Against
) -> list[dict[str, Any]]:
    """Do what ``merge`` does with the passes of ``store``, already read."""
    check_alike(passes, allow_mixed=allow_mixed)
    rows = records(summarise(against.apply(passes)))
    store.write_summary(rows)
    return rows

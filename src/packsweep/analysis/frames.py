"""From the passes of a sweep to a row per cell, and from a folder to pandas.

Rows that were not measured alike are not compared unless asked: one device, one driver,
one version of vLLM and torch; simulated rows never with real ones.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any

from packsweep.analysis import axes, labels, quality
from packsweep.analysis.quality import Answers
from packsweep.errors import ResultsError
from packsweep.plan.ceilings import Measured
from packsweep.results import schema, summary
from packsweep.results.store import Store
from packsweep.sweep.strategies import STRATEGIES

if TYPE_CHECKING:
    import pandas as pd

_ALIKE = ("device", "driver_version", "vllm_version", "torch_version")
# Outermost first; what an axis adds stands between the strategy and the size.
_OUTER, _INNER = ("engine_settings", "cache_state", "strategy", "pack_size"), ("n", "duplication")
_ORDER = (*_OUTER, *(name for name in axes.NAMED if name not in _OUTER), *_INNER)
_NUM_TOGETHER = 500  # cells, as plain rows in memory
_STRATEGIES = tuple(STRATEGIES)


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
    raise ResultsError(f"{table!r} is not a table; there are passes, requests, summary and labels")


def load_labels(store: Store) -> pd.DataFrame:
    """Return the rows of ``labels.of_requests`` for the cells that count."""
    passes = to_pandas(store.read_passes())
    counts = passes.loc[passes["outcome"] == "ok", "cell_id"]
    requests = to_pandas(store.read_requests())
    return labels.of_requests(requests[requests["cell_id"].isin(counts)])


def load_answers(
    store: Store, passes: pd.DataFrame, *, groups: Iterable[str] | None = None
) -> dict[str, Answers]:
    """Return the decisions of the cells whose answers were scored, by group_id.

    Args:
        store: of the requests.
        passes: of its cells.
        groups: these alone; all where None.
    """
    wanted = passes if groups is None else passes[passes["group_id"].isin(list(groups))]
    cells = _scored(wanted)
    if not cells:
        return {}
    requests = to_pandas(store.read_requests({cell["cell_id"] for cell in cells}))
    return answers_of(labels.of_requests(requests), wanted)


def answers_of(found: pd.DataFrame, passes: pd.DataFrame) -> dict[str, Answers]:
    """Return the decisions among labels ``found`` of the scored cells of ``passes``."""
    return quality.of_cells(found, _scored(passes))


def _scored(passes: pd.DataFrame) -> list[dict[str, Any]]:
    scored = passes[passes["outcome"].eq("ok") & passes["coverage"].notna()]
    return plain_rows(scored.drop_duplicates("cell_id")[["cell_id", "group_id", "texts_sha256"]])


def _load_summary(passes: pd.DataFrame) -> pd.DataFrame:
    """Return the summary with the nullable types of its schema."""
    import pyarrow as pa

    check_alike(passes, allow_mixed=True)
    columns = schema.arrow_schema(schema.SUMMARY)
    return to_pandas(pa.Table.from_pylist(summarise(passes), schema=columns))


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
        message = "the folder has simulated and real results, which are never merged"
        raise ResultsError(message)
    mixed = [
        f"{name}: {', '.join(values)}"
        for name in _ALIKE
        if len(values := sorted(str(value) for value in measured[name].unique())) > 1
    ]
    if mixed and not allow_mixed:
        raise ResultsError(
            f"results differ in {'; '.join(mixed)}; measure again into another --results folder, "
            f"or merge them with --allow-mixed"
        )
    return mixed


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrides:
    """What replaces the rows' own ceiling and price; None: the rows' own.

    Attributes:
        ceiling: for MFU and MBU.
        gpu_hour_usd: for the cost of texts.
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
        message = (
            f"the ceiling was measured on {measured.device}, the results on {', '.join(others)}"
        )
        raise ResultsError(message)
    changed = passes.copy()
    dtypes = [row["peak_dtype"] for row in plain_rows(passes[["peak_dtype"]])]
    for name in (column.name for column in schema.CEILING):
        values = [getattr(measured.ceiling(dtype), name) for dtype in dtypes]
        changed[name] = to_dtype(values, passes[name])
    num_gpus = changed["num_gpus"].fillna(1)
    per_s = {"mfu": ("flops", "peak_flops_per_s"), "mbu": ("read_bytes", "peak_bytes_per_s")}
    for share, (done, peak) in per_s.items():
        changed[share] = changed[done] / changed["duration_s"] / num_gpus / changed[peak]
    return changed


def to_dtype(values: Sequence[Any], like: pd.Series[Any]) -> pd.Series[Any]:
    """Return values as a column of the same type and index as ``like``."""
    import pandas as pd

    return pd.Series(list(values), index=like.index, dtype=like.dtype)


def summarise(passes: pd.DataFrame) -> list[dict[str, Any]]:
    """Return a row per cell, with ``schema.SUMMARY``'s columns, in the order of the grid.

    Undefined is None.
    """
    kinds = {column.name: column.kind for column in schema.SUMMARY}
    rows = [
        {name: _typed(row.get(name), kind) for name, kind in kinds.items()}
        for row in map(summary.of_cell, _groups(passes))
    ]
    return sorted(rows, key=_grid_order)


def _typed(value: Any, kind: str) -> Any:  # noqa: ANN401
    if value is None:
        return None
    if kind in {"string", "json"}:
        return sys.intern(value)  # thousands of cells share most of what is said of them
    return round(value) if kind == "int" else value


def _groups(passes: pd.DataFrame) -> Iterator[list[dict[str, Any]]]:
    """Yield the passes of each cell as plain rows, taking some cells at a time out of pandas."""
    indices = list(passes.groupby("group_id", sort=False).indices.values())
    for start in range(0, len(indices), _NUM_TOGETHER):
        some = indices[start : start + _NUM_TOGETHER]
        rows = iter(plain_rows(passes.take([index for group in some for index in group])))
        for group in some:
            yield list(itertools.islice(rows, len(group)))


def plain_rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return a frame's rows as plain Python values; what pandas calls missing is None.

    By way of Arrow, which takes a fraction of the time that pandas does.
    """
    import pyarrow as pa

    rows: list[dict[str, Any]] = pa.Table.from_pandas(frame, preserve_index=False).to_pylist()
    return rows


def _grid_order(row: dict[str, Any]) -> tuple[Any, ...]:
    """Return what sorts a row of the summary; the undefined and the larger engine stand last."""
    values = {**row, "strategy": _STRATEGIES.index(row["strategy"])}
    ordered = ((values[name] is None, values[name]) for name in _ORDER)
    return (axes.split(row).num_gpus, *ordered, _load_order(row))


def _load_order(row: dict[str, Any]) -> tuple[Any, ...]:
    """Return what sorts loads: kind by kind, each by its size."""
    load = schema.parsed(row["online"])
    sizes = (load.get(name) for name in ("rate", "concurrency", "max_rate"))
    return (*((size is None, size or 0.0) for size in sizes), row["online"])


def merge(
    store: Store, *, allow_mixed: bool = False, overrides: Overrides | None = None
) -> list[dict[str, Any]]:
    """Read every cell of ``store``, write its summary and return its rows.

    Raises:
        ResultsError: rows do not belong together, or the folder cannot be written.
    """
    passes = to_pandas(store.read_passes(keep=True))
    check_alike(passes, allow_mixed=allow_mixed)
    rows = summarise((overrides or Overrides()).apply(passes))
    del passes  # of thousands of cells 100 MB
    store.write_summary(rows)
    return rows

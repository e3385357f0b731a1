"""The passes of one cell become its row of the summary.

Plain rows in and out: pandas takes some ten milliseconds for a handful of rows, which is minutes
for a sweep of thousands of cells.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Collection, Sequence
from typing import Any

from packsweep.results import schema, stats
from packsweep.results.schema import Row
from packsweep.results.warnings import codes


def _union(repeats: list[list[str]]) -> list[str]:
    return sorted({one for each in repeats for one in each})


_CONDENSE: dict[schema.Condensed | None, Callable[[list[Any]], Any]] = {
    "median": statistics.median,
    "lowest": min,
    "highest": max,
    "sum": sum,
    "union": _union,
}
# Of a search, by whether a rate is shown to pass and whether one is shown to fail.
_VERDICTS = {
    (True, True): "bracketed",
    (True, False): "none_fails",
    (False, True): "none_passes",
    (False, False): "undecided",
}
_SHARED = tuple(
    column.name
    for columns in (
        schema.IDENTITY,
        schema.CELL,
        schema.MAX_RATE,
        schema.PHASES,
        schema.PRICE,
        schema.CEILING,
        schema.ENVIRONMENT,
    )
    for column in columns
)


def processor(row: Row) -> str:
    """Return what a cell ran on in a word: a GPU, which a simulated cell stands for, or a CPU."""
    on_gpu = row["device_uuid"] is not None or row["engine"] == schema.SIMULATED
    return "GPU" if on_gpu else "CPU"


def of_cell(passes: Sequence[Row]) -> dict[str, Any]:
    """Condense the repeats and replicates of one cell; what failed keeps no measured value.

    A cell with replicates that failed beside some that did not is ok, and its reason says so.
    """
    every = [row for row in passes if row["outcome"] == "ok"]
    searched = _across_servers(every)
    ok = _counting(every, searched.get("max_rate_pass_texts_per_s"))
    first = (ok or passes)[0]
    row: dict[str, Any] = {name: first[name] for name in _SHARED}
    row["cell_id"] = row["group_id"]
    row["num_repeats"] = len(ok)
    row["num_processes"] = len({each["attempt_id"] for each in ok})
    if not ok:
        return row
    row["reason"] = _failed_replicates(passes)
    for name in schema.MEASURED:
        row.update(_estimates(name, processes(ok, name)))
    row.update(_attainment_interval(ok, row))
    row.update(searched)
    row["repeats_for_1_percent"] = _repeats_for(processes(ok, "texts_per_s"))
    for column in (*schema.CONSTANT, *schema.CONDENSED):
        row[column.name] = _condense(ok, column)
    row.update(_cost(row))
    row["warnings"] = codes(ok)
    row.update(_accuracy_interval(row))
    return row


def _counting(ok: Sequence[Row], passes: float | None) -> Sequence[Row]:
    """Return of a search the windows at the rate that ``passes``, else at its lowest.

    Several servers are told at one rate, at which each was driven; without such a rate each at its
    own. What an attempt says of its attainment is of its own rate alone.
    """
    if not ok or ok[0]["max_rate_verdict"] is None:
        return ok
    driven: dict[str, set[float]] = {}
    for row in ok:
        driven.setdefault(row["attempt_id"], set()).add(row["rate_texts_per_s"])
    shown = {row["attempt_id"]: row["max_rate_pass_texts_per_s"] for row in ok}
    own = {each: _told_at(rates, shown[each]) for each, rates in driven.items()}
    common = set.intersection(*driven.values())
    at = dict.fromkeys(own, _told_at(common, passes)) if common else own
    unknown = {"attainment_low": None, "attainment_high": None}
    return [
        row if at[row["attempt_id"]] == own[row["attempt_id"]] else {**row, **unknown}
        for row in ok
        if row["rate_texts_per_s"] == at[row["attempt_id"]]
    ]


def _told_at(rates: Collection[float], passes: float | None) -> float:
    """Return the highest of ``rates`` up to the one that passes; the lowest where none is."""
    return max((rate for rate in rates if rate <= (passes or 0.0)), default=min(rates))


def processes(ok: Sequence[Row], name: str) -> list[list[float]]:
    """Return the repeats of each engine process, leaving out what is undefined."""
    found: dict[str, list[float]] = {}
    for row in ok:
        if row[name] is not None:
            found.setdefault(row["attempt_id"], []).append(row[name])
    return list(found.values())


def _attainment_interval(ok: Sequence[Row], row: Row) -> dict[str, float]:
    """Return the mean over servers of their intervals over batches of time, or what is wider.

    Of several servers each end is at least as far out as that of the interval over servers. Those
    that all keep an SLO show no spread; what is not known of each of them stays.
    """
    known = {each["attempt_id"]: each for each in ok if each["attainment_low"] is not None}
    if not known:
        return {}
    low = statistics.fmean(each["attainment_low"] for each in known.values())
    high = statistics.fmean(each["attainment_high"] for each in known.values())
    if row["num_processes"] > 1 and row["attainment_ci_low"] is not None:
        low = min(low, max(row["attainment_ci_low"], 0.0))
        high = max(high, min(row["attainment_ci_high"], 1.0))
    return {"attainment_ci_low": low, "attainment_ci_high": high}


def _across_servers(ok: Sequence[Row]) -> dict[str, Any]:
    """Return the columns of ``schema.MAX_RATE`` that hold for all of several servers.

    Servers of one setting differ by more than chance inside one explains: what holds for all is the
    lowest rate that passes and the highest that fails; null where one has none.
    """
    by_attempt = {row["attempt_id"]: row for row in ok if row["max_rate_verdict"] is not None}
    servers = list(by_attempt.values())
    if not servers:
        return {}
    if len(servers) == 1:
        return {column.name: servers[0][column.name] for column in schema.MAX_RATE}
    passes = _of_all(servers, "max_rate_pass_texts_per_s", min)
    fails = _of_all(servers, "max_rate_fail_texts_per_s", max)
    reasons = (row["max_rate_reason"] for row in servers)
    return {
        "max_rate_verdict": _VERDICTS[passes is not None, fails is not None],
        "max_rate_pass_texts_per_s": passes,
        "max_rate_fail_texts_per_s": fails,
        "max_rate_texts_per_s": _of_all(servers, "max_rate_texts_per_s", min),
        "max_rate_reason": "; ".join(dict.fromkeys(filter(None, reasons))) or None,
    }


def _of_all(servers: Sequence[Row], name: str, of: Callable[[list[float]], float]) -> float | None:
    rates = [row[name] for row in servers]
    return None if None in rates else of(rates)


def _cost(row: Row) -> dict[str, float | None]:
    """Return speed a GPU and the price of 1,000 texts, which all GPUs of the engine cost."""
    num_gpus, price = row["num_gpus"], row["gpu_hour_usd"]
    per_s = None if price is None else (num_gpus or 1) * price / 3600
    return {
        "texts_per_s_per_gpu": _over(row["texts_per_s_median"], num_gpus),
        "usd_per_1000_texts": _over(per_s, row["texts_per_s_median"], 1000),
        "usd_per_1000_correct_texts": _over(per_s, row["correct_texts_per_s_median"], 1000),
    }


def _over(part: float | None, whole: float | None, times: float = 1) -> float | None:
    """Return ``part / whole``, ``times`` that; None where it is not defined."""
    return None if part is None or not whole else times * part / whole


def _condense(ok: Sequence[Row], column: schema.Column) -> Any:  # noqa: ANN401
    """Return one value for those of all repeats; None where none is known."""
    known = [row[column.name] for row in ok if row[column.name] is not None]
    return _CONDENSE[column.over_repeats](known) if known else None


def _accuracy_interval(row: Row) -> dict[str, float]:
    """Return the interval of an accuracy over the distinct texts that it can be of.

    A window may be over before each of the n was asked about.
    """
    if row["accuracy"] is None:
        return {}
    num_texts = min(row["n"], int(row["num_texts"] or row["n"]))
    interval = stats.wilson(row["accuracy"] * num_texts, num_texts)
    if interval is None:
        return {}
    return {"accuracy_ci_low": interval[0], "accuracy_ci_high": interval[1]}


def _failed_replicates(passes: Sequence[Row]) -> str | None:
    failed = {row["cell_id"]: row for row in reversed(passes) if row["outcome"] != "ok"}
    if not failed:
        return None
    last = next(iter(failed.values()))
    reason = f"{last['outcome']}: {last['reason']}"
    num_replicates = len({row["cell_id"] for row in passes})
    return f"{len(failed)} of {num_replicates} replicates failed, last {reason}"


def _estimates(name: str, measured: list[list[float]]) -> dict[str, float | None]:
    found, _ = stats.nested(measured)
    return {
        f"{name}_median": found.median,
        f"{name}_mean": found.mean,
        f"{name}_ci_low": found.ci_low,
        f"{name}_ci_high": found.ci_high,
    }


def _repeats_for(measured: list[list[float]]) -> int | None:
    means = [statistics.fmean(values) for values in measured]
    pooled = [value for values in measured for value in values]
    return stats.repeats_for(means if len(means) > 1 else pooled, 0.01)

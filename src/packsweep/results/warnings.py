"""What makes a cell's numbers doubtful: a table of warnings, each a question to its passes.

Pure functions over rows of ``schema.PASSES``. A value that is null raises no warning. Simulated
passes are not warned about: they were not measured at all.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from packsweep.results import schema, stats

Passes = Sequence[Mapping[str, Any]]

SPREAD_SHARE = 0.10
SLOW_FIRST_SHARE = 0.05
SHORT_S = 1.0
BUSY_SHARE = 0.10
FEW_REPEATS = 2
# Reasons that lower clocks unasked; limits that the user set are none.
_THROTTLES = frozenset(
    {
        "sw_power_cap",
        "hw_slowdown",
        "sw_thermal_slowdown",
        "hw_thermal_slowdown",
        "hw_power_brake_slowdown",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Warning_:  # noqa: N801  (Warning is Python's own)
    """One thing that can be wrong with a cell.

    Attributes:
        code: as the summary stores it.
        applies: tells it from the timed passes of one cell, at least one.
        text: what was found, for the line below the table.
        remedy: what to do about it.
    """

    code: str
    applies: Callable[[Passes], bool]
    text: str
    remedy: str


def _known(passes: Passes, name: str) -> list[Any]:
    return [row[name] for row in passes if row.get(name) is not None]


def _offline(passes: Passes) -> Passes:
    """Return what took as long as the engine needed; windows last as long as they are asked to."""
    return [row for row in passes if row.get("mode") != "online"]


def _few_repeats(passes: Passes) -> bool:
    """A search drives as many windows as its verdict takes."""
    return len(passes) < FEW_REPEATS and not _known(passes, "max_rate_verdict")


def _spread(passes: Passes) -> bool:
    seconds: list[float] = _known(_offline(passes), "duration_s")
    if not seconds:
        return False
    median = statistics.median(seconds)
    return max(seconds) - min(seconds) > SPREAD_SHARE * median


def _slow_first(passes: Passes) -> bool:
    timed = _offline(passes)
    firsts: list[float] = _known([row for row in timed if row["repeat"] == 0], "duration_s")
    others: list[float] = _known([row for row in timed if row["repeat"] != 0], "duration_s")
    if not firsts or not others:
        return False
    return statistics.median(firsts) > (1 + SLOW_FIRST_SHARE) * statistics.median(others)


def _short(passes: Passes) -> bool:
    seconds: list[float] = _known(passes, "duration_s")
    return min(seconds) < SHORT_S


def _throttled(passes: Passes) -> bool:
    return any(_THROTTLES.intersection(seen) for seen in _known(passes, "throttle_reasons"))


def _host_busy(passes: Passes) -> bool:
    shares: list[float] = _known(passes, "other_cpu_share")
    return max(shares, default=0.0) > BUSY_SHARE


def _foreign_process(passes: Passes) -> bool:
    return any(len(pids) > 0 for pids in _known(passes, "foreign_gpu_pids"))


def _guessing(passes: Passes) -> bool:
    shares: list[float] = _known(passes, "accuracy")
    guesses: list[float] = _known(passes, "majority_class_share")
    if not shares or not guesses:
        return False
    num_texts = passes[0]["n"]  # copies and repeats are no new evidence
    interval = stats.wilson(statistics.median(shares) * num_texts, num_texts)
    return interval is not None and interval[0] <= max(guesses)


def _surplus(passes: Passes) -> bool:
    return any(_known(passes, "labels_surplus"))


def _request_errors(passes: Passes) -> bool:
    return any(_known(passes, "num_errors"))


def _cache_untold(passes: Passes) -> bool:
    """Tell whether a server's prefix cache may be in another state than asked."""
    of_servers = [row for row in passes if row.get("mode") == "online"]
    asked = [row for row in of_servers if row["cache_state"] != "off"]
    return any(row["cached_share"] is None and row["num_requests"] for row in asked)


def _memory_kept(passes: Passes) -> bool:
    return not all(_known(passes, "memory_returned"))


WARNINGS = (
    Warning_(
        code="few_repeats",
        applies=_few_repeats,
        text="measured once, spread unknown",
        remedy="set measure.repeats to 3 or more",
    ),
    Warning_(
        code="spread",
        applies=_spread,
        text=f"repeats differ by more than {SPREAD_SHARE:.0%}",
        remedy="stop other load or raise measure.repeats",
    ),
    Warning_(
        code="slow_first",
        applies=_slow_first,
        text=f"first repeat more than {SLOW_FIRST_SHARE:.0%} slower than the others",
        remedy="raise measure.warmup_passes",
    ),
    Warning_(
        code="short",
        applies=_short,
        text=f"passes shorter than {SHORT_S:.0f} s",
        remedy="raise grid.n or measure.repeats",
    ),
    Warning_(
        code="throttled",
        applies=_throttled,
        text="GPU clocks throttled by power or heat (column throttle_reasons)",
        remedy="compare only with results at the same power limit",
    ),
    Warning_(
        code="host_busy",
        applies=_host_busy,
        text=f"other processes used more than {BUSY_SHARE:.0%} of the CPUs",
        remedy="measure again on an idle host",
    ),
    Warning_(
        code="foreign_process",
        applies=_foreign_process,
        text="another process used the GPU (column foreign_gpu_pids)",
        remedy="stop it and measure again",
    ),
    Warning_(
        code="guessing",
        applies=_guessing,
        text="accuracy is not distinguishable from the majority-class baseline",
        remedy="try a larger model or another template, or raise grid.n; see show --confusion",
    ),
    Warning_(
        code="surplus_labels",
        applies=_surplus,
        text="answers contained more labels than there were texts (column labels_surplus)",
        remedy="see column text of the requests; set grid.answer to choice, or use another format",
    ),
    Warning_(
        code="request_errors",
        applies=_request_errors,
        text="requests failed: they violate the SLO and do not count as throughput (column errors)",
        remedy="see the server's responses in the attempt's log",
    ),
    Warning_(
        code="cache_untold",
        applies=_cache_untold,
        text="the server does not report cached tokens, so the state of its prefix cache was not "
        "checked",
        remedy="start vLLM with --enable-prompt-tokens-details",
    ),
    Warning_(
        code="memory_kept",
        applies=_memory_kept,
        text="GPU memory not freed a minute after the engine stopped",
        remedy="check nvidia-smi before the next cell",
    ),
)


def codes(passes: Passes) -> list[str]:
    """Return the codes of all warnings that apply to the timed passes of one cell."""
    if not passes or passes[0]["engine"] == schema.SIMULATED or not _known(passes, "duration_s"):
        return []
    return [warning.code for warning in WARNINGS if warning.applies(passes)]

"""What a row of the summary says, read by name here alone: names, speed, accuracy, ceiling."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from packsweep.analysis import axes
from packsweep.analysis.blocks import num_gpus
from packsweep.report import format as fmt
from packsweep.results.schema import Row
from packsweep.sweep.strategies import STRATEGIES

DEVICE_LIMITS = (("flops", "peak_flops_per_s"), ("read_bytes", "peak_bytes_per_s"))


def strategy(row: Row) -> str:
    """Return ``packed``, ``separate`` or ``chunked4``, as cell ids spell it."""
    size = row["pack_size"]
    return str(row["strategy"]) if size is None else f"{row['strategy']}{size}"


def texts_per_prompt(row: Row) -> int:
    return STRATEGIES[row["strategy"]].texts_per_prompt(row["n"], row["pack_size"])


def speed(row: Row) -> str:
    """Return texts/s with half the 95 % interval as a share of the mean.

    Windows of a search have no spread to tell: what arrived in them decides their speed.
    """
    spread = "" if row.get("max_rate_verdict") else half_width(row, "texts_per_s")
    return fmt.number(row["texts_per_s_median"]) + spread


def half_width(row: Row, name: str) -> str:
    """Return half the 95 % interval as a share of the mean; nothing below two repeats."""
    low, high, mean = (row[f"{name}_{suffix}"] for suffix in ("ci_low", "ci_high", "mean"))
    if low is None or not mean:
        return ""
    return f"±{100 * (high - low) / 2 / mean:.1f}%"


def accuracy(row: Row) -> str:
    """Return an accuracy with its 95 % interval, or how it stands to the majority class."""
    if sign := guess(row):
        return f"{fmt.percent(row['accuracy'])} {sign} guess"
    low, high = row["accuracy_ci_low"], row["accuracy_ci_high"]
    percent = fmt.percent(row["accuracy"])
    return percent if low is None else f"{percent} ({100 * low:.0f}-{fmt.percent(high)})"


def attainment(row: Row) -> str:
    """Return the share of requests that kept the SLO, with its 95 % interval."""
    told = fmt.percent(row.get("attainment_median"))
    low, high = row.get("attainment_ci_low"), row.get("attainment_ci_high")
    if low is None or high is None:
        return told
    # A t interval of few windows may reach beyond what a share can be.
    return f"{told} ({100 * max(low, 0.0):.0f}-{fmt.percent(min(high, 1.0))})"


def shown_rate(row: Row, end: str) -> str:
    """Return the highest rate that is shown to keep the SLO, or the lowest that is shown not to.

    Args:
        row: of the summary.
        end: ``pass`` or ``fail``.
    """
    rate, verdict = row.get(f"max_rate_{end}_texts_per_s"), row.get("max_rate_verdict")
    if rate is not None or verdict is None:
        return fmt.number(rate)
    return "none" if verdict == {"pass": "none_passes", "fail": "none_fails"}[end] else "undecided"


def guess(row: Row) -> str:
    """Return ``=`` where the accuracy's interval includes the majority-class share, ``<`` below."""
    share, low, high = (
        row.get(name) for name in ("majority_class_share", "accuracy_ci_low", "accuracy_ci_high")
    )
    if share is None or low is None or high is None or low > share:
        return ""
    return "=" if high >= share else "<"


def ceiling(row: Row) -> float | None:
    """Return the texts per second that the peaks of all GPUs allow; None where not known."""
    if not all(row[work] and row[peak] for work, peak in DEVICE_LIMITS):
        return None
    least_s = max(row[work] / row[peak] for work, peak in DEVICE_LIMITS) / num_gpus(row)
    return float(row["num_texts"] / least_s)


def several_gpus(rows: Sequence[Row]) -> bool:
    """Tell whether some engine had more than one GPU, so that each row has to say its number."""
    return any(num_gpus(row) > 1 for row in rows)


def names(rows: Sequence[Row]) -> dict[str, str]:
    """Return what tells each cell apart in a few words: cell_id -> name, each once.

    A setting that varies is named where it has another value than its default.
    """
    varied = axes.varying(rows)
    several = len({row["duplication"] for row in rows}) > 1
    named = {}
    for index, row in enumerate(rows):
        words = [strategy(row), f"n={row['n']}"]
        words += [f"dup={row['duplication']}"] if several else []
        words += [varied["cache_state"][index]] if "cache_state" in varied else []
        others = axes.unusual(varied, index).items()
        words += [f"{name}={value}" for name, value in others if name != "cache_state"]
        named[str(row["cell_id"])] = " ".join(words)
    taken = Counter(named.values())
    return {
        cell_id: name if taken[name] == 1 else f"{name} {cell_id.rpartition('-')[2]}"
        for cell_id, name in named.items()
    }


def pair(name: str, baseline: str) -> str:
    """Return ``packed vs separate, n=8``: two names in one, what they share said once."""
    shared = common(name, baseline).split()
    mine, other = (
        " ".join(word for word in each.split() if word not in shared) for each in (name, baseline)
    )
    return f"{mine or 'default'} vs {other or 'default'}, {' '.join(shared)}"


def common(name: str, baseline: str) -> str:
    """Return the words that two names share."""
    words = baseline.split()
    return " ".join(word for word in name.split() if word in words)


def vllm_form(row: Row) -> list[str]:
    """Return a cell as ``vllm bench throughput`` prints it."""
    speeds = (
        f"{fmt.number(row[f'{name}_per_s_median'])} {name.replace('_', ' ')}/s"
        for name in ("requests", "total_tokens", "output_tokens")
    )
    return [
        f"Throughput: {', '.join(speeds)}",
        f"Total num prompt tokens:  {row['prompt_tokens']}",
        f"Total num output tokens:  {row['output_tokens']}",
    ]

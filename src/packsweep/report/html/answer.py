"""The answer in one sentence: which strategy labelled the most texts, and whether that is shown.

Every figure is a ratio of texts per second to the strategy ``separate`` under the same conditions
(``contrasts.of``). Where an interval does not exclude 1, and what equal processes differ by
(``stats.Ratio.margin``), nothing is called.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from packsweep.analysis import axes
from packsweep.analysis.contrasts import SETTINGS, Comparison
from packsweep.report import format as fmt
from packsweep.results import schema
from packsweep.results.schema import Row
from packsweep.results.stats import Ratio

BASELINE = "separate"
_NEAR_ONE = 0.005
_NAMED_TIES = 3


def sentence(rows: Sequence[Row], compared: Sequence[Comparison]) -> str:
    """Return the answer over the rows of a summary and their comparisons."""
    told = _sentence(rows, compared)
    if any(row["engine"] == schema.SIMULATED for row in rows):
        return f"Simulated, not measured: {told[0].lower()}{told[1:]}"
    return told


def _sentence(rows: Sequence[Row], compared: Sequence[Comparison]) -> str:
    if not rows:
        return "Nothing can be called: there are no cells yet."
    if all(row["outcome"] != "ok" for row in rows):
        cells = "the only cell was" if len(rows) == 1 else f"none of the {len(rows)} cells was"
        return f"Nothing can be called: {cells} {'not ' if len(rows) == 1 else ''}measured."
    by_id = {str(row["cell_id"]): row for row in rows}
    for axis, verdict in (("strategy", _verdict), (SETTINGS, _verdict_on_settings)):
        mine = [each for each in compared if each.axis == axis]
        if mine:
            baseline = headline(by_id, mine)
            others = [each for each in mine if each.baseline == baseline]
            return verdict(others, by_id, rows)
    return (
        "Nothing can be called: no other strategy was measured beside separate "
        "under the same conditions."
    )


def headline(by_id: Mapping[str, Row], compared: Sequence[Comparison]) -> str:
    """Return the baseline of the largest workload: most texts, each submitted least often.

    Where settings vary, of those the ones that most cells of the sweep have.
    """
    varied = axes.varying(list(by_id.values()))
    settings = dict(zip(by_id, zip(*varied.values(), strict=True), strict=True)) if varied else {}
    common = [Counter(values) for values in varied.values()]

    def size(each: Comparison) -> tuple[int, int, int]:
        row = by_id[each.baseline]
        own = settings.get(each.baseline, ())
        shared = sum(counter[value] for counter, value in zip(common, own, strict=False))
        return int(row["n"]), -int(row["duplication"]), shared

    return max(compared, key=size).baseline


def fastest(rows: Sequence[Row], compared: Sequence[Comparison]) -> str | None:
    """Name the fastest cell of the answer's workload, whatever its settings; None if none vary."""
    strategies = [each for each in compared if each.axis == "strategy"]
    varied = axes.varying(rows)
    if not strategies or not varied:
        return None
    by_id = {str(row["cell_id"]): row for row in rows}
    base = by_id[headline(by_id, strategies)]
    alike = [
        row
        for row in rows
        if row["outcome"] == "ok" and all(row[name] == base[name] for name in ("n", "duplication"))
    ]
    best = max(alike, key=lambda row: float(row["texts_per_s_median"]))
    if best is base:
        return None
    mine, theirs = rows.index(best), rows.index(base)
    told = [
        f"{name.replace('_', ' ')} {values[mine]}"
        for name, values in varied.items()
        if values[mine] != values[theirs]
    ]
    ratio = next(
        (
            f" ({_times(each.ratio)}, {_interval(each.ratio)})"
            for each in compared
            if each.axis == SETTINGS
            and (each.cell, each.baseline) == (best["cell_id"], base["cell_id"])
            and each.ratio.ci_low is not None
        ),
        "",
    )
    return (
        f"Fastest of all cells of that size: {', '.join([_strategy(best), *told])}, "
        f"{_speed(best)} texts/s, beside {_speed(base)} of {BASELINE} above{ratio}."
    )


def _speed(row: Row) -> str:
    speed = fmt.number(row["texts_per_s_median"])
    return f"{speed}{fmt.half_width(row, 'texts_per_s')}"


def _size(row: Row, rows: Sequence[Row]) -> str:
    """Say how many texts, and how often each where that differs within the sweep."""
    told = f"n = {row['n']}"
    if row["duplication"] > 1 or len({each["duplication"] for each in rows}) > 1:
        times = "once" if row["duplication"] == 1 else f"{row['duplication']} times"
        told += f", each request submitted {times}"
    return told


def _workload(row: Row, rows: Sequence[Row]) -> str:
    """Say what the compared cells share, as far as it differs within the sweep."""
    told = _size(row, rows)
    index = [each["cell_id"] for each in rows].index(row["cell_id"])
    varied = axes.varying(rows)
    named = axes.unusual(varied, index)
    told += "".join(f", {name.replace('_', ' ')} {value}" for name, value in named.items())
    if len(named) == len(varied):
        return told
    return told + (", other settings" if named else ", settings") + " at their defaults"


def _verdict_on_settings(
    others: Sequence[Comparison], by_id: Mapping[str, Row], rows: Sequence[Row]
) -> str:
    """Call the settings that are shown to be faster than the plainest, or say that none are."""
    base = by_id[others[0].baseline]
    name, where = _strategy(base), _size(base, rows)
    ranked = sorted(others, key=lambda each: each.ratio.value or 0.0, reverse=True)
    best = next((each for each in ranked if _said(each.ratio) == "faster"), None)
    if best is not None:
        tied = _tied(best, ranked, [_changed(each) for each in ranked])
        return (
            f"At {where}, {name} labelled the most texts per second with {_changed(best)}: "
            f"{_times(best.ratio)} those {_base(best)} ({_interval(best.ratio)}){tied}."
        )
    nearest = ranked[0]
    if nearest.ratio.ci_low is None:
        return (
            f"Nothing can be called at {where}: {name} with {_changed(nearest)} labelled "
            f"{fmt.number(nearest.ratio.value)} times the texts per second of {name} "
            f"{_base(nearest)}, and one repeat each gives no interval."
        )
    base_name = f"{name} {_base(nearest)}"
    return (
        f"At {where}, no setting was shown to label more texts per second than {base_name}: "
        f"{_changed(nearest)} {_times(nearest.ratio)} ({_interval(nearest.ratio)})."
    )


def _changed(compared: Comparison) -> str:
    return _settings(compared.change)


def _base(compared: Comparison) -> str:
    """Say what the other side has where that is no default."""
    return f"with {_settings(compared.instead)}" if compared.instead else "without"


def _settings(values: Sequence[tuple[str, str]]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in values)


def _verdict(others: Sequence[Comparison], by_id: Mapping[str, Row], rows: Sequence[Row]) -> str:
    """Call the fastest that is shown to be faster than separate, or separate, or nothing."""
    where = _workload(by_id[others[0].baseline], rows)
    ranked = sorted(others, key=lambda each: each.ratio.value or 0.0, reverse=True)
    faster = [each for each in ranked if _said(each.ratio) == "faster"]
    if faster:
        best = faster[0]
        name = _strategy(by_id[best.cell])
        told = f"{name} labelled the most texts per second, {_times(best.ratio)} those of "
        tied = _tied(best, ranked, [_strategy(by_id[each.cell]) for each in ranked])
        return f"At {where}, {told}{BASELINE} ({_interval(best.ratio)}){tied}."
    undecided = [each for each in ranked if not each.ratio.differs]
    slower = [each for each in ranked if each.ratio.differs]
    if undecided and not slower:
        return _nothing(undecided[0], _strategy(by_id[undecided[0].cell]), where)
    if undecided:
        return _not_beaten(slower, undecided, by_id, where)
    best = ranked[0]
    name = _strategy(by_id[best.cell])
    nearest = ", the nearest other," if len(ranked) > 1 else ""
    return (
        f"At {where}, {BASELINE} labelled the most texts per second: {name}{nearest} reached "
        f"{_times(best.ratio)} its rate ({_interval(best.ratio)})."
    )


def _not_beaten(
    slower: Sequence[Comparison],
    undecided: Sequence[Comparison],
    by_id: Mapping[str, Row],
    where: str,
) -> str:
    """Say by how much some lag behind separate while others cannot be told apart from it."""
    behind = (f"{_strategy(by_id[each.cell])} {_times(each.ratio)}" for each in reversed(slower))
    near = ", ".join(_strategy(by_id[each.cell]) for each in undecided)
    return (
        f"At {where}, nothing was shown to label more texts per second than {BASELINE}: "
        f"{', '.join(behind)} its rate ({_interval(slower[-1].ratio)}); "
        f"not told apart from it: {near}."
    )


def _nothing(each: Comparison, name: str, where: str) -> str:
    ratio = each.ratio
    if ratio.ci_low is None:
        return (
            f"Nothing can be called at {where}: {name} labelled {fmt.number(ratio.value)} times "
            f"the texts per second of {BASELINE}, and one repeat each gives no interval."
        )
    told = (
        f"Nothing can be called at {where}: {name} labelled {_times(ratio)} the texts per "
        f"second of {BASELINE}, and that {_interval(ratio)} "
    )
    if ratio.ci_low <= 1 <= (ratio.ci_high or 1):
        return f"{told}holds 1."
    return f"{told}does not go beyond the {ratio.margin - 1:.0%} by which two processes may differ."


def _tied(best: Comparison, others: Sequence[Comparison], names: Sequence[str]) -> str:
    """Name those whose interval comes as near to that of the best as equal processes may."""
    low = best.ratio.ci_low or 0.0
    tied = [
        name
        for each, name in zip(others, names, strict=True)
        if each is not best and (each.ratio.ci_high or low) * each.ratio.margin >= low
    ]
    if not tied:
        return ""
    more = f" and {len(tied) - _NAMED_TIES} more" if len(tied) > _NAMED_TIES else ""
    between = "; " if any("," in name for name in tied) else ", "
    return f"; not told apart from {between.join(tied[:_NAMED_TIES])}{more}"


def _strategy(row: Row) -> str:
    return fmt.strategy(row["strategy"], row["pack_size"])


def _times(ratio: Ratio) -> str:
    assert ratio.value is not None
    assert ratio.ci_low is not None
    assert ratio.ci_high is not None
    ends = (ratio.ci_low, ratio.ci_high)
    # An end that two decimals would print as 1.00 is shown on its side of 1.
    digits = 4 if any(abs(end - 1) < _NEAR_ONE for end in ends) else 2
    low, high = (f"{end:.{digits}f}" for end in ends)
    return f"{ratio.value:.{digits}f} times [{low}, {high}]"


def _interval(ratio: Ratio) -> str:
    draws = "engine processes" if ratio.between_processes else "repeats within one process each"
    return f"95 % interval over {draws}"


def counts(rows: Sequence[Row], compared: Sequence[Comparison]) -> str | None:
    """Say how often which strategy was faster or slower than separate; None without comparisons."""
    by_id = {str(row["cell_id"]): row for row in rows}
    said: dict[str, Counter[str]] = {}
    for each in compared:
        if each.axis == "strategy":
            said.setdefault(_strategy(by_id[each.cell]), Counter())[_said(each.ratio)] += 1
    if not said:
        return None
    told = (
        f"{name} {', '.join(f'{word} in {number}' for word, number in sorted(counter.items()))}"
        for name, counter in said.items()
    )
    total = sum(counter.total() for counter in said.values())
    return f"Of {total:,} comparisons with {BASELINE}: {'; '.join(told)}."


def _said(ratio: Ratio) -> str:
    if not ratio.differs:
        return "not told apart"
    return "faster" if (ratio.value or 0) > 1 else "slower"


def answers_right(rows: Sequence[Row], compared: Sequence[Comparison]) -> str:
    """Say how many answers were right in the cells that the sentence is about."""
    strategies = [each for each in compared if each.axis == "strategy"]
    by_id = {str(row["cell_id"]): row for row in rows}
    cells = [row for row in rows if row["outcome"] == "ok"]
    if strategies:
        base = headline(by_id, strategies)
        own = {base, *(each.cell for each in strategies if each.baseline == base)}
        cells = [row for row in cells if row["cell_id"] in own]
    scored = [row for row in cells if row["accuracy"] is not None]
    if not scored:
        return "Answers were not scored: this is about speed alone."
    told = ", ".join(f"{_strategy(row)} {fmt.accuracy(row)}" for row in scored[:6])
    return f"Answers right there, with the 95 % interval: {told}."

"""The first screen of the page: a recommendation, three numbers, the frontier, speed against n.

Where answers were scored the recommendation is that of ``analysis.advice``, as ``packsweep
recommend`` gives it. Else it is about speed alone: of the cells of the largest workload the fastest
is named, and whether that is significant.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence

from packsweep.analysis import advice
from packsweep.analysis.advice import Advice, Number, Point
from packsweep.analysis.advice import Figure as Value
from packsweep.analysis.blocks import num_gpus
from packsweep.analysis.contrasts import Comparison
from packsweep.analysis.quality import Answers
from packsweep.errors import ResultsError
from packsweep.report import cell
from packsweep.report import format as fmt
from packsweep.report.html import charts
from packsweep.report.html.charts import Axis
from packsweep.report.html.parts import Figure, make_table
from packsweep.results import schema, summary
from packsweep.results.schema import Row
from packsweep.results.stats import Ratio
from packsweep.sweep.strategies import STRATEGIES

_SIGNIFICANT = ("up", "down")
_MOST_WORDS = 22  # and three where the engine was simulated
_MANY_TEXTS = 1_000_000
RANDOM_WEIGHTS = "Speed only: the weights are random."


def advise(
    rows: Sequence[Row],
    compared: Sequence[Comparison],
    answers: Mapping[str, Answers] | None = None,
) -> Advice:
    """Return what to run, from the rows of a summary, their comparisons and their answers."""
    if answers:
        with contextlib.suppress(ResultsError):  # nothing to choose from
            return advice.advise(rows, answers)
    return _of_speed(rows, compared)


def as_simulated(sentence: str, rows: Sequence[Row]) -> str:
    """Return a sentence on rows, which says so where they were simulated."""
    if all(row["engine"] != schema.SIMULATED for row in rows):
        return sentence
    return f"Simulated, not measured: {sentence[0].lower()}{sentence[1:]}"


def _of_speed(rows: Sequence[Row], compared: Sequence[Comparison]) -> Advice:
    alike = _workload([row for row in rows if row["outcome"] == "ok"])
    ranked = sorted(alike, key=_per_gpu, reverse=True)
    scored = any(row["accuracy"] is not None for row in ranked)
    names = cell.names(rows)
    sentence, significant = _sentence(ranked, compared, names)
    random = any(row["load_format"] == "dummy" for row in ranked)
    unscored = RANDOM_WEIGHTS if random else "Speed only: answers were not scored."
    why = "Speed only: compare the accuracies below." if scored else unscored
    return Advice(
        sentence=as_simulated(sentence, ranked),
        numbers=_numbers(ranked[0], compared, names) if ranked else None,
        points=tuple(
            Point(
                cell_id=row["cell_id"],
                name=names[row["cell_id"]],
                quality=Value(),
                texts_per_s=Value(
                    value=row["texts_per_s_median"],
                    ci_low=row["texts_per_s_ci_low"],
                    ci_high=row["texts_per_s_ci_high"],
                ),
                usd_per_1000_right=Value(),
                on_frontier=row is ranked[0],
                standing="recommended" if significant and row is ranked[0] else "not_compared",
                num_gpus=num_gpus(row),
            )
            for row in ranked
        ),
        quality_kind=None,
        baseline=None,
        not_shown=(why,) if ranked else (),
    )


def _per_gpu(row: Row) -> float:
    return float(row["texts_per_s_median"]) / num_gpus(row)


def _workload(measured: Sequence[Row]) -> list[Row]:
    """Return the cells with the most texts, each request submitted the least often."""
    usual = [row for row in measured if row["cache_state"] != "primed"] or measured
    if not usual:
        return []
    size = max((row["n"], -row["duplication"]) for row in usual)
    return [row for row in usual if (row["n"], -row["duplication"]) == size]


def _sentence(
    ranked: Sequence[Row], compared: Sequence[Comparison], names: dict[str, str]
) -> tuple[str, bool]:
    """Return the recommendation, and whether its lead is significant."""
    if not ranked:
        return "No cell has been measured yet.", False
    best = ranked[0]
    how, where = _prompts(best), f"for {best['n']:,} texts"
    if len(ranked) == 1:
        return f"Only one setting was measured {where}: nothing to choose from.", False
    lead = _lead(best, compared)
    if lead is None:
        return f"Fastest {where}: {how}. No comparison shows by how much.", False
    ratio, said, other, speed = lead
    mine, theirs = _apart(names[best["cell_id"]], names[other])
    settings = [word for word in mine if "=" in word]
    amount = f"{fmt.number(ratio.value)}x {fmt.interval(ratio.ci_low, ratio.ci_high)}"
    significant = said in _SIGNIFICANT
    form = (
        "Use {how} {where}: {amount} the {speed} of {beside}."
        if significant
        else "No clear winner {where}: {how} reached {amount} the {speed} of {beside}."
    )
    long = f"{how} with {' '.join(settings)}" if settings else how
    short = f"{how} with {len(settings)} settings changed" if settings else how
    for how, beside in ((long, _baseline(theirs)), (short, "the baseline")):
        sentence = form.format(how=how, where=where, amount=amount, speed=speed, beside=beside)
        if len(sentence.split()) <= _MOST_WORDS:
            break
    return sentence, significant


def _prompts(row: Row) -> str:
    return STRATEGIES[row["strategy"]].said.format(size=cell.texts_per_prompt(row))


def _apart(name: str, other: str) -> tuple[list[str], list[str]]:
    """Return the words in which two names differ."""
    mine, theirs = name.split(), other.split()
    return [word for word in mine if word not in theirs], [
        word for word in theirs if word not in mine
    ]


def _baseline(words: Sequence[str]) -> str:
    """Return what a speed is compared with, by the words that its name has of its own."""
    return "all in one prompt" if words == ["packed"] else " ".join(words) or "the defaults"


def _lead(best: Row, compared: Sequence[Comparison]) -> tuple[Ratio, str, str, str] | None:
    """Return the ratio of the best to its baseline, or to the nearest cell that has it as one.

    With the verdict, the other cell, and of what the ratio is.
    """
    own = [one for one in compared if one.cell == best["cell_id"]]
    if own:
        nearest = max(own, key=lambda comparison: comparison.axis == "strategy")
        return nearest.ratio, nearest.speed, nearest.baseline, _speed_of(nearest)
    others = [one for one in compared if one.baseline == best["cell_id"]]
    if not others:
        return None
    nearest = max(others, key=lambda comparison: comparison.ratio.value or 0.0)
    return nearest.ratio.inverse, nearest.speed, nearest.cell, _speed_of(nearest)


def _speed_of(compared: Comparison) -> str:
    return "speed per GPU" if compared.per_gpu else "speed"


def _numbers(
    best: Row, compared: Sequence[Comparison], names: dict[str, str]
) -> tuple[Number, Number, Number]:
    """Return the gain, then the speed, then cost or hours."""
    low, high = best["texts_per_s_ci_low"], best["texts_per_s_ci_high"]
    interval = "no interval" if low is None else f"95 % interval {low:.2f} to {high:.2f}"
    speed = Number(
        value=fmt.number(best["texts_per_s_median"]),
        label="texts per second" + _engine_gpus(best),
        detail=interval,
    )
    return _gain(best, compared, names), speed, _cost(best) or _hours(best)


def _cost(best: Row) -> Number | None:
    usd = best["usd_per_1000_texts"]
    if usd is None:
        return None
    detail = f"at ${fmt.small(best['gpu_hour_usd'])} per {summary.processor(best)} hour"
    return Number(value=f"${fmt.small(usd)}", label="per 1,000 texts", detail=detail)


def _engine_gpus(row: Row) -> str:
    return f" on {num_gpus(row)} GPUs" if num_gpus(row) > 1 else ""


def _hours(best: Row) -> Number:
    hours = _MANY_TEXTS / best["texts_per_s_median"] / 3600
    return Number(
        value=f"{fmt.small(hours)} h",
        label="per million texts",
        detail="on one engine" + _engine_gpus(best) + ", engine start not included",
    )


def _gain(best: Row, compared: Sequence[Comparison], names: dict[str, str]) -> Number:
    lead = _lead(best, compared)
    if lead is None:
        return Number(value=fmt.DASH, label="times a baseline", detail="nothing to compare with")
    ratio, _, other, speed = lead
    detail = f"95 % interval {fmt.interval(ratio.ci_low, ratio.ci_high)}"
    beside = _baseline(_apart(names[best["cell_id"]], names[other])[1])
    value = f"{fmt.number(ratio.value)}x"
    return Number(value=value, label=f"the {speed} of {beside}", detail=detail)


def frontier(advice: Advice, rows: Sequence[Row]) -> Figure | None:
    """Return quality against speed, a mark for each setting; None where answers have no score."""
    if advice.quality_kind is None:
        return None
    several = any(point.num_gpus > 1 for point in advice.points)
    speed = "texts/s per GPU" if several else "texts/s"
    points = _marks(advice.points, rows)
    series = list(dict.fromkeys(cell.strategy(row) for row in rows if row["outcome"] == "ok"))
    shares = {row["majority_class_share"] for row in rows} - {None}
    baseline = max(shares) if advice.quality_kind == "accuracy" and shares else None
    title = f"{advice.quality_kind.capitalize()} against speed"
    note = "Up and to the right is better; bars are 95 % intervals."
    if baseline is not None:
        note += f" Dashed: always giving the most frequent label, {fmt.percent(baseline)}."
    return Figure(
        title=title,
        described=f"{title} of {len(points)} settings, each with intervals.",
        spec=charts.frontier(
            points,
            x=Axis(title=speed, log=True),
            y=Axis(title=advice.quality_kind, ends=(0.0, 1.0)),
            series=series,
            baseline=baseline,
        ),
        data=make_table(
            f"Data of: {title}",
            ("setting", advice.quality_kind, "95 % interval", speed, "95 % interval"),
            [
                (point.name, *_written(point.quality), *_written(point.texts_per_s_per_gpu))
                for point in advice.points
            ],
        ),
        notes=(note,),
    )


def _marks(points: Sequence[Point], rows: Sequence[Row]) -> list[charts.Point]:
    """Return the settings whose quality and speed are known, as marks of their strategy."""
    strategies = {row["cell_id"]: cell.strategy(row) for row in rows}
    return [
        charts.Point(
            cell=point.name,
            series=strategies[point.cell_id],
            value=point.quality.value,
            low=point.quality.ci_low,
            high=point.quality.ci_high,
            x=point.texts_per_s_per_gpu.value,
            x_low=point.texts_per_s_per_gpu.ci_low,
            x_high=point.texts_per_s_per_gpu.ci_high,
        )
        for point in points
        if point.quality.value is not None and point.texts_per_s.value is not None
    ]


def _written(figure: Value) -> tuple[str, str]:
    return fmt.exact(figure.value), fmt.interval(figure.ci_low, figure.ci_high)

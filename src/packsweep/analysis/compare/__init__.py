"""Two results folders side by side: how much faster B is than A, and which changes are real.

Answers are compared over the texts, which are the same on both sides, under the same correction.

Each pair of cells gets the ratio B / A with its 95 % interval. A change is called, in words, only
where the interval excludes 1 *and* it stands out among all cells compared: with a dozen intervals
of 95 % one false call in two comparisons is likely, so the words follow Holm's procedure, under
which equal results are called different, anywhere, in at most 5 of 100 comparisons.

Without an interval nothing is called.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from packsweep.analysis import blocks, quality
from packsweep.analysis.compare import differences, pairing
from packsweep.analysis.compare.differences import Difference
from packsweep.analysis.compare.pairing import CellPasses, Pair, Pairing
from packsweep.analysis.quality import Answers
from packsweep.errors import ResultsError, nearest
from packsweep.results import schema, stats
from packsweep.results.schema import Row
from packsweep.results.shares import Figure, PairedDifference

CALLED = frozenset({"up", "down"})

_OF_PASS = (*schema.PASS, *schema.ENERGY, *schema.UTILIZATION, *schema.CONDITIONS)
# Answers at temperature 0 are the same in every repeat, so the spread of repeats says nothing of
# them: what counts right answers has no interval here.
_ANSWERS = frozenset(column.name for column in _OF_PASS if "labels_right" in column.formula)
_PER_ATTEMPT = frozenset({"tokenize_s", *(column.name for column in schema.PHASES)})
_RATES = ("s", "J", "requests/s", "tokens/s", "texts/s")
METRICS = {
    column.name: column
    for column in (*_OF_PASS, *schema.PHASES)
    if (column.unit in _RATES or column.name in {"mfu", "mbu"}) and column.name not in _ANSWERS
}
DEFAULT_METRIC = "texts_per_s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One cell in both folders.

    Attributes:
        median_a: of the metric over all its repeats; None where it is not known.
        ratio: B / A.
        verdict: ``up`` or ``down`` where the change is called; ``chance`` where the interval
            excludes 1, which is expected by chance among so many cells.
        why: what keeps it from having an interval.
        same_gpu: both sides were measured on at least one GPU in common, or on no GPU.
        answers: share of correct labels of B less that of A; None where they were not scored or
            texts have no labels.
        quality: what may be called of ``answers``.
        same_labels: share of texts that both give the same label, right or not.
    """

    pair: Pair
    median_a: float | None
    median_b: float | None
    ratio: stats.Ratio
    verdict: stats.Verdict
    why: str | None
    same_gpu: bool
    answers: PairedDifference | None = None
    quality: stats.Verdict = "no_interval"
    same_labels: Figure | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """What ``compare`` found.

    Attributes:
        changes: of the cells that ended ok in both folders.
        lost: pairs that ended ok in A alone; ``gained``, in B alone.
        differences: around the cells in ``changes``.
        per_gpu: rates are those of a GPU, as engines of A and of B have different numbers of them.
    """

    metric: schema.Column
    changes: tuple[Change, ...]
    lost: tuple[Pair, ...]
    gained: tuple[Pair, ...]
    only_a: tuple[CellPasses, ...]
    only_b: tuple[CellPasses, ...]
    differences: tuple[Difference, ...]
    per_gpu: bool = False


def compare(
    a: Sequence[Row],
    b: Sequence[Row],
    metric: str = DEFAULT_METRIC,
    answers: tuple[Mapping[str, Answers], Mapping[str, Answers]] = ({}, {}),
) -> Compared:
    """Compare the passes of two folders, rows of ``schema.PASSES``.

    Args:
        a: of one folder.
        b: of the other.
        metric: a time, a rate or an energy.
        answers: of both folders, by group_id; without them speeds alone are compared.

    Raises:
        ResultsError: the metric cannot be compared, or the folders cannot.
    """
    column = _metric(metric)
    paired = pairing.pair(a, b)
    both = [each for each in paired.pairs if each.a.outcome == each.b.outcome == "ok"]
    if not both:
        raise ResultsError(f"no cell ended ok in both A and B; {len(paired.pairs)} are in both")
    per_gpu = column.unit.endswith("/s") and any(
        blocks.differ(each.a.ok, each.b.ok) for each in both
    )
    if per_gpu:
        both = [_per_gpu(each, column.name) for each in both]
    changes = [_change(each, column.name) for each in both]
    of_a, of_b = answers
    scored = [
        _with_answers(each, of_a.get(each.pair.a.group_id), of_b.get(each.pair.b.group_id))
        for each in changes
    ]
    called = stats.verdicts_of([c.ratio for c in scored], [c.answers for c in scored])
    said = [
        replace(each, verdict=speed, quality=quality_)
        for each, (speed, quality_) in zip(scored, called, strict=True)
    ]
    return replace(_compared(column, paired, both, said), per_gpu=per_gpu)


def _per_gpu(pair: Pair, metric: str) -> Pair:
    """Return a pair with each side's rate over the GPUs of its engine."""
    a, b = (replace(side, ok=blocks.per_gpu(side.ok, metric)) for side in (pair.a, pair.b))
    return replace(pair, a=a, b=b)


def _compared(
    column: schema.Column, paired: Pairing, both: Sequence[Pair], changes: Sequence[Change]
) -> Compared:
    return Compared(
        metric=column,
        changes=tuple(changes),
        lost=tuple(p for p in paired.pairs if p.a.outcome == "ok" and p.b.outcome != "ok"),
        gained=tuple(p for p in paired.pairs if p.b.outcome == "ok" and p.a.outcome != "ok"),
        only_a=paired.only_a,
        only_b=paired.only_b,
        differences=tuple(differences.between(both)),
    )


def _metric(name: str) -> schema.Column:
    if name in METRICS:
        return METRICS[name]
    if name in _ANSWERS:
        raise ResultsError(
            f"--metric {name}: counts correct answers, for which repeats are not independent; "
            "compare texts_per_s, and the accuracy beside it"
        )
    near = nearest(name, METRICS, cutoff=0.5)
    hint = f"did you mean {near}?" if near else f"there are {', '.join(METRICS)}"
    raise ResultsError(f"--metric {name}: not a time, a rate or an energy; {hint}")


def _with_answers(change: Change, a: Answers | None, b: Answers | None) -> Change:
    if a is None or b is None:
        return change
    found, agreement = quality.difference(b, a), quality.agreement(b, a)
    return replace(
        change,
        answers=found if found.num_texts else None,
        same_labels=agreement.share if agreement else None,
    )


def _change(pair: Pair, metric: str) -> Change:
    in_common = blocks.shared(pair.b.ok, pair.a.ok)
    ratio = _ratio(blocks.compared(pair.b.ok, pair.a.ok, in_common), metric)
    medians = [stats.nested(_processes(side.ok, metric))[0].median for side in (pair.a, pair.b)]
    return Change(
        pair=pair,
        median_a=medians[0],
        median_b=medians[1],
        ratio=ratio,
        verdict="no_interval",
        why=_why(pair, metric) if ratio.ci_low is None else None,
        same_gpu=bool(in_common),
    )


def _why(pair: Pair, metric: str) -> str:
    found = [_processes(side.ok, metric) for side in (pair.a, pair.b)]
    if not all(found):
        return "not known"
    if _has_zero(found):
        return "values of 0"
    return "one process" if metric in _PER_ATTEMPT else "one repeat"


def _ratio(compared: Sequence[blocks.Block], metric: str) -> stats.Ratio:
    """Return B / A, inside each block of GPUs that measured both where there is one."""
    processes = [(_processes(b, metric), _processes(a, metric)) for b, a in compared]
    if any(_has_zero(block) for block in processes):
        return stats.ratio([], [])
    return stats.blocked_ratio(processes)


def _has_zero(sides: Sequence[stats.Processes]) -> bool:
    return any(value <= 0 for side in sides for repeats in side for value in repeats)


def _processes(ok: Sequence[Row], metric: str) -> list[list[float]]:
    """Return the repeats of each process; what is measured once an attempt counts once."""
    found: dict[str, list[float]] = {}
    for row in ok:
        if row[metric] is not None:
            found.setdefault(row["attempt_id"], []).append(row[metric])
    return [values[:1] if metric in _PER_ATTEMPT else values for values in found.values()]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """Whether B keeps up with A, for a script that must decide.

    Attributes:
        limit: share of A that B must reach; of A / B where less is better.
        below: cells that are shown to be below it.
        undecided: cells whose interval reaches below it, or that have none.
        lost: pairs that ended ok in A and not in B.
    """

    limit: float
    below: tuple[Change, ...]
    undecided: tuple[Change, ...]
    lost: tuple[Pair, ...]

    @property
    def failed(self) -> bool:
        """Something is below the limit, or is not measured any more."""
        return bool(self.below or self.lost)


def gate(compared: Compared, limit: float) -> Gate:
    """Check every cell against a limit.

    A cell is below where its whole 95 % interval is and, up to a limit of 1, where the change is
    called: so equal results fail in at most 2.5 of 100 comparisons, however many cells there are.

    Raises:
        ResultsError: no cell has an interval, so that the gate could never close.
    """
    changes, metric = compared.changes, compared.metric
    if all(change.ratio.ci_low is None for change in changes) and not compared.lost:
        raise ResultsError(
            "--fail-below: no cell has an interval, so nothing can be decided; "
            "set measure.repeats to 3 or more, in A and in B"
        )
    below = [change for change in changes if _is_below(change, metric, limit)]
    return Gate(
        limit=limit,
        below=tuple(below),
        undecided=tuple(
            change
            for change in changes
            if change not in below and (kept(change, metric).ci_low or 0) < limit
        ),
        lost=compared.lost,
    )


def _is_below(change: Change, metric: schema.Column, limit: float) -> bool:
    high = kept(change, metric).ci_high
    return high is not None and high < limit and (limit > 1 or change.verdict in CALLED)


def kept(change: Change, metric: schema.Column) -> stats.Ratio:
    """Return what is left of A's speed in B: the ratio, or its inverse where less is better."""
    return change.ratio.inverse if less_is_better(metric) else change.ratio


def less_is_better(metric: schema.Column) -> bool:
    """Return whether less of ``metric`` is better; seconds and joules are, unless it says so."""
    if metric.larger_is_better is None:
        return metric.unit in {"s", "J"}
    return not metric.larger_is_better

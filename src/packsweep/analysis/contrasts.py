"""Cells of one results folder beside each other: a strategy, a cache state or a setting apart.

Speeds are compared over engine processes, answers over the texts that both cells labelled. All of
a folder's comparisons, of speeds and of answers, are called under one correction: where nothing
differs, anything is called in at most 5 of 100 folders.

``compare`` compares two folders instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from packsweep.analysis import axes, beside, blocks, quality
from packsweep.analysis.axes import (
    FOLLOWING,
    MAY_DIFFER,
    asked_and_set,
    distance_from_defaults,
    way_of_asking,
)
from packsweep.analysis.frames import plain_rows
from packsweep.analysis.quality import Answers
from packsweep.results import schema, stats, summary
from packsweep.results.schema import Row
from packsweep.results.shares import PairedDifference

if TYPE_CHECKING:
    import pandas as pd

_CELL_NAMES = tuple(column.name for column in schema.CELL)
_ALWAYS_FREE = frozenset({"engine_settings", *axes.names("replicate", "prompts")})
# What a cell is compared with: column -> the value of the other cell, all else being equal.
_BASELINES = {"strategy": "separate", "cache_state": "cold"}
# What may differ with it: an answer to one text has one form, and is held beside every form.
_WITH = {"strategy": ("format",)}
SETTINGS, GPUS = "settings", "gpus"
_METRIC = "texts_per_s"
_OF_A_PASS = ("group_id", "device_uuid", "num_gpus", "attempt_id", _METRIC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A cell beside the one that differs from it in one axis alone, or in its settings.

    Settings are compared among engines of as many GPUs, and engines of several GPUs with those of
    the fewest, all else being equal.

    Attributes:
        cell: group_id of the cell.
        baseline: group_id of the other.
        axis: what differs, ``strategy``, ``cache_state``, ``gpus`` or ``settings``.
        ratio: texts per second of the cell over that of the baseline.
        per_gpu: each over the GPUs of its engine, of which they have different numbers.
        beside: of the axis ``gpus``: how many of the baseline's processes were timed while another
            engine ran on the host, and how many there are.
        speed: what may be called of ``ratio`` among all comparisons.
        answers: share of correct labels, cell minus baseline; None where texts have
            no labels, and where a larger n or fewer copies compare the same two ways of asking.
        quality: what may be called of ``answers`` among all comparisons.
        same_gpu: some GPU measured both sides.
    """

    cell: str
    baseline: str
    axis: str
    ratio: stats.Ratio
    same_gpu: bool = True
    per_gpu: bool = False
    beside: tuple[int, int] = (0, 0)
    speed: stats.Verdict = "no_interval"
    answers: PairedDifference | None = None
    quality: stats.Verdict = "no_interval"


def of(passes: pd.DataFrame, answers: Mapping[str, Answers] | None = None) -> list[Comparison]:
    """Compare every cell with ``separate``, and with ``cold``, where that was measured as well.

    Of cells of one strategy that do the same work under other settings, each is compared with
    the one that has the most of them at their defaults, of several such with the one whose values
    come first.

    Both sides are blocked by GPU, or by the GPUs that engines tie together: what measured only one
    of them does not count. Where none measured both, all processes of a side are taken together,
    and the comparison says so.

    Args:
        passes: of all cells.
        answers: by group_id; without them speeds alone are compared.
    """
    # What a server is given decides how fast it is seen to be: online cells are no contrasts.
    ok = passes[(passes["outcome"] == "ok") & ~passes["mode"].isin(["online"])]
    speeds = _speeds(ok)
    cells = plain_rows(ok.drop_duplicates("group_id")[["group_id", *_CELL_NAMES]])
    found = []
    for axis, baseline in _BASELINES.items():
        alike: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
        for cell in cells:
            alike.setdefault(_all_but(axis, cell), []).append(cell)
        for members in alike.values():
            bases = [cell for cell in members if cell[axis] == baseline]
            others = [cell for cell in members if cell[axis] != baseline]
            found += [
                _comparison(speeds, one["group_id"], base["group_id"], axis)
                for base in bases
                for one in others
            ]
    found += [*_of_gpus(speeds, cells, passes), *_of_settings(speeds, cells)]
    return _called(_with_answers(found, answers or {}, cells))


def _all_but(axis: str, cell: Row) -> tuple[Any, ...]:
    """Return what a cell shares with the one it is compared with in ``axis``.

    How long an answer may be follows from its form, unless it is free.
    """
    free = {axis, *FOLLOWING.get(axis, ()), *_WITH.get(axis, ()), *_ALWAYS_FREE}
    if cell["answer"] != "free":
        free |= {*FOLLOWING["answer"]}
    own = axes.own_settings(cell).items()
    computed = repr(sorted(pair for pair in own if axis != GPUS or pair[0] not in axes.PARALLEL))
    return (computed, *(cell[name] for name in _CELL_NAMES if name not in free))


def _with_answers(
    compared: Sequence[Comparison], answers: Mapping[str, Answers], cells: Sequence[Row]
) -> list[Comparison]:
    """Compare answers once for every two ways of asking: where most texts were labelled."""
    by_id = {cell["group_id"]: cell for cell in cells}
    best: dict[Any, Comparison] = {}
    for each in compared:
        if not {each.cell, each.baseline} <= answers.keys():
            continue
        sides = [by_id[each.cell], by_id[each.baseline]]
        asked = tuple(way_of_asking(side) for side in sides)
        if asked[0] == asked[1]:
            continue
        other = best.setdefault(asked, each)
        if _evidence(by_id[each.cell]) > _evidence(by_id[other.cell]):
            best[asked] = each
    kept = {id(each) for each in best.values()}
    return [
        replace(each, answers=_difference(answers[each.cell], answers[each.baseline]))
        if id(each) in kept
        else each
        for each in compared
    ]


def _evidence(cell: Row) -> tuple[int, int]:
    return cell["n"], -cell["duplication"]


def _difference(cell: Answers, baseline: Answers) -> PairedDifference | None:
    found = quality.difference(cell, baseline)
    return found if found.num_texts else None


def _called(compared: Sequence[Comparison]) -> list[Comparison]:
    """Return the comparisons with their verdicts, as shown together."""
    found = stats.verdicts_of([c.ratio for c in compared], [c.answers for c in compared])
    return [
        replace(each, speed=speed, quality=quality_)
        for each, (speed, quality_) in zip(compared, found, strict=True)
    ]


def _of_gpus(
    speeds: _Speeds, cells: Sequence[Mapping[str, Any]], passes: pd.DataFrame
) -> Iterator[Comparison]:
    """Yield every cell beside the one of the fewest GPUs that does the same in the same way."""
    if len({axes.split(cell) for cell in cells}) <= 1:
        return
    alike: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for cell in cells:
        alike.setdefault(_all_but(GPUS, cell), []).append(cell)
    pairs = [
        (cell, base)
        for members in alike.values()
        for base in (min(members, key=_by_gpus),)
        for cell in members
        if cell is not base and axes.split(cell) != axes.split(base)
    ]
    together = beside.of(passes) if pairs else frozenset()
    for cell, base in pairs:
        processes = {row["attempt_id"] for row in speeds[base["group_id"]]}
        yield replace(
            _comparison(speeds, cell["group_id"], base["group_id"], GPUS),
            beside=(len(processes & together), len(processes)),
        )


def _by_gpus(cell: Row) -> tuple[int, int]:
    split = axes.split(cell)
    return split.num_gpus, split.pipeline_parallel_size


def _of_settings(speeds: _Speeds, cells: Sequence[Mapping[str, Any]]) -> Iterator[Comparison]:
    """Yield every cell beside its baseline.

    Of the cells that differ in settings alone, and have as many GPUs, that is the one closest to
    the defaults.
    """
    shared = [name for name in _CELL_NAMES if name not in MAY_DIFFER]
    alike: dict[tuple[Any, ...], list[tuple[str, dict[str, str]]]] = {}
    for cell in cells:
        key = (axes.split(cell), *(cell[name] for name in shared))
        alike.setdefault(key, []).append((cell["group_id"], asked_and_set(cell)))
    for members in alike.values():
        base, plain = min(members, key=lambda member: distance_from_defaults(member[1]))
        for one, own in members:
            if any(plain.get(name, "None") != value for name, value in own.items()):
                yield _comparison(speeds, one, base, SETTINGS)


_Speeds = dict[str, list[dict[str, Any]]]


def _speeds(ok: pd.DataFrame) -> _Speeds:
    """Return the passes of every cell."""
    found: _Speeds = {}
    for row in plain_rows(ok[list(_OF_A_PASS)]):
        found.setdefault(row["group_id"], []).append(row)
    return found


def _comparison(speeds: _Speeds, cell: str, baseline: str, axis: str) -> Comparison:
    sides: blocks.Block = (speeds[cell], speeds[baseline])
    per_gpu = blocks.differ(*sides)
    if per_gpu:
        sides = (blocks.per_gpu(sides[0], _METRIC), blocks.per_gpu(sides[1], _METRIC))
    in_common = blocks.shared(*sides)
    found = [
        (summary.processes(above, _METRIC), summary.processes(below, _METRIC))
        for above, below in blocks.compared(*sides, in_common)
    ]
    return Comparison(
        cell=cell,
        baseline=baseline,
        axis=axis,
        ratio=stats.blocked_ratio(found),
        same_gpu=bool(in_common),
        per_gpu=per_gpu,
    )

"""Which setting to run: the cheapest whose quality is shown to be within a loss of the best.

The best is not known, and the best measured is partly the luckiest. So a setting counts as shown
where a test against *every* other one rejects that it loses more than allowed; one of them is the
truly best. A setting that is too bad can pass only by passing the test against that one, so each
setting has one chance in 20, divided over settings by Holm's procedure: what is recommended loses
more than allowed in at most 5 of 100 folders. At most all but one can be too bad.

Where texts have no labels the baseline is what the others must agree with: a setting that gives
another label to a share of texts cannot lose more accuracy than that share.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from packsweep.analysis import axes, blocks, quality
from packsweep.analysis.quality import Answers
from packsweep.results import schema, shares, stats
from packsweep.results.schema import Row
from packsweep.results.shares import Figure, PairedDifference, Units
from packsweep.sweep.strategies import ONE_TEXT, STRATEGIES

if TYPE_CHECKING:
    from packsweep.results.shares import Flags

CHANCE = 0.05
_POWER = 0.8
REQUESTS_GONE = "the tables of requests are gone"
_UNKNOWN = Figure()

# What a setting's quality is: the share of correct labels; where the texts have no labels, the
# share that agrees with the baseline.
QualityKind = Literal["accuracy", "agreement"]

# ``recommended``: shown to lose no more than allowed, and the cheapest that is.
# ``provisional``: nothing is shown yet, and this one is the best measured.
# ``shown``: shown to lose no more than allowed, but more expensive.
# ``not_shown``: may lose more than allowed. ``worse``: shown to lose more than allowed; where few
# prompts hold all texts, on these texts.
# ``not_compared``: too few prompts, fewer texts, or answers that were not scored.
Standing = Literal["recommended", "provisional", "shown", "not_shown", "worse", "not_compared"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What the user allows and plans.

    Attributes:
        max_loss: of accuracy, as a share: 0.01 is one point.
        min_accuracy: that must be shown; None: any.
        num_texts: to label; None: not said.
        num_gpus: that label them, in as many engines as they hold; None: in one.
        gpu_hour_usd: None: what the sweep file says.
    """

    max_loss: float = 0.01
    min_accuracy: float | None = None
    num_texts: int | None = None
    num_gpus: int | None = None
    gpu_hour_usd: float | None = None

    def have_room(self, setting: Setting) -> bool:
        """Return whether the GPUs hold an engine of ``setting``."""
        return self.num_gpus is None or setting.num_gpus <= self.num_gpus


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One way to label texts, with what was found of it.

    Attributes:
        row: the cell of the summary with the most texts that measured it.
        name: what tells it from the others.
        answers: None where they were not scored.
        quality: accuracy or agreement.
        standing: how it stands under the terms.
        why: in one line, where it is not recommended.
        more_texts: texts that would show, with a power of 80 %, that it loses no more than
            allowed, beyond those measured; None where more would not.
    """

    row: Row
    name: str
    answers: Answers | None = None
    quality: Figure = _UNKNOWN
    standing: Standing = "not_compared"
    why: str = "answers were not scored"
    more_texts: int | None = None

    @property
    def texts_per_s(self) -> Figure:
        ends = ("median", "ci_low", "ci_high")
        value, low, high = (self.row[f"texts_per_s_{end}"] for end in ends)
        # A t interval of two repeats may reach below what a speed can be.
        return Figure(value=value, ci_low=None if low is None else max(0.0, low), ci_high=high)

    @property
    def guesses(self) -> bool:
        """It is not told from always giving the most frequent label."""
        return "guessing" in (self.row["warnings"] or ())

    @property
    def num_gpus(self) -> int:
        """Of an engine."""
        return blocks.num_gpus(self.row)

    @property
    def texts_per_s_per_gpu(self) -> Figure:
        """What makes it cheap: engines may have different numbers of GPUs."""
        return self.texts_per_s.over(self.num_gpus)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What is recommended, and how every setting stands.

    Attributes:
        settings: fastest first, by the texts/s of a GPU.
        quality_kind: None where answers are not scored.
        baseline: cell_id of what agreement is with.
        num_compared: settings among which it was chosen.
    """

    settings: tuple[Setting, ...]
    quality_kind: QualityKind | None
    baseline: str | None
    num_compared: int

    @property
    def all_guess(self) -> bool:
        """No setting is told from always giving the most frequent label."""
        scored = [each for each in self.settings if each.answers is not None]
        return self.quality_kind == "accuracy" and all(each.guesses for each in scored)

    @property
    def best(self) -> Setting | None:
        """The recommended setting, or the provisional one; None where speed alone is known."""
        wanted = {"recommended", "provisional"}
        return next((each for each in self.settings if each.standing in wanted), None)


def choose(rows: Sequence[Row], answers: Mapping[str, Answers], terms: Terms) -> Choice:
    """Choose among the cells of a summary.

    Args:
        rows: of the summary.
        answers: by group_id, from ``frames.load_answers``.
        terms: what is allowed.

    Raises:
        ResultsError: nothing was measured that tells how distinct texts are labelled, or the terms
            ask for accuracy where texts have no labels.
    """
    from packsweep.errors import ResultsError

    settings = _settings(rows, answers)
    if not settings:
        if not any(row["outcome"] == "ok" for row in rows):
            raise ResultsError("no cell ended ok; packsweep show RESULTS says why")
        if all(row["mode"] == "online" for row in rows):
            raise ResultsError(
                "these cells were measured online, and offline cells are what is compared; "
                "packsweep show and report give what each load led to"
            )
        raise ResultsError(
            "no cell is ok with duplication 1 and a cold or disabled prefix cache, which is how "
            "distinct texts run: measure one"
        )
    settings = _with_room(settings, terms)
    scored = [each for each in settings if each.answers is not None]
    if not scored:
        return Choice(settings=settings, quality_kind=None, baseline=None, num_compared=0)
    if all(each.answers is not None and each.answers.labelled for each in scored):
        return _by_accuracy(settings, terms)
    if terms.min_accuracy is not None:
        raise ResultsError("--min-accuracy: the texts have no labels, so no accuracy is known")
    return _by_agreement(settings, terms)


def _settings(rows: Sequence[Row], answers: Mapping[str, Answers]) -> tuple[Setting, ...]:
    """Return every way to label distinct texts, by the cell with the most.

    By several where as many texts came from several sources.
    """
    largest: dict[object, dict[str, Row]] = {}
    for row in rows:
        fit = row["outcome"] == "ok" and row["duplication"] == 1 and row["cache_state"] != "primed"
        fit = fit and row["mode"] != "online"
        if not fit or row["texts_per_s_median"] is None:
            continue
        key = (axes.way_of_asking(row), row["cache_state"], row["engine_settings"])
        kept = largest.setdefault(key, {})
        widest = max((each["n"] for each in kept.values()), default=0)
        if row["n"] > widest:
            kept.clear()
        if row["n"] >= widest:
            kept.setdefault(row["texts_sha256"], row)
    found = [row for kept in largest.values() for row in kept.values()]
    scored = [
        None if row["engine"] == schema.SIMULATED else answers.get(row["group_id"]) for row in found
    ]
    settings = (
        Setting(row=row, name=name, answers=own, why=why_unscored(row))
        for row, name, own in zip(found, _names(found), scored, strict=True)
    )
    return tuple(sorted(settings, key=_slowness))


def why_unscored(row: Row) -> str:
    """Return why a cell's answers are not known to be right or wrong."""
    if row["engine"] == schema.SIMULATED:
        return "the engine was simulated"
    if row["coverage"] is not None:
        return REQUESTS_GONE
    return "answers were not scored"


def _slowness(setting: Setting) -> float:
    return -(setting.texts_per_s_per_gpu.value or 0.0)


def _with_room(settings: tuple[Setting, ...], terms: Terms) -> tuple[Setting, ...]:
    """Put last, not compared, the settings whose engine has more GPUs than there are.

    Raises:
        ResultsError: all have.
    """
    from packsweep.errors import ResultsError

    small = [each for each in settings if terms.have_room(each)]
    if not small:
        least = min(each.num_gpus for each in settings)
        raise ResultsError(
            f"--gpus {terms.num_gpus}: an engine of what was measured takes {least} or more"
        )
    large = [
        replace(
            each, answers=None, why=f"an engine takes {each.num_gpus} GPUs, more than there are"
        )
        for each in settings
        if not terms.have_room(each)
    ]
    return (*small, *large)


def _names(rows: Sequence[Row]) -> list[str]:
    varied = axes.varying(rows)
    return [
        ", ".join(
            [
                _strategy(row),
                *(f"{name} {value}" for name, value in axes.unusual(varied, index).items()),
            ]
        )
        for index, row in enumerate(rows)
    ]


def _strategy(row: Row) -> str:
    division, size = STRATEGIES[row["strategy"]], row["pack_size"]
    if division.follows_n:
        size = division.texts_per_prompt(row["n"], size)
    return f"{row['strategy']} {size}" if size else str(row["strategy"])


def _by_accuracy(settings: Sequence[Setting], terms: Terms) -> Choice:
    measured = [_with_accuracy(each) for each in settings]
    pool, left_out = _compared(measured)
    trials = [_Trial(each, _rivals(each, pool), terms) for each in pool]
    # The best loses nothing; but it may be below a least accuracy.
    most = max(1, len(pool) - (terms.min_accuracy is None))
    shown = stats.holm([trial.p_too_bad for trial in trials], CHANCE, most=most)
    judged = [
        trial.judged(CHANCE / most, shown=good) for trial, good in zip(trials, shown, strict=True)
    ]
    others = [_over_these_texts(each, pool, terms) for each in left_out]
    return _chosen([*judged, *others], "accuracy", None, len(pool))


def _with_accuracy(setting: Setting) -> Setting:
    """Return a setting with its accuracy; it can be compared where its prompts are enough."""
    own = setting.answers
    if own is None:
        return setting
    units = shares.units_of(own.prompts)
    return _comparable(replace(setting, quality=shares.share(own.right, units)), units)


def _comparable(setting: Setting, units: Units) -> Setting:
    if not units.independence_assumed:
        return replace(setting, standing="not_shown", why="")
    prompts = "one prompt" if units.num_prompts == 1 else f"{units.num_prompts} prompts"
    return replace(
        setting,
        why=f"its texts are in {prompts}, and fewer than {shares.MIN_PROMPTS} say nothing about "
        f"other texts: measure more texts, in chunks of the same size",
    )


def _compared(measured: Sequence[Setting]) -> tuple[list[Setting], list[Setting]]:
    """Return the settings that labelled all the texts of the one that labelled most, and others."""
    fit = [each for each in measured if each.standing == "not_shown"]
    widest = max((each.row["n"] for each in fit), default=0)
    base = next((each for each in fit if each.row["n"] == widest), None)
    pool, left_out = [], []
    for each in measured:
        if each.standing != "not_shown":
            left_out.append(each)
        elif base and _num_shared(each, base) == widest:
            pool.append(each)
        else:
            left_out.append(replace(each, standing="not_compared", why=_fewer(each, widest)))
    return pool, left_out


def _over_these_texts(setting: Setting, pool: Sequence[Setting], terms: Terms) -> Setting:
    """Return a setting of few prompts with what its own texts say of it.

    A text is paired with itself, so a loss on these texts can be shown, and none is shown for
    others: the setting is never recommended.
    """
    if setting.answers is None or not shares.units_of(setting.answers.prompts).independence_assumed:
        return setting
    rivals = [(name, each) for name, each in _rivals(setting, pool) if each.num_texts]
    if not rivals:
        return setting
    name, hardest = min(rivals, key=lambda rival: rival[1].value or 0.0)
    assert hardest.counts is not None
    ends = [100 * (end or 0.0) for end in (hardest.value, hardest.ci_low, hardest.ci_high)]
    told = "{:+.1f} points [{:+.1f}, {:+.1f}] beside".format(*ends)
    loses = hardest.counts.p_keeps(terms.max_loss) <= CHANCE / len(rivals)
    return replace(
        setting,
        standing="worse" if loses else "not_compared",
        why=f"{told} {name} on these {hardest.num_texts:,} texts; {setting.why}",
    )


def _num_shared(one: Setting, other: Setting) -> int:
    assert one.answers is not None
    assert other.answers is not None
    return quality.num_shared(one.answers, other.answers)


def _fewer(setting: Setting, widest: int) -> str:
    if setting.row["n"] == widest:
        return "measured over other texts"
    return f"measured over {setting.row['n']:,} texts, the others over {widest:,}"


def _rivals(setting: Setting, pool: Sequence[Setting]) -> list[tuple[str, PairedDifference]]:
    """Return the difference of accuracy to every other setting, with its name."""
    assert setting.answers is not None
    return [
        (other.name, quality.difference(setting.answers, other.answers))
        for other in pool
        if other is not setting and other.answers is not None
    ]


@dataclass(frozen=True)
class _Trial:
    """The tests that a setting has to pass."""

    setting: Setting
    rivals: Sequence[tuple[str, PairedDifference]]
    terms: Terms

    @property
    def p_too_bad(self) -> float:
        """The largest p of all its tests: all must reject."""
        return max([self._p_inaccurate, *(self._p_loses(rival) for _, rival in self.rivals)])

    @property
    def _p_inaccurate(self) -> float:
        own, least = self.setting.answers, self.terms.min_accuracy
        if own is None or least is None:
            return 0.0
        return shares.p_share_above(own.right, shares.units_of(own.prompts), least)

    def _p_loses(self, rival: PairedDifference) -> float:
        return rival.p_loses(self.terms.max_loss)

    def judged(self, chance: float, *, shown: bool) -> Setting:
        """Return the setting with its standing; ``chance`` is that of its own error."""
        if shown:
            return replace(self.setting, standing="shown", why="")
        if not self.rivals or self._p_inaccurate > chance:
            least = f"{self.terms.min_accuracy or 0:.1%}"
            return replace(self.setting, why=f"an accuracy of {least} or more is not shown")
        name, hardest = max(self.rivals, key=lambda rival: self._p_loses(rival[1]))
        counts = hardest.counts
        assert counts is not None  # they labelled the same texts
        if counts.p_keeps(self.terms.max_loss) <= chance / len(self.rivals):
            why = f"loses {_points(-(hardest.value or 0.0))} to {name}"
            return replace(self.setting, standing="worse", why=why)
        most = f"may lose up to {_points(-(hardest.ci_low or 0.0))} to {name}"
        needed = counts.num_texts_for(self.terms.max_loss, chance, _POWER)
        if needed is None:
            why = f"{most}; the measured loss is {_points(-(hardest.value or 0.0))}"
            return replace(self.setting, why=why)
        # Texts that share prompts are worth fewer.
        worth = counts.num_texts / hardest.num_texts
        more = max(1, math.ceil(needed / worth) - hardest.num_texts)
        return replace(
            self.setting, more_texts=more, why=f"{most}; {more:,} more labelled texts may decide"
        )


def _points(share: float) -> str:
    return f"{100 * share:.1f} points"


def _by_agreement(settings: Sequence[Setting], terms: Terms) -> Choice:
    """Choose among the settings that label as the one closest to the defaults does."""
    alone = [each for each in settings if each.answers and each.row["strategy"] in ONE_TEXT]
    if not alone:
        return Choice(settings=tuple(settings), quality_kind=None, baseline=None, num_compared=0)
    widest = max(each.row["n"] for each in alone)
    base = min(
        (each for each in alone if each.row["n"] == widest),
        key=lambda each: axes.distance_from_defaults(axes.asked_and_set(each.row)),
    )
    measured = [_with_agreement(each, base) for each in settings]
    pool = [each for each in measured if each.standing == "not_shown"]
    others = [each for each in measured if each.standing != "not_shown"]
    p_values = [_p_disagrees(each, base, terms) for each in pool]
    most = max(1, len(pool))
    shown = stats.holm(p_values, CHANCE)
    judged = [
        _judged_agreement(each, base, terms, CHANCE / most, shown=good)
        for each, good in zip(pool, shown, strict=True)
    ]
    return _chosen([*judged, *others], "agreement", base.row["cell_id"], len(pool) + 1)


def _with_agreement(setting: Setting, base: Setting) -> Setting:
    if setting is base:
        whole = Figure(value=1.0, ci_low=1.0, ci_high=1.0)
        return replace(setting, quality=whole, standing="shown", why="the baseline")
    if setting.answers is None or base.answers is None:
        return setting
    found = quality.agreement(setting.answers, base.answers)
    if found is None or found.num_texts < len(base.answers.found):
        return replace(setting, why=_fewer(setting, base.row["n"]))
    return _comparable(
        replace(setting, quality=found.share), shares.units_of(setting.answers.prompts)
    )


def _same(setting: Setting, base: Setting) -> tuple[Flags, Units]:
    import numpy as np

    own, other = setting.answers, base.answers
    assert own is not None
    assert other is not None
    same = [one == two for one, two in zip(own.found, other.found, strict=True)]
    return np.array(same, dtype=bool), shares.units_of(own.prompts, other.prompts)


def _p_disagrees(setting: Setting, base: Setting, terms: Terms) -> float:
    return shares.p_share_above(*_same(setting, base), 1 - terms.max_loss)


def _judged_agreement(
    setting: Setting, base: Setting, terms: Terms, chance: float, *, shown: bool
) -> Setting:
    if shown:
        return replace(setting, standing="shown", why="")
    same, units = _same(setting, base)
    others = 1 - (setting.quality.ci_low or 0.0)
    most = f"may label up to {others:.1%} of texts differently from {base.name}"
    # As if the baseline were right everywhere: what differs is lost.
    as_if = shares.paired_difference(same, same | True, units)
    assert as_if.counts is not None
    needed = as_if.counts.num_texts_for(terms.max_loss, chance, _POWER)
    if needed is None:
        return replace(setting, why=most)
    more = max(1, math.ceil(needed * as_if.num_texts / as_if.counts.num_texts) - len(same))
    return replace(setting, more_texts=more, why=f"{most}; {more:,} more texts may decide")


def _chosen(
    settings: Sequence[Setting], kind: QualityKind, baseline: str | None, num_compared: int
) -> Choice:
    """Name the fastest of those shown, or for the time being the best of those compared."""
    ranked = Choice(
        settings=tuple(sorted(settings, key=_slowness)),
        quality_kind=kind,
        baseline=baseline,
        num_compared=num_compared,
    )
    shown = [each for each in ranked.settings if each.standing == "shown"]
    open_ = [each for each in ranked.settings if each.standing == "not_shown"]
    standing: Standing = "recommended" if shown and not ranked.all_guess else "provisional"
    best = (
        shown[0] if shown else max(open_, key=lambda each: each.quality.value or 0.0, default=None)
    )
    named = (replace(each, standing=standing) if each is best else each for each in ranked.settings)
    return replace(ranked, settings=tuple(named))

"""Statistics of right and wrong answers: one share, and two over the same texts.

Texts that sit in one prompt are not independent: one slip of the model shifts all answers that
follow. The *units* are therefore prompts where prompts hold several texts and there are at least
``MIN_PROMPTS`` of them, else texts. Where several texts share fewer prompts than that, texts are
taken as independent, and ``Units.independence_assumed`` says so.

Pure functions over NumPy arrays. Undefined is None.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from packsweep.results.stats import CONFIDENCE

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]
    Flags = NDArray[np.bool_]

MIN_PROMPTS = 10
_BISECTIONS = 60


@dataclass(frozen=True, kw_only=True)
class Units:
    """Which texts belong together.

    Attributes:
        of_text: the prompt of each text, numbered from 0 without gaps.
    """

    of_text: Integers

    @property
    def num_texts(self) -> int:
        return len(self.of_text)

    @cached_property
    def num_prompts(self) -> int:
        return int(self.of_text.max()) + 1 if len(self.of_text) else 0

    @property
    def clustered(self) -> bool:
        """Prompts are the units, and hold several texts."""
        return MIN_PROMPTS <= self.num_prompts < self.num_texts

    @property
    def independence_assumed(self) -> bool:
        """Several texts share a prompt, and there are too few prompts to allow for it."""
        return self.num_prompts < min(MIN_PROMPTS, self.num_texts)

    @property
    def unit(self) -> Literal["text", "prompt"]:
        return "prompt" if self.clustered else "text"

    @property
    def count(self) -> int:
        """How many units there are."""
        return self.num_prompts if self.clustered else self.num_texts

    @property
    def freedom(self) -> float:
        """Degrees of freedom of t quantiles; infinite where texts are the units."""
        return self.count - 1 if self.clustered else math.inf

    def sums(self, values: Floats | Integers) -> Floats:
        """Return the sum of ``values`` of each unit."""
        import numpy as np

        if not self.clustered:
            return values.astype(np.float64)
        return np.bincount(self.of_text, weights=values).astype(np.float64)

    def design_effect(self, errors: Floats) -> float:
        """Return how many times the variance of the mean is that of independent texts; at least 1.

        Prompts that seldom go wrong as a whole may be missed by a few, so one more prompt is
        assumed that does: without any error the effect is then the size of a prompt.

        Source: Rao and Scott (1992), A Simple Method for the Analysis of Clustered Binary Data.
        The assumed prompt is packsweep's; tests/analysis/test_called.py says what it is good for.
        """
        import numpy as np

        if not self.clustered:
            return 1.0
        sizes = np.bincount(self.of_text)
        size = float((sizes**2).sum() / sizes.sum())
        between = float((self.sums(errors) ** 2).sum()) * self.count / (self.count - 1)
        return max(1.0, (between + size**2) / (float((errors**2).sum()) + size))


def units_of(*prompts: Integers) -> Units:
    """Return the units of texts that several cells answered, each in prompts of its own.

    Texts belong together where a chain of shared prompts connects them.
    """
    import numpy as np

    of_text = np.unique(prompts[0], return_inverse=True)[1].astype(np.int64)
    for other in prompts[1:]:
        of_text = _joined(of_text, np.unique(other, return_inverse=True)[1])
    return Units(of_text=of_text)


def _joined(one: Integers, other: Integers) -> Integers:
    """Return the finest grouping that neither ``one`` nor ``other`` divides."""
    import numpy as np
    from scipy import sparse

    num_one, num_other = int(one.max()) + 1, int(other.max()) + 1
    edges = sparse.coo_matrix(
        (np.ones(len(one), dtype=np.int8), (one, other + num_one)),
        shape=(num_one + num_other, num_one + num_other),
    )
    _, component = sparse.csgraph.connected_components(edges, directed=False)
    return np.unique(component[one], return_inverse=True)[1].astype(np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A number with its 95 % interval; None where it is undefined or shows no spread."""

    value: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None

    def over(self, number: float) -> Figure:
        """Return the figure, ends of its interval included, over a number that has no spread."""
        ends = (self.value, self.ci_low, self.ci_high)
        value, low, high = (None if end is None else end / number for end in ends)
        return Figure(value=value, ci_low=low, ci_high=high)


def share(hits: Flags, units: Units) -> Figure:
    """Return the share of ``hits`` with Wilson's interval over as many texts as they are worth.

    Source: Wilson (1927), over n / design effect texts, with a t quantile where prompts are units.
    """
    import numpy as np

    if not len(hits):
        return Figure()
    value = float(hits.mean())
    worth = len(hits) / units.design_effect(hits.astype(np.float64) - value)
    quantile = _quantile(units.freedom, (1 + CONFIDENCE) / 2)
    low, high = _wilson(value, worth, quantile)
    return Figure(value=value, ci_low=low, ci_high=high)


def p_share_above(hits: Flags, units: Units, least: float) -> float:
    """Return how often a share of ``least`` would come out as high: a one-sided score test."""
    import numpy as np

    if not len(hits):
        return 1.0
    value = float(hits.mean())
    worth = len(hits) / units.design_effect(hits.astype(np.float64) - value)
    if not 0 < least < 1:
        return 0.0 if least <= 0 else 1.0
    z = (value - least) / math.sqrt(least * (1 - least) / worth)
    return _upper_tail(z, units.freedom)


def _wilson(value: float, worth: float, quantile: float) -> tuple[float, float]:
    z2 = quantile**2
    centre = (value + z2 / (2 * worth)) / (1 + z2 / worth)
    half = math.sqrt(z2 * (value * (1 - value) / worth + z2 / (4 * worth**2))) / (1 + z2 / worth)
    low = 0.0 if value <= 0 else max(0.0, centre - half)
    high = 1.0 if value >= 1 else min(1.0, centre + half)
    return low, high


def _quantile(freedom: float, level: float) -> float:
    from scipy import special

    if math.isinf(freedom):
        return float(special.ndtri(level))
    return float(special.stdtrit(freedom, level))


def _upper_tail(z: float, freedom: float) -> float:
    from scipy import special

    if math.isinf(freedom):
        return float(special.ndtr(-z))
    return float(special.stdtr(freedom, -z))


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedCounts:
    """How often two cells disagreed over the same texts, as independent texts would.

    Attributes:
        num_texts: in both, divided by the design effect; ``gained`` and ``lost`` likewise.
        gained: right in the cell alone.
        lost: right in the other alone.
        freedom: of the t quantiles.
    """

    num_texts: float
    gained: float
    lost: float
    freedom: float

    @property
    def p_differs(self) -> float:
        """The two-sided p of no difference."""
        return min(1.0, 2 * _upper_tail(abs(self.z(0.0)), self.freedom))

    def p_loses(self, allowed: float) -> float:
        """Return how often a cell that loses ``allowed`` would come out as good as this one.

        One-sided score test.
        Source: Tango (1998), Equivalence Test and Confidence Interval for the Difference in
        Proportions for the Paired-sample Design.
        """
        return _upper_tail(self.z(-allowed), self.freedom)

    def p_keeps(self, allowed: float) -> float:
        """Return how often a cell that loses just ``allowed`` would come out as bad as this one."""
        return _upper_tail(-self.z(-allowed), self.freedom)

    def num_texts_for(self, allowed: float, chance: float, power: float) -> float | None:
        """Return how many texts would show, with this ``power``, that no more is lost.

        The share of disagreements seen is taken as the true one, and the loss seen too where it is
        one. None where the loss seen is not below ``allowed``: no number of texts would show it.

        Source: the normal approximation of the score test, as for any difference of proportions.
        """
        from scipy import special

        loss = max(0.0, (self.lost - self.gained) / self.num_texts)
        if loss >= allowed:
            return None
        disagreements = (self.gained + self.lost) / self.num_texts
        under_limit = max(disagreements, allowed) - allowed**2
        under_truth = max(disagreements - loss**2, 0.0)
        wanted = special.ndtri(1 - chance) * math.sqrt(under_limit)
        wanted += special.ndtri(power) * math.sqrt(under_truth)
        return float((wanted / (allowed - loss)) ** 2)

    def interval(self) -> tuple[float, float]:
        """Return the 95 % score interval of the cell's share less the other's."""
        quantile = _quantile(self.freedom, (1 + CONFIDENCE) / 2)
        value = (self.gained - self.lost) / self.num_texts
        low = _root(lambda end: self.z(end) > quantile, -1.0, value)
        high = _root(lambda end: self.z(end) >= -quantile, value, 1.0)
        return low, high

    def z(self, difference: float) -> float:
        """Return the score of a true ``difference``; it falls as that grows."""
        n, b, c = self.num_texts, self.gained, self.lost
        linear = -b - c + (2 * n - b + c) * difference
        constant = -c * difference * (1 - difference)
        lost_share = (math.sqrt(max(0.0, linear**2 - 8 * n * constant)) - linear) / (4 * n)
        variance = n * (2 * lost_share + difference * (1 - difference))
        beyond = b - c - n * difference
        if variance <= 0:
            return math.copysign(math.inf, beyond) if beyond else 0.0
        return beyond / math.sqrt(variance)


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedDifference:
    """How two cells' shares of correct answers differ over the same texts.

    Attributes:
        num_texts: that both answered.
        gained: right in the cell alone.
        lost: right in the other alone.
        value: share of the cell less that of the other; None without texts.
        ci_low: lower end of the 95 % interval of ``value``.
        ci_high: upper end of it.
        p_differs: how often equal cells would come out as far apart.
        num_units: prompts or texts, as ``unit`` says.
        independence_assumed: texts that share a few prompts were taken as independent.
        counts: for further tests; None without texts.
    """

    num_texts: int
    gained: int = 0
    lost: int = 0
    value: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    p_differs: float | None = None
    num_units: int = 0
    unit: Literal["text", "prompt"] = "text"
    independence_assumed: bool = False
    counts: PairedCounts | None = None

    @property
    def differs(self) -> bool:
        """The interval excludes 0; False without one."""
        if self.ci_low is None or self.ci_high is None:
            return False
        return self.ci_low > 0 or self.ci_high < 0

    @property
    def is_larger(self) -> bool:
        return (self.value or 0) > 0

    def p_loses(self, allowed: float) -> float:
        """Return how often a cell that loses ``allowed`` would come out as good as this one."""
        return 1.0 if self.counts is None else self.counts.p_loses(allowed)


def paired_difference(cell: Flags, other: Flags, units: Units) -> PairedDifference:
    """Compare the correct answers of a cell and of another over the same texts, in the same order.

    Where texts are the units ``p_differs`` is of McNemar's exact test. Where prompts are it is of
    the exact test that swaps a prompt's answers as a whole, and not below that of the interval:
    prompts that seldom go wrong as a whole are no even toss, and few prompts may hide them. The
    interval is Tango's, its counts divided by the design effect.

    Source: McNemar (1947), Note on the Sampling Error of the Difference Between Correlated
    Proportions or Percentages; Tango (1998); Rao and Scott (1992).
    """
    import numpy as np

    if not len(cell):
        return PairedDifference(num_texts=0)
    errors = cell.astype(np.float64) - other
    gained, lost = int((errors > 0).sum()), int((errors < 0).sum())
    effect = units.design_effect(errors)
    counts = PairedCounts(
        num_texts=len(errors) / effect,
        gained=gained / effect,
        lost=lost / effect,
        freedom=units.freedom,
    )
    low, high = counts.interval()
    return PairedDifference(
        num_texts=len(errors),
        gained=gained,
        lost=lost,
        value=(gained - lost) / len(errors),
        ci_low=low,
        ci_high=high,
        p_differs=max(swap_p(units.sums(errors)), counts.p_differs if units.clustered else 0.0),
        num_units=units.count,
        unit=units.unit,
        independence_assumed=units.independence_assumed,
        counts=counts,
    )


def swap_p(sums: Floats) -> float:
    """Return the two-sided p of the exact test that turns the sign of each of ``sums`` or not.

    Equal cells are as likely to have either sign. ``sums`` are whole numbers. Those of one size
    add up to a binomial count, so sizes are convolved, not units.
    """
    import numpy as np

    sizes, numbers = np.unique(np.abs(sums[sums != 0]).astype(np.int64), return_counts=True)
    chances: Floats = np.ones(1)
    for size, number in zip(sizes.tolist(), numbers.tolist(), strict=True):
        spaced = np.zeros(2 * size * number + 1)
        spaced[:: 2 * size] = _binomial(number)
        chances = np.convolve(chances, spaced).astype(np.float64)
    middle = len(chances) // 2
    distance = round(abs(float(sums.sum())))
    tails = chances[: middle - distance + 1].sum() + chances[middle + distance :].sum()
    return min(1.0, float(tails)) if distance else 1.0


def _binomial(number: int) -> Floats:
    """Return the chances of 0 to ``number`` heads in as many tosses."""
    import numpy as np
    from scipy import special

    heads = np.arange(number + 1)
    logs = special.gammaln(number + 1) - special.gammaln(heads + 1)
    return np.exp(logs - special.gammaln(number - heads + 1) - number * math.log(2))


def _root(is_below: Callable[[float], bool], low: float, high: float) -> float:
    """Return where ``is_below`` turns false between ``low`` and ``high``."""
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if is_below(middle) else (low, middle)
    return (low + high) / 2


def macro_f1(expected: Integers, answered: Integers, num_labels: int, units: Units) -> Figure:
    """Return the mean F1 over the labels that are expected or answered somewhere.

    Args:
        expected: number of each text's label.
        answered: number of the label found; ``num_labels`` where there was none.
        num_labels: how many labels there are.
        units: which texts belong together.

    The interval is the delta method's, from each text's influence on the mean, summed by unit.

    Source: Takahashi et al. (2022), Confidence interval for micro-averaged F1 and macro-averaged
    F1 scores. A label that no text has and no answer names does not count, as in scikit-learn.
    """
    import numpy as np

    scores, influences = [], []
    for label in range(num_labels):
        wanted, named = expected == label, answered == label
        total = int(wanted.sum() + named.sum())
        if total:
            score = 2 * float((wanted & named).sum()) / total
            scores.append(score)
            per_text = 2.0 * (wanted & named) - score * (wanted * 1.0 + named)
            influences.append(per_text / total)
    if not scores:
        return Figure()
    return _delta(float(np.mean(scores)), np.mean(influences, axis=0), units)


def kappa(one: Integers, other: Integers, num_labels: int, units: Units) -> Figure:
    """Return Cohen's kappa of two cells' answers; None where chance alone makes all agree.

    Labels are numbered; ``num_labels`` stands for no label, and two such answers agree. The
    interval is the delta method's, by unit.

    Source: Cohen (1960), A Coefficient of Agreement for Nominal Scales; Fleiss, Cohen and Everitt
    (1969), Large Sample Standard Errors of Kappa and Weighted Kappa.
    """
    import numpy as np

    if not len(one):
        return Figure()
    shares = [np.bincount(side, minlength=num_labels + 1) / len(one) for side in (one, other)]
    by_chance = float(shares[0] @ shares[1])
    if by_chance >= 1:
        return Figure()
    agree = one == other
    value = (float(agree.mean()) - by_chance) / (1 - by_chance)
    lucky = shares[1][one] + shares[0][other] - 2 * by_chance
    influence = (agree - agree.mean() - (1 - value) * lucky) / (1 - by_chance) / len(one)
    return _delta(value, influence, units, least=-1.0)


def _delta(value: float, influence: Floats, units: Units, *, least: float = 0.0) -> Figure:
    """Return ``value`` with the t interval of the units' summed influences."""
    sums = units.sums(influence)
    if units.count < 2 or not sums.any():  # noqa: PLR2004  (one unit, or none, has no spread)
        return Figure(value=value)
    error = math.sqrt(float((sums**2).sum()) * units.count / (units.count - 1))
    half = _quantile(units.freedom, (1 + CONFIDENCE) / 2) * error
    return Figure(value=value, ci_low=max(least, value - half), ci_high=min(1.0, value + half))

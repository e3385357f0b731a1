"""How good a cell's labels are, and how two cells' labels compare over the same texts.

One decision a distinct text: that of the first pass of the cell's first process. Copies and
repeats ask the same again at temperature 0 and are no further evidence. A lost answer is wrong.
``packsweep.results.shares`` says which texts count as independent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from packsweep.analysis import axes
from packsweep.analysis.labels import NONE
from packsweep.results import shares
from packsweep.results.schema import Row
from packsweep.results.shares import Figure, PairedDifference, Units
from packsweep.sweep.strategies import ONE_TEXT

if TYPE_CHECKING:
    import pandas as pd

    from packsweep.results.shares import Flags, Integers


@dataclass(frozen=True, kw_only=True)
class Answers:
    """The decisions of one cell, in the order of the texts.

    Attributes:
        group_id: the cell, its replicates taken together.
        texts_sha256: identifies the cell's n texts.
        texts: those that it labelled, each by its index among the n; of a server those that came.
        prompts: the prompt of each text.
        expected: the texts' own labels; None where a text has none.
        found: the label found for each text, or ``NONE``.
    """

    group_id: str
    texts_sha256: str
    texts: Integers
    prompts: Integers
    expected: tuple[str | None, ...]
    found: tuple[str, ...]

    @property
    def labelled(self) -> bool:
        """Every text has a label of its own."""
        return None not in self.expected

    @cached_property
    def right(self) -> Flags:
        import numpy as np

        pairs = zip(self.expected, self.found, strict=True)
        return np.array([label == answer for label, answer in pairs], dtype=bool)

    def on(self, texts: Integers) -> Answers:
        """Return the decisions on these texts alone."""
        import dataclasses

        import numpy as np

        places = np.flatnonzero(np.isin(self.texts, texts))
        if len(places) == len(self.found):
            return self
        return dataclasses.replace(
            self,
            texts=self.texts[places],
            prompts=self.prompts[places],
            expected=tuple(self.expected[place] for place in places),
            found=tuple(self.found[place] for place in places),
        )


def of_cells(found: pd.DataFrame, cells: Sequence[Row]) -> dict[str, Answers]:
    """Return the decisions by group_id, of the cells whose answers were scored.

    Args:
        found: the rows of ``labels.of_requests``.
        cells: rows with ``cell_id``, ``group_id`` and ``texts_sha256``, one for each process.
    """
    by_id = {str(row["cell_id"]): row for row in cells}
    made: dict[str, Answers] = {}
    for cell_id, rows in sorted(
        found.groupby("cell_id", sort=False), key=lambda item: str(item[0])
    ):
        cell = by_id.get(str(cell_id))
        # The cell_id of replicate 0 is the group's; where it failed, another process speaks.
        if cell is not None and (cell_id == cell["group_id"] or cell["group_id"] not in made):
            made[str(cell["group_id"])] = _answers(cell, rows)
    return made


def _answers(cell: Row, rows: pd.DataFrame) -> Answers:
    import numpy as np
    import pandas as pd

    ordered = rows.sort_values("text")
    return Answers(
        group_id=str(cell["group_id"]),
        texts_sha256=str(cell["texts_sha256"]),
        texts=ordered["text"].to_numpy(dtype=np.int64),
        prompts=(ordered["text"] - ordered["position"]).to_numpy(dtype=np.int64),
        expected=tuple(None if pd.isna(label) else str(label) for label in ordered["expected"]),
        found=tuple(ordered["found"].astype(str)),
    )


def baseline(cells: Sequence[Row], answers: Mapping[str, Answers]) -> Answers | None:
    """Return the answers that others are compared with.

    One text a prompt, closest to the defaults, most texts.
    """
    alone = [cell for cell in cells if cell["strategy"] in ONE_TEXT and cell["group_id"] in answers]
    found = min(
        alone,
        key=lambda cell: (
            -cell["n"],
            cell["duplication"],
            axes.distance_from_defaults(axes.asked_and_set(cell)),
        ),
        default=None,
    )
    return None if found is None else answers[found["group_id"]]


def num_shared(one: Answers, other: Answers) -> int:
    """Return over how many texts two cells can be compared."""
    return len(_shared(one, other))


def _shared(one: Answers, other: Answers) -> Integers:
    """Return the texts that two cells have both labelled.

    Cells of one sweep label the first n texts of one order, so those of a smaller n are among
    those of a larger, and as many are the same. The texts' own labels must agree on that; where
    there are none, only the same n texts are the same.
    """
    import numpy as np

    texts = np.intersect1d(one.texts, other.texts)
    if one.texts_sha256 == other.texts_sha256:
        return texts
    nested = len(one.found) != len(other.found)
    alike = nested and one.labelled and one.on(texts).expected == other.on(texts).expected
    return texts if alike else texts[:0]


def difference(cell: Answers, other: Answers) -> PairedDifference:
    """Return by how much more of their common texts ``cell`` labels right than ``other``.

    Empty where they have no texts in common, or these no labels.
    """
    texts = _shared(cell, other)
    if not (cell.labelled and other.labelled):
        texts = texts[:0]
    sides = cell.on(texts), other.on(texts)
    units = shares.units_of(*(side.prompts for side in sides)) if len(texts) else _no_units()
    return shares.paired_difference(sides[0].right, sides[1].right, units)


def _no_units() -> Units:
    import numpy as np

    return Units(of_text=np.array([], dtype=np.int64))


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How often a cell gives the label that the baseline gives, right or not.

    Attributes:
        baseline: group_id of the cell that it is compared with.
        share: of the common texts; two lost answers agree.
        kappa: Cohen's, which leaves out what chance alone would agree on.
    """

    baseline: str
    num_texts: int
    share: Figure
    kappa: Figure


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelQuality:
    """What is right about one label.

    Attributes:
        num_expected: texts that have it.
        num_found: texts that were given it.
        precision: share of those given it that have it.
        recall: share of those that have it that were given it.
        found_share: share of all texts that were given it.
    """

    label: str
    num_expected: int
    num_found: int
    precision: Figure
    recall: Figure
    found_share: Figure


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """What a cell's answers are worth.

    Attributes:
        num_units: prompts or texts that count as independent, as ``unit`` says.
        independence_assumed: texts that share a few prompts were taken as independent.
        accuracy: undefined where texts have no labels, as are ``macro_f1``, precision and recall.
        labels: in alphabetical order; ``NONE``, for a lost answer, is not among them.
        confusion: (expected, found) -> texts.
        agreement: with the baseline; None for the baseline itself and without one.
    """

    group_id: str
    num_texts: int
    num_units: int
    unit: str
    independence_assumed: bool
    accuracy: Figure
    macro_f1: Figure
    labels: tuple[LabelQuality, ...]
    confusion: Mapping[tuple[str, str], int]
    agreement: Agreement | None


def of_cell(cell: Answers, baseline: Answers | None = None) -> Quality:
    """Return the quality of a cell's labels, and its agreement with ``baseline``."""
    units = shares.units_of(cell.prompts)
    names = sorted({*cell.expected, *cell.found} - {None, NONE}, key=str)
    number = {name: index for index, name in enumerate(names)}
    scored = cell.labelled
    return Quality(
        group_id=cell.group_id,
        num_texts=len(cell.found),
        num_units=units.count,
        unit=units.unit,
        independence_assumed=units.independence_assumed,
        accuracy=shares.share(cell.right, units) if scored else Figure(),
        macro_f1=shares.macro_f1(
            _numbered(cell.expected, number), _numbered(cell.found, number), len(names), units
        )
        if scored
        else Figure(),
        labels=tuple(_of_label(str(name), cell, units) for name in names),
        confusion=Counter(
            (str(expected), found)
            for expected, found in zip(cell.expected, cell.found, strict=True)
            if expected is not None
        ),
        agreement=None if baseline is None or baseline is cell else agreement(cell, baseline),
    )


def _of_label(label: str, cell: Answers, units: Units) -> LabelQuality:
    import numpy as np

    wanted = np.array([name == label for name in cell.expected], dtype=bool)
    named = np.array([name == label for name in cell.found], dtype=bool)

    def among(hits: Flags, rows: Flags) -> Figure:
        if not cell.labelled or not rows.any():
            return Figure()
        return shares.share(hits[rows], shares.units_of(cell.prompts[rows]))

    return LabelQuality(
        label=label,
        num_expected=int(wanted.sum()),
        num_found=int(named.sum()),
        precision=among(wanted, named),
        recall=among(named, wanted),
        found_share=shares.share(named, units),
    )


def _numbered(names: Sequence[str | None], number: Mapping[Any, int]) -> Integers:
    """Return each label's number; a lost answer has the number after the last."""
    import numpy as np

    return np.array([number.get(name, len(number)) for name in names], dtype=np.int64)


def agreement(cell: Answers, baseline: Answers) -> Agreement | None:
    """Return how far ``cell`` labels as ``baseline`` does; None without common texts."""
    import numpy as np

    texts = _shared(cell, baseline)
    if not len(texts):
        return None
    one, other = cell.on(texts), baseline.on(texts)
    units = shares.units_of(one.prompts, other.prompts)
    number = {name: index for index, name in enumerate(sorted({*one.found, *other.found} - {NONE}))}
    numbered = [_numbered(side.found, number) for side in (one, other)]
    same = np.equal(numbered[0], numbered[1])
    return Agreement(
        baseline=baseline.group_id,
        num_texts=len(texts),
        share=shares.share(same, units),
        kappa=shares.kappa(numbered[0], numbered[1], len(number), units),
    )

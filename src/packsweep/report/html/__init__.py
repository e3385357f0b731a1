"""One HTML file that answers the sweep's question: no network, nothing beside it.

    passes, requests -> analysis -> rows of a summary, comparisons, labels     (``collect``)
                     -> sections: sentences, tables, charts as Vega-Lite       (``build``)
                     -> Jinja -> one text                                      (``render``)

Values and text only: this package starts nothing and reads no results.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

from packsweep.analysis import contrasts, frames, labels
from packsweep.analysis.contrasts import Comparison
from packsweep.analysis.frames import Against
from packsweep.report.html import answer, author, curves, missing, record, sections, vega
from packsweep.report.html.parts import Section
from packsweep.report.html.vega import installed
from packsweep.results.schema import Row
from packsweep.version import __version__

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["NUM_RANGES", "Found", "Report", "build", "collect", "installed", "render"]

NUM_RANGES = 10  # of positions in a prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a results folder holds, worked out.

    Attributes:
        name: of the folder.
        rows: of the summary.
        mixed: what differs between rows that were put side by side all the same.
        positions: rows of ``labels.by_position``.
        confusion: rows of ``labels.confusion``.
        sweep: text of the sweep file that was run last; None where it was not kept.
        absent: cells of that file without a row, or why that is not known.
    """

    name: str
    rows: Sequence[Row]
    compared: Sequence[Comparison]
    mixed: Sequence[str]
    requests: pd.DataFrame
    positions: Sequence[Row]
    confusion: Sequence[Row]
    sweep: str | None
    absent: Sequence[str] | str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A page, before it is HTML.

    Attributes:
        answer: the one sentence.
        below: sentences that belong to it.
        sections: in the order of the page; the first shows what the answer rests on.
    """

    name: str
    answer: str
    below: tuple[str, ...]
    sections: tuple[Section, ...]


def collect(
    passes: pd.DataFrame,
    read_requests: Callable[[Container[str]], pd.DataFrame],
    *,
    name: str,
    sweep: str | None,
    against: Against | None = None,
    allow_mixed: bool = False,
) -> Found:
    """Work out what the report shows.

    Args:
        passes: of all cells.
        read_requests: gives those of the cells asked for, which are a few: requests can be many.
        name: of the results.
        sweep: text of the sweep file, where it was kept.
        against: ceiling and price in place of what the rows say.
        allow_mixed: put rows side by side that were not measured alike.

    Raises:
        ResultsError: rows do not belong together.
    """
    mixed = frames.check_alike(passes, allow_mixed=allow_mixed)
    rows = frames.summarise((against or Against()).apply(passes))
    requests = read_requests({*sections.scored(rows), *author.telling(rows)})
    counts = passes.loc[passes["outcome"] == "ok", "cell_id"]
    found = labels.of_requests(requests[requests["cell_id"].isin(counts)])
    each_cell = passes.drop_duplicates("cell_id")
    return Found(
        name=name,
        rows=rows,
        compared=contrasts.of(passes),
        mixed=mixed,
        requests=requests,
        positions=_records(labels.by_position(found, num_ranges=NUM_RANGES)),
        confusion=_records(labels.confusion(found)),
        sweep=sweep,
        absent=record.absent_cells(sweep, _records(each_cell[list(missing.COLUMNS)])),
    )


def _records(frame: pd.DataFrame) -> list[Row]:
    """Return the rows of a frame; undefined is None."""
    known = frame.astype(object).where(frame.notna(), None)
    return [{str(name): value for name, value in row.items()} for row in known.to_dict("records")]


def build(found: Found) -> Report:
    """Return the page's sentences, tables and charts.

    Raises:
        UserError: what draws the charts is not installed.
    """
    vega.check_installed()
    rows, compared = found.rows, found.compared
    below = [
        answer.fastest(rows, compared),
        answer.counts(rows, compared),
        answer.answers_right(rows, compared),
    ]
    return Report(
        name=found.name,
        answer=answer.sentence(rows, compared),
        below=tuple(line for line in below if line and rows),
        sections=tuple(_sections(found)),
    )


def _sections(found: Found) -> list[Section]:
    rows = found.rows
    made = [
        _comparisons(found),
        author.section(rows, found.requests),
        curves.throughput(rows),
        curves.duplication(rows),
        sections.time(rows),
        sections.accuracy(rows, found.positions, found.confusion),
        sections.cost(rows),
        record.failed(rows, found.absent),
        record.conditions(rows, found.mixed),
        record.repeat(rows, found.sweep),
    ]
    return [section for section in made if section is not None]


def _comparisons(found: Found) -> Section:
    """Return what the answer rests on: every comparison with its interval."""
    figure = sections.ratios(found.compared, found.rows)
    lines = ("No two cells do the same work in another way.",) if figure is None else ()
    figures = () if figure is None else (figure,)
    return Section(key="compared", title="Every comparison", lines=lines, figures=figures)


def render(report: Report, *, folder: str | None = "") -> str:
    """Return the page.

    Args:
        report: what stands in it.
        folder: of the results, as a link from where the page will lie: empty if that is it, None
            if no link leads there.
    """
    import jinja2

    files = resources.files(__name__)
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: (files / name).read_text(encoding="utf-8")),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    figures = [figure for section in report.sections for figure in section.figures]
    return environment.get_template("page.html.j2").render(
        report=report,
        specs=[figure.spec for figure in figures],
        folder=None if folder is None else f"{folder}/".lstrip("/"),
        bundle=vega.javascript() if figures else "",
        version=__version__,
    )

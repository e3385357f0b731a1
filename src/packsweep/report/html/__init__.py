"""One HTML file that says what to run and why: no network, nothing beside it.

    passes, requests -> analysis -> rows of a summary, comparisons, labels     (``collect``)
                     -> first screen, groups of sections                       (``build``)
                     -> Jinja -> one text                                      (``render``)

Values and text only: this package starts nothing and reads no results.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from typing import TYPE_CHECKING
from urllib.parse import quote

from packsweep.analysis import contrasts, frames, labels
from packsweep.analysis.advice import Advice
from packsweep.analysis.contrasts import Comparison
from packsweep.analysis.frames import Overrides
from packsweep.analysis.quality import Answers
from packsweep.report.html import author, curves, first_screen, online, record, sections, vega
from packsweep.report.html.parts import Figure, Group, Section
from packsweep.report.html.vega import installed
from packsweep.report.tables import footer
from packsweep.results.schema import Row
from packsweep.results.store import KeptSweep
from packsweep.version import __version__

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["NUM_RANGES", "Found", "Report", "build", "collect", "installed", "render"]

NUM_RANGES = 10  # of positions in a prompt
_MOST_ENGINES = 2  # lines of the first screen on engines of several GPUs


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a results folder holds, worked out.

    Attributes:
        name: of the folder.
        rows: of the summary.
        mixed: what differs between rows that were compared nevertheless.
        positions: rows of ``labels.by_position``.
        confusion: rows of ``labels.confusion``.
        sweep: text of the sweep file that was run last; None where it was not kept.
        absent: cells of that file without a row; None where they are not known.
    """

    name: str
    rows: Sequence[Row]
    compared: Sequence[Comparison]
    answers: Mapping[str, Answers]
    mixed: Sequence[str]
    requests: pd.DataFrame
    positions: Sequence[Row]
    confusion: Sequence[Row]
    sweep: str | None
    absent: Sequence[str] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A page, before it is HTML.

    Attributes:
        advice: the first screen: a recommendation and three numbers.
        conditions: what was measured, a line each.
        figures: the charts of the first screen.
        groups: all else, folded.
    """

    name: str
    advice: Advice
    conditions: tuple[str, ...]
    figures: tuple[Figure, ...]
    groups: tuple[Group, ...]

    @property
    def sections(self) -> list[Section]:
        return [section for group in self.groups for section in group.sections]


def collect(
    passes: pd.DataFrame,
    read_requests: Callable[[Container[str]], pd.DataFrame],
    *,
    name: str,
    sweep: KeptSweep,
    overrides: Overrides | None = None,
    allow_mixed: bool = False,
) -> Found:
    """Work out what the report shows.

    Args:
        passes: of all cells.
        read_requests: gives those of the cells asked for, which are a few: requests can be many.
        name: of the results.
        sweep: that was run last.
        overrides: ceiling and price in place of the rows' own.
        allow_mixed: put rows side by side that were not measured alike.

    Raises:
        ResultsError: rows do not belong together.
    """
    mixed = frames.check_alike(passes, allow_mixed=allow_mixed)
    rows = frames.summarise((overrides or Overrides()).apply(passes))
    requests = read_requests({*sections.scored(rows), *author.telling(rows)})
    counts = passes.loc[passes["outcome"] == "ok", "cell_id"]
    found = labels.of_requests(requests[requests["cell_id"].isin(counts)])
    answers = frames.answers_of(found, passes)
    asked, tried = sweep.cell_ids, set(passes["cell_id"])
    return Found(
        name=name,
        rows=rows,
        compared=contrasts.of(passes, answers),
        answers=answers,
        mixed=mixed,
        requests=requests,
        positions=labels.records(labels.by_position(found, num_ranges=NUM_RANGES)),
        confusion=labels.records(labels.confusion(found)),
        sweep=sweep.text,
        absent=None if asked is None else [cell_id for cell_id in asked if cell_id not in tried],
    )


def build(found: Found) -> Report:
    """Return the page's sentences, tables and charts.

    Raises:
        UserError: what draws the charts is not installed.
    """
    vega.check_installed()
    # What a server is given decides how fast it is seen to be: it has sections of its own.
    rows = found.rows
    offline = [row for row in rows if row["mode"] != "online"]
    advice = first_screen.advise(offline, found.compared, found.answers)
    if rows and not offline:
        random = all(row["load_format"] == "dummy" for row in rows)
        notes = (*online.verdicts(rows), *([first_screen.RANDOM_WEIGHTS] if random else []))
        sentence = first_screen.as_simulated(online.headline(rows), rows)
        advice = replace(advice, sentence=sentence, not_shown=notes)
    throughput = curves.throughput(offline)
    frontier = first_screen.frontier(advice, offline)
    first = [frontier] if frontier is not None else []
    first += throughput.figures[:1]
    served = online.sections(rows)
    if served and not offline:
        first += served[0].figures[:1]
        served = (replace(served[0], figures=served[0].figures[1:]), *served[1:])
    return Report(
        name=found.name,
        advice=advice,
        conditions=(
            *(footer.measured(rows) if rows else ()),
            *footer.several_gpus(found.compared, rows, most=_MOST_ENGINES),
        ),
        figures=tuple(first),
        groups=_groups(found, offline, replace(throughput, figures=throughput.figures[1:]), served),
    )


def _groups(
    found: Found, offline: Sequence[Row], throughput: Section, served: Sequence[Section]
) -> tuple[Group, ...]:
    rows = found.rows
    published = author.section(offline, found.requests)
    speed = (
        sections.comparisons(found.compared, offline),
        throughput,
        curves.duplication(offline),
        sections.time(rows),
        *([published] if published else []),
    )
    conditions, failed = record.conditions(rows, found.mixed), record.failed(rows, found.absent)
    doubts = len(conditions.warnings) + sum(row["outcome"] != "ok" for row in rows)
    groups = (
        Group(
            key="speed",
            title="Speed",
            hint="every comparison, speed against n and pack size, where the time goes",
            sections=speed,
        ),
        Group(
            key="served",
            title="Online",
            hint="latency against load, the SLO, offline and online compared",
            sections=tuple(served),
        ),
        Group(
            key="labels",
            title="Label quality",
            hint="accuracy by position in the prompt, expected and predicted labels",
            sections=(sections.accuracy(rows, found.positions, found.confusion),),
        ),
        Group(
            key="money",
            title="Cost and energy",
            hint="dollars and joules for 1,000 texts",
            sections=(sections.cost(rows),),
        ),
        Group(
            key="trust",
            title="Can I trust these numbers?",
            hint=f"warnings and failed cells: {doubts or 'none'}",
            sections=(conditions, failed),
        ),
        Group(
            key="again",
            title="Reproduce these results",
            hint="sweep file, command, environment, hashes",
            sections=(record.repeat(rows, found.sweep),),
        ),
    )
    return tuple(group for group in groups if group.sections)


def render(report: Report, *, folder: str | None = "") -> str:
    """Return the page.

    Args:
        report: what stands in it.
        folder: path of the results from where the page will lie: empty if that is it, None if
            no path leads there.
    """
    import jinja2

    files = resources.files(__name__) / "templates"
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: (files / name).read_text(encoding="utf-8")),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    figures = [*report.figures, *(each for section in report.sections for each in section.figures)]
    return environment.get_template("page.html.j2").render(
        report=report,
        specs=[figure.spec for figure in figures],
        folder=None if folder is None else _link(folder),
        bundle=vega.javascript() if figures else "",
        version=__version__,
    )


def _link(folder: str) -> str:
    """Return a relative link to a folder, whatever its name: a colon would begin a scheme."""
    return quote(f"{folder}/") if folder else ""

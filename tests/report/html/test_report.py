"""The page: what stands in it and where, that it needs nobody, and that it stays small."""

from __future__ import annotations

import json
import re
from collections.abc import Container
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pandas as pd
import pytest
from tests.report.html.composed import ENDS

from packsweep.analysis import frames
from packsweep.analysis.contrasts import GPUS, Comparison
from packsweep.report import html
from packsweep.report.html import Found, Report, record
from packsweep.report.html.parts import Figure, Section
from packsweep.results import schema
from packsweep.results.stats import Ratio
from packsweep.results.store import KeptSweep

MEBIBYTE = 2**20


class _Page(HTMLParser):
    """Collects what the tests ask about."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.attributes: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes.append((tag, dict(attrs)))

    def all(self, tag: str, name: str) -> list[str]:
        """Return an attribute of every element of a kind."""
        return [str(own[name]) for each, own in self.attributes if each == tag and name in own]


@pytest.fixture(scope="module")
def text(built: Report) -> str:
    """The page of the composed results."""
    return html.render(built)


def _section(built: Report, key: str) -> Section:
    return next(section for section in built.sections if section.key == key)


def test_page_size(text: str) -> None:
    """A page is less than 2 MiB."""
    assert len(text.encode()) < 2 * MEBIBYTE


def test_page_needs_nobody(text: str) -> None:
    """Nothing is loaded: no script, style, picture or frame has an address, and none is allowed."""
    page = _Page(text)
    loaded = [own["src"] for _, own in page.attributes if "src" in own]
    assert not loaded
    assert page.all("link", "href") == ["data:,"]
    policy = next(value for value in page.all("meta", "content") if "default-src" in value)
    assert "default-src 'none'" in policy
    assert "http" not in policy


def test_page_anchors(text: str) -> None:
    """Every link within the page leads to an element, and no id stands twice."""
    page = _Page(text)
    ids = [own["id"] for _, own in page.attributes if own.get("id")]
    assert len(ids) == len(set(ids))
    inner = {link.removeprefix("#") for link in page.all("a", "href") if link.startswith("#")}
    assert inner <= set(ids)


def test_page_escapes_reasons(text: str) -> None:
    """What a cell left as its reason is text, not markup."""
    assert "expected 32 &lt;/script&gt;&lt;b&gt;bold&lt;/b&gt;" in text
    assert "<b>bold" not in text


def test_page_specs_read_back(text: str, built: Report) -> None:
    """The charts' specifications are JSON, one for each figure, whatever stands in the names."""
    held = re.search(r'<script type="application/json" id="specs">(.*?)</script>', text, re.DOTALL)
    assert held is not None
    figures = _figures(built)
    assert json.loads(held[1]) == json.loads(json.dumps([figure.spec for figure in figures]))
    assert text.count("data-chart=") == len(figures)


def test_page_folder(built: Report) -> None:
    """A page elsewhere links to the tables in the results folder."""
    assert 'href="../results/summary.csv"' in html.render(built, folder="../results")


@pytest.mark.parametrize("folder", ["javascript:alert(1)//", 'a" onclick="x', "a b?#"])
def test_page_link_is_a_path(built: Report, folder: str) -> None:
    """Whatever a folder is called, its link has no scheme, no query and no quote."""
    links = _Page(html.render(built, folder=folder)).all("a", "href")
    (link,) = {each for each in links if each.endswith("summary.csv")}
    assert urlsplit(link).scheme == ""
    assert unquote(urlsplit(link).path) == f"{folder}/summary.csv"


def test_sections_order(built: Report) -> None:
    """What is below the first screen is grouped; how to repeat it comes last."""
    assert {group.key: [each.key for each in group.sections] for group in built.groups} == {
        "speed": ["compared", "throughput", "duplication", "time"],
        "labels": ["accuracy"],
        "money": ["cost"],
        "trust": ["conditions", "failed"],
        "again": ["repeat"],
    }


def _figures(built: Report) -> list[Figure]:
    return [*built.figures, *(each for section in built.sections for each in section.figures)]


def test_figures_have_data(built: Report) -> None:
    """Every chart has a table with a row for each of its marks."""
    figures = _figures(built)
    assert figures
    for figure in figures:
        assert figure.data.rows
        assert {len(row) for row in figure.data.rows} == {len(figure.data.headings)}


def _curves(built: Report) -> list[Figure]:
    return [each for each in _figures(built) if each.title.startswith("texts/s against n")]


def test_failed_cells_are_not_drawn(built: Report) -> None:
    """A cell without a number is no point of any curve; the section says which."""
    section = _section(built, "throughput")
    drawn = [row for figure in _curves(built) for row in figure.data.rows]
    assert not [row for row in drawn if row[0] == "packed n=12 dup=1 cold"]
    assert all(float(row[2]) > 0 for row in drawn)
    assert any("Not drawn" in line and "packed n=12 dup=1 cold" in line for line in section.lines)


def test_failed_section(built: Report) -> None:
    """Every outcome stands with its reason, and what is missing is named."""
    section = _section(built, "failed")
    assert section.lines[0] == "34 cells: 30 ok, 1 infeasible, 1 invalid, 1 oom, 1 timeout."
    assert {row[1] for row in section.tables[0].rows} == {"infeasible", "oom", "invalid", "timeout"}
    assert section.lines[1].startswith("2 cells of the sweep file were not measured")
    missing = {row[0].rpartition("-")[0] for row in section.tables[1].rows}
    assert missing == {slug for slug, (outcome, _) in ENDS.items() if not outcome}


@pytest.mark.parametrize(
    ("absent", "line"),
    [
        ((), "No cell of the sweep file is missing."),
        (None, "Missing cells are not known: the folder does not list those of its sweep."),
    ],
)
def test_failed_section_nothing_missing(found: Found, absent: tuple[()] | None, line: str) -> None:
    """Nothing missing is distinguished from nothing known."""
    assert record.failed(found.rows, absent).lines[1] == line


def test_duplication_limit(built: Report) -> None:
    """The primed speed stands as the limit of the curve."""
    figure = _section(built, "duplication").figures[0]
    (note,) = (note for note in figure.notes if note.startswith("Dashed: primed"))
    assert "separate 79.5842" in note


def test_conditions_warn(built: Report) -> None:
    """Warnings stand out, and the group of the section counts them."""
    section = _section(built, "conditions")
    assert section.warnings[0].endswith("-> raise grid.n or measure.repeats")
    assert section.lines[0].startswith("NVIDIA H200 and simulated, vLLM 0.32.0, some/model; ")
    trust = next(group for group in built.groups if group.key == "trust")
    assert trust.hint == f"warnings and failed cells: {len(section.warnings) + 4}"


def test_conditions_several_gpus(found: Found) -> None:
    """The first screen says which labels more, one engine over all GPUs or one over each."""
    first = next(row for row in found.rows if row["outcome"] == "ok")
    settings = json.dumps({**schema.parsed(first["engine_settings"]), "tensor_parallel_size": 2})
    large = {**first, "cell_id": "large", "engine_settings": settings, "num_gpus": 2}
    ratio = Ratio(value=0.9, ci_low=0.8, ci_high=1.0, between_processes=True)
    compared = Comparison(
        cell="large", baseline=first["cell_id"], axis=GPUS, ratio=ratio, per_gpu=True, beside=(0, 3)
    )
    page = html.build(replace(found, rows=[*found.rows, large], compared=[compared]))
    said = "one engine across 2 GPUs (TP 2) has 0.90x"
    assert sum(said in line for line in page.conditions) == 1
    (section,) = [each for each in page.sections if each.key == "compared"]
    assert any(line.endswith("ran beside another engine).") for line in section.lines)


def test_repeat(built: Report) -> None:
    """The sweep file, the command, the environment and the hashes are there."""
    section = _section(built, "repeat")
    listings = {listing.title: listing.text for listing in section.listings}
    assert listings["Command"] == "packsweep run sweep.toml"
    assert 'cache_state = ["cold", "primed"]' in listings["Sweep file"]
    assert ("version of vllm", "0.32.0") in section.tables[0].rows
    assert "prompts_sha256" in section.folded[0].headings


def test_sections_without_data(found: Found) -> None:
    """What was not measured is said in one line."""
    some = [row for row in found.rows if row["duplication"] == 1 and row["n"] == 2]
    bare = [
        {**row, "accuracy": None, "wall_s": None, "duration_s_median": None, "gpu_hour_usd": None}
        | {name: None for name in row if name.startswith(("usd", "joules"))}
        for row in some
        if row["strategy"] == "separate" and row["cache_state"] == "cold"
    ]
    built = html.build(
        replace(found, rows=bare, compared=[], answers={}, positions=[], confusion=[])
    )
    said = {section.key: " ".join(section.lines) for section in built.sections}
    assert "No two cells do the same work in different ways" in said["compared"]
    assert "No curve over n" in said["throughput"]
    assert "No curve over pack size" in said["throughput"]
    assert "No duplication curve" in said["duplication"]
    assert "No cell recorded its phases" in said["time"]
    assert "No answers were scored" in said["accuracy"]
    assert "No price" in said["cost"]
    assert "No energy" in said["cost"]
    assert not _figures(built)
    assert "<script>" not in html.render(built)


def test_few_requests_are_read(composed: Path) -> None:
    """Of many requests those of the cells that are looked into are read, and no others."""
    asked: list[set[str]] = []
    none = frames.load_table(composed, "requests").iloc[:0]

    def read(cells: Container[str]) -> pd.DataFrame:
        assert isinstance(cells, set)
        asked.append(cells)
        return none

    passes = frames.load_table(composed, "passes")
    html.collect(passes, read, name="composed", sweep=KeptSweep())
    scored = passes.loc[passes["accuracy"].notna(), "cell_id"].nunique()
    assert [len(cells) for cells in asked] == [scored]


def test_nothing_measured(found: Found) -> None:
    """A folder without cells, or with failed ones alone, still has a page."""
    failed = [row for row in found.rows if row["outcome"] != "ok"]
    for rows in ([], failed):
        built = html.build(
            replace(found, rows=rows, compared=[], positions=[], confusion=[], sweep=None)
        )
        assert built.advice.sentence == "No cell has been measured yet."
        assert "<h1" in html.render(built)


def test_simulated_servers_are_called_simulated(found: Found) -> None:
    first = next(row for row in found.rows if row["outcome"] == "ok")
    rows = [{**first, "mode": "online", "engine": "simulated", "e2e_p99_s_median": None}]
    built = html.build(replace(found, rows=rows, compared=[], positions=[], confusion=[]))
    assert built.advice.sentence == (
        "Simulated, not measured: no window under load has been measured yet."
    )


def test_many_cells(found: Found) -> None:
    """Thousands of cells give a page of bounded size that says what it leaves out."""
    first = next(row for row in found.rows if row["outcome"] == "ok")
    rows = [_other(first, index) for index in range(1000)]
    built = html.build(replace(found, rows=rows, compared=[], positions=[], confusion=[]))
    assert len(html.render(built).encode()) < 2 * MEBIBYTE
    tables = [table for section in built.sections for table in (*section.tables, *section.folded)]
    assert max(len(table.rows) for table in tables) <= 100
    throughput = _section(built, "throughput")
    assert any("more charts are omitted" in line for line in throughput.lines)
    assert throughput.folded[0].note == (
        "the 50 highest and the 50 lowest texts/s of 1,000 cells; summary.csv has all"
    )


def _other(row: Any, index: int) -> dict[str, Any]:
    """Return a cell of other values, with an id of its own."""
    return {
        **row,
        "cell_id": f"cell-{index:012d}",
        "n": 2 ** (index % 10 + 1),
        "texts_per_s_median": float(index + 1),
        "engine_settings": json.dumps({"max_num_seqs": index // 10}),
    }

"""``packsweep recommend`` as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tests.fabricated import Way, draw, row
from tests.fakes import Cli

from packsweep.analysis import advice, recommend
from packsweep.analysis.recommend import Terms
from packsweep.cli.commands.recommend import _how_texts_are_read, _left_out
from packsweep.report import deploy
from packsweep.report.tables import advice_text
from packsweep.results.store import Store

SMALL = '[model]\nname = "m"\n[grid]\nn = 1\n'


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory, sweep_text: str, cli: Cli) -> Path:
    folder = tmp_path_factory.mktemp("recommend")
    (folder / "tiny.toml").write_text(sweep_text, encoding="utf-8")
    assert cli("run", "tiny.toml", "--results", "r", cwd=folder).returncode == 0
    return folder / "r"


def test_simulated_results_give_speed_only(results: Path, cli: Cli) -> None:
    done = cli("recommend", results, "--texts", "5_000_000", "--gpus", "8", cwd=results)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Simulated, so accuracy is unknown: ")
    assert "for 5,000,000 texts" in done.stdout


def test_json_holds_terms_and_points(results: Path, cli: Cli) -> None:
    done = cli("recommend", results, "--json", "--gpu-hour-usd", "2", cwd=results)
    record = json.loads(done.stdout)
    assert record["terms"]["gpu_hour_usd"] == 2
    assert record["shown"] is False
    assert len(record["points"]) == 2
    assert record["files"] == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--max-loss", "1"], "--max-loss 1: expected a share between 0 and 1, e.g. 0.01"),
        (["--min-accuracy", "90"], "--min-accuracy 90: expected a share between 0 and 1"),
        (["--texts", "many"], "--texts many: expected a number of texts, e.g. 5_000_000"),
        (["--texts", "0"], "--texts 0: expected a number of texts, e.g. 5_000_000"),
        (["-o", "out"], "--output out: nothing is recommended, because the engine was"),
    ],
)
def test_a_slip_is_one_line(results: Path, cli: Cli, options: list[str], message: str) -> None:
    done = cli("recommend", results, *options, cwd=results)
    assert done.returncode == 2
    assert done.stderr.startswith(f"packsweep: {message}")
    assert len(done.stderr.splitlines()) == 1
    assert not (results / "out").exists()


def test_record_has_hours_and_money_of_the_recommended() -> None:
    ways = (
        Way(accuracy=0.95, texts_per_s=10),
        Way(accuracy=0.95, texts_per_s=20, template="short"),
    )
    rows = [row(way, 3000) for way in ways]
    terms = Terms(num_texts=1_440_000, num_gpus=2, gpu_hour_usd=3.0)
    choice = recommend.choose(rows, draw(ways, rows, np.random.default_rng(0), alike=1.0), terms)
    record = advice_text.to_record(choice, advice.of_choice(choice, terms), terms)
    assert record["shown"]
    assert record["cell_id"] == rows[1]["cell_id"]
    assert record["num_gpus"] == 2
    assert record["hours"]["value"] == pytest.approx(10)
    assert record["usd"]["value"] == pytest.approx(60)


def test_lines_below_say_why_no_other_and_the_table_has_no_price_without_one() -> None:
    ways = (Way(accuracy=0.95, texts_per_s=10), Way(accuracy=0.7, texts_per_s=40, pack_size=4))
    rows = [row(way, 3000) for way in ways]
    drawn = draw(ways, rows, np.random.default_rng(0), alike=1.0)
    for terms, priced in ((Terms(), False), (Terms(gpu_hour_usd=3.0), True)):
        given = advice.advise(rows, drawn, terms)
        heading, why, frontier, meaning = advice_text.lines_below(given, terms)
        assert heading == "why no cheaper setting is recommended:"
        assert frontier == "on the frontier: no other setting has as much accuracy and speed"
        assert why.startswith("  chunked 4: loses 2")
        assert meaning.startswith("shown: loses at most 1 point of accuracy to every other setting")
        headings = [column.heading for column in advice_text.table(given).columns]
        assert ("$/1000\ncorrect" in headings) is priced


def test_without_scores_the_table_and_the_numbers_are_of_speed_alone() -> None:
    """No column of dashes, and no dash in the place of an accuracy."""
    rows = [row(Way(accuracy=0.9, texts_per_s=10), 3000, coverage=None, load_format="dummy")]
    given = advice.advise(rows, {}, Terms())
    assert [column.heading for column in advice_text.table(given).columns] == ["setting", "texts/s"]
    lines = advice_text.lines_above(given)
    assert [line.split()[:2] for line in lines[1:]] == [["10", "texts/s"], ["27.8", "h"]]


@pytest.mark.parametrize(
    ("kept", "read"),
    [
        (f'{SMALL}[task]\ntext_column = "words"\n', ("words", None)),
        (f'{SMALL}[texts]\ndelimiter = "~"\n', (None, "~")),
        (SMALL, (None, None)),
        ("no sweep file", (None, None)),
        (None, (None, None)),
    ],
)
def test_texts_are_read_as_the_kept_sweep_says(
    tmp_path: Path, kept: str | None, read: tuple[str | None, str | None]
) -> None:
    store = Store(tmp_path)
    store.prepare()
    if kept is not None:
        store.keep_sweep(kept.encode(), [])
    assert _how_texts_are_read(store) == read


def test_a_file_that_is_not_written_is_told() -> None:
    assert _left_out([Path("label.py"), Path("serve.sh")]) == [deploy.NO_RAY_DATA]
    assert _left_out([Path("label.py"), Path("ray_data.py")]) == []
    assert _left_out([]) == []

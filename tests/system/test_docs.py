"""What the pages say is what the code does: their links, commands and sweep files."""

from __future__ import annotations

import functools
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer.main
from tests.fakes import Cli

from packsweep.cli import app
from packsweep.results import schema
from packsweep.sweep import keys, read
from packsweep.sweep.spec import Sweep

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    page
    for page in ROOT.rglob("*.md")
    if not any(part.startswith(".") for part in page.relative_to(ROOT).parts)
)
YOUR_TASK = ROOT / "docs" / "YOUR_TASK.md"

LONGEST_LINE = 120  # a table's line is as long as it must be

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


@functools.cache
def _text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def _blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", _text(page), re.MULTILINE | re.DOTALL)


def _commands(page: Path) -> list[list[str]]:
    """Return the words of every command that the blocks of a page show."""
    indented = re.findall(r"^    (.*)$", _without_blocks(page), re.MULTILINE)  # in the log
    text = "\n".join([*_blocks(page, "bash"), *indented]).replace("\\\n", " ")
    return [_words(line) for line in text.splitlines() if re.match(r"(packsweep|make) ", line)]


def _without_blocks(page: Path) -> str:
    return re.sub(r"^```.*?^```", "", _text(page), flags=re.MULTILINE | re.DOTALL)


def _words(line: str) -> list[str]:
    """Return the words of the first command of a line, up to a pipe, a redirection or its end."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;>")
    lexer.whitespace_split, words = True, list[str]()
    for word in lexer:
        if set(word) <= set("|&;>"):
            break
        words.append(word)
    return words


@functools.cache
def _anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", _without_blocks(page), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.strip().lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in plain}


def test_metrics_page_is_made_from_the_column_table() -> None:
    """``python -m packsweep.results.schema > docs/METRICS.md`` changes nothing."""
    page = ROOT / "docs" / "METRICS.md"
    assert page.read_text(encoding="utf-8") == schema.to_markdown()


def test_keys_page_is_made_from_the_tables_of_a_sweep_file() -> None:
    """``python -m packsweep.sweep.keys > docs/KEYS.md`` changes nothing."""
    page = ROOT / "docs" / "KEYS.md"
    assert page.read_text(encoding="utf-8") == keys.to_markdown()


def test_keys_page_says_what_every_key_means() -> None:
    """Keys of the engine are vLLM's own; of all others there is a text."""
    page = (ROOT / "docs" / "KEYS.md").read_text(encoding="utf-8")
    engine = page.partition("## `[engine]`")[2].partition("##")[0]
    without = re.findall(r"^\| `(\w+)` \|.*\|  \|$", page.replace(engine, ""), re.MULTILINE)
    assert not without
    assert "| `max_num_seqs` | integer, at least 1 | yes | `1024` |  |" in engine


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link names a file or folder, and every anchor a heading."""
    links = re.findall(r"\]\(([^)\s]+)\)", _text(page))
    for link in (link for link in links if "://" not in link):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in _anchors(target), link


def test_a_wrong_link_is_noticed() -> None:
    """The anchors are those of headings, not of lines of code that look like them."""
    anchors = _anchors(ROOT / "cluster" / "README.md")
    assert "machines-without-a-network" in anchors
    assert not any("copies-this-checkout" in anchor for anchor in anchors)


@each_page
def test_commands_parse(page: Path) -> None:
    """Every ``packsweep`` command has options that there are, and every ``make`` a target."""
    targets = set(re.findall(r"^([a-z-]+):", _text(ROOT / "Makefile"), re.MULTILINE))
    for words in _commands(page):
        if words[0] == "packsweep":
            _parse(words[1:])
        else:
            assert {word for word in words[1:] if "=" not in word} <= targets, words
        for word in words:
            path = word.partition("=")[2] if word.startswith("ARGS=tests/") else word
            if re.match(r"(sweeps|tests)/", path):
                assert (ROOT / path).exists(), words


def _parse(arguments: list[str]) -> None:
    """Check a command's name, options, their values and the keys of ``--set``; run nothing."""
    command: Any = typer.main.get_command(app)
    while hasattr(command, "commands") and not arguments[0].startswith("-"):
        assert arguments[0] in command.commands, arguments
        command, arguments = command.commands[arguments[0]], arguments[1:]
    if "..." in arguments:
        return
    given = command.make_context("packsweep", list(arguments)).params
    for override in given.get("set_") or ():
        *table, key = override.partition("=")[0].split(".")
        schema = Sweep.model_json_schema()["$defs"]
        owner = schema[f"{table[0].title()}Table"] if table else schema["Sweep"]
        assert key in owner["properties"], override


@pytest.mark.parametrize(
    "line",
    ["show", "shows results/x", "show results/x --sorted n", "plan x.toml --set texts.sauce=1"],
)
def test_a_wrong_command_is_noticed(line: str) -> None:
    with pytest.raises(Exception):  # noqa: B017, PT011  (click's own, or an assertion)
        _parse(line.split())


@each_page
def test_lines_fit_the_width(page: Path) -> None:
    lines = [line for line in _text(page).splitlines() if not line.lstrip().startswith("|")]
    assert [line for line in lines if len(line) > LONGEST_LINE] == []


@each_page
def test_sweep_files_of_a_page_can_be_read(page: Path) -> None:
    """Blocks of TOML parse; those with a model are whole sweep files."""
    shown = _blocks(page, "toml")
    shown += re.findall(r"<<'TOML'\n(.*?)^TOML$", _text(page), re.MULTILINE | re.DOTALL)
    for text in shown:
        values = tomllib.loads(text)
        if "model" in values:
            read.parse(values, where=str(page))


@pytest.fixture
def reader(tmp_path: Path) -> Path:
    """A folder in which a reader of docs/YOUR_TASK.md types its commands."""
    (tmp_path / "docs").mkdir()
    shutil.copy(ROOT / "docs" / "tickets.csv", tmp_path / "docs")
    return tmp_path


def _sweep_file(page: Path) -> tuple[str, str]:
    """Return the name and the text of the sweep file that the commands of a page run."""
    here = re.search(r"(?ms)cat > (\S+) <<'TOML'\n(.*?)^TOML$", _text(page))
    if here:
        return here[1], here[2]
    block = next(text for text in _blocks(page, "toml") if "[model]" in text)
    return next(words[2] for words in _commands(page) if words[:2] == ["packsweep", "run"]), block


@pytest.mark.slow
@pytest.mark.usefixtures("embedded_cache")
@pytest.mark.parametrize("page", [ROOT / "README.md", YOUR_TASK], ids=lambda page: page.name)
def test_own_question_simulated(page: Path, cli: Cli, reader: Path) -> None:
    """The commands of a page, in their order, with the engine that needs none."""
    name, text = _sweep_file(page)
    (reader / name).write_text(text, encoding="utf-8")
    for words in _commands(page):
        if words[0] != "packsweep" or "-o" in words:  # nothing is recommended without real answers
            continue
        simulated = ["--set", "engine.kind=simulated"] if words[1] in {"plan", "run"} else []
        done = cli(*words[1:], *simulated, cwd=reader)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
    assert (reader / "results" / name.removesuffix(".toml") / "report.html").exists()


@pytest.mark.long
@pytest.mark.engine
@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("embedded_cache")
def test_your_task(reader: Path) -> None:
    """Every command of the page on a real engine, as a shell runs it."""
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    script = "\n".join(["set -e", f"export PATH={path}", *_blocks(YOUR_TASK, "bash")])
    subprocess.run(["bash", "-c", script], cwd=reader, check=True, timeout=1700)
    assert list((reader / "labels").glob("*.parquet"))

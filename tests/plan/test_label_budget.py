"""How many labels fit into the output tokens of an answer."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes import sweep

from packsweep.models.resolve import resolve
from packsweep.plan import cells as plan_cells
from packsweep.plan import label_budget
from packsweep.sweep import answers
from packsweep.sweep.answers import LabelCost, label_cost
from packsweep.sweep.texts import LABELS

COSTS = st.builds(LabelCost, first=st.integers(1, 9), each=st.integers(1, 10))


def _words(texts: Sequence[str]) -> list[int]:
    """Count tokens as a tokenizer would that knows both labels and the line break."""
    return [text.count("tive") + text.count("\n") + text.count(", ") for text in texts]


@pytest.mark.parametrize(("num_tokens", "labels"), [(0, 0), (1, 1), (2, 1), (3, 2), (400, 200)])
def test_labels_held(num_tokens: int, labels: int) -> None:
    """A label a token and a line break between: n tokens hold half as many labels, rounded up."""
    assert LabelCost(first=1, each=2).labels_held(num_tokens) == labels


def test_labels_held_too_short() -> None:
    """Fewer tokens than a label takes hold none."""
    assert LabelCost(first=3, each=4).labels_held(2) == 0


@given(COSTS, st.integers(0, 500))
def test_labels_held_fit_and_no_more(cost: LabelCost, num_tokens: int) -> None:
    """The labels held fit, and one more would not."""
    held = cost.labels_held(num_tokens)
    assert held == 0 or cost.first + (held - 1) * cost.each <= num_tokens
    assert cost.first + held * cost.each > num_tokens


@given(COSTS, st.integers(1, 500))
def test_per_text_is_enough_and_least(cost: LabelCost, n: int) -> None:
    """With the recommended tokens for each text every label fits; with one less not always."""
    assert cost.labels_held(n * cost.per_text) >= n
    fewer = cost.per_text - 1
    assert any(cost.labels_held(k * fewer) < k for k in (1, 1000))


def test_label_cost() -> None:
    """The first label has nothing before it, every other one has the separator."""
    assert label_cost(_words, LABELS) == LabelCost(first=1, each=2)


def test_label_cost_longest_label() -> None:
    """The label that takes most tokens decides."""
    assert label_cost(lambda texts: [len(text) for text in texts], LABELS) == LabelCost(
        first=8, each=9
    )


@given(st.lists(st.sampled_from(["positive", "negative"]), min_size=1, max_size=400))
def test_max_tokens_per_line_is_enough(labels: list[str]) -> None:
    """Even a token a letter leaves room for every label, the breaks between them and the end."""
    longest = len("\n".join(labels)) + 1
    assert longest <= len(labels) * answers.max_tokens_per_text(LABELS, len(labels), "lines")


@pytest.fixture(scope="session")
def budget(byte_model: Path) -> label_budget.LabelBudget:
    return label_budget.of(resolve(str(byte_model), load_format="dummy"), (4, 40, 400))


def test_budget_bytes(budget: label_budget.LabelBudget) -> None:
    """A token a byte: 8 for a label, 9 with its break."""
    assert budget.spellings["positive"] == 8
    assert budget.spellings[" positive"] == budget.spellings["positive\n"] == 9
    assert budget.held == {4: 0, 40: 4, 400: 44}


def test_budget_text(budget: label_budget.LabelBudget) -> None:
    """The lines say what fits and what to set."""
    text = budget.to_text()
    assert "400 output tokens: 44 labels (11% of 400 texts)" in text
    assert text.endswith("grid.output_tokens_per_text = 9")


Cli = Callable[..., subprocess.CompletedProcess[str]]


def test_calc_labels_json(cli: Cli, byte_model: Path, tmp_path: Path) -> None:
    """A script gets the numbers; --tokens replaces the author's three."""
    done = cli("calc", "labels", byte_model, "--tokens", "90", "--json", cwd=tmp_path)
    values = json.loads(done.stdout)
    assert values["held"] == {"90": 10}
    assert values["output_tokens_per_text"] == 9


def test_calc_labels_unknown_model(cli: Cli, tmp_path: Path) -> None:
    """A model that is not there is one line and status 2."""
    done = cli("calc", "labels", "embedded:smollm", cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "did you mean embedded:smollm2-135m?" in done.stderr


def test_plan_advice(byte_model: Path) -> None:
    """A packed answer too short for its labels is reported at plan, with what would do."""
    made = plan_cells.make(sweep(model={"name": _weighty(byte_model), "load_format": "auto"}))
    (line,) = made.advice
    assert "2 output tokens of packed-n2-dup1-cold can hold 0 labels of 2" in line
    assert "grid.output_tokens_per_text = 9 fits all" in line


@pytest.mark.parametrize(
    "grid",
    [{"strategy": "separate"}, {"answer": "choice"}, {"output_tokens_per_text": 9}],
)
def test_plan_no_advice(byte_model: Path, grid: dict[str, object]) -> None:
    """Nothing is said where every label fits, or where one token is the experiment's own."""
    made = plan_cells.make(
        sweep(model={"name": _weighty(byte_model), "load_format": "auto"}, grid=grid)
    )
    assert made.advice == ()


def test_plan_no_advice_random_weights(byte_model: Path) -> None:
    """Random weights are not scored, so nothing is said."""
    assert plan_cells.make(sweep(model={"name": str(byte_model)})).advice == ()


BEFORE = {"strategy": "separate", "instruction": "before", "n": [1, 2, 3]}


def test_plan_advice_split_block(byte_model: Path) -> None:
    """What no whole block holds of the original sentence's 116 bytes is reported, once."""
    (line,) = plan_cells.make(sweep(model={"name": str(byte_model)}, grid=BEFORE)).advice
    assert line.startswith("all prompts of separate-before-n3-dup1-cold share their first 116 ")
    assert "4 of them are recomputed in every prompt" in line
    assert line.endswith("which a wording of 112 tokens would avoid")


@pytest.mark.parametrize(
    "tables",
    [
        {"grid": BEFORE | {"n": 1}},
        {"grid": BEFORE | {"instruction": "after"}},
        {"grid": BEFORE, "measure": {"cache_state": "off"}},
        {"grid": BEFORE, "engine": {"block_size": 4}},
    ],
)
def test_plan_no_advice_whole_blocks(byte_model: Path, tables: dict[str, Any]) -> None:
    """One prompt, nothing shared, no cache, or a prefix of whole blocks: nothing is said."""
    assert plan_cells.make(sweep(model={"name": str(byte_model)}, **tables)).advice == ()


def _weighty(folder: Path) -> str:
    """Return a copy of a model folder that seems to hold weights."""
    copy = folder.with_name("weighty")
    copy.mkdir(exist_ok=True)
    for name in ("config.json", "tokenizer.json"):
        (copy / name).write_bytes((folder / name).read_bytes())
    (copy / "model.safetensors").write_bytes(b"")
    return str(copy)

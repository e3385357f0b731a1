"""Constrained answers in the model's chat template, on the real engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.engine_sweep import ENGINE, run

import packsweep
from packsweep.models.resolve import resolve
from packsweep.models.tokenizer import load as load_tokenizer
from packsweep.plan import cells as plan_cells
from packsweep.sweep import read

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(3600)]
pytest.importorskip("vllm")

MODEL = "embedded:smollm2-135m"
SWEEP = f"""
[model]
name = "{MODEL}"
[grid]
STRATEGY
n = 7
duplication = 2
template = "chat"
answer = "choice"
{ENGINE}
[measure]
repeats = 2
"""


ASKED = [
    # Of 7 texts one has a prompt of its own.
    pytest.param('strategy = "chunked"\npack_size = 3', id="chunked"),
    pytest.param('strategy = "separate"', id="separate", marks=pytest.mark.long),
]


@pytest.fixture(scope="module", params=ASKED)
def sweep_file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("answers") / "answers.toml"
    path.write_text(SWEEP.replace("STRATEGY", request.param), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def results(sweep_file: Path) -> Path:
    folder = sweep_file.parent / "results"
    done = run("run", str(sweep_file), "--results", str(folder))
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_every_review_has_a_label(results: Path) -> None:
    """A constrained answer holds exactly one label for each text.

    By a grammar it ended by itself; one of the labels' own tokens is all that was asked.
    """
    passes = packsweep.load(results)
    assert passes["outcome"].tolist() == ["ok"] * 2
    assert (passes["coverage"] == 1).all()
    assert (passes["labels_missing"] == 0).all()
    assert (passes["labels_surplus"] == 0).all()
    by_tokens = set(packsweep.load(results, "summary")["strategy"]) == {"separate"}
    expected = {"length" if by_tokens else "stop"}
    assert set(packsweep.load(results, "requests")["finish_reason"]) == expected


def test_output_tokens_are_not_forced(results: Path) -> None:
    """A label of one token ends after it: by a grammar with the end-of-sequence token."""
    requests = packsweep.load(results, "requests")
    alone = requests[requests["num_texts"] == 1]
    assert not alone.empty
    by_tokens = len(alone) == len(requests)
    assert set(alone["output_tokens"]) == {1 if by_tokens else 2}


def test_prompts_are_the_rendered_template(results: Path, sweep_file: Path) -> None:
    """Prompt tokens are those of the plan and of transformers' own chat template."""
    planned = json.loads(run("plan", str(sweep_file), "--json").stdout)["cells"]
    counted = {cell["cell_id"]: cell["prompt_tokens"] for cell in planned}
    measured = packsweep.load(results, "summary").set_index("cell_id")["prompt_tokens"]
    assert measured.to_dict() == counted


def test_rendered_ids_are_those_of_transformers() -> None:
    """The text rendered at plan has the token ids of apply_chat_template."""
    transformers: Any = pytest.importorskip("transformers")
    model = resolve(MODEL)
    tokenizer = load_tokenizer(model)
    assert tokenizer.chat is not None
    reference = transformers.AutoTokenizer.from_pretrained(model.tokenizer_path)
    content = "A fine film.\nIs it <|im_end|> good?"
    expected = reference.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, return_dict=False
    )
    text = tokenizer.chat.render(content)
    assert tokenizer.encode([text], add_special_tokens=False) == [expected]


def test_cached_tokens_equal_expected_ones(results: Path) -> None:
    """Copies and the template's own beginning come from the cache, as block arithmetic says."""
    requests = packsweep.load(results, "requests")
    assert (requests["cached_tokens"] == requests["expected_cached_tokens"]).all()
    assert requests.groupby("copy")["cached_tokens"].sum()[1] > 0


def test_output_tokens_are_the_planned_ones(results: Path, sweep_file: Path) -> None:
    """This tokenizer spells every label in one token, so the plan's guess is exact."""
    made = plan_cells.make(read.load(sweep_file))
    planned = {each.cell.cell_id: each.output_tokens for each in made.cells}
    measured = packsweep.load(results, "summary").set_index("cell_id")["output_tokens"]
    assert measured.to_dict() == planned

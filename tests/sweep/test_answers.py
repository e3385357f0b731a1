"""Constrained answers, what they are checked for, and how sure an accuracy is."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import binomtest
from tests.fakes import REVIEWS, cell, cells, pass_row, sweep, written

import packsweep
from packsweep.analysis import frames, labels
from packsweep.engines import PassResult, RequestResult
from packsweep.engines.simulated import SimulatedEngine
from packsweep.errors import ModelError, ResultsError, SpecError
from packsweep.models import tokenizer
from packsweep.models.resolve import Model, resolve
from packsweep.plan import cells as plan_cells
from packsweep.plan import label_budget
from packsweep.plan.prefix_cache import Submitted, expected_cached_tokens
from packsweep.report import cell as cell_
from packsweep.results import schema, stats
from packsweep.results.store import Store
from packsweep.run.measure import metrics, scoring
from packsweep.run.measure.checks import disagreement
from packsweep.run.measure.metrics import Answered
from packsweep.run.measure.workload import Workload
from packsweep.sweep import answers, expansion, read
from packsweep.sweep.cells import Cell
from packsweep.sweep.prompts import Prompt
from packsweep.sweep.texts import LABELS, LabelledText

LABEL = st.sampled_from(LABELS)
COUNTS = st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


def choice(**grid: Any) -> Cell:
    """Return a cell of constrained answers."""
    return cells(grid={"answer": "choice", **grid})[0]


# The interval.


@given(COUNTS)
def test_wilson_as_scipy(counts: tuple[int, int]) -> None:
    """The interval is the one that scipy gives."""
    reference = binomtest(*counts).proportion_ci(0.95, method="wilson")
    assert stats.wilson(*counts) == pytest.approx((reference.low, reference.high), abs=1e-12)


@given(st.integers(1, 10**6), st.floats(0, 1))
def test_wilson_contains_share(trials: int, share: float) -> None:
    """The share lies in its interval, and the interval within 0 and 1, whole counts or not."""
    interval = stats.wilson(share * trials, trials)
    assert interval is not None
    assert 0 <= interval[0] <= share + 1e-9
    assert share - 1e-9 <= interval[1] <= 1


def test_wilson_no_trials() -> None:
    """Without trials there is no interval."""
    assert stats.wilson(0, 0) is None


def test_wilson_all_right() -> None:
    """Four of four is no proof: the interval begins at 51 %."""
    assert stats.wilson(4, 4) == pytest.approx((0.51, 1.0), abs=0.001)


# The constraint.


@given(st.lists(LABEL, min_size=1, max_size=50))
def test_lines_regex_accepts_lines(lines: list[str]) -> None:
    """As many labels as asked for, a line each, are an answer; one more or one less is none."""
    pattern = answers.pattern(LABELS, len(lines), "lines")
    assert re.fullmatch(pattern, "\n".join(lines))
    assert not re.fullmatch(pattern, "\n".join([*lines, "positive"]))
    assert not re.fullmatch(pattern, "\n".join(lines[1:]))


@given(st.data(), st.integers(1, 4))
def test_lines_regex_accepts_labels_alone(data: st.DataObject, num_lines: int) -> None:
    """What the constraint lets through is scored without a missing or a surplus label."""
    pattern = answers.pattern(LABELS, num_lines, "lines")
    text = data.draw(st.from_regex(pattern, fullmatch=True))
    found, num_surplus = scoring.SENTIMENTS.read(text, num_lines)
    assert (len(found), None in found, num_surplus) == (num_lines, False, 0)


def test_lines_regex_size() -> None:
    """The constraint of 400 lines is no longer than that of 40 by more than a digit."""
    assert len(answers.pattern(LABELS, 400, "lines")) == (
        len(answers.pattern(LABELS, 41, "lines")) + 1
    )


# The axis.


def test_axis_default_free() -> None:
    """An answer is free unless the sweep says otherwise."""
    assert cell().answer == "free"


def test_choice_lengths_not_forced() -> None:
    """A constrained answer ends by itself and has room for any spelling of a label."""
    found = choice()
    assert found.ignore_eos is False
    assert found.output_tokens_per_text == answers.max_tokens_per_text(LABELS, 2, "lines") == 9


def test_choice_same_cell_for_any_forced_length() -> None:
    """An axis of forced lengths multiplies the free answers alone."""
    found = cells(grid={"answer": ["free", "choice"], "output_tokens_per_text": [1, 4]})
    assert [(each.answer, each.output_tokens_per_text) for each in found] == [
        ("free", 1),
        ("free", 4),
        ("choice", 9),
    ]


def test_choice_other_cell_same_slug() -> None:
    """The answer is in the cell's hash, not in its readable part."""
    assert choice().cell_id != cell().cell_id
    assert choice().slug == cell().slug


def test_choice_refuses_forced_length() -> None:
    """A length that could have no effect is refused with its name."""
    grid = {"n": 1, "answer": "choice", "output_tokens_per_text": 2}
    with pytest.raises(SpecError, match=r"output_tokens_per_text: has no effect with answer cho"):
        read.parse({"model": {"name": "m"}, "grid": grid}, where="f.toml")


@pytest.mark.parametrize("strategy", ["packed", "separate"])
def test_workload_choice(strategy: str) -> None:
    """Every request may answer with the labels alone, warm-up included: it compiles them."""
    work = Workload.of(choice(strategy=strategy), REVIEWS)
    every = [*work.requests, *work.warmup]
    assert {request.choice for request in every} == {LABELS}
    assert {(request.max_tokens, request.ignore_eos) for request in every} == {
        (9 * (2 if strategy == "packed" else 1), False)
    }


def test_workload_free() -> None:
    """A free answer has no constraint."""
    assert {request.choice for request in Workload.of(cell(), REVIEWS).requests} == {()}


# The check.


def answered(text: str, *, num_texts: int = 2, **changes: Any) -> Answered:
    """Return a finished request whose answer is ``text``."""
    result = RequestResult(
        prompt_token_ids=[1, 2],
        output_tokens=4,
        cached_tokens=0,
        text=text,
        answer_cut=False,
        finish_reason="stop",
    )
    return Answered(
        prompt=Prompt(text="x", first=0, num_texts=num_texts),
        prompt_index=0,
        copy=0,
        result=replace(result, **changes),
        expected_cached=0,
        expected_labels=LABELS[:num_texts],
        score=scoring.score(text, LABELS[:num_texts], cut=False),
    )


def test_disagreement_choice_fine() -> None:
    """A constrained answer that stopped with its labels agrees, whatever its length."""
    assert disagreement(choice(), [answered("negative\nnegative")]) is None


def test_disagreement_choice_cut() -> None:
    """One that its limit ended is cut."""
    problem = disagreement(choice(), [answered("negative\nnega", finish_reason="length")])
    assert problem == "request 0 was cut after 4 output tokens; its answer is constrained"


@pytest.mark.parametrize("text", ["", "positive", "positive\npositive\npositive", "two good ones"])
def test_disagreement_choice_unconstrained(text: str) -> None:
    """One that does not hold a label for each text was not constrained."""
    problem = disagreement(choice(), [answered(text)])
    assert problem is not None
    assert "labels, not 2, though constrained" in problem


def test_disagreement_free_holds_anything() -> None:
    """A free answer of the forced length agrees without a label."""
    assert disagreement(cell(), [answered("?", output_tokens=2, finish_reason="length")]) is None


@given(st.permutations(range(6)), st.integers(1, 3))
def test_expected_cached_in_order_of_scheduling(order: list[int], per_step: int) -> None:
    """Whoever is scheduled first computes the shared prefix, whenever it was submitted."""
    prompt = list(range(9))
    requests = [Submitted(prompt, 1, order.index(index) // per_step) for index in range(6)]
    counts = expected_cached_tokens([requests], block_size=4, num_blocks=None)
    first = min(range(6), key=lambda index: (order.index(index) // per_step, index))
    assert counts == [0 if index == first else 8 for index in range(6)]


def test_simulated_choice(byte_model: Path) -> None:
    """The simulated engine keeps to the constraint, and answers the same again."""
    of = choice(strategy="chunked", pack_size=3, n=7)
    engine = SimulatedEngine(of, resolve(str(byte_model), load_format="dummy"))
    work = Workload.of(of, REVIEWS)
    first, second = (engine.run(work.requests).requests for _ in range(2))
    for request, result in zip(work.requests, first, strict=True):
        assert re.fullmatch(answers.pattern(LABELS, request.num_texts, "lines"), result.text)
        assert (result.finish_reason, result.answer_cut) == ("stop", False)
        assert result.output_tokens == len(result.text) + 1 <= request.max_tokens
    assert [result.text for result in first] == [result.text for result in second]


# The tables.


def _requests(found: Sequence[Sequence[str | None]], **changes: Any) -> pd.DataFrame:
    """Return the requests table of a pass of prompts with these labels, all expected positive."""
    first, records = 0, []
    for index, own in enumerate(found):
        record = {
            "cell_id": "c",
            "repeat": 0,
            "request": index,
            "copy": 0,
            "first_text": first,
            "expected_labels": ["positive"] * len(own),
            "found_labels": list(own),
        }
        records.append({**record, **changes})
        first += len(own)
    return pd.DataFrame(records)


def test_labels_rows() -> None:
    """A text's row has its place in the prompt and among the n, and none where none was found."""
    frame = labels.of_requests(_requests([["positive", None], ["negative"]]))
    assert frame.to_numpy().tolist() == [
        ["c", 0, 0, "positive", "positive"],
        ["c", 1, 1, "positive", labels.NONE],
        ["c", 2, 0, "positive", "negative"],
    ]


@pytest.mark.parametrize("column", ["repeat", "copy"])
def test_labels_first_pass_alone(column: str) -> None:
    """Repeats and copies are no further evidence."""
    again = pd.concat([_requests([["positive"]]), _requests([["negative"]], **{column: 1})])
    assert labels.of_requests(again)["found"].tolist() == ["positive"]


def test_labels_not_scored() -> None:
    """Answers of random weights have no rows, and no positions."""
    frame = labels.of_requests(_requests([["positive"]], found_labels=None))
    assert frame.empty
    assert labels.by_position(frame).empty
    assert labels.confusion(frame).empty


def test_by_position() -> None:
    """Found and right are counted by position, with the interval of as few texts."""
    found = labels.of_requests(_requests([["positive", "negative"], ["positive", None]]))
    rows = labels.by_position(found).to_dict("records")
    assert [(row["first"], row["coverage"], row["accuracy"]) for row in rows] == [
        (0, 1.0, 1.0),
        (1, 0.5, 0.0),
    ]
    assert (rows[0]["accuracy_ci_low"], rows[0]["accuracy_ci_high"]) == stats.wilson(2, 2)


FOUND = st.lists(
    st.lists(st.sampled_from([*LABELS, None]), min_size=1, max_size=30), min_size=1, max_size=5
)


@given(FOUND, st.integers(1, 12))
def test_by_position_ranges(prompts: list[list[str | None]], num_ranges: int) -> None:
    """Ranges follow each other without a gap, are at most as many as asked, and lose no text."""
    assume(len(prompts[0]) >= max(map(len, prompts)))
    found = labels.of_requests(_requests(prompts))
    ranges = labels.by_position(found, num_ranges=num_ranges)
    assert len(ranges) == min(num_ranges, len(prompts[0]))
    assert ranges["first"].tolist() == [0, *(ranges["last"] + 1)[:-1]]
    assert ranges["num_texts"].sum() == sum(map(len, prompts))
    assert ranges["labels_right"].sum() == sum(own.count("positive") for own in prompts)


@given(FOUND)
def test_confusion_complete(prompts: list[list[str | None]]) -> None:
    """Every text is in one field of the confusion table."""
    counted = labels.confusion(labels.of_requests(_requests(prompts)))
    every = [label or labels.NONE for own in prompts for label in own]
    assert dict(zip(counted["found"], counted["num_texts"], strict=True)) == {
        label: every.count(label) for label in every
    }


def test_pass_values_missing() -> None:
    """A text without a label is missing."""
    item = answered("negative")
    values = metrics.pass_values(
        0, PassResult(duration_s=1.0, requests=(item.result,)), [item], tokenize_s=None
    )
    assert (values["labels_found"], values["labels_missing"]) == (1, 1)


def _summary(**values: Any) -> dict[str, Any]:
    """Return the summary of two passes over n = 100 texts, submitted twice each."""
    of = replace(cell(), n=100, duplication=2)
    rows = [{**pass_row(of, num_texts=200, **values), "repeat": repeat} for repeat in (0, 1)]
    passes = pd.DataFrame(rows, columns=[column.name for column in schema.PASSES])
    return frames.summarise(passes)[0]


def test_summary_interval_over_distinct_reviews() -> None:
    """Neither copies nor repeats narrow the interval of the accuracy."""
    row = _summary(accuracy=0.8)
    assert (row["accuracy_ci_low"], row["accuracy_ci_high"]) == stats.wilson(80, 100)


def test_summary_interval_not_scored() -> None:
    """Without an accuracy there is no interval."""
    row = _summary()
    assert (row["accuracy_ci_low"], row["accuracy_ci_high"]) == (None, None)


def test_table_accuracy() -> None:
    """An accuracy is shown with its interval, and undefined as a dash."""
    row = {"accuracy": 0.8, "accuracy_ci_low": 0.711, "accuracy_ci_high": 0.8666}
    assert cell_.accuracy(row) == "80% (71-87%)"
    assert cell_.accuracy(dict.fromkeys(row)) == "-"


# The command line.

Cli = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def scored(byte_model: Path, cli: Cli, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of a simulated sweep whose answers are scored."""
    folder = tmp_path_factory.mktemp("scored")
    model = folder / "model"
    model.mkdir()
    for name in ("config.json", "tokenizer.json"):
        (model / name).write_bytes((byte_model / name).read_bytes())
    (model / "model.safetensors").write_bytes(b"")
    sweep = folder / "s.toml"
    sweep.write_text(
        f'[model]\nname = "{model}"\n'
        '[grid]\nn = 24\nstrategy = ["packed", "separate"]\nanswer = ["free", "choice"]\n'
        '[engine]\nkind = "simulated"\n[simulated]\ncoverage = 0.5\n[measure]\nrepeats = 2\n'
    )
    done = cli("run", sweep, "--results", folder / "results", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "results"


def test_choice_finds_every_label(scored: Path) -> None:
    """Constrained answers miss nothing where free ones do."""
    summary = packsweep.load(scored, "summary")
    free, choice_ = (summary[summary["answer"] == name] for name in ("free", "choice"))
    assert (choice_["coverage"] == 1).all()
    assert (free["coverage"] < 1).all()


def test_positions_of_texts_without_labels() -> None:
    """Beside cells of labelled texts their accuracy is undefined, no number and no NaN."""
    own = _requests([["positive"]])
    other = _requests([["negative"]], cell_id="d", expected_labels=None)
    rows = labels.records(labels.by_position(labels.of_requests(pd.concat([own, other]))))
    assert [row["accuracy"] for row in rows] == [1.0, None]


def test_load_labels(scored: Path) -> None:
    """The frame of labels has a row for each distinct text of each cell."""
    frame = packsweep.load(scored, "labels")
    assert len(frame) == 4 * 24
    right = frame["found"].eq(frame["expected"]).groupby(frame["cell_id"]).mean()
    summary = packsweep.load(scored, "summary").set_index("cell_id")["accuracy"]
    assert right.to_dict() == pytest.approx(summary.to_dict())


def test_show_positions(scored: Path, cli: Cli) -> None:
    """Positions are shown in at most ten ranges, counted from 1; JSON has every one."""
    shown = cli("show", scored, "--positions", cwd=scored).stdout
    assert re.search(r"\b1-3\b", shown)
    assert re.search(r"\b23-24\b", shown)
    rows = json.loads(cli("show", scored, "--positions", "--json", cwd=scored).stdout)
    assert len(rows) == 2 * 24 + 2


def test_show_confusion(scored: Path, cli: Cli) -> None:
    """Every cell has a line for each expected label."""
    shown = cli("show", scored, "--confusion", cwd=scored).stdout
    assert shown.count("positive") == 4 + 1
    rows = json.loads(cli("show", scored, "--confusion", "--json", cwd=scored).stdout)
    assert sum(row["num_texts"] for row in rows) == 4 * 24


def test_show_not_scored(cli: Cli, sweep_file: Path, tmp_path: Path) -> None:
    """Random weights have no labels to show, which is said."""
    cli("run", sweep_file, "--results", "r", cwd=tmp_path)
    shown = cli("show", "r", "--positions", cwd=tmp_path).stdout
    assert shown == "no scored answers: the weights are random\n"


def test_show_two_tables(cli: Cli, scored: Path) -> None:
    """Two tables at once are refused."""
    done = cli("show", scored, "--positions", "--confusion", cwd=scored)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


def test_load_unknown_table(tmp_path: Path) -> None:
    """The message names the tables that there are."""
    store = Store(tmp_path / "r")
    store.prepare()
    written(store, cell())
    with pytest.raises(ResultsError, match="passes, requests, summary and labels"):
        packsweep.load(store.root, "answers")  # type: ignore[arg-type]


# Constrained answers whose labels are one token each.

LETTERS = {"answer": "choice", "strategy": "separate", "n": 4, "label_form": "letters"}


def _planned(byte_model: Path, **grid: Any) -> tuple[Cell, ...]:
    """Return the cells of a model of one token a byte, to which letters are one token."""
    made = plan_cells.make(sweep(model={"name": str(byte_model)}, grid=LETTERS | grid))
    return tuple(each.cell for each in made.cells)


@pytest.mark.parametrize(
    ("grid", "picks_token"),
    [
        ({}, True),
        ({"label_form": "words"}, False),
        ({"strategy": "packed", "n": 1}, True),
        ({"strategy": "packed", "n": 1, "format": "json"}, False),
        ({"strategy": "chunked", "pack_size": 3}, False),
    ],
)
def test_choice_among_tokens(byte_model: Path, grid: dict[str, Any], picks_token: bool) -> None:  # noqa: FBT001
    """One bare label a prompt that is one token is chosen among tokens; else by a grammar."""
    (of,) = _planned(byte_model, **grid)
    assert of.picks_token is picks_token
    assert of.ignore_eos is picks_token  # its one token is forced


def test_choice_among_tokens_is_another_cell() -> None:
    """What a grammar constrained keeps the id that it had, and is not what is measured now."""
    (grammar,) = cells(grid=LETTERS)
    assert grammar.cell_id == "separate-n4-dup1-cold-b3ee3fe45f2e"
    (of,) = expansion.expand(
        sweep(grid=LETTERS),
        REVIEWS,
        model_fingerprint="weights",
        max_model_len=100,
        label_tokens=lambda _words: (65, 66),
    )
    assert of.picks_token
    assert of.cell_id != grammar.cell_id


def test_choice_among_tokens_scored(byte_model: Path) -> None:
    """A pass asks for one token among the labels' own, and holds a label for every text."""
    (of,) = _planned(byte_model)
    model = resolve(str(byte_model), load_format="dummy")
    work = Workload.of(of, REVIEWS[:4], tokenizer=tokenizer.load(model))
    asked = [(request.max_tokens, request.allowed_token_ids) for request in work.requests]
    letters = tuple(tokenizer.load(model).encode(["A", "B"])[index][0] for index in (0, 1))
    assert asked == [(1, letters)] * 4
    result, items = _answered(work, model)
    assert disagreement(of, items) is None
    values = metrics.pass_values(0, result, items, tokenize_s=None)
    assert (values["labels_found"], values["output_tokens"]) == (4, 4)


def test_disagreement_no_label_among_tokens(byte_model: Path) -> None:
    """An answer that is none of the labels came from an engine that was not constrained."""
    (of,) = _planned(byte_model, n=1)
    item = answered("C", num_texts=1, output_tokens=1, finish_reason="length")
    assert (disagreement(of, [item]) or "").startswith("request 0 holds 0 labels, not 1")


@pytest.mark.parametrize(
    ("label_ids", "tokens"),
    [([[7], [8]], (7, 8)), ([[7], [8, 9]], ()), ([[7], [7]], ()), ([[7], []], ())],
)
def test_own_tokens(label_ids: list[list[int]], tokens: tuple[int, ...]) -> None:
    """Each label is a token of its own, or none counts."""
    assert answers.own_tokens(label_ids) == tokens


# Answers by log-probabilities.


def _scored(byte_model: Path, **grid: Any) -> tuple[Workload, list[Answered]]:
    """Return a pass of answers by log-probabilities on the simulated engine."""
    of = cells(grid={"answer": "logprob", "strategy": "separate", "n": 4, **grid})[0]
    model = resolve(str(byte_model), load_format="dummy")
    work = Workload.of(of, REVIEWS[:4], tokenizer=tokenizer.load(model))
    return work, _answered(work, model)[1]


def _answered(work: Workload, model: Model) -> tuple[PassResult, list[Answered]]:
    """Run a pass and score it as one of a model with weights of its own."""
    engine = SimulatedEngine(work.cell, model)
    result = engine.run(work.requests)
    context = metrics.PassContext(
        workload=work,
        model=replace(model, random_weights=False),
        info=engine.info,
        device=None,
    )
    return result, metrics.answered(context, [result])


def test_logprob_one_token(byte_model: Path) -> None:
    """Labels that differ in their first token take one request of one output token each."""
    work, items = _scored(byte_model)
    assert [(request.max_tokens, len(request.score_token_ids)) for request in work.requests] == [
        (1, 2)
    ] * 4
    assert all(item.score and item.score.labels[0] in LABELS for item in items)
    rows = [metrics.request_values(0, index, item) for index, item in enumerate(items)]
    assert all(0.5 <= row["confidence"] <= 1 for row in rows)
    assert disagreement(work.cell, items) is None


def test_logprob_shared_beginning(byte_model: Path) -> None:
    """Labels that begin alike take a further request where they part; a text counts once."""
    task = {"name": "t", "labels": ["ab", "ac", "x"], "instruction": "{labels}?"}
    asked = sweep(
        task=task, grid={"answer": "logprob", "strategy": "separate", "n": 2}, model={"name": "m"}
    )
    texts = [LabelledText(text=f"t{index}", label=None) for index in range(2)]
    (of,) = expansion.expand(asked, texts, model_fingerprint="w", max_model_len=100)
    model = resolve(str(byte_model), load_format="dummy")
    work = Workload.of(of, texts, tokenizer=tokenizer.load(model))
    assert [request.text[-3:] for request in work.requests] == ["x?\n", "?\na"] * 2
    result, items = _answered(work, model)
    values = metrics.pass_values(0, result, items, tokenize_s=None)
    assert (values["num_requests"], values["num_texts"], values["output_tokens"]) == (4, 2, 4)
    assert (values["labels_found"], values["labels_right"], values["accuracy"]) == (2, None, None)


def test_logprob_labels_written_alike(byte_model: Path) -> None:
    """Labels that a tokenizer does not tell apart are refused."""
    found = tokenizer.load(resolve(str(byte_model), load_format="dummy"))
    with pytest.raises(ModelError, match=r"task.labels: the model's tokenizer writes two of"):
        label_budget._branches(["a", "a"], found)


def test_disagreement_logprob() -> None:
    """An engine that gives no log-probabilities measured something else."""
    of = cells(grid={"answer": "logprob", "strategy": "separate", "n": 1})[0]
    item = answered("x", num_texts=1, output_tokens=1, finish_reason="length")
    assert disagreement(of, [item]) == "request 0 came back without log-probabilities"

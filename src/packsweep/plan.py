"""What a sweep will do, before it costs anything: cells, requests, tokens, what cannot fit.

Needs the reviews and the tokenizer, and nothing of vLLM, torch or Ray.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from packsweep import grid, label_budget, models, reviews, tokens
from packsweep.answers import LabelCost
from packsweep.chat import ChatTemplate
from packsweep.errors import ModelError, SpecError
from packsweep.grid import Cell
from packsweep.models import Model
from packsweep.prompts import Prompt
from packsweep.reviews import Review
from packsweep.spec import Sweep
from packsweep.tokens import Tokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedCell:
    """A cell and what one pass of it submits.

    Attributes:
        prompt_tokens: of all requests, every copy counted.
        longest_prompt_tokens: of the longest prompt.
        output_tokens: of all requests; of constrained answers as many as labels usually take.
        infeasible: why no engine can run it, or None.
    """

    cell: Cell
    num_requests: int
    prompt_tokens: int
    longest_prompt_tokens: int
    output_tokens: int
    infeasible: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A sweep, worked out.

    Attributes:
        cells: in the order of the grid.
        schedule: the same cells in the order in which they are measured.
        chat: the model's chat template, where a cell uses it.
        advice: what the user should know before a run, or None.
        gpu_hour_usd: what an hour of a GPU costs, stored with the results.
    """

    model: Model
    reviews: tuple[Review, ...]
    cells: tuple[PlannedCell, ...]
    schedule: tuple[PlannedCell, ...]
    chat: ChatTemplate | None = None
    advice: str | None = None
    gpu_hour_usd: float | None = None


def make(sweep: Sweep) -> Plan:
    """Work out every cell of ``sweep``.

    Raises:
        UserError: the model, the tokenizer or the reviews are not there or do not suffice.
    """
    model = models.resolve(
        sweep.model.name,
        revision=sweep.model.revision,
        tokenizer=sweep.model.tokenizer,
        load_format=sweep.model.load_format,
    )
    _check_context(sweep, model)
    largest = max(n for each in sweep.all for n in each.grid.n)
    rows = reviews.load(sweep.reviews.source, limit=largest, seed=sweep.reviews.seed)
    tokenizer = tokens.load(model)
    asked = any("chat" in each.grid.template for each in sweep.all)
    chat = _chat(tokenizer, model) if asked else None
    cells = grid.expand(
        sweep,
        rows,
        model_fingerprint=model.fingerprint,
        max_model_len=model.max_model_len,
        chat=chat,
    )
    lengths = _Lengths(tokenizer)
    cost = label_budget.cost_of(tokenizer)
    planned = {
        cell: _planned(cell, cell.build_prompts(rows, chat), model, lengths, cost) for cell in cells
    }
    return Plan(
        model=model,
        reviews=rows,
        cells=tuple(planned.values()),
        schedule=tuple(planned[c] for c in grid.schedule(cells, sweep.measure.order_seed)),
        chat=chat,
        advice=_advice(cells, cost),
        gpu_hour_usd=sweep.cost.gpu_hour_usd,
    )


def _advice(cells: Sequence[Cell], cost: LabelCost) -> str | None:
    """Return what to know of answers too short for their labels, if there are such."""
    short = [
        cell
        for cell in cells
        if cell.answer == "free"
        and cell.strategy != "separate"
        and cell.load_format != "dummy"
        and cost.labels_held(cell.n * cell.output_tokens_per_review) < cell.n
    ]
    if not short:
        return None
    most = max(short, key=lambda cell: cell.n)
    num_tokens = most.n * most.output_tokens_per_review
    return (
        f"answers are too short for their labels in {len(short)} cells: the {num_tokens} output "
        f"tokens of {most.slug} hold {cost.labels_held(num_tokens)} labels of {most.n}, a line "
        f"each; grid.output_tokens_per_review = {cost.per_review} has room for all"
    )


def _chat(tokenizer: Tokenizer, model: Model) -> ChatTemplate:
    """Return the model's chat template; refuse a model without one."""
    if tokenizer.chat is None:
        raise ModelError(
            f"grid.template: {model.name} has no chat template; use original or corrected, or "
            "name a tokenizer that has one with model.tokenizer"
        )
    return tokenizer.chat


def _check_context(sweep: Sweep, model: Model) -> None:
    """Refuse a context that the model does not have; vLLM would, after minutes."""
    longest = max(length or 0 for each in sweep.all for length in each.engine.max_model_len)
    if longest > model.max_model_len:
        message = (
            f"engine.max_model_len: {longest} is more than the {model.max_model_len} positions "
            f"of {model.name}"
        )
        raise SpecError(message)


class _Lengths:
    """Prompt lengths in tokens; each text is tokenized once, however many cells submit it."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._known: dict[tuple[str, bool], int] = {}

    def of(self, prompts: Sequence[Prompt]) -> list[int]:
        keys = [(prompt.text, prompt.add_special_tokens) for prompt in prompts]
        for add in (True, False):
            new = [key for key in keys if key[1] is add and key not in self._known]
            texts = [text for text, _ in new]
            counts = self._tokenizer.count(texts, add_special_tokens=add)
            self._known.update(zip(new, counts, strict=True))
        return [self._known[key] for key in keys]


def _planned(
    cell: Cell, prompts: Sequence[Prompt], model: Model, lengths: _Lengths, cost: LabelCost
) -> PlannedCell:
    counts = lengths.of(prompts)
    most = [prompt.num_reviews * cell.output_tokens_per_review for prompt in prompts]
    needed = max(count + output for count, output in zip(counts, most, strict=True))
    outputs = most
    if cell.answer == "choice":
        outputs = [cost.constrained_tokens(prompt.num_reviews) for prompt in prompts]
    return PlannedCell(
        cell=cell,
        num_requests=len(prompts) * cell.duplication,
        prompt_tokens=sum(counts) * cell.duplication,
        longest_prompt_tokens=max(counts),
        output_tokens=sum(outputs) * cell.duplication,
        infeasible=_infeasible(cell, model, needed),
    )


def _infeasible(cell: Cell, model: Model, needed: int) -> str | None:
    """Return why the longest request, prompt and output, cannot run, or None."""
    limit = int(cell.settings["max_model_len"] or 0)
    if needed > limit:
        return f"the longest request needs {needed} tokens and max_model_len is {limit}"
    kv_bytes = cell.settings["kv_cache_memory_bytes"]
    per_token = model.shape.kv_cache_bytes_per_token(_bytes_per_element(cell))
    if kv_bytes is None or limit * per_token <= int(kv_bytes):
        return None
    what, length = ("the longest request", needed)
    if needed * per_token <= int(kv_bytes):  # vLLM keeps room for one request of max_model_len
        what, length = (f"max_model_len {limit} (lower it: {needed} would do)", limit)
    return (
        f"{what} needs {length * per_token:.0f} B of KV cache and "
        f"kv_cache_memory_bytes is {kv_bytes}"
    )


def _bytes_per_element(cell: Cell) -> float:
    if str(cell.settings["kv_cache_dtype"]).startswith("fp8"):
        return 1.0
    return 4.0 if cell.settings["dtype"] in {"float32", "float"} else 2.0

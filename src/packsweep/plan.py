"""What a sweep will do, before it costs anything: cells, requests, tokens, what cannot fit.

Needs the reviews and the tokenizer, and nothing of vLLM, torch or Ray.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from packsweep import grid, models, reviews, tokens
from packsweep.errors import SpecError
from packsweep.grid import Cell
from packsweep.models import Model
from packsweep.prompts import Prompt
from packsweep.reviews import Review
from packsweep.spec import Sweep


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedCell:
    """A cell and what one pass of it submits.

    Attributes:
        prompt_tokens: of all requests, every copy counted.
        longest_prompt_tokens: of the longest prompt.
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
        gpu_hour_usd: what an hour of a GPU costs, stored with the results.
    """

    model: Model
    reviews: tuple[Review, ...]
    cells: tuple[PlannedCell, ...]
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
    rows = reviews.load(sweep.reviews.source, limit=max(sweep.grid.n), seed=sweep.reviews.seed)
    cells = grid.expand(
        sweep, rows, model_fingerprint=model.fingerprint, max_model_len=model.max_model_len
    )
    lengths = _Lengths(model)
    return Plan(
        model=model,
        reviews=rows,
        cells=tuple(_planned(cell, cell.build_prompts(rows), model, lengths) for cell in cells),
        gpu_hour_usd=sweep.cost.gpu_hour_usd,
    )


def _check_context(sweep: Sweep, model: Model) -> None:
    """Refuse a context that the model does not have; vLLM would, after minutes."""
    longest = max(length or 0 for length in sweep.engine.max_model_len)
    if longest > model.max_model_len:
        message = (
            f"engine.max_model_len: {longest} is more than the {model.max_model_len} positions "
            f"of {model.name}"
        )
        raise SpecError(message)


class _Lengths:
    """Prompt lengths in tokens; each text is tokenized once, however many cells submit it."""

    def __init__(self, model: Model) -> None:
        self._tokenizer = tokens.load(model)
        self._known: dict[str, int] = {}

    def of(self, prompts: Sequence[Prompt]) -> list[int]:
        new = [prompt.text for prompt in prompts if prompt.text not in self._known]
        self._known.update(zip(new, self._tokenizer.count(new), strict=True))
        return [self._known[prompt.text] for prompt in prompts]


def _planned(cell: Cell, prompts: Sequence[Prompt], model: Model, lengths: _Lengths) -> PlannedCell:
    counts = lengths.of(prompts)
    outputs = [prompt.num_reviews * cell.output_tokens_per_review for prompt in prompts]
    needed = max(count + output for count, output in zip(counts, outputs, strict=True))
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

"""What a sweep will do, before it costs anything: cells, requests, tokens, what cannot fit.

Needs the texts and the tokenizer, and nothing of vLLM, torch or Ray.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

from packsweep.errors import ModelError, SpecError
from packsweep.machine import environment, processor
from packsweep.models.chat import ChatTemplate
from packsweep.models.resolve import Model, resolve
from packsweep.models.tokenizer import Tokenizer, give_back_memory
from packsweep.models.tokenizer import load as load_tokenizer
from packsweep.plan import label_budget
from packsweep.plan.formats import kv_element_bytes
from packsweep.plan.pass_time import Pass
from packsweep.plan.prefix_cache import PrefixCache, TokenIds
from packsweep.plan.roofline import Work
from packsweep.sweep import cells as sweep_cells
from packsweep.sweep import texts
from packsweep.sweep.answers import LabelCost
from packsweep.sweep.cells import Cell
from packsweep.sweep.prompts import Prompt
from packsweep.sweep.spec import Sweep
from packsweep.sweep.texts import LabelledText

# vLLM's own where the cell names none, on CUDA devices and on the CPU.
# Source: vLLM 0.32, platforms/cpu.py.
_BLOCK_SIZE, _BLOCK_SIZE_CPU = 16, 128


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedCell:
    """A cell and what one pass of it submits.

    Attributes:
        prompt_tokens: of all requests, every copy counted.
        longest_prompt_tokens: of the longest prompt.
        output_tokens: of all requests; of constrained answers as many as labels usually take.
        longest_request_tokens: prompt and output limit of the request that needs most.
        load: what a pass computes, with what the prefix cache serves of it.
        kv_bytes_per_token: what a token takes in the KV cache; None if not known.
        kv_pass_tokens: tokens of the blocks that a pass takes, if none is given up again.
        shared_tokens: with which all its prompts begin alike; 0 of a single prompt.
        infeasible: why no engine can run it, or None.
    """

    cell: Cell
    num_requests: int
    prompt_tokens: int
    longest_prompt_tokens: int
    output_tokens: int
    longest_request_tokens: int
    load: Pass
    kv_bytes_per_token: int | None
    kv_pass_tokens: int
    shared_tokens: int
    infeasible: str | None

    @property
    def cached_tokens(self) -> int:
        """Prompt tokens that the prefix cache serves, by block arithmetic."""
        return self.load.cached_tokens

    @property
    def kv_longest_bytes(self) -> int | None:
        """KV cache of the longest request alone."""
        return self._kv_bytes(self.longest_request_tokens)

    @property
    def kv_pass_bytes(self) -> int | None:
        """KV cache in which a whole pass stays, so that nothing reused is lost."""
        return self._kv_bytes(self.kv_pass_tokens)

    def _kv_bytes(self, num_tokens: int) -> int | None:
        per_token = self.kv_bytes_per_token
        return None if per_token is None else num_tokens * per_token


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A sweep, worked out.

    Attributes:
        cells: in the order of the grid.
        schedule: the same cells in the order in which they are measured.
        chat: the model's chat template, where a cell uses it.
        advice: what the user should know before a run, a line each.
        gpu_hour_usd: what an hour of a GPU costs, stored with the results.
    """

    model: Model
    texts: tuple[LabelledText, ...]
    cells: tuple[PlannedCell, ...]
    schedule: tuple[PlannedCell, ...]
    chat: ChatTemplate | None = None
    advice: tuple[str, ...] = ()
    gpu_hour_usd: float | None = None


def make(sweep: Sweep) -> Plan:
    """Work out every cell of ``sweep``.

    Raises:
        UserError: the model, the tokenizer or the texts are not there or do not suffice.
    """
    model = resolve(
        sweep.model.name,
        revision=sweep.model.revision,
        tokenizer=sweep.model.tokenizer,
        load_format=sweep.model.load_format,
    )
    _check_context(sweep, model)
    if model.shape is None and sweep.engine.kind == "simulated":
        raise SpecError(f"engine.kind: {model.name} cannot be simulated: {model.design}")
    rows = texts.load(sweep.texts.source, limit=sweep.largest_n, seed=sweep.texts.seed)
    tokenizer = load_tokenizer(model)
    chat = _chat(tokenizer, model) if sweep.needs_chat else None
    cells = sweep_cells.expand(
        sweep,
        rows,
        model_fingerprint=model.fingerprint,
        max_model_len=model.max_model_len,
        chat=chat,
        auto_dtype=_auto_dtype(sweep, model),
    )
    tokenized = _Tokenized(tokenizer)
    cost = label_budget.cost_of(tokenizer)
    # Thousands of cells share a few sets of requests.
    alike: dict[tuple[object, ...], PlannedCell] = {}
    planned: dict[Cell, PlannedCell] = {}
    for cell in cells:
        key = _requests_key(cell)
        if key not in alike:
            alike[key] = _planned(cell, cell.build_prompts(rows, chat), model, tokenized, cost)
        planned[cell] = _with_engine(alike[key], cell, model)
    made = Plan(
        model=model,
        texts=rows,
        cells=tuple(planned.values()),
        schedule=tuple(planned[c] for c in sweep_cells.schedule(cells, sweep.measure.order_seed)),
        chat=chat,
        advice=(
            *_not_described(model),
            *(() if model.random_weights else _too_short(cells, cost)),
            *_split_block(planned.values()),
        ),
        gpu_hour_usd=sweep.cost.gpu_hour_usd,
    )
    del tokenizer, tokenized
    give_back_memory()
    return made


def _auto_dtype(sweep: Sweep, model: Model) -> str:
    """Return what the dtype "auto" means: the fastest one on a CPU, else vLLM's own choice."""
    runs_on_cpu = sweep.engine.kind == "vllm" and environment.on_cpu()
    return processor.dtype() if runs_on_cpu and model.quantization is None else "auto"


def _not_described(model: Model) -> Iterator[str]:
    if model.design:
        yield (f"{model.name} is measured without FLOPs, MFU and a forecast: {model.design}")


def _too_short(cells: Sequence[Cell], cost: LabelCost) -> Iterator[str]:
    """Say which answers are too short for their labels, if there are such."""
    short = [
        cell
        for cell in cells
        if cell.answer == "free"
        and cell.strategy != "separate"
        and cost.labels_held(cell.n * cell.output_tokens_per_text) < cell.n
    ]
    if not short:
        return
    most = max(short, key=lambda cell: cell.n)
    num_tokens = most.n * most.output_tokens_per_text
    yield (
        f"answers are too short for their labels in {len(short)} cells: the {num_tokens} output "
        f"tokens of {most.slug} hold {cost.labels_held(num_tokens)} labels of {most.n}, a line "
        f"each; grid.output_tokens_per_text = {cost.per_text} has room for all"
    )


def _split_block(cells: Iterable[PlannedCell]) -> Iterator[str]:
    """Say of the cell with most requests what the cache does not serve of a shared instruction."""
    split = [
        planned
        for planned in cells
        if planned.cell.instruction == "before"
        and planned.cell.cache_state != "off"
        and planned.shared_tokens % _block_size(planned.cell)
    ]
    if not split:
        return
    most = max(split, key=lambda planned: planned.num_requests)
    size, shared = _block_size(most.cell), most.shared_tokens
    again = shared % size
    yield (
        f"all prompts of {most.cell.slug} begin with the same {shared} tokens, and the cache keeps "
        f"whole blocks of {size}: {again} of them are computed again in every prompt, which a "
        f"wording of {shared - again or size} tokens would spare"
    )


def _chat(tokenizer: Tokenizer, model: Model) -> ChatTemplate:
    """Return the model's chat template; refuse a model without one."""
    if tokenizer.chat is None:
        raise ModelError(
            f"grid.template: {model.name} has no chat template; take another template, or "
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


class _Tokenized:
    """Token ids of prompts; each text is tokenized once, however many cells submit it."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._known: dict[tuple[str, bool], TokenIds] = {}

    def ids(self, prompts: Sequence[Prompt]) -> list[TokenIds]:
        keys = [(prompt.text, prompt.add_special_tokens) for prompt in prompts]
        for add in (True, False):
            new = [key for key in keys if key[1] is add and key not in self._known]
            plain = [text for text, _ in new]
            found = self._tokenizer.encode(plain, add_special_tokens=add)
            self._known.update((key, array("I", ids)) for key, ids in zip(new, found, strict=True))
        return [self._known[key] for key in keys]


def _requests_key(cell: Cell) -> tuple[object, ...]:
    """Return all that tells one pass's requests, and what the cache serves of them, from another's.

    The prompts' hash stands for strategy, n, wording and texts.
    """
    return (
        cell.prompts_sha256,
        cell.template,
        cell.answer,
        cell.output_tokens_per_text,
        cell.duplication,
        cell.cache_state,
        cell.settings["block_size"],
    )


def _with_engine(planned: PlannedCell, cell: Cell, model: Model) -> PlannedCell:
    """Return the plan of ``cell``, which submits the same requests to another engine."""
    return replace(
        planned,
        cell=cell,
        kv_bytes_per_token=_kv_bytes_per_token(cell, model),
        infeasible=_infeasible(cell, model, planned.longest_request_tokens),
    )


def _planned(
    cell: Cell, prompts: Sequence[Prompt], model: Model, tokenized: _Tokenized, cost: LabelCost
) -> PlannedCell:
    ids = tokenized.ids(prompts)
    most = [prompt.num_texts * cell.output_tokens_per_text for prompt in prompts]
    needed = max(len(each) + output for each, output in zip(ids, most, strict=True))
    outputs = most
    if cell.answer == "choice":
        outputs = [cost.constrained_tokens(prompt.num_texts) for prompt in prompts]
    load, kv_pass_tokens = _load(cell, ids, outputs)
    return PlannedCell(
        cell=cell,
        num_requests=load.num_requests,
        prompt_tokens=load.prompt_tokens,
        longest_prompt_tokens=max(map(len, ids)),
        output_tokens=sum(outputs) * cell.duplication,
        longest_request_tokens=needed,
        load=load,
        kv_bytes_per_token=_kv_bytes_per_token(cell, model),
        kv_pass_tokens=kv_pass_tokens,
        shared_tokens=_shared_tokens(ids),
        infeasible=_infeasible(cell, model, needed),
    )


def _load(cell: Cell, ids: Sequence[TokenIds], outputs: Sequence[int]) -> tuple[Pass, int]:
    """Return what a pass computes, and the tokens of the KV blocks that it takes.

    A repeated prompt finds every whole block of itself but the one with its last token; a new one
    what it shares with those before it.
    """
    size = _block_size(cell)
    again = [0 if cell.cache_state == "off" else (len(each) - 1) // size * size for each in ids]
    first = again
    if cell.cache_state == "cold":
        cache = PrefixCache(size)
        first = [cache.submit(each) for each in ids]
    whole = [
        math.ceil((len(each) + out) / size) * size for each, out in zip(ids, outputs, strict=True)
    ]
    copies = cell.duplication - 1
    taken = (copies + 1) * sum(whole) - copies * sum(again)
    if cell.cache_state != "primed":
        taken -= sum(first)
    return Pass(
        requests=_works(ids, first, outputs),
        copies=_works(ids, again, outputs) if copies else (),
        num_copies=copies,
    ), taken


def _block_size(cell: Cell) -> int:
    on_cpu = cell.engine == "vllm" and environment.on_cpu()
    return int(cell.settings["block_size"] or (_BLOCK_SIZE_CPU if on_cpu else _BLOCK_SIZE))


def _shared_tokens(ids: Sequence[TokenIds]) -> int:
    """Return with how many tokens all prompts begin alike; 0 of a single one."""
    first, *others = ids
    pairs = (zip(first, other, strict=False) for other in others)
    alike = (sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pair)) for pair in pairs)
    return min(alike, default=0)


def _works(
    ids: Sequence[TokenIds], cached: Sequence[int], outputs: Sequence[int]
) -> tuple[Work, ...]:
    return tuple(
        Work(prompt_tokens=len(prompt), cached_tokens=hit, output_tokens=output)
        for prompt, hit, output in zip(ids, cached, outputs, strict=True)
    )


def _infeasible(cell: Cell, model: Model, needed: int) -> str | None:
    """Return why the longest request, prompt and output, cannot run, or None."""
    limit = int(cell.settings["max_model_len"] or 0)
    if needed > limit:
        return f"the longest request needs {needed} tokens and max_model_len is {limit}"
    kv_bytes = cell.settings["kv_cache_memory_bytes"]
    per_token = _kv_bytes_per_token(cell, model)
    if kv_bytes is None or per_token is None or limit * per_token <= int(kv_bytes):
        return None
    what, length = ("the longest request", needed)
    if needed * per_token <= int(kv_bytes):  # vLLM keeps room for one request of max_model_len
        what, length = (f"max_model_len {limit} (lower it: {needed} would do)", limit)
    return (
        f"{what} needs {length * per_token:.0f} B of KV cache and "
        f"kv_cache_memory_bytes is {kv_bytes}"
    )


def _kv_bytes_per_token(cell: Cell, model: Model) -> int | None:
    if model.kv_elements_per_token is None:
        return None
    return round(model.kv_elements_per_token * kv_element_bytes(cell.settings))

"""The requests of a pass: their tokens, what the prefix cache serves of them, what cannot fit."""

from __future__ import annotations

import json
import math
from array import array
from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile

from packsweep.models.architecture.split import Split
from packsweep.models.resolve import Model
from packsweep.models.tokenizer import Tokenizer
from packsweep.plan import fit, formats, label_budget
from packsweep.plan.cells.planned import PlannedCell
from packsweep.plan.pass_time import Pass
from packsweep.plan.prefix_cache import FULL_ATTENTION, CacheKind, PrefixCache, TokenIds
from packsweep.plan.roofline import Work
from packsweep.sweep.answers import LabelCost
from packsweep.sweep.cells import Cell
from packsweep.sweep.prompts import Prompt
from packsweep.sweep.spec import Format, Sweep
from packsweep.sweep.texts import LabelledText

# Of a text that is named, so many characters.
_SHOWN = 40


class Tokenized:
    """Token ids of prompts; each text is tokenized once, however many cells submit it."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._known: dict[tuple[str, bool], TokenIds] = {}
        self._costs: dict[tuple[tuple[str, ...], Format], LabelCost] = {}

    def cost(self, cell: Cell) -> LabelCost:
        key = (cell.words, cell.format)
        if key not in self._costs:
            self._costs[key] = label_budget.cost_of(self._tokenizer, *key)
        return self._costs[key]

    def labels_held(self, cell: Cell) -> int:
        """Return how many labels the longest answer of ``cell`` can hold."""
        return self.cost(cell).labels_held(longest_pack(cell) * cell.output_tokens_per_text)

    def submitted(self, cell: Cell, built: Sequence[Prompt]) -> Sequence[Prompt]:
        """Return the prompts that ``cell`` submits for those that it builds."""
        return label_budget.submitted(cell, built, self._tokenizer)

    def ids(self, prompts: Sequence[Prompt]) -> list[TokenIds]:
        keys = [(prompt.text, prompt.add_special_tokens) for prompt in prompts]
        for add in (True, False):
            new = [key for key in keys if key[1] is add and key not in self._known]
            plain = [text for text, _ in new]
            found = self._tokenizer.encode(plain, add_special_tokens=add)
            self._known.update((key, array("I", ids)) for key, ids in zip(new, found, strict=True))
        return [self._known[key] for key in keys]


def longest_pack(cell: Cell) -> int:
    return cell.asking.texts_per_prompt(cell.n)


def cache_kind(sweep: Sweep, model: Model) -> CacheKind:
    """Return what the engine's prefix cache does with the model's layers, as far as is known."""
    if model.kv_layout is None or sweep.engine.kind == "simulated":
        return FULL_ATTENTION
    return CacheKind(groups=model.kv_layout.groups)


def key(cell: Cell) -> tuple[object, ...]:
    """Return all that tells one pass's requests, and what the cache serves of them, from another's.

    The prompts' hash stands for n and the texts.
    """
    return (
        cell.prompts_sha256,
        cell.asking,
        cell.answer,
        cell.output_tokens_per_text,
        cell.duplication,
        cell.cache_state,
        cell.settings["block_size"],
    )


def planned(
    cell: Cell,
    built: Sequence[Prompt],
    rows: Sequence[LabelledText],
    tokenized: Tokenized,
    kind: CacheKind,
    block_size: int,
) -> PlannedCell:
    """Return what a pass submits; what depends on the engine, ``with_engine`` adds."""
    prompts = tokenized.submitted(cell, built)
    ids = tokenized.ids(prompts)
    most = [max(prompt.num_texts, 1) * cell.output_tokens_per_text for prompt in prompts]
    needed = tuple(len(each) + output for each, output in zip(ids, most, strict=True))
    outputs = most
    if cell.answer == "choice" and not cell.picks_token:
        cost = tokenized.cost(cell)
        outputs = [cost.constrained_tokens(prompt.num_texts) for prompt in prompts]
    load, kv_pass_tokens = _load(cell, ids, outputs, kind, block_size)
    return PlannedCell(
        cell=cell,
        num_requests=load.num_requests,
        prompt_tokens=load.prompt_tokens,
        longest_prompt_tokens=max(map(len, ids)),
        output_tokens=sum(outputs) * cell.duplication,
        request_tokens=needed,
        load=load,
        kv_bytes_per_token=None,
        kv_pass_tokens=kv_pass_tokens,
        shared_tokens=_shared_tokens(ids),
        infeasible=None,
        longest=_named(prompts[needed.index(max(needed))], rows),
    )


def _named(prompt: Prompt, rows: Sequence[LabelledText]) -> str | None:
    """Return which text a prompt of one text holds, and how it begins."""
    if prompt.num_texts > 1:
        return None
    found = ((index, row) for index, row in enumerate(rows, 1) if row.text in prompt.text)
    index, row = next(found, (0, None))
    return None if row is None else f"text {index}, {json.dumps(row.text[:_SHOWN])}"


def _load(
    cell: Cell, ids: Sequence[TokenIds], outputs: Sequence[int], kind: CacheKind, size: int
) -> tuple[Pass, int]:
    """Return what a pass computes, and the tokens of the KV blocks that it takes.

    A repeated prompt finds every whole block of itself but the one with its last token; a new one
    what it shares with those before it.
    """
    again = [0 if cell.cache_state == "off" else (len(each) - 1) // size * size for each in ids]
    first = again
    if cell.cache_state == "cold":
        cache = PrefixCache(size, kind)
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


def block_size(cell: Cell, *, on_cpu: bool) -> int:
    return int(cell.settings["block_size"] or (fit.BLOCK_SIZE_CPU if on_cpu else fit.BLOCK_SIZE))


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


def with_engine(planned: PlannedCell, cell: Cell, model: Model) -> PlannedCell:
    """Return the plan of ``cell``, which submits the same requests to another engine."""
    return replace(
        planned,
        cell=cell,
        kv_bytes_per_token=_kv_bytes_per_token(cell, model),
        infeasible=_infeasible(cell, model, planned),
    )


def _kv_bytes_per_token(cell: Cell, model: Model) -> int | None:
    num_bytes = formats.before_start(cell.settings, model.torch_dtype, model.quantization).kv_bytes
    if num_bytes is None or model.kv_layout is None or model.kv_elements_per_token is None:
        return None
    split, num_layers = Split.of(cell.settings), len(model.kv_layout.windows)
    most = max(map(len, split.stages(num_layers)))
    return round(
        most * model.kv_layout.layer_bytes_per_token(num_bytes, split.tensor_parallel_size)
    )


def _infeasible(cell: Cell, model: Model, planned: PlannedCell) -> str | None:
    """Return why the longest request, prompt and output, cannot run, or None."""
    limit, needed = int(cell.settings["max_model_len"] or 0), planned.longest_request_tokens
    if needed > limit:
        return _too_long(planned, limit, model)
    room, stages = cell.settings["kv_cache_memory_bytes"], fit.of_model(model, cell.settings)
    if room is None or not stages:
        return None
    found = fit.of(stages, [int(room)] * len(stages), limit)
    if found.holds(needed):
        return None
    what, length = "the longest request", needed
    if needed <= found.longest_tokens:
        what, length = f"max_model_len {limit} (lower it: {needed} would do)", limit
    num_bytes = found.stage.blocks.request_bytes(length)
    return f"{what} needs {num_bytes} B of KV cache and kv_cache_memory_bytes is {room}"


def _too_long(planned: PlannedCell, limit: int, model: Model) -> str:
    """Say which request is too long for the context, how many are, and what would do."""
    needed, num = planned.longest_request_tokens, len(planned.request_tokens)
    num_long = sum(each > limit for each in planned.request_tokens)
    said = [f"the longest request needs {needed} tokens and max_model_len is {limit}"]
    if planned.longest:
        said.append(f"it is {planned.longest}")
    if num > 1:
        said.append(f"{num_long} of {num} prompts are too long")
    if needed <= model.max_model_len:
        said.append(f"engine.max_model_len = {needed} would do")
    else:
        said.append(f"{model.name} has {model.max_model_len} positions")
        if planned.longest:
            said.append("texts.max_tokens shortens texts")
    return "; ".join(said)

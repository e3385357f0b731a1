"""What the user should know before a run, a line each."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence

from packsweep.errors import counted, shown
from packsweep.models.resolve import Model
from packsweep.models.tokenizer import Tokenizer
from packsweep.plan.cells.inputs import Inputs
from packsweep.plan.cells.planned import PlannedCell
from packsweep.plan.cells.requests import Tokenized, block_size, longest_pack
from packsweep.sweep.cells import Cell
from packsweep.sweep.strategies import ONE_TEXT
from packsweep.sweep.texts import LabelledText
from packsweep.sweep.texts.cut import Cut

_SHOWN_LABELS = 3


def lines(
    given: Inputs,
    planned: Sequence[PlannedCell],
    sent: Mapping[Cut, Sequence[LabelledText]],
    tokenized: Tokenized,
) -> Iterator[str]:
    """Yield what concerns the texts, the model, the environment and the cells."""
    cells, model = [each.cell for each in planned], given.model
    yield from given.notes
    yield from _unnamed_labels(cells)
    yield from _not_described(model)
    yield from _cache_kind(cells, model)
    yield from _in_force(given.environ)
    if not model.random_weights:
        yield from _too_short(cells, tokenized)
    yield from _split_block(planned, on_cpu=given.on_cpu)
    yield from _overlong(planned, sent, given.tokenizer)
    yield from _never_full(cells)


def _unnamed_labels(cells: Sequence[Cell]) -> Iterator[str]:
    """Say which labels no prompt tells the model, if there are such; all cells have one task."""
    unnamed = [shown(label) for label in cells[0].labelling.unnamed] if cells else []
    if unnamed:
        more = f" and {len(unnamed) - _SHOWN_LABELS} more" * (len(unnamed) > _SHOWN_LABELS)
        yield (
            f"task.instruction does not name {', '.join(unnamed[:_SHOWN_LABELS])}{more}: write "
            "{labels} where it should list the labels"
        )


def _not_described(model: Model) -> Iterator[str]:
    if model.design:
        yield (f"{model.name} is measured without FLOPs, MFU and a prediction: {model.design}")


def _cache_kind(cells: Sequence[Cell], model: Model) -> Iterator[str]:
    """Say what cached tokens rest on, where not every layer attends to everything."""
    if all(cell.cache_state == "off" for cell in cells):
        return
    if model.kv_layout is None:
        yield (
            f"the cached tokens of {model.name} are counted as if every layer attended to "
            f"everything, and are not checked after a pass: {model.kv_design}"
        )
    elif any(model.kv_layout.windows):
        windows = ", ".join(str(each) for each in model.kv_layout.kinds if each is not None)
        yield (
            f"{model.name} has sliding windows ({windows} tokens): its cached tokens are counted "
            "and checked as vLLM's manager of such caches keeps them"
        )


def _in_force(environ: str) -> Iterator[str]:
    """Say which of the user's variables every cell is measured under, if there are such."""
    if values := json.loads(environ):
        named = ", ".join(f"{name}={value}" for name, value in values.items())
        yield f"part of every cell, since they may change what is measured: {named}"


def _too_short(cells: Sequence[Cell], tokenized: Tokenized) -> Iterator[str]:
    """Say which answers are too short for their labels, if there are such."""
    short = [
        cell
        for cell in cells
        if cell.answer == "free"
        and not (cell.strategy in ONE_TEXT and cell.task_settings == "{}")
        and tokenized.labels_held(cell) < longest_pack(cell)
    ]
    if not short:
        return
    most = max(short, key=longest_pack)
    num_texts = longest_pack(most)
    num_tokens = num_texts * most.output_tokens_per_text
    written = "a line each" if most.format == "lines" else f"as {most.format}"
    yield (
        f"answers are too short for their labels in {counted(len(short), 'cell')}: "
        f"{counted(num_tokens, 'output token')} of {most.slug} can hold "
        f"{counted(tokenized.labels_held(most), 'label')} of {num_texts}, "
        f"{written}; grid.output_tokens_per_text = {tokenized.cost(most).per_text} fits all"
    )


def _split_block(cells: Iterable[PlannedCell], *, on_cpu: bool) -> Iterator[str]:
    """Say of the cell with most requests what the cache does not serve of a shared instruction."""
    split = [
        planned
        for planned in cells
        if planned.cell.instruction == "before"
        and planned.cell.cache_state != "off"
        and planned.shared_tokens % block_size(planned.cell, on_cpu=on_cpu)
    ]
    if not split:
        return
    most = max(split, key=lambda planned: planned.num_requests)
    size, shared = block_size(most.cell, on_cpu=on_cpu), most.shared_tokens
    again = shared % size
    yield (
        f"all prompts of {most.cell.slug} share their first {shared} tokens, and the prefix cache "
        f"keeps whole blocks of {size}: {again} of them are recomputed in every prompt, which a "
        f"wording of {shared - again or size} tokens would avoid"
    )


def _overlong(
    cells: Iterable[PlannedCell],
    sent: Mapping[Cut, Sequence[LabelledText]],
    tokenizer: Tokenizer,
) -> Iterator[str]:
    """Name the texts that alone make a cell infeasible, and what of them would fit."""
    alone = (each for each in cells if each.infeasible and each.cell.strategy in ONE_TEXT)
    for planned in alone:
        cell = planned.cell
        limit = int(cell.settings["max_model_len"] or 0) - cell.output_tokens_per_text
        per_text = len(planned.load.requests) // cell.n
        excess = {
            index: work.prompt_tokens - limit
            for index, work in enumerate(planned.load.requests[::per_text])
            if work.prompt_tokens > limit
        }
        if excess:
            first = min(excess)
            texts_sent = [sent[cell.cut][index].text for index in excess]
            counts = tokenizer.count(texts_sent, add_special_tokens=False)
            fits = min(num - over for num, over in zip(counts, excess.values(), strict=True))
            hint = f"; texts.max_tokens = {fits} would fit" if fits > 0 else ""
            yield (
                f"{len(excess)} of the {cell.n} texts of {cell.slug} are too long on their own, "
                f"the first of them text {first + 1}, {shown(texts_sent[0])}{hint}"
            )
            return


def _never_full(cells: Iterable[Cell]) -> Iterator[str]:
    """Say which packs are larger than n, as they ask what the strategy packed asks."""
    unfilled = [cell for cell in cells if cell.pack_size is not None and cell.pack_size > cell.n]
    if unfilled:
        one = max(unfilled, key=lambda cell: cell.pack_size or 0)
        yield (
            f"packs are larger than n in {counted(len(unfilled), 'cell')}: a prompt of {one.slug} "
            f"holds {counted(one.n, 'text')}, not {one.pack_size}, as one of packed does"
        )

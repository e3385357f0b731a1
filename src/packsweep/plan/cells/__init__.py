"""What a sweep will do, before it costs anything: cells, requests, tokens, what cannot fit.

Needs the texts and the tokenizer, and nothing of vLLM, torch or Ray.
"""

from __future__ import annotations

from packsweep.models.tokenizer import give_back_memory
from packsweep.plan.cells import advice, inputs, requests
from packsweep.plan.cells.planned import Plan, PlannedCell
from packsweep.sweep import expansion
from packsweep.sweep.cells import Cell
from packsweep.sweep.spec import Sweep

__all__ = ["Plan", "PlannedCell", "make"]


def make(sweep: Sweep, *, on_gpu: bool = False) -> Plan:
    """Work out every cell of ``sweep``.

    Args:
        sweep: what is asked.
        on_gpu: it is planned for a GPU, whatever this machine has.

    Raises:
        UserError: the model, the tokenizer or the texts are not there or do not suffice.
    """
    made = _made(sweep, on_gpu=on_gpu)
    give_back_memory()  # that of the tokenizer, which nothing holds any more
    return made


def _made(sweep: Sweep, *, on_gpu: bool) -> Plan:
    given = inputs.read(sweep, on_gpu=on_gpu)
    cells = given.cells(sweep)
    sent = {one: given.cutter(given.rows, one) for one in {cell.cut for cell in cells}}
    tokenized = requests.Tokenized(given.tokenizer)
    kind = requests.cache_kind(sweep, given.model)
    # Thousands of cells share a few sets of requests.
    alike: dict[tuple[object, ...], PlannedCell] = {}
    planned: dict[Cell, PlannedCell] = {}
    for cell in cells:
        key = requests.key(cell)
        if key not in alike:
            built = cell.build_prompts(sent[cell.cut], given.chat)
            size = requests.block_size(cell, on_cpu=given.on_cpu)
            alike[key] = requests.planned(cell, built, sent[cell.cut], tokenized, kind, size)
        planned[cell] = requests.with_engine(alike[key], cell, given.model)
    all_planned = tuple(planned.values())
    return Plan(
        model=given.model,
        texts=given.rows,
        cells=all_planned,
        schedule=tuple(planned[c] for c in expansion.schedule(cells, sweep.measure.order_seed)),
        chat=given.chat,
        sent=sent,
        advice=tuple(advice.lines(given, all_planned, sent, tokenized)),
        gpu_hour_usd=sweep.cost.gpu_hour_usd,
        api_key_env=sweep.online.api_key_env,
    )

"""What a sweep will do, before it costs anything: cells, requests, tokens, what cannot fit.

Needs the texts and the tokenizer, and nothing of vLLM, torch or Ray.
"""

from __future__ import annotations

import json
import math
import re
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from itertools import takewhile

from packsweep.errors import ModelError, SpecError, TextsError, counted, shown
from packsweep.machine import environment, processor
from packsweep.models.architecture.split import Split, refusal
from packsweep.models.chat import ChatTemplate
from packsweep.models.resolve import Model, resolve
from packsweep.models.tokenizer import Tokenizer, give_back_memory
from packsweep.models.tokenizer import load as load_tokenizer
from packsweep.plan import fit, formats, label_budget
from packsweep.plan.pass_time import Pass
from packsweep.plan.prefix_cache import FULL_ATTENTION, CacheKind, PrefixCache, TokenIds
from packsweep.plan.roofline import Work
from packsweep.sweep import cells as sweep_cells
from packsweep.sweep import task as labelling
from packsweep.sweep import texts
from packsweep.sweep.answers import LabelCost
from packsweep.sweep.cells import Cell
from packsweep.sweep.prompts import Prompt
from packsweep.sweep.spec import Format, Sweep
from packsweep.sweep.strategies import ONE_TEXT
from packsweep.sweep.texts import LabelledText, cut
from packsweep.sweep.texts.cut import Cut

# Of a text that is named, so many characters.
_SHOWN = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedCell:
    """A cell and what one pass of it submits.

    Attributes:
        prompt_tokens: of all requests, every copy counted.
        longest_prompt_tokens: of the longest prompt.
        output_tokens: of all requests; of constrained answers as many as labels usually take.
        request_tokens: prompt and output limit of each prompt.
        longest: which text is the longest request, where it is of one text.
        load: what a pass computes, with what the prefix cache serves of it.
        kv_bytes_per_token: what a token takes in the KV cache of each GPU; None if not known. Of
            pipeline stages, in that with the most layers.
        kv_pass_tokens: tokens of the blocks that a pass takes, if none is freed.
        shared_tokens: with which all its prompts begin alike; 0 of a single prompt.
        infeasible: why no engine can run it, or None.
    """

    cell: Cell
    num_requests: int
    prompt_tokens: int
    longest_prompt_tokens: int
    output_tokens: int
    request_tokens: tuple[int, ...]
    load: Pass
    kv_bytes_per_token: int | None
    kv_pass_tokens: int
    shared_tokens: int
    infeasible: str | None
    longest: str | None = None

    @property
    def longest_request_tokens(self) -> int:
        """Prompt and output limit of the request that needs most."""
        return max(self.request_tokens)

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
        sent: the texts as they are sent, where that is not all of them.
        advice: what the user should know before a run, a line each.
        gpu_hour_usd: what an hour of a GPU costs, stored with the results.
        api_key_env: the environment's name for the key of a server that is there.
    """

    model: Model
    texts: tuple[LabelledText, ...]
    cells: tuple[PlannedCell, ...]
    schedule: tuple[PlannedCell, ...]
    chat: ChatTemplate | None = None
    sent: Mapping[Cut, Sequence[LabelledText]] = field(default_factory=dict)
    advice: tuple[str, ...] = ()
    gpu_hour_usd: float | None = None
    api_key_env: str | None = None

    def texts_of(self, cell: Cell) -> Sequence[LabelledText]:
        """Return the texts of ``cell`` as it sends them."""
        return self.sent.get(cell.cut, self.texts)[: cell.n]


def make(sweep: Sweep, *, on_gpu: bool = False) -> Plan:
    """Work out every cell of ``sweep``.

    Args:
        sweep: what is asked.
        on_gpu: it is planned for a GPU, whatever this machine has.

    Raises:
        UserError: the model, the tokenizer or the texts are not there or do not suffice.
    """
    model = _model(sweep)
    on_cpu = sweep.engine.kind == "vllm" and not on_gpu and environment.on_cpu()
    notes: list[str] = []
    rows = _texts(sweep, notes)
    tokenizer = load_tokenizer(model)
    guard = _guard(tokenizer, sweep)
    rows = tuple(replace(row, text=guard(row.text, number)) for number, row in enumerate(rows, 1))
    chat = _chat(tokenizer, model) if sweep.needs_chat else None
    _check_asked(sweep, tokenizer, chat)
    environ = _environ(sweep)
    cutter = cut.cutter(tokenizer.backend, guard)
    expanded = sweep_cells.expand(
        sweep,
        rows,
        model_fingerprint=model.fingerprint,
        max_model_len=model.default_model_len,
        chat=chat,
        auto_dtype=_auto_dtype(model, on_cpu=on_cpu),
        cutter=cutter,
        label_tokens=cache(partial(label_budget.label_tokens, tokenizer=tokenizer)),
    )
    cells = [replace(cell, environ=environ) for cell in expanded]
    _check_split(cells, model)
    sent = {one: cutter(rows, one) for one in {cell.cut for cell in cells}}
    tokenized = _Tokenized(tokenizer)
    kind = _manager(sweep, model)
    # Thousands of cells share a few sets of requests.
    alike: dict[tuple[object, ...], PlannedCell] = {}
    planned: dict[Cell, PlannedCell] = {}
    for cell in cells:
        key = _requests_key(cell)
        if key not in alike:
            built = cell.build_prompts(sent[cell.cut], chat)
            prompts = label_budget.submitted(cell, built, tokenizer)
            size = _block_size(cell, on_cpu=on_cpu)
            alike[key] = _planned(cell, prompts, sent[cell.cut], tokenized, kind, size)
        planned[cell] = _with_engine(alike[key], cell, model)
    made = Plan(
        model=model,
        texts=rows,
        cells=tuple(planned.values()),
        schedule=tuple(planned[c] for c in sweep_cells.schedule(cells, sweep.measure.order_seed)),
        chat=chat,
        sent=sent,
        advice=(
            *notes,
            *_not_described(model),
            *_cache_kind(cells, model),
            *_in_force(environ),
            *(() if model.random_weights else _too_short(cells, tokenized)),
            *_split_block(planned.values(), on_cpu=on_cpu),
            *_overlong(planned.values(), sent, tokenizer),
            *_never_full(cells),
        ),
        gpu_hour_usd=sweep.cost.gpu_hour_usd,
        api_key_env=sweep.online.api_key_env,
    )
    del tokenizer, tokenized
    give_back_memory()
    return made


def _model(sweep: Sweep) -> Model:
    """Return the model of a sweep; refuse what no engine would do with it."""
    model = resolve(
        sweep.model.name,
        revision=sweep.model.revision,
        tokenizer=sweep.model.tokenizer,
        load_format=sweep.model.load_format,
    )
    longest = max(length or 0 for each in sweep.all for length in each.engine.max_model_len)
    if longest > model.max_model_len:  # vLLM would refuse it, after minutes
        raise SpecError(
            f"engine.max_model_len: {longest} is more than the {model.max_model_len} positions "
            f"of {model.name}"
        )
    if model.shape is None and sweep.engine.kind == "simulated":
        raise SpecError(f"engine.kind: {model.name} cannot be simulated: {model.design}")
    return model


def _check_split(cells: Sequence[Cell], model: Model) -> None:
    """Refuse what vLLM does not divide among the GPUs of an engine, which it says after minutes."""
    for each in dict.fromkeys(Split.of(cell.settings) for cell in cells):
        refused = refusal(model.config, each)
        if refused is not None:
            raise SpecError(f"engine.{refused[0]} = {getattr(each, refused[0])}: {refused[1]}")


def _texts(sweep: Sweep, notes: list[str]) -> tuple[LabelledText, ...]:
    """Return the texts of a sweep; ``notes`` takes what was guessed of their file."""
    asked = labelling.of(sweep.task)
    reading = texts.Reading(
        labels=asked.labels,
        label_map={**asked.spellings, **sweep.task.label_map},
        text_column=sweep.task.text_column,
        label_column=sweep.task.label_column,
        delimiter=sweep.texts.delimiter,
        split=sweep.texts.split,
    )
    return texts.load(
        sweep.texts.source,
        limit=sweep.largest_n,
        seed=sweep.texts.seed,
        reading=reading,
        notes=notes,
    )


def _control_tokens(tokenizer: Tokenizer) -> re.Pattern[str]:
    """Return what matches a control token of the model; nothing where there are none."""
    return re.compile("|".join(map(re.escape, tokenizer.control_tokens)) or r"(?!)")


def _guard(tokenizer: Tokenizer, sweep: Sweep) -> cut.Guard:
    """Return what gives a text in which the tokenizer finds no control token of the model.

    It raises a TextsError if there is one and the sweep does not ask to break it up.
    """
    tokens, pattern = tokenizer.control_tokens, _control_tokens(tokenizer)

    def escaped(text: str, _number: int) -> str:
        return cut.broken_up(text, tokens)

    def checked(text: str, number: int) -> str:
        if found := pattern.search(text):
            raise TextsError(
                f"text {number} holds {found[0]}, which the model reads as a control token; take "
                'it out, or set texts.control_tokens = "escape" to put a space into it'
            )
        return text

    return escaped if sweep.texts.control_tokens == "escape" else checked


def _check_asked(sweep: Sweep, tokenizer: Tokenizer, chat: ChatTemplate | None) -> None:
    """Refuse a task that would speak to the model in its control tokens, or set nothing.

    An instruction outside of a chat may hold the user's own template.
    """
    table, pattern = sweep.task, _control_tokens(tokenizer)
    asked = {"labels": " ".join(table.labels or ()), "system": table.system or ""}
    if chat is not None:
        asked["instruction"] = table.instruction or ""
        asked["instruction_many"] = table.instruction_many or ""
    for key, text in asked.items():
        if found := pattern.search(text):
            raise SpecError(
                f"task.{key}: holds {found[0]}, which the model reads as a control token; take it "
                "out"
            )
    if chat is None:
        return
    for name in table.chat_template_kwargs:
        if not chat.knows(name):
            raise SpecError(
                f"task.chat_template_kwargs: {shown(name)} is no variable of this model's chat "
                "template, so it has no effect; remove it"
            )


def _manager(sweep: Sweep, model: Model) -> CacheKind:
    """Return what the engine's prefix cache does with the model's layers, as far as is known."""
    if model.kv_layout is None or sweep.engine.kind == "simulated":
        return FULL_ATTENTION
    return CacheKind(groups=model.kv_layout.groups)


def _auto_dtype(model: Model, *, on_cpu: bool) -> str:
    """Return what the dtype "auto" means: the fastest one on a CPU, else vLLM's own choice."""
    return processor.dtype() if on_cpu and model.quantization is None else "auto"


def _environ(sweep: Sweep) -> str:
    """Return the user's variables that change what is measured, as JSON; none change arithmetic."""
    return json.dumps({} if sweep.engine.kind == "simulated" else environment.measuring())


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


def _too_short(cells: Sequence[Cell], tokenized: _Tokenized) -> Iterator[str]:
    """Say which answers are too short for their labels, if there are such."""
    short = [
        cell
        for cell in cells
        if cell.answer == "free"
        and not (cell.strategy in ONE_TEXT and cell.task_settings == "{}")
        and tokenized.labels_held(cell) < _longest_pack(cell)
    ]
    if not short:
        return
    most = max(short, key=_longest_pack)
    num_texts = _longest_pack(most)
    num_tokens = num_texts * most.output_tokens_per_text
    written = "a line each" if most.format == "lines" else f"as {most.format}"
    yield (
        f"answers are too short for their labels in {counted(len(short), 'cell')}: "
        f"{counted(num_tokens, 'output token')} of {most.slug} can hold "
        f"{counted(tokenized.labels_held(most), 'label')} of {num_texts}, "
        f"{written}; grid.output_tokens_per_text = {tokenized.cost(most).per_text} fits all"
    )


def _longest_pack(cell: Cell) -> int:
    return cell.asking.texts_per_prompt(cell.n)


def _split_block(cells: Iterable[PlannedCell], *, on_cpu: bool) -> Iterator[str]:
    """Say of the cell with most requests what the cache does not serve of a shared instruction."""
    split = [
        planned
        for planned in cells
        if planned.cell.instruction == "before"
        and planned.cell.cache_state != "off"
        and planned.shared_tokens % _block_size(planned.cell, on_cpu=on_cpu)
    ]
    if not split:
        return
    most = max(split, key=lambda planned: planned.num_requests)
    size, shared = _block_size(most.cell, on_cpu=on_cpu), most.shared_tokens
    again = shared % size
    yield (
        f"all prompts of {most.cell.slug} share their first {shared} tokens, and the prefix cache "
        f"keeps whole blocks of {size}: {again} of them are recomputed in every prompt, which a "
        f"wording of {shared - again or size} tokens would avoid"
    )


def _never_full(cells: Iterable[Cell]) -> Iterator[str]:
    """Say which packs are larger than n, as they ask what the strategy packed asks."""
    unfilled = [cell for cell in cells if cell.pack_size is not None and cell.pack_size > cell.n]
    if unfilled:
        one = max(unfilled, key=lambda cell: cell.pack_size or 0)
        yield (
            f"packs are larger than n in {counted(len(unfilled), 'cell')}: a prompt of {one.slug} "
            f"holds {counted(one.n, 'text')}, not {one.pack_size}, as one of packed does"
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


def _chat(tokenizer: Tokenizer, model: Model) -> ChatTemplate:
    """Return the model's chat template; refuse a model without one."""
    if tokenizer.chat is None:
        raise ModelError(
            f"grid.template: {model.name} has no chat template; take another template, or "
            "name a tokenizer that has one with model.tokenizer"
        )
    return tokenizer.chat


class _Tokenized:
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
        return self.cost(cell).labels_held(_longest_pack(cell) * cell.output_tokens_per_text)

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


def _with_engine(planned: PlannedCell, cell: Cell, model: Model) -> PlannedCell:
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


def _planned(
    cell: Cell,
    prompts: Sequence[Prompt],
    rows: Sequence[LabelledText],
    tokenized: _Tokenized,
    kind: CacheKind,
    block_size: int,
) -> PlannedCell:
    """Return what a pass submits; what depends on the engine, ``_with_engine`` adds."""
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


def _block_size(cell: Cell, *, on_cpu: bool) -> int:
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

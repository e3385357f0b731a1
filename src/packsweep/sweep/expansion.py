"""A sweep becomes cells, and cells an order.

Pure functions: nothing here starts, reads or writes anything.
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from packsweep.errors import TextsError
from packsweep.models.chat import ChatTemplate
from packsweep.sweep import answers, prompts
from packsweep.sweep import task as labelling
from packsweep.sweep.cells import Cell
from packsweep.sweep.prompts import Asking
from packsweep.sweep.spec import FORMER_SETTINGS, OF_SEVERAL, CacheState, Sweep, Table
from packsweep.sweep.strategies import ONE_TEXT, SIZED
from packsweep.sweep.task import LabellingTask
from packsweep.sweep.texts import LabelledText, content_sha256
from packsweep.sweep.texts.cut import Cut, Cutter

# What an answer writes for each label -> the token that each is; none where one is not.
LabelTokens = Callable[[tuple[str, ...]], tuple[int, ...]]


def expand(  # noqa: PLR0913  (one for each thing that a cell depends on)
    sweep: Sweep,
    texts: Sequence[LabelledText],
    *,
    model_fingerprint: str,
    max_model_len: int,
    chat: ChatTemplate | None = None,
    auto_dtype: str = "auto",
    cutter: Cutter | None = None,
    label_tokens: LabelTokens | None = None,
) -> tuple[Cell, ...]:
    """Return the cells of ``sweep`` and of its variants in their order, each once.

    Args:
        sweep: a checked sweep file.
        texts: at least as many as the largest n.
        model_fingerprint: identifies the weights and the tokenizer.
        max_model_len: the model's own limit, taken where the sweep names none.
        chat: the model's chat template, which the template ``chat`` needs.
        auto_dtype: what ``engine.dtype = "auto"`` means here; "auto" leaves it to vLLM.
        cutter: sends less than whole texts, which a sweep with ``texts.max_tokens`` or
            ``texts.markup`` needs.
        label_tokens: gives each label's own token; without it a grammar constrains all answers.

    Raises:
        TextsError: fewer texts than the largest n.
    """
    if sweep.largest_n > len(texts):
        message = f"grid.n: {sweep.largest_n} is more than the {len(texts)} texts there are"
        raise TextsError(message)
    assert chat is not None or not sweep.needs_chat
    hashes = _content_hashes(texts, chat, labelling.of(sweep.task), cutter)
    known = _Known(model_fingerprint, max_model_len, auto_dtype, label_tokens or _no_tokens)
    found = [
        replace(_cell(each, point, hashes, known), replicate=replicate)
        for each in sweep.all
        for replicate in range(each.measure.replicates)
        for point in _points(each)
    ]
    return tuple(dict.fromkeys(found))


def schedule(cells: Sequence[Cell], seed: int) -> tuple[Cell, ...]:
    """Return the order in which to measure: every replicate a round, each round shuffled again.

    Whatever drifts during a sweep then falls on all cells alike, and replicates of one cell lie a
    round apart.
    """
    source = random.Random(seed)
    found: list[Cell] = []
    for _, members in itertools.groupby(
        sorted(cells, key=lambda cell: cell.replicate), key=lambda cell: cell.replicate
    ):
        found += sorted(members, key=lambda _: source.random())
    return tuple(_engine_by_engine(found))


def _engine_by_engine(cells: Sequence[Cell]) -> list[Cell]:
    """Bring cells that share an engine together, in the order of their first."""
    first: dict[object, int] = {}
    places = [
        first.setdefault(cell.engine_key if cell.isolation == "engine" else place, place)
        for place, cell in enumerate(cells)
    ]
    return [cell for _, cell in sorted(zip(places, cells, strict=True), key=lambda pair: pair[0])]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Point:
    """One combination of axis values, before the model and the texts are known."""

    texts: dict[str, Any]
    settings: dict[str, Any]
    simulated: dict[str, Any]
    cache_state: CacheState
    grid: dict[str, Any]
    load: dict[str, Any]


def _points(sweep: Sweep) -> Iterator[_Point]:
    """Yield every combination; the grid's own axes change fastest."""
    simulated = _rows(sweep.simulated) if sweep.engine.kind == "simulated" else [{}]
    for texts, settings, fault, cache_state, load, grid in itertools.product(
        _text_rows(sweep),
        _rows(sweep.engine, leave_out=("kind",)),
        simulated,
        sweep.measure.cache_state,
        _load_rows(sweep),
        _grid_rows(sweep),
    ):
        yield _Point(
            texts=texts,
            settings=settings,
            simulated=fault,
            cache_state=cache_state,
            grid=grid,
            load=load,
        )


def _grid_rows(sweep: Sweep) -> Iterator[dict[str, Any]]:
    """Yield the grid's rows.

    ``pack_size`` is an axis of some strategies alone, as is what ``OF_SEVERAL`` names; an answer by
    log-probabilities has one text.
    """
    for strategy in sweep.grid.strategy:
        sizes = sweep.grid.pack_size if strategy in SIZED else (None,)
        for row in _rows(sweep.grid, leave_out=("strategy", "pack_size")):
            if strategy in ONE_TEXT:
                row |= {name: default[0] for name, default in OF_SEVERAL.items()}
            elif row["answer"] == "logprob":
                continue
            for size in sizes:
                yield {"strategy": strategy, "pack_size": size, **row}


def _text_rows(sweep: Sweep) -> Iterator[dict[str, Any]]:
    """Yield how much of a text is sent; which part matters only where it is not all."""
    texts = sweep.texts
    for most, keep, markup in itertools.product(texts.max_tokens, texts.keep, texts.markup):
        kept = keep if most else "head"
        yield {"text_max_tokens": most, "text_keep": kept, "text_markup": markup}


def _load_rows(sweep: Sweep) -> list[dict[str, Any]]:
    """Return the loads of a server, without what does not apply; one empty load offline."""
    if sweep.mode == "offline":
        return [{}]
    closed = ("arrivals",) if sweep.online.concurrency else ()
    # The engine has a seed of its own, and settings of a cell are told by their keys alone.
    named = {"window_seed": sweep.online.seed}
    found = _rows(sweep.online, leave_out=("seed", "api_key_env", *closed))
    return [
        {key: value for key, value in (named | row).items() if value is not None} for row in found
    ]


def _rows(table: Table, leave_out: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """Return the product of a table's axes as a list of name -> one value."""
    names = [name for name in type(table).model_fields if name not in leave_out]
    values = [getattr(table, name) for name in names]
    axes = [(value or (None,)) if isinstance(value, tuple) else (value,) for value in values]
    return [dict(zip(names, row, strict=True)) for row in itertools.product(*axes)]


_Hashes = Callable[[int, Cut, Asking], tuple[str, str]]


def _content_hashes(
    texts: Sequence[LabelledText],
    chat: ChatTemplate | None,
    task: LabellingTask,
    cutter: Cutter | None,
) -> _Hashes:
    """Return a function of n, cut and asking that gives (texts_sha256, prompts_sha256)."""

    @cache
    def hashes(n: int, cut: Cut, asking: Asking) -> tuple[str, str]:
        whole = texts[:n]
        assert cutter is not None or cut == Cut()
        sent = whole if cutter is None else cutter(whole, cut)
        built = prompts.build(sent, asking, chat=chat, task=task)
        return content_sha256(whole), prompts.content_sha256(built)

    return hashes


@dataclass(frozen=True, slots=True)
class _Known:
    """What the model and the machine say of every cell."""

    model_fingerprint: str
    max_model_len: int
    auto_dtype: str
    label_tokens: LabelTokens

    def settings(self, point: _Point) -> dict[str, Any]:
        """Return the engine's settings, with what the sweep file leaves open filled in."""
        former = FORMER_SETTINGS.items()
        asked = {key: value for key, value in point.settings.items() if (key, value) not in former}
        follows = asked["dtype"] == "auto" and asked["quantization"] is None
        return {
            **asked,
            "max_model_len": asked["max_model_len"] or self.max_model_len,
            "dtype": self.auto_dtype if follows else asked["dtype"],
            "enable_prefix_caching": point.cache_state != "off",
        }


def _cell(sweep: Sweep, point: _Point, hashes: _Hashes, known: _Known) -> Cell:
    grid, task = point.grid, labelling.of(sweep.task)
    cut = Cut(**{key.removeprefix("text_"): value for key, value in point.texts.items()})
    texts_sha256, prompts_sha256 = hashes(grid["n"], cut, Asking.of(grid))
    return Cell(
        **grid | point.texts | _lengths(sweep, point, known.label_tokens),
        task=task.name,
        task_settings=task.settings,
        cache_state=point.cache_state,
        repeats=sweep.measure.repeats,
        max_repeats=sweep.measure.max_repeats,
        stop_at_half_width=sweep.measure.stop_at_half_width,
        replicate=0,
        warmup_passes=sweep.measure.warmup_passes,
        sample_conditions=sweep.measure.sample_conditions,
        model=sweep.model.name,
        model_revision=sweep.model.revision,
        tokenizer=sweep.model.tokenizer,
        load_format=sweep.model.load_format,
        model_fingerprint=known.model_fingerprint,
        texts_sha256=texts_sha256,
        prompts_sha256=prompts_sha256,
        engine=sweep.engine.kind,
        engine_settings=tuple(sorted(known.settings(point).items())),
        simulated_settings=tuple(sorted(point.simulated.items())),
        mode=sweep.mode,
        online=json.dumps(point.load, sort_keys=True),
        isolation=sweep.measure.isolation,
    )


def _no_tokens(_words: tuple[str, ...]) -> tuple[int, ...]:
    return ()


def _lengths(sweep: Sweep, point: _Point, label_tokens: LabelTokens) -> dict[str, Any]:
    """Return how long answers may be.

    Log-probabilities take one token, as does a label that is one. What a grammar constrains is
    never forced and fits all.
    """
    grid = point.grid
    if grid["answer"] == "free":
        return {"ignore_eos": sweep.measure.ignore_eos}
    words = labelling.of(sweep.task).words(grid["label_form"])
    num_texts = Asking.of(grid).texts_per_prompt(grid["n"])
    bare = num_texts == 1 and grid["format"] == "lines"
    if grid["answer"] == "logprob" or (bare and label_tokens(words)):
        return {"ignore_eos": True, "output_tokens_per_text": 1}
    room = answers.max_tokens_per_text(words, num_texts, grid["format"])
    return {"ignore_eos": False, "output_tokens_per_text": room}

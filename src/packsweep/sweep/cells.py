"""A sweep becomes cells.

A cell holds every value that changes what is measured, and nothing else; its id is a readable slug
and a hash of those values. Pure functions: nothing here starts, reads or writes anything.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cache, cached_property
from typing import Any

from packsweep.errors import TextsError
from packsweep.models.chat import ChatTemplate
from packsweep.results import schema
from packsweep.sweep import answers, prompts
from packsweep.sweep import task as labelling
from packsweep.sweep.prompts import Asking
from packsweep.sweep.spec import (
    FORMER_SETTINGS,
    MOST_WINDOWS,
    OF_SEVERAL,
    Answer,
    Arrivals,
    CacheState,
    DuplicationOrder,
    EngineKind,
    Format,
    Instruction,
    Isolation,
    Keep,
    LabelForm,
    Markup,
    Mode,
    PromptType,
    Sweep,
    Table,
    Template,
)
from packsweep.sweep.strategies import ONE_TEXT, SIZED, Strategy
from packsweep.sweep.task import LabellingTask
from packsweep.sweep.texts import LabelledText, content_sha256
from packsweep.sweep.texts.cut import Cut, Cutter

Setting = str | int | float | bool | None
Settings = tuple[tuple[str, Setting], ...]
# What an answer writes for each label -> the token that each is; none where one is not.
LabelTokens = Callable[[tuple[str, ...]], tuple[int, ...]]

_OLD = frozenset(
    (column.name, column.formerly) for column in schema.CELL if column.formerly is not None
)


# A server is warmed with prompts of so many texts: every shape that it compiles for, and no more of
# a pool of thousands.
WARMUP_TEXTS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadSettings:
    """How a server is put under load; the keys of ``[online]``, one value each.

    Attributes:
        arrivals: how the open loop spaces its requests.
        rate: texts/s of the open loop.
        concurrency: requests under way in the closed loop.
        max_rate: texts/s from which the highest rate is looked for.
        search_s: how long that takes at most.
        slo: what a request must keep.
        url: of a server that is there; None: the cell's own.
    """

    window_s: float
    window_seed: int
    arrivals: Arrivals | None = None
    rate: float | None = None
    concurrency: int | None = None
    max_rate: float | None = None
    search_s: float | None = None
    slo: str | None = None
    url: str | None = None

    @property
    def longest_search_s(self) -> float:
        """How long a search for the highest rate drives, in all."""
        return self.search_s or MOST_WINDOWS * self.window_s

    @property
    def slug(self) -> str:
        """The load, short: ``rate2.5``, ``conc8`` or ``max``."""
        if self.rate is not None:
            return f"rate{self.rate:g}"
        return "max" if self.concurrency is None else f"conc{self.concurrency}"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One point of the grid.

    Attributes:
        engine_settings: vLLM's names and the values passed for them, sorted by name.
        simulated_settings: what the simulated engine pretends to be; empty for vLLM.
        model_fingerprint: identifies the weights and the tokenizer behind ``model``.
        task_settings: what the task asks, as JSON.
        texts_sha256: hash of the whole texts and labels of the cell's n texts.
        prompts_sha256: hash of the prompts' texts.
        replicate: which process of those that measure the same, from 0.
        environ: JSON of the environment variables that change what is measured.
        online: the load of a server, as JSON; {} offline.
        isolation: what no other cell shares, the process or not even that.
    """

    strategy: Strategy
    n: int
    pack_size: int | None
    duplication: int
    duplication_order: DuplicationOrder
    instruction: Instruction
    template: Template
    answer: Answer
    format: Format
    label_form: LabelForm
    task: str
    task_settings: str
    text_max_tokens: int
    text_keep: Keep
    text_markup: Markup
    prompt_type: PromptType
    output_tokens_per_text: int
    cache_state: CacheState
    ignore_eos: bool
    repeats: int
    max_repeats: int | None
    stop_at_half_width: float | None
    replicate: int
    warmup_passes: int
    sample_conditions: bool
    model: str
    model_revision: str | None
    tokenizer: str | None
    load_format: str
    model_fingerprint: str
    texts_sha256: str
    prompts_sha256: str
    engine: EngineKind
    engine_settings: Settings
    simulated_settings: Settings
    environ: str = "{}"
    mode: Mode = "offline"
    online: str = "{}"
    isolation: Isolation = "process"

    @cached_property
    def load(self) -> LoadSettings:
        """The load that the cell's server is put under."""
        assert self.mode == "online"
        return LoadSettings(**json.loads(self.online))

    @property
    def settings(self) -> dict[str, Setting]:
        """vLLM's settings as a mapping."""
        return dict(self.engine_settings)

    @property
    def passed_settings(self) -> dict[str, Setting]:
        """Those that vLLM is passed; what is None it chooses."""
        every = {**FORMER_SETTINGS, **self.settings}
        return {name: value for name, value in every.items() if value is not None}

    @property
    def num_gpus(self) -> int:
        """GPUs of its engine, all of one host; on a CPU as many processes."""
        return self._size("tensor_parallel_size") * self._size("pipeline_parallel_size")

    def _size(self, name: str) -> int:
        return int(self.settings.get(name) or 1)

    @property
    def engine_key(self) -> tuple[object, ...]:
        """What cells have in common that one engine could serve."""
        return (
            self.engine,
            self.model_fingerprint,
            self.tokenizer,
            self.load_format,
            self.engine_settings,
            self.simulated_settings,
            self.prompt_type,
            self.environ,
            self.mode,
            self.replicate,
            self._known_to_server,
        )

    @property
    def _known_to_server(self) -> tuple[object, ...]:
        """What a simulated server answers by; a real one is told with each request."""
        if self.mode == "offline" or self.engine != "simulated":
            return ()
        return (self.words, self.answer, self.format, self.output_tokens_per_text)

    @cached_property
    def labelling(self) -> LabellingTask:
        """What is asked of each text."""
        return labelling.from_settings(self.task, self.task_settings)

    @property
    def words(self) -> tuple[str, ...]:
        """What an answer writes for each label."""
        return self.labelling.words(self.label_form)

    @property
    def asking(self) -> Asking:
        """What its prompts follow from, the task and the texts left out."""
        return _asking(vars(self))

    @property
    def picks_token(self) -> bool:
        """A constrained answer is one of the labels' own tokens, where each label is one.

        By a grammar every label has room for more: of such cells none has room for one.
        """
        return self.answer == "choice" and self.output_tokens_per_text == 1

    @property
    def cut(self) -> Cut:
        """How much of each text is sent."""
        return Cut(max_tokens=self.text_max_tokens, keep=self.text_keep, markup=self.text_markup)

    @property
    def num_texts(self) -> int:
        """Texts labelled in one pass, every copy counted."""
        return self.n * self.duplication

    @cached_property
    def cell_id(self) -> str:
        """Readable slug and 12 hex digits of the hash of all values.

        A value that every cell had before there was a choice is left out, and names are those of
        the first version, so that results of an earlier version keep their ids.
        """
        values = {
            schema.FORMER_NAMES.get(name, name): value
            for name, value in asdict(self).items()
            if (name, value) not in _OLD
        }
        canonical = json.dumps(values, sort_keys=True, separators=(",", ":"))
        return f"{self.slug}-{hashlib.sha256(canonical.encode()).hexdigest()[:12]}"

    @property
    def slug(self) -> str:
        """The grid's own values, short: ``chunked4-n16-dup1-cold``."""
        strategy = f"{self.strategy}{self.pack_size or ''}"
        before = "-before" if self.instruction == "before" else ""
        tokens = "-tokens" if self.prompt_type == "tokens" else ""
        load = f"-{self.load.slug}" if self.mode == "online" else ""
        again = f"-r{self.replicate}" if self.replicate else ""
        return (
            f"{strategy}{before}{tokens}-n{self.n}-dup{self.duplication}-{self.cache_state}"
            f"{load}{again}"
        )

    @cached_property
    def group_id(self) -> str:
        """The cell_id of replicate 0: what replicates of one cell share."""
        return replace(self, replicate=0).cell_id

    def build_prompts(
        self, texts: Sequence[LabelledText], chat: ChatTemplate | None = None
    ) -> tuple[prompts.Prompt, ...]:
        """Return the cell's distinct prompts over its first n ``texts``, cut as they are sent.

        ``chat`` is the model's chat template, which the template ``chat`` needs.
        """
        assert chat is not None or self.template != "chat"
        return prompts.build(texts[: self.n], self.asking, chat=chat, task=self.labelling)


def from_dict(values: dict[str, Any]) -> Cell:
    """Return the cell that ``dataclasses.asdict`` and JSON took apart."""
    pairs = {
        name: tuple((key, value) for key, value in values[name])
        for name in ("engine_settings", "simulated_settings")
    }
    return Cell(**{**values, **pairs})


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
    texts_sha256, prompts_sha256 = hashes(grid["n"], cut, _asking(grid))
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
    num_texts = _asking(grid).texts_per_prompt(grid["n"])
    bare = num_texts == 1 and grid["format"] == "lines"
    if grid["answer"] == "logprob" or (bare and label_tokens(words)):
        return {"ignore_eos": True, "output_tokens_per_text": 1}
    room = answers.max_tokens_per_text(words, num_texts, grid["format"])
    return {"ignore_eos": False, "output_tokens_per_text": room}


def _asking(values: Mapping[str, Any]) -> Asking:
    return Asking(**{field.name: values[field.name] for field in fields(Asking)})

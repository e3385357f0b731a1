"""A sweep file: its tables, and which of their values go together.

This module knows the shape of a sweep file and nothing of engines, texts or results. Every key
that it accepts is a field below; a key it does not know is refused with the nearest one that it
does. Where a field is an axis, one value or a list may stand in the file.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Annotated, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from packsweep.errors import UserError, shown
from packsweep.machine.devices import DEVICES
from packsweep.sweep.strategies import ONE_TEXT, SEVERAL, SIZED, Strategy
from packsweep.traffic import slo

Instruction = Literal["after", "before"]
DuplicationOrder = Literal["grouped", "interleaved"]
CacheState = Literal["cold", "primed", "off"]
Template = Literal["original", "corrected", "short", "chat"]
Answer = Literal["free", "choice", "logprob"]
Format = Literal["lines", "numbered", "json"]
LabelForm = Literal["words", "letters"]
Keep = Literal["head", "head_tail"]
Markup = Literal["keep", "strip"]
ControlTokens = Literal["refuse", "escape"]
PromptType = Literal["text", "tokens"]
Isolation = Literal["process", "engine"]
EngineKind = Literal["vllm", "simulated", "external"]
Mode = Literal["offline", "online"]
Arrivals = Literal["poisson", "constant"]
Fault = Literal["none", "start", "oom", "crash", "hang", "unfinished", "wrong_cache", "caching_off"]

T = TypeVar("T")


def _as_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else (value,)


def _as_labels(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _slo(text: str) -> str:
    """Return a service level objective, spelled in one way, so that it names one cell.

    Raises:
        ValueError: it cannot be read.
    """
    try:
        return str(slo.parse(text))
    except UserError as error:
        raise ValueError(str(error).removeprefix(f"SLO {shown(text)}: ")) from None


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("it is empty")
    return text


def _delimiter(text: str) -> str:
    """Return what stands between the fields of a CSV file.

    Raises:
        ValueError: no file could have it there.
    """
    if len(text) != 1 or text.isalnum() or text in '"\r\n\0':
        raise ValueError('expected one character such as ";"')
    return text


def _base_url(text: str) -> str:
    """Return the address of a server without the ``/v1`` that its paths begin with.

    Raises:
        ValueError: it is none, or holds what would be stored with the results.
    """
    if not _is_address(text):
        raise ValueError("is not an address such as http://127.0.0.1:8000")
    parts = urlsplit(text)
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("holds more than host and path; name a key by api_key_env")
    return text.rstrip("/").removesuffix("/completions").removesuffix("/v1")


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        known = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets that do not close, a port that is no number
        return False
    return known and text.isascii() and text.isprintable() and " " not in text


def _json_object(text: str) -> str:
    """Return the JSON object in ``text``, spelled in one way, so that it names one cell.

    Raises:
        ValueError: it is none.
    """
    if not text.lstrip().startswith("{"):
        raise ValueError('is not a JSON object such as {"mode": 3}')
    try:
        return json.dumps(json.loads(text), sort_keys=True)
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    except ValueError as error:  # no JSON, or an integer of thousands of digits
        raise ValueError(f"is not JSON: {error}") from None


Axis = Annotated[tuple[T, ...], BeforeValidator(_as_tuple), Field(min_length=1)]
# Of an engine setting that a later version added: its default is what every engine had before.
LATER = "later"
LaterAxis = Annotated[tuple[T, ...], BeforeValidator(_as_tuple), Field(min_length=1), LATER]
OptionalAxis = Annotated[tuple[T, ...], BeforeValidator(_as_tuple)]
# Larger than any count that a machine could hold; a number beyond it is a slip.
_MOST = 2**40
Positive = Annotated[int, Field(ge=1, le=_MOST)]
NotNegative = Annotated[int, Field(ge=0, le=_MOST)]
# Of one host; no host has more.
Gpus = Annotated[int, Field(ge=1, le=64)]
Seed = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Seconds = Annotated[float, Field(gt=0, le=1e9)]
TextsPerS = Annotated[float, Field(gt=0, le=1e9)]
# A machine has about 28,000 ports for connections to one server.
Concurrency = Annotated[int, Field(ge=1, le=10_000)]
JsonObject = Annotated[str, AfterValidator(_json_object)]
Objective = Annotated[str, AfterValidator(_slo)]
BaseUrl = Annotated[str, AfterValidator(_base_url)]
NotBlank = Annotated[str, AfterValidator(_not_blank)]
Delimiter = Annotated[str, AfterValidator(_delimiter)]


class Table(BaseModel):
    """One table of a sweep file: no unknown keys, no silent conversion, no change after reading."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class ModelTable(Table):
    """``[model]``: what the engine loads."""

    name: NotBlank
    revision: str | None = None
    tokenizer: str | None = None
    load_format: Literal[
        "auto", "safetensors", "fastsafetensors", "pt", "dummy", "runai_streamer"
    ] = "auto"


class TaskTable(Table):
    """``[task]``: what is asked of a text; without it the experiment's question of sentiment.

    ``labels`` and ``instruction`` are those of a built-in task where ``name`` is one. Columns and
    the spellings of labels are guessed where only one reading is possible.
    """

    name: str = "sentiment"
    labels: Annotated[tuple[str, ...] | None, BeforeValidator(_as_labels)] = None
    instruction: str | None = None
    instruction_many: str | None = None
    system: str | None = None
    chat_template_kwargs: dict[str, str | int | float | bool] = {}
    text_column: str | None = None
    label_column: str | None = None
    label_map: dict[str, str] = {}


class TextsTable(Table):
    """``[texts]``: where the texts come from, in which order, and how much of each is sent.

    ``max_tokens`` 0 is the whole text. Control tokens of the model inside a text would be read as
    such: a text that holds one is refused, or the token is broken up by a space.
    """

    source: NotBlank = "builtin"
    seed: Seed | None = None
    split: str | None = None
    delimiter: Delimiter | None = None
    max_tokens: Axis[NotNegative] = (0,)
    keep: Axis[Keep] = ("head",)
    markup: Axis[Markup] = ("keep",)
    control_tokens: ControlTokens = "refuse"


class GridTable(Table):
    """``[grid]``: the axes of the question."""

    strategy: Axis[Strategy] = ("packed", "separate")
    n: Axis[Positive]
    duplication: Axis[Positive] = (1,)
    duplication_order: Axis[DuplicationOrder] = ("grouped",)
    pack_size: OptionalAxis[Positive] = ()
    instruction: Axis[Instruction] = ("after",)
    template: Axis[Template] = ("original",)
    answer: Axis[Answer] = ("free",)
    format: Axis[Format] = ("lines",)
    label_form: Axis[LabelForm] = ("words",)
    prompt_type: Axis[PromptType] = ("text",)
    output_tokens_per_text: Axis[Positive] = (1,)


class EngineTable(Table):
    """``[engine]``: vLLM's own names and meanings; every key is an axis.

    A key left out of the file takes the value below, which is then passed to vLLM by name: vLLM's
    own defaults for batch limits depend on the device and on its version. ``None`` leaves the
    choice to vLLM; what it chose is recorded with the result. ``compilation_config`` is JSON, as
    on vLLM's command line. An engine has as many GPUs of one host as the two parallel sizes
    multiply to.
    """

    kind: EngineKind = "vllm"
    tensor_parallel_size: LaterAxis[Gpus] = (1,)
    pipeline_parallel_size: LaterAxis[Gpus] = (1,)
    max_model_len: Axis[Positive | None] = (None,)
    enable_prefix_caching: Axis[bool | None] = (None,)
    max_num_seqs: Axis[Positive] = (1024,)
    max_num_batched_tokens: Axis[Positive] = (16384,)
    gpu_memory_utilization: Axis[Annotated[float, Field(gt=0, le=1)]] = (0.92,)
    kv_cache_memory_bytes: Axis[Positive | None] = (None,)
    num_gpu_blocks_override: Axis[Positive | None] = (None,)
    block_size: Axis[Positive | None] = (None,)
    dtype: Axis[Literal["auto", "bfloat16", "float16", "float32", "half", "float"]] = ("auto",)
    quantization: Axis[str | None] = (None,)
    linear_backend: Axis[str | None] = (None,)
    kv_cache_dtype: Axis[str] = ("auto",)
    enforce_eager: Axis[bool] = (False,)
    enable_chunked_prefill: Axis[bool] = (True,)
    async_scheduling: Axis[bool | None] = (None,)
    attention_backend: Axis[str | None] = (None,)
    performance_mode: Axis[Literal["balanced", "interactivity", "throughput"] | None] = (None,)
    optimization_level: Axis[Annotated[int, Field(ge=0, le=3)] | None] = (None,)
    max_cudagraph_capture_size: Axis[Positive | None] = (None,)
    compilation_config: Axis[JsonObject | None] = (None,)
    long_prefill_token_threshold: Axis[NotNegative | None] = (None,)
    disable_cascade_attn: Axis[bool | None] = (None,)
    cpu_offload_gb: Axis[Annotated[float, Field(ge=0, le=1e6)] | None] = (None,)
    tokenizer_mode: Axis[str] = ("auto",)
    trust_remote_code: Axis[bool] = (False,)
    seed: Axis[Seed] = (0,)


class MeasureTable(Table):
    """``[measure]``: how a cell is measured.

    A repeat is a further pass in the same engine, a replicate the same cell in another process.
    Where ``stop_at_half_width`` is set, passes repeat, up to ``max_repeats``, until half the 95 %
    interval of the duration is at most that share of its mean. ``isolation``: each cell in a
    process and an engine of its own, or one engine for all cells of equal engine settings.
    """

    repeats: Positive = 3
    max_repeats: Positive | None = None
    stop_at_half_width: Annotated[float, Field(gt=0, lt=1)] | None = None
    replicates: Positive = 1
    order_seed: Seed = 0
    warmup_passes: NotNegative = 1
    cache_state: Axis[CacheState] = ("cold",)
    ignore_eos: bool = True
    sample_conditions: bool = True
    isolation: Isolation = "process"


class OnlineTable(Table):
    """``[online]``: the load that a server is put under, in windows of ``window_s``.

    A window draws its requests from the cell's own, in an order of its seed. Open loop: they
    arrive at a ``rate`` in texts/s, whatever the server does. Closed loop: a ``concurrency`` of
    requests is always under way. ``max_rate`` looks for the highest rate that keeps ``slo``, from
    that rate on, for ``search_s`` at most, or 40 windows. Windows of one repeat have the same seed
    in all cells. ``url`` is a server that is there, with the key that the environment holds under
    the name ``api_key_env``; else each cell starts its own.
    """

    rate: OptionalAxis[TextsPerS] = ()
    concurrency: OptionalAxis[Concurrency] = ()
    max_rate: TextsPerS | None = None
    search_s: Seconds | None = None
    slo: Objective | None = None
    arrivals: Axis[Arrivals] = ("poisson",)
    window_s: Seconds = 60.0
    seed: NotNegative = 0
    url: BaseUrl | None = None
    api_key_env: str | None = None


class LimitsTable(Table):
    """``[limits]``: when to give up. Does not change a measurement, so is no part of a cell."""

    engine_start_timeout_s: Seconds = 1800.0
    pass_timeout_s: Seconds = 3600.0
    gpu_free_timeout_s: Annotated[float, Field(ge=0, le=1e9)] = 60.0
    max_attempts: Positive = 3
    stop_after_failures: Positive = 3


class CostTable(Table):
    """``[cost]``: what a GPU costs. Does not change a measurement, so is no part of a cell."""

    gpu_hour_usd: Annotated[float, Field(gt=0, le=1e9)] | None = None


class SimulatedTable(Table):
    """``[simulated]``: what the simulated engine pretends to be; it needs no GPU and no vLLM.

    ``gpu_locks`` names a folder; where it is set, the engine has a core, a process of its own that
    ignores SIGTERM and holds a lock there for the GPU it is on, as vLLM's holds the memory.
    """

    device: str = "H200"
    mfu: Annotated[float, Field(gt=0, le=1)] = 0.6
    mbu: Annotated[float, Field(gt=0, le=1)] = 0.6
    spread: Annotated[float, Field(ge=0, lt=1)] = 0.005
    slowdown: Annotated[float, Field(gt=0, le=1e9)] = 1.0
    coverage: Annotated[float, Field(ge=0, le=1)] = 1.0
    seed: Seed = 0
    real_seconds: Annotated[float, Field(ge=0, le=1e9)] = 0.0
    fault: Axis[Fault] = ("none",)
    gpu_locks: str | None = None


class Sweep(Table):
    """A whole sweep file.

    A ``[[variant]]`` is the same file with some values of its own; its cells come on top. So one
    setting after the other can be changed, where a list would multiply with every other list.
    """

    model: ModelTable
    grid: GridTable
    mode: Mode = "offline"
    online: OnlineTable = OnlineTable()
    task: TaskTable = TaskTable()
    texts: TextsTable = TextsTable()
    engine: EngineTable = EngineTable()
    measure: MeasureTable = MeasureTable()
    limits: LimitsTable = LimitsTable()
    cost: CostTable = CostTable()
    simulated: SimulatedTable = SimulatedTable()
    variant: tuple[Sweep, ...] = ()

    @property
    def all(self) -> tuple[Sweep, ...]:
        """The sweep itself and its variants."""
        return (self, *self.variant)

    @property
    def largest_n(self) -> int:
        """The most texts that a cell labels."""
        return max(n for each in self.all for n in each.grid.n)

    @property
    def needs_chat(self) -> bool:
        """Some cell is worded by the model's chat template."""
        return any("chat" in each.grid.template for each in self.all)


# Axes of the grid that one text in a prompt does not have -> their default.
OF_SEVERAL = {name: GridTable.model_fields[name].default for name in ("format",)}
# The modes of an engine that has more than passes.
MODES: dict[EngineKind, tuple[Mode, ...]] = {
    "vllm": ("offline", "online"),
    "simulated": ("offline", "online"),
    "external": ("online",),
}
MOST_CELLS = 100_000
MOST_TEXTS = 100_000_000
MOST_TEXTS_IN_WINDOW = 10_000_000
# A search for the highest rate ends with what is shown after so many times a window's length,
# unless ``online.search_s`` says otherwise.
MOST_WINDOWS = 40
# Setting -> the value of a cell whose sweep file does not name it, as text.
DEFAULTS = {
    prefix + name: str(field.default[0])
    for prefix, table in (
        ("", GridTable),
        ("", EngineTable),
        ("", MeasureTable),
        ("text_", TextsTable),
        ("", OnlineTable),
    )
    for name, field in table.model_fields.items()
    if isinstance(field.default, tuple) and field.default
}
# Engine setting that a later version added -> what every engine had before. Where it holds that,
# ``engine_settings`` does not name it: older cells keep their ids and compare as equal.
FORMER_SETTINGS = {
    name: field.default[0]
    for name, field in EngineTable.model_fields.items()
    if LATER in field.metadata
}


@dataclass(frozen=True, slots=True)
class Contradiction:
    """What two keys of a sweep say against each other.

    Attributes:
        told: in one line, the key first that has no effect beside the other.
        instead: what that key would have to say; None where nothing follows.
    """

    told: str
    instead: tuple[object, ...] | None = None

    @property
    def key(self) -> str:
        """The key that has no effect, such as ``grid.pack_size``."""
        return self.told.partition(":")[0]


def contradiction(sweep: Sweep) -> Contradiction | None:
    """Return the first contradiction of a sweep, or None."""
    checks = (
        _check_pack_size,
        _check_answer,
        _check_of_several,
        _check_cut,
        _check_caching,
        _check_simulated,
        _check_stopping,
        _check_mode,
        _check_size,
    )
    return next(filter(None, (check(sweep) for check in checks)), None)


def _check_pack_size(sweep: Sweep) -> Contradiction | None:
    grid = sweep.grid
    sized = [name for name in SIZED if name in grid.strategy]
    if sized and not grid.pack_size:
        return Contradiction(
            f"grid.pack_size: is missing; strategy {sized[0]} needs it, e.g. pack_size = [4]"
        )
    if grid.pack_size and not sized:
        named = " or ".join(SIZED)
        told = f"grid.pack_size: has no effect without strategy {named}; add that, or use []"
        return Contradiction(told, instead=())
    return None


def _check_answer(sweep: Sweep) -> Contradiction | None:
    grid = sweep.grid
    if grid.output_tokens_per_text != (1,) and "free" not in grid.answer:
        named = " and ".join(grid.answer)
        told = f"grid.output_tokens_per_text: has no effect with answer {named}; remove it"
        return Contradiction(told, instead=(1,))
    if "logprob" in grid.answer and set(grid.strategy).isdisjoint(ONE_TEXT):
        named = " or ".join(ONE_TEXT)
        told = f"grid.answer: logprob labels one text per prompt; it needs strategy {named}"
        others = tuple(answer for answer in grid.answer if answer != "logprob")
        return Contradiction(told, instead=others or None)
    return None


def _check_of_several(sweep: Sweep) -> Contradiction | None:
    grid, strategies = sweep.grid, " and ".join(SEVERAL)
    for name, default in OF_SEVERAL.items():
        if getattr(grid, name) == default:
            continue
        if set(grid.strategy) <= set(ONE_TEXT):
            told = f"grid.{name}: has no effect with one text per prompt; it is for {strategies}"
            return Contradiction(told, instead=default)
        if grid.answer == ("logprob",):
            told = f"grid.{name}: has no effect with answer logprob; remove it"
            return Contradiction(told, instead=default)
    return None


def _check_cut(sweep: Sweep) -> Contradiction | None:
    texts = sweep.texts
    if texts.keep != ("head",) and not any(texts.max_tokens):
        told = "texts.keep: has no effect on whole texts; set texts.max_tokens"
        return Contradiction(told, instead=("head",))
    return None


def _check_caching(sweep: Sweep) -> Contradiction | None:
    cached = {state != "off" for state in sweep.measure.cache_state}
    asked = {asked for asked in sweep.engine.enable_prefix_caching if asked is not None}
    if not asked or asked == cached:
        return None
    states = ", ".join(sweep.measure.cache_state)
    said = ", ".join(str(value).lower() for value in sorted(asked))
    told = (
        f"engine.enable_prefix_caching: {said} contradicts measure.cache_state "
        f"{states}; leave it out: cold and primed switch caching on, off switches it off"
    )
    return Contradiction(told, instead=(None,))


def _check_simulated(sweep: Sweep) -> Contradiction | None:
    if sweep.simulated.device not in DEVICES:
        known = ", ".join(sorted(DEVICES))
        told = f"simulated.device: {sweep.simulated.device!r} is not allowed: known are {known}"
        return Contradiction(told)
    if sweep.engine.kind != "simulated" and sweep.simulated != SimulatedTable():
        return Contradiction('simulated: has no effect without engine.kind = "simulated"')
    return None


def _check_stopping(sweep: Sweep) -> Contradiction | None:
    measure = sweep.measure
    if (measure.stop_at_half_width is None) != (measure.max_repeats is None):
        told = "measure.stop_at_half_width: goes together with measure.max_repeats; set both"
        return Contradiction(told)
    if measure.max_repeats is not None and measure.max_repeats < measure.repeats:
        told = f"measure.max_repeats: {measure.max_repeats} is less than repeats {measure.repeats}"
        return Contradiction(told)
    return None


def _check_mode(sweep: Sweep) -> Contradiction | None:
    kind = sweep.engine.kind
    modes = MODES.get(kind, ("offline",))
    if sweep.mode not in modes:
        return Contradiction(f'engine.kind: {kind} is for mode = "{modes[0]}"')
    told = _online_problem(sweep) if sweep.mode == "online" else _offline_problem(sweep)
    return None if told is None else Contradiction(told)


def _offline_problem(sweep: Sweep) -> str | None:
    if sweep.online != OnlineTable():
        return 'online: has no effect without mode = "online" at the top of the file'
    return None


def _online_problem(sweep: Sweep) -> str | None:
    return _load_problem(sweep.online) or _url_problem(sweep) or _measure_problem(sweep)


def _load_problem(online: OnlineTable) -> str | None:
    """Return why a table is no load, or None."""
    kinds = ("rate", "concurrency", "max_rate")
    loads = [name for name in kinds if getattr(online, name) not in {(), None}]
    if len(loads) != 1:
        found = " and ".join(loads) or "none"
        return f"online: takes exactly one of rate, concurrency and max_rate; given: {found}"
    if online.max_rate is not None and online.slo is None:
        return 'online.slo: is missing; max_rate needs one, e.g. slo = "p99 e2e <= 500 ms"'
    if online.search_s is not None and online.max_rate is None:
        return "online.search_s: has no effect without online.max_rate; remove it"
    if online.concurrency and online.arrivals != ("poisson",):
        return "online.arrivals: has no effect with concurrency; remove it"
    return _window_problem(online) or _search_problem(online)


def _window_problem(online: OnlineTable) -> str | None:
    """Return why a window would hold nothing, or more than any client sends."""
    rates = online.rate or ((online.max_rate,) if online.max_rate else ())
    for rate in rates:
        texts = rate * online.window_s
        what = f"at {rate:g} texts/s a window of {online.window_s:g} s brings"
        if texts < 1:
            return f"online.window_s: {what} less than one text; set it higher"
        if texts > MOST_TEXTS_IN_WINDOW:
            most = f"{MOST_TEXTS_IN_WINDOW:,} are the most allowed"
            return f"online.rate: {what} {texts:,.0f} texts, and {most}"
    return None


def _search_problem(online: OnlineTable) -> str | None:
    """Return why a search would end before its first window, or None."""
    if online.max_rate is None or online.slo is None:
        return None
    settle_s = slo.parse(online.slo).settle_s(online.window_s)
    longest_s = online.search_s or MOST_WINDOWS * online.window_s
    if online.window_s + settle_s <= longest_s:
        return None
    return (
        f"online.search_s: {longest_s:g} s hold no window: it takes {online.window_s:g} s, and "
        f"{settle_s:g} s before them until queues have built up"
    )


def _url_problem(sweep: Sweep) -> str | None:
    """Return what does not go together with a server that is there, or None."""
    online, kind = sweep.online, sweep.engine.kind
    if (online.url is not None) != (kind == "external"):
        return 'online.url: goes together with engine.kind = "external"; --url sets both'
    if online.api_key_env is not None and online.url is None:
        return "online.api_key_env: has no effect without online.url"
    return None


def _measure_problem(sweep: Sweep) -> str | None:
    """Return what only a pass of known requests can do, or None."""
    if sweep.measure.stop_at_half_width is not None:
        return "measure.stop_at_half_width: is for offline passes; use measure.repeats online"
    if sweep.measure.isolation != "process" and sweep.online.url is not None:
        return "measure.isolation: has no effect on an existing server; remove it"
    if "logprob" in sweep.grid.answer:
        return "grid.answer: logprob is measured offline; servers answer free or choice"
    return None


def _check_size(sweep: Sweep) -> Contradiction | None:
    """Refuse what a slip of the keyboard asks for, before it is expanded."""
    grid = sweep.grid
    total = num_cells(sweep)
    if total > MOST_CELLS:
        return Contradiction(too_many_cells(total))
    num_requests = max(grid.n) * max(grid.duplication)
    if num_requests > MOST_TEXTS:
        return Contradiction(
            f"grid.duplication: {num_requests:,} texts in a pass, n times duplication, and "
            f"{MOST_TEXTS:,} are the most allowed"
        )
    return None


def num_cells(sweep: Sweep) -> int:
    """Return how many cells a sweep has at most, its variants left out."""
    tables = (
        sweep.grid,
        sweep.engine,
        sweep.measure,
        sweep.texts,
        sweep.simulated,
        sweep.online,
    )
    values = (value for table in tables for value in table.__dict__.values())
    sizes = (max(len(value), 1) for value in values if isinstance(value, tuple))
    return math.prod(sizes) * sweep.measure.replicates


def too_many_cells(total: int) -> str:
    """Say that a sweep is larger than any that could be measured."""
    return f"grid: {total:,} cells with all axes, and {MOST_CELLS:,} are the most allowed"

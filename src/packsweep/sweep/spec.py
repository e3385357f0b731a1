"""A sweep file: its tables and keys.

This module knows the shape of a sweep file and nothing of engines, texts or results. Every key
that it accepts is a field below, with its meaning under it, from which docs/KEYS.md is made; a key
it does not know is refused with the nearest one that it does. Where a field is an axis, one value
or a list may stand in the file. Which values go together says ``contradictions``.
"""

from __future__ import annotations

import json
from typing import Annotated, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from packsweep.errors import UserError, shown
from packsweep.sweep.strategies import Strategy
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


def as_tuple(value: object) -> object:
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


Axis = Annotated[tuple[T, ...], BeforeValidator(as_tuple), Field(min_length=1)]
# Of an engine setting that a later version added: its default is what every engine had before.
LATER = "later"
LaterAxis = Annotated[tuple[T, ...], BeforeValidator(as_tuple), Field(min_length=1), LATER]
OptionalAxis = Annotated[tuple[T, ...], BeforeValidator(as_tuple)]
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
    """A hub id, a folder, or an embedded model: `embedded:smollm2-135m`, `embedded:llama-3.1-8b`,
    `embedded:llama-3.1-8b-w8a8`."""
    revision: NotBlank | None = None
    """Branch, tag or commit of a hub model; by default `main`, as the local cache holds it or else
    the newest. The commit is recorded."""
    tokenizer: NotBlank | None = None
    """A hub id, a folder or an embedded model; by default the model's own tokenizer."""
    load_format: Literal[
        "auto", "safetensors", "fastsafetensors", "pt", "dummy", "runai_streamer"
    ] = "auto"
    """Format of the weights, as in vLLM; `dummy`: random weights, whose answers are not scored."""


class TaskTable(Table):
    """``[task]``: what is asked of a text; without it the experiment's question of sentiment.

    ``labels`` and ``instruction`` are those of a built-in task where ``name`` is one. Columns and
    the spellings of labels are guessed where only one reading is possible.
    """

    name: str = "sentiment"
    """A built-in task (`sentiment`, `tickets`) or a name of your own."""
    labels: Annotated[tuple[str, ...] | None, BeforeValidator(_as_labels)] = None
    """2 to 100 labels, in the order in which the prompt lists them; required for a task of your
    own."""
    instruction: str | None = None
    """Asks about one text; may hold `{labels}` and `{text}`. Required for a task of your own."""
    instruction_many: str | None = None
    """Asks about `{n}` texts, which replace `{texts}` if it is there; by default derived from
    `instruction`."""
    system: str | None = None
    """System message of the chat, if any; only with `grid.template = "chat"`."""
    chat_template_kwargs: dict[str, str | int | float | bool] = {}
    """Variables of the chat template, such as `{ enable_thinking = false }`; only with
    `grid.template = "chat"`."""
    text_column: NotBlank | None = None
    """Column of the texts; by default guessed from common names. Of nested JSON, such as
    `document.text`."""
    label_column: str | None = None
    """Column of the labels; by default guessed from common names. `""`: read no labels."""
    label_map: dict[str, str] = {}
    """How your file spells labels, such as `{ "Bug report" = "bug" }`."""


class TextsTable(Table):
    """``[texts]``: where the texts come from, in which order, and how much of each is sent.

    ``max_tokens`` 0 is the whole text. Control tokens of the model inside a text would be read as
    such: a text that holds one is refused, or the token is broken up by a space.
    """

    source: NotBlank = "builtin"
    """Where the texts come from ([sources](SWEEP_FILE.md#sources-of-texts))."""
    seed: Seed | None = None
    """Shuffles all texts before the first n are taken; by default they keep the order of the
    source."""
    split: NotBlank | None = None
    """Split of a hub data set, such as `test`; required if there are several."""
    delimiter: Delimiter | None = None
    """One character between the fields of a CSV file; by default guessed."""
    max_tokens: Axis[NotNegative] = (0,)
    """Longest part of a text that is sent, in tokens; `0`: the whole text."""
    keep: Axis[Keep] = ("head",)
    """What is kept of a longer text: its beginning, or half from the beginning and half from the
    end."""
    markup: Axis[Markup] = ("keep",)
    """`strip` removes HTML tags and decodes entities such as `&amp;`."""
    control_tokens: ControlTokens = "refuse"
    """If a text contains a control token of the model, refuse the sweep, or break the token up with
    a space."""


class GridTable(Table):
    """``[grid]``: the axes of the question."""

    strategy: Axis[Strategy] = ("packed", "separate")
    """All n texts in one prompt, one text per prompt, or `pack_size` texts per prompt."""
    n: Axis[Positive]
    """Texts labelled in one pass; online: texts in the pool from which requests are drawn."""
    duplication: Axis[Positive] = (1,)
    """How often each request is submitted in a pass."""
    duplication_order: Axis[DuplicationOrder] = ("grouped",)
    """Copies of a request follow each other (AAABBB), or all requests take turns (ABABAB)."""
    pack_size: OptionalAxis[Positive] = ()
    """Texts per prompt of the strategy `chunked`, which requires it."""
    instruction: Axis[Instruction] = ("after",)
    """Position of the instruction; `before`: a prefix that all prompts share."""
    template: Axis[Template] = ("original",)
    """Wording: the task's own, two others for the task `sentiment` only, or the model's chat
    template."""
    answer: Axis[Answer] = ("free",)
    """Free text that is parsed, output constrained to the labels, or the most likely label after
    one forward pass."""
    format: Axis[Format] = ("lines",)
    """How a prompt of several texts asks for the answers: one per line, numbered lines, or a JSON
    object."""
    label_form: Axis[LabelForm] = ("words",)
    """The model answers with the label, or with a letter that stands for it (at most 26 labels)."""
    prompt_type: Axis[PromptType] = ("text",)
    """vLLM tokenizes each prompt, or gets token ids from one batched call of the tokenizer."""
    output_tokens_per_text: Axis[Positive] = (1,)
    """Limit of `free` answers, in tokens per text of the prompt."""


class EngineTable(Table):
    """``[engine]``: vLLM's own names and meanings; every key is an axis.

    A key left out of the file takes the value below, which is then passed to vLLM by name: vLLM's
    own defaults for batch limits depend on the device and on its version. ``None`` leaves the
    choice to vLLM; what it chose is recorded with the result. ``compilation_config`` is JSON, as
    on vLLM's command line. An engine has as many GPUs of one host as the two parallel sizes
    multiply to.
    """

    kind: EngineKind = "vllm"
    """vLLM, the simulated engine (`[simulated]`), or a running server (`online.url`)."""
    tensor_parallel_size: LaterAxis[Gpus] = (1,)
    """GPUs that share every layer."""
    pipeline_parallel_size: LaterAxis[Gpus] = (1,)
    """Stages that the layers are split into, each on GPUs of its own."""
    max_model_len: Axis[Positive | None] = (None,)
    """Longest request, prompt and answer together, in tokens; by default the model's own limit."""
    enable_prefix_caching: Axis[bool | None] = (None,)
    """Follows from `measure.cache_state`; leave it out."""
    max_num_seqs: Axis[Positive] = (1024,)
    max_num_batched_tokens: Axis[Positive] = (16384,)
    gpu_memory_utilization: Axis[Annotated[float, Field(gt=0, le=1)]] = (0.92,)
    kv_cache_memory_bytes: Axis[Positive | None] = (None,)
    num_gpu_blocks_override: Axis[Positive | None] = (None,)
    block_size: Axis[Positive | None] = (None,)
    dtype: Axis[Literal["auto", "bfloat16", "float16", "float32", "half", "float"]] = ("auto",)
    quantization: Axis[NotBlank | None] = (None,)
    linear_backend: Axis[NotBlank | None] = (None,)
    kv_cache_dtype: Axis[NotBlank] = ("auto",)
    enforce_eager: Axis[bool] = (False,)
    enable_chunked_prefill: Axis[bool] = (True,)
    async_scheduling: Axis[bool | None] = (None,)
    attention_backend: Axis[NotBlank | None] = (None,)
    performance_mode: Axis[Literal["balanced", "interactivity", "throughput"] | None] = (None,)
    optimization_level: Axis[Annotated[int, Field(ge=0, le=3)] | None] = (None,)
    max_cudagraph_capture_size: Axis[Positive | None] = (None,)
    compilation_config: Axis[JsonObject | None] = (None,)
    """A JSON object in quotes, as on vLLM's command line."""
    long_prefill_token_threshold: Axis[NotNegative | None] = (None,)
    disable_cascade_attn: Axis[bool | None] = (None,)
    cpu_offload_gb: Axis[Annotated[float, Field(ge=0, le=1e6)] | None] = (None,)
    tokenizer_mode: Axis[NotBlank] = ("auto",)
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
    """Timed passes in one engine; online: windows on one server."""
    max_repeats: Positive | None = None
    """Most passes, at least `repeats`; set it together with `stop_at_half_width`."""
    stop_at_half_width: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Add passes until half the 95 % interval of the duration is at most this share of its mean; by
    default none. Not online."""
    replicates: Positive = 1
    """Processes that measure each cell, each with an engine of its own."""
    order_seed: Seed = 0
    """Seed of the random order in which cells are measured."""
    warmup_passes: NotNegative = 1
    """Untimed passes before the timed ones."""
    cache_state: Axis[CacheState] = ("cold",)
    """Prefix cache: emptied before each pass, filled by the same pass beforehand, or switched off.
    """
    ignore_eos: bool = True
    """Every `free` answer has its full length, so all cells generate as many tokens."""
    sample_conditions: bool = True
    """Record clocks, power, temperatures and other processes during each pass."""
    isolation: Isolation = "process"
    """A process and an engine for each cell, or one engine for all cells with equal engine
    settings."""


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
    """Open loop: texts per second that arrive, however fast the server is. Set `rate`,
    `concurrency` or `max_rate`."""
    concurrency: OptionalAxis[Concurrency] = ()
    """Closed loop: requests in flight at all times."""
    max_rate: TextsPerS | None = None
    """Starting point, in texts per second, of a search for the highest rate that meets `slo`."""
    search_s: Seconds | None = None
    """Longest duration of that search, in seconds; by default 40 windows."""
    slo: Objective | None = None
    """Latency objective, such as `p99 e2e <= 500 ms` (or `ttft`, `tpot`); required with `max_rate`,
    else optional."""
    arrivals: Axis[Arrivals] = ("poisson",)
    """Gaps between requests, random or equal; not with `concurrency`."""
    window_s: Seconds = 60.0
    """How long requests arrive in one window, in seconds."""
    seed: NotNegative = 0
    """Seed of the arrival times and of the order of requests."""
    url: BaseUrl | None = None
    """Address of a running server, such as `http://127.0.0.1:8000`; by default each cell starts its
    own."""
    api_key_env: NotBlank | None = None
    """Environment variable that holds the API key of that server; by default no key is sent."""


class LimitsTable(Table):
    """``[limits]``: when to give up. Does not change a measurement, so is no part of a cell."""

    engine_start_timeout_s: Seconds = 1800.0
    """Longest start of an engine, in seconds; after that the cell fails."""
    pass_timeout_s: Seconds = 3600.0
    """Longest warm-up, pass or window, in seconds; after that the cell fails."""
    gpu_free_timeout_s: Annotated[float, Field(ge=0, le=1e9)] = 60.0
    """How long a cell waits for a GPU that another process uses, in seconds."""
    max_attempts: Positive = 3
    """Attempts at a cell in one run if it crashes, times out or finds its GPU in use."""
    stop_after_failures: Positive = 3
    """The run stops if this many cells fail in the same way before any cell is measured."""


class CostTable(Table):
    """``[cost]``: what a GPU costs. Does not change a measurement, so is no part of a cell."""

    gpu_hour_usd: Annotated[float, Field(gt=0, le=1e9)] | None = None
    """Price of one GPU for one hour; by default no costs are shown."""


class SimulatedTable(Table):
    """``[simulated]``: what the simulated engine pretends to be; it needs no GPU and no vLLM.

    ``gpu_locks`` names a folder; where it is set, the engine has a core, a process of its own that
    ignores SIGTERM and holds a lock there for the GPU it is on, as vLLM's holds the memory.
    """

    device: str = "H200"
    """GPU with whose data-sheet figures it computes, such as `H100`."""
    mfu: Annotated[float, Field(gt=0, le=1)] = 0.6
    """Share of the GPU's FLOP/s that it reaches."""
    mbu: Annotated[float, Field(gt=0, le=1)] = 0.6
    """Share of the GPU's memory bandwidth that it reaches."""
    spread: Annotated[float, Field(ge=0, lt=1)] = 0.005
    """Standard deviation of pass durations, as a share of their mean."""
    slowdown: Annotated[float, Field(gt=0, le=1e9)] = 1.0
    """Factor by which passes take longer."""
    coverage: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Share of `free` answers that contain a label."""
    seed: Seed = 0
    """Seed of the answers."""
    real_seconds: Annotated[float, Field(ge=0, le=1e9)] = 0.0
    """How long a simulated pass really takes, in seconds."""
    fault: Axis[Fault] = ("none",)
    """Failure to simulate, for tests."""
    gpu_locks: NotBlank | None = None
    """Folder of lock files that stand for GPUs, for tests."""


class Sweep(Table):
    """A whole sweep file.

    A ``[[variant]]`` is the same file with some values of its own; its cells come on top. So one
    setting after the other can be changed, where a list would multiply with every other list.
    """

    model: ModelTable
    grid: GridTable
    mode: Mode = "offline"
    """Passes over all texts at once, or a server under load (`[online]`)."""
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

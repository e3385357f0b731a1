"""Every column of every table that packsweep writes, defined once.

The Arrow schemas, the merge and ``docs/METRICS.md`` (``python -m packsweep.results.schema``) come
from the lists below. This module knows names, types, units and meanings; how a value is obtained
stands in ``packsweep.run.measure.metrics``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import pyarrow as pa

# 1: the first. 2: constrained answers, the interval of the accuracy; where the time goes,
# conditions, warnings, ceilings, energy, money. 3: the majority-class share,
# garbage collection. 4: the type of a prompt. 5: texts instead of reviews in the names.
SCHEMA_VERSION = 5
# What is read; a column that such a file lacks holds what it would have held (Column.formerly).
READABLE = frozenset({"3", "4", "5"})
# Of those, the schemas whose files may lack a seal (``parquet``).
UNSEALED = frozenset({"3", "4"})
# Name of a column -> its name in schemas 3 and 4, under which cells are hashed into their ids.
FORMER_NAMES = {
    "texts_sha256": "reviews_sha256",
    "output_tokens_per_text": "output_tokens_per_review",
    "num_texts": "num_reviews",
    "texts_per_s": "reviews_per_s",
    "correct_texts_per_s": "correct_reviews_per_s",
    "joules_per_1000_texts": "joules_per_1000_reviews",
    "joules_per_1000_correct_texts": "joules_per_1000_correct_reviews",
    "first_text": "first_review",
    "majority_class_share": "commoner_label_share",
}
VERSION_KEY = b"packsweep.schema_version"

Row = Mapping[str, Any]
Kind = Literal["string", "json", "int", "float", "bool", "time", "strings"]
# What a column of a cell is to those who tell cells apart, pair or compare them
# (``packsweep.analysis.axes``). The shape names a cell, and every table has a column for each of
# it; the state is what else of the work is no wording, the wording how is asked, a setting what
# computes, a measure how often and how it is timed. The others are these columns themselves.
Role = Literal[
    "shape",
    "state",
    "wording",
    "setting",
    "measure",
    "replicate",
    "texts",
    "prompts",
    "engine",
]
# Several columns of a mean and its interval, or one: of the median, the lowest, ...
Condensed = Literal["interval", "median", "lowest", "highest", "sum", "union"]
SIMULATED = "simulated"
OUTCOMES = ("ok", "infeasible", "oom", "timeout", "crashed", "invalid", "gpu_busy")
# Outcomes that another attempt on the same machine would only repeat.
DETERMINISTIC = frozenset({"infeasible", "oom", "invalid"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column.

    Attributes:
        unit: of the value; empty where it has none.
        formula: how it follows from other columns, or empty where it is observed.
        source: who defines it, where that is not packsweep.
        larger_is_better: None where neither is.
        over_repeats: of a column of a pass: how the summary condenses it; None: it leaves it out.
        formerly: what rows hold that were written before there was the column. A cell with this
            value keeps the id that it had.
        formerly_where: a column that is not null in the rows that hold it; others hold null.
        role: of a column of ``CELL``.
        key: of a setting in the sweep file: its key, or the table that a JSON column holds.
        follows: the columns that decide its value in most sweeps: where one of them differs, this
            one is not named as well.
    """

    name: str
    kind: Kind
    meaning: str
    unit: str = ""
    formula: str = ""
    source: str = ""
    larger_is_better: bool | None = None
    over_repeats: Condensed | None = "median"
    formerly: str | int | None = None
    formerly_where: str = ""
    role: Role | None = None
    key: str = ""
    follows: tuple[str, ...] = ()


def _string(name: str, meaning: str, **more: Any) -> Column:  # noqa: ANN401
    return Column(name=name, kind="string", meaning=meaning, **more)


def _json(name: str, meaning: str, **more: Any) -> Column:  # noqa: ANN401
    return Column(name=name, kind="json", meaning=meaning, **more)


def _int(name: str, unit: str, meaning: str, **more: Any) -> Column:  # noqa: ANN401
    return Column(name=name, kind="int", unit=unit, meaning=meaning, **more)


def _float(name: str, unit: str, meaning: str, **more: Any) -> Column:  # noqa: ANN401
    return Column(name=name, kind="float", unit=unit, meaning=meaning, **more)


_BENCH = "vllm bench throughput"

IDENTITY = (
    _string("cell_id", "readable slug and hash of every value of the cell"),
    _string("group_id", "cell_id of replicate 0: what the replicates of a cell share"),
    _string("attempt_id", "uuid of the attempt"),
    _int("attempt", "", "how many times the cell had been started before, in this folder"),
    _string("outcome", "ok, infeasible, oom, timeout, crashed, invalid or gpu_busy"),
    _string("reason", "why the outcome is not ok; null if it is"),
    Column(
        name="started_at", kind="time", unit="UTC", meaning="when the worker took its first step"
    ),
)

CELL = (
    _string("strategy", "how the texts are divided among prompts", role="shape"),
    _int("n", "texts", "distinct texts labelled in one pass", role="shape"),
    _int(
        "pack_size",
        "texts",
        "texts per prompt, of a strategy that takes a size",
        role="shape",
        follows=("strategy",),
    ),
    _int("duplication", "", "times each request is submitted within one pass", role="shape"),
    _string(
        "duplication_order",
        "grouped (AAABBB) or interleaved (ABABAB)",
        role="state",
    ),
    _string("instruction", "the instruction is after or before the texts", role="wording"),
    _string(
        "template",
        "wording: original, corrected, short, or chat (the model's own chat template)",
        role="wording",
    ),
    _string(
        "answer",
        "free; choice: constrained to one label per text; or logprob: the label with the highest "
        "log-probability",
        role="wording",
    ),
    _string(
        "format",
        "format of an answer to several texts: lines, numbered or json",
        role="wording",
        formerly="lines",
    ),
    _string(
        "label_form",
        "labels as words or as letters",
        role="wording",
        formerly="words",
    ),
    _string("task", "name of the task", role="wording", formerly="sentiment"),
    _string(
        "task_settings",
        "JSON: labels, instructions and chat template variables; {} is the unchanged sentiment "
        "task",
        role="setting",
        key="task",
        follows=("task",),
        formerly="{}",
    ),
    _int(
        "text_max_tokens",
        "tokens",
        "most tokens sent of each text; 0: all",
        role="wording",
        formerly=0,
    ),
    _string(
        "text_keep",
        "which tokens: the first (head), or half from the start and half from the end (head_tail)",
        role="wording",
        formerly="head",
    ),
    _string(
        "text_markup",
        "HTML in a text is kept or stripped (keep, strip)",
        role="wording",
        formerly="keep",
    ),
    _string(
        "prompt_type",
        "text, tokenized by the engine one by one; or tokens, tokenized in one batch beforehand",
        formerly="text",
        role="setting",
        key="grid.prompt_type",
    ),
    _int(
        "output_tokens_per_text",
        "tokens",
        "output tokens allowed per text",
        role="wording",
        follows=("answer", "format", "label_form"),
    ),
    _string(
        "cache_state",
        "cold, primed or off: state of the prefix cache before a pass",
        role="state",
    ),
    Column(
        name="ignore_eos",
        kind="bool",
        meaning="output lengths are forced",
        role="wording",
        follows=("answer",),
    ),
    _int("repeats", "", "timed passes requested", role="measure"),
    _int(
        "max_repeats",
        "",
        "most timed passes, if passes are repeated until the spread is small",
        role="measure",
    ),
    _float(
        "stop_at_half_width",
        "",
        "half width, as a share of the mean, at which repeats stop; null: run repeats passes",
        role="measure",
    ),
    _int(
        "replicate",
        "",
        "number of the process among those that measure the same cell, from 0",
        role="replicate",
    ),
    _int(
        "warmup_passes",
        "",
        "passes before the first timed one, over other texts",
        role="measure",
    ),
    Column(
        name="sample_conditions",
        kind="bool",
        meaning="the GPU and the host were sampled while a pass was timed",
        role="measure",
    ),
    _string(
        "model",
        "hub id, folder or embedded name, as in the sweep file",
        role="setting",
        key="model.name",
    ),
    _string(
        "model_revision",
        "requested revision, as in the sweep file",
        role="setting",
        key="model.revision",
        follows=("model",),
    ),
    _string(
        "tokenizer",
        "requested tokenizer, if it is not the model's own",
        role="setting",
        key="model.tokenizer",
        follows=("model",),
    ),
    _string(
        "load_format",
        "how weights were loaded; dummy means random weights",
        role="setting",
        key="model.load_format",
        follows=("model",),
    ),
    _string(
        "model_fingerprint",
        "identifies weights and tokenizer",
        role="setting",
        key="model_fingerprint",
        follows=("model",),
    ),
    _string(
        "texts_sha256",
        "hash of the texts and labels of the cell's n texts",
        role="texts",
    ),
    _string("prompts_sha256", "hash of the cell's prompts", role="prompts"),
    _string("engine", "vllm, simulated, or external: an existing server", role="engine"),
    _json(
        "engine_settings",
        "settings passed to the engine, by vLLM's names; parallel sizes only if they are not 1",
        role="setting",
        key="engine",
    ),
    _json(
        "simulated_settings",
        "what the simulated engine simulates",
        role="engine",
        key="simulated",
    ),
    _json(
        "environ",
        "environment variables of vLLM and the libraries below it that the user had set and "
        "that may change a measurement; no secrets",
        role="setting",
        key="environ",
        formerly="{}",
    ),
    _string(
        "mode",
        "offline: passes over known requests; online: windows of load on a server",
        role="state",
        formerly="offline",
    ),
    _json(
        "online",
        "the load of a server: rate (texts/s), concurrency (requests) or max_rate, arrivals, "
        "window_s, window_seed, slo, url; {} offline",
        role="setting",
        key="online",
        formerly="{}",
    ),
    _string(
        "isolation",
        "process: each cell has its own process and engine; engine: cells with equal engine "
        "settings share one, whose cache is reset between them",
        formerly="process",
        role="measure",
    ),
)

ENVIRONMENT = (
    _json("engine_resolved", "settings in force, by vLLM's names"),
    _int("block_size", "tokens", "resolved size of a KV-cache block", source="vLLM"),
    _int("num_gpu_blocks", "blocks", "resolved size of the KV cache", source="vLLM"),
    _string("device", "name of the device that the engine ran on"),
    _string(
        "device_uuid",
        "UUID of the GPU, or of several in order, separated by commas; null on a CPU",
        source="NVML",
    ),
    _int(
        "num_gpus",
        "",
        "GPUs of the engine; null on a CPU and for an existing server",
        formerly=1,
        formerly_where="device_uuid",
    ),
    _int(
        "device_memory_bytes",
        "B",
        "memory of a GPU, the smallest of several; null on a CPU",
        source="NVML",
    ),
    _string("driver_version", "NVIDIA driver; null on a CPU", source="NVML"),
    _json("versions", "package versions that the engine ran with"),
    _string("vllm_version", "version of vLLM; null for the simulated engine"),
    _string("torch_version", "version of torch; null for the simulated engine"),
    _string("packsweep_version", "version of packsweep"),
    _string("python_version", "version of Python"),
    _string("hostname", "host that the attempt ran on"),
    _string("platform", "operating system and processor architecture"),
    _int("num_cpus", "", "processors that the attempt could use"),
    _string(
        "start_method",
        "how the attempt's process started: fork, from one that had imported vLLM; spawn, as a new "
        "Python; shared, with the engine of an earlier cell",
    ),
)

# These add up to wall_s: every second of an attempt belongs to one of them.
WALL = (
    _float("spawn_s", "s", "from the start of the worker's process to its first step"),
    _float("check_s", "s", "building the prompts, waiting until the GPU is free"),
    _float("resolve_s", "s", "finding the model; preparing an embedded one, the first time"),
    _float("import_s", "s", "importing the engine's packages"),
    _float("engine_start_s", "s", "from the engine's constructor until it is ready"),
    _float("warmup_s", "s", "all warm-up passes"),
    _float("cache_s", "s", "putting the prefix cache into the cell's state, including priming"),
    _float("passes_s", "s", "the timed windows of all repeats", formula="sum of duration_s"),
    _float("between_s", "s", "around the timed windows: garbage collection, checks, scoring"),
    _float("tokenize_probe_s", "s", "measuring the tokenizer alone"),
    _float("stop_s", "s", "stopping the engine until its memory is freed"),
    _float("record_s", "s", "building the rows, up to the moment before they are written"),
)
# What vLLM's log tells of engine_start_s; the parts leave gaps and compile_s lies in init_engine_s.
ENGINE_START = (
    _float(
        "load_weights_s",
        "s",
        "building the model and loading its weights (on a CPU the weights alone)",
        source="vLLM's log",
    ),
    _float("compile_s", "s", "torch.compile", source="vLLM's log"),
    _float("graph_capture_s", "s", "capturing CUDA graphs", source="vLLM's log"),
    _float(
        "init_engine_s",
        "s",
        "profiling, KV cache and warm-up of the model; compilation and graphs included",
        source="vLLM's log",
    ),
    _int(
        "jit_compilations",
        "",
        "kernels compiled during timed passes; null if vLLM does not report them",
        source="vLLM's JIT monitor",
    ),
)

PHASES = (
    *WALL,
    Column(
        name="memory_returned",
        kind="bool",
        meaning="memory of all GPUs was freed within a minute of the stop; null without a GPU",
    ),
    _float(
        "wall_s",
        "s",
        "the attempt, from the start of its process to the moment before its rows are written",
    ),
    *ENGINE_START,
)

PASS = (
    _int(
        "repeat",
        "",
        "number of the timed pass in the attempt, from 0; null if there was none",
        over_repeats=None,
    ),
    _float(
        "duration_s",
        "s",
        "wall clock from the first submission to the last output, text in and text out",
        source=_BENCH,
        larger_is_better=False,
        over_repeats="interval",
    ),
    _int("num_requests", "requests", "requests of the pass"),
    _int("num_texts", "texts", "texts labelled, every copy counted"),
    _int("prompt_tokens", "tokens", "prompt tokens of all requests, cached ones included"),
    _int("output_tokens", "tokens", "output tokens of all requests"),
    _int("cached_tokens", "tokens", "prompt tokens that the prefix cache served", source="vLLM"),
    _int(
        "expected_cached_tokens",
        "tokens",
        "what block arithmetic expects; null if the blocks do not fit into the cache",
        formula="sum over requests of the leading whole blocks seen before, at most (L-1)/block",
    ),
    _float(
        "requests_per_s",
        "requests/s",
        "",
        formula="num_requests / duration_s",
        source=_BENCH,
        over_repeats="interval",
    ),
    _float(
        "total_tokens_per_s",
        "tokens/s",
        "counts cached prompt tokens as well",
        formula="(prompt_tokens + output_tokens) / duration_s",
        source=_BENCH,
        larger_is_better=True,
        over_repeats="interval",
    ),
    _float(
        "output_tokens_per_s",
        "tokens/s",
        "",
        formula="output_tokens / duration_s",
        source=_BENCH,
        larger_is_better=True,
        over_repeats="interval",
    ),
    _float(
        "texts_per_s",
        "texts/s",
        "the unit in which strategies can be compared",
        formula="num_texts / duration_s",
        larger_is_better=True,
        over_repeats="interval",
    ),
    _float(
        "correct_texts_per_s",
        "texts/s",
        "null where answers are not scored",
        formula="labels_right / duration_s",
        larger_is_better=True,
        over_repeats="interval",
    ),
    _float(
        "computed_prompt_tokens_per_s",
        "tokens/s",
        "prompt tokens that were computed, not served from the cache",
        formula="(prompt_tokens - cached_tokens) / duration_s",
        larger_is_better=True,
        over_repeats="interval",
    ),
    _float(
        "cached_share",
        "",
        "share of prompt tokens that the prefix cache served",
        formula="cached_tokens / prompt_tokens",
    ),
    _float(
        "tokenize_s",
        "s",
        "tokenizing the pass's texts, measured once per attempt outside the timed window",
    ),
    _float("engine_span_s", "s", "first scheduling to last token, on the engine's clock"),
    _float(
        "before_engine_s",
        "s",
        "first submission to first scheduling: tokenizing the first prompt, IPC; "
        "null if engine and worker do not share a clock (they do on Linux)",
    ),
    _float("prefill_span_s", "s", "first scheduling to the first token of the last request"),
    _float("decode_span_s", "s", "the last request's first token to the last token of all"),
    _float(
        "after_engine_s",
        "s",
        "last token to return: IPC, detokenizing; null if before_engine_s is null",
        formula="duration_s - before_engine_s - prefill_span_s - decode_span_s",
    ),
    _float(
        "queue_p50_s",
        "s",
        "median over requests: queued to scheduled",
        source="vLLM",
        over_repeats=None,
    ),
    _float("prefill_p50_s", "s", "median over requests: scheduled to first token", source="vLLM"),
    _float("decode_p50_s", "s", "median over requests: first to last token", source="vLLM"),
    _int(
        "num_preemptions",
        "",
        "preempted requests; null if the version does not report them",
        over_repeats=None,
    ),
    _int("labels_found", "texts", "texts with a label; null if answers are not scored"),
    _int("labels_right", "texts", "texts with the correct label; null where not scored"),
    _int(
        "labels_missing",
        "texts",
        "texts without a label; null where not scored",
        formula="num_texts - labels_found",
    ),
    _int("labels_surplus", "", "label words beyond one per text; null where not scored"),
    _float("coverage", "", "", formula="labels_found / num_texts", larger_is_better=True),
    _float(
        "accuracy",
        "",
        "a text without a label counts as wrong",
        formula="labels_right / num_texts",
        larger_is_better=True,
    ),
    _float(
        "majority_class_share",
        "",
        "share of the texts in the majority class: the accuracy of always giving that label; null "
        "where not scored",
    ),
)

_SERVE = "vllm bench serve"
_LATENCIES = {
    "ttft": "time to first token, from the scheduled arrival",
    "tpot": "time per output token after the first; null of answers with one token",
    "itl": "between a token and the next; null of answers with one token",
    "e2e": "from the scheduled arrival to the last token",
}
_STATISTICS = {
    "mean": "mean",
    "p50": "median",
    "p90": "90th percentile",
    "p95": "95th percentile",
    "p99": "99th percentile",
}
_WITH_INTERVAL = {("ttft", "p99"), ("e2e", "p99")}


def _latencies() -> tuple[Column, ...]:
    return tuple(
        _float(
            f"{name}_{statistic}_s",
            "s",
            f"{said} over whole answers: {meaning}",
            source=_SERVE,
            larger_is_better=False,
            over_repeats="interval" if (name, statistic) in _WITH_INTERVAL else "median",
        )
        for name, meaning in _LATENCIES.items()
        for statistic, said in _STATISTICS.items()
    )


# Of a window of an online cell; null offline. In a closed loop a request arrives as it is sent.
WINDOW = (
    _float("rate_texts_per_s", "texts/s", "requested rate of the window; null in a closed loop"),
    _float(
        "offered_texts_per_s",
        "texts/s",
        "arrival rate realized in the window, as drawn from the seed",
        larger_is_better=True,
    ),
    _float(
        "achieved_texts_per_s",
        "texts/s",
        "texts of complete answers from one median E2E after the window's start until its end; "
        "equals the offered rate if the server keeps up",
        larger_is_better=True,
    ),
    *_latencies(),
    _float(
        "service_ttft_p99_s",
        "s",
        "99th percentile of the time to first token from the dispatch: without the client's delay",
        larger_is_better=False,
    ),
    _float(
        "service_e2e_p99_s",
        "s",
        "99th percentile of dispatch to last token",
        larger_is_better=False,
    ),
    _float(
        "attainment",
        "",
        "share of requests within the SLO's limit; failed and unfinished requests violate it",
        larger_is_better=True,
        over_repeats="interval",
    ),
    _float(
        "goodput_texts_per_s",
        "texts/s",
        "texts of requests within the SLO's limit, per second of the window",
        larger_is_better=True,
        over_repeats="interval",
    ),
    _int("num_errors", "requests", "requests without a complete answer", over_repeats="sum"),
    Column(
        name="errors",
        kind="strings",
        meaning="kinds of errors with their counts, such as rate_limited:12",
        over_repeats="union",
    ),
    _float(
        "backlog_requests_per_s", "requests/s", "slope of the requests in flight over the window"
    ),
    _float("dispatch_delay_p50_s", "s", "median of send time minus scheduled time"),
    _float(
        "dispatch_delay_p99_s",
        "s",
        "99th percentile of send time minus scheduled time",
        over_repeats="highest",
    ),
    _float(
        "client_busy_share",
        "",
        "CPU time of the client over the window; near 1, the client is the bottleneck",
        over_repeats="highest",
    ),
    _float(
        "server_running",
        "requests",
        "running requests, mean of samples in the window",
        source="vLLM",
    ),
    _float(
        "server_waiting",
        "requests",
        "waiting requests, mean of samples in the window",
        source="vLLM",
    ),
    _float(
        "server_cached_share",
        "",
        "prefix cache hits over queries preemptions in the window, by the server's counters",
        source="vLLM",
    ),
    _int(
        "server_preemptions",
        "",
        "preemptions in the window, by the server's counter",
        source="vLLM",
    ),
)
# Of the requests that keep the SLO, the same in all windows of an attempt; of a search at the rate
# that is shown to pass, else at the lowest that it tried.
ATTAINED = (
    _float(
        "attainment_low",
        "",
        "lower end of the 95 % interval of attainment, over batches of time in the windows of one "
        "server",
    ),
    _float("attainment_high", "", "upper end of that interval"),
)
# Of a search for the highest rate, the same in all its windows; null without one.
MAX_RATE = (
    _string(
        "max_rate_verdict",
        "where the highest rate lies: bracketed by the two below, none_passes, none_fails, or "
        "undecided",
    ),
    _float(
        "max_rate_pass_texts_per_s",
        "texts/s",
        "highest rate that is shown to meet the SLO",
        larger_is_better=True,
    ),
    _float(
        "max_rate_fail_texts_per_s",
        "texts/s",
        "lowest rate that is shown not to meet it",
        larger_is_better=True,
    ),
    _float(
        "max_rate_texts_per_s",
        "texts/s",
        "where an isotonic fit of the attainment crosses the SLO's share",
        larger_is_better=True,
    ),
    _string(
        "max_rate_reason",
        "why a search shows no more, and how long that would take; null if the bracket is narrow",
    ),
)

CONDITIONS = (
    _int(
        "num_samples",
        "",
        "samples in the timed window, each over all GPUs of the engine; null without a GPU",
        over_repeats="sum",
    ),
    _float(
        "sm_clock_p50_mhz",
        "MHz",
        "median of the SM clock, of the slowest of several GPUs",
        source="NVML",
    ),
    _float("sm_clock_min_mhz", "MHz", "lowest SM clock seen", source="NVML", over_repeats="lowest"),
    Column(
        name="throttle_reasons",
        kind="strings",
        meaning="why clocks were reduced at some time, by nvidia-smi's names, except idling",
        source="NVML",
        over_repeats="union",
    ),
    _float(
        "temperature_max_c",
        "°C",
        "highest temperature of any GPU",
        source="NVML",
        over_repeats="highest",
    ),
    _float("power_mean_w", "W", "mean power of all GPUs over the samples", source="NVML"),
    Column(
        name="foreign_gpu_pids",
        kind="strings",
        meaning="processes computing on a GPU of the engine that are not the attempt's",
        source="NVML",
        over_repeats="union",
    ),
    _float(
        "other_cpu_share",
        "",
        "share of the host's CPU time, idle time included, that processes other than the attempt's "
        "used in the window; time stolen by a hypervisor counts as theirs",
        over_repeats="highest",
    ),
    _float(
        "gc_s",
        "s",
        "garbage-collection pauses in the engine's client process",
        over_repeats="highest",
    ),
    _float(
        "energy_j",
        "J",
        "energy of all GPUs of the engine over the timed window, including other load on them; "
        "null if one has no counter, and below 1 s, since counters advance about every 0.1 s",
        source="NVML",
        larger_is_better=False,
    ),
)

ENERGY = (
    _float(
        "joules_per_1000_texts",
        "J",
        "energy of all GPUs in the timed window, without that of the host and of engine start",
        formula="1000 * energy_j / num_texts",
        larger_is_better=False,
    ),
    _float(
        "joules_per_1000_correct_texts",
        "J",
        "null where answers are not scored or none is correct",
        formula="1000 * energy_j / labels_right",
        larger_is_better=False,
    ),
)
PRICE = (_float("gpu_hour_usd", "USD", "price of one GPU hour, from the sweep file"),)
COST = (
    _float("gpu_hour_usd", "USD", "price of one GPU hour: --gpu-hour-usd or the sweep file's"),
    _float(
        "usd_per_1000_texts",
        "USD",
        "cost of all GPUs of the engine in the timed window, without its start and stop; a null "
        "num_gpus counts as 1",
        formula="num_gpus * gpu_hour_usd / 3600 * 1000 / texts_per_s_median",
        larger_is_better=False,
    ),
    _float(
        "usd_per_1000_correct_texts",
        "USD",
        "the same per correct answer; null where answers are not scored or none is correct",
        formula="num_gpus * gpu_hour_usd / 3600 * 1000 / correct_texts_per_s_median",
        larger_is_better=False,
    ),
)
PER_GPU = (
    _float(
        "texts_per_s_per_gpu",
        "texts/s",
        "throughput divided by the GPUs of the engine; null without one",
        formula="texts_per_s_median / num_gpus",
        larger_is_better=True,
    ),
)
UTILIZATION = (
    _float(
        "flops",
        "FLOP",
        "model FLOPs of the computed tokens; null where cached tokens are not known",
        formula="sum over requests with T = prompt + output - 1 and m = T - cached: m * (2 * "
        "parameters of the layers' matrices) + 4 * layers * heads * head_dim * (m * cached + "
        "m * (m + 1) / 2) + output * 2 * hidden * vocabulary",
        source="Chowdhery et al. 2022, appendix B",
    ),
    _int(
        "least_steps",
        "steps",
        "least number of forward steps of the pass, assumed for read_bytes: the largest of what "
        "computed tokens over max_num_batched_tokens, output tokens over max_num_seqs, and the "
        "longest request need",
    ),
    _float(
        "read_bytes",
        "B",
        "lower bound of the bytes read; null where a format is not known",
        formula="least_steps * bytes of the layers' matrices + longest output * bytes of the "
        "output projection + (cached tokens + context of every decoded token) * KV bytes per token",
    ),
    _float(
        "mfu",
        "",
        "model FLOPs utilization of all GPUs over the whole timed window; a null num_gpus counts "
        "as 1",
        formula="flops / duration_s / num_gpus / peak_flops_per_s",
        larger_is_better=True,
    ),
    _float(
        "mbu",
        "",
        "memory bandwidth utilization of all GPUs over the whole timed window, a lower bound",
        formula="read_bytes / duration_s / num_gpus / peak_bytes_per_s",
        larger_is_better=True,
    ),
)
CEILING = (
    _string(
        "peak_dtype",
        "bf16, fp8, int8 or fp32: the dtype whose peak applies; null for other formats",
    ),
    _float("peak_flops_per_s", "FLOP/s", "dense peak of one device; null where not known"),
    _float("peak_bytes_per_s", "B/s", "peak memory bandwidth of one device; null where not known"),
    _string("ceiling_source", "data sheet or measurement that the two peaks come from"),
)

PASSES = (
    *IDENTITY,
    *CELL,
    *PASS,
    *WINDOW,
    *ATTAINED,
    *MAX_RATE,
    *UTILIZATION,
    *CONDITIONS,
    *ENERGY,
    *PRICE,
    *PHASES,
    *CEILING,
    *ENVIRONMENT,
)

# Of a request to a server; null offline.
SENT = (
    _float("arrived_s", "s", "when it was to be sent, since the window's start"),
    _float("dispatched_s", "s", "when it was sent"),
    _float("ttft_s", "s", "scheduled arrival to first token"),
    _float("tpot_s", "s", "time per output token after the first"),
    _float("e2e_s", "s", "scheduled arrival to last token"),
    _string("error", "why there is no whole answer; null where there is one"),
)

REQUESTS = (
    _string("cell_id", "the cell"),
    _string("attempt_id", "the attempt"),
    _int("repeat", "", "the timed pass"),
    _int("request", "", "order of submission within the pass, from 0"),
    _int("prompt", "", "which distinct prompt of the cell, from 0"),
    _int("copy", "", "which submission of that prompt, from 0"),
    _int("first_text", "", "index of the prompt's first text among the n"),
    _int("num_texts", "texts", "texts in the prompt"),
    _int("prompt_tokens", "tokens", "length of the prompt"),
    _int("output_tokens", "tokens", "tokens generated"),
    _int("cached_tokens", "tokens", "prompt tokens that the prefix cache served"),
    _int("expected_cached_tokens", "tokens", "what block arithmetic expects"),
    _float("queue_s", "s", "queued to scheduled, engine clock"),
    _float("prefill_s", "s", "scheduled to first token, engine clock"),
    _float("decode_s", "s", "first to last token, engine clock"),
    _float("scheduled_s", "s", "since the pass's first scheduling, engine clock"),
    _float("last_token_s", "s", "since the pass's first scheduling, engine clock"),
    _string("finish_reason", "length or stop", source="vLLM"),
    _string("text", "generated text up to the first end-of-sequence token"),
    Column(
        name="expected_labels",
        kind="strings",
        meaning="the texts' own labels, in order; null if a text has none",
    ),
    Column(name="found_labels", kind="strings", meaning="labels read from the text; null if none"),
    _float(
        "confidence",
        "",
        "probability of the label found among all labels, the product of its shares at the "
        "positions where labels diverge; null unless answer is logprob",
    ),
    *SENT,
)

# Columns of a pass by what the summary makes of them (``over_repeats``): several, or one value.
MEASURED = tuple(
    column.name
    for column in (*PASS, *WINDOW, *UTILIZATION, *CONDITIONS, *ENERGY)
    if column.over_repeats == "interval"
)
CONSTANT = tuple(column for column in PASS if column.over_repeats not in {"interval", None})
CONDENSED = tuple(
    column
    for column in (*WINDOW, *UTILIZATION, *CONDITIONS, *ENERGY)
    if column.over_repeats not in {"interval", None}
)
_EVIDENCE = (
    "95 % Wilson interval of the accuracy, over the n distinct texts of one pass: repeats and "
    "copies ask the same at temperature 0 and add no information. Texts of one prompt are treated"
    " as independent, which show --quality does not; null where not scored"
)
INTERVAL = (
    _float("accuracy_ci_low", "", f"lower end of the {_EVIDENCE}", source="Wilson (1927)"),
    _float("accuracy_ci_high", "", f"upper end of the {_EVIDENCE}", source="Wilson (1927)"),
)


def _spread(column: Column) -> tuple[Column, ...]:
    what = column.meaning or column.formula
    return tuple(
        Column(
            name=f"{column.name}_{suffix}",
            kind="float",
            unit=column.unit,
            meaning=f"{text} over the repeats: {what}",
            source=column.source,
            larger_is_better=column.larger_is_better,
        )
        for suffix, text in (
            ("median", "median"),
            ("mean", "mean"),
            ("ci_low", "lower end of the 95 % t interval of the mean (see num_processes)"),
            ("ci_high", "upper end of the 95 % t interval of the mean (see num_processes)"),
        )
    )


def _condensed(column: Column) -> Column:
    meaning = f"{column.over_repeats} over the repeats: {column.meaning}"
    return replace(column, meaning=meaning, formula="")  # that is of one pass


SUMMARY = (
    *IDENTITY,
    *CELL,
    _int("num_repeats", "", "timed passes that count, over all processes"),
    _int("num_processes", "", "engine processes that the repeats come from"),
    _int(
        "repeats_for_1_percent",
        "",
        "processes (repeats, if there is one process) needed for a half interval of the mean of "
        "texts_per_s of 1 %, at the spread observed",
    ),
    Column(
        name="warnings",
        kind="strings",
        meaning="codes of the warnings that apply (`src/packsweep/results/warnings.py`); "
        "empty: none",
    ),
    *(spread for column in PASSES if column.name in MEASURED for spread in _spread(column)),
    *CONSTANT,
    *INTERVAL,
    *(_condensed(column) for column in CONDENSED),
    *MAX_RATE,
    *PER_GPU,
    *COST,
    *PHASES,
    *CEILING,
    *ENVIRONMENT,
)


@lru_cache(maxsize=4096)
def parsed(text: str | None) -> Mapping[str, Any]:
    """Return what a column of JSON holds; a text that many rows share is parsed once."""
    return MappingProxyType(json.loads(text or "{}"))


def arrow_schema(columns: Iterable[Column]) -> pa.Schema:
    """Return the Arrow schema of a table, its version in the metadata."""
    import pyarrow as pa

    kinds = {
        "string": pa.string(),
        "json": pa.string(),
        "int": pa.int64(),
        "float": pa.float64(),
        "bool": pa.bool_(),
        "time": pa.timestamp("us", tz="UTC"),
        "strings": pa.list_(pa.string()),
    }
    return pa.schema(
        [(column.name, kinds[column.kind]) for column in columns],
        metadata={VERSION_KEY: str(SCHEMA_VERSION).encode()},
    )


def to_markdown() -> str:
    """Return ``docs/METRICS.md``: every table with its columns."""
    tables = (
        ("Passes", "`cells/<cell_id>/<attempt_id>.parquet`: a row per timed pass.", PASSES),
        ("Requests", "`cells/<cell_id>/requests-<attempt_id>.parquet`: a row each.", REQUESTS),
        ("Summary", "`summary.parquet`, `summary.csv`: a row per cell.", SUMMARY),
    )
    head = (
        "# Columns\n\n"
        f"Made from `src/packsweep/results/schema.py`, schema version {SCHEMA_VERSION}. "
        "Undefined is null, never 0."
    )
    return "\n\n".join([head, *(_section(*table) for table in tables)]) + "\n"


def _section(title: str, what: str, columns: Iterable[Column]) -> str:
    rows = [
        f"| `{each.name}` | {each.kind} | {each.unit} | {_meaning(each)} | {each.source} |"
        for each in columns
    ]
    head = ["| column | type | unit | meaning | source |", "|---|---|---|---|---|"]
    return "\n".join([f"## {title}", "", what, "", *head, *rows])


def _meaning(column: Column) -> str:
    formula = f"`{column.formula}`" if column.formula else ""
    return "; ".join(part for part in (column.meaning, formula) if part)


if __name__ == "__main__":
    import sys

    sys.stdout.write(to_markdown())

"""How long a pass takes, and an engine's start, on a named GPU: one formula and its constants.

docs/PREDICTION.md has the formula in words and its figures beside measured ones. Pure functions:
``plan`` asks them before anything runs, the simulated engine instead of running.

A pass is bound by the GPU or by the process that feeds it, whichever ends last::

    duration = max(first text + prefill + decode, every text + the last request alone)
    prefill  = FLOPs / (peak FLOP/s * MFU) + two steps * PREFILL_STEP_S + what later ones wait
    decode   = bytes / (peak bytes/s * MBU) + steps * DECODE_STEP_S

The constants are shares and times measured on one H200 with an 8B model, none of them fitted to a
single cell. On another GPU the shares are assumed to hold; the times belong to the host as well.
Not in it: CUDA graphs switched off, preemption for want of KV cache, reading weights from a disk,
and what several GPUs of an engine send each other, so that its times are lower bounds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from packsweep.machine.devices import Device
from packsweep.models.architecture.shape import ModelShape
from packsweep.plan import roofline
from packsweep.plan.roofline import Bytes, Work

# Share of the data sheet's FLOP/s that prefill reaches, by the dtype that it computes in.
# Source: docs/LOG.md, the experiment's grid: 62 % over whole passes, one prompt of 115,419 tokens
# and 400 short ones alike. fp8: 400 short prompts in 1.80 s. int8: 400 short prompts in 1.584 s,
# 4,096 tokens a step.
MFU = {"bf16": 0.62, "fp8": 0.495, "int8": 0.52}
# Share of the data sheet's bytes/s that decode reaches: 167 GB in a step of 37.4 ms.
# Source: docs/LOG.md, packed 400 x 10: 399 steps in 14.91 s.
MBU = 0.93
# What a decode step takes besides reading: 8.4 ms for 30.1 GB, of which 6.7 ms are reading.
# Source: packed 400, 400 output tokens in 3.35 s.
DECODE_STEP_S = 0.0017
# What a step with prefill takes besides computing; such steps run without CUDA graphs.
# Source: passes over 4 texts take 37 to 44 ms; computing and decoding explain 16 to 31 ms.
PREFILL_STEP_S = 0.010
# Tokenizing, by the process that feeds the engine. A request is tokenized while earlier ones run.
# Source: 0.25 s for 124,593 tokens in 400 texts, 0.36 to 0.47 s for 115,419 tokens in one.
TOKENIZE_S_PER_TOKEN = 2.7e-6
# The same by all of a host's processors at once, before the engine has anything to do.
# Source: 0.020 s for 124,593 tokens in 400 texts, 0.174 s for 1,245,930 in 4,000; 32 processors.
TOKENIZE_TOGETHER_S_PER_TOKEN = 1.5e-7
SHUTDOWN_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class StartTime:
    """From the start of a cell's process to a ready engine, in seconds.

    Attributes:
        warm_s: the compile cache is filled.
        cold_s: it is empty, and the process that others are forked from has to import first.
    """

    warm_s: float
    cold_s: float


# Source: docs/LOG.md, random weights. One GPU, forked with the tokenizer loaded: 11.5 and 14.3 s,
# stopped in 0.4 and 0.5 s; cold 101 to 110 s, on slower hosts up to 179 s. A new Python: imported
# in 18.9 and 20.6 s, then started in 37.7 and 46.8 s.
FORKED = StartTime(warm_s=13.0, cold_s=105.0)
SPAWNED = StartTime(warm_s=62.0, cold_s=105.0)
# Of an engine over two GPUs vLLM spawns core and ranks, also where its worker was forked: 53 s,
# cold 170 s. A worker that is a new Python imports before that.
FORKED_OVER_GPUS = StartTime(warm_s=53.0, cold_s=170.0)
SPAWNED_OVER_GPUS = StartTime(warm_s=73.0, cold_s=190.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Starts:
    """How long engines take to start, by how their workers begin and how many GPUs they have."""

    forked: StartTime = FORKED
    spawned: StartTime = SPAWNED
    forked_over_gpus: StartTime = FORKED_OVER_GPUS
    spawned_over_gpus: StartTime = SPAWNED_OVER_GPUS

    def of(self, num_gpus: int, *, forked: bool) -> StartTime:
        if num_gpus == 1:
            return self.forked if forked else self.spawned
        return self.forked_over_gpus if forked else self.spawned_over_gpus


@dataclass(frozen=True, slots=True, kw_only=True)
class Constants:
    """What one kind of device takes and reaches; the defaults are a GPU's, in seconds and shares.

    Attributes:
        mfu: by the dtype computed in, the share of the device's peak that prefill reaches.
    """

    mfu: Mapping[str, float] = field(default_factory=lambda: MFU)
    mbu: float = MBU
    decode_step_s: float = DECODE_STEP_S
    prefill_step_s: float = PREFILL_STEP_S
    starts: Starts = field(default_factory=Starts)
    shutdown_s: float = SHUTDOWN_S


# An engine on a processor, whose peaks are those of ``machine.calibration``.
# Source: docs/LOG.md: SmolLM2-135M read 1,372 tokens/s in bf16 and 719 in float32 on cores that
# multiply 430 and 188 GFLOP/s, and 671 with AVX2 alone; a step of decoding took 26 ms. Importing
# vLLM and starting takes 10 times as long as importing torch, starting alone 2.5 times.
ON_PROCESSOR = Constants(
    mfu={"bf16": 0.86, "fp32": 0.97},
    mbu=0.9,
    decode_step_s=0.010,
    prefill_step_s=0.020,
    shutdown_s=1.0,
)
STARTS_PER_TORCH_IMPORT = 10.0
FORKED_STARTS_PER_TORCH_IMPORT = 2.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """What a pass submits.

    Attributes:
        requests: every prompt as it is submitted first.
        copies: the same prompts as each further submission finds the cache.
        num_copies: how often ``copies`` are submitted.
    """

    requests: tuple[Work, ...]
    copies: tuple[Work, ...] = ()
    num_copies: int = 0

    @property
    def num_requests(self) -> int:
        """Every copy counted."""
        return len(self.requests) + self.num_copies * len(self.copies)

    def total(self, of: Callable[[Sequence[Work]], float]) -> float:
        """Return what ``of`` adds up over all requests."""
        return of(self.requests) + self.num_copies * of(self.copies)

    @property
    def cached_tokens(self) -> int:
        """Prompt tokens that the prefix cache serves."""
        return round(self.total(lambda works: sum(work.cached_tokens for work in works)))

    @property
    def prompt_tokens(self) -> int:
        """Prompt tokens of all requests, cached ones included."""
        return round(self.total(_prompt_tokens))

    @property
    def longest_answer(self) -> int:
        return max((work.output_tokens for work in self.requests), default=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """On what a pass runs.

    Attributes:
        shape: of the part of every layer that a GPU has (``ModelConfig.shard``).
        peak_flops_per_s: of one GPU, as the bandwidth is.
        mfu: share of ``peak_flops_per_s`` that prefill reaches.
        mbu: share of the device's bandwidth that decode reaches.
        num_stages: among which the layers are divided.
        size: bytes of weights and of the KV cache's elements.
        tokenized_before: all texts together, not one by one while earlier requests run.
    """

    shape: ModelShape
    device: Device
    size: Bytes
    peak_flops_per_s: float
    mfu: float = MFU["bf16"]
    mbu: float = MBU
    max_num_batched_tokens: int = 16384
    max_num_seqs: int = 1024
    tokenized_before: bool = False
    prefill_step_s: float = PREFILL_STEP_S
    decode_step_s: float = DECODE_STEP_S
    num_stages: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class PassTime:
    """Where the time of a pass goes.

    Attributes:
        first_text_s: tokenizing before the engine has anything to do: the first text, or all.
        feed_s: tokenizing every request.
        last_request_s: what the request that was fed last takes at least.
    """

    first_text_s: float
    prefill_s: float
    decode_s: float
    feed_s: float
    last_request_s: float

    @property
    def duration_s(self) -> float:
        """The wall clock of the pass."""
        bound_by_gpu = self.first_text_s + self.prefill_s + self.decode_s
        return max(bound_by_gpu, self.feed_s + self.last_request_s)


def pass_time(engine: Engine, load: Pass) -> PassTime:
    """Return how long ``load`` takes on ``engine``."""
    if not load.requests:
        return PassTime(
            first_text_s=0.0, prefill_s=0.0, decode_s=0.0, feed_s=0.0, last_request_s=0.0
        )
    steps = load.longest_answer - 1
    alone_s = _reading_s(engine, steps, max(map(roofline.decode_context, load.requests)))
    first_text_s = load.requests[0].prompt_tokens * TOKENIZE_S_PER_TOKEN
    feed_s = load.prompt_tokens * TOKENIZE_S_PER_TOKEN
    if engine.tokenized_before:
        first_text_s = feed_s = load.prompt_tokens * TOKENIZE_TOGETHER_S_PER_TOKEN
    return PassTime(
        first_text_s=first_text_s,
        prefill_s=_prefill_s(engine, load),
        decode_s=_decode_s(engine, load, steps),
        feed_s=feed_s,
        last_request_s=engine.prefill_step_s + alone_s + steps * engine.decode_step_s,
    )


def _prefill_s(engine: Engine, load: Pass) -> float:
    """Return the time of computing every prompt token that is not cached.

    Pipeline stages compute different steps at once; the first step has to reach the last stage.
    """
    flops = load.total(lambda works: roofline.prefill_flops(engine.shape, works))
    computed = load.prompt_tokens - load.cached_tokens
    steps = max(
        math.ceil(computed / engine.max_num_batched_tokens),
        math.ceil(load.num_requests / engine.max_num_seqs),
    )
    # The engine starts with the first request while the others are still being tokenized.
    steps += load.num_requests > 1
    computing_s = flops / (engine.peak_flops_per_s * engine.mfu)
    computing_s *= (steps + engine.num_stages - 1) / (steps * engine.num_stages)
    # From the third step on one is prepared while the one before it computes.
    waiting_s = max(0.0, engine.prefill_step_s - computing_s / steps)
    return computing_s + min(steps, 2) * engine.prefill_step_s + max(steps - 2, 0) * waiting_s


def _decode_s(engine: Engine, load: Pass, steps: int) -> float:
    """Return the time of decoding, at most ``max_num_seqs`` requests at once.

    Of several requests every pipeline stage decodes some at a time. It reads its weights for each
    of these batches, so that the weights take as long as on one stage, and the contexts do not.
    """
    turns = math.ceil(load.num_requests / engine.max_num_seqs) * steps
    context = load.total(lambda works: sum(map(roofline.decode_context, works)))
    context /= min(engine.num_stages, load.num_requests)
    return _reading_s(engine, turns, context) + turns * engine.decode_step_s


def _reading_s(engine: Engine, steps: int, context: float) -> float:
    """Return the time of reading the weights ``steps`` times and ``context`` tokens once."""
    num_bytes = steps * roofline.step_bytes(engine.shape, engine.size)
    num_bytes += context * roofline.kv_bytes(engine.shape, engine.size)
    return num_bytes / (engine.device.memory_bytes_per_s * engine.mbu)


def _prompt_tokens(works: Sequence[Work]) -> int:
    return sum(work.prompt_tokens for work in works)

"""The least that a pass must compute and read.

Pure functions over a model's shape; what devices can do stands in ``devices``, how long work takes
in ``pass_time``. FLOPs count a multiply and an add as two. Only computed tokens count: what the
prefix cache serves is not work.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from packsweep.models.architecture.shape import ModelShape


class Bytes(Protocol):
    """How many bytes an element takes."""

    @property
    def layer_bytes(self) -> float | None:
        """Of an entry of a layer's matrices."""

    @property
    def head_bytes(self) -> float | None:
        """Of an entry of the output projection."""

    @property
    def kv_bytes(self) -> float | None:
        """Of an element of the KV cache."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Tokens of one request.

    Attributes:
        prompt_tokens: length of the prompt.
        cached_tokens: how many of them the prefix cache serves.
        output_tokens: tokens generated, the one that ends prefill included.
    """

    prompt_tokens: int
    cached_tokens: int
    output_tokens: int


def prefill_flops(shape: ModelShape, requests: Sequence[Work]) -> float:
    """Return the FLOPs of computing every uncached prompt token and one output token each."""
    return float(
        sum(
            shape.matmul_flops_per_token * (work.prompt_tokens - work.cached_tokens)
            + shape.attention_flops(work.prompt_tokens - work.cached_tokens, work.prompt_tokens)
            + shape.lm_head_flops
            for work in requests
        )
    )


def flops(shape: ModelShape, requests: Sequence[Work]) -> float:
    """Return the model FLOPs of a pass: every computed token, and a row of logits a sampled one.

    The last output token is sampled and never fed back, so a request computes
    ``prompt - cached + output - 1`` tokens. What a preemption has computed again is not counted.

    Source: A. Chowdhery et al., "PaLM", 2022, appendix B: model FLOPs, not those of the hardware.
    """
    return float(
        sum(
            shape.matmul_flops_per_token * _computed(work)
            + shape.attention_flops(_computed(work), work.prompt_tokens + work.output_tokens - 1)
            + shape.lm_head_flops * work.output_tokens
            for work in requests
        )
    )


def _computed(work: Work) -> int:
    return work.prompt_tokens - work.cached_tokens + work.output_tokens - 1


def least_steps(requests: Sequence[Work], *, max_num_batched_tokens: int, max_num_seqs: int) -> int:
    """Return how many forward steps a pass takes at least.

    A step computes at most ``max_num_batched_tokens`` tokens of at most ``max_num_seqs`` requests,
    and a request takes a step for each of its output tokens, the first in the step that ends its
    prefill.
    """
    if not requests:
        return 0
    tokens = sum(_computed(work) for work in requests)
    longest = max(
        math.ceil((work.prompt_tokens - work.cached_tokens) / max_num_batched_tokens)
        + work.output_tokens
        - 1
        for work in requests
    )
    turns = sum(work.output_tokens for work in requests)
    return max(math.ceil(tokens / max_num_batched_tokens), math.ceil(turns / max_num_seqs), longest)


def read_bytes(shape: ModelShape, requests: Sequence[Work], steps: int, size: Bytes) -> float:
    """Return the bytes that a pass reads from memory at least: a lower bound.

    The layers' matrices once a step; the output projection once for each token of the longest
    answer; the cached prefix once a request; the context before it once for each decoded token. Not
    counted: writing, activations, the embedding's rows, and what prefill reads of its own keys.
    """
    answers = max((work.output_tokens for work in requests), default=0)
    context = sum(work.cached_tokens + decode_context(work) for work in requests)
    head = _head_bytes(shape, size)
    layers = step_bytes(shape, size) - head
    return steps * layers + answers * head + context * kv_bytes(shape, size)


def step_bytes(shape: ModelShape, size: Bytes) -> float:
    """Return the bytes of the weights that a decode step reads: the layers' and the output's."""
    assert size.layer_bytes is not None
    # Two FLOPs a parameter and token.
    return shape.matmul_flops_per_token // 2 * size.layer_bytes + _head_bytes(shape, size)


def _head_bytes(shape: ModelShape, size: Bytes) -> float:
    assert size.head_bytes is not None
    return shape.lm_head_flops // 2 * size.head_bytes


def kv_bytes(shape: ModelShape, size: Bytes) -> float:
    """Return the bytes of a token's keys and values."""
    assert size.kv_bytes is not None
    return shape.kv_cache_bytes_per_token(size.kv_bytes)


def decode_context(work: Work) -> int:
    """Return the tokens that all decode steps of a request attend to, their own included."""
    num = work.output_tokens - 1
    return work.prompt_tokens * num + num * (num + 1) // 2

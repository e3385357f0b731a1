"""The least that a pass must compute and move, and the devices that do it.

Pure functions over a model's shape. FLOPs count a multiply and an add as two. Only computed tokens
count: what the prefix cache serves is not work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from packsweep.shapes import ModelShape


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """What a device can do at most, dense, by its maker's data sheet.

    Attributes:
        bf16_flops_per_s: peak of bf16 matrix multiplication without sparsity.
        memory_bytes_per_s: peak memory bandwidth.
    """

    bf16_flops_per_s: float
    memory_bytes_per_s: float
    source: str


# Keyed by the name that Ray and people use; matched inside the name that the driver reports.
DEVICES: dict[str, Device] = {
    "B200": Device(
        bf16_flops_per_s=2.25e15, memory_bytes_per_s=8.0e12, source="NVIDIA HGX B200 data sheet"
    ),
    "H200": Device(
        bf16_flops_per_s=989e12, memory_bytes_per_s=4.8e12, source="NVIDIA H200 SXM data sheet"
    ),
    "H800": Device(
        bf16_flops_per_s=989e12, memory_bytes_per_s=3.35e12, source="NVIDIA H800 SXM data sheet"
    ),
    "H100": Device(
        bf16_flops_per_s=989e12, memory_bytes_per_s=3.35e12, source="NVIDIA H100 SXM data sheet"
    ),
    "A100": Device(
        bf16_flops_per_s=312e12, memory_bytes_per_s=2.039e12, source="NVIDIA A100 80GB data sheet"
    ),
    "L40S": Device(
        bf16_flops_per_s=362e12, memory_bytes_per_s=0.864e12, source="NVIDIA L40S data sheet"
    ),
}


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


def decode_bytes(
    shape: ModelShape, requests: Sequence[Work], *, bytes_per_element: float = 2.0
) -> float:
    """Return the bytes that the decode steps of a pass must read: weights and KV cache.

    All requests decode together, a token each a step, and every step reads the weights once.
    """
    steps = max((work.output_tokens - 1 for work in requests), default=0)
    kv_bytes = shape.kv_cache_bytes_per_token(bytes_per_element)
    context = sum(
        work.prompt_tokens * (work.output_tokens - 1)
        + work.output_tokens * (work.output_tokens - 1) // 2
        for work in requests
    )
    return steps * shape.weight_bytes(bytes_per_element) + context * kv_bytes


def duration_s(
    shape: ModelShape, requests: Sequence[Work], device: Device, *, mfu: float, mbu: float
) -> float:
    """Return how long a pass takes on ``device`` at the stated shares of its peaks.

    ``mfu`` is the share of the peak FLOP/s reached in prefill, ``mbu`` the share of the peak
    bandwidth reached in decode.
    """
    prefill_s = prefill_flops(shape, requests) / (device.bf16_flops_per_s * mfu)
    decode_s = decode_bytes(shape, requests) / (device.memory_bytes_per_s * mbu)
    return prefill_s + decode_s

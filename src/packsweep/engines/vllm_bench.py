"""vLLM's own offline benchmark, given requests.

Calls the function that ``vllm bench throughput`` times with, ``run_vllm``: it starts an engine,
warms it up, and clocks one ``LLM.generate``. What vLLM's command line lacks is a data set of texts
that are taken as they are: its readers shuffle, repeat, and leave out prompts over 1,024 tokens.

Two things are not the cell's: vLLM samples at temperature 1 here, and takes no timestamps.
Source: vLLM 0.26 to 0.32, ``benchmarks/throughput.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from packsweep.engines import Request
from packsweep.engines.vllm import arguments

if TYPE_CHECKING:
    from packsweep.models.resolve import Model
    from packsweep.sweep.cells import Cell

# A request and the number of its prompt's tokens.
Sized = tuple[Request, int]


def measure(
    cell: Cell, model: Model, requests: Sequence[Sized], warmup: Sequence[Sized]
) -> dict[str, Any]:
    """Return what ``vllm bench throughput --output-json`` holds, and output and cached tokens."""
    from vllm.benchmarks.throughput import run_vllm
    from vllm.engine.arg_utils import EngineArgs

    settings = {**arguments(cell, model), "disable_log_stats": True}  # as the benchmark has it
    elapsed_s, outputs = run_vllm(
        _samples(requests),
        1,
        EngineArgs(**settings),
        do_profile=False,
        warmup_requests=_samples(warmup) or None,
    )
    return _figures(elapsed_s, outputs or [])


def _samples(requests: Sequence[Sized]) -> list[Any]:
    from vllm.benchmarks.datasets import SampleRequest

    return [
        SampleRequest(
            prompt=request.text, prompt_len=length, expected_output_len=request.max_tokens
        )
        for request, length in requests
    ]


def _figures(elapsed_s: float, outputs: Sequence[Any]) -> dict[str, Any]:
    """Return vLLM's five names and two of ours: output tokens, cached tokens."""
    output_tokens = sum(len(answer.token_ids) for out in outputs for answer in out.outputs)
    total = output_tokens + sum(len(out.prompt_token_ids) for out in outputs)
    return {
        "elapsed_time": elapsed_s,
        "num_requests": len(outputs),
        "total_num_tokens": total,
        "requests_per_second": len(outputs) / elapsed_s,
        "tokens_per_second": total / elapsed_s,
        "total_output_tokens": output_tokens,
        "cached_tokens": sum(out.num_cached_tokens or 0 for out in outputs),
    }

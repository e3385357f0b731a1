"""vLLM's own offline benchmark on the requests of a cell, in a process of its own.

``python -m packsweep.engines.vllm_bench TASK OUTPUT`` calls the function that
``vllm bench throughput`` times with, ``vllm.benchmarks.throughput.run_vllm``: it starts the engine,
warms it up, and clocks one ``LLM.generate``. What the command line lacks is a data set of texts
that are taken as they are: its readers shuffle, repeat, and leave out prompts over 1,024 tokens.

Two things are not the cell's: vLLM samples at temperature 1 here, and takes no timestamps.
Source: vLLM 0.26 to 0.32, ``benchmarks/throughput.py``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from packsweep import models, tokens
from packsweep.engines import Request
from packsweep.engines.vllm import arguments
from packsweep.models import Model
from packsweep.store import replace_file
from packsweep.task import Task, task_from_json
from packsweep.workload import Workload


def main(task: str, output: str) -> None:
    """Measure once and write vLLM's figures to ``output`` as one JSON document."""
    found = measure(task_from_json(Path(task).read_text(encoding="utf-8")))
    replace_file(Path(output), json.dumps(found).encode())


def measure(task: Task) -> dict[str, Any]:
    """Return what ``vllm bench throughput --output-json`` would hold, and the cached tokens."""
    cell = task.cell
    model = models.resolve(
        cell.model,
        revision=cell.model_revision,
        tokenizer=cell.tokenizer,
        load_format=cell.load_format,
    )
    from vllm.benchmarks.throughput import run_vllm  # after what a user can get wrong
    from vllm.engine.arg_utils import EngineArgs

    workload = Workload.of(cell, task.reviews, task.chat)
    settings = {**arguments(cell, model), "disable_log_stats": True}  # as the benchmark has it
    elapsed_s, outputs = run_vllm(
        _samples(workload.requests, model),
        1,
        EngineArgs(**settings),
        do_profile=False,
        warmup_requests=_samples(workload.warmup, model) if cell.warmup_passes else None,
    )
    return _figures(elapsed_s, outputs or [])


def _samples(requests: Sequence[Request], model: Model) -> list[Any]:
    from vllm.benchmarks.datasets import SampleRequest

    lengths = tokens.load(model).count([request.text for request in requests])
    return [
        SampleRequest(
            prompt=request.text, prompt_len=length, expected_output_len=request.max_tokens
        )
        for request, length in zip(requests, lengths, strict=True)
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


if __name__ == "__main__":
    main(*sys.argv[1:])

"""``packsweep calc``: ceilings and baselines, computed or measured.

Registers commands, as ``packsweep.cli`` does; what they compute stands in modules of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from packsweep.cli.options import MOST_GPUS, MOST_TOKENS, JsonOpt, finite
from packsweep.cli.output import open_console, say
from packsweep.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

app = typer.Typer(
    name="calc",
    help="Ceilings and baselines: what fits on a GPU, and the peaks it reaches.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

_DEFAULT_TOKENS = (4, 40, 400)
_DTYPES = "auto, bfloat16, float16, float32, fp8"

ModelArg = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="Hub id, folder or embedded:NAME; no weights are needed."),
]


def _tokens(meaning: str) -> Any:  # noqa: ANN401  (typer's)
    """Return the option ``--tokens``, which may be repeated."""
    return typer.Option(
        "--tokens", min=1, max=MOST_TOKENS, metavar="N", help=f"{meaning} May be repeated."
    )


def _parallel(name: str, short: str, meaning: str) -> Any:  # noqa: ANN401  (typer's)
    """Return an option that divides a model among GPUs."""
    return typer.Option(name, short, min=1, max=MOST_GPUS, metavar="N", help=meaning)


@app.callback()
def calc_group() -> None:
    """Ceilings and baselines: what fits on a GPU, and the peaks it reaches."""


@app.command("labels")
def labels_command(
    model: ModelArg,
    tokens: Annotated[list[int] | None, _tokens("Output tokens of an answer.")] = None,
    json: JsonOpt = False,
) -> None:
    """Show how many labels fit in N output tokens of a model."""
    from packsweep.models.resolve import resolve
    from packsweep.plan import label_budget

    budget = label_budget.of(resolve(model, load_format="dummy"), tokens or _DEFAULT_TOKENS)
    if json:
        print(budget.to_json())
    else:
        say(open_console(), budget.to_text())


@app.command("ceiling")
def ceiling_command(
    json: Annotated[
        bool, typer.Option("--json", help="Print JSON, as run and show --ceiling read it.")
    ] = False,
) -> None:
    """Measure this GPU's peaks: matrix products and memory copies.

    Takes about a minute, in bf16 and fp8. No pass can exceed these peaks; data sheets promise more.
    """
    found = _summary(_measure())
    if json:
        import json as json_

        print(json_.dumps(found, indent=2))
        return
    for line in _lines(found):
        say(open_console(), line)


@app.command("kv")
def kv_command(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="Short name (llama-3.1-8b, gemma-3-27b, deepseek-v3, ...), hub id, folder or "
            "embedded:NAME; no weights are needed.",
        ),
    ],
    device: Annotated[
        str | None,
        typer.Option(
            "--device", metavar="GPU", help="GPU name, e.g. H200; this machine's GPU by default."
        ),
    ] = None,
    dtype: Annotated[
        str, typer.Option("--dtype", help=f"Dtype of the weights: {_DTYPES}.")
    ] = "auto",
    kv_cache_dtype: Annotated[
        str, typer.Option("--kv-cache-dtype", help=f"Dtype of the KV cache: {_DTYPES}.")
    ] = "auto",
    tensor_parallel_size: Annotated[
        int, _parallel("--tensor-parallel-size", "--tp", "GPUs that share every layer.")
    ] = 1,
    pipeline_parallel_size: Annotated[
        int,
        _parallel("--pipeline-parallel-size", "--pp", "Pipeline stages, each with --tp GPUs."),
    ] = 1,
    gpu_memory_utilization: Annotated[
        float,
        typer.Option(
            "--gpu-memory-utilization", min=0.01, max=1.0, callback=finite, metavar="SHARE"
        ),
    ] = 0.92,
    max_model_len: Annotated[
        int | None,
        typer.Option(
            "--max-model-len",
            min=1,
            max=MOST_TOKENS,
            metavar="N",
            help="Context length; the model's maximum by default.",
        ),
    ] = None,
    max_num_batched_tokens: Annotated[
        int, typer.Option("--max-num-batched-tokens", min=1, max=MOST_TOKENS, metavar="N")
    ] = 16384,
    block_size: Annotated[int, typer.Option("--block-size", min=1, max=65536, metavar="N")] = 16,
    prompt_tokens: Annotated[
        list[int] | None, _tokens("Show the KV cache of a prompt of N tokens.")
    ] = None,
    tokens_per_text: Annotated[
        float,
        typer.Option(
            "--tokens-per-text",
            min=1.0,
            max=1e9,
            callback=finite,
            metavar="N",
            help="Tokens per text, for the largest packed n; the default is that of 400 IMDB texts "
            "in Llama 3's tokenizer.",
        ),
    ] = 288.5,
    num_parameters: Annotated[
        float | None,
        typer.Option(
            "--parameters",
            min=1.0,
            max=1e15,
            callback=finite,
            metavar="N",
            help="Number of parameters, if the model's config does not determine it.",
        ),
    ] = None,
    json: JsonOpt = False,
) -> None:
    """Show the size of a model's KV cache, and what fits on a GPU.

    What fits: tokens in the cache, the longest prompt, the largest packed n.
    """
    from packsweep.plan import forecast, kv_budget

    _check_dtypes(dtype, kv_cache_dtype)
    on = forecast.target(device)
    asked = kv_budget.Asked(
        dtype=dtype,
        kv_cache_dtype=kv_cache_dtype,
        tensor_parallel_size=tensor_parallel_size,
        pipeline_parallel_size=pipeline_parallel_size,
        gpu_memory_utilization=gpu_memory_utilization,
        max_model_len=max_model_len,
        max_num_batched_tokens=max_num_batched_tokens,
        block_size=block_size,
        prompt_tokens=tuple(prompt_tokens or ()),
        tokens_per_text=tokens_per_text,
        num_parameters=None if num_parameters is None else round(num_parameters),
        device=None if on is None else on.name,
        memory_bytes=None if on is None else on.memory_bytes,
    )
    budget = kv_budget.of(model, asked)
    if json:
        print(budget.to_json())
    else:
        say(open_console(), kv_budget.to_text(budget))


def _check_dtypes(*words: str) -> None:
    for word in words:
        if word not in _DTYPES.split(", "):
            raise UserError(f"dtype {word!r} is unknown; known dtypes are {_DTYPES}")


def _measure() -> dict[str, Any]:
    """Run the measurement in a process of its own, which ends with the device's memory free.

    Raises:
        UserError: there is no torch, or it failed.
    """
    import json
    import os
    import subprocess
    import sys
    from importlib.util import find_spec

    from packsweep.machine import environment

    if find_spec("torch") is None:
        raise UserError("calc ceiling needs torch, which comes with vLLM; see make setup")
    command = [sys.executable, "-P", "-m", "packsweep.machine.microbench"]
    path = environment.import_path(os.environ.get("PYTHONPATH", ""))
    done = subprocess.run(  # noqa: S603  (our own module)
        command,
        env=os.environ | {"PYTHONPATH": path, "PYTHONSAFEPATH": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = (done.stderr.strip() or "nothing was printed").splitlines()[-1]
        raise UserError(f"calc ceiling: the measurement failed: {said}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _summary(found: dict[str, Any]) -> dict[str, Any]:
    """Return the best size of each kind with its spread, beside all that was measured."""
    best = {
        "bf16_flops_per_s": _best(found["matmul"]),
        "fp8_flops_per_s": _best(found["matmul_fp8"]) if found["matmul_fp8"] else None,
        "memory_bytes_per_s": _best(found["copy"]),
    }
    return {"device": found["device"], **best, **found}


def _best(sizes: Sequence[dict[str, Any]]) -> dict[str, Any]:
    from packsweep.results import stats

    estimates = [(stats.estimate(each["values"]), each["size"]) for each in sizes]
    best, size = max(estimates, key=lambda pair: pair[0].median or 0.0)
    return {
        "median": best.median,
        "ci_low": best.ci_low,
        "ci_high": best.ci_high,
        "repeats": best.count,
        "size": size,
    }


def _lines(found: dict[str, Any]) -> list[str]:
    """Say every ceiling with spread and with the share of the data sheet's."""
    from packsweep.machine import devices

    sheet = devices.find(found["device"])
    source = sheet.source if sheet else "no data sheet known for this device"
    kinds = (
        ("bf16 matmul", "bf16_flops_per_s", 1e12, "TFLOP/s", "matrices of {} rows"),
        ("fp8 matmul", "fp8_flops_per_s", 1e12, "TFLOP/s", "matrices of {} rows"),
        ("memory copy", "memory_bytes_per_s", 1e9, "GB/s", "{} B, read and written"),
    )
    lines = [f"device: {found['device']} ({source})"]
    for label, name, unit_size, unit, how in kinds:
        if found[name] is None:
            lines.append(f"{label}: not measured: the device does not support it")
            continue
        peak = getattr(sheet, name, None)
        share = f", {found[name]['median'] / peak:.0%} of {peak / unit_size:,.0f}" if peak else ""
        lines.append(
            f"{label}: {_with_spread(found[name], unit_size)} {unit}{share}"
            f" ({how.format(found[name]['size'])}, {found[name]['repeats']} repeats)"
        )
    return lines


def _with_spread(value: dict[str, Any], unit_size: float) -> str:
    half = (value["ci_high"] - value["ci_low"]) / 2 / value["median"]
    return f"{value['median'] / unit_size:,.3g} ±{half:.1%}"

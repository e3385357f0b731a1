"""A results folder with everything that can be in one, written through the store.

Speeds come from a formula; nothing here was measured.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from typing import Any

from tests.fakes import REVIEWS, pass_row

from packsweep.results.store import Store
from packsweep.sweep import expansion, read
from packsweep.sweep.cells import Cell

SWEEP = """
[model]
name = "some/model"

[grid]
strategy = ["packed", "separate", "chunked"]
n = [2, 4, 12]
duplication = [1, 10]
pack_size = [2]
answer = "choice"

[measure]
repeats = 3
cache_state = ["cold", "primed"]
"""
# slug -> how the cell ended; a slug without outcome left no row at all.
ENDS: dict[str, tuple[str, str | None]] = {
    "packed-n12-dup1-cold": ("infeasible", "the longest request needs 180 tokens of 100"),
    "packed-n12-dup10-cold": ("oom", "OutOfMemoryError: tried to allocate 20.00 GiB"),
    "chunked2-n4-dup10-cold": ("invalid", "cached tokens 16, expected 32 </script><b>bold</b>"),
    "chunked2-n12-dup10-primed": ("timeout", "the phase pass took longer than 3600 s"),
    "separate-n2-dup10-primed": ("", None),
    "packed-n2-dup10-primed": ("", None),
}
_FACTORS = {"packed": 0.4, "separate": 1.0, "chunked": 1.3}


def cells(text: str = SWEEP) -> tuple[Cell, ...]:
    """Return the cells of the sweep file ``text`` over the fakes' texts."""
    sweep = read.parse(tomllib.loads(text), where="test")
    return expansion.expand(sweep, REVIEWS, model_fingerprint="weights", max_model_len=100)


def compose(store: Store, *, spread: float = 0.01) -> Store:
    """Write the results of ``SWEEP``; repeats differ by ``spread`` of the speed."""
    store.prepare()
    store.keep_sweep(SWEEP.encode(), [cell.cell_id for cell in cells()])
    for cell in cells():
        outcome, reason = ENDS.get(cell.slug, ("ok", None))
        if outcome == "ok":
            measured(store, cell, spread=spread)
        elif outcome:
            row = pass_row(cell, outcome=outcome, reason=reason)
            store.write(cell.cell_id, "a0", [row], [])
    return store


def measured(store: Store, cell: Cell, *, spread: float = 0.01, repeats: int = 3) -> None:
    """Commit an attempt at ``cell``."""
    passes = [_pass(cell, repeat, spread) for repeat in range(repeats)]
    store.write(cell.cell_id, "a0", passes, list(_requests(cell)))
    assert store.commit(cell.cell_id, "a0")


def speed(cell: Cell) -> float:
    """Return the texts per second that the formula gives."""
    reuse = cell.duplication if cell.cache_state == "cold" else 12
    return float(20.0 * _FACTORS[cell.strategy] * cell.n**0.2 * reuse**0.5)


def _pass(cell: Cell, repeat: int, spread: float) -> dict[str, Any]:
    found = speed(cell) * (1 + spread * (repeat - 1))
    duration = cell.num_texts / found
    return pass_row(
        cell,
        repeat=repeat,
        device="NVIDIA H200",
        duration_s=duration,
        num_requests=cell.num_texts,
        num_texts=cell.num_texts,
        prompt_tokens=50 * cell.num_texts,
        output_tokens=2 * cell.num_texts,
        cached_tokens=0,
        requests_per_s=found,
        texts_per_s=found,
        correct_texts_per_s=found / 2,
        total_tokens_per_s=52 * found,
        output_tokens_per_s=2 * found,
        cached_share=1 - 1 / cell.duplication,
        before_engine_s=0.1 * duration,
        prefill_span_s=0.6 * duration,
        decode_span_s=0.2 * duration,
        after_engine_s=0.1 * duration,
        labels_found=cell.num_texts,
        labels_right=cell.num_texts // 2,
        coverage=1.0,
        accuracy=0.5,
        majority_class_share=0.5,
        flops=1e12 * cell.num_texts,
        read_bytes=1e9 * cell.num_texts,
        peak_dtype="bf16",
        peak_flops_per_s=1e15,
        peak_bytes_per_s=4e12,
        ceiling_source="a data sheet",
        mfu=0.2,
        mbu=0.1,
        joules_per_1000_texts=4e5 / found,
        gpu_hour_usd=2.5,
        sm_clock_p50_mhz=1500.0,
        sm_clock_min_mhz=1400.0,
        throttle_reasons=["sw_power_cap"],
        temperature_max_c=60.0,
        power_mean_w=600.0,
        other_cpu_share=0.01,
        import_s=10.0,
        engine_start_s=40.0,
        warmup_s=2.0,
        passes_s=3 * duration,
        stop_s=4.0,
        wall_s=56.0 + 3 * duration,
        engine_resolved='{"max_num_seqs": 1024}',
        versions='{"vllm": "0.32.0"}',
        vllm_version="0.32.0",
    )


def _requests(cell: Cell) -> Iterator[dict[str, Any]]:
    """Yield the first pass's requests; every second label is wrong."""
    for index, prompt in enumerate(cell.build_prompts(REVIEWS)):
        start = prompt.first
        labels = [each.label for each in REVIEWS[start : start + prompt.num_texts]]
        yield {
            "cell_id": cell.cell_id,
            "attempt_id": "a0",
            "repeat": 0,
            "request": index,
            "prompt": index,
            "copy": 0,
            "first_text": start,
            "num_texts": prompt.num_texts,
            "prompt_tokens": 50,
            "output_tokens": 2,
            "cached_tokens": 0,
            "expected_labels": labels,
            "found_labels": ["positive"] * len(labels),
        }

"""Results in the forms that other tools read: CSV, Markdown, Parquet, and vLLM's own JSON.

``vllm-bench`` is a list with a record per timed pass, under the names of ``vllm bench throughput
--output-json`` and, for what that file leaves out, of ``vllm bench serve --save-result``; beside
them stand the cell's own columns and settings. It is the form of ``vllm bench sweep``'s
summary.json, so ``vllm bench sweep plot`` reads it.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any

from packsweep.analysis import selection
from packsweep.report.tables import cells_table
from packsweep.report.tables.table import Table, to_markdown
from packsweep.results import schema
from packsweep.results.parquet import guarded
from packsweep.results.schema import Row

# Source: vLLM 0.32, benchmarks/throughput.py (the first six) and benchmarks/serve.py (the others).
_VLLM: dict[str, Callable[[Row], Any]] = {
    "model_id": lambda row: row["model"],
    "elapsed_time": lambda row: row["duration_s"],
    "num_requests": lambda row: row["num_requests"],
    "total_num_tokens": lambda row: row["prompt_tokens"] + row["output_tokens"],
    "requests_per_second": lambda row: row["requests_per_s"],
    "tokens_per_second": lambda row: row["total_tokens_per_s"],
    "tokenizer_id": lambda row: row["tokenizer"] or row["model"],
    "backend": lambda row: row["engine"],
    "date": lambda row: row["started_at"].strftime("%Y%m%d-%H%M%S"),
    "num_prompts": lambda row: row["num_requests"],
    "completed": lambda row: row["num_requests"],
    "failed": lambda _: 0,
    "duration": lambda row: row["duration_s"],
    "total_input_tokens": lambda row: row["prompt_tokens"],
    "total_output_tokens": lambda row: row["output_tokens"],
    "request_throughput": lambda row: row["requests_per_s"],
    "output_throughput": lambda row: row["output_tokens_per_s"],
    "total_token_throughput": lambda row: row["total_tokens_per_s"],
    "run_number": lambda row: row["repeat"],
}
# Of a window on a server: what vLLM takes from the dispatch is taken from there, and what it counts
# otherwise (ITL by chunk, goodput over the drain) is left out.
# Source: vLLM 0.32, benchmarks/serve.py.
_VLLM_SERVE: dict[str, Callable[[Row], Any]] = {
    "num_prompts": lambda row: row["num_requests"] + row["num_errors"],
    "failed": lambda row: row["num_errors"],
    "p99_ttft_ms": lambda row: _ms(row["service_ttft_p99_s"]),
    "p99_e2el_ms": lambda row: _ms(row["service_e2e_p99_s"]),
    "mean_tpot_ms": lambda row: _ms(row["tpot_mean_s"]),
    "median_tpot_ms": lambda row: _ms(row["tpot_p50_s"]),
    "p99_tpot_ms": lambda row: _ms(row["tpot_p99_s"]),
    "max_concurrency": lambda row: schema.parsed(row["online"]).get("concurrency"),
}
_BESIDE = tuple(
    column.name
    for columns in (
        schema.IDENTITY[:3],
        schema.CELL,
        schema.PASS,
        schema.WINDOW,
        schema.MAX_RATE,
        schema.ENVIRONMENT,
    )
    for column in columns
    if column.kind != "json"
)
COLUMNS = {"summary": schema.SUMMARY, "passes": schema.PASSES, "requests": schema.REQUESTS}


def vllm_bench(passes: Iterable[Row]) -> str:
    """Return the timed passes as vLLM's benchmarks write theirs; failed cells have none."""
    timed = selection.widened(row for row in passes if row["outcome"] == "ok")
    records = [_vllm_record(row) for row in timed]
    return json.dumps(records, indent=2, default=str) + "\n"


def _vllm_record(row: Row) -> dict[str, Any]:
    settings = schema.parsed(row["engine_settings"])
    names = _VLLM | _VLLM_SERVE if row["mode"] == "online" else _VLLM
    named = {name: value(row) for name, value in names.items()}
    return {**settings, **{name: row.get(name) for name in _BESIDE}, **named}


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else 1000 * seconds


def comma_separated(rows: Sequence[Row], names: Sequence[str]) -> str:
    """Return CSV with a header; undefined is empty, a list's words stand with spaces between.

    A text that a spreadsheet would take for a formula gets an apostrophe before it.
    """
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([_csv_value(row.get(name)) for name in names] for row in rows)
    return file.getvalue()


def _csv_value(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, list):
        value = " ".join(str(each) for each in value)
    if isinstance(value, str):
        return guarded(value)
    return value.isoformat() if isinstance(value, datetime) else value


def markdown(rows: Sequence[Row], names: Sequence[str] | None) -> str:
    """Return a table for a page or an issue: the columns of ``show``, or those named."""
    if names is None:
        return to_markdown(cells_table.summary(rows))
    return to_markdown(Table(columns=tuple(cells_table.any_columns(names, rows))))


def parquet(rows: Sequence[Row], names: Sequence[str], table: str) -> bytes:
    """Return Parquet with the types of ``schema``; a setting has the type of its values."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    known = schema.arrow_schema(COLUMNS[table])
    arrays = {
        name: pa.array(
            [row.get(name) for row in rows],
            type=known.field(name).type if name in known.names else None,
        )
        for name in names
    }
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(arrays), sink, compression="zstd")
    return bytes(sink.getvalue().to_pybytes())

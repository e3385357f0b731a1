"""The prediction beside what was measured on one H200: python docs/prediction.py.

``prediction_h200.json`` holds the measured speeds and the lengths of the prompts in tokens; the
texts are not needed. PREDICTION.md shows the table that this prints.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packsweep.machine.devices import DEVICES
from packsweep.models.architecture.config import ModelConfig
from packsweep.models.architecture.shape import ModelShape
from packsweep.models.known import KNOWN
from packsweep.plan import pass_time
from packsweep.plan.ceilings import data_sheet_peak
from packsweep.plan.formats import Formats
from packsweep.plan.pass_time import Pass
from packsweep.plan.roofline import Work

_DATA = Path(__file__).with_name("prediction_h200.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A measured cell.

    Attributes:
        in_grid: one of the experiment's twelve cells.
        measured_s: duration of a pass, for each session that measured the cell.
    """

    name: str
    in_grid: bool
    predicted_s: float
    measured_s: tuple[float, ...]

    @property
    def errors(self) -> tuple[float, ...]:
        """How much longer the prediction is, as a share of what was measured."""
        return tuple(self.predicted_s / each - 1 for each in self.measured_s)


def rows() -> tuple[Row, ...]:
    """Return every measured cell with its prediction, the experiment's grid first."""
    data = json.loads(_DATA.read_text(encoding="utf-8"))
    return tuple(
        _row(data, each, in_grid=index < data["num_in_grid"])
        for index, each in enumerate(data["rows"])
    )


def _row(data: dict[str, Any], row: dict[str, Any], *, in_grid: bool) -> Row:
    num_texts = row["n"] * row["duplication"]
    engine = _engine(data, row["quantization"])
    return Row(
        name=row["name"],
        in_grid=in_grid,
        predicted_s=pass_time.pass_time(engine, _load(data, row)).duration_s,
        measured_s=tuple(num_texts / speed for speed in row["texts_per_s"]),
    )


def _engine(data: dict[str, Any], quantization: str | None) -> pass_time.Engine:
    dtype, layer_bytes = ("fp8", 1.0) if quantization else ("bf16", 2.0)
    device = DEVICES[data["device"]]
    peak = data_sheet_peak(device, dtype)
    assert peak is not None
    return pass_time.Engine(
        shape=ModelShape.from_config(ModelConfig.of(KNOWN[data["model"]].config)),
        device=device,
        size=Formats(peak_dtype=dtype, layer_bytes=layer_bytes, head_bytes=2.0, kv_bytes=2.0),
        peak_flops_per_s=peak,
        mfu=pass_time.MFU[dtype],
    )


def _load(data: dict[str, Any], row: dict[str, Any]) -> Pass:
    """Return what the cell submits; distinct prompts share but their first tokens."""
    lengths, size = data["prompt_tokens"][row["prompts"]], data["block_size"]
    output = row["n"] // len(lengths)
    first = [0] + [row["shared_prefix_tokens"]] * (len(lengths) - 1)
    again = [(length - 1) // size * size for length in lengths]
    copies = row["duplication"] - 1
    return Pass(
        requests=_works(lengths, first, output),
        copies=_works(lengths, again, output) if copies else (),
        num_copies=copies,
    )


def _works(lengths: Sequence[int], cached: Sequence[int], output: int) -> tuple[Work, ...]:
    return tuple(
        Work(prompt_tokens=length, cached_tokens=hit, output_tokens=output)
        for length, hit in zip(lengths, cached, strict=True)
    )


def table() -> str:
    """Return the table in Markdown."""
    lines = [
        "| cell | predicted, s | measured, s | prediction is off by |",
        "|---|--:|--:|--:|",
    ]
    for row in rows():
        measured = " / ".join(f"{each:.3g}" for each in row.measured_s)
        errors = " / ".join(f"{100 * each:+.0f} %" for each in row.errors)
        lines.append(f"| {row.name} | {row.predicted_s:.3g} | {measured} | {errors} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())

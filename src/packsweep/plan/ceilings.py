"""How much of what a device can do a pass used: model FLOPs and bytes against a named ceiling.

A ceiling is a data sheet's (``devices``) or a measured one, which ``packsweep calc ceiling --json``
writes. What the formats in force do not determine is None, never a guess.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packsweep.errors import UserError
from packsweep.machine import devices
from packsweep.machine.devices import Device
from packsweep.models.architecture.shape import ModelShape
from packsweep.plan import roofline
from packsweep.plan.formats import Formats
from packsweep.plan.roofline import Work


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceiling:
    """The most that is possible, and who says so; the values of ``schema.CEILING``."""

    peak_dtype: str | None = None
    peak_flops_per_s: float | None = None
    peak_bytes_per_s: float | None = None
    ceiling_source: str | None = None


def data_sheet(device: str | None, used: Formats) -> Ceiling:
    """Return the data sheet's ceiling for the device of that name."""
    found = devices.find(device)
    if found is None:
        return Ceiling(peak_dtype=used.peak_dtype)
    return Ceiling(
        peak_dtype=used.peak_dtype,
        peak_flops_per_s=data_sheet_peak(found, used.peak_dtype),
        peak_bytes_per_s=found.memory_bytes_per_s,
        ceiling_source=found.source,
    )


def data_sheet_peak(device: Device, dtype: str | None) -> float | None:
    """Return the data sheet's FLOP/s in ``dtype``: bf16, fp8, int8 or fp32."""
    peaks = {
        "bf16": device.bf16_flops_per_s,
        "fp8": device.fp8_flops_per_s,
        "int8": device.int8_ops_per_s,
        "fp32": device.fp32_flops_per_s,
    }
    return None if dtype is None else peaks[dtype]


def work_values(
    shape: ModelShape,
    requests: Sequence[Work] | None,
    used: Formats,
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the first three of ``schema.UTILIZATION``: FLOPs, forward steps and bytes of a pass.

    Args:
        shape: of the model.
        requests: of the pass; None where cached tokens are not known.
        used: the formats in force.
        settings: the settings in force, of which the scheduler's limits are needed.
    """
    names = ("flops", "least_steps", "read_bytes")
    if requests is None:
        return dict.fromkeys(names)
    steps = roofline.least_steps(
        requests,
        max_num_batched_tokens=int(settings["max_num_batched_tokens"]),
        max_num_seqs=int(settings["max_num_seqs"]),
    )
    sizes = (used.layer_bytes, used.head_bytes, used.kv_bytes)
    read = None if None in sizes else roofline.read_bytes(shape, requests, steps, used)
    return dict(zip(names, (roofline.flops(shape, requests), steps, read), strict=True))


def utilization(
    done: float | None, seconds: float | None, peak: float | None, num_devices: int = 1
) -> float | None:
    """Return the share of the devices' ``peak`` that ``done`` in ``seconds`` is; None: undefined.

    ``peak`` is that of one device.
    """
    if done is None or not seconds or not peak:
        return None
    return done / seconds / num_devices / peak


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What ``packsweep calc ceiling`` found on one device: medians."""

    device: str
    bf16_flops_per_s: float
    memory_bytes_per_s: float
    source: str
    fp8_flops_per_s: float | None = None

    def ceiling(self, peak_dtype: str | None) -> Ceiling:
        """Return it as a ceiling; fp32 and int8 were not measured."""
        peaks = {"bf16": self.bf16_flops_per_s, "fp8": self.fp8_flops_per_s}
        return Ceiling(
            peak_dtype=peak_dtype,
            peak_flops_per_s=None if peak_dtype is None else peaks.get(peak_dtype),
            peak_bytes_per_s=self.memory_bytes_per_s,
            ceiling_source=self.source,
        )


def read(path: Path) -> Measured:
    """Read what ``packsweep calc ceiling --json`` wrote.

    Raises:
        UserError: it is not there or is something else.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return Measured(
            device=str(values["device"]),
            bf16_flops_per_s=float(values["bf16_flops_per_s"]["median"]),
            fp8_flops_per_s=_fp8(values),
            memory_bytes_per_s=float(values["memory_bytes_per_s"]["median"]),
            source=f"measured, {path.name}",
        )
    except OSError as error:
        raise UserError(f"--ceiling {path}: cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        message = f"--ceiling {path}: is not what packsweep calc ceiling --json > {path} writes"
        raise UserError(message) from None


def _fp8(values: Mapping[str, Any]) -> float | None:
    found = values.get("fp8_flops_per_s")
    return None if found is None else float(found["median"])

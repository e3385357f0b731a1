"""What devices can do at most, by their makers' data sheets, and which one a driver's name means.

Peaks are dense: without the factor of two that data sheets state for 2:4 sparsity. A figure that
is not stated for exactly this product is None. The card in a machine may hold lower clocks than its
data sheet assumes; ``packsweep calc ceiling`` measures what it can do.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """The peaks of one product.

    Attributes:
        bf16_flops_per_s: of bf16 and fp16 matrix multiplication with fp32 accumulation.
        fp8_flops_per_s: of fp8 matrix multiplication, likewise; None without fp8 units.
        int8_ops_per_s: of int8 matrix multiplication with int32 accumulation.
        fp32_flops_per_s: of fp32 outside the matrix units, as torch multiplies fp32 by default.
        memory_bytes_per_s: peak memory bandwidth.
        memory_mib: what the driver's nvidia-smi shows as the whole; data sheets round, and vLLM
            sees up to 1 % less.
        names: the driver's names, whole, after the maker's; a regular expression.
    """

    bf16_flops_per_s: float
    memory_bytes_per_s: float
    source: str
    fp8_flops_per_s: float | None = None
    int8_ops_per_s: float | None = None
    fp32_flops_per_s: float | None = None
    memory_mib: int | None = None
    names: str = ""

    @property
    def memory_bytes(self) -> int | None:
        """``memory_mib`` in bytes."""
        return None if self.memory_mib is None else self.memory_mib * 2**20


# Keyed by a short name of the product.
DEVICES: dict[str, Device] = {
    name: Device(**figures)
    for name, figures in json.loads(Path(__file__).with_suffix(".json").read_text("utf-8")).items()
}
SIMULATED_PREFIX = "simulated "


def find(name: str | None) -> Device | None:
    """Return the device that NVML, CUDA or the simulated engine calls ``name``; None if unknown.

    The whole name must fit: a slice of a GPU (MIG), a laptop's or an export variant's has other
    peaks under a name that begins alike.
    """
    if name is None:
        return None
    if name.startswith(SIMULATED_PREFIX):
        return DEVICES.get(name.removeprefix(SIMULATED_PREFIX))
    product = name.removeprefix("NVIDIA ").strip()
    return next(
        (device for device in DEVICES.values() if re.fullmatch(device.names, product)), None
    )

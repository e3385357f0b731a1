"""What devices can do at most, by their makers' data sheets, and which one a driver's name means.

Peaks are dense: without the factor of two that data sheets state for 2:4 sparsity. A figure that
is not stated for exactly this product is None. The card in a machine may hold lower clocks than its
data sheet assumes; ``packsweep calc ceiling`` measures what it can do.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


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
    "B200": Device(
        bf16_flops_per_s=2.25e15,
        fp8_flops_per_s=4.5e15,
        int8_ops_per_s=4.5e15,
        fp32_flops_per_s=75e12,
        memory_bytes_per_s=7.7e12,
        memory_mib=183359,
        names="B200",
        source="NVIDIA HGX B200 data sheet",
    ),
    "H200": Device(
        bf16_flops_per_s=989e12,
        fp8_flops_per_s=1979e12,
        int8_ops_per_s=1979e12,
        fp32_flops_per_s=67e12,
        memory_bytes_per_s=4.8e12,
        memory_mib=143771,
        names="H200",
        source="NVIDIA H200 data sheet, SXM",
    ),
    "H200 NVL": Device(
        bf16_flops_per_s=835.5e12,
        fp8_flops_per_s=1670.5e12,
        int8_ops_per_s=1670.5e12,
        fp32_flops_per_s=60e12,
        memory_bytes_per_s=4.8e12,
        memory_mib=143771,
        names="H200 NVL",
        source="NVIDIA H200 data sheet, NVL",
    ),
    "H100": Device(
        bf16_flops_per_s=989e12,
        fp8_flops_per_s=1979e12,
        int8_ops_per_s=1979e12,
        fp32_flops_per_s=67e12,
        memory_bytes_per_s=3.35e12,
        memory_mib=81559,
        names="H100( SXM5)?( 80GB)?( HBM3)?",
        source="NVIDIA H100 data sheet, SXM",
    ),
    "H100 PCIe": Device(
        bf16_flops_per_s=756e12,
        fp8_flops_per_s=1513e12,
        int8_ops_per_s=1513e12,
        fp32_flops_per_s=51e12,
        memory_bytes_per_s=2.0e12,
        memory_mib=81559,
        names="H100 PCIe",
        source="NVIDIA H100 data sheet, PCIe",
    ),
    "H100 NVL": Device(
        bf16_flops_per_s=835.5e12,
        fp8_flops_per_s=1670.5e12,
        int8_ops_per_s=1670.5e12,
        fp32_flops_per_s=60e12,
        memory_bytes_per_s=3.9e12,
        memory_mib=95830,
        names="H100 NVL",
        source="NVIDIA H100 data sheet, NVL",
    ),
    "H800": Device(
        bf16_flops_per_s=989e12,
        fp8_flops_per_s=1979e12,
        int8_ops_per_s=1979e12,
        fp32_flops_per_s=67e12,
        memory_bytes_per_s=3.35e12,
        memory_mib=81559,
        names="H800( SXM5)?( 80GB)?( HBM3)?",
        source="NVIDIA H800 data sheet, SXM",
    ),
    "H800 PCIe": Device(
        bf16_flops_per_s=756e12,
        fp8_flops_per_s=1513e12,
        int8_ops_per_s=1513e12,
        fp32_flops_per_s=51e12,
        memory_bytes_per_s=2.0e12,
        names="H800 PCIe",
        source="NVIDIA H800 data sheet, PCIe",
    ),
    "H20": Device(
        bf16_flops_per_s=148e12,
        fp8_flops_per_s=296e12,
        int8_ops_per_s=296e12,
        fp32_flops_per_s=44e12,
        memory_bytes_per_s=4.0e12,
        memory_mib=97871,
        names="H20",
        source="NVIDIA H20 product brief",
    ),
    "A100": Device(
        bf16_flops_per_s=312e12,
        int8_ops_per_s=624e12,
        fp32_flops_per_s=19.5e12,
        memory_bytes_per_s=2.039e12,
        memory_mib=81920,
        names="A100-SXM4-80GB",
        source="NVIDIA A100 data sheet, SXM 80 GB",
    ),
    "A100 PCIe": Device(
        bf16_flops_per_s=312e12,
        int8_ops_per_s=624e12,
        fp32_flops_per_s=19.5e12,
        memory_bytes_per_s=1.935e12,
        memory_mib=81920,
        names="A100 80GB PCIe|A100-PCIE-80GB",
        source="NVIDIA A100 data sheet, PCIe 80 GB",
    ),
    "A100 40GB": Device(
        bf16_flops_per_s=312e12,
        int8_ops_per_s=624e12,
        fp32_flops_per_s=19.5e12,
        memory_bytes_per_s=1.555e12,
        memory_mib=40960,
        names="A100-(SXM4|PCIE)-40GB",
        source="NVIDIA A100 data sheet, 40 GB",
    ),
    "L40S": Device(
        bf16_flops_per_s=362.05e12,
        fp8_flops_per_s=733e12,
        int8_ops_per_s=733e12,
        fp32_flops_per_s=91.6e12,
        memory_bytes_per_s=0.864e12,
        memory_mib=46068,
        names="L40S",
        source="NVIDIA L40S data sheet",
    ),
    "L4": Device(
        bf16_flops_per_s=121e12,
        fp8_flops_per_s=242.5e12,
        int8_ops_per_s=242.5e12,
        fp32_flops_per_s=30.3e12,
        memory_bytes_per_s=0.3e12,
        memory_mib=23034,
        names="L4",
        source="NVIDIA L4 data sheet",
    ),
    "RTX 4090": Device(
        bf16_flops_per_s=165.2e12,
        fp8_flops_per_s=330.3e12,
        int8_ops_per_s=660.6e12,
        fp32_flops_per_s=82.6e12,
        memory_bytes_per_s=1.008e12,
        memory_mib=24564,
        names="GeForce RTX 4090",
        source="NVIDIA Ada architecture white paper, RTX 4090",
    ),
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
    return next((each for each in DEVICES.values() if re.fullmatch(each.names, product)), None)

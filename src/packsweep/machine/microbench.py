"""Measures what the device present can do: matrix multiplication and copying in memory.

``python -m packsweep.machine.microbench`` prints one JSON document; with a dtype it measures the
processor in that dtype alone, in a second (``packsweep.machine.calibration``). It is a process of
its own, which owns the device and leaves it free. The timed window is a batch of equal operations
that lasts long enough for its start and its end not to count; the device is idle at both ends.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

from packsweep.machine import processor

_BEGAN = time.perf_counter()
import torch  # noqa: E402  (how long it takes is measured)

_IMPORT_S = time.perf_counter() - _BEGAN

REPEATS = 10
_WINDOW_S = {"cuda": 0.2, "cpu": 0.1}
_MATRIX_SIZES = {"cuda": (2048, 4096, 8192, 16384), "cpu": (256, 512, 1024)}
# Larger than any cache: what is copied has to come from memory.
_COPY_BYTES = {"cuda": (2**28, 2**30, 2**32), "cpu": (2**27,)}


def main() -> None:
    """Measure every size, or what the command line names, and print what was found."""
    found = _processor(sys.argv[1]) if sys.argv[1:] else _device()
    sys.stdout.write(json.dumps(found))


def _processor(dtype: str) -> dict[str, Any]:
    """Return the fields of ``calibration.Calibration``; a size as small models multiply."""
    return {
        "dtype": dtype,
        "flops_per_s": max(_matmul("cpu", 1024, getattr(torch, dtype))["values"]),
        "bytes_per_s": max(_copy("cpu", 2**27)["values"]),
        "import_s": _IMPORT_S,
    }


def _device() -> dict[str, Any]:
    kind = "cuda" if torch.cuda.is_available() else "cpu"
    return {
        "device": torch.cuda.get_device_name() if kind == "cuda" else processor.name(),
        "torch_version": torch.__version__,
        "matmul": [_matmul(kind, size) for size in _MATRIX_SIZES[kind]],
        "matmul_fp8": [_matmul_fp8(size) for size in _MATRIX_SIZES[kind] if _has_fp8(kind)],
        "copy": [_copy(kind, size) for size in _COPY_BYTES[kind]],
    }


def _matmul(kind: str, size: int, dtype: torch.dtype = torch.bfloat16) -> dict[str, Any]:
    """Return the FLOP/s of multiplying two square matrices of ``size`` rows."""
    left, right = (torch.randn(size, size, device=kind, dtype=dtype) for _ in range(2))
    product = torch.empty_like(left)
    rates = _rates(kind, lambda: torch.mm(left, right, out=product), 2 * size**3)
    return {"size": size, "values": rates}


def _matmul_fp8(size: int) -> dict[str, Any]:
    """Return the FLOP/s of multiplying two square fp8 matrices, bf16 out, one scale for each.

    cuBLASLt's, with fast accumulation: the most that the units do.
    """
    left = torch.randn(size, size, device="cuda").to(torch.float8_e4m3fn)
    right = torch.randn(size, size, device="cuda").to(torch.float8_e4m3fn).t()
    one = torch.ones((), device="cuda")

    def multiply() -> object:
        return torch._scaled_mm(  # noqa: SLF001  (torch 2.9 has no public one)
            left, right, scale_a=one, scale_b=one, out_dtype=torch.bfloat16, use_fast_accum=True
        )

    return {"size": size, "values": _rates("cuda", multiply, 2 * size**3)}


def _has_fp8(kind: str) -> bool:
    """Return whether the device has fp8 units; emulation is no ceiling.

    Source: https://developer.nvidia.com/cuda-gpus, compute capability 8.9 (Ada) and later.
    """
    return kind == "cuda" and torch.cuda.get_device_capability() >= (8, 9)


def _copy(kind: str, num_bytes: int) -> dict[str, Any]:
    """Return the bytes per second read and written while ``num_bytes`` are copied."""
    origin = torch.zeros(num_bytes, device=kind, dtype=torch.uint8)
    copy = torch.ones_like(origin)
    return {"size": num_bytes, "values": _rates(kind, lambda: copy.copy_(origin), 2 * num_bytes)}


def _rates(kind: str, operation: Callable[[], object], work: int) -> list[float]:
    """Return ``work`` per second of ``operation``, once for each repeat."""
    _seconds(kind, operation, 2)  # kernels are chosen, clocks rise
    once_s = _seconds(kind, operation, 1)
    count = max(1, round(_WINDOW_S[kind] / once_s))
    return [work * count / _seconds(kind, operation, count) for _ in range(REPEATS)]


def _seconds(kind: str, operation: Callable[[], object], count: int) -> float:
    _wait(kind)
    began = time.perf_counter()
    for _ in range(count):
        operation()
    _wait(kind)
    return time.perf_counter() - began


def _wait(kind: str) -> None:
    if kind == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()

"""How fast this processor computes: a short measurement, kept for the machine.

A processor has no data sheet that says what two of its cores in a container do, so ``plan`` asks
them: one matrix multiplication in the engine's dtype, one copy in memory, and how long importing
torch takes, which is most of an engine's start. It takes a few seconds, once.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from importlib.util import find_spec

from packsweep.files import cache_root, replace_file
from packsweep.machine import environment, processor

_TIMEOUT_S = 120.0
_BUSY_SHARE = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What was measured.

    Attributes:
        flops_per_s: of a matrix multiplication in ``dtype``, the best of several.
        bytes_per_s: read and written while memory is copied.
        import_s: importing torch.
    """

    dtype: str
    flops_per_s: float
    bytes_per_s: float
    import_s: float


def of_this_processor() -> Calibration | None:
    """Return the kept calibration, or measure; None where torch is missing or fails.

    What is measured beside other load is not kept.
    """
    path = cache_root() / f"processor-{_key()}.json"
    try:
        return _from_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        quiet = os.getloadavg()[0] < _BUSY_SHARE * processor.num_threads()
        found = _measure()
    if found is not None and quiet:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(path, json.dumps(asdict(found)).encode())
        except OSError:
            pass  # measured again the next time
    return found


def _key() -> str:
    """Return what the calibration depends on, short."""
    torch = environment.versions("torch").get("torch", "")
    parts = (processor.name(), processor.dtype(), str(processor.num_threads()), torch)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def _measure() -> Calibration | None:
    if find_spec("torch") is None:
        return None
    command = [sys.executable, "-P", "-m", "packsweep.machine.microbench", processor.dtype()]
    try:
        done = subprocess.run(  # noqa: S603  (our own module)
            command,
            env=environment.engine_environ(),
            capture_output=True,
            text=True,
            check=True,
            timeout=_TIMEOUT_S,
        )
        return _from_json(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def _from_json(text: str) -> Calibration:
    """Return what ``text`` holds.

    Raises:
        ValueError: it is no calibration.
    """
    try:
        found = Calibration(**json.loads(text))
        rates = (found.flops_per_s, found.bytes_per_s, found.import_s)
        if all(math.isfinite(rate) and rate > 0 for rate in rates):
            return found
    except TypeError:
        pass
    raise ValueError("not a calibration")

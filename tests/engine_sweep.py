"""A small sweep of the real engine on the real model, and the command line that runs it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

# What a small machine runs.
ENGINE = """[engine]
max_model_len = 4096
max_num_seqs = 64
max_num_batched_tokens = 4096
kv_cache_memory_bytes = 268435456
enforce_eager = true
"""
SWEEP = f"""
[model]
name = "embedded:smollm2-135m"
[grid]
strategy = ["packed", "separate"]
n = 4
duplication = 2
{ENGINE}
[measure]
repeats = 2
"""
CHUNKED = """
[[variant]]
grid.strategy = "chunked"
grid.pack_size = 2
grid.prompt_type = "tokens"
"""


def write_sweep(folder: Path, **replaced: str) -> Path:
    text = SWEEP if "strategy" in replaced else SWEEP + CHUNKED
    for old, new in replaced.items():
        text = re.sub(rf"^{old} = ", f"{old} = {new} # ", text, flags=re.MULTILINE)
    path = folder / "small.toml"
    path.write_text(text, encoding="utf-8")
    return path


def run(*arguments: str, timeout: float = 3000) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "packsweep", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)

"""Online cells on a real vLLM server that they share: started, driven, scored, stopped."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest
from tests.engine_sweep import run

import packsweep

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(3600)]
pytest.importorskip("vllm")

SWEEP = """
mode = "online"
[model]
name = "embedded:smollm2-135m"
[texts]
max_tokens = 16
[grid]
strategy = "separate"
n = 8
template = "chat"
answer = "choice"
[online]
rate = 1.0
window_s = 5.0
slo = "p90 e2e <= 60 s"
[engine]
max_model_len = 1024
max_num_seqs = 16
max_num_batched_tokens = 1024
kv_cache_memory_bytes = 134217728
enforce_eager = true
[measure]
repeats = 2
isolation = "engine"
[[variant]]
online.rate = []
online.max_rate = 1.0
online.window_s = 4.0
online.search_s = 22.0
online.slo = "p50 e2e <= 4 s"
"""


def test_run_online(tmp_path: Path) -> None:
    """Windows are answered with labels in the right cache state, and no server is left.

    Those of a search too, on the same server: whatever it finds on this machine, it says so. Its
    limit is long, as the client shares two cores with the engine and may send 1 % of it late.
    """
    sweep = tmp_path / "online.toml"
    sweep.write_text(SWEEP, encoding="utf-8")
    before = _servers()
    done = run("run", str(sweep), "--results", str(tmp_path / "results"))
    assert done.returncode == 0, done.stdout + done.stderr
    passes = packsweep.load(tmp_path / "results")
    assert set(passes["outcome"]) == {"ok"}
    assert sorted(passes.groupby("cell_id")["start_method"].first()) == ["fork", "shared"]
    searched = passes["max_rate_verdict"].notna()
    assert (~searched).sum() == 2
    assert searched.any()
    assert (passes["num_errors"] == 0).all()
    assert (passes["coverage"] == 1).all()
    assert (passes["ttft_p50_s"] > 0).all()
    assert (passes["tpot_p50_s"] > 0).all()
    assert (passes["e2e_p99_s"] >= passes["ttft_p99_s"]).all()
    assert passes["server_cached_share"].notna().all()
    assert passes["block_size"].notna().all()
    assert passes["vllm_version"].notna().all()
    assert (passes["between_s"] >= 0).all()
    assert _servers() <= before


def _servers() -> set[int]:
    """Return the processes that vLLM gave a name of its own."""
    everybody = psutil.process_iter(["cmdline"])
    return {each.pid for each in everybody if "VLLM::" in " ".join(each.info["cmdline"] or ())}

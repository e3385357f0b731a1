"""packsweep and ``vllm bench serve`` on one server: same prompts and rate, in alternation.

    python sweeps/beside_serve.py [PAIRS [REQUESTS [REQUESTS_PER_S]]]

The server is that of a cell of ``sweeps/online.toml`` with the prefix cache off. Both clients send
the same prompts in the same order, evenly spaced and then as Poisson does; which of the two goes
first changes from pair to pair. Prints a line of JSON for each window.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from packsweep import engines
from packsweep.engines.server import Server, body
from packsweep.machine import environment
from packsweep.plan import cells as plan_cells
from packsweep.run.measure import windows
from packsweep.run.measure.workload import Workload
from packsweep.sweep import read
from packsweep.traffic import latency, schedule
from packsweep.traffic.process import drive_in_process
from packsweep.traffic.window import Load, LoadRequest

SWEEP = Path(__file__).with_name("online.toml")
OUTPUT_TOKENS = 8
WITHOUT_CACHE = (
    "measure.cache_state=off",
    "grid.strategy=separate",
    "grid.pack_size=[]",
    "grid.answer=free",
    f"grid.output_tokens_per_text={OUTPUT_TOKENS}",
    "online.rate=1.0",
)
# Gamma gaps of this shape are even to 0.1 %.
EVEN = 1e6


def ours(
    server: Server, requests: list[LoadRequest], rate: float, *, kind: schedule.Arrivals, seed: int
) -> dict[str, Any]:
    """Drive the requests once and return what is compared."""
    duration_s = len(requests) / rate
    times = schedule.arrivals(kind, rate, duration_s=2 * duration_s, seed=seed)[: len(requests)]
    with tempfile.TemporaryDirectory() as folder:
        target = windows.target_of(server, None, 120.0)
        window = drive_in_process(Path(folder), target, requests, Load(arrivals=times))
    found = latency.summarize(window)
    names = ("ttft_mean_s", "ttft_p99_s", "e2e_mean_s", "e2e_p99_s", "tpot_mean_s", "itl_mean_s")
    return {
        "tool": "packsweep",
        "requests_per_s": len(requests) / window.ended_s,
        **{name: found[name] for name in names},
        "service_ttft_mean_s": found["service_ttft_mean_s"],
        "service_e2e_mean_s": found["service_e2e_mean_s"],
        "num_errors": found["num_errors"],
    }


def theirs(
    server: Server, prompts: Path, tokenizer: str, rate: float, *, kind: str, seed: int
) -> dict[str, Any]:
    """Run vLLM's benchmark once and return the same figures by our names."""
    folder = Path(tempfile.mkdtemp())
    program = (
        "import argparse, vllm.benchmarks.serve as s; p = argparse.ArgumentParser(); "
        "s.add_cli_args(p); s.main(p.parse_args())"
    )
    options = {
        "--backend": "openai",
        "--base-url": server.base_url,
        "--endpoint": "/v1/completions",
        "--model": server.model,
        "--tokenizer": tokenizer,
        "--dataset-name": "custom",
        "--dataset-path": str(prompts),
        "--custom-output-len": str(OUTPUT_TOKENS),
        "--num-prompts": str(sum(1 for _ in prompts.open())),
        "--request-rate": str(rate),
        "--burstiness": str(EVEN if kind == "constant" else 1.0),
        "--seed": str(seed),
        "--percentile-metrics": "ttft,tpot,itl,e2el",
        "--metric-percentiles": "99",
        "--temperature": "0",
        "--result-dir": str(folder),
        "--result-filename": "r.json",
    }
    flags = ("--skip-chat-template", "--disable-shuffle", "--ignore-eos", "--save-result")
    words = [word for pair in options.items() for word in pair]
    command = [sys.executable, "-c", program, *words, *flags, "--disable-tqdm"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # noqa: S603
    found = json.loads((folder / "r.json").read_text())
    names = {"ttft_mean_s": "mean_ttft_ms", "ttft_p99_s": "p99_ttft_ms"}
    names |= {"e2e_mean_s": "mean_e2el_ms", "e2e_p99_s": "p99_e2el_ms"}
    names |= {"tpot_mean_s": "mean_tpot_ms", "itl_mean_s": "mean_itl_ms"}
    return {
        "tool": "vllm",
        "requests_per_s": found["request_throughput"],
        **{name: found[key] / 1000 for name, key in names.items()},
        "num_errors": found["failed"],
    }


def main(num_pairs: int, num_requests: int, rate: float) -> None:
    """Alternate; every window is printed as it ends."""
    os.environ |= environment.engine_environ()
    plan = plan_cells.make(read.load(SWEEP, WITHOUT_CACHE))
    cell = plan.cells[0].cell
    workload = Workload.of(cell, plan.texts_of(cell), plan.chat)
    texts = [workload.prompts[index % cell.n].text for index in range(num_requests)]
    prompts = Path(tempfile.mkdtemp()) / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts))
    server = engines.start_server(cell, plan.model)
    try:
        asked = workload.requests
        bodies = [body(each, server.model, each.text) for each in asked]
        requests = [LoadRequest(bodies[index % cell.n], 1) for index in range(num_requests)]
        tokenizer = plan.model.tokenizer_path

        def one(tool: str, kind: schedule.Arrivals, seed: int) -> dict[str, Any]:
            if tool == "packsweep":
                return ours(server, requests, rate, kind=kind, seed=seed)
            return theirs(server, prompts, tokenizer, rate, kind=kind, seed=seed)

        tools = ["packsweep", "vllm"]
        for tool in tools:
            one(tool, "constant", 99)  # warms both
        kinds: tuple[schedule.Arrivals, ...] = ("constant", "poisson")
        for kind in kinds:
            for pair in range(num_pairs):
                for tool in tools if pair % 2 == 0 else tools[::-1]:
                    found = {"arrivals": kind, "pair": pair, **one(tool, kind, pair)}
                    print(json.dumps(found), flush=True)  # noqa: T201
    finally:
        server.close()


if __name__ == "__main__":
    given = [*sys.argv[1:], *("3", "30", "2.0")[len(sys.argv) - 1 :]]
    main(int(given[0]), int(given[1]), float(given[2]))

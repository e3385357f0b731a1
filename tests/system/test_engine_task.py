"""Another task on the real engine: answers by log-probabilities beside constrained ones."""

from __future__ import annotations

import pandas as pd
import pytest
from tests.engine_sweep import run

import packsweep

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(900)]
pytest.importorskip("vllm")

SWEEP = """
[model]
name = "embedded:smollm2-135m"
[task]
name = "tickets"
[grid]
strategy = "separate"
n = 100
template = "chat"
answer = ["choice", "logprob"]
[engine]
max_model_len = 2048
max_num_seqs = 64
max_num_batched_tokens = 4096
kv_cache_memory_bytes = 268435456
enforce_eager = true
[measure]
repeats = 1
"""


@pytest.fixture(scope="module")
def requests(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    folder = tmp_path_factory.mktemp("task")
    path = folder / "tickets.toml"
    path.write_text(SWEEP, encoding="utf-8")
    done = run("run", str(path), "--results", str(folder / "results"))
    assert done.returncode == 0, done.stdout + done.stderr
    summary = packsweep.load(folder / "results", "summary").set_index("cell_id")
    found = packsweep.load(folder / "results", "requests")
    return found.assign(answer=found["cell_id"].map(summary["answer"]))


def test_logprob_one_token(requests: pd.DataFrame) -> None:
    """A label that is one token costs one, and has a confidence above an even share."""
    assert set(requests["output_tokens"]) == {1}
    scored = requests[requests["answer"] == "logprob"]
    assert scored["confidence"].between(0.25, 1).all()


def test_logprob_agrees_with_choice(requests: pd.DataFrame) -> None:
    """Labels of one token are the same in both ways for at least 99 of 100 texts."""
    labels = {
        answer: own.sort_values("first_text")["found_labels"].str[0].tolist()
        for answer, own in requests.groupby("answer")
    }
    pairs = list(zip(labels["choice"], labels["logprob"], strict=True))
    assert len(pairs) == 100
    assert sum(one == other for one, other in pairs) >= 0.99 * len(pairs)

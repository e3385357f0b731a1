"""What a server is told and what it says of itself, without one."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import pytest
from tests.fakes import cell

from packsweep.engines import Request, vllm_server
from packsweep.engines.server import body, figures
from packsweep.models.resolve import resolve

PAGE = """\
# HELP vllm:num_requests_running Number of requests
vllm:num_requests_running{engine="0",model_name="m"} 3.0
vllm:num_requests_waiting{engine="0",model_name="m"} 2.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="m",reason="capacity"} 7.0
vllm:prefix_cache_queries_total{engine="0",model_name="m"} 100.0
vllm:prefix_cache_hits_total{engine="0",model_name="m"} 25.0
vllm:prefix_cache_hits_created{engine="0",model_name="m"} 1.79e+09
vllm:cache_config_info{block_size="128",enable_prefix_caching="True",num_gpu_blocks="40"} 1.0
"""


def test_figures() -> None:
    """Each figure is its own, whatever begins like it."""
    found = figures(PAGE)
    assert (found.running, found.waiting) == (3, 2)
    assert (found.cache_queries, found.cache_hits) == (100.0, 25.0)
    assert found.preemptions is None
    assert found.cache_config["block_size"] == "128"


def test_figures_engines() -> None:
    """Engines of one server count together."""
    two = PAGE + 'vllm:num_requests_running{engine="1",model_name="m"} 4.0\n'
    assert figures(two).running == 7


def test_body_free() -> None:
    """A free answer shows its end tokens, and nothing is left to the model's own defaults."""
    asked = Request(text="x", max_tokens=3, ignore_eos=True)
    sent = json.loads(body(asked, "m", "x"))
    assert (sent["prompt"], sent["max_tokens"], sent["temperature"]) == ("x", 3, 0.0)
    assert (sent["ignore_eos"], sent["skip_special_tokens"]) == (True, False)
    assert sent["stream_options"] == {"include_usage": True, "continuous_usage_stats": True}
    assert "structured_outputs" not in sent


def test_body_choice() -> None:
    """One label is a choice, several are a pattern."""
    asked = Request(text="x", max_tokens=9, ignore_eos=False, choice=("a", "b"))
    assert json.loads(body(asked, "m", [1, 2]))["structured_outputs"] == {"choice": ["a", "b"]}
    many = replace(asked, num_texts=2)
    assert "regex" in json.loads(body(many, "m", [1, 2]))["structured_outputs"]


def test_arguments(byte_model: Path) -> None:
    """Every setting is on the command line by its name; what is left to vLLM is not."""
    model = resolve(str(byte_model), load_format="dummy")
    settings = {"max_num_seqs": 8, "enforce_eager": True, "async_scheduling": False, "dtype": None}
    line = vllm_server.arguments(replace(cell(), engine_settings=tuple(settings.items())), model)
    assert line[:2] == ["serve", str(byte_model)]
    pairs = list(itertools.pairwise(line))
    assert ("--max-num-seqs", "8") in pairs
    assert "--enforce-eager" in line
    assert "--no-async-scheduling" in line
    assert not [word for word in line if word.startswith("--dtype")]


@pytest.mark.parametrize(("sizes", "executor"), [({}, "uni"), ({"tensor_parallel_size": 2}, "mp")])
def test_arguments_of_several_gpus(byte_model: Path, sizes: dict[str, int], executor: str) -> None:
    """A server has the GPUs that its cell asks for, by vLLM's own executor and never by Ray."""
    model = resolve(str(byte_model), load_format="dummy")
    line = vllm_server.arguments(replace(cell(), engine_settings=tuple(sizes.items())), model)
    pairs = list(itertools.pairwise(line))
    asked = {"tensor_parallel_size": 1, "pipeline_parallel_size": 1} | sizes
    for name, size in asked.items():
        assert (f"--{name.replace('_', '-')}", str(size)) in pairs
    assert ("--distributed-executor-backend", executor) in pairs


def test_info() -> None:
    """What a page of metrics says is in force has the types of settings."""
    page = {
        "block_size": "128",
        "num_gpu_blocks": "40",
        "cache_dtype": "auto",
        "enable_prefix_caching": "True",
        "gpu_memory_utilization": "0.92",
        "kv_cache_dtype_skip_layers": "[]",
        "sliding_window": "None",
    }
    info = vllm_server.info_of(cell(), page, {"vllm": "0.32.0"})
    assert (info.block_size, info.num_blocks) == (128, 40)
    known = {name: info.resolved[name] for name in page if name in info.resolved}
    assert known == {
        "block_size": 128,
        "num_gpu_blocks": 40,
        "cache_dtype": "auto",
        "enable_prefix_caching": True,
        "gpu_memory_utilization": 0.92,
        "kv_cache_dtype_skip_layers": "[]",
    }

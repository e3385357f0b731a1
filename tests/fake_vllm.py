"""A stand-in for the module vllm: takes what the engine hands over and answers each prompt."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.fakes import cell

from packsweep.engines.vllm import VllmEngine
from packsweep.models.resolve import resolve

END_TOKEN_ID = 0


class Tokenizer:
    """One token a letter; notes each call."""

    eos_token_id = END_TOKEN_ID

    def __init__(self) -> None:
        self.calls: list[tuple[list[str], dict[str, Any]]] = []

    def __call__(self, texts: list[str], **options: Any) -> dict[str, list[list[int]]]:
        self.calls.append((texts, options))
        return {"input_ids": [[ord(letter) for letter in text] for text in texts]}


class FakeLlm:
    """``vllm.LLM``: notes its prompts and answers each with one token."""

    def __init__(self, **arguments: Any) -> None:
        """Start at once.

        Attributes:
            stamps: makes the timestamps of an answer, none by default.
        """
        self.arguments = arguments
        self.tokenizer = Tokenizer()
        self.prompts: list[Any] = []
        self.params: list[Any] = []
        self.stamps: Callable[[], SimpleNamespace | None] = lambda: None
        self.llm_engine = SimpleNamespace(
            model_config=SimpleNamespace(try_get_generation_config=dict),
            vllm_config=SimpleNamespace(
                cache_config=SimpleNamespace(block_size=16, num_gpu_blocks=100)
            ),
        )

    def get_tokenizer(self) -> Tokenizer:
        return self.tokenizer

    def generate(self, prompts: Any, params: list[Any], **_options: Any) -> list[Any]:
        self.prompts.extend(prompts)
        self.params = params
        assert len(params) == len(prompts)
        return [self._answer() for _ in prompts]

    def _answer(self) -> SimpleNamespace:
        answer = SimpleNamespace(token_ids=[7], text="a", finish_reason="length", logprobs=None)
        return SimpleNamespace(
            outputs=[answer],
            prompt_token_ids=[1, 2],
            num_cached_tokens=0,
            finished=True,
            metrics=self.stamps(),
        )


def start(
    monkeypatch: pytest.MonkeyPatch, model: Path, prompt_type: str = "text"
) -> tuple[VllmEngine, FakeLlm]:
    """Start the real engine class on the stand-in."""
    started: list[FakeLlm] = []

    def make(**arguments: Any) -> FakeLlm:
        started.append(FakeLlm(**arguments))
        return started[-1]

    envs = SimpleNamespace(VLLM_ENABLE_V1_MULTIPROCESSING=False)
    vllm = SimpleNamespace(LLM=make, SamplingParams=SimpleNamespace, envs=envs, __version__="0")
    platform = SimpleNamespace(is_cpu=lambda: True, num_compute_units=lambda: 2)
    monkeypatch.setitem(sys.modules, "vllm", vllm)
    monkeypatch.setitem(sys.modules, "vllm.platforms", SimpleNamespace(current_platform=platform))
    found = resolve(str(model), load_format="dummy")
    engine = VllmEngine(cell(engine="vllm", prompt_type=prompt_type), found)
    return engine, started[0]

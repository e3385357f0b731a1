"""What the engine hands to vLLM: texts, or the token ids of all of them, by a stand-in for vLLM."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from packsweep.engines import Request
from packsweep.engines.vllm import VllmEngine
from packsweep.errors import EngineError

TEXTS = ("ab", "c")


class _Llm:
    """Takes prompts, and answers none of them."""

    def __init__(self) -> None:
        self.tokenized: list[tuple[list[str], dict[str, Any]]] = []
        self.given: list[Any] = []

    def get_tokenizer(self) -> Any:
        def tokenize(texts: list[str], **options: Any) -> dict[str, list[list[int]]]:
            self.tokenized.append((texts, options))
            return {"input_ids": [[ord(letter) for letter in text] for text in texts]}

        return tokenize

    def generate(self, prompts: Any, _params: Any, **_options: Any) -> list[Any]:
        self.given.extend(prompts)
        return []


def _run(*, as_tokens: bool, add_special_tokens: bool = True) -> _Llm:
    engine = object.__new__(VllmEngine)
    llm = _Llm()
    params = SimpleNamespace(SamplingParams=lambda **values: values)
    engine.__dict__.update(_llm=llm, _vllm=params, _as_tokens=as_tokens)
    requests = [
        Request(text=text, max_tokens=1, ignore_eos=True, add_special_tokens=add_special_tokens)
        for text in TEXTS
    ]
    with pytest.raises(EngineError, match="2 requests went in and 0 came back"):
        engine.run(requests)
    return llm


def test_texts() -> None:
    """By default vLLM is given the texts, and tokenizes them itself."""
    llm = _run(as_tokens=False)
    assert (llm.given, llm.tokenized) == (list(TEXTS), [])


def test_tokens() -> None:
    """As tokens vLLM is given ids alone, and all texts were tokenized in one call."""
    llm = _run(as_tokens=True)
    assert llm.given == [{"prompt_token_ids": [97, 98]}, {"prompt_token_ids": [99]}]
    assert llm.tokenized == [(list(TEXTS), {})]


def test_tokens_of_a_chat() -> None:
    """A rendered chat template has its special tokens already."""
    llm = _run(as_tokens=True, add_special_tokens=False)
    assert llm.tokenized == [(list(TEXTS), {"add_special_tokens": False})]

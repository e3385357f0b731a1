"""What the engine hands to vLLM: texts, or the token ids of all of them, by a stand-in for vLLM."""

from __future__ import annotations

import gc
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import pytest
from tests import fake_vllm
from tests.fake_vllm import FakeLlm
from tests.fakes import cells

from packsweep.engines import Request, vllm
from packsweep.errors import EngineError
from packsweep.models.resolve import resolve
from packsweep.sweep import answers
from packsweep.sweep.spec import Format

TEXTS = ("ab", "c")


class Runs:
    """Runs the texts through an engine on a stand-in."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
        self._monkeypatch, self._model = monkeypatch, model

    def __call__(self, prompt_type: str, *, add_special_tokens: bool = True) -> FakeLlm:
        engine, llm = fake_vllm.start(self._monkeypatch, self._model, prompt_type)
        requests = [
            Request(text=text, max_tokens=1, ignore_eos=True, add_special_tokens=add_special_tokens)
            for text in TEXTS
        ]
        assert len(engine.run(requests).requests) == len(TEXTS)
        return llm


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, byte_model: Path) -> Runs:
    """Run two texts in a prompt type and return the stand-in."""
    return Runs(monkeypatch, byte_model)


def test_texts(run: Runs) -> None:
    """By default vLLM is given the texts, and tokenizes them itself."""
    llm = run("text")
    assert (llm.prompts, llm.tokenizer.calls) == (list(TEXTS), [])


def test_tokens(run: Runs) -> None:
    """As tokens vLLM is given ids alone, and all texts were tokenized in one call."""
    llm = run("tokens")
    assert llm.prompts == [{"prompt_token_ids": [97, 98]}, {"prompt_token_ids": [99]}]
    assert llm.tokenizer.calls == [(list(TEXTS), {})]


def test_tokens_of_a_chat(run: Runs) -> None:
    """A rendered chat template has its special tokens already."""
    llm = run("tokens", add_special_tokens=False)
    assert llm.tokenizer.calls == [(list(TEXTS), {"add_special_tokens": False})]


def test_tokens_of_labels(monkeypatch: pytest.MonkeyPatch, byte_model: Path) -> None:
    """A choice among tokens needs no grammar."""
    engine, llm = fake_vllm.start(monkeypatch, byte_model)
    labels = Request(
        text="ab", max_tokens=1, ignore_eos=True, choice=("A", "B"), allowed_token_ids=(65, 66)
    )
    engine.run([labels])
    assert (llm.params[0].allowed_token_ids, llm.params[0].structured_outputs) == ([65, 66], None)


def test_missing_answer(monkeypatch: pytest.MonkeyPatch, byte_model: Path) -> None:
    """A pass whose answers are fewer than its requests is no measurement."""
    engine, llm = fake_vllm.start(monkeypatch, byte_model)
    monkeypatch.setattr(llm, "generate", lambda *_arguments, **_options: [])
    with pytest.raises(EngineError, match="1 requests were submitted and 0 returned") as raised:
        engine.run([Request(text="a", max_tokens=1, ignore_eos=True)])
    assert raised.value.outcome == "invalid"


@pytest.mark.parametrize(
    ("sizes", "executor"),
    [
        ((1, 1), "uni"),
        ((2, 1), "mp"),
        ((1, 2), "mp"),
    ],
)
def test_parallel_sizes(byte_model: Path, sizes: tuple[int, int], executor: str) -> None:
    """Of several GPUs vLLM's own executor takes care, never Ray's."""
    names = ("tensor_parallel_size", "pipeline_parallel_size")
    of = cells(engine=dict(zip(names, sizes, strict=True)))[0]
    found = vllm.arguments(of, resolve(str(byte_model), load_format="dummy"))
    assert tuple(found[name] for name in names) == sizes
    assert found["distributed_executor_backend"] == executor


def test_links_are_recorded_of_several_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """How the GPUs of the host talk matters to an engine on several of them alone."""
    monkeypatch.setenv("NCCL_NVLS_ENABLE", "0")
    one, two = cells(engine={"tensor_parallel_size": [1, 2]})
    assert vllm.links(one) == {}
    assert vllm.links(two)["NCCL_NVLS_ENABLE"] == "0"


def test_close_collects_nothing(monkeypatch: pytest.MonkeyPatch, byte_model: Path) -> None:
    """The process ends next: what vLLM would walk at its end is left alone."""
    engine, llm = fake_vllm.start(monkeypatch, byte_model)
    collected: list[int] = []
    frozen: list[int] = []

    def shutdown() -> None:
        gc.unfreeze()
        collected.append(gc.collect())
        frozen.append(gc.get_freeze_count())

    llm.llm_engine.engine_core = SimpleNamespace(shutdown=shutdown)
    gc.freeze()
    before = gc.get_freeze_count()
    engine.close()
    gc.unfreeze()
    assert collected == [0]
    assert frozen[0] > 0.9 * before
    assert gc.get_freeze_count() == 0


_SYMBOLS = (
    "\U0001f44d",
    "\u2764\ufe0f",
    "\U0001f468\u200d\U0001f467",
    "\u2605\u2605",
    "1\ufe0f\u20e3",
)
_LETTERS = (
    "\U0001d4b3",
    "\u092c\u093f",
    "\u0645\u06cc\u200c\u062e",
    "e\u0301",
    "C++ (a|b)",
    "[x]",
    "^.$*",
)


@pytest.mark.parametrize("answer_format", get_args(Format))
def test_grammar_takes_any_label(answer_format: Format) -> None:
    """What compiles vLLM's grammars takes labels of any script, and lets nothing else through."""
    xgrammar = pytest.importorskip("xgrammar")
    words = (*_SYMBOLS, *_LETTERS)
    compiler = xgrammar.GrammarCompiler(
        xgrammar.TokenizerInfo([bytes([byte]) for byte in range(256)])
    )
    compiled = compiler.compile_regex(answers.pattern(words, len(words), answer_format))
    answer = answers.written(words, answer_format)
    assert xgrammar.GrammarMatcher(compiled).accept_string(answer)
    other = answer.replace(words[-1], "other")
    assert not xgrammar.GrammarMatcher(compiled).accept_string(other)

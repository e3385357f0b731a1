"""What a process that forks vLLM's workers does for them: less to collect, a loaded tokenizer."""

from __future__ import annotations

import gc
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from types import ModuleType

import pytest

from packsweep.engines import vllm_forked

CAPTURE = "freeze_gc_for_cudagraph_capture"


@pytest.fixture
def frozen() -> Iterator[int]:
    """Freeze what there is, as a fork server does; its number of objects."""
    gc.freeze()
    yield gc.get_freeze_count()
    gc.unfreeze()
    gc.enable()


@pytest.fixture
def gc_utils(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A stand-in for vLLM's module."""
    found = ModuleType("vllm.utils.gc_utils")
    package = ModuleType("vllm.utils")
    package.gc_utils = found  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vllm", ModuleType("vllm"))
    monkeypatch.setitem(sys.modules, "vllm.utils", package)
    monkeypatch.setitem(sys.modules, "vllm.utils.gc_utils", found)
    return found


def test_capture_leaves_frozen(frozen: int, gc_utils: ModuleType) -> None:
    """While graphs are captured the collector is off; what was frozen before stays frozen."""
    setattr(gc_utils, CAPTURE, None)
    vllm_forked.spare_collections()
    with getattr(gc_utils, CAPTURE)():
        assert not gc.isenabled()
        cycle: list[object] = []
        cycle.append(cycle)
        del cycle
    assert gc.isenabled()
    assert gc.get_freeze_count() > 0.9 * frozen, "some of it ends without the collector"
    assert gc.collect() < 2, "the garbage of the capture was collected at its end"


def test_capture_of_another_version(gc_utils: ModuleType) -> None:
    """A version of vLLM without that function gets none."""
    vllm_forked.spare_collections()
    assert not hasattr(gc_utils, CAPTURE)


def test_collector_that_was_off(gc_utils: ModuleType) -> None:
    """A collector that was off stays off."""
    setattr(gc_utils, CAPTURE, None)
    vllm_forked.spare_collections()
    gc.disable()
    try:
        with getattr(gc_utils, CAPTURE)():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


# What a start of LLM does about its tokenizer, in a process where it was loaded and in none.
START = """
import copy, sys, transformers
from tests.fakes import cell
from packsweep.engines import vllm_forked
from packsweep.engines.vllm import arguments
from packsweep.models.resolve import resolve
from vllm.engine.arg_utils import EngineArgs
from vllm.renderers.params import ChatParams
from vllm.renderers.registry import renderer_from_config

model = resolve("embedded:smollm2-135m", load_format="dummy")
asked = cell(model="embedded:smollm2-135m", engine="vllm", simulated_settings=())
if sys.argv[1] == "prepared":
    vllm_forked.load_tokenizer(asked, model)
    vllm_forked.load_tokenizer(asked, model)
loads = []
load = transformers.AutoTokenizer.from_pretrained
def noted(*given, **more):
    loads.append(given)
    return load(*given, **more)
transformers.AutoTokenizer.from_pretrained = noted
config = EngineArgs(**arguments(asked, model)).create_engine_config()
renderer = renderer_from_config(config)
renderer.warmup(ChatParams(chat_template=None))
tokenizer = renderer.tokenizer
text = tokenizer.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False)
print(len(loads), type(tokenizer).__name__, tokenizer.encode("a review"), repr(text))
"""


@pytest.mark.slow
@pytest.mark.engine
def test_tokenizer_is_there() -> None:
    """A start after it loads no tokenizer, and has the same one that it would have loaded."""
    pytest.importorskip("vllm")
    said = {}
    for how in ("prepared", "plain"):
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(START), how],
            capture_output=True,
            text=True,
            check=True,
        )
        loads, others = done.stdout.strip().splitlines()[-1].split(" ", 1)
        said[how] = others
        assert (loads == "0") == (how == "prepared"), done.stdout
    assert said["prepared"] == said["plain"]

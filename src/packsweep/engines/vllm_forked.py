"""What a process from which vLLM's workers are forked does once for all of them.

It has imported vLLM and touches no GPU; what lies in its memory a worker has from its beginning.
Source: vLLM 0.32, ``renderers/hf.py``, ``tokenizers/hf.py``, ``utils/gc_utils.py``.
"""

from __future__ import annotations

import contextlib
import copy
import gc
from collections.abc import Iterator
from typing import TYPE_CHECKING

from packsweep.engines.vllm import arguments

if TYPE_CHECKING:
    from packsweep.models.resolve import Model
    from packsweep.sweep.cells import Cell


def spare_collections() -> None:
    """Keep what importing made out of the collector's sight while vLLM captures graphs.

    Around the capture vLLM freezes all objects, switches the collector off, unfreezes all and
    collects, and collects again before it freezes them for good. Unfreezing brings back what this
    process froze, and walking it makes a fork copy every page of it. With the collector off nothing
    needs to be frozen. To be called before the modules that capture are imported.
    """
    from vllm.utils import gc_utils

    if hasattr(gc_utils, "freeze_gc_for_cudagraph_capture"):
        gc_utils.freeze_gc_for_cudagraph_capture = _collector_off


@contextlib.contextmanager
def _collector_off() -> Iterator[None]:
    """Collect, keep the collector off, and collect what has become garbage meanwhile."""
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.collect()
        if was_on:
            gc.enable()


def load_tokenizer(cell: Cell, model: Model) -> None:
    """Load the cell's tokenizer into the places where vLLM looks for it.

    A start of ``LLM`` loads it, makes copies of it for threads, and loads it once more to look for
    a chat template: seconds where the vocabulary has 128,000 entries. A forked worker finds the
    same objects, which nobody has used.
    """
    from vllm.engine.arg_utils import EngineArgs
    from vllm.renderers.hf import resolve_chat_template
    from vllm.tokenizers.hf import ThreadSafeHFTokenizerMixin, maybe_make_thread_pool
    from vllm.tokenizers.registry import cached_tokenizer_from_config, tokenizer_args_from_config

    config = EngineArgs(**arguments(cell, model)).create_model_config()
    tokenizer = cached_tokenizer_from_config(config)
    mode, *_ = tokenizer_args_from_config(config)
    if mode != "hf" or config.enable_prompt_embeds:
        return
    resolve_chat_template(tokenizer, None, None, model_config=config)
    kind = type(tokenizer)  # vLLM makes a class for each tokenizer that it loads
    if "__copy__" in vars(kind):
        return
    pool = maybe_make_thread_pool(copy.copy(tokenizer), config.renderer_num_workers + 1)
    if isinstance(pool, ThreadSafeHFTokenizerMixin):
        kind.__copy__ = lambda _: pool  # the copy that the renderer takes needs no more copies

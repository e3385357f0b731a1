"""vLLM, in this process, with its engine core in a child.

The timed window is ``LLM.generate`` over all requests of a pass: from the first submission to the
last output, text in and text out, as ``vllm bench throughput`` times it. Feeding is part of it:
vLLM tokenizes and adds requests one by one while the engine core already runs. With
``prompt_type`` tokens one call of the tokenizer, on all processors, comes first, inside the window.

What this module must not know: strategies, texts, files. The environment variables that vLLM
reads at import are set by ``packsweep.machine.environment`` before this process starts.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packsweep.engines import (
    UNWATCHED,
    EngineInfo,
    PassResult,
    Request,
    RequestResult,
    Watcher,
    causes,
)
from packsweep.errors import EngineError
from packsweep.machine import environment, process, processor
from packsweep.sweep import answers

if TYPE_CHECKING:
    from packsweep.models.resolve import Model
    from packsweep.sweep.cells import Cell

_STOP_GRACE_S = 0.1
# Fields of vLLM's resolved configuration that say how a pass was scheduled and computed.
_RESOLVED = {
    "model_config": ("dtype", "max_model_len", "quantization", "enforce_eager", "seed"),
    "cache_config": (
        "block_size",
        "num_gpu_blocks",
        "cache_dtype",
        "enable_prefix_caching",
        "gpu_memory_utilization",
        "kv_cache_memory_bytes",
        "prefix_caching_hash_algo",
        "prefix_cache_retention_interval",
    ),
    "scheduler_config": (
        "max_num_seqs",
        "max_num_batched_tokens",
        "enable_chunked_prefill",
        "async_scheduling",
        "policy",
        "long_prefill_token_threshold",
        "disable_hybrid_kv_cache_manager",
    ),
    "attention_config": ("backend",),
    "parallel_config": (
        "distributed_executor_backend",
        "tensor_parallel_size",
        "pipeline_parallel_size",
        "disable_custom_all_reduce",
    ),
    "compilation_config": ("mode", "custom_ops", "cudagraph_mode", "max_cudagraph_capture_size"),
    "kernel_config": ("linear_backend",),
}


class VllmEngine:
    """A vLLM engine, every setting passed by name."""

    def __init__(self, cell: Cell, model: Model) -> None:
        """Import vLLM and start it for ``cell``.

        Raises:
            EngineError: it did not start; the message is vLLM's own last line.
        """
        with _as_engine_error():
            began = time.perf_counter()
            import vllm
            from vllm import LLM  # imports what the engine consists of
            from vllm.platforms import current_platform

            imported = time.perf_counter()
            self._vllm = vllm
            self._llm = LLM(**arguments(cell, model))
        self._as_tokens = cell.prompt_type == "tokens"
        self._end_ids = frozenset(_end_token_ids(self._llm))
        config = self._llm.llm_engine.vllm_config
        self.info = EngineInfo(
            resolved=_resolved(config) | _layout(current_platform) | links(cell),
            block_size=config.cache_config.block_size,
            num_blocks=config.cache_config.num_gpu_blocks,
            import_s=imported - began,
            versions=_versions(vllm.__version__),
            device=_device_name(current_platform),
        )

    def run(
        self,
        requests: Sequence[Request],
        watch: Watcher = UNWATCHED,
    ) -> PassResult:
        """Generate for all requests; see the head of this file for the timed window."""
        texts = [request.text for request in requests]
        params = [self._sampling_params(request) for request in requests]
        as_it_is = not all(request.add_special_tokens for request in requests)
        options = {"add_special_tokens": False} if as_it_is else {}
        # A collection inside the window would walk every object that importing vLLM made.
        gc.collect()
        gc.freeze()
        with watch, _as_engine_error():
            began = time.perf_counter()
            outputs = self._llm.generate(
                self._token_prompts(texts, options) if self._as_tokens else texts,
                params,
                use_tqdm=False,
                tokenization_kwargs=options or None,
            )
            duration_s = time.perf_counter() - began
        if len(outputs) != len(requests):
            message = f"{len(requests)} requests were submitted and {len(outputs)} returned"
            raise EngineError(message, outcome="invalid")
        return PassResult(
            duration_s=duration_s,
            requests=self._results(outputs),
            before_engine_s=_before_engine(began, duration_s, outputs),
        )

    def tokenize(self, texts: Sequence[str]) -> float:
        """Tokenize with the engine's tokenizer: one text at a time as vLLM does, or all at once."""
        tokenizer = self._llm.get_tokenizer()
        began = time.perf_counter()
        if self._as_tokens:
            self._token_prompts(texts, {})
        else:
            for text in texts:
                tokenizer.encode(text)
        return time.perf_counter() - began

    def reset_prefix_cache(self) -> None:
        """Empty the prefix cache; vLLM refuses while a block is in use."""
        if not self._llm.reset_prefix_cache():
            message = "vLLM refused to empty its prefix cache: a block is still in use"
            raise EngineError(message, outcome="invalid")

    def close(self) -> None:
        """Stop the engine core and wait for its process.

        ``LLM`` has no public way to stop, and its core takes 5 s to end by itself, after which it
        is killed. Nothing of it is wanted any more: it is killed after a tenth of a second.
        Source: vLLM 0.26 to 0.33, ``v1/engine/core_client.py`` (``shutdown``).
        """
        impatience = threading.Timer(_STOP_GRACE_S, _kill_children)
        impatience.start()
        with _without_collecting():
            self._llm.llm_engine.engine_core.shutdown()
        impatience.cancel()

    def _token_prompts(
        self, texts: Sequence[str], options: Mapping[str, Any]
    ) -> list[dict[str, list[int]]]:
        """Tokenize all texts in one call; return vLLM's ``TokensPrompt`` of each."""
        found = self._llm.get_tokenizer()(list(texts), **options)
        return [{"prompt_token_ids": ids} for ids in found["input_ids"]]

    def _sampling_params(self, request: Request) -> Any:  # noqa: ANN401  (vLLM is untyped here)
        return self._vllm.SamplingParams(
            temperature=0.0,
            max_tokens=request.max_tokens,
            ignore_eos=request.ignore_eos,
            structured_outputs=_grammar(request),
            allowed_token_ids=list(request.allowed_token_ids) or None,
            logprob_token_ids=list(request.score_token_ids) or None,
        )

    def _results(self, outputs: Sequence[Any]) -> tuple[RequestResult, ...]:
        scheduled = [out.metrics.scheduled_ts for out in outputs if out.metrics]
        first = min(scheduled, default=0.0)
        return tuple(self._result(output, first) for output in outputs)

    def _result(self, output: Any, first_scheduled: float) -> RequestResult:  # noqa: ANN401
        answer = output.outputs[0]
        ids = list(answer.token_ids)
        end = next((i for i, token in enumerate(ids) if token in self._end_ids), None)
        return RequestResult(
            prompt_token_ids=output.prompt_token_ids,
            output_tokens=len(ids),
            cached_tokens=output.num_cached_tokens,
            text=answer.text if end is None else self._llm.get_tokenizer().decode(ids[:end]),
            answer_cut=end is None and answer.finish_reason == "length",
            finish_reason=answer.finish_reason if output.finished else None,
            error=_error_text(output),
            token_logprobs=_token_logprobs(answer),
            **_timings(output.metrics, first_scheduled),
        )


@contextlib.contextmanager
def _without_collecting() -> Iterator[None]:
    """Keep vLLM from unfreezing and walking all objects of a process that ends next."""
    collect, unfreeze = gc.collect, gc.unfreeze
    setattr(gc, "collect", lambda *_: 0)  # noqa: B010  (a type checker knows it as a function)
    setattr(gc, "unfreeze", lambda: None)  # noqa: B010
    try:
        yield
    finally:
        setattr(gc, "collect", collect)  # noqa: B010
        setattr(gc, "unfreeze", unfreeze)  # noqa: B010


def _kill_children() -> None:
    """Kill the engine core and its ranks."""
    process.kill_all(process.below(os.getpid()))


def arguments(cell: Cell, model: Model) -> dict[str, Any]:
    """Return the arguments of ``vllm.LLM``: the cell's settings, and what isolation needs."""
    settings: dict[str, Any] = cell.passed_settings
    if "compilation_config" in settings:
        settings["compilation_config"] = json.loads(settings["compilation_config"])
    return {
        **settings,
        "model": model.path,
        "tokenizer": model.tokenizer_path,
        "revision": None if Path(model.path).is_dir() else model.revision,
        "load_format": cell.load_format,
        "distributed_executor_backend": executor(cell),
        "disable_log_stats": False,  # else outputs carry no timestamps
        "use_tqdm_on_load": False,
    }


def executor(cell: Cell) -> str:
    """Return vLLM's own executor: where none is named, it looks for Ray."""
    return "uni" if cell.num_gpus == 1 else "mp"


def _grammar(request: Request) -> Any:  # noqa: ANN401
    """Return vLLM's form of ``request.choice``; the engine compiles it at its first use."""
    if not request.choice or request.allowed_token_ids:
        return None
    from vllm.sampling_params import StructuredOutputsParams

    if request.num_texts == 1 and request.format == "lines":
        return StructuredOutputsParams(choice=list(request.choice))
    regex = answers.pattern(request.choice, request.num_texts, request.format)
    return StructuredOutputsParams(regex=regex)


def _token_logprobs(answer: Any) -> dict[int, float] | None:  # noqa: ANN401
    """Return the log-probabilities at the first output token; None where none were asked for."""
    if not answer.logprobs:
        return None
    return {token: entry.logprob for token, entry in answer.logprobs[0].items()}


def _timings(metrics: Any, first_scheduled: float) -> dict[str, Any]:  # noqa: ANN401
    """Return differences of the engine core's clock; nothing where vLLM reported none."""
    if metrics is None or not metrics.last_token_ts:
        return {}
    return {
        "queue_s": metrics.scheduled_ts - metrics.queued_ts,
        "prefill_s": metrics.first_token_ts - metrics.scheduled_ts,
        "decode_s": metrics.last_token_ts - metrics.first_token_ts,
        "scheduled_s": metrics.scheduled_ts - first_scheduled,
        "last_token_s": metrics.last_token_ts - first_scheduled,
        "num_preemptions": getattr(metrics, "num_preemptions", None),  # from vLLM 0.30 on
    }


def _before_engine(began: float, duration_s: float, outputs: Sequence[Any]) -> float | None:
    """Return the seconds from the first submission to the first scheduling, or None.

    The engine core stamps its events with ``time.monotonic()`` in its own process. On Linux that
    and this process's ``time.perf_counter()`` read one clock of the host, CLOCK_MONOTONIC; where
    they do not, or where an event would fall outside the window, the two cannot be compared.
    Source: vLLM 0.26 to 0.32, ``v1/core/sched/scheduler.py``, ``v1/engine/__init__.py``.
    """
    stamps = [output.metrics for output in outputs if output.metrics]
    if not _one_clock() or not stamps or not all(stamp.last_token_ts for stamp in stamps):
        return None
    before = min(stamp.scheduled_ts for stamp in stamps) - began
    last = max(stamp.last_token_ts for stamp in stamps) - began
    return float(before) if 0 <= before <= last <= duration_s else None


def _one_clock() -> bool:
    """Return whether monotonic() of any process and perf_counter() of this one are one clock."""
    clocks = {time.get_clock_info(name).implementation for name in ("monotonic", "perf_counter")}
    return clocks == {"clock_gettime(CLOCK_MONOTONIC)"}


def _error_text(output: Any) -> str | None:  # noqa: ANN401
    error = getattr(output, "error", None)  # from vLLM 0.33 on
    return None if error is None else str(error)


def _end_token_ids(llm: Any) -> set[int]:  # noqa: ANN401
    """Return every token id that ends an answer, from tokenizer and generation config."""
    ids = {llm.get_tokenizer().eos_token_id}
    more = llm.llm_engine.model_config.try_get_generation_config().get("eos_token_id")
    ids.update(more if isinstance(more, list) else [more])
    return {token for token in ids if token is not None}


def _resolved(config: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return the settings in force as plain values; a field a version lacks is left out."""
    found: dict[str, Any] = {}
    for section, names in _RESOLVED.items():
        part = getattr(config, section, None)
        for name in names:
            value = getattr(part, name, None)
            if value is not None:
                plain = isinstance(value, str | int | float | bool)
                found[name] = value if plain else str(value).removeprefix("torch.")
    return found


def _layout(platform: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return how an engine on the CPU is laid out, which decides its speed."""
    from vllm import envs

    if not platform.is_cpu():
        return {}
    if envs.VLLM_ENABLE_V1_MULTIPROCESSING:
        return {"in_process": False, "omp_threads_bind": envs.VLLM_CPU_OMP_THREADS_BIND}
    return {"in_process": True, "num_threads": platform.num_compute_units()}


def links(cell: Cell) -> dict[str, str]:
    """Return the variables of this host that decide how several GPUs talk to one another."""
    return environment.between_gpus() if cell.num_gpus > 1 else {}


def _versions(vllm_version: str) -> dict[str, str]:
    others = ("torch", "transformers", "tokenizers", "triton", "flashinfer-python")
    return {"vllm": vllm_version, **environment.versions(*others)}


def _device_name(platform: Any) -> str:  # noqa: ANN401
    return processor.name() if platform.is_cpu() else str(platform.get_device_name())


@contextlib.contextmanager
def _as_engine_error() -> Iterator[None]:
    """Turn whatever vLLM raises into an ``EngineError`` with its own words."""
    try:
        yield
    except EngineError:
        raise
    except Exception as error:
        first = causes.innermost(error)
        raise EngineError(f"{type(first).__name__}: {first}".strip()) from error

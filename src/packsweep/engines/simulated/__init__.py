"""An engine that computes what a pass would take instead of running it.

Durations are those of ``plan.pass_time`` for the model's shape and a named device, with a seeded
spread; labels from a coin seeded by the prompt, since temperature 0 answers alike; cached tokens
from the model of the prefix cache. Several GPUs compute as many times faster and send each other
nothing. Every row says ``engine = simulated``, and such rows are never
merged with real ones. It exists so that planning, driving, storing and reporting can be exercised
in seconds, and to plant faults.
"""

from __future__ import annotations

import math
import os
import random
import signal
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packsweep.engines import (
    UNWATCHED,
    EngineInfo,
    PassResult,
    Request,
    RequestResult,
    Watcher,
)
from packsweep.engines.simulated.core import Core
from packsweep.errors import EngineError
from packsweep.machine import devices
from packsweep.models.architecture.shape import ModelShape
from packsweep.models.architecture.split import Split
from packsweep.models.tokenizer import load as load_tokenizer
from packsweep.plan import pass_time, roofline
from packsweep.plan.formats import Formats
from packsweep.plan.prefix_cache import PrefixCache
from packsweep.sweep import answers

if TYPE_CHECKING:
    from packsweep.models.resolve import Model
    from packsweep.sweep.cells import Cell

_BLOCK_SIZE = 16
# What it computes with, whatever the cell asks for.
_FORMATS = {"dtype": "bfloat16", "quantization": None, "cache_dtype": "auto"}
_SIZE = Formats(peak_dtype="bf16", layer_bytes=2.0, head_bytes=2.0, kv_bytes=2.0)


class SimulatedEngine:
    """The protocol of ``packsweep.engines.Engine`` without an engine.

    Attributes:
        salt: requests of one salt find nothing of another's in the prefix cache.
    """

    def __init__(self, cell: Cell, model: Model) -> None:
        """Take the ``[simulated]`` values of the cell.

        Raises:
            EngineError: the cell plants a fault at start.
        """
        self._values: dict[str, Any] = dict(cell.simulated_settings)
        self._tokenizer = load_tokenizer(model)
        self._words = cell.words
        self._caching = cell.cache_state != "off"
        self._caches: dict[str | None, PrefixCache] = {}
        self.salt: str | None = None
        self._ids: dict[str, list[int]] = {}
        # Seeded by the cell and the process: replicates differ, as real processes do.
        self._random = random.Random(f"{self._values['seed']} {cell.cell_id} {os.getpid()}")
        self._fault: str = self._values["fault"]
        _plant_start_fault(self._fault)
        locks = self._values["gpu_locks"]
        self._core = Core(Path(locks), cell.cell_id, cell.num_gpus) if locks else None
        device = devices.DEVICES[self._values["device"]]
        assert model.shape is not None, "plan refuses to simulate what is not described"
        split = Split.of(cell.settings)
        self._engine = pass_time.Engine(
            shape=ModelShape.from_config(model.config.shard(split.tensor_parallel_size)),
            num_stages=split.pipeline_parallel_size,
            device=device,
            size=_SIZE,
            peak_flops_per_s=device.bf16_flops_per_s,
            mfu=self._values["mfu"],
            mbu=self._values["mbu"],
            max_num_batched_tokens=int(cell.settings["max_num_batched_tokens"] or 0),
            max_num_seqs=int(cell.settings["max_num_seqs"] or 0),
            tokenized_before=cell.prompt_type == "tokens",
        )
        self.info = info_of(cell)

    def run(self, requests: Sequence[Request], watch: Watcher = UNWATCHED) -> PassResult:
        """Compute the pass; sleep ``real_seconds`` so that a kill can hit it."""
        with watch:
            self._pass_time(self._values["real_seconds"])
            self._plant_run_fault()
        ids = self._encode(requests)
        answers = [self._answer(request) for request in requests]
        lengths = [self._length(*pair) for pair in zip(requests, answers, strict=True)]
        work = [self._work(*pair) for pair in zip(ids, lengths, strict=True)]
        spread = self._random.gauss(1.0, self._values["spread"])
        took = pass_time.pass_time(self._engine, pass_time.Pass(requests=tuple(work)))
        duration_s = self._values["slowdown"] * max(spread, 0.1) * took.duration_s
        prefill_share = took.prefill_s / (took.prefill_s + took.decode_s)
        results = [
            replace(
                self._result(
                    prompt,
                    done,
                    (duration_s, prefill_share),
                    text=text,
                    natural_end=_ends_by_itself(asked),
                ),
                token_logprobs=self._token_logprobs(asked),
            )
            for prompt, asked, done, text in zip(ids, requests, work, answers, strict=True)
        ]
        return PassResult(duration_s=duration_s, requests=tuple(results), before_engine_s=0.0)

    def text_of(self, prompt: str | Sequence[int]) -> str:
        """Return a prompt as text; one of token ids has a name that stands for them."""
        if isinstance(prompt, str):
            return prompt
        named = f"tokens {prompt}"
        self._ids[named] = list(prompt)
        return named

    def tokenize(self, texts: Sequence[str]) -> float:
        """Really tokenize."""
        began = time.perf_counter()
        self._tokenizer.encode(texts)
        return time.perf_counter() - began

    def reset_prefix_cache(self) -> None:
        """Forget every block."""
        self._caches = {}

    def close(self) -> None:
        """End the core, if there is one."""
        if self._core is not None:
            self._core.close()

    def _pass_time(self, seconds: float) -> None:
        if self._core is None:
            time.sleep(seconds)
        else:
            self._core.work(seconds)

    def _encode(self, requests: Sequence[Request]) -> list[list[int]]:
        """Tokenize each text once, however often it is submitted."""
        texts = [request.text for request in requests]
        add = all(request.add_special_tokens for request in requests)
        new = [text for text in dict.fromkeys(texts) if text not in self._ids]
        self._ids.update(zip(new, self._tokenizer.encode(new, add_special_tokens=add), strict=True))
        return [self._ids[text] for text in texts]

    def _length(self, request: Request, answer: str) -> int:
        """Return the output tokens: the limit, or of a constrained answer those it takes."""
        if not _ends_by_itself(request):
            return request.max_tokens
        return self._tokenizer.count([answer], add_special_tokens=False)[0] + 1  # and the end

    def _work(self, prompt: list[int], output_tokens: int) -> roofline.Work:
        cache = self._caches.setdefault(self.salt, PrefixCache(_BLOCK_SIZE))
        cached = cache.submit(prompt) if self._caching else 0
        return roofline.Work(
            prompt_tokens=len(prompt), cached_tokens=cached, output_tokens=output_tokens
        )

    def _result(
        self,
        prompt: list[int],
        work: roofline.Work,
        timing: tuple[float, float],
        *,
        text: str,
        natural_end: bool,
    ) -> RequestResult:
        duration_s, prefill_share = timing
        return RequestResult(
            prompt_token_ids=prompt,
            output_tokens=work.output_tokens,
            cached_tokens=work.cached_tokens + self._miscounted_tokens(),
            text=text,
            answer_cut=not natural_end,
            finish_reason=self._finish_reason(natural_end=natural_end),
            queue_s=0.0,
            prefill_s=duration_s * prefill_share,
            decode_s=duration_s * (1 - prefill_share),
            scheduled_s=0.0,
            last_token_s=duration_s,
        )

    def _miscounted_tokens(self) -> int:
        """Return how many more cached tokens are reported than were served of a prompt."""
        return _BLOCK_SIZE if self._fault == "wrong_cache" else 0

    def _finish_reason(self, *, natural_end: bool) -> str | None:
        if self._fault == "unfinished":
            return None
        return "stop" if natural_end else "length"

    def _answer(self, request: Request) -> str:
        """Toss a coin for every text; the engine does not know the correct label."""
        coin = self._coin(request)
        coverage = 1.0 if request.choice else self._values["coverage"]
        words = [
            coin.choice(self._words) if coin.random() < coverage else "?"
            for _ in range(request.num_texts)
        ]
        return answers.written(words, request.format)

    def _coin(self, request: Request) -> random.Random:
        return random.Random(f"{self._values['seed']} {request.text}")

    def _token_logprobs(self, request: Request) -> dict[int, float] | None:
        coin = self._coin(request)
        found = {token: math.log(coin.uniform(0.01, 0.1)) for token in request.score_token_ids}
        return found or None

    def _plant_run_fault(self) -> None:
        if self._fault == "crash":
            os.kill(os.getpid(), signal.SIGKILL)
        if self._fault == "hang":
            time.sleep(3600)


def info_of(cell: Cell) -> EngineInfo:
    """Return what the engine of ``cell`` says of itself."""
    values = dict(cell.simulated_settings)
    refused = {"enable_prefix_caching": False} if values["fault"] == "caching_off" else {}
    return EngineInfo(
        resolved={**cell.settings, "block_size": _BLOCK_SIZE, **_FORMATS, **refused},
        block_size=_BLOCK_SIZE,
        num_blocks=None,
        import_s=0.0,
        device=f"simulated {values['device']}",
        num_gpus=cell.num_gpus,
    )


def _ends_by_itself(request: Request) -> bool:
    return bool(request.choice) and not request.allowed_token_ids


def _plant_start_fault(fault: str) -> None:
    if fault == "oom":
        message = "OutOfMemoryError: the simulated device is out of memory"
        raise EngineError(message, outcome="oom")
    if fault == "start":
        message = "the simulated engine was told not to start"
        raise EngineError(message)

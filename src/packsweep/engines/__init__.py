"""The engines behind one small protocol.

An engine is started, given passes, and closed. It measures its own passes: for a real engine
``duration_s`` is the wall clock of the pass, for the simulated one it is computed. A new engine is
a module here, a word in ``spec.EngineKind``, and a branch of ``start``, which mypy asks for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, assert_never

from packsweep.sweep.spec import Format

if TYPE_CHECKING:
    from packsweep.engines.server import Server
    from packsweep.models.resolve import Model
    from packsweep.sweep.cells import Cell


# What may observe a timed pass: entered just before the timed window opens and left just
# after it closes.
Watcher = AbstractContextManager[object]
UNWATCHED: Watcher = nullcontext()


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request of a pass: text in, at most ``max_tokens`` tokens out, at temperature 0.

    Attributes:
        add_special_tokens: False where they stand in the text; the same in all requests of a pass.
        choice: what each label of the answer must be one of, ``num_texts`` in all; empty where
            the answer is free.
        format: how several labels are written.
        allowed_token_ids: the tokens that ``choice`` consists of, where each label is one; then
            they are the constraint, and no grammar is.
        score_token_ids: tokens whose log-probabilities are wanted in place of an answer.
    """

    text: str
    max_tokens: int
    ignore_eos: bool
    num_texts: int = 1
    add_special_tokens: bool = True
    choice: tuple[str, ...] = ()
    format: Format = "lines"
    allowed_token_ids: tuple[int, ...] = ()
    score_token_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestResult:
    """What came back for one request.

    Attributes:
        prompt_token_ids: as the engine tokenized the text.
        output_tokens: tokens generated, end-of-sequence tokens included.
        cached_tokens: prompt tokens served by the prefix cache; None if not reported.
        text: generated text up to the first end-of-sequence token.
        answer_cut: the token limit ended the answer, not an end-of-sequence token.
        finish_reason: vLLM's word, or None if the request did not finish.
        error: what went wrong with this request, else None.
        queue_s: engine clock, queued to scheduled.
        prefill_s: engine clock, scheduled to first token.
        decode_s: engine clock, first to last token.
        scheduled_s: engine clock, from the pass's first scheduling to this request's.
        last_token_s: engine clock, from the pass's first scheduling to this request's last token.
        num_preemptions: times it was preempted; None where the version does not tell.
        token_logprobs: of ``score_token_ids``, as the first output token.
    """

    prompt_token_ids: Sequence[int]
    output_tokens: int
    cached_tokens: int | None
    text: str
    answer_cut: bool
    finish_reason: str | None
    error: str | None = None
    queue_s: float | None = None
    prefill_s: float | None = None
    decode_s: float | None = None
    scheduled_s: float | None = None
    last_token_s: float | None = None
    num_preemptions: int | None = None
    token_logprobs: Mapping[int, float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PassResult:
    """All requests of a pass, in order of submission, and the wall clock around them.

    Attributes:
        before_engine_s: from the first submission to the first scheduling, the one interval
            between two processes; None where they do not read one clock.
    """

    duration_s: float
    requests: tuple[RequestResult, ...]
    before_engine_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineInfo:
    """What the engine resolved its settings to.

    Attributes:
        resolved: vLLM's names and the values in force, defaults included.
        block_size: tokens in a block of the KV cache; None where prefix caching does not apply.
        num_blocks: blocks in the KV cache.
        import_s: importing the engine's packages.
        versions: package name -> version.
        device: name of the device the engine ran on, as the engine's platform gives it.
        num_gpus: that it stands for, where there are none.
    """

    resolved: dict[str, Any]
    block_size: int | None
    num_blocks: int | None
    import_s: float
    versions: dict[str, str] = field(default_factory=dict)
    device: str | None = None
    num_gpus: int | None = None


class Engine(Protocol):
    @property
    def info(self) -> EngineInfo:
        """What the engine resolved its settings to."""

    def run(self, requests: Sequence[Request], watch: Watcher = UNWATCHED) -> PassResult:
        """Submit all requests, wait for all, and return them in order of submission."""

    def tokenize(self, texts: Sequence[str]) -> float:
        """Tokenize ``texts`` as ``run`` does and return the seconds it took."""

    def reset_prefix_cache(self) -> None:
        """Empty the prefix cache.

        Raises:
            EngineError: the engine refused.
        """

    def close(self) -> None:
        """Stop the engine and wait until its processes are gone."""


def start(cell: Cell, model: Model) -> Engine:
    """Start the engine that ``cell`` asks for; vLLM is imported here and nowhere else.

    Raises:
        EngineError: it did not start; ``outcome`` tells oom from other reasons.
    """
    match cell.engine:
        case "simulated":
            from packsweep.engines.simulated import SimulatedEngine

            return SimulatedEngine(cell, model)
        case "vllm":
            from packsweep.engines.vllm import VllmEngine

            return VllmEngine(cell, model)
        case "external":
            raise AssertionError("a server that is there is for the online mode (spec.MODES)")
        case _:
            assert_never(cell.engine)


def start_server(cell: Cell, model: Model, api_key: str | None = None) -> Server:
    """Start the server that ``cell`` asks for, or look for the one that is there.

    Raises:
        EngineError: it did not start; ``outcome`` tells oom from other reasons.
        UserError: the one at the cell's address is not there, or refuses ``api_key``.
    """
    match cell.engine:
        case "external":
            from packsweep.engines.external import ExternalServer

            return ExternalServer(cell, api_key)
        case "simulated":
            from packsweep.engines.simulated.server import SimulatedServer

            return SimulatedServer(cell, model)
        case "vllm":
            from packsweep.engines.vllm_server import VllmServer

            return VllmServer(cell, model)
        case _:
            assert_never(cell.engine)

"""Windows of load on a server: what is sent, and what came back as a pass.

A window is driven by ``packsweep.load`` in a process of its own. Its requests are the cell's own,
in an order that its seed decides, from the first again where the window is longer. Then it is a
pass like any other, of as many requests as arrived.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from packsweep.engines import PassResult, Request, RequestResult
from packsweep.engines.server import COMPLETIONS, Figures, Server, body
from packsweep.errors import EngineError
from packsweep.load import schedule
from packsweep.load.process import drive_in_process
from packsweep.load.window import LoadRequest, Response, Target, Window
from packsweep.models.tokenizer import Tokenizer
from packsweep.run import lifeline
from packsweep.run.workload import Workload
from packsweep.sweep.cells import Cell

# Of a warm-up: as many as an engine would take at once, and no more than a client needs to.
_WARMUP_CONCURRENCY = 32
# Draws of windows that a replicate has for itself.
_DRAWS = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Driven:
    """One window, from both ends.

    Attributes:
        step: what was due.
        workload: the requests of the window, in the order in which they arrived.
        result: the same as a pass.
        before: what the server said of itself when the window began.
        after: the same when its last request had ended.
    """

    step: Step
    window: Window
    workload: Workload
    result: PassResult
    before: Figures
    after: Figures


class Windows:
    """Drives one server with the requests of one cell."""

    def __init__(
        self,
        server: Server,
        workload: Workload,
        tokenizer: Tokenizer,
        folder: Path,
        target: Target,
    ) -> None:
        """Take what is driven with what; ``folder`` holds a window while it is driven."""
        self._server = server
        self._workload = workload
        self._folder = folder
        self._target = target
        self._ids = _token_ids(workload, tokenizer)
        self._ends = tuple(filter(None, map(tokenizer.backend.id_to_token, tokenizer.eos_token_ids)))

    def warm_up(self) -> None:
        """Send each distinct prompt once, as another text of the same shape."""
        self._all_once(self._workload.warmup)

    def prime(self) -> PassResult:
        """Send each distinct prompt once, so that the prefix cache holds it."""
        once = replace(self._workload, order=tuple(range(len(self._workload.prompts))))
        window = self._all_once(once.requests)
        return self._as_pass(once, window)

    def drive(self, repeat: int, step: Step) -> Driven:
        """Drive one window, open at a rate or in the closed loop of the cell.

        A repeat has its own draws, the same in all cells.
        """
        cell = self._workload.cell
        draw = _DRAWS * cell.replicate + repeat
        order = list(self._workload.order)
        random.Random(f"{cell.load.window_seed} {draw}").shuffle(order)
        requests = self._load_requests(replace(self._workload, order=tuple(order)).requests)
        before = self._server.figures()
        window = self._send(requests, **self._loop(requests, draw, step))
        arrived = [order[response.index % len(order)] for response in window.responses]
        drawn = replace(self._workload, order=tuple(arrived))
        return Driven(
            step=step,
            window=window,
            workload=drawn,
            result=self._as_pass(drawn, window),
            before=before,
            after=self._server.figures(),
        )

    def _loop(self, requests: Sequence[LoadRequest], draw: int, step: Step) -> dict[str, Any]:
        """Return how the requests of a window arrive."""
        load = self._workload.cell.load
        if step.rate_texts_per_s is None:
            return {"concurrency": load.concurrency, "duration_s": load.window_s}
        texts_per_request = sum(each.num_texts for each in requests) / len(requests)
        assert load.arrivals is not None
        times = schedule.arrivals(
            load.arrivals,
            schedule.requests_per_s(step.rate_texts_per_s, texts_per_request),
            duration_s=load.window_s,
            seed=load.window_seed,
            repeat=draw,
        )
        if not times:
            raise EngineError(
                f"no request arrives in {load.window_s:g} s at {step.rate_texts_per_s:g} texts/s: "
                "set online.window_s higher",
                outcome="invalid",
            )
        return {"arrivals": times, "duration_s": load.window_s}

    def _send(self, requests: Sequence[LoadRequest], **loop: Any) -> Window:  # noqa: ANN401
        return drive_in_process(
            self._folder, self._target, requests, prefix=lifeline.command(), **loop
        )

    def _all_once(self, requests: Sequence[Request]) -> Window:
        concurrency = min(_WARMUP_CONCURRENCY, len(requests))
        return self._send(self._load_requests(requests), concurrency=concurrency)

    def _load_requests(self, requests: Sequence[Request]) -> list[LoadRequest]:
        """Return requests as they are sent; those of one prompt share a body."""
        bodies: dict[str, bytes] = {}
        for request in requests:
            if request.text not in bodies:
                bodies[request.text] = body(request, self._server.model, self._prompt(request))
        return [LoadRequest(bodies[each.text], each.num_texts) for each in requests]

    def _prompt(self, request: Request) -> str | list[int]:
        as_tokens = self._workload.cell.prompt_type == "tokens"
        return self._ids.get(request.text, request.text) if as_tokens else request.text

    def _as_pass(self, workload: Workload, window: Window) -> PassResult:
        return PassResult(
            duration_s=window.ended_s,
            requests=tuple(
                self._result(workload.prompts[index].text, response)
                for index, response in zip(workload.order, window.responses, strict=True)
            ),
        )

    def _result(self, prompt: str, response: Response) -> RequestResult:
        text, cut = self._answer(response)
        return RequestResult(
            prompt_token_ids=self._ids[prompt],
            output_tokens=response.output_tokens,
            cached_tokens=response.cached_tokens,
            text=text,
            answer_cut=cut,
            finish_reason=response.finish_reason,
            error=response.error,
        )

    def _answer(self, response: Response) -> tuple[str, bool]:
        """Return an answer up to its first end token, and whether a limit ended it instead."""
        places = [at for end in self._ends if (at := response.text.find(end)) >= 0]
        if places:
            return response.text[: min(places)], False
        return response.text, response.finish_reason == "length"


@dataclass(frozen=True, slots=True)
class Step:
    """A window that is due; in a closed loop it has no rate."""

    rate_texts_per_s: float | None


class Course(Protocol):
    """Which windows an attempt drives, one after the other."""

    def next(self) -> Step | None:
        """What is due, or None when all is done."""

    def tell(self, driven: Driven) -> None:
        """What became of it."""

    def result(self) -> dict[str, Any]:
        """The columns of ``schema.MAX_RATE``."""


class Repeats:
    """The same window for every repeat."""

    def __init__(self, step: Step, num: int) -> None:
        self._left = [step] * num

    def next(self) -> Step | None:
        return self._left.pop() if self._left else None

    def tell(self, driven: Driven) -> None:
        """Windows of one rate do not depend on each other."""

    def result(self) -> dict[str, Any]:
        return {}


def course(cell: Cell) -> Course:
    """Return the windows of ``cell``: its repeats, or a search for the highest rate."""
    load = cell.load
    if load.max_rate is None:
        return Repeats(Step(load.rate), cell.repeats)
    return Search(load)


def target_of(server: Server, api_key: str | None, timeout_s: float) -> Target:
    """Return where the requests of a window go."""
    return Target(server.base_url, COMPLETIONS, api_key, timeout_s)


def _token_ids(workload: Workload, tokenizer: Tokenizer) -> dict[str, list[int]]:
    """Return the token ids of each prompt, by its text."""
    add = all(prompt.add_special_tokens for prompt in workload.prompts)
    texts = [prompt.text for prompt in workload.prompts]
    return dict(zip(texts, tokenizer.encode(texts, add_special_tokens=add), strict=True))

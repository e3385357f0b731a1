"""Windows of load on a server: what is sent, and what came back as a pass.

A window is driven by ``packsweep.traffic`` in a process of its own. Its requests are those of the
cell, in an order that its seed decides, from the first again where the window is longer. Then it
is a pass like any other, of as many requests as arrived.
"""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, Self

from packsweep.engines import PassResult, Request, RequestResult
from packsweep.engines.server import COMPLETIONS, Figures, Server, body
from packsweep.errors import EngineError
from packsweep.models.tokenizer import Tokenizer
from packsweep.run import lifeline
from packsweep.run.measure.workload import Workload
from packsweep.sweep.cells import WARMUP_TEXTS, Cell, LoadSettings
from packsweep.traffic import schedule, slo
from packsweep.traffic.process import drive_in_process
from packsweep.traffic.search import attainment
from packsweep.traffic.search.max_rate import Search
from packsweep.traffic.slo import Slo
from packsweep.traffic.window import Load, LoadRequest, Response, Target, Window

# Of a warm-up: as many as an engine would take at once, and no more than a client needs to.
_WARMUP_CONCURRENCY = 32
# Draws of windows that a replicate has for itself.
_DRAWS = 1_000
# When a search gives up a request, which broke the SLO long before: a rate far above what a server
# bears would otherwise keep it busy for many times the window.
_SEARCH_TIMEOUT_S = 30.0
_SEARCH_TIMEOUT_LIMITS = 20.0
# Looks at a server's own figures in a window.
_NUM_LOOKS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A window that is due.

    Attributes:
        rate_texts_per_s: of the open loop; None in a closed one.
        duration_s: how long requests arrive.
        draw: of the seed; None: that of the repeat.
    """

    rate_texts_per_s: float | None
    duration_s: float
    draw: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Driven:
    """One window, from both ends.

    Attributes:
        step: what was due.
        workload: the requests of the window, in the order in which they arrived.
        result: the same as a pass.
        before: what the server said of itself when the window began.
        after: the same when its last request had ended.
        looks: the same at times while requests arrived.
    """

    step: Step
    window: Window
    workload: Workload
    result: PassResult
    before: Figures
    after: Figures
    looks: Sequence[Figures] = ()


class NothingArrivesError(EngineError):
    """A window so short that no request arrives in it."""


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
        self._ends = _end_tokens(tokenizer)

    def warm_up(self) -> None:
        """Send distinct prompts once, each as another text of the same shape."""
        before = itertools.accumulate((p.num_texts for p in self._workload.prompts), initial=0)
        num = sum(texts < WARMUP_TEXTS for texts in before)
        self._all_once(self._workload.warmup[:num])

    def prime(self) -> PassResult:
        """Send each distinct prompt once, so that the prefix cache holds it."""
        once = replace(self._workload, order=tuple(range(len(self._workload.prompts))))
        window = self._all_once(once.requests)
        return self._as_pass(once, window)

    def drive(self, repeat: int, step: Step) -> Driven:
        """Drive one window, open at a rate or in the closed loop of the cell.

        A repeat has its own draws, the same in all cells.

        Raises:
            NothingArrivesError: of that rate, these draws and this length.
        """
        cell = self._workload.cell
        draw = _DRAWS * cell.replicate + (repeat if step.draw is None else step.draw)
        order = list(self._workload.order)
        random.Random(f"{cell.load.window_seed} {draw}").shuffle(order)
        requests = self._load_requests(replace(self._workload, order=tuple(order)).requests)
        load = self._load(requests, draw, step)
        if cell.cache_state == "cold":
            requests = _salted(requests, len(load.arrivals or ()))
        before = self._server.figures()
        with _Onlooker(self._server, step.duration_s / _NUM_LOOKS) as onlooker:
            window = self._send(requests, load)
        arrived = [order[response.index % len(order)] for response in window.responses]
        drawn = replace(self._workload, order=tuple(arrived))
        return Driven(
            step=step,
            window=window,
            workload=drawn,
            result=self._as_pass(drawn, window),
            before=before,
            after=self._server.figures(),
            looks=onlooker.within(window),
        )

    def _load(self, requests: Sequence[LoadRequest], draw: int, step: Step) -> Load:
        """Return when the requests of a window are sent."""
        asked = self._workload.cell.load
        if step.rate_texts_per_s is None:
            return Load(concurrency=asked.concurrency, duration_s=step.duration_s)
        texts_per_request = sum(each.num_texts for each in requests) / len(requests)
        assert asked.arrivals is not None
        times = schedule.arrivals(
            asked.arrivals,
            schedule.requests_per_s(step.rate_texts_per_s, texts_per_request),
            duration_s=step.duration_s,
            seed=asked.window_seed,
            repeat=draw,
        )
        if not times:
            raise NothingArrivesError(
                f"no request arrives in {step.duration_s:g} s at {step.rate_texts_per_s:g} texts/s "
                f"and {texts_per_request:g} texts a request: set online.window_s higher",
                outcome="invalid",
            )
        return Load(arrivals=times, duration_s=step.duration_s)

    def _all_once(self, requests: Sequence[Request]) -> Window:
        load = Load(concurrency=min(_WARMUP_CONCURRENCY, len(requests)))
        return self._send(self._load_requests(requests), load)

    def _send(self, requests: Sequence[LoadRequest], load: Load) -> Window:
        return drive_in_process(
            self._folder, self._target, requests, load, prefix=lifeline.command()
        )

    def _load_requests(self, requests: Sequence[Request]) -> list[LoadRequest]:
        """Return requests as they are sent; those of one prompt share a body."""
        bodies: dict[str, bytes] = {}
        for request in requests:
            if request.text not in bodies:
                bodies[request.text] = body(request, self._server.model, self._prompt(request))
        return [LoadRequest(bodies[each.text], each.num_texts) for each in requests]

    def _prompt(self, request: Request) -> str | list[int]:
        """Return a prompt as it is sent; a warm-up's text is never tokenized here."""
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


class _Onlooker:
    """Asks a server for its figures every ``interval_s`` while a window is driven."""

    def __init__(self, server: Server, interval_s: float) -> None:
        self._server = server
        self._interval_s = interval_s
        self._looks: list[tuple[float, Figures]] = []
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def within(self, window: Window) -> list[Figures]:
        """Return what was seen while requests arrived."""
        ended_unix = window.began_unix + window.duration_s
        return [look for seen, look in self._looks if window.began_unix <= seen <= ended_unix]

    def _look(self) -> None:
        while not self._done.wait(self._interval_s):
            self._looks.append((time.time(), self._server.figures()))


class Course(Protocol):
    """Which windows an attempt drives, one after the other.

    Attributes:
        leaves_out: a window that measured its own client is no figure of the cell.
    """

    leaves_out: bool

    def next(self) -> Step | None:
        """Return what is due, or None when all is done."""

    def tell(self, driven: Driven, doubts: Sequence[str]) -> None:
        """Take what became of it, and why it may not count."""

    def pass_over(self, error: NothingArrivesError) -> None:
        """Go on without the window that is due.

        Raises:
            NothingArrivesError: there is nothing to go on with.
        """

    def result(self) -> dict[str, Any]:
        """Return the columns of ``schema.ATTAINED`` and ``schema.MAX_RATE``."""


class Repeats:
    """The same window for every repeat, with draws of its own."""

    leaves_out = False

    def __init__(self, step: Step, num: int, objective: Slo | None = None) -> None:
        """Take what is repeated, how often, and what is to be kept."""
        self._left = [step] * num
        self._slo = objective
        self._windows: list[Window] = []

    def next(self) -> Step | None:
        return self._left.pop() if self._left else None

    def tell(self, driven: Driven, doubts: Sequence[str]) -> None:
        """Refuse a window that measured its own client.

        Raises:
            EngineError: it did.
        """
        if doubts:
            raise EngineError("; ".join(doubts), outcome="invalid")
        self._windows.append(driven.window)

    def pass_over(self, error: NothingArrivesError) -> None:
        raise error

    def result(self) -> dict[str, Any]:
        return {} if self._slo is None else _attained(self._windows, self._slo)


class HighestRate:
    """The windows of ``load.max_rate``'s search."""

    leaves_out = True

    def __init__(self, load: LoadSettings) -> None:
        """Begin at the rate that the cell names."""
        assert load.max_rate is not None
        assert load.slo is not None
        self._slo = slo.parse(load.slo)
        self._windows: dict[float, list[Window]] = {}
        self._doubts: list[str] = []
        self._search = Search(
            first_rate=load.max_rate,
            slo=self._slo,
            window_s=load.window_s,
            longest_s=load.longest_search_s,
        )

    def next(self) -> Step | None:
        due = self._search.next()
        if due is None:
            return None
        return Step(rate_texts_per_s=due.rate, duration_s=due.duration_s, draw=due.repeat)

    def tell(self, driven: Driven, doubts: Sequence[str]) -> None:
        """Leave out a window that measured its own client; the rate is looked at again."""
        self._doubts += doubts
        self._search.tell([] if doubts else [driven.window])
        if not doubts and driven.step.rate_texts_per_s is not None:
            self._windows.setdefault(driven.step.rate_texts_per_s, []).append(driven.window)

    def pass_over(self, error: NothingArrivesError) -> None:
        if not self._windows:
            raise error
        self._doubts.append(str(error))
        self._search.tell([])

    def result(self) -> dict[str, Any]:
        """Return what was shown.

        Raises:
            EngineError: no window counted.
        """
        if not self._windows:
            raise EngineError("; ".join(dict.fromkeys(self._doubts)), outcome="invalid")
        found = self._search.result()
        at = found.passes or min(self._windows)
        return {
            **_attained(self._windows[at], self._slo),
            "max_rate_verdict": found.verdict,
            "max_rate_pass_texts_per_s": found.passes,
            "max_rate_fail_texts_per_s": found.fails,
            "max_rate_texts_per_s": found.estimate,
            "max_rate_reason": _with_doubts(found.reason, self._doubts),
        }


def _with_doubts(reason: str | None, doubts: Sequence[str]) -> str | None:
    """Return why no more is shown, with what kept windows from counting."""
    if reason is None or not doubts:
        return reason
    return f"{reason}; invalid windows: {'; '.join(dict.fromkeys(doubts))}"


def _attained(windows: Sequence[Window], objective: Slo) -> dict[str, float | None]:
    """Return the columns of ``schema.ATTAINED``."""
    low, high = attainment.interval(windows, objective) or (None, None)
    return {"attainment_low": low, "attainment_high": high}


def course(cell: Cell) -> Course:
    """Return the windows of ``cell``: its repeats, or a search for the highest rate."""
    load = cell.load
    if load.max_rate is None:
        step = Step(rate_texts_per_s=load.rate, duration_s=load.window_s)
        return Repeats(step, cell.repeats, slo.parse(load.slo) if load.slo else None)
    return HighestRate(load)


def timeout_s(cell: Cell, pass_timeout_s: float) -> float:
    """Return how long a request of a window may take."""
    longest_s = pass_timeout_s / 2
    if cell.load.max_rate is None or cell.load.slo is None:
        return longest_s
    limit_s = slo.parse(cell.load.slo).limit_s
    return min(longest_s, max(_SEARCH_TIMEOUT_S, _SEARCH_TIMEOUT_LIMITS * limit_s))


def target_of(server: Server, api_key: str | None, timeout_s: float) -> Target:
    """Return where the requests of a window go."""
    return Target(server.base_url, COMPLETIONS, api_key, timeout_s)


def _salted(requests: Sequence[LoadRequest], num: int) -> list[LoadRequest]:
    """Return at least ``num`` requests; what comes again finds nothing of before in the cache.

    A prompt that comes twice in the pool itself, by ``duplication``, is meant to.
    """
    found = list(requests)
    for turn in range(1, -(-num // len(requests))):
        salt = f', "cache_salt": "{turn}"}}'.encode()
        found += [LoadRequest(each.body[:-1] + salt, each.num_texts) for each in requests]
    return found


def _end_tokens(tokenizer: Tokenizer) -> tuple[str, ...]:
    """Return the tokens that end an answer, as a server writes them."""
    found = map(tokenizer.backend.id_to_token, tokenizer.eos_token_ids)
    return tuple(token for token in found if token)


def _token_ids(workload: Workload, tokenizer: Tokenizer) -> dict[str, list[int]]:
    """Return the token ids of each prompt, by its text."""
    add = all(prompt.add_special_tokens for prompt in workload.prompts)
    texts = [prompt.text for prompt in workload.prompts]
    return dict(zip(texts, tokenizer.encode(texts, add_special_tokens=add), strict=True))

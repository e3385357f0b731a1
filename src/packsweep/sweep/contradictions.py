"""Which values of a sweep file go together, and how large a sweep may be."""

from __future__ import annotations

import math
from dataclasses import dataclass

from packsweep.machine.devices import DEVICES
from packsweep.sweep.spec import (
    MODES,
    MOST_WINDOWS,
    OF_SEVERAL,
    OnlineTable,
    SimulatedTable,
    Sweep,
)
from packsweep.sweep.strategies import ONE_TEXT, SEVERAL, SIZED
from packsweep.traffic import slo

MOST_CELLS = 100_000
_MOST_TEXTS = 100_000_000
_MOST_TEXTS_IN_WINDOW = 10_000_000


@dataclass(frozen=True, slots=True)
class Contradiction:
    """What two keys of a sweep say against each other.

    Attributes:
        told: in one line, the key first that has no effect beside the other.
        instead: what that key would have to say; None where nothing follows.
    """

    told: str
    instead: tuple[object, ...] | None = None

    @property
    def key(self) -> str:
        """The key that has no effect, such as ``grid.pack_size``."""
        return self.told.partition(":")[0]


def contradiction(sweep: Sweep) -> Contradiction | None:
    """Return the first contradiction of a sweep, or None."""
    checks = (
        _check_pack_size,
        _check_answer,
        _check_of_several,
        _check_cut,
        _check_caching,
        _check_simulated,
        _check_stopping,
        _check_mode,
        _check_size,
    )
    return next(filter(None, (check(sweep) for check in checks)), None)


def _check_pack_size(sweep: Sweep) -> Contradiction | None:
    grid = sweep.grid
    sized = [name for name in SIZED if name in grid.strategy]
    if sized and not grid.pack_size:
        return Contradiction(
            f"grid.pack_size: is missing; strategy {sized[0]} needs it, e.g. pack_size = [4]"
        )
    if grid.pack_size and not sized:
        named = " or ".join(SIZED)
        told = f"grid.pack_size: has no effect without strategy {named}; add that, or use []"
        return Contradiction(told, instead=())
    return None


def _check_answer(sweep: Sweep) -> Contradiction | None:
    grid = sweep.grid
    if grid.output_tokens_per_text != (1,) and "free" not in grid.answer:
        named = " and ".join(grid.answer)
        told = f"grid.output_tokens_per_text: has no effect with answer {named}; remove it"
        return Contradiction(told, instead=(1,))
    if "logprob" in grid.answer and set(grid.strategy).isdisjoint(ONE_TEXT):
        named = " or ".join(ONE_TEXT)
        told = f"grid.answer: logprob labels one text per prompt; it needs strategy {named}"
        others = tuple(answer for answer in grid.answer if answer != "logprob")
        return Contradiction(told, instead=others or None)
    return None


def _check_of_several(sweep: Sweep) -> Contradiction | None:
    grid, strategies = sweep.grid, " and ".join(SEVERAL)
    for name, default in OF_SEVERAL.items():
        if getattr(grid, name) == default:
            continue
        if set(grid.strategy) <= set(ONE_TEXT):
            told = f"grid.{name}: has no effect with one text per prompt; it is for {strategies}"
            return Contradiction(told, instead=default)
        if grid.answer == ("logprob",):
            told = f"grid.{name}: has no effect with answer logprob; remove it"
            return Contradiction(told, instead=default)
    return None


def _check_cut(sweep: Sweep) -> Contradiction | None:
    texts = sweep.texts
    if texts.keep != ("head",) and not any(texts.max_tokens):
        told = "texts.keep: has no effect on whole texts; set texts.max_tokens"
        return Contradiction(told, instead=("head",))
    return None


def _check_caching(sweep: Sweep) -> Contradiction | None:
    cached = {state != "off" for state in sweep.measure.cache_state}
    asked = {asked for asked in sweep.engine.enable_prefix_caching if asked is not None}
    if not asked or asked == cached:
        return None
    states = ", ".join(sweep.measure.cache_state)
    said = ", ".join(str(value).lower() for value in sorted(asked))
    told = (
        f"engine.enable_prefix_caching: {said} contradicts measure.cache_state "
        f"{states}; leave it out: cold and primed switch caching on, off switches it off"
    )
    return Contradiction(told, instead=(None,))


def _check_simulated(sweep: Sweep) -> Contradiction | None:
    if sweep.simulated.device not in DEVICES:
        known = ", ".join(sorted(DEVICES))
        told = f"simulated.device: {sweep.simulated.device!r} is not allowed: known are {known}"
        return Contradiction(told)
    if sweep.engine.kind != "simulated" and sweep.simulated != SimulatedTable():
        return Contradiction('simulated: has no effect without engine.kind = "simulated"')
    return None


def _check_stopping(sweep: Sweep) -> Contradiction | None:
    measure = sweep.measure
    if (measure.stop_at_half_width is None) != (measure.max_repeats is None):
        told = "measure.stop_at_half_width: goes together with measure.max_repeats; set both"
        return Contradiction(told)
    if measure.max_repeats is not None and measure.max_repeats < measure.repeats:
        told = f"measure.max_repeats: {measure.max_repeats} is less than repeats {measure.repeats}"
        return Contradiction(told)
    return None


def _check_mode(sweep: Sweep) -> Contradiction | None:
    kind = sweep.engine.kind
    modes = MODES.get(kind, ("offline",))
    if sweep.mode not in modes:
        return Contradiction(f'engine.kind: {kind} is for mode = "{modes[0]}"')
    told = _online_problem(sweep) if sweep.mode == "online" else _offline_problem(sweep)
    return None if told is None else Contradiction(told)


def _offline_problem(sweep: Sweep) -> str | None:
    if sweep.online != OnlineTable():
        told = 'online: has no effect without mode = "online" at the top of the file'
        return f"{told}, or --set mode=online"
    return None


def _online_problem(sweep: Sweep) -> str | None:
    return _load_problem(sweep.online) or _url_problem(sweep) or _measure_problem(sweep)


def _load_problem(online: OnlineTable) -> str | None:
    """Return why a table is no load, or None."""
    kinds = ("rate", "concurrency", "max_rate")
    loads = [name for name in kinds if getattr(online, name) not in {(), None}]
    if len(loads) != 1:
        found = " and ".join(loads) or "none"
        told = f"online: takes exactly one of rate, concurrency and max_rate; given: {found}"
        if not loads:
            return f"{told}; set one, such as online.rate=50"
        axis = next(name for name in loads if name != "max_rate")
        return f"{told}; online.{axis}=[] leaves one out"
    if online.max_rate is not None and online.slo is None:
        return 'online.slo: is missing; max_rate needs one, e.g. slo = "p99 e2e <= 500 ms"'
    if online.search_s is not None and online.max_rate is None:
        return "online.search_s: has no effect without online.max_rate; remove it"
    if online.concurrency and online.arrivals != ("poisson",):
        return "online.arrivals: has no effect with concurrency; remove it"
    return _window_problem(online) or _search_problem(online)


def _window_problem(online: OnlineTable) -> str | None:
    """Return why a window would hold nothing, or more than any client sends."""
    rates = online.rate or ((online.max_rate,) if online.max_rate else ())
    for rate in rates:
        texts = rate * online.window_s
        what = f"at {rate:g} texts/s a window of {online.window_s:g} s brings"
        if texts < 1:
            return f"online.window_s: {what} less than one text; set it higher"
        if texts > _MOST_TEXTS_IN_WINDOW:
            most = f"{_MOST_TEXTS_IN_WINDOW:,} are the most allowed"
            return f"online.rate: {what} {texts:,.0f} texts, and {most}"
    return None


def _search_problem(online: OnlineTable) -> str | None:
    """Return why a search would end before its first window, or None."""
    if online.max_rate is None or online.slo is None:
        return None
    settle_s = slo.parse(online.slo).settle_s(online.window_s)
    longest_s = online.search_s or MOST_WINDOWS * online.window_s
    if online.window_s + settle_s <= longest_s:
        return None
    return (
        f"online.search_s: {longest_s:g} s hold no window: it takes {online.window_s:g} s, and "
        f"{settle_s:g} s before them until queues have built up"
    )


def _url_problem(sweep: Sweep) -> str | None:
    """Return what does not go together with a server that is there, or None."""
    online, kind = sweep.online, sweep.engine.kind
    if (online.url is not None) != (kind == "external"):
        return 'online.url: goes together with engine.kind = "external"; --url sets both'
    if online.api_key_env is not None and online.url is None:
        return "online.api_key_env: has no effect without online.url"
    return None


def _measure_problem(sweep: Sweep) -> str | None:
    """Return what only a pass of known requests can do, or None."""
    if sweep.measure.stop_at_half_width is not None:
        return "measure.stop_at_half_width: is for offline passes; use measure.repeats online"
    if sweep.measure.isolation != "process" and sweep.online.url is not None:
        return "measure.isolation: has no effect on an existing server; remove it"
    if "logprob" in sweep.grid.answer:
        return "grid.answer: logprob is measured offline; servers answer free or choice"
    return None


def _check_size(sweep: Sweep) -> Contradiction | None:
    """Refuse what a slip of the keyboard asks for, before it is expanded."""
    grid = sweep.grid
    total = num_cells(sweep)
    if total > MOST_CELLS:
        return Contradiction(too_many_cells(total))
    num_requests = max(grid.n) * max(grid.duplication)
    if num_requests > _MOST_TEXTS:
        return Contradiction(
            f"grid.duplication: {num_requests:,} texts in a pass, n times duplication, and "
            f"{_MOST_TEXTS:,} are the most allowed"
        )
    return None


def num_cells(sweep: Sweep) -> int:
    """Return how many cells a sweep has at most, its variants left out."""
    tables = (
        sweep.grid,
        sweep.engine,
        sweep.measure,
        sweep.texts,
        sweep.simulated,
        sweep.online,
    )
    values = (value for table in tables for value in table.__dict__.values())
    sizes = (max(len(value), 1) for value in values if isinstance(value, tuple))
    return math.prod(sizes) * sweep.measure.replicates


def too_many_cells(total: int) -> str:
    """Say that a sweep is larger than any that could be measured."""
    return f"grid: {total:,} cells with all axes, and {MOST_CELLS:,} are the most allowed"

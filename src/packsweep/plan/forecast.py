"""What a sweep will cost on a named GPU: time of each cell, wall clock on G of them, money.

Puts the plan's tokens into ``pass_time``'s formula and the cells into the driver's order. Needs no
GPU; one that is present is the default.
"""

from __future__ import annotations

import heapq
import sys
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from packsweep.errors import SpecError, nearest
from packsweep.machine import calibration, devices, environment, nvml, processor
from packsweep.machine.devices import DEVICES, Device
from packsweep.models.architecture.shape import ModelShape
from packsweep.models.architecture.split import Split
from packsweep.models.resolve import Model
from packsweep.plan import ceilings, fit, pass_time
from packsweep.plan.backlog import Backlog, batches, largest_first
from packsweep.plan.cells import Plan, PlannedCell
from packsweep.plan.formats import Formats, before_start
from packsweep.plan.pass_time import Constants, Pass, PassTime, Starts, StartTime
from packsweep.sweep.cells import WARMUP_TEXTS, Cell


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The GPU that is predicted.

    Attributes:
        name: short, as ``--device`` takes it.
        memory_bytes: of the whole GPU; None where it is not known.
        constants: shares and times of this kind of device.
        is_processor: it is this machine's processor, calibrated.
    """

    name: str
    device: Device
    memory_bytes: int | None
    constants: Constants = field(default_factory=Constants)
    is_processor: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CellForecast:
    """What a cell will take; None where it is not known.

    Attributes:
        time: of one timed pass.
        peak_dtype: bf16, fp8 or int8: the dtype whose MFU constant applies.
        warm_s: from the start of the worker to its end, the compile cache filled.
        start: of the engine; what it takes warm is part of ``warm_s``.
        measured_s: median of the timed passes, where the cell is done.
        too_big: why it does not fit the GPU, or None.
    """

    planned: PlannedCell
    done: bool
    time: PassTime | None
    warm_s: float | None
    start: StartTime = pass_time.FORKED
    peak_dtype: str | None = None
    measured_s: float | None = None
    too_big: str | None = None

    @property
    def pass_s(self) -> float | None:
        """How long a timed pass takes; a window lasts until its last request is answered."""
        if self.planned.cell.mode == "online":
            return window_s(self.planned.cell, self.time)
        return None if self.time is None else self.time.duration_s

    @property
    def piles_up(self) -> bool:
        """More texts arrive at a server than it is predicted to label."""
        cell = self.planned.cell
        return cell.mode == "online" and (self.pass_s or 0.0) > cell.load.window_s

    @property
    def due(self) -> bool:
        """It would be measured by a run."""
        return not (self.done or self.planned.infeasible or self.too_big)


@dataclass(slots=True, kw_only=True)
class Timeline:
    """How cells follow each other on the GPUs.

    Attributes:
        wall_s: from the first start to the last end.
        gpu_s: what all GPUs together are held for.
        held_s: cell_id -> how long a cell holds its GPUs, with the start of its engine if that is
            started for it.
        warm: how many engines start warm, by how long they take.
        cold: how many start before any other has filled the compile cache for them.
    """

    wall_s: float = 0.0
    gpu_s: float = 0.0
    held_s: dict[str, float] = field(default_factory=dict)
    warm: Counter[StartTime] = field(default_factory=Counter)
    cold: Counter[StartTime] = field(default_factory=Counter)

    @property
    def num_cold(self) -> int:
        return self.cold.total()


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """A sweep's missing cells on ``num_gpus`` GPUs; None where it is not known.

    Attributes:
        one_at_a_time: a cell starts when the one before has ended, as on one machine; else each
            starts as soon as its GPUs are free, as on a Ray cluster.
        reason: why there are no durations, or None.
        passes_s: timed passes of the missing cells.
        timeline: how the missing cells follow each other.
    """

    target: Target | None
    reason: str | None
    cells: tuple[CellForecast, ...]
    num_gpus: int
    one_at_a_time: bool
    passes_s: float | None
    timeline: Timeline | None
    gpu_hour_usd: float | None

    @property
    def gpu_s(self) -> float | None:
        return None if self.timeline is None else self.timeline.gpu_s

    @property
    def wall_s(self) -> float | None:
        return None if self.timeline is None else self.timeline.wall_s

    @property
    def usd(self) -> float | None:
        """Money for the GPUs held."""
        if self.gpu_s is None or self.gpu_hour_usd is None:
            return None
        return self.gpu_s / 3600 * self.gpu_hour_usd


def proportions_s(plan: Plan) -> dict[str, float]:
    """Return cell_id -> how long a cell would hold an H200; nothing where that is not known.

    On other GPUs cells take other times in about the same proportions.
    """
    found = (_cell(each, plan.model, _named("H200"), forked=True) for each in plan.cells)
    return {each.planned.cell.cell_id: each.warm_s for each in found if each.warm_s is not None}


def target(name: str | None) -> Target | None:
    """Return the GPU called ``name``, or what engines run on here; None where it is not known.

    Raises:
        SpecError: there is no data sheet of that name.
    """
    if name is not None:
        return _named(name)
    if environment.on_cpu():
        return _processor()
    gpu = nvml.visible_gpu()
    found = None if gpu is None else devices.find(gpu.name)
    if gpu is None or found is None:
        return None
    short = next(key for key, device in DEVICES.items() if device is found)
    return Target(name=short, device=found, memory_bytes=gpu.memory_bytes)


def _processor() -> Target | None:
    """Return this machine's processor as it was calibrated; None without torch."""
    measured = calibration.of_this_processor()
    if measured is None:
        return None
    return Target(
        name=processor.name(),
        device=Device(
            bf16_flops_per_s=measured.flops_per_s,
            fp32_flops_per_s=measured.flops_per_s,
            memory_bytes_per_s=measured.bytes_per_s,
            source="measured on this processor",
        ),
        memory_bytes=None,
        constants=replace(pass_time.ON_PROCESSOR, starts=_starts_here(measured.import_s)),
        is_processor=True,
    )


def _starts_here(import_s: float) -> Starts:
    """Return how long engines take to start on this processor, where torch imports so long."""
    new_s = pass_time.STARTS_PER_TORCH_IMPORT * import_s
    spawned = StartTime(warm_s=new_s, cold_s=new_s)
    warm_s = pass_time.FORKED_STARTS_PER_TORCH_IMPORT * import_s
    forked = replace(spawned, warm_s=warm_s) if sys.platform == "linux" else spawned
    return Starts(
        forked=forked, spawned=spawned, forked_over_gpus=forked, spawned_over_gpus=spawned
    )


def _named(name: str) -> Target:
    names = {key.casefold(): key for key in DEVICES}
    key = names.get(name.casefold())
    if key is None:
        near = nearest(name.casefold(), names)
        hint = f"did you mean {names[near]}?" if near else f"known are {', '.join(DEVICES)}"
        raise SpecError(f"--device {name}: no data sheet of that name; {hint}")
    return Target(name=key, device=DEVICES[key], memory_bytes=DEVICES[key].memory_bytes)


def make(
    plan: Plan,
    on: Target | None,
    *,
    num_gpus: int | None = None,
    done: Collection[str] = (),
    measured_s: Mapping[str, float] | None = None,
    forked: bool = True,
) -> Forecast:
    """Return what is to be expected of ``plan``.

    Args:
        plan: the sweep, worked out.
        on: the GPU; None leaves every duration out.
        num_gpus: how many such GPUs a cluster has; None: one machine, which measures one cell at
            a time, with those of the largest engine.
        done: ids of cells that need no run.
        measured_s: cell_id -> median duration of a pass, of cells that are done.
        forked: workers are, of a process that has imported; else each is a new Python.

    Raises:
        SpecError: an engine has more GPUs.
    """
    known = measured_s or {}
    cells = {
        each.cell.cell_id: replace(
            _cell(each, plan.model, on, forked=forked),
            done=each.cell.cell_id in done,
            measured_s=known.get(each.cell.cell_id),
        )
        for each in plan.cells
    }
    due = [cell for each in plan.schedule if (cell := cells[each.cell.cell_id]).due]
    one_at_a_time = num_gpus is None
    if not one_at_a_time:
        due = largest_first(due, lambda each: each.planned.cell)
    num_gpus = _num_gpus(due, num_gpus)
    reason = _reason(on, plan.model, due)
    warm = {_compiled(each.planned.cell) for each in cells.values() if each.done}
    shutdown_s = pass_time.SHUTDOWN_S if on is None else on.constants.shutdown_s
    timeline = (
        None if reason else run_order(due, num_gpus, warm, shutdown_s, one_at_a_time=one_at_a_time)
    )
    return Forecast(
        target=on,
        reason=reason,
        cells=tuple(cells.values()),
        num_gpus=num_gpus,
        one_at_a_time=one_at_a_time,
        passes_s=None if reason else sum(_timed_s(each) for each in due),
        timeline=timeline,
        gpu_hour_usd=plan.gpu_hour_usd,
    )


def _num_gpus(due: Sequence[CellForecast], asked: int | None) -> int:
    """Return how many GPUs there are, enough for the largest engine that is due."""
    cells = [each.planned.cell for each in due]
    largest = max(cells, key=lambda cell: cell.num_gpus, default=None)
    needed = 1 if largest is None else largest.num_gpus
    if largest is not None and asked is not None and asked < needed:
        raise SpecError(
            f"--gpus {asked}: the engine of {largest.slug} takes {needed}; name as many, or leave "
            "--gpus out"
        )
    return asked or needed


def _reason(on: Target | None, model: Model, due: Sequence[CellForecast]) -> str | None:
    if on is None:
        return f"no durations: name a GPU with --device, e.g. --device H200 ({', '.join(DEVICES)})"
    if model.design:
        return f"no durations: {model.design}"
    if model.shape and model.shape.experts:
        return "no durations: what share of the peak a mixture of experts reaches was not measured"
    unknown = [each.planned.cell.slug for each in due if each.pass_s is None]
    if unknown:
        return f"no durations: nothing is known of the dtype or quantization of {unknown[0]}"
    return None


def window_s(cell: Cell, offline: PassTime | None) -> float:
    """Return how long a window lasts: its arrivals, or labelling what arrived as fast as offline.

    Args:
        cell: of a server.
        offline: what labelling the cell's texts takes offline; None if that is not known.
    """
    load = cell.load
    if offline is None or load.rate is None:
        return load.window_s
    texts_per_s = cell.n * cell.duplication / offline.duration_s
    return load.window_s * max(1.0, load.rate / texts_per_s)


def _timed_s(cell: CellForecast) -> float:
    return _num_passes(cell.planned.cell) * (cell.pass_s or 0.0)


def _num_passes(cell: Cell) -> float:
    """Return how many passes are timed, at most where the highest rate is looked for."""
    searches = cell.mode == "online" and cell.load.max_rate is not None
    return cell.load.longest_search_s / cell.load.window_s if searches else cell.repeats


def run_order(
    cells: Sequence[CellForecast],
    num_gpus: int,
    warm: Collection[tuple[object, ...]] = (),
    shutdown_s: float = pass_time.SHUTDOWN_S,
    *,
    one_at_a_time: bool = False,
) -> Timeline:
    """Give each cell, in the order of a run, to the GPUs that are free first.

    One of several GPUs waits for all of them, and those after it wait as long. As in a run, as many
    are at once as there is room for the smallest, or one at a time, which keeps the others off GPUs
    that its engine does not hold. Cells that share an engine follow each other on its GPUs.

    An engine starts cold until another one of the same settings is ready; ``warm`` are settings
    whose compile cache is filled.
    """
    free = [0.0] * num_gpus
    ready_s: dict[tuple[object, ...], float] = dict.fromkeys(warm, 0.0)
    found = Timeline()
    for first, *others in _engines(cells, lambda size: 1 if one_at_a_time else num_gpus // size):
        num_taken = num_gpus if one_at_a_time else first.planned.cell.num_gpus
        taken = [heapq.heappop(free) for _ in range(num_taken)]
        began = taken[-1]
        settings, start = _compiled(first.planned.cell), first.start
        is_cold = ready_s.get(settings, float("inf")) > began
        ready_s[settings] = min(ready_s.get(settings, float("inf")), began + start.cold_s)
        held_s = _held_s(first, others, shutdown_s, is_cold=is_cold)
        ended = began + sum(held_s.values())
        for _ in taken:
            heapq.heappush(free, ended)
        found.held_s.update(held_s)
        found.gpu_s += (ended - began) * first.planned.cell.num_gpus
        found.wall_s = max(found.wall_s, ended)
        (found.cold if is_cold else found.warm)[start] += 1
    return found


def _held_s(
    first: CellForecast, others: Sequence[CellForecast], shutdown_s: float, *, is_cold: bool
) -> dict[str, float]:
    """Return cell_id -> how long the cells of one engine hold its GPUs; the first starts it."""
    start = first.start
    extra_s = start.cold_s - start.warm_s if is_cold else 0.0
    held_s = {first.planned.cell.cell_id: (first.warm_s or 0.0) + extra_s}
    for cell in others:
        without_start_s = (cell.warm_s or 0.0) - start.warm_s - shutdown_s
        held_s[cell.planned.cell.cell_id] = max(without_start_s, 0.0)
    return held_s


def _engines(
    cells: Sequence[CellForecast], at_once: Callable[[int], int]
) -> list[list[CellForecast]]:
    """Return the cells of each engine, in the order in which a run starts engines.

    ``at_once`` tells how many engines of so many GPUs run at the same time.
    """
    num_at_once = at_once(min((each.planned.cell.num_gpus for each in cells), default=1))
    backlog: Backlog[CellForecast] = Backlog(lambda cell: cell.warm_s)
    for cell in cells:
        backlog.append(cell)
    ordered = [backlog.take(num_at_once) for _ in cells]
    if any(each.planned.cell.isolation == "engine" for each in cells):
        return batches(ordered, lambda each: each.planned.cell, at_once)
    return [[cell] for cell in ordered]


def _compiled(cell: Cell) -> tuple[object, ...]:
    """Return what vLLM's compile cache distinguishes, as far as a cell shows it."""
    return (cell.model_fingerprint, cell.engine_settings)


def _cell(planned: PlannedCell, model: Model, on: Target | None, *, forked: bool) -> CellForecast:
    """Return the forecast of one cell, not knowing what is done."""
    empty = CellForecast(planned=planned, done=False, time=None, warm_s=None)
    if on is None or planned.infeasible:
        return empty
    used = before_start(planned.cell.settings, model.torch_dtype, model.quantization)
    too_big = _too_big(planned, model, on)
    if too_big:
        return replace(empty, too_big=too_big)
    engine = _engine(planned.cell, model, used, on)
    if engine is None:
        return empty
    time = pass_time.pass_time(engine, planned.load)
    start = on.constants.starts.of(planned.cell.num_gpus, forked=forked)
    warm_s = start.warm_s + _after_start_s(planned, engine, time, on.constants)
    return replace(empty, time=time, warm_s=warm_s, start=start, peak_dtype=used.peak_dtype)


def _engine(cell: Cell, model: Model, used: Formats, on: Target) -> pass_time.Engine | None:
    """Return on what the cell's passes run; None without a shape or a share for its dtype."""
    peak = ceilings.data_sheet_peak(on.device, used.peak_dtype)
    mfu = on.constants.mfu.get(used.peak_dtype or "")
    sizes = {used.layer_bytes, used.head_bytes, used.kv_bytes}
    if model.shape is None or mfu is None or peak is None or None in sizes:
        return None
    if model.shape.experts:
        return None
    split = Split.of(cell.settings)
    # Ranks on a processor share it.
    sharing = split.num_gpus if on.is_processor else 1
    bytes_per_s = on.device.memory_bytes_per_s / sharing
    return pass_time.Engine(
        shape=ModelShape.from_config(model.config.shard(split.tensor_parallel_size)),
        num_stages=split.pipeline_parallel_size,
        device=replace(on.device, memory_bytes_per_s=bytes_per_s),
        size=used,
        peak_flops_per_s=peak / sharing,
        mfu=mfu,
        mbu=on.constants.mbu,
        prefill_step_s=on.constants.prefill_step_s,
        decode_step_s=on.constants.decode_step_s,
        max_num_batched_tokens=int(cell.settings["max_num_batched_tokens"] or 0),
        max_num_seqs=int(cell.settings["max_num_seqs"] or 0),
        tokenized_before=cell.prompt_type == "tokens",
    )


def _after_start_s(
    planned: PlannedCell, engine: pass_time.Engine, time: PassTime, constants: Constants
) -> float:
    """Return a cell's time after the start: warm-up, passes, tokenizing alone, shutdown.

    A warm-up pass submits each prompt once, as another text; the state primed runs a pass before
    each timed one.
    """
    cell = planned.cell
    cold = tuple(replace(work, cached_tokens=0) for work in planned.load.requests)
    warmup_s = pass_time.pass_time(engine, Pass(requests=cold)).duration_s
    online = cell.mode == "online"
    primed_s = warmup_s
    if online:
        num = -(-WARMUP_TEXTS * len(cold) // cell.n)
        warmup_s = pass_time.pass_time(engine, Pass(requests=cold[:num])).duration_s
    passes = _num_passes(cell) * (window_s(cell, time) if online else time.duration_s)
    if cell.cache_state == "primed":
        passes += _num_passes(cell) * primed_s
    return (
        cell.warmup_passes * warmup_s
        + passes
        + (0.0 if online else time.feed_s)
        + constants.shutdown_s
    )


def _too_big(planned: PlannedCell, model: Model, on: Target) -> str | None:
    """Return why vLLM would not start the cell's engine on the GPU, or None.

    What activations and CUDA graphs take is not known and left out, so a cell that fits by little
    may still end as oom.
    """
    settings = planned.cell.settings
    stages = fit.of_model(model, settings)
    if on.memory_bytes is None or not stages or stages[0].weight_bytes is None:
        return None
    rooms = [stage.room_bytes(on.memory_bytes, settings) for stage in stages]
    limit, needed = int(settings["max_model_len"] or 0), planned.longest_request_tokens
    found = fit.of(stages, rooms, limit)
    if found.holds(needed):
        return None
    if found.room_bytes <= 0:
        weights = found.stage.weight_bytes or 0
        return f"{on.name} has no room beside {weights / 1e9:.1f} GB of weights"
    advice = f" (lower it: {needed} would do)" if needed <= found.longest_tokens else ""
    return (
        f"max_model_len {limit}{advice} needs {found.needed_bytes / 1e9:.1f} GB of KV cache "
        f"and {on.name} has room for {found.room_bytes / 1e9:.1f} GB beside the weights"
    )

"""The numbers of one pass, as the column table defines them.

Pure functions: results of an engine in, values of ``schema.PASS`` and ``schema.REQUESTS`` out. A
new metric is a column in ``packsweep.results.schema`` and a key here.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from packsweep.engines import EngineInfo, PassResult, RequestResult
from packsweep.machine.sampler import Conditions
from packsweep.models.architecture.kv_cache import KvLayout
from packsweep.models.resolve import Model
from packsweep.plan import ceilings
from packsweep.plan.ceilings import Ceiling
from packsweep.plan.formats import Formats, formats
from packsweep.plan.prefix_cache import Submitted, expected_cached_tokens, kind_of
from packsweep.plan.roofline import Work
from packsweep.results import stats
from packsweep.run.measure import scoring
from packsweep.run.measure.scoring import Score
from packsweep.run.measure.workload import Workload
from packsweep.sweep.cells import Cell
from packsweep.sweep.prompts import Prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """One request of a pass with everything known about it.

    Attributes:
        prompt_index: which distinct prompt.
        copy: which submission of it.
        expected_cached: tokens the prefix cache should serve; None where it cannot be known.
        expected_labels: the labels of the prompt's texts.
        score: None where answers are not scored (random weights).
    """

    prompt: Prompt
    prompt_index: int
    copy: int
    result: RequestResult
    expected_cached: int | None
    expected_labels: tuple[str | None, ...]
    score: Score | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PassContext:
    """What the passes of an attempt have in common.

    Attributes:
        device: name of the device that the engine runs on.
        num_gpus: how many of it; a processor counts as one.
    """

    workload: Workload
    model: Model
    info: EngineInfo
    device: str | None
    num_gpus: int = 1

    @property
    def formats(self) -> Formats:
        """What weights, activations and KV cache are stored and computed in."""
        return formats(self.info.resolved, self.model.torch_dtype, self.model.quantization)

    @property
    def ceiling(self) -> Ceiling:
        """What the device can do in these formats."""
        return ceilings.data_sheet(self.device, self.formats)


def is_due(cell: Cell, repeat: int, durations_s: Sequence[float]) -> bool:
    """Return whether another timed pass is due; see ``spec.MeasureTable`` for when it stops."""
    if repeat < cell.repeats or cell.stop_at_half_width is None:
        return repeat < cell.repeats
    half = stats.half_width(list(durations_s))
    narrow = half is not None and half <= cell.stop_at_half_width * statistics.fmean(durations_s)
    return not narrow and repeat < (cell.max_repeats or 0)


def expected_cached(
    cache_state: str, passes: Sequence[PassResult], info: EngineInfo, layout: KvLayout | None
) -> Sequence[int | None]:
    """Return what the prefix cache should serve of each request of the last of ``passes``."""
    num_requests = len(passes[-1].requests)
    if cache_state == "off":
        return [0] * num_requests
    kind = kind_of(layout, info.resolved)
    if info.block_size is None or kind is None:
        return [None] * num_requests
    submitted = [
        [
            Submitted(request.prompt_token_ids, request.output_tokens, request.scheduled_s)
            for request in each.requests
        ]
        for each in passes
    ]
    expected = expected_cached_tokens(
        submitted, block_size=info.block_size, num_blocks=info.num_blocks, kind=kind
    )
    return [None] * num_requests if expected is None else expected


def answered(context: PassContext, passes: Sequence[PassResult]) -> list[Answered]:
    """Put each request of the last of ``passes`` beside its prompt, and score its answer.

    The earlier passes are those that are in the prefix cache. Random weights are not scored.
    What log-probabilities say of a text stands at the first of its requests.
    """
    workload, result = context.workload, passes[-1]
    expected = expected_cached(
        workload.cell.cache_state, passes, context.info, context.model.kv_layout
    )
    scored = not context.model.random_weights
    copies: dict[int, int] = {}
    found: list[Answered] = []
    for index, came, cached in zip(workload.order, result.requests, expected, strict=True):
        prompt = workload.prompts[index]
        labels = workload.labels(prompt)
        copy = copies[index] = copies.get(index, -1) + 1
        found.append(
            Answered(
                prompt=prompt,
                prompt_index=index,
                copy=copy,
                result=came,
                expected_cached=cached,
                expected_labels=labels,
                score=_read(workload, came, labels) if scored and prompt.branch is None else None,
            )
        )
    return _by_logprobs(workload, found) if scored and workload.scores else found


def _read(workload: Workload, came: RequestResult, labels: Sequence[str | None]) -> Score:
    read_by = scoring.reader(workload.cell)
    return scoring.score(came.text, labels, cut=came.answer_cut, read_by=read_by)


def _by_logprobs(workload: Workload, items: Sequence[Answered]) -> list[Answered]:
    """Score each text from its requests, one for every place where labels part."""
    labels = workload.cell.labelling.labels
    own: dict[tuple[int, int], list[Answered]] = {}
    for item in items:
        own.setdefault((item.prompt.first, item.copy), []).append(item)

    def score(item: Answered) -> Score | None:
        if not item.prompt.num_texts:
            return None
        pairs = [
            (other.prompt.branch, other.result.token_logprobs)
            for other in own[item.prompt.first, item.copy]
        ]
        known = [(branch, logprobs) for branch, logprobs in pairs if branch and logprobs]
        if len(known) < len(pairs):
            return None
        return scoring.score_logprobs(known, labels, item.expected_labels[0])

    return [replace(item, score=score(item)) for item in items]


def pass_row(
    context: PassContext,
    repeat: int,
    result: PassResult,
    answered: Sequence[Answered],
    conditions: Conditions,
) -> dict[str, Any]:
    """Return the columns of a pass: its own, its work, its conditions and its energy."""
    values = pass_values(repeat, result, answered, tokenize_s=None)
    return {
        **values,
        **work_values(context, answered, result.duration_s),
        **asdict(conditions),
        **energy_values(conditions.energy_j, values),
    }


def work_values(
    context: PassContext, answered: Sequence[Answered], duration_s: float
) -> dict[str, Any]:
    """Return the columns of ``schema.UTILIZATION``; none for a design that is not described."""
    if context.model.shape is None:
        return {}
    values = ceilings.work_values(
        context.model.shape, work(answered), context.formats, context.info.resolved
    )
    limit, several = context.ceiling, context.num_gpus
    return {
        **values,
        "mfu": ceilings.utilization(values["flops"], duration_s, limit.peak_flops_per_s, several),
        "mbu": ceilings.utilization(
            values["read_bytes"], duration_s, limit.peak_bytes_per_s, several
        ),
    }


def pass_values(
    repeat: int, measured: PassResult, answered: Sequence[Answered], *, tokenize_s: float | None
) -> dict[str, Any]:
    """Return the values of ``schema.PASS`` for one pass."""
    counts = _counts(answered)
    labels = _labels(answered, counts["num_texts"])
    seconds = measured.duration_s
    return {
        "repeat": repeat,
        "duration_s": seconds,
        "tokenize_s": tokenize_s,
        **counts,
        **labels,
        **_timings([item.result for item in answered]),
        **_split(measured),
        "requests_per_s": counts["num_requests"] / seconds,
        "total_tokens_per_s": (counts["prompt_tokens"] + counts["output_tokens"]) / seconds,
        "output_tokens_per_s": counts["output_tokens"] / seconds,
        "texts_per_s": counts["num_texts"] / seconds,
        "correct_texts_per_s": _ratio(labels["labels_right"], seconds),
        "computed_prompt_tokens_per_s": _ratio(_computed(counts), seconds),
        "cached_share": _ratio(counts["cached_tokens"], counts["prompt_tokens"]),
    }


def energy_values(energy_j: float | None, values: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the columns of ``schema.ENERGY`` from a pass's energy and its other ``values``."""
    per_1000 = None if energy_j is None else 1000 * energy_j
    return {
        "joules_per_1000_texts": _ratio(per_1000, values["num_texts"]),
        "joules_per_1000_correct_texts": _ratio(per_1000, values["labels_right"] or 0),
    }


def work(answered: Sequence[Answered]) -> list[Work] | None:
    """Return what the requests of a pass computed; None where cached tokens do not say that.

    They do not where they are not reported, or where they are more than the prompt has.
    """
    done = []
    for item in answered:
        cached = item.result.cached_tokens
        if cached is None or cached > len(item.result.prompt_token_ids):
            return None
        done.append(
            Work(
                prompt_tokens=len(item.result.prompt_token_ids),
                cached_tokens=cached,
                output_tokens=item.result.output_tokens,
            )
        )
    return done


def request_values(repeat: int, request: int, item: Answered) -> dict[str, Any]:
    """Return the values of ``schema.REQUESTS`` for one request."""
    result = item.result
    return {
        "repeat": repeat,
        "request": request,
        "prompt": item.prompt_index,
        "copy": item.copy,
        "first_text": item.prompt.first,
        "num_texts": item.prompt.num_texts,
        "prompt_tokens": len(result.prompt_token_ids),
        "output_tokens": result.output_tokens,
        "cached_tokens": result.cached_tokens,
        "expected_cached_tokens": item.expected_cached,
        "queue_s": result.queue_s,
        "prefill_s": result.prefill_s,
        "decode_s": result.decode_s,
        "scheduled_s": result.scheduled_s,
        "last_token_s": result.last_token_s,
        "finish_reason": result.finish_reason,
        "text": result.text,
        "expected_labels": list(item.expected_labels),
        "found_labels": None if item.score is None else list(item.score.labels),
        "confidence": None if item.score is None else item.score.confidence,
    }


def _counts(answered: Sequence[Answered]) -> dict[str, Any]:
    return {
        "num_requests": len(answered),
        "num_texts": sum(item.prompt.num_texts for item in answered),
        "prompt_tokens": sum(len(item.result.prompt_token_ids) for item in answered),
        "output_tokens": sum(item.result.output_tokens for item in answered),
        "cached_tokens": _total(item.result.cached_tokens for item in answered),
        "expected_cached_tokens": _total(item.expected_cached for item in answered),
        "num_preemptions": _total(item.result.num_preemptions for item in answered),
    }


def _labels(answered: Sequence[Answered], num_texts: int) -> dict[str, Any]:
    scores = [item.score for item in answered if item.prompt.num_texts]
    found = _total(None if score is None else score.num_found for score in scores)
    right = _total(None if score is None else score.num_right for score in scores)
    return {
        "labels_found": found,
        "labels_right": right,
        "labels_missing": None if found is None else num_texts - found,
        "labels_surplus": _total(None if score is None else score.num_surplus for score in scores),
        "coverage": _ratio(found, num_texts),
        "accuracy": _ratio(right, num_texts),
        "majority_class_share": None if right is None else _majority_class_share(answered),
    }


def _majority_class_share(answered: Sequence[Answered]) -> float | None:
    """Return the share of the most frequent label among the expected ones."""
    counts = Counter(label for item in answered for label in item.expected_labels)
    return _ratio(max(counts.values(), default=0), counts.total())


def _timings(results: Sequence[RequestResult]) -> dict[str, float | None]:
    return {
        "engine_span_s": max(_known(result.last_token_s for result in results), default=None),
        "queue_p50_s": _median(result.queue_s for result in results),
        "prefill_p50_s": _median(result.prefill_s for result in results),
        "decode_p50_s": _median(result.decode_s for result in results),
    }


def _split(measured: PassResult) -> dict[str, float | None]:
    """Return the four parts of ``duration_s``; None where the engine's clock does not tell."""
    names = ("before_engine_s", "prefill_span_s", "decode_span_s", "after_engine_s")
    firsts = [_sum(result.scheduled_s, result.prefill_s) for result in measured.requests]
    lasts = [result.last_token_s for result in measured.requests]
    first, last = (_largest(firsts), _largest(lasts))
    if first is None or last is None:
        return dict.fromkeys(names)
    before = measured.before_engine_s
    after = None if before is None else measured.duration_s - before - last
    return dict(zip(names, (before, first, last - first, after), strict=True))


def _sum(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one + other


def _largest(values: Sequence[float | None]) -> float | None:
    """Return the largest value, or None as soon as one is unknown."""
    known = _known(values)
    return max(known) if known and len(known) == len(values) else None


def _computed(counts: dict[str, Any]) -> int | None:
    cached = counts["cached_tokens"]
    return None if cached is None else counts["prompt_tokens"] - cached


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _median(values: Iterable[float | None]) -> float | None:
    known = _known(values)
    return statistics.median(known) if known else None


def _total(values: Iterable[int | None]) -> int | None:
    """Return the sum, or None as soon as one value is unknown."""
    listed = list(values)
    return None if any(value is None for value in listed) else sum(v for v in listed if v)


def _ratio(part: float | None, whole: float) -> float | None:
    return None if part is None or not whole else part / whole

"""Latencies and rates of a window, by vLLM's names where its meaning is kept.

From the scheduled arrival; ``service_`` is from the dispatch, which is what ``vllm bench serve``
reports. Of whole answers only. Undefined is None.

====================  ==========================================================================
ttft                  to the first output token. vLLM: from the dispatch, and to the first chunk
tpot                  (last token - first token) / (output tokens - 1); None of one token. vLLM: 0
                      then where goodput is judged
itl                   between a token and the next, 0 inside a chunk. vLLM: a sample a chunk, so
                      that two tokens at once count as one. Not sampled of an answer whose chunks
                      do not say how many tokens they hold
e2e                   to the last output token, so equal to ttft of one token. vLLM: the same, from
                      the dispatch
offered_texts_per_s   arrivals over the window. vLLM: what was asked for; its gaps are scaled to it
achieved_texts_per_s  whole answers until the window's end, from one median e2e after its start,
                      over that time: of a server that keeps up it is what is offered. vLLM: all
                      over the time until the last answer, so that a short run seems slow
goodput_texts_per_s   texts of requests that keep the SLO, over the window in which they arrived.
                      vLLM: over the time until the last answer
====================  ==========================================================================

Percentiles are interpolated linearly, as vLLM's are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from operator import attrgetter

import numpy as np

from packsweep.traffic.slo import Slo
from packsweep.traffic.window import Response, Window

_PERCENTS = (50, 90, 95, 99)


# Of one request.
LATENCIES: dict[str, Callable[[Response], float | None]] = {
    name: attrgetter(f"{name}_s") for name in ("ttft", "tpot", "e2e")
}


def summarize(window: Window, slo: Slo | None = None) -> dict[str, float | None]:
    """Return the figures of a window by name: those above, ``ttft_mean_s``, ``ttft_p99_s``, ...

    ``attainment`` and ``goodput_texts_per_s`` are None without an SLO.
    """
    return {
        **_latencies(window),
        **_rates(window),
        "attainment": slo.attainment(window.responses) if slo else None,
        "goodput_texts_per_s": _goodput(window, slo) if slo else None,
        "num_errors": sum(response.error is not None for response in window.responses),
    }


def errors(window: Window) -> dict[str, int]:
    """Return how many requests failed, by the kind of the error, the most frequent first."""
    kinds = Counter(response.error for response in window.responses if response.error is not None)
    return dict(kinds.most_common())


def _latencies(window: Window) -> dict[str, float | None]:
    whole = [response for response in window.responses if response.error is None]
    values = {name: _defined(map(of, whole)) for name, of in LATENCIES.items()}
    values["itl"] = [gap_s for response in whole for gap_s in response.itl_s]
    sent = [replace(response, scheduled_s=None) for response in whole]
    values["service_ttft"] = _defined(response.ttft_s for response in sent)
    values["service_e2e"] = _defined(response.e2e_s for response in sent)
    return {
        f"{name}_{statistic}_s": value
        for name, sample in values.items()
        for statistic, value in _statistics(sample).items()
    }


def _defined(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _rates(window: Window) -> dict[str, float | None]:
    offered = [(response.arrived_s, response.num_texts) for response in window.responses]
    whole = [response for response in window.responses if response.error is None]
    latencies_s = _defined(response.e2e_s for response in whole)
    begins_s = float(np.median(latencies_s)) if latencies_s else 0.0
    achieved = [
        (response.ended_s, response.num_texts)
        for response in whole
        if begins_s < response.ended_s <= window.duration_s
    ]
    return {
        **_per_s("offered", offered, window.duration_s),
        **_per_s("achieved", achieved, window.duration_s - begins_s),
    }


def _per_s(name: str, texts: Sequence[tuple[float, int]], time_s: float) -> dict[str, float | None]:
    """Return the rates of requests and of their texts in a time; None in no time."""
    return {
        f"{name}_requests_per_s": len(texts) / time_s if time_s > 0 else None,
        f"{name}_texts_per_s": sum(num for _, num in texts) / time_s if time_s > 0 else None,
    }


def _goodput(window: Window, slo: Slo) -> float | None:
    good = sum(each.num_texts for each in window.responses if slo.is_kept(each))
    return good / window.duration_s if window.duration_s > 0 else None


def _statistics(sample: Sequence[float]) -> dict[str, float | None]:
    """Return mean and percentiles; None of an empty sample."""
    if not len(sample):
        return {"mean": None, **{f"p{percent}": None for percent in _PERCENTS}}
    percentiles = zip(_PERCENTS, np.percentile(sample, _PERCENTS).tolist(), strict=True)
    return {
        "mean": float(np.mean(sample)),
        **{f"p{percent}": value for percent, value in percentiles},
    }

"""Windows with times that can be checked by eye."""

from __future__ import annotations

from packsweep.traffic.window import Response, Window


def response(  # noqa: PLR0913  (what a test says of a response)
    index: int = 0,
    scheduled_s: float | None = 0.0,
    *,
    tokens: tuple[float, ...] = (0.1,),
    late_s: float = 0.0,
    error: str | None = None,
    num_texts: int = 1,
    output_tokens: int | None = None,
) -> Response:
    """Return a response whose ``tokens`` arrive so long after it was scheduled."""
    begins_s = scheduled_s or 0.0
    return Response(
        index=index,
        num_texts=num_texts,
        scheduled_s=scheduled_s,
        dispatched_s=begins_s + late_s,
        ended_s=begins_s + (tokens[-1] if tokens else late_s),
        token_s=tuple(begins_s + token for token in tokens),
        error=error,
        output_tokens=len(tokens) if output_tokens is None else output_tokens,
    )


def window(*responses: Response, duration_s: float = 10.0, cpu_s: float = 0.1) -> Window:
    return Window(
        responses=responses,
        began_unix=1_700_000_000.0,
        duration_s=duration_s,
        ended_s=max([duration_s, *(each.ended_s for each in responses)]),
        cpu_s=cpu_s,
    )

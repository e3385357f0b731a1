"""Which processes were timed while another engine of the host was."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pandas as pd
import pytest
from tests.fakes import NOON

from packsweep.analysis import beside


def _attempt(name: str, began: float, passes_s: float | None = 10.0, **values: Any) -> Any:
    return {
        "attempt_id": name,
        "hostname": "host",
        "started_at": NOON + timedelta(seconds=began),
        "engine_start_s": 20.0,
        "passes_s": passes_s,
        "between_s": 1.0,
        **values,
    }


@pytest.mark.parametrize(
    ("attempts", "expected"),
    [
        ([_attempt("a", 0), _attempt("b", 5)], {"a", "b"}),
        ([_attempt("a", 0), _attempt("b", 12)], set()),
        ([_attempt("a", 0), _attempt("b", 12, warmup_s=-8.0)], {"a", "b"}),
        ([_attempt("a", 0), _attempt("b", 5, hostname="other")], set()),
        ([_attempt("a", 0), _attempt("b", 5, passes_s=None)], set()),
        ([_attempt("long", 0, 90.0), _attempt("a", 5), _attempt("b", 50)], {"long", "a", "b"}),
        ([_attempt("a", 0), _attempt("a", 0)], set()),
        ([], set()),
    ],
)
def test_of(attempts: list[dict[str, Any]], expected: set[str]) -> None:
    """Starts do not count: timed parts of a host that have a moment in common do."""
    columns = ["attempt_id", "hostname", "started_at", "passes_s"]
    frame = pd.DataFrame(attempts, columns=None if attempts else columns)
    assert beside.of(frame) == expected

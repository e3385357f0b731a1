"""GPUs that measured both sides, and a GPU's part of a rate."""

from __future__ import annotations

from typing import Any

import pytest

from packsweep.analysis import blocks


def _rows(*gpus: str | None) -> list[dict[str, Any]]:
    return [
        {"device_uuid": each, "num_gpus": None if each is None else each.count(",") + 1}
        for each in gpus
    ]


def _shared(
    above: list[dict[str, Any]], below: list[dict[str, Any]]
) -> list[tuple[list[str], ...]]:
    return [
        tuple(sorted(str(row["device_uuid"]) for row in side) for side in block)
        for block in blocks.shared(above, below)
    ]


@pytest.mark.parametrize(
    ("above", "below", "expected"),
    [
        (["a", "b", "a"], ["b", "a"], [(["a", "a"], ["a"]), (["b"], ["b"])]),
        (["a"], ["b"], []),
        (["a", "c"], ["b", "a"], [(["a"], ["a"])]),
        (["a,b"], ["a", "b"], [(["a,b"], ["a", "b"])]),
        (["a,b", "c,d"], ["a", "d"], [(["a,b"], ["a"]), (["c,d"], ["d"])]),
        (["a,b", "b,c"], ["c"], [(["a,b", "b,c"], ["c"])]),
        ([None], [None], [(["None"], ["None"])]),
        ([None], ["a"], []),
    ],
)
def test_shared(
    above: list[str | None], below: list[str | None], expected: list[tuple[list[str], ...]]
) -> None:
    """Engines that have a GPU in common are of one block, by way of others as well."""
    assert _shared(_rows(*above), _rows(*below)) == expected


def test_differ() -> None:
    assert blocks.differ(_rows("a,b"), _rows("a"))
    assert not blocks.differ(_rows("a,b"), _rows("c,d"))
    assert not blocks.differ(_rows(None), _rows("a"))


def test_per_gpu() -> None:
    """A rate is divided, what is not known stays so, and the row is another one."""
    (row,) = _rows("a,b")
    values = [{**row, "texts_per_s": value} for value in (10.0, None)]
    assert [each["texts_per_s"] for each in blocks.per_gpu(values, "texts_per_s")] == [5.0, None]
    assert values[0]["texts_per_s"] == 10.0

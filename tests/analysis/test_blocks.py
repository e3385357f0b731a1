"""GPUs that measured both sides, and a GPU's part of a rate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from packsweep.analysis import blocks


def _rows(*gpus: str | None) -> list[dict[str, Any]]:
    """Return a pass of a process on each of these GPUs."""
    return [
        {
            "device_uuid": each,
            "num_gpus": None if each is None else each.count(",") + 1,
            "attempt_id": str(process),
        }
        for process, each in enumerate(gpus)
    ]


def _gpus(found: Sequence[blocks.Block]) -> list[tuple[list[str], ...]]:
    return [
        tuple(sorted(str(row["device_uuid"]) for row in side) for side in block) for block in found
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
    assert _gpus(blocks.shared(_rows(*above), _rows(*below))) == expected


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


@pytest.mark.parametrize(
    ("above", "below", "expected"),
    [
        # Two processes a side on one GPU, or three GPUs with one each, are enough.
        ("aab", "aac", [("aa", "aa")]),
        ("abc", "abc", [("a", "a"), ("b", "b"), ("c", "c")]),
        # One a side on one GPU is not, if all together are three on two GPUs a side.
        ("abb", "acc", [("abb", "acc")]),
        ("abb", "cdd", [("abb", "cdd")]),
        # Else what there is: one GPU a side would pass for the difference.
        ("aaa", "bbb", [("aaa", "bbb")]),
        ("ab", "ac", [("a", "a")]),
        ("aaa", "abc", [("aaa", "a")]),
    ],
)
def test_compared(above: str, below: str, expected: list[tuple[str, str]]) -> None:
    sides = _rows(*above), _rows(*below)
    found = _gpus(blocks.compared(*sides, blocks.shared(*sides)))
    assert found == [tuple(list(side) for side in block) for block in expected]


def test_repeats_of_a_process_are_no_processes() -> None:
    """Three passes of one process on a GPU in common are not three processes."""
    one = [{**row, "attempt_id": "0"} for row in _rows("a", "a", "a")]
    three = _rows("a", "b", "b")
    assert blocks.compared(one, three, blocks.shared(one, three)) == [(one, three[:1])]

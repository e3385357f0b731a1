"""Work of a pass, worked out by hand for a model of a few numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packsweep.models.architecture.shape import ModelShape
from packsweep.plan import roofline
from packsweep.plan.formats import Formats
from packsweep.plan.roofline import Work

# q = kv = 2, so 4 * 2 * 2 + 3 * 2 * 5 = 46 entries a layer; tables of 7 * 2, tied.
SHAPE = ModelShape(
    num_layers=1,
    hidden_size=2,
    intermediate_size=5,
    num_heads=1,
    num_kv_heads=1,
    head_dim=2,
    vocab_size=7,
    tie_word_embeddings=True,
    model_type="llama",
)
SIZE = Formats(peak_dtype="fp8", layer_bytes=1.0, head_bytes=2.0, kv_bytes=0.5)


def works(longest_prompt: int) -> st.SearchStrategy[Work]:
    """Return requests with prompts of at most so many tokens."""
    return st.integers(1, longest_prompt).flatmap(
        lambda prompt: st.builds(
            Work,
            prompt_tokens=st.just(prompt),
            cached_tokens=st.integers(0, prompt - 1),
            output_tokens=st.integers(1, 9),
        )
    )


WORKS = works(50)


def _work(prompt: int, cached: int = 0, output: int = 1) -> Work:
    return Work(prompt_tokens=prompt, cached_tokens=cached, output_tokens=output)


def test_prefill_flops_by_hand() -> None:
    """3 tokens: 3 * 92 linear, 6 pairs of 8 attention, 28 for the output projection."""
    assert roofline.prefill_flops(SHAPE, [_work(3)]) == 3 * 92 + 6 * 8 + 28


def test_prefill_flops_cached() -> None:
    """2 of 3 tokens cached: 1 linear, and it attends to 3 tokens."""
    assert roofline.prefill_flops(SHAPE, [_work(3, cached=2)]) == 92 + 3 * 8 + 28


@pytest.mark.parametrize(("output", "context"), [(1, 0), (2, 4), (3, 4 + 5)])
def test_decode_context(output: int, context: int) -> None:
    """The first output token ends prefill; each later one attends to itself and all before it."""
    assert roofline.decode_context(_work(3, output=output)) == context


def test_step_bytes() -> None:
    """A step reads 46 entries of the layer and 14 of the output projection."""
    assert roofline.step_bytes(SHAPE, SIZE) == 46 * 1 + 14 * 2


def test_kv_bytes() -> None:
    """A token keeps two keys and two values, half a byte each."""
    assert roofline.kv_bytes(SHAPE, SIZE) == 2


@given(st.lists(WORKS, max_size=5), st.lists(WORKS, max_size=5))
def test_prefill_adds_up(first: list[Work], second: list[Work]) -> None:
    """Prefill work of two groups is the sum of theirs."""
    apart = roofline.prefill_flops(SHAPE, first) + roofline.prefill_flops(SHAPE, second)
    assert roofline.prefill_flops(SHAPE, [*first, *second]) == apart

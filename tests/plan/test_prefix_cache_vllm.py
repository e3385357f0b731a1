"""The model of the prefix cache against vLLM's own KV cache manager, where vLLM is installed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from packsweep.plan.prefix_cache import CacheKind, PrefixCache

pytestmark = pytest.mark.slow

BLOCK = 4
Prompts = Sequence[Sequence[int]]
# Prompts of few tokens and few distinct ones, so that they share beginnings of every length.
PROMPTS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 40), st.integers(0, 2), st.integers(1, 20)),
    min_size=1,
    max_size=8,
)
KINDS = st.builds(
    CacheKind,
    groups=st.sampled_from(
        [{None: 1}, {None: 1, 6: 1}, {None: 1, 16: 3}, {None: 2, 64: 5}, {9: 1}, {1: 1, None: 1}]
    ),
    retention_interval=st.sampled_from([0, None, 2 * BLOCK, 8 * BLOCK]),
)


def _prompt(shared: int, num_shared: int, own: int, num_own: int) -> list[int]:
    """Return a beginning that others may have, and an end that few have."""
    return [10 + shared] * num_shared + [20 + own] * num_own


class _Manager:
    """vLLM's manager of the cache over layers of the given kind."""

    def __init__(self, kind: CacheKind) -> None:
        torch = pytest.importorskip("torch")
        interface = pytest.importorskip("vllm.v1.kv_cache_interface")
        utils = pytest.importorskip("vllm.v1.core.kv_cache_utils")
        hashing = pytest.importorskip("vllm.utils.hashing")
        managers = pytest.importorskip("vllm.v1.core.kv_cache_manager")
        if "prefix_cache_retention_interval" not in interface.KVCacheConfig.__annotations__:
            pytest.skip("this vLLM keeps every block of a window")
        shape = {
            "block_size": BLOCK,
            "num_kv_heads": 1,
            "head_size": 64,
            "dtype": torch.bfloat16,
        }
        groups = [
            interface.KVCacheGroupSpec(
                [f"layer.{window}.{index}"],
                interface.FullAttentionSpec(**shape)
                if window is None
                else interface.SlidingWindowSpec(**shape, sliding_window=window),
            )
            for window, num_groups in kind.groups.items()
            for index in range(num_groups)
        ]
        windows = set(kind.groups) - {None}
        config = interface.KVCacheConfig(
            num_blocks=1000,
            kv_cache_tensors=[],
            kv_cache_groups=groups,
            prefix_cache_retention_interval=kind.retention_interval if windows else 0,
        )
        self._manager = managers.KVCacheManager(
            config, max_model_len=8192, scheduler_block_size=BLOCK, hash_block_size=BLOCK
        )
        utils.init_none_hash(hashing.sha256)
        self._hasher = utils.get_request_block_hasher(BLOCK, hashing.sha256)

    def submit(self, name: str, prompt: Sequence[int], chunk: int) -> int:
        """Schedule a prompt, at most ``chunk`` tokens a step, and return its cached tokens."""
        from vllm.sampling_params import SamplingParams
        from vllm.v1.request import Request

        request: Any = Request(
            request_id=name,
            prompt_token_ids=list(prompt),
            sampling_params=SamplingParams(max_tokens=1),
            pooling_params=None,
            block_hasher=self._hasher,
        )
        blocks, hits, boundary = self._manager.get_computed_blocks(request)
        request.shared_prefix_boundary = boundary
        num_new = min(chunk, len(prompt) - hits)
        assert self._manager.allocate_slots(request, num_new, hits, blocks) is not None
        request.num_computed_tokens = hits + num_new
        while request.num_computed_tokens < len(prompt):
            num_new = min(chunk, len(prompt) - request.num_computed_tokens)
            assert self._manager.allocate_slots(request, num_new) is not None
            request.num_computed_tokens += num_new
        self._manager.free(request)
        return int(hits)


@settings(deadline=None, max_examples=200)
@given(KINDS, PROMPTS, st.sampled_from([7, 16, 1000]))
def test_hits_as_vllm(
    kind: CacheKind, drawn: Sequence[tuple[int, int, int, int]], chunk: int
) -> None:
    """Prompt by prompt as many tokens are served, however a prompt is cut into steps."""
    manager, cache = _Manager(kind), PrefixCache(BLOCK, kind)
    prompts = [_prompt(*each) for each in drawn]
    theirs = [manager.submit(str(index), each, chunk) for index, each in enumerate(prompts)]
    assert [cache.submit(prompt) for prompt in prompts] == theirs

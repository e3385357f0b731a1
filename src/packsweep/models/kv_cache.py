"""What a model keeps in the KV cache, and how vLLM lays it into blocks: pure arithmetic.

A layer keeps keys and values of ``num_kv_heads * head_dim`` elements each for a token, or one
latent vector of ``kv_lora_rank + qk_rope_head_dim`` (multi-head latent attention). Across GPUs the
heads are divided; where there are more GPUs than heads, and always of latents, each keeps a copy.

A layer with a sliding window gives up what lies before it. vLLM puts layers of one kind into groups
of equal size; a block belongs to one group, so it has ``group size`` layers.

Source: vLLM 0.32, ``v1/core/kv_cache_utils.py`` (``_get_kv_cache_groups_uniform_page_size``,
``get_max_concurrency_for_kv_cache_config``), ``v1/kv_cache_interface.py`` (``SlidingWindowSpec``).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from packsweep.errors import ModelError
from packsweep.models.config import integer, language_part

# Below this ratio of the larger kind to the smaller, both are padded to the larger.
_PAD_RATIO = 1.5
# Every how many layers one attends to everything, where the config leaves it to the model type.
# Source: configuration_gemma2.py and configuration_gemma3.py of transformers.
_FULL_EVERY = {"gemma2": 2, "gemma3_text": 6, "gemma3": 6}
# Keys of designs whose cache has other parts than the layers described here.
_FOREIGN_KEYS = {
    "attention_chunk_size": "chunked attention",
    "attn_type_list": "linear attention",
    "block_configs": "layers of different designs",
    "block_types": "layers of different designs",
    "full_attention_interval": "linear attention",
    "hybrid_override_pattern": "a state space model",
    "index_topk": "sparse attention with an index of its own",
    "linear_num_key_heads": "linear attention",
    "layers_block_type": "layers of different designs",
    "mamba_d_state": "a state space model",
    "multi_query": "keys that all heads share, under a key of its own",
    "num_kv_shared_layers": "layers that share their cache",
    "ssm_cfg": "a state space model",
    "ssm_state_size": "a state space model",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class KvLayout:
    """What a model keeps for a token.

    Attributes:
        windows: of each layer, in order; None attends to everything.
        num_kv_heads: of each layer; 1 for latents.
        elements_per_head: of a token in a layer, keys and values together.
        latent: multi-head latent attention.
    """

    windows: tuple[int | None, ...]
    num_heads: int
    num_kv_heads: int
    elements_per_head: int
    latent: bool
    max_model_len: int

    def layer_bytes_per_token(self, element_bytes: float, tensor_parallel_size: int = 1) -> float:
        """Return the bytes of a token in one layer on each GPU.

        Raises:
            ModelError: vLLM cannot divide the heads so.
        """
        ranks = tensor_parallel_size
        uneven = self.num_kv_heads % ranks and ranks % self.num_kv_heads
        if self.num_heads % ranks or (uneven and not self.latent):
            raise ModelError(
                f"tensor parallel {ranks}: {self.num_heads} heads and {self.num_kv_heads} KV heads "
                "cannot be divided so"
            )
        heads = 1 if self.latent else max(1, self.num_kv_heads // ranks)
        return heads * self.elements_per_head * element_bytes

    @property
    def elements_per_token(self) -> int | None:
        """Elements of a token in all layers; None where windows give tokens up again."""
        if any(self.windows):
            return None
        return len(self.windows) * self.num_kv_heads * self.elements_per_head

    @property
    def kinds(self) -> dict[int | None, int]:
        """Window -> number of layers."""
        return dict(Counter(self.windows))


def from_config(config: Mapping[str, object]) -> KvLayout:
    """Read the content of a Hugging Face ``config.json``.

    Raises:
        ModelError: the cache is of another design, or a figure is missing.
    """
    text = language_part(config)
    _refuse_foreign(text)
    num_heads = integer(text, "num_attention_heads")
    rank = text.get("kv_lora_rank")
    if rank:
        elements = integer(text, "kv_lora_rank") + integer(text, "qk_rope_head_dim")
        num_kv_heads = 1
    else:
        width = integer(text, "head_dim", default=integer(text, "hidden_size") // num_heads)
        elements = width + integer(text, "v_head_dim", default=width)
        num_kv_heads = integer(text, "num_key_value_heads", default=num_heads)
    return KvLayout(
        windows=_windows(text, integer(text, "num_hidden_layers")),
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        elements_per_head=elements,
        latent=bool(rank),
        max_model_len=integer(text, "max_position_embeddings"),
    )


def _refuse_foreign(text: Mapping[str, Any]) -> None:
    for key, design in _FOREIGN_KEYS.items():
        if text.get(key):
            raise ModelError(
                f"the KV cache of this model is not described: it has {design} ({key})"
            )


def _windows(text: Mapping[str, Any], num_layers: int) -> tuple[int | None, ...]:
    """Return the window of each layer.

    Where ``layer_types`` is missing, the model type or ``sliding_window_pattern`` says every how
    many layers one is without a window; else all have it, or, as Qwen2 has it, those from
    ``max_window_layers`` on.
    """
    window = text.get("sliding_window")
    types = text.get("layer_types")
    _refuse_layers(types)
    if not window or text.get("use_sliding_window") is False:
        return (None,) * num_layers
    size = integer(text, "sliding_window")
    if isinstance(types, Sequence) and len(types) == num_layers:
        return tuple(size if word == "sliding_attention" else None for word in types)
    every = text.get("sliding_window_pattern") or _FULL_EVERY.get(str(text.get("model_type")))
    if isinstance(every, int):
        return tuple(size if (index + 1) % every else None for index in range(num_layers))
    first = int(text.get("max_window_layers") or 0) if text.get("use_sliding_window") else 0
    return tuple(size if index >= first else None for index in range(num_layers))


def _refuse_layers(types: object) -> None:
    """Refuse a model some of whose layers keep something else than keys and values."""
    words = types if isinstance(types, Sequence) else ()
    for word in words:
        if word not in {"sliding_attention", "full_attention"}:
            raise ModelError(
                f"the KV cache of this model is not described: it has layers of type {word}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockPool:
    """vLLM's pool of blocks on one GPU.

    Attributes:
        layer_bytes_per_token: of one layer.
        in_flight_tokens: scheduled and not settled; what lies before a window is kept until then.
    """

    layout: KvLayout
    layer_bytes_per_token: float
    block_size: int = 16
    in_flight_tokens: int = 0

    @property
    def group_size(self) -> int:
        """Layers that share a block."""
        counts = self.layout.kinds.values()
        least, most = min(counts), max(counts)
        return most if most < least * _PAD_RATIO else least

    @property
    def block_bytes(self) -> int:
        """Bytes of one block, in all layers of a group."""
        return round(self.group_size * self.block_size * self.layer_bytes_per_token)

    def request_blocks(self, num_tokens: int) -> int:
        """Return the most blocks that a request of ``num_tokens``, prompt and output, holds."""
        whole = math.ceil(num_tokens / self.block_size)
        return sum(
            self._groups(count) * min(whole, self._window_blocks(window, num_tokens))
            for window, count in self.layout.kinds.items()
        )

    def request_bytes(self, num_tokens: int) -> int:
        """Return the most bytes that such a request holds."""
        return self.request_blocks(num_tokens) * self.block_bytes

    def num_blocks(self, room_bytes: int) -> int:
        """Return how many blocks fit into ``room_bytes``."""
        return max(room_bytes, 0) // self.block_bytes

    def capacity_tokens(self, room_bytes: int, max_model_len: int) -> int:
        """Return what vLLM logs as ``GPU KV cache size``: tokens in requests of the full length."""
        reserved = sum(
            self._groups(count) * self._window_blocks(window, max_model_len)
            for window, count in self.layout.kinds.items()
        )
        return int(self.num_blocks(room_bytes) / reserved * max_model_len)

    def longest_request(self, room_bytes: int, max_model_len: int) -> int:
        """Return the most tokens of one request alone; one block stays unused."""
        usable = self.num_blocks(room_bytes) - 1
        low, high = 0, max_model_len
        while low < high:
            middle = (low + high + 1) // 2
            if self.request_blocks(middle) <= usable:
                low = middle
            else:
                high = middle - 1
        return low

    def _groups(self, num_layers: int) -> int:
        return math.ceil(num_layers / self.group_size)

    def _window_blocks(self, window: int | None, num_tokens: int) -> int:
        """Return the blocks that a layer reserves; a window may begin within a block."""
        if window is None:
            return math.ceil(num_tokens / self.block_size)
        held = min(window - 1 + self.in_flight_tokens, num_tokens)
        return math.ceil(held / self.block_size) + 1

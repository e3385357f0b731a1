"""What a model keeps in the KV cache, and how vLLM lays it into blocks: pure arithmetic.

A layer keeps keys and values of ``num_kv_heads * head_dim`` elements each for a token, or one
latent vector of ``kv_lora_rank + qk_rope_head_dim`` (multi-head latent attention). Across GPUs the
heads are divided; where there are more GPUs than heads, and always of latents, each keeps a copy.
Across pipeline stages the layers of each group are divided, and the blocks have the same numbers on
all of them.

A layer with a sliding window frees what lies before it. vLLM puts layers of one kind into groups
of equal size; a block belongs to one group, so it has ``group size`` layers.

Source: vLLM 0.32, ``v1/core/kv_cache_utils.py`` (``_get_kv_cache_groups_uniform_page_size``,
``get_max_concurrency_for_kv_cache_config``), ``v1/kv_cache_interface.py`` (``SlidingWindowSpec``).
"""

from __future__ import annotations

import bisect
import math
from collections import Counter
from dataclasses import dataclass

from packsweep.errors import ModelError
from packsweep.models.architecture.config import ModelConfig

# Below this ratio of the larger kind to the smaller, both are padded to the larger.
_PAD_RATIO = 1.5


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
    num_kv_heads: int
    elements_per_head: int
    latent: bool

    def layer_bytes_per_token(self, element_bytes: float, tensor_parallel_size: int = 1) -> float:
        """Return the bytes of a token in one layer on each GPU; ``split`` says what is refused."""
        heads = 1 if self.latent else max(1, self.num_kv_heads // tensor_parallel_size)
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

    @property
    def group_size(self) -> int:
        """Layers that share a block."""
        counts = self.kinds.values()
        least, most = min(counts), max(counts)
        return most if most < least * _PAD_RATIO else least

    def layers_in_block(self, stage: range) -> int:
        """Return how many layers share a block on a pipeline stage that has the layers ``stage``.

        Every how many-th layer of a kind is of one group, so that a stage has some of each.
        """
        held = []
        for window, num_groups in self.groups.items():
            layers = [index for index, each in enumerate(self.windows) if each == window]
            of_groups = (layers[start::num_groups] for start in range(num_groups))
            held += [sum(index in stage for index in group) for group in of_groups]
        return max(held)

    @property
    def groups(self) -> dict[int | None, int]:
        """Window -> number of groups of layers, each with blocks of its own."""
        return {window: math.ceil(num / self.group_size) for window, num in self.kinds.items()}


def from_config(config: ModelConfig) -> KvLayout:
    """Return what a model keeps for a token.

    Raises:
        ModelError: the cache is of another design, or a figure is missing.
    """
    foreign = config.foreign_cache or _foreign_layers(config)
    if foreign:
        raise ModelError(f"the KV cache of this model is not described: {foreign}")
    elements, num_kv_heads = 2 * config.head_width, config.num_kv_heads
    if config.kv_lora_rank:
        elements, num_kv_heads = config.kv_lora_rank + config.need("qk_rope_head_dim"), 1
    elif config.v_head_dim:
        elements = config.head_width + config.v_head_dim
    return KvLayout(
        windows=_windows(config),
        num_kv_heads=num_kv_heads,
        elements_per_head=elements,
        latent=config.kv_lora_rank is not None,
    )


def _foreign_layers(config: ModelConfig) -> str | None:
    """Say which layers keep something else than keys and values, if there are such."""
    for word in config.layer_types:
        if word not in {"sliding_attention", "full_attention"}:
            return f"it has layers of type {word[:40]}"
    return None


def _windows(config: ModelConfig) -> tuple[int | None, ...]:
    """Return the window of each layer.

    Where ``layer_types`` is missing, the model type or ``sliding_window_pattern`` says every how
    many layers one is without a window; else all have it, or, as Qwen2 has it, those from
    ``max_window_layers`` on.
    """
    size, layers = config.sliding_window, range(config.need("num_hidden_layers"))
    if size is None or config.use_sliding_window is False:
        return (None,) * len(layers)
    if len(config.layer_types) == len(layers):
        return tuple(size if word == "sliding_attention" else None for word in config.layer_types)
    every = config.sliding_window_pattern
    if every is not None:
        return tuple(size if (index + 1) % every else None for index in layers)
    first = (config.max_window_layers or 0) if config.use_sliding_window else 0
    return tuple(size if index >= first else None for index in layers)


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockPool:
    """vLLM's pool of blocks on one GPU.

    Attributes:
        num_layers: that share a block on this GPU; None: the layers of a group, as one stage has.
        layer_bytes_per_token: of one layer.
        in_flight_tokens: scheduled and not settled; what lies before a window is kept until then.
    """

    layout: KvLayout
    layer_bytes_per_token: float
    block_size: int = 16
    in_flight_tokens: int = 0
    num_layers: int | None = None

    @property
    def block_bytes(self) -> int:
        """Bytes of one block, in all layers of a group that this GPU has."""
        num_layers = self.layout.group_size if self.num_layers is None else self.num_layers
        return round(num_layers * self.block_size * self.layer_bytes_per_token)

    def request_blocks(self, num_tokens: int) -> int:
        """Return the most blocks that a request of ``num_tokens``, prompt and output, holds."""
        whole = math.ceil(num_tokens / self.block_size)
        return sum(
            num_groups * min(whole, self._window_blocks(window, num_tokens))
            for window, num_groups in self.layout.groups.items()
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
            num_groups * self._window_blocks(window, max_model_len)
            for window, num_groups in self.layout.groups.items()
        )
        return int(self.num_blocks(room_bytes) / reserved * max_model_len)

    def longest_request(self, room_bytes: int, max_model_len: int) -> int:
        """Return the most tokens of one request alone; one block stays unused."""
        usable = self.num_blocks(room_bytes) - 1
        lengths = range(1, max_model_len + 1)
        return bisect.bisect_right(lengths, usable, key=self.request_blocks)

    def _window_blocks(self, window: int | None, num_tokens: int) -> int:
        """Return the blocks that a layer reserves; a window may begin within a block."""
        if window is None:
            return math.ceil(num_tokens / self.block_size)
        held = min(window - 1 + self.in_flight_tokens, num_tokens)
        return math.ceil(held / self.block_size) + 1

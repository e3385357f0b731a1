"""KV cache by layers, blocks and GPUs, against figures worked out by hand and against vLLM."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.models.architecture import test_shape

from packsweep.errors import ModelError
from packsweep.models.architecture import kv_cache, parameters
from packsweep.models.architecture.config import ModelConfig
from packsweep.models.architecture.kv_cache import BlockPool, KvLayout
from packsweep.models.architecture.split import Split
from packsweep.models.known import KNOWN

TINY = {**test_shape.TINY, "num_hidden_layers": 4}
# In bf16, all layers; layers x 2 x KV heads x width x 2 B, or layers x (512 + 64) x 2 B.
BYTES_PER_TOKEN = {
    "llama-3.1-8b": 131_072,
    "llama-3.1-70b": 327_680,
    "qwen2.5-7b": 57_344,
    "qwen2.5-72b": 327_680,
    "qwen3-8b": 147_456,
    "qwen3-32b": 262_144,
    "qwen3-30b-a3b": 98_304,
    "qwen3-235b-a22b": 192_512,
    "mistral-7b-v0.3": 131_072,
    "mixtral-8x7b": 131_072,
    "gemma-2-9b": 344_064,
    "gemma-2-27b": 376_832,
    "gemma-3-1b": 26_624,
    "gemma-3-12b": 393_216,
    "gemma-3-27b": 507_904,
    "deepseek-v3": 70_272,
}
# As transformers builds them (test_parameters_as_transformers).
PARAMETERS = {
    "llama-3.1-8b": 8_030_261_248,
    "llama-3.1-70b": 70_553_706_496,
    "qwen2.5-7b": 7_615_616_512,
    "qwen2.5-72b": 72_706_203_648,
    "qwen3-8b": 8_190_735_360,
    "qwen3-32b": 32_762_123_264,
    "qwen3-30b-a3b": 30_532_122_624,
    "qwen3-235b-a22b": 235_093_634_560,
    "mistral-7b-v0.3": 7_248_023_552,
    "mixtral-8x7b": 46_702_792_704,
    "gemma-2-9b": 9_241_705_984,
    "gemma-2-27b": 27_227_128_320,
    "gemma-3-1b": 999_885_952,
    "gemma-3-12b": 11_766_034_176,
    "gemma-3-27b": 27_009_346_304,
    "deepseek-v3": 671_026_404_352,
}
POOLS = st.builds(
    BlockPool,
    layout=st.lists(st.sampled_from([None, 8, 32]), min_size=1, max_size=9).map(
        lambda windows: KvLayout(
            windows=tuple(windows),
            num_kv_heads=2,
            elements_per_head=4,
            latent=False,
        )
    ),
    layer_bytes_per_token=st.just(16.0),
    block_size=st.sampled_from([1, 4, 16]),
    in_flight_tokens=st.integers(0, 40),
)


def _bytes(layout: KvLayout, *, tp: int = 1, size: float = 2.0) -> float:
    return len(layout.windows) * layout.layer_bytes_per_token(size, tp)


def _known(name: str) -> KvLayout:
    return kv_cache.from_config(ModelConfig.of(KNOWN[name].config))


def _pool(name: str, **more: Any) -> BlockPool:
    layout = _known(name)
    size = layout.layer_bytes_per_token(2.0)
    return BlockPool(layout=layout, layer_bytes_per_token=size, **more)


def test_llama_by_hand() -> None:
    """Llama-3.1-8B: 32 layers x 8 KV heads x 128 x 2 (K, V) x 2 B are 131,072 B per token."""
    assert 32 * 8 * 128 * 2 * 2 == 131_072
    assert _bytes(_known("llama-3.1-8b")) == 131_072


def test_deepseek_by_hand() -> None:
    """DeepSeek-V3: 61 layers x (512 latent + 64 rotary) x 2 B are 70,272 B per token."""
    assert 61 * (512 + 64) * 2 == 70_272
    assert _bytes(_known("deepseek-v3")) == 70_272


@pytest.mark.parametrize("name", KNOWN)
def test_bytes_per_token_of_known_models(name: str) -> None:
    """Every shipped shape has its exact figure, and fp8 half of it."""
    assert _bytes(_known(name)) == BYTES_PER_TOKEN[name]
    assert _bytes(_known(name), size=1.0) == BYTES_PER_TOKEN[name] / 2


@pytest.mark.parametrize("name", KNOWN)
def test_parameters_of_known_models(name: str) -> None:
    """Every shipped shape has its exact number of parameters."""
    counted = parameters.count(ModelConfig.of(KNOWN[name].config))
    assert counted is not None
    assert counted.total == PARAMETERS[name]


@pytest.mark.parametrize(("tp", "share"), [(1, 1), (4, 4), (8, 8), (16, 8), (32, 8)])
def test_tensor_parallel_heads(tp: int, share: int) -> None:
    """Eight KV heads are divided among eight GPUs; beyond that they are copied."""
    assert _bytes(_known("llama-3.1-8b"), tp=tp) == 131_072 / share


def test_layers_in_block_by_hand() -> None:
    """Of 52 windows and 10 full layers, in groups of ten, half of the stages have half of each."""
    layout = _known("gemma-3-27b")
    assert layout.layers_in_block(range(62)) == layout.group_size == 10
    assert [layout.layers_in_block(each) for each in (range(31), range(31, 62))] == [5, 5]


@pytest.mark.parametrize("tp", [1, 2, 8, 128])
def test_tensor_parallel_latents(tp: int) -> None:
    """Every GPU holds the latents whole."""
    assert _bytes(_known("deepseek-v3"), tp=tp) == 70_272


@pytest.mark.parametrize(
    ("name", "windows"),
    [
        ("gemma-2-9b", {4096: 21, None: 21}),
        ("gemma-3-1b", {512: 22, None: 4}),
        ("gemma-3-27b", {1024: 52, None: 10}),
        ("mistral-7b-v0.3", {None: 32}),
    ],
)
def test_windows_of_known_models(name: str, windows: dict[int | None, int]) -> None:
    """Gemma 2 alternates, Gemma 3 has one full layer in six; Mistral 0.3 has no window."""
    assert _known(name).kinds == windows


@pytest.mark.parametrize(
    ("more", "windows"),
    [
        ({"sliding_window": 8}, (8, 8, 8, 8)),
        ({"sliding_window": 8, "use_sliding_window": False}, (None,) * 4),
        (
            {"sliding_window": 8, "use_sliding_window": True, "max_window_layers": 3},
            (None, None, None, 8),
        ),
        ({"sliding_window": 8, "sliding_window_pattern": 2}, (8, None, 8, None)),
        (
            {
                "sliding_window": 8,
                "layer_types": ["full_attention", *["sliding_attention"] * 3],
            },
            (None, 8, 8, 8),
        ),
    ],
)
def test_windows_of_configs(more: dict[str, Any], windows: tuple[int | None, ...]) -> None:
    """A config says in several ways which layers have a window."""
    assert kv_cache.from_config(ModelConfig.of(TINY | more)).windows == windows


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"mamba_d_state": 16}, "a state space model"),
        ({"num_kv_shared_layers": 2}, "layers that share their cache"),
        (
            {"sliding_window": 8, "layer_types": ["linear_attention"] * 4},
            "layers of type linear_attention",
        ),
    ],
)
def test_other_designs_refused(more: dict[str, Any], said: str) -> None:
    """A cache with other parts is refused, not guessed."""
    with pytest.raises(ModelError, match=said):
        kv_cache.from_config(ModelConfig.of(TINY | more))


def test_unknown_type_has_a_cache() -> None:
    """Grouped-query attention is known by its figures; only the parameters need the type."""
    config = TINY | {"model_type": "brand_new"}
    assert _bytes(kv_cache.from_config(ModelConfig.of(config))) == 4 * 2 * 2 * 2 * 2
    assert parameters.count(ModelConfig.of(config)) is None


def test_request_in_whole_blocks() -> None:
    """17 tokens take two blocks of 16, each in all 32 layers."""
    assert _pool("llama-3.1-8b").request_bytes(17) == 2 * 16 * 131_072


def test_request_past_a_window() -> None:
    """Gemma 3 27B at 131,072 tokens: 8,192 full blocks, and 6 groups of 2,113 within the window."""
    pool = _pool("gemma-3-27b", in_flight_tokens=32_768)
    assert -(-(1023 + 32_768) // 16) + 1 == 2_113
    assert pool.layout.group_size == 10
    assert pool.request_blocks(131_072) == 8_192 + 6 * 2_113


def test_capacity_in_whole_blocks() -> None:
    """A thousand blocks and a bit hold 16,000 tokens."""
    pool = _pool("llama-3.1-8b")
    room = 1000 * pool.block_bytes + 7
    assert pool.num_blocks(room) == 1000
    assert pool.capacity_tokens(room, 131_072) == 16_000
    assert pool.longest_request(room, 131_072) == 999 * 16  # vLLM keeps a block to itself


def test_no_room() -> None:
    """Weights beyond the memory leave no block."""
    pool = _pool("llama-3.1-8b")
    assert pool.num_blocks(-1) == pool.longest_request(-1, 100) == 0


@given(POOLS, st.integers(0, 400), st.integers(0, 99))
def test_request_grows_with_tokens(pool: BlockPool, tokens: int, more: int) -> None:
    """A longer request never takes less."""
    assert pool.request_bytes(tokens) <= pool.request_bytes(tokens + more)


@given(POOLS, st.integers(0, 10**6), st.integers(0, 10**5))
def test_fits_grow_with_room(pool: BlockPool, room: int, more: int) -> None:
    """More memory never holds less."""
    assert pool.longest_request(room, 500) <= pool.longest_request(room + more, 500)
    assert pool.capacity_tokens(room, 500) <= pool.capacity_tokens(room + more, 500)


@given(POOLS, st.integers(0, 10**6))
def test_longest_request_fits_and_no_longer(pool: BlockPool, room: int) -> None:
    """The longest request fits, and one token more would not."""
    longest = pool.longest_request(room, 500)
    usable = pool.num_blocks(room) - 1
    assert longest == 0 or pool.request_blocks(longest) <= usable
    assert longest == 500 or pool.request_blocks(longest + 1) > usable


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gemma-2-9b", "gemma-3-1b", "gemma-3-12b", "gemma-3-27b"])
def test_capacity_as_vllm(name: str) -> None:
    """vLLM groups the layers so and logs as many tokens."""
    torch = pytest.importorskip("torch")
    interface = pytest.importorskip("vllm.v1.kv_cache_interface")
    utils = pytest.importorskip("vllm.v1.core.kv_cache_utils")
    if not hasattr(utils, "get_kv_cache_capacity"):
        pytest.skip("this vLLM counts its capacity elsewhere")
    pool = _pool(name, in_flight_tokens=32_768)
    layout, limit = pool.layout, ModelConfig.of(KNOWN[name].config).need("max_model_len")
    shared = {
        "block_size": 16,
        "num_kv_heads": layout.num_kv_heads,
        "head_size": layout.elements_per_head // 2,
        "dtype": torch.bfloat16,
    }
    specs = {
        f"layer{index}": interface.FullAttentionSpec(**shared)
        if window is None
        else interface.SlidingWindowSpec(**shared, sliding_window=window)
        for index, window in enumerate(layout.windows)
    }
    groups = utils._get_kv_cache_groups_uniform_page_size(specs)
    config = SimpleNamespace(
        model_config=SimpleNamespace(max_model_len=limit),
        parallel_config=SimpleNamespace(decode_context_parallel_size=1),
        max_in_flight_tokens=32_768,
    )
    room = 40 * 2**30
    made = SimpleNamespace(num_blocks=pool.num_blocks(room), kv_cache_groups=groups)
    capacity, _ = utils.get_kv_cache_capacity(config, made)
    assert capacity == pool.capacity_tokens(room, limit)
    assert groups[0].kv_cache_spec.page_size_bytes * pool.layout.group_size == pool.block_bytes
    for stage in Split(pipeline_parallel_size=3).stages(len(layout.windows)):
        held = {f"layer{index}" for index in stage}
        most = max(len(held.intersection(group.layer_names)) for group in groups)
        assert layout.layers_in_block(stage) == most


@pytest.mark.slow
@pytest.mark.parametrize("name", KNOWN)
def test_parameters_as_transformers(name: str) -> None:
    """Every shipped shape has as many parameters as transformers makes of its config."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    config = {key: v for key, v in KNOWN[name].config.items() if key != "quantization_config"}
    with torch.device("meta"):
        made = transformers.AutoModelForCausalLM.from_config(
            transformers.AutoConfig.for_model(**config)
        )
    assert sum(each.numel() for each in made.parameters()) == PARAMETERS[name]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layer_types": ["conv", "full_attention"]}, "layers of type conv"),
        ({"multi_query": True}, "multi_query"),
        ({"block_configs": [{}, {}]}, "layers of different designs"),
        ({"attn_type_list": [0, 1]}, "linear attention"),
    ],
)
def test_from_config_other_layers(changes: dict[str, Any], message: str) -> None:
    """Layers without keys and values are refused, also where no window is set."""
    config = {"num_hidden_layers": 2, "hidden_size": 8, "num_attention_heads": 2}
    config |= {"max_position_embeddings": 64}
    assert kv_cache.from_config(ModelConfig.of(config)).elements_per_token == 2 * 2 * 8
    with pytest.raises(ModelError, match=message):
        kv_cache.from_config(ModelConfig.of(config | changes))

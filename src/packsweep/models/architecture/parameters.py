"""How many parameters a language model has, from its ``config.json``: no weights are read.

Most designs stand in ``shape``; here are those that it does not describe.

Source: modeling_*.py of these model types in transformers, whose counts a test compares.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from packsweep.errors import DesignError
from packsweep.models.architecture.config import ModelConfig
from packsweep.models.architecture.shape import FAMILIES, ModelShape
from packsweep.models.architecture.split import Split


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """Parameters of a language model, by how a quantized checkpoint treats them.

    Attributes:
        matrices: entries of the layers' matrices, the experts' among them.
        experts: entries of the experts' matrices.
        vectors: norms and biases, which stay in 16 bits, as the tables do.
        table: entries of the table of tokens.
        num_tables: 2 where the output projection is one of its own.
    """

    matrices: int
    experts: int
    vectors: int
    table: int
    num_tables: int

    @property
    def others(self) -> int:
        """Entries that are no layer's matrix."""
        return self.vectors + self.num_tables * self.table

    @property
    def total(self) -> int:
        return self.matrices + self.others

    def stages(self, split: Split, num_layers: int) -> tuple[Parameters, ...]:
        """Return the part of each pipeline stage; layers are taken to be alike.

        The first has the table of tokens, the last the output projection, which of tied tables is
        the same one again.

        Source: vLLM 0.32, model_executor/models/llama.py (``LlamaModel``, ``LlamaForCausalLM``).
        """
        stages = split.stages(num_layers)
        if len(stages) == 1:
            return (self,)
        tables = [1, *(0 for _ in stages[2:]), 1]
        return tuple(
            replace(
                self,
                matrices=round(self.matrices * len(layers) / num_layers),
                experts=round(self.experts * len(layers) / num_layers),
                vectors=round(self.vectors * len(layers) / num_layers),
                num_tables=tables_held,
            )
            for layers, tables_held in zip(stages, tables, strict=True)
        )


def count(config: ModelConfig) -> Parameters | None:
    """Return the parameters; None for a design that is not known.

    Raises:
        ModelError: a figure is missing.
    """
    if config.model_type in FAMILIES:
        try:
            return of_shape(ModelShape.from_config(config))
        except DesignError:
            return None
    layers = _LAYERS.get(config.model_type)
    if layers is None:
        return None
    matrices, experts, vectors = layers(config)
    return Parameters(
        matrices=matrices,
        experts=experts,
        vectors=config.need("num_hidden_layers") * vectors + config.need("hidden_size"),
        table=table(config),
        num_tables=num_tables(config),
    )


def of_shape(shape: ModelShape) -> Parameters:
    table_entries, num = shape.vocab_size * shape.hidden_size, 1 if shape.tie_word_embeddings else 2
    matrices = shape.num_matrix_entries
    return Parameters(
        matrices=matrices,
        experts=shape.num_expert_entries,
        vectors=shape.num_parameters - matrices - num * table_entries,
        table=table_entries,
        num_tables=num,
    )


def table(config: ModelConfig) -> int:
    """Return the entries of the table of tokens."""
    return config.need("vocab_size") * config.need("hidden_size")


def num_tables(config: ModelConfig) -> int:
    """Return 1 where the output projection is the table of tokens, else 2."""
    tied = config.tie_word_embeddings
    if tied is None:
        tied = config.model_type in _TIED
    return 1 if tied else 2


# Entries of all layers' matrices, of the experts among them, and of a layer's vectors.
_Counts = tuple[int, int, int]


def _heads(config: ModelConfig) -> int:
    """Entries of the projections of grouped-query attention in a layer."""
    heads = config.need("num_attention_heads") + config.num_kv_heads
    return 2 * config.need("hidden_size") * config.head_width * heads


def _mlp(config: ModelConfig, width: str = "intermediate_size") -> int:
    """Entries of a gated MLP: gate, up and down."""
    return 3 * config.need("hidden_size") * config.need(width)


def _gemma(config: ModelConfig) -> _Counts:
    """Four norms a layer, in Gemma 3 two more of the head's width."""
    norms = 4 * config.need("hidden_size")
    if config.model_type != "gemma2":
        norms += 2 * config.head_width
    return config.need("num_hidden_layers") * (_heads(config) + _mlp(config)), 0, norms


def _gpt_oss(config: ModelConfig) -> _Counts:
    """Biases everywhere, the experts' and the router's too, and a sink for each head."""
    layers, hidden = config.need("num_hidden_layers"), config.need("hidden_size")
    heads, num_experts = config.need("num_attention_heads"), config.need("num_experts")
    width = config.need("intermediate_size")
    experts = num_experts * _mlp(config)
    attention = config.head_width * (heads + 2 * config.num_kv_heads) + hidden + heads
    vectors = attention + num_experts * (1 + 2 * width + hidden) + 2 * hidden
    matrices = _heads(config) + experts + hidden * num_experts
    return layers * matrices, layers * experts, vectors


def _deepseek_v3(config: ModelConfig) -> _Counts:
    """Latent attention, the first layers dense, the rest of experts.

    Layers that predict further tokens (``num_nextn_predict_layers``) are not counted: vLLM loads
    them for speculative decoding alone.
    """
    layers, hidden = config.need("num_hidden_layers"), config.need("hidden_size")
    num_dense = min(config.first_k_dense_replace or 0, layers)
    num_experts = config.need("num_experts")
    num_mlps = num_experts + (config.n_shared_experts or 0)
    experts = (layers - num_dense) * num_mlps * _mlp(config, "moe_intermediate_size")
    routers = (layers - num_dense) * num_experts * hidden
    matrices = layers * _latent_attention(config, hidden) + num_dense * _mlp(config)
    latents = config.need("kv_lora_rank") + (config.q_lora_rank or 0)
    return matrices + experts + routers, experts, latents + 2 * hidden


def _latent_attention(config: ModelConfig, hidden: int) -> int:
    heads, rank = config.need("num_attention_heads"), config.need("kv_lora_rank")
    nope, rope, value = map(config.need, ("qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim"))
    query = hidden * heads * (nope + rope)
    if config.q_lora_rank:
        query = config.q_lora_rank * (hidden + heads * (nope + rope))
    keys = hidden * (rank + rope) + rank * heads * (nope + value)
    return query + keys + heads * value * hidden


_TIED = {"gemma2", "gemma3", "gemma3_text"}
_LAYERS: dict[str, Callable[[ModelConfig], _Counts]] = {
    "deepseek_v3": _deepseek_v3,
    "gemma2": _gemma,
    "gemma3_text": _gemma,
    "gpt_oss": _gpt_oss,
}

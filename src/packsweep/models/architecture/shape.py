"""The shape of a model, and what follows from it: parameters, bytes, FLOPs.

Pure functions of a ``config.json``; no weights are read. A multiply and an add count as two FLOPs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from packsweep.errors import DesignError
from packsweep.models.architecture.config import ModelConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class _Family:
    """What a model type fixes without saying so in its ``config.json``.

    Attributes:
        qkv_bias: query, key and value projections have a bias; None: as ``attention_bias`` says.
        output_bias: the attention's output projection has one; None: as ``attention_bias`` says.
        mlp_bias: the MLP's matrices have biases; None: as ``mlp_bias`` says.
        qk_norm: queries and keys are normalized over the head dimension.
        tied: ``tie_word_embeddings`` where the config does not say.
        expert_size: the key of an expert's width; None: the MLP is dense.
    """

    qkv_bias: bool | None = None
    output_bias: bool | None = None
    mlp_bias: bool | None = None
    qk_norm: bool = False
    tied: bool = False
    expert_size: str | None = None


_PLAIN = _Family(qkv_bias=False, output_bias=False, mlp_bias=False)

# Decoders with two norms a layer, one norm at the end and a gated MLP, or experts that are such.
# Source: modeling_*.py and configuration_*.py of these model types in transformers.
FAMILIES: dict[str, _Family] = {
    "granite": _Family(),
    "llama": _Family(),
    "ministral3": _PLAIN,
    "mistral": _PLAIN,
    "mixtral": replace(_PLAIN, expert_size="intermediate_size"),
    "phi3": _PLAIN,
    "qwen2": _Family(qkv_bias=True, output_bias=False, mlp_bias=False),
    "qwen3": _Family(mlp_bias=False, qk_norm=True),
    "qwen3_moe": _Family(mlp_bias=False, qk_norm=True, expert_size="moe_intermediate_size"),
    "smollm3": _Family(tied=True),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Experts:
    """A mixture of experts in place of the MLP, each of them a gated MLP.

    Attributes:
        num_experts_per_tok: to so many of a layer's experts a token is routed.
        num_layers: that have experts; the others are dense.
    """

    num_experts: int
    num_experts_per_tok: int
    intermediate_size: int
    num_layers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """A decoder with grouped-query attention and a gated MLP, or a mixture of such.

    Every layer is taken to attend to the whole context: for a model with a sliding window the
    attention and cache figures are upper bounds beyond that window. The vision part of a multimodal
    model is not counted.

    Attributes:
        head_dim: width of one attention head; ``num_heads * head_dim`` need not be ``hidden_size``.
        tie_word_embeddings: the output projection is the embedding table, stored once.
        model_type: the config's ``model_type``, of the text part.
        experts: None of a dense model.
    """

    num_layers: int
    hidden_size: int
    intermediate_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vocab_size: int
    tie_word_embeddings: bool
    model_type: str
    qkv_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False
    experts: Experts | None = None

    @classmethod
    def from_config(cls, config: ModelConfig) -> ModelShape:
        """Return the shape of a design that is described here.

        Raises:
            DesignError: the model is of another design.
            ModelError: a figure is missing.
        """
        family = _family(config)
        tied = config.tie_word_embeddings
        return cls(
            num_layers=config.need("num_hidden_layers"),
            hidden_size=config.need("hidden_size"),
            intermediate_size=config.need("intermediate_size"),
            num_heads=config.need("num_attention_heads"),
            num_kv_heads=config.num_kv_heads,
            head_dim=config.head_width,
            vocab_size=config.need("vocab_size"),
            tie_word_embeddings=family.tied if tied is None else tied,
            model_type=config.model_type,
            qkv_bias=_bias(family.qkv_bias, config.attention_bias),
            output_bias=_bias(family.output_bias, config.attention_bias),
            mlp_bias=_bias(family.mlp_bias, config.mlp_bias),
            qk_norm=family.qk_norm,
            experts=_experts(config, family.expert_size) if family.expert_size else None,
        )

    @property
    def _q_size(self) -> int:
        return self.num_heads * self.head_dim

    @property
    def _kv_size(self) -> int:
        return self.num_kv_heads * self.head_dim

    def _linear_parameters(self, *, active: bool) -> int:
        """Matrix entries of all layers: q, k, v, o, and gate, up, down, or experts and router.

        ``active``: of the experts only those that a token is routed to.
        """
        attention = self.hidden_size * (2 * self._q_size + 2 * self._kv_size)
        mlp = 3 * self.hidden_size * self.intermediate_size
        if self.experts is None:
            return self.num_layers * (attention + mlp)
        experts = self.experts
        used = experts.num_experts_per_tok if active else experts.num_experts
        entries = 3 * used * experts.intermediate_size + experts.num_experts
        num_dense = self.num_layers - experts.num_layers
        routed = experts.num_layers * self.hidden_size * entries
        return self.num_layers * attention + num_dense * mlp + routed

    @property
    def num_matrix_entries(self) -> int:
        """Entries of the layers' matrices, those of all experts and of the router among them."""
        return self._linear_parameters(active=False)

    @property
    def num_expert_entries(self) -> int:
        """Entries of all experts' matrices."""
        if self.experts is None:
            return 0
        entries = 3 * self.hidden_size * self.experts.intermediate_size
        return self.experts.num_layers * self.experts.num_experts * entries

    @property
    def _vector_parameters_per_layer(self) -> int:
        """Entries of the norms and of the biases."""
        norms = 2 * self.hidden_size + (2 * self.head_dim if self.qk_norm else 0)
        qkv_bias = self._q_size + 2 * self._kv_size if self.qkv_bias else 0
        output_bias = self.hidden_size if self.output_bias else 0
        mlp_bias = 2 * self.intermediate_size + self.hidden_size if self.mlp_bias else 0
        return norms + qkv_bias + output_bias + mlp_bias

    @property
    def num_parameters(self) -> int:
        """Parameters, a tied embedding table counted once."""
        tables = 1 if self.tie_word_embeddings else 2
        return (
            self.num_matrix_entries
            + self.num_layers * self._vector_parameters_per_layer
            + self.hidden_size
            + tables * self.vocab_size * self.hidden_size
        )

    @property
    def matmul_flops_per_token(self) -> int:
        """FLOPs of one token in the linear projections of all layers.

        ``2 * num_layers * (hidden * (2 * q + 2 * kv) + 3 * hidden * intermediate)`` with
        ``q = num_heads * head_dim`` and ``kv = num_kv_heads * head_dim``: two for each parameter of
        a projection; of a mixture those of the experts that a token is routed to, and of the
        router. Attention scores (``attention_flops``), the output projection
        (``lm_head_flops``), norms and biases are not in it.

        Source: J. Kaplan et al., "Scaling Laws for Neural Language Models", 2020, table 1, with
        grouped keys and values and a third MLP matrix.
        """
        return 2 * self._linear_parameters(active=True)

    @property
    def lm_head_flops(self) -> int:
        """FLOPs of the output projection, spent once for each sampled token."""
        return 2 * self.hidden_size * self.vocab_size

    def attention_flops(self, num_new_tokens: int, context_tokens: int) -> int:
        """Return the FLOPs of the attention scores and of weighing the values.

        The last ``num_new_tokens`` of ``context_tokens`` are computed, the ones before them come
        from the cache. A token attends to itself and to all before it, so with ``m`` new tokens
        after ``c`` cached ones there are ``m * c + m * (m + 1) / 2`` pairs, each
        ``4 * num_heads * head_dim`` FLOPs a layer (scores and values, two each). The causal half
        alone is counted, as in the kernels that skip the masked half.

        Source: T. Dao, "FlashAttention-2", 2023, section 4.1, there for the whole square.

        Raises:
            ValueError: more new tokens than context.
        """
        if not 0 <= num_new_tokens <= context_tokens:
            raise ValueError(f"{num_new_tokens} new tokens do not fit in {context_tokens}")
        num_cached_tokens = context_tokens - num_new_tokens
        pairs = num_new_tokens * num_cached_tokens + num_new_tokens * (num_new_tokens + 1) // 2
        return 4 * self.num_layers * self._q_size * pairs

    @property
    def kv_elements_per_token(self) -> int:
        """Elements of one token's keys and values in all layers."""
        return 2 * self.num_layers * self._kv_size

    def kv_cache_bytes_per_token(self, bytes_per_element: float) -> int:
        """Return the bytes of one token's keys and values in all layers, 2 an element in bf16."""
        return round(self.kv_elements_per_token * bytes_per_element)


def _family(config: ModelConfig) -> _Family:
    """Return what the model type fixes, or refuse the model."""
    family, name = FAMILIES.get(config.model_type), repr(config.model_type)[:60]
    if config.experts_key and not (family and family.expert_size):
        raise DesignError(f"model_type {name} is a mixture of experts ({config.experts_key})")
    if config.kv_lora_rank:
        raise DesignError(f"model_type {name} is multi-head latent attention (kv_lora_rank)")
    if family is None:
        raise DesignError(f"no formula is known for model_type {name}")
    return family


def _bias(fixed: bool | None, said: bool | None) -> bool:  # noqa: FBT001  # three states each
    """Return what the family fixes, or else what the config says."""
    return bool(said) if fixed is None else fixed


def _experts(config: ModelConfig, size: str) -> Experts:
    """Read the experts; every ``decoder_sparse_step``-th layer has them, if not named as dense.

    Source: Qwen3MoeDecoderLayer of transformers; Mixtral has them in all layers.
    """
    step, layers = config.decoder_sparse_step or 1, range(config.need("num_hidden_layers"))
    sparse = [(i + 1) % step == 0 and i not in config.mlp_only_layers for i in layers]
    return Experts(
        num_experts=config.need("num_experts"),
        num_experts_per_tok=config.need("num_experts_per_tok"),
        intermediate_size=config.need(size),
        num_layers=sum(sparse),
    )

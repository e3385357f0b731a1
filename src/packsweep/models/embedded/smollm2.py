"""SmolLM2-135M-Instruct out of its GGUF: weights and tokenizer in the form of the hub.

GGUF holds the weights quantized, names the tensors in its own way and keeps the rows of the
attention in another order.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packsweep.models.embedded import hub_format

if TYPE_CHECKING:
    import gguf
    import numpy as np
    from tokenizers import Tokenizer

_CONTROL = 3  # GGUF's token type of special tokens


def write(source: Path, folder: Path) -> None:
    """Write SmolLM2-135M-Instruct in bf16; the source holds it quantized to about 4 bits."""
    import gguf

    reader = gguf.GGUFReader(source)
    facts = {key: field.contents() for key, field in reader.fields.items()}
    config = _config(facts)
    hub_format.write(
        folder,
        config=config,
        tokenizer=_tokenizer(facts),
        tokenizer_config=_tokenizer_config(facts),
    )
    _write_safetensors(folder / "model.safetensors", reader.tensors, config)


def _config(facts: dict[str, Any]) -> dict[str, Any]:
    """Return the ``config.json``. GGUF rounds the epsilon to 32 bits: written back as 1e-05."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "num_hidden_layers": facts["llama.block_count"],
        "hidden_size": facts["llama.embedding_length"],
        "intermediate_size": facts["llama.feed_forward_length"],
        "num_attention_heads": facts["llama.attention.head_count"],
        "num_key_value_heads": facts["llama.attention.head_count_kv"],
        "head_dim": facts["llama.rope.dimension_count"],
        "vocab_size": facts["llama.vocab_size"],
        "max_position_embeddings": facts["llama.context_length"],
        "rope_theta": facts["llama.rope.freq_base"],
        "rms_norm_eps": float(f"{facts['llama.attention.layer_norm_rms_epsilon']:.6g}"),
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "bos_token_id": facts["tokenizer.ggml.bos_token_id"],
        "eos_token_id": facts["tokenizer.ggml.eos_token_id"],
        "pad_token_id": facts["tokenizer.ggml.padding_token_id"],
    }


def _tokenizer(facts: dict[str, Any]) -> Tokenizer:
    """Return the tokenizer: byte-level BPE that splits off every digit first.

    Source: llama.cpp, pre-tokenizer "smollm".
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    tokens: list[str] = facts["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in facts["tokenizer.ggml.merges"]]
    vocab = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    digits = pre_tokenizers.Digits(individual_digits=True)
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    kinds = zip(tokens, facts["tokenizer.ggml.token_type"], strict=True)
    control = [token for token, kind in kinds if kind == _CONTROL]
    hub_format.add_special_tokens(tokenizer, control)
    return tokenizer


def _tokenizer_config(facts: dict[str, Any]) -> dict[str, Any]:
    tokens = facts["tokenizer.ggml.tokens"]
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": tokens[facts["tokenizer.ggml.bos_token_id"]],
        "eos_token": tokens[facts["tokenizer.ggml.eos_token_id"]],
        "pad_token": tokens[facts["tokenizer.ggml.padding_token_id"]],
        "unk_token": tokens[facts["tokenizer.ggml.unknown_token_id"]],
        "model_max_length": facts["llama.context_length"],
        "clean_up_tokenization_spaces": False,
        "chat_template": facts["tokenizer.chat_template"],
    }


# Source: the tensor names of LLaMA in the GGUF specification and of LlamaForCausalLM.
_TOP_NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
}
_LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def _tensor_name(name: str) -> str:
    """Return the Hugging Face name of a GGUF tensor."""
    if name in _TOP_NAMES:
        return _TOP_NAMES[name]
    _, layer, part, _ = name.split(".")
    return f"model.layers.{layer}.{_LAYER_NAMES[part]}.weight"


def _write_safetensors(
    path: Path, tensors: Sequence[gguf.ReaderTensor], config: dict[str, Any]
) -> None:
    hub_format.write_safetensors(
        path,
        [
            hub_format.Tensor(
                name=_tensor_name(tensor.name),
                dtype="BF16",
                shape=tuple(int(size) for size in reversed(tensor.shape)),
            )
            for tensor in tensors
        ],
        (hub_format.bf16(_weights(tensor, config)) for tensor in tensors),
    )


def _weights(tensor: gguf.ReaderTensor, config: dict[str, Any]) -> np.ndarray[Any, Any]:
    """Return a tensor in 32 bits, its rows in the order of the Hugging Face form."""
    import gguf

    values: np.ndarray[Any, Any] = gguf.dequantize(tensor.data, tensor.tensor_type)
    if "attn_q." in tensor.name:
        return _rotary_halves(values, config["num_attention_heads"])
    if "attn_k." in tensor.name:
        return _rotary_halves(values, config["num_key_value_heads"])
    return values


def _rotary_halves(values: np.ndarray[Any, Any], num_heads: int) -> np.ndarray[Any, Any]:
    """Reorder a head's rows from rotary pairs side by side (GGUF) to one half after the other."""
    rows, columns = values.shape
    pairs = values.reshape(num_heads, rows // num_heads // 2, 2, columns)
    return pairs.swapaxes(1, 2).reshape(rows, columns)

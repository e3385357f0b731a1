"""A model: where it is, its shape, its tokenizer and its KV cache."""

"""A model as its config describes it: shape, weights and KV cache, whole or split among GPUs."""

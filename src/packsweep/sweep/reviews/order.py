"""The order that a seed gives to a set of reviews."""

from __future__ import annotations

import random


def shuffled(num_items: int, seed: int) -> list[int]:
    """Return the numbers 0 to ``num_items - 1`` in the order that ``seed`` gives.

    ``random()`` is the only method of the generator whose sequence Python promises to keep, so the
    order is that of one random key for each item, and is the same on every version and system.

    Source: https://docs.python.org/3/library/random.html#notes-on-reproducibility
    """
    generator = random.Random(seed)
    keys = [generator.random() for _ in range(num_items)]
    return sorted(range(num_items), key=keys.__getitem__)

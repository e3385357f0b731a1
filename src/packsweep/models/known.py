"""Configurations of well-known models by short name: what sizes need, as their makers publish it.

``known.json`` holds facts of each repository's ``config.json`` on the hub, read there or in a copy
of it; keys that no size depends on are left out. A figure that could not be read is no entry there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from packsweep import errors

HUB = "https://huggingface.co"


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownModel:
    """A model's repository on the hub and the keys of its config that sizes depend on."""

    repo: str
    config: Mapping[str, object]

    @property
    def source(self) -> str:
        """Where the figures stand."""
        return f"{HUB}/{self.repo}/blob/main/config.json"


KNOWN: dict[str, KnownModel] = {
    name: KnownModel(**values)
    for name, values in json.loads(Path(__file__).with_suffix(".json").read_text("utf-8")).items()
}


def find(name: str) -> KnownModel | None:
    """Return the model of that short name or hub id, whatever its case; None if there is none."""
    repos = {model.repo.casefold(): model for model in KNOWN.values()}
    return KNOWN.get(name.casefold()) or repos.get(name.casefold())


def nearest(name: str) -> str | None:
    """Return the short name that is spelled most like ``name``; None if none is."""
    return errors.nearest(name.casefold(), KNOWN)

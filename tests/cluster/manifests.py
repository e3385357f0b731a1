"""Read the files in cluster/ strictly: a repeated key is an error, as Kubernetes has it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
CLUSTER = ROOT / "cluster"


class _Strict(yaml.SafeLoader):  # type: ignore[misc]  # PyYAML has no annotations
    def construct_mapping(self, node: Any, deep: bool = False) -> Any:  # noqa: FBT001, FBT002
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = sorted({str(key) for key in keys if keys.count(key) > 1})
        if twice:
            raise ValueError(f"{node.start_mark}: given twice: {', '.join(twice)}")
        return super().construct_mapping(node, deep=deep)


def parse(text: str) -> Any:
    """Return the one document of a YAML text."""
    return yaml.load(text, Loader=_Strict)  # noqa: S506  (a SafeLoader)


def read(name: str) -> Any:
    """Return the manifest ``cluster/<name>``."""
    return parse((CLUSTER / name).read_text(encoding="utf-8"))

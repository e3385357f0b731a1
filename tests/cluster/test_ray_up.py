"""The file for `ray up` passes Ray's own checks."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
from tests.cluster.manifests import read


def prepared(config: dict[str, Any]) -> dict[str, Any]:
    """Fill in Ray's defaults and check, as ``ray up`` does."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    made: dict[str, Any] = prepare_config(config)
    validate_config(made)
    return made


def test_ray_accepts_the_file() -> None:
    made = prepared(read("machines.yaml"))
    nodes = made["available_node_types"]["local.cluster.node"]
    assert nodes["min_workers"] == nodes["max_workers"] == 2  # every machine, all the time


def test_ray_refuses_a_misspelt_key() -> None:
    config = read("machines.yaml")
    config["head_start_commands"] = config.pop("head_start_ray_commands")
    with pytest.raises(jsonschema.ValidationError, match="head_start_commands"):
        prepared(config)


def test_every_start_asks_for_the_token() -> None:
    config = read("machines.yaml")
    starts = [*config["head_start_ray_commands"], *config["worker_start_ray_commands"]]
    starting = [each for each in starts if "ray start" in each]
    assert len(starting) == 2
    assert all("RAY_AUTH_MODE=token" in each for each in starting)
    assert "~/.ray/auth_token" in config["file_mounts"]

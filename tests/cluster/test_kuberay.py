"""The RayJob and the RayCluster: valid for KubeRay, and what this project needs of them."""

from __future__ import annotations

import functools
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from tests.cluster.manifests import CLUSTER, ROOT, parse, read

SCHEMA = json.loads((Path(__file__).parent / "kuberay.schema.json").read_text(encoding="utf-8"))
MANIFESTS = ("rayjob.yaml", "raycluster.yaml")
CRDS = {"RayJob": "ray.io_rayjobs.yaml", "RayCluster": "ray.io_rayclusters.yaml"}
# A folder with the two files above, from ray-operator/config/crd/bases of KubeRay.
CRD_FOLDER = os.environ.get("PACKSWEEP_KUBERAY_CRDS")
with_crds = pytest.mark.skipif(CRD_FOLDER is None, reason="PACKSWEEP_KUBERAY_CRDS names no folder")


def cluster_spec(name: str) -> dict[str, Any]:
    """Return the Ray cluster that a manifest describes."""
    spec: dict[str, Any] = read(name)["spec"]
    inner: dict[str, Any] = spec.get("rayClusterSpec", spec)
    return inner


def pods(name: str) -> dict[str, dict[str, Any]]:
    """Return the pod specs of a manifest by the name of their first container."""
    spec = cluster_spec(name)
    groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    found = [group["template"]["spec"] for group in groups]
    return {pod["containers"][0]["name"]: pod for pod in found}


@pytest.mark.parametrize("name", MANIFESTS)
def test_manifest_has_only_fields_that_are_known(name: str) -> None:
    jsonschema.validate(read(name), SCHEMA)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("backoffLimit: 1", "backoffLimits: 1"),
        ("backoffLimit: 1", 'backoffLimit: "1"'),
        ('num-cpus: "0"', "num-cpus: 0"),
        ("mode: token", "mode: tokens"),
        ("mountPath: /dev/shm", "mountPath: dev/shm"),
        ("sizeLimit: 16Gi", "sizeLimit: 16 GB"),
        ("groupName: gpu", "name: gpu"),
    ],
)
def test_mistake_in_a_manifest_is_found(right: str, wrong: str) -> None:
    text = (CLUSTER / "rayjob.yaml").read_text(encoding="utf-8")
    assert right in text
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(parse(text.replace(right, wrong)), SCHEMA)


def test_key_given_twice_is_found() -> None:
    with pytest.raises(ValueError, match="given twice: mode"):
        parse("authOptions: {mode: token, mode: disabled}")


def test_job_and_standing_cluster_are_alike() -> None:
    assert cluster_spec("rayjob.yaml") == cluster_spec("raycluster.yaml")


def test_ray_version_is_the_locked_one() -> None:
    lock = (ROOT / "requirements" / "gpu.txt").read_text(encoding="utf-8")
    locked = re.search(r"^ray==(\S+)", lock, flags=re.MULTILINE)
    assert locked is not None
    assert cluster_spec("rayjob.yaml")["rayVersion"] == locked[1]


def test_one_image_and_one_environment_for_all_pods() -> None:
    containers = [pod["containers"][0] for pod in pods("rayjob.yaml").values()]
    viewer = read("results-pod.yaml")["spec"]["containers"][0]
    assert len({each["image"] for each in [*containers, viewer]}) == 1
    assert containers[0]["env"] == containers[1]["env"]


def test_head_takes_no_work_and_no_gpu() -> None:
    spec = cluster_spec("rayjob.yaml")
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    head = pods("rayjob.yaml")["ray-head"]["containers"][0]
    assert "nvidia.com/gpu" not in head["resources"]["limits"]


def test_access_needs_a_token() -> None:
    assert cluster_spec("rayjob.yaml")["authOptions"] == {"mode": "token"}


def test_every_pod_mounts_the_results_and_shared_memory() -> None:
    for pod in pods("rayjob.yaml").values():
        mounts = {each["name"]: each["mountPath"] for each in pod["containers"][0]["volumeMounts"]}
        assert mounts["results"] == "/results"
        assert mounts["shm"] == "/dev/shm"  # noqa: S108  (no temporary file)
        volumes = {each["name"]: each for each in pod["volumes"]}
        assert set(mounts) == set(volumes)
        claim = volumes["results"]["persistentVolumeClaim"]["claimName"]
        assert claim == read("results-pvc.yaml")["metadata"]["name"]


def test_pods_run_as_the_user_of_the_image() -> None:
    dockerfile = (CLUSTER / "Dockerfile").read_text(encoding="utf-8")
    user = re.search(r"^USER (\d+)$", dockerfile, flags=re.MULTILINE)
    assert user is not None
    every = [*pods("rayjob.yaml").values(), read("results-pod.yaml")["spec"]]
    assert {pod["securityContext"]["runAsUser"] for pod in every} == {int(user[1])}


@functools.cache
def crd_schema(kind: str) -> dict[str, Any]:
    """Return KubeRay's schema of a kind, made strict: what it does not name is refused."""
    assert CRD_FOLDER is not None
    with (Path(CRD_FOLDER) / CRDS[kind]).open(encoding="utf-8") as file:
        crd = yaml.load(file, Loader=yaml.CSafeLoader)
    versions = {each["name"]: each for each in crd["spec"]["versions"]}
    schema: dict[str, Any] = strict(versions["v1"]["schema"]["openAPIV3Schema"])
    schema["properties"]["metadata"] = {"type": "object"}  # checked by Kubernetes itself
    return schema


def strict(schema: Any) -> Any:
    """Return a schema that refuses unnamed properties and takes int-or-string as both."""
    if isinstance(schema, list):
        return [strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: strict(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict):
        made.setdefault("additionalProperties", False)
    if schema.get("x-kubernetes-int-or-string"):
        made["type"] = ["integer", "string"]
    return made


@with_crds
@pytest.mark.parametrize("name", MANIFESTS)
def test_manifest_is_valid_for_the_crd(name: str) -> None:
    manifest = read(name)
    jsonschema.validate(manifest, crd_schema(manifest["kind"]))


def fields(schema: dict[str, Any], at: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the path of every property of our schema; ``[]`` stands for a list's items."""
    if "$ref" in schema:
        schema = SCHEMA["$defs"][schema["$ref"].removeprefix("#/$defs/")]
    for name, inner in schema.get("properties", {}).items():
        yield (*at, name)
        yield from fields(inner, (*at, name))
    if isinstance(schema.get("items"), dict):
        yield from fields(schema["items"], (*at, "[]"))


@with_crds
@pytest.mark.parametrize("kind", CRDS)
def test_every_field_of_our_schema_is_one_of_the_crd(kind: str) -> None:
    crd = crd_schema(kind)
    ours = SCHEMA["$defs"][kind[0].lower() + kind[1:]]
    checked = [path for path in fields(ours) if path[0] == "spec" and "metadata" not in path]
    assert len(checked) > 40
    for path in checked:
        at = crd
        for step in path:
            at = at["items"] if step == "[]" else at["properties"][step]

"""Nodes of a Ray cluster, from what Ray lists: who fits, and what is said where nobody does."""

from __future__ import annotations

from typing import Any

import pytest

from packsweep.run.executors import nodes
from packsweep.run.executors.nodes import ACCELERATOR_LABEL, Demand, Node

HEAD = Node(num_gpus=0, num_cpus=0, node_id="head")
H800 = Node(num_gpus=8, num_cpus=64, node_id="a", accelerator="H800")
H200 = Node(num_gpus=8, num_cpus=64, node_id="b", accelerator="H200")
CLUSTER = (HEAD, H800, H200)


def _listed(*, alive: bool = True, label: str | None = None, **resources: float) -> dict[str, Any]:
    labels = {} if label is None else {ACCELERATOR_LABEL: label}
    named = {name.replace("_H", ":H"): amount for name, amount in resources.items()}
    return {"NodeID": "n", "Alive": alive, "Labels": labels, "Resources": named}


def test_alive() -> None:
    """GPUs, CPUs and the accelerator come from Ray's list; the dead are left out."""
    listing = [
        _listed(label="H800", GPU=8.0, CPU=64.0),
        _listed(accelerator_type_H200=1.0, GPU=1.0),
        _listed(alive=False, GPU=8.0),
    ]
    assert nodes.alive(listing) == (
        Node(num_gpus=8, num_cpus=64, node_id="n", accelerator="H800"),
        Node(num_gpus=1, num_cpus=0, node_id="n", resource="H200"),
    )


@pytest.mark.parametrize(
    ("wanted", "num_slots"), [((), 16), (("H800",), 8), (("H800", "H200"), 16), (("H100",), 0)]
)
def test_num_gpu_slots(wanted: tuple[str, ...], num_slots: int) -> None:
    """An attempt a GPU, of the kinds asked for or of any."""
    assert nodes.num_gpu_slots(CLUSTER, wanted) == num_slots


@pytest.mark.parametrize(("num_gpus", "num_slots"), [(1, 16), (3, 4), (8, 2), (9, 0)])
def test_num_gpu_slots_of_several_gpus(num_gpus: int, num_slots: int) -> None:
    """The GPUs of an attempt are all of one node."""
    assert nodes.num_gpu_slots(CLUSTER, (), num_gpus) == num_slots
    assert len(nodes.fitting(CLUSTER, (), num_gpus)) == 2 * (num_gpus <= 8)


def test_num_gpu_slots_few_cpus() -> None:
    """Each attempt takes a CPU beside its GPU."""
    assert nodes.num_gpu_slots([Node(num_gpus=8, num_cpus=3)], ()) == 3


def test_spelled() -> None:
    """Case does not matter; a name that the cluster does not know stays."""
    assert nodes.spelled(CLUSTER, ["h800", "b300"]) == ("H800", "b300")


@pytest.mark.parametrize(
    ("wanted", "excluded", "expected"),
    [
        ((), (), {}),
        (("H800", "H200"), (), {"ray.io/accelerator-type": "in(H800,H200)"}),
        ((), ("b", "a"), {"ray.io/node-id": "!in(a,b)"}),
    ],
)
def test_selector(
    wanted: tuple[str, ...], excluded: tuple[str, ...], expected: dict[str, str]
) -> None:
    """Ray's label selector names the kinds that are asked for and the nodes that are not."""
    assert nodes.selector(wanted, excluded) == expected


@pytest.mark.parametrize(
    "listed", [CLUSTER, (HEAD, Node(num_gpus=0, num_cpus=4)), (Node(num_gpus=1, num_cpus=1),)]
)
def test_problem_none(listed: tuple[Node, ...]) -> None:
    """Any GPU will do where none is named, or any CPU where there is no GPU."""
    assert nodes.problem(listed, Demand()) is None


ON_DEMAND = "; if it starts nodes on demand, say up to how many GPUs with --max-gpus"


@pytest.mark.parametrize(
    ("listed", "wanted", "message"),
    [
        (
            CLUSTER,
            ("H100",),
            f"has 8 x H200 on 1 node, 8 x H800 on 1 node, 1 node without GPU{ON_DEMAND}",
        ),
        (
            (HEAD, HEAD),
            ("H800", "H200"),
            f"no alive node has H800 or H200; the cluster has 2 nodes without GPU{ON_DEMAND}",
        ),
        (
            (Node(num_gpus=2, num_cpus=2, resource="H800"),),
            ("H800",),
            "but not the label: start it with --labels ray.io/accelerator-type=H800",
        ),
        (
            (HEAD, Node(num_gpus=8, num_cpus=0)),
            (),
            "an attempt takes a GPU and a CPU, and no node with GPUs has a CPU for Ray",
        ),
        ((HEAD,), (), "no alive node has a GPU or a CPU for Ray"),
    ],
)
def test_problem(listed: tuple[Node, ...], wanted: tuple[str, ...], message: str) -> None:
    """What no node has is said in one line, with what there is and what to do."""
    line = nodes.problem(listed, Demand(accelerators=wanted))
    assert line is not None
    assert line.endswith(message)


TOO_FEW = "the largest engine of the sweep takes 16 GPUs of one node"
NOWHERE = (
    f"{TOO_FEW}, and no alive node has more than 8; the cluster has 8 x H200 on 1 node, "
    "8 x H800 on 1 node, 1 node without GPU"
)


@pytest.mark.parametrize(
    ("demand", "message"),
    [
        (Demand(num_gpus=16), NOWHERE),
        (Demand(accelerators=("H800",), num_gpus=16), f"--accelerator H800: {NOWHERE}"),
        (Demand(max_gpus=8, num_gpus=16), f"--max-gpus 8: {TOO_FEW}"),
        (Demand(max_gpus=16, num_gpus=16), None),
        (Demand(num_gpus=8), None),
    ],
)
def test_problem_of_several_gpus(demand: Demand, message: str | None) -> None:
    """The GPUs of an engine are all of one node: of two nodes they do not add up."""
    assert nodes.problem(CLUSTER, demand) == message


def test_problem_nodes_on_demand() -> None:
    """Where the user says that nodes come on demand, there is something to wait for."""
    assert nodes.problem((HEAD,), Demand(accelerators=("H800",), max_gpus=8)) is None

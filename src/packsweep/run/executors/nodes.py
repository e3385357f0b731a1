"""Which nodes of a Ray cluster can run an attempt, in numbers and in words.

Ray lets a task that no node can ever run wait forever, without a word. So the nodes are checked
before anything is submitted. Nothing here imports Ray: it reads what ``ray.nodes()`` returns.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# Ray labels a node so, from the name that NVML gives: H200 for "NVIDIA H200".
ACCELERATOR_LABEL = "ray.io/accelerator-type"
NODE_LABEL = "ray.io/node-id"
_RESOURCE = "accelerator_type:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """An alive node.

    Attributes:
        node_id: Ray's.
        accelerator: what its label says; None where it has no such label.
        resource: what its older accelerator_type resource says, which tasks do not select by.
    """

    num_gpus: int
    num_cpus: int
    node_id: str = ""
    accelerator: str | None = None
    resource: str | None = None

    def num_slots(self, num_gpus: int = 1) -> int:
        """Return how many attempts it runs at once: each takes so many GPUs and one CPU."""
        return min(self.num_gpus // num_gpus, self.num_cpus)


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What attempts ask of a node.

    Attributes:
        accelerators: any of these; empty where any GPU will do, or none.
        max_gpus: GPUs that a cluster which starts nodes on demand may grow to; None where it
            has what it has.
        num_gpus: of the largest engine; all of one node.
        least_gpus: of the smallest.
    """

    accelerators: tuple[str, ...] = ()
    max_gpus: int | None = None
    num_gpus: int = 1
    least_gpus: int = 1


def alive(listing: Iterable[Mapping[str, Any]]) -> tuple[Node, ...]:
    """Return the alive nodes of what ``ray.nodes()`` returned."""
    return tuple(_node(each) for each in listing if each["Alive"])


def _node(listed: Mapping[str, Any]) -> Node:
    resources = listed["Resources"]
    named = [name.removeprefix(_RESOURCE) for name in resources if name.startswith(_RESOURCE)]
    return Node(
        num_gpus=int(resources.get("GPU", 0)),
        num_cpus=int(resources.get("CPU", 0)),
        node_id=listed["NodeID"],
        accelerator=listed.get("Labels", {}).get(ACCELERATOR_LABEL),
        resource=next(iter(sorted(named)), None),
    )


def spelled(nodes: Sequence[Node], accelerators: Iterable[str]) -> tuple[str, ...]:
    """Return accelerators as the cluster's labels spell them; unknown ones as they are."""
    known = {node.accelerator.lower(): node.accelerator for node in nodes if node.accelerator}
    return tuple(known.get(name.lower(), name) for name in accelerators)


def fitting(
    nodes: Sequence[Node], accelerators: Sequence[str], num_gpus: int = 1
) -> tuple[Node, ...]:
    """Return the nodes with so many such GPUs, or of any kind where none is named."""
    named = [n for n in nodes if not accelerators or n.accelerator in accelerators]
    return tuple(node for node in named if node.num_slots(num_gpus))


def num_gpu_slots(nodes: Sequence[Node], accelerators: Sequence[str], num_gpus: int = 1) -> int:
    """Return how many attempts on so many such GPUs each can run at once."""
    fits = fitting(nodes, accelerators, num_gpus)
    return sum(node.num_slots(num_gpus) for node in fits)


def selector(accelerators: Sequence[str], excluded: Collection[str]) -> dict[str, str]:
    """Return Ray's label selector for a task: GPUs of these kinds, and none of these nodes."""
    kinds = {ACCELERATOR_LABEL: f"in({','.join(accelerators)})"} if accelerators else {}
    without = {NODE_LABEL: f"!in({','.join(sorted(excluded))})"} if excluded else {}
    return kinds | without


def cpu_slots(nodes: Sequence[Node]) -> tuple[int, int]:
    """Return the CPUs that an attempt takes, a whole smallest node, and how many run at once."""
    sizes = [node.num_cpus for node in nodes if node.num_cpus]
    return (min(sizes), len(sizes)) if sizes else (0, 0)


def problem(nodes: Sequence[Node], demand: Demand) -> str | None:
    """Return in one line why no alive node can ever run an attempt, or None."""
    wanted = demand.accelerators
    if demand.max_gpus is not None:
        enough = demand.max_gpus >= demand.num_gpus
        return None if enough else f"--max-gpus {demand.max_gpus}: {_needed(demand)}"
    if num_gpu_slots(nodes, wanted, demand.num_gpus):
        return None
    if num_gpu_slots(nodes, wanted):
        return _too_few(nodes, demand)
    if not wanted:
        if any(node.num_gpus for node in nodes):
            return "an attempt takes a GPU and a CPU, and no node with GPUs has a CPU for Ray"
        return None if cpu_slots(nodes)[1] else "no alive node has a GPU or a CPU for Ray"
    unlabelled = next((n.resource for n in nodes if n.resource in wanted), None)
    hint = (
        f"; a node has the resource {_RESOURCE}{unlabelled} but not the label: start it with "
        f"--labels {ACCELERATOR_LABEL}={unlabelled}"
        if unlabelled
        else "; if it starts nodes on demand, say up to how many GPUs with --max-gpus"
    )
    names = " or ".join(wanted)
    return (
        f"--accelerator {','.join(wanted)}: no alive node has {names}; "
        f"the cluster has {described(nodes)}{hint}"
    )


def _too_few(nodes: Sequence[Node], demand: Demand) -> str:
    named = f"--accelerator {','.join(demand.accelerators)}: " if demand.accelerators else ""
    most = max(node.num_gpus for node in fitting(nodes, demand.accelerators))
    return (
        f"{named}{_needed(demand)}, and no alive node has more than {most}; "
        f"the cluster has {described(nodes)}"
    )


def _needed(demand: Demand) -> str:
    return f"the largest engine of the sweep takes {demand.num_gpus} GPUs of one node"


def described(nodes: Sequence[Node]) -> str:
    """Return in words what the cluster has."""
    num_gpus: Counter[str] = Counter()
    num_nodes: Counter[str] = Counter()
    for node in nodes:
        kind = (node.accelerator or "GPU of unnamed type") if node.num_gpus else ""
        num_gpus[kind] += node.num_gpus
        num_nodes[kind] += 1
    parts = [
        f"{num_gpus[kind]} x {kind} on {_counted(num_nodes[kind])}"
        for kind in sorted(num_nodes)
        if kind
    ]
    if num_nodes[""]:
        parts.append(f"{_counted(num_nodes[''])} without GPU")
    return ", ".join(parts) or "no alive node"


def _counted(num_nodes: int) -> str:
    return f"{num_nodes} node{'s' if num_nodes > 1 else ''}"

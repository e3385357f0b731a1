"""The fork server of a node, without Ray."""

from __future__ import annotations

from packsweep.machine import environment
from packsweep.run.executors.ray_fork import NodeForkServer


def test_give_up() -> None:
    """Another server takes the place of one that does not fork, once; its workers go on."""
    node = NodeForkServer("simulated")
    asked = environment.read_at_import(environment.engine_environ())
    first = node.address(asked)
    assert first is not None
    hanging = node._server
    for _ in range(2):  # by two of its GPUs
        node.give_up(first)
    second = node.address(asked)
    assert second not in {first, None}
    assert hanging.lives
    node._server.stop()
    hanging.stop()

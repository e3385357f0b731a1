"""Which nodes attempts are still sent to.

A broken node ends attempts faster than good nodes finish theirs, so Ray would give it cell after
cell until every one of them has used up its attempts there.
"""

from __future__ import annotations

from packsweep.run.task import Status


class NodeExclusion:
    """Counts failures in a row on each node and excludes the nodes with too many.

    Attributes:
        excluded: Ray's ids of the nodes that get no more attempts.
    """

    def __init__(self, most_failures: int) -> None:
        """Exclude a node when ``most_failures`` different cells in a row have failed there."""
        self.excluded: set[str] = set()
        self._most_failures = most_failures
        self._failed: dict[str, set[str]] = {}

    def record(self, node_id: str, status: Status, others: set[str]) -> bool:
        """Count how an attempt on a node ended; True if that excludes the node.

        Args:
            node_id: Ray's id of the node.
            status: of an attempt that the node itself reported.
            others: alive nodes that could run it; the last one is kept, whatever it does.
        """
        if not status.is_retryable:
            self._failed.pop(node_id, None)
            return False
        failed = self._failed.setdefault(node_id, set())
        failed.add(status.cell_id)
        left = others - self.excluded - {node_id}
        if len(failed) < self._most_failures or not left or node_id in self.excluded:
            return False
        self.excluded.add(node_id)
        return True

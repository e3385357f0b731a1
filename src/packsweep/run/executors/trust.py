"""Which nodes attempts are still sent to.

A broken node ends attempts faster than good nodes finish theirs, so Ray would give it cell after
cell until every one of them has used up its attempts there.
"""

from __future__ import annotations

from packsweep.results import schema
from packsweep.run.task import Status


class Trust:
    """What nodes did with their last attempts.

    Attributes:
        lost_in: nodes that no attempt is sent to any more, by Ray's id.
    """

    def __init__(self, most_failures: int) -> None:
        """Trust every node until ``most_failures`` different cells have failed there in a row."""
        self.lost_in: set[str] = set()
        self._most_failures = most_failures
        self._failed: dict[str, set[str]] = {}

    def saw(self, node_id: str, status: Status, others: set[str]) -> bool:
        """Note how an attempt on a node ended; True if that was the one too many.

        Args:
            node_id: Ray's id of the node.
            status: of an attempt that the node itself reported.
            others: alive nodes that could run it; the last one is kept, whatever it does.
        """
        if status.outcome == "ok" or status.outcome in schema.DETERMINISTIC:
            self._failed.pop(node_id, None)
            return False
        failed = self._failed.setdefault(node_id, set())
        failed.add(status.cell_id)
        left = others - self.lost_in - {node_id}
        if len(failed) < self._most_failures or not left or node_id in self.lost_in:
            return False
        self.lost_in.add(node_id)
        return True

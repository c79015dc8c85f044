"""Where a stream is offered: first to the host in whose spool its log lies, soon after to all."""

from __future__ import annotations

from collections.abc import Collection

from scheduler.dispatch import FOLLOW_AGAIN_S

HOME_S = 30.0
"""For so long a stream in mid-load is offered to its own host alone. Another would begin anew, and at the end the
task would stop: nobody could tell what the source has deleted in between. A worker that is replaced, or a machine that
starts again, goes on with what lies there. The same holds for what was received while a task was suspended: the source
may not have it any more."""


class Offers:
    """Remembers when streams were offered, in lived seconds."""

    def __init__(self) -> None:
        self._again: dict[int, float] = {}  # when last, of those that are not to be offered each tick
        self._since: dict[int, float] = {}  # of those that are bound, when first; a number each for as long as we live

    def due(self, nodes: dict[int, bool], now: float, bound: Collection[int] = ()) -> dict[int, bool]:
        """Of the nodes that are due, those to send now; whether to all.

        Args:
            nodes: ids, and whether each was sent before.
            bound: those of them that another host could not go on with.
        """
        for node_id, at in list(self._again.items()):
            if now - at >= FOLLOW_AGAIN_S or not nodes.get(node_id, True):  # the latter: it had an owner meanwhile
                del self._again[node_id]
        for node_id in bound:
            if not nodes[node_id] or node_id not in self._since:
                self._since[node_id] = now
        at_home = {node_id for node_id in bound if now - self._since[node_id] < HOME_S}
        chosen = {
            node_id: sent and node_id not in at_home
            for node_id, sent in nodes.items()
            if not (sent and node_id in self._again)
        }
        self._again |= {node_id: now for node_id, to_all in chosen.items() if to_all or node_id in at_home}
        return chosen

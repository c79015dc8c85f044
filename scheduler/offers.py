"""Where a stream is offered: first to the host in whose spool its log lies, soon after to all."""

from __future__ import annotations

from scheduler.dispatch import FOLLOW_AGAIN_S


class Offers:
    """Remembers when streams were offered to all, in lived seconds."""

    def __init__(self) -> None:
        self._to_all: dict[int, float] = {}

    def due(self, nodes: dict[int, bool], now: float) -> dict[int, bool]:
        """Of the nodes that are due, those to send now; whether to all.

        Args:
            nodes: ids, and whether each was sent before.
        """
        self._to_all = {node_id: at for node_id, at in self._to_all.items() if now - at < FOLLOW_AGAIN_S}
        chosen = {node_id: sent for node_id, sent in nodes.items() if not (sent and node_id in self._to_all)}
        self._to_all |= {node_id: now for node_id, to_all in chosen.items() if to_all}
        return chosen

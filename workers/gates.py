"""Snapshots of a node as the target knows them: their numbers, and the gates that keep out loaders of earlier ones."""

from __future__ import annotations

from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import CannotContinue
from sync_tasks.names import checkpoint_key, closed_key, marks_key
from workers.target.link import TargetLink


class Gates:
    """Of one source node.

    Args:
        endpoint: the target.
        uid, node: of the task and the source node.
        home: database of Keyferry's keys there.
    """

    def __init__(self, endpoint: Endpoint, uid: str, node: int, home: int) -> None:
        self._endpoint, self._uid, self._node, self._home = endpoint, uid, node, home

    def number(self, last: int) -> int:
        """The number of a new snapshot, given by the target: no copy of the database, and none that lost its last
        commits, gives one twice.

        Args:
            last: number of the last snapshot that the database knows.
        Raises CannotContinue if a load is on the target of which the database knows nothing.
        """
        link = self._link()
        try:
            ck = checkpoint_key(self._uid, self._node)
            number = int(link.ask(b"HINCRBY", ck, b"snapshots", 1))
            if number <= last:
                number = int(link.ask(b"HINCRBY", ck, b"snapshots", last + 1 - number))
            unknown = [marks_key(self._uid, self._node, gen) for gen in range(last + 1, number)]
            if unknown and link.ask(b"EXISTS", *unknown):
                raise CannotContinue(
                    f"the target holds a load that the database does not know: it knows {last} snapshots of"
                    f" {number - 1}",
                    hint="keys deleted since cannot be told; empty the target and start over",
                )
            return number
        finally:
            link.close()

    def close_earlier(self, gen: int) -> None:
        """Close the loads of all snapshots before `gen`: their loaders write nothing any more.

        Raises what the target answers; also where there is none to close, a target that takes no write is found out.
        """
        link = self._link()
        try:
            link.ask(b"HINCRBY", checkpoint_key(self._uid, self._node), b"snapshots", 0)
            for old in range(1, gen):
                link.ask(b"SET", closed_key(self._uid, self._node, old), b"1")
        finally:
            link.close()

    def _link(self) -> TargetLink:
        return TargetLink(self._endpoint, f"keyferry-{self._uid}-gates", self._home)

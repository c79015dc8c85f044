"""What is asked in the place of a source that has no stream: it stands where its snapshot does, for ever."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import SourceError
from sync_tasks.views import NodeView
from workers.source.ask import Command, Kind, Position, Source, Times


class Still(Source):
    """Of a file, or of a server that was read by SCAN: nobody answers any question about keys.

    Args:
        endpoint: of the source.
        node: says where the snapshot stands.
    """

    still = True

    def __init__(self, endpoint: Endpoint, node: Callable[[], NodeView]) -> None:
        super().__init__(endpoint)
        self._node = node

    def position(self) -> Position:
        node = self._node()
        return Position(node.replid or "", node.snapshot_offset or 0)

    def is_replica(self) -> bool:
        return False

    def kind(self) -> Kind:
        return Kind()

    def keys(self, databases: Collection[int] | None = None) -> int | None:
        return None

    def touch(self, db: int, keys: list[bytes]) -> None:
        """Nobody sends the DEL of a key that has expired."""

    def times(self, db: int, keys: Sequence[bytes]) -> Times:
        raise self._silent()

    def _ask(self, db: int, commands: list[Command], aside: object = None) -> list[object]:
        raise self._silent()

    def _silent(self) -> SourceError:
        return SourceError(
            f"{self._endpoint.safe()} is not followed, and so cannot be asked for keys", hint="please report this"
        )

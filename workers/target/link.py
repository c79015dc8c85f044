"""A connection to the target."""

from __future__ import annotations

from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import ConnectionLost, Side
from workers.link import Link
from workers.wire import SILENCE_S

__all__ = ["SILENCE_S", "TargetLink", "lost"]


def lost(what: str) -> ConnectionLost:
    return ConnectionLost(what, side=Side.TARGET, hint="Keyferry connects again by itself")


class TargetLink(Link):
    """A link to the target node. Raises ConnectionLost, CredentialsRefused, TargetError, TargetBusy.

    scripted: a transaction may name keys of one slot only, so that commands on others go as a script
    (`workers.target.scripted`).
    """

    def __init__(self, endpoint: Endpoint, name: str, db: int, silence_s: float = SILENCE_S) -> None:
        super().__init__(endpoint, name, db, silence_s)
        self.scripted = endpoint.slot is not None

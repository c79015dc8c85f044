"""A connection to the target."""

from __future__ import annotations

from sync_tasks.errors import ConnectionLost, Side
from workers.link import Link
from workers.wire import SILENCE_S

__all__ = ["SILENCE_S", "TargetLink", "lost"]


def lost(what: str) -> ConnectionLost:
    return ConnectionLost(what, side=Side.TARGET, hint="Keyferry connects again by itself")


class TargetLink(Link):
    """A link to the target node. Raises ConnectionLost, CredentialsRefused, TargetError, TargetBusy."""

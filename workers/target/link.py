"""A connection to the target."""

from __future__ import annotations

from sync_tasks.errors import ConnectionLost, Side
from workers.link import RECV_BYTES, SILENCE_S, Link

__all__ = ["RECV_BYTES", "SILENCE_S", "TargetLink", "lost"]


def lost(what: str) -> ConnectionLost:
    return ConnectionLost(what, side=Side.TARGET, hint="Keyferry connects again by itself")


class TargetLink(Link):
    """A link to the target node. Raises ConnectionLost, CredentialsRefused, TargetError, TargetBusy."""

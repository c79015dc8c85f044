"""What must be true: seen at each transaction of the target, and at the end."""

from __future__ import annotations

from typing import Any

from sync_tasks.names import checkpoint_key
from tests.simulation.control import UID
from tests.simulation.server import Connection, Server

CK = checkpoint_key(UID, 0)
Owned = tuple[int, bytes, bytes]
"""Epoch, nonce, and the name of a token."""


class Failure(Exception):
    """A write was lost or done twice, or somebody wrote who must not."""


class Oracle:
    """Watches the target."""

    def __init__(self) -> None:
        self._claims: list[tuple[int, Owned]] = []  # those with a right, and how much the target had done before
        self.windows = self.claims = 0
        self._lacking = False  # at the last claim, windows were missing
        self.broken: str | None = None

    def see(self, connection: Connection, queue: list[list[bytes]]) -> None:
        """A transaction is about to be executed."""
        for argv in queue:
            if argv[0] == b"HSET" and argv[1] == CK and len(argv) > 6:
                fields = dict(zip(argv[2::2], argv[3::2], strict=True))
                if b"epoch" not in fields:  # a full sync in place begins
                    self._lacking = False
                    continue
                owned = (int(fields[b"epoch"]), fields[b"nonce"], fields[b"tok"])
                if b"offset" in fields:
                    self._window(owned)
                else:
                    self._claim(owned, len(connection.data.units))
                    self._lacking = not whole(connection.server)

    def _claim(self, owned: Owned, units: int) -> None:
        self.claims += 1
        last = self._claims[-1][1] if self._claims else (0, b"", b"")
        if owned[0] > last[0] or owned[:2] == last[:2]:
            self._claims.append((units, owned))

    def _window(self, owned: Owned) -> None:
        self.windows += 1
        if self._lacking and self._claims and owned == self._claims[-1][1]:
            self.broken = "a stream went on behind a window that is missing"
        last = self._claims[-1][1] if self._claims else owned
        if owned[0] < last[0] or (owned[:2] == last[:2] and owned[2] != last[2]):
            self.broken = self.broken or f"a window of epoch {owned[0]} was committed behind the claim of {last[0]}"

    def fell_back(self, units: int) -> None:
        """The target has done no more than so many units now."""
        while self._claims and self._claims[-1][0] >= units:
            self._claims.pop()


def checkpoint(target: Server) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = target.data.dbs[0].get(CK) or {}
    return found


def whole(target: Server) -> bool:
    """Whether a claim would find every window there."""
    found = checkpoint(target)
    return found.get(b"number") == found.get(b"windows")


def differences(ours: list[dict[bytes, Any]], theirs: list[dict[bytes, Any]]) -> list[str]:
    """What the target (ours) has otherwise than the source."""
    out = []
    for db, (one, two) in enumerate(zip(ours, theirs, strict=True)):
        for key in sorted({*one, *two}):
            if one.get(key) != two.get(key):
                out.append(f"db {db} {key.decode()}: target {one.get(key)}, source {two.get(key)}")
    return out

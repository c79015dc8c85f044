"""The control plane's fixtures, and a scheduler whose time tests move."""

from __future__ import annotations

from random import Random

import pytest

from scheduler.leader import Leader
from scheduler.tick import Ticker
from sync_tasks.store import Store
from tests.unit.control.conftest import (
    Outbox,
    Wall,
    backend,
    outbox,
    postgresql_rows,
    rows,
    sqlite_rows,
    statements,
    store,
    task_id,
    wall,
)

__all__ = ["backend", "outbox", "postgresql_rows", "rows", "sqlite_rows", "statements", "store", "task_id", "wall"]


class Time:
    """Moves the scheduler's lived time and the wall together, a tick every quarter of a second."""

    def __init__(self, store: Store, outbox: Outbox, wall: Wall) -> None:
        self.now = 100.0
        self.wall = wall
        self.leader = Leader(store.database)
        self.ticker = Ticker(store.database, outbox, self.leader, wall, Random(1))

    def tick(self) -> None:
        self.ticker.tick(self.now)

    def live(self, seconds: float) -> None:
        """Ticks for so long; the first at once."""
        for _ in range(round(seconds * 4)):
            self.tick()
            self.now += 0.25
            self.wall.now += 0.25


@pytest.fixture
def time(store: Store, outbox: Outbox, wall: Wall) -> Time:
    return Time(store, outbox, wall)

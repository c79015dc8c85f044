"""One look at the database, one transaction for what it shows, then the messages."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from random import Random
from typing import Protocol

from scheduler import dispatch, leases, prune, windows
from scheduler.leader import Leader
from sync_tasks import names
from sync_tasks.store.database import Database

log = logging.getLogger(__name__)

QUIET_S = 1.0
"""After the broker has failed, this long nothing is sent."""


class Broker(Protocol):
    """Where messages go."""

    def send(self, name: str, row_id: int) -> None:
        """Publish; raises what the transport raises."""

    def waiting(self, name: str) -> int:
        """Messages of a task's queue not taken yet; raises what the transport raises."""


class Ticker:
    """The scheduler without its clock, loop and signals.

    Args:
        database: what is true.
        broker: where messages go.
        leader: whether this process leads.
        wall: Unix seconds.
        rng: jitter of pauses.
        interruptible: entered around calls of the broker, which may block.
    """

    def __init__(
        self,
        database: Database,
        broker: Broker,
        leader: Leader,
        wall: Callable[[], float],
        rng: Random,
        interruptible: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._db = database
        self._broker = broker
        self._leader = leader
        self._wall = wall
        self._rng = rng
        self._interruptible = interruptible
        self._reaper = leases.Reaper()
        self._deadlines = windows.Deadlines()
        self._quiet_until = 0.0
        self._pruned = 0.0

    def tick(self, now: float) -> None:
        """Do what is due at lived time `now` (seconds): five queries when nothing is."""
        if not self._leader.leads(now):
            return
        wall = self._wall()
        with self._db.read() as session:
            dead = self._reaper.look(session, now)
            due = dispatch.look(session, wall)
            lived, passed = self._deadlines.look(session, now)
        chunks = [*due.chunks, *self._lost(due.stale, now)]
        nodes = due.nodes
        if now < self._quiet_until:
            nodes, chunks = [], []
        pruning = now - self._pruned >= prune.EVERY_S
        if dead or lived or nodes or chunks or pruning:
            with self._db.write() as session:
                for what in leases.free(session, dead, wall, self._rng):
                    log.warning("%s: its owner is silent, taken away", what)
                if lived:
                    for what in windows.advance(session, lived, passed, wall):
                        log.error("%s", what)
                if pruning:
                    prune.events(session)
                    self._pruned = now
                dispatch.mark(session, nodes, chunks, wall)
        self._send([(names.FOLLOW, node) for node in nodes] + [(names.LOAD, chunk) for chunk in chunks], now)

    def _lost(self, stale: list[int], now: float) -> list[int]:
        """Of chunks sent before, those whose messages are lost: all, if their queue is empty."""
        if not stale or now < self._quiet_until:
            return []
        try:
            with self._interruptible():
                return [] if self._broker.waiting(names.LOAD) else stale
        except Exception as error:  # noqa: BLE001 - any transport, any failure of it
            self._broken(error, now)
            return []

    def _send(self, messages: list[tuple[str, int]], now: float) -> None:
        """Publish; what cannot be sent is unmarked and tried again."""
        for index, (name, row_id) in enumerate(messages):
            try:
                with self._interruptible():
                    self._broker.send(name, row_id)
            except Exception as error:  # noqa: BLE001 - any transport, any failure of it
                self._broken(error, now)
                rest = messages[index:]
                with self._db.write() as session:
                    dispatch.mark(
                        session,
                        [key for task, key in rest if task == names.FOLLOW],
                        [key for task, key in rest if task == names.LOAD],
                        None,
                    )
                return

    def _broken(self, error: Exception, now: float) -> None:
        self._quiet_until = now + QUIET_S
        log.warning("the broker cannot be reached (%s): tried again", type(error).__name__)

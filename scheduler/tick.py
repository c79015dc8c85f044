"""One look at the database, a short transaction for each thing that it shows, then the messages."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from random import Random
from typing import Protocol

from sqlalchemy.orm import Session

from scheduler import dispatch, leases, prune, windows
from scheduler.deadlines import Deadlines, Mark
from scheduler.leader import Leader
from scheduler.offers import Offers
from scheduler.pauses import Pauses
from sync_tasks import lifecycle
from sync_tasks.errors import Fenced
from sync_tasks.messages import Message
from sync_tasks.observe import traces
from sync_tasks.store import grants, locks, outgoing
from sync_tasks.store.database import Database

log = logging.getLogger(__name__)

GRANTS_EVERY_S = 5.0
QUIET_S = 1.0
"""After the broker has failed, this long nothing is sent."""


class Broker(Protocol):
    """Where messages go."""

    def send(self, message: Message) -> None:
        """Publish; raises what the transport raises."""

    def waiting(self, queue: str) -> int:
        """Messages of a queue not taken yet; raises what the transport raises."""


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
        self._deadlines = Deadlines()
        self._pauses = Pauses()
        self._offers = Offers()
        self._quiet_until = 0.0
        self._pruned = self._renewed = 0.0

    def tick(self, now: float) -> bool:
        """Do what is due at lived time `now` (seconds): seven small queries when nothing is. Whether anything was."""
        if not self._leader.leads(now):
            self._deadlines.forget()
            return False
        try:
            return self._do_what_is_due(now)
        except Fenced:
            # We were stopped for so long that another leads: nothing of this tick was written.
            self._leader.deposed()
            self._deadlines.forget()
            return False

    def _do_what_is_due(self, now: float) -> bool:
        wall = self._wall()
        with self._db.rows() as rows:
            dead = self._reaper.look(rows, now)
            seen = dispatch.look(rows, wall, self._pauses.held(now, wall))
            trouble = bool(rows(windows.ANY))
        lived, passed = self._deadlines.look(self._open() if trouble else set(), now)
        self._free(dead, wall)
        if lived:
            with self._write() as session:
                failed = windows.advance(session, lived, passed, wall)
            for what in failed:
                log.error("%s", what)
        self._prune(now)
        self._renew(now, wall)
        messages = self._messages(seen, now) if seen else []
        if messages:
            with self._write() as session:
                messages = dispatch.mark(session, messages, wall)
            with traces.span("scheduler.send", messages=len(messages)):
                self._send(messages, now)
        return bool(messages or lived or dead.leases or dead.chunks or dead.ops)

    @contextmanager
    def _write(self) -> Iterator[Session]:
        """A transaction in which this process leads. Raises Fenced, and nothing is written, if it does not."""
        with self._db.write() as session:
            self._leader.guard(session)
            yield session

    def _open(self) -> set[Mark]:
        with self._db.read() as session:
            return windows.look(session)

    def _messages(self, seen: dispatch.Seen, now: float) -> list[Message]:
        if now < self._quiet_until:
            return []
        with self._db.read() as session:
            due = dispatch.due(session, seen)
        messages = [*due.messages, *self._lost(due.stale, now)]
        offered = self._offers.due(due.nodes, now, due.bound)
        if offered:
            with self._db.read() as session:
                follows = outgoing.follows(session, offered)
            messages += [replace(m, spool=None) if offered[m.id] else m for m in follows]
        return messages

    def _free(self, dead: leases.Dead, wall: float) -> None:
        if not (dead.leases or dead.chunks or dead.ops):
            return
        freed: list[str] = []
        with traces.span("scheduler.free"):
            if dead.leases:
                with self._write() as session:
                    freed += leases.free_leases(session, dead.leases)
            if dead.chunks:
                with self._write() as session:
                    freed += leases.free_chunks(session, dead.chunks, wall, self._rng)
            if dead.ops:
                with self._write() as session:
                    freed += leases.free_ops(session, dead.ops)
        for what in freed:
            log.warning("%s: its owner is silent, taken away", what, extra={"lease": what})

    def _prune(self, now: float) -> None:
        if now - self._pruned >= prune.EVERY_S:
            with self._write() as session:
                prune.events(session)
            self._pruned = now

    def _renew(self, now: float, wall: float) -> None:
        """Ask anew about roles that running tasks have assumed, and end those that may not go on."""
        if now - self._renewed < GRANTS_EVERY_S:
            return
        self._renewed = now
        with self._db.rows() as rows:
            due = grants.due(rows, wall)
        for task_id in due:
            with self._write() as session:
                task = locks.task(session, task_id)
                if (denied := grants.renew(session, task, wall)) is not None:
                    lifecycle.fail(session, task, denied)
                    log.error("task %s: %s", task_id, denied.line(), extra={"task_id": task_id})

    def _lost(self, stale: list[Message], now: float) -> list[Message]:
        """Of chunks and parts sent before, those whose messages are lost: all, if their queue is empty."""
        lost: list[Message] = []
        try:
            for queue in {message.queue for message in stale}:
                with self._interruptible():
                    if not self._broker.waiting(queue):
                        lost += [message for message in stale if message.queue == queue]
        except Exception as error:  # noqa: BLE001 - any transport, any failure of it
            self._broken(error, now)
        return lost

    def _send(self, messages: list[Message], now: float) -> None:
        """Publish; what cannot be sent is unmarked and tried again."""
        for index, message in enumerate(messages):
            try:
                with self._interruptible():
                    self._broker.send(message)
            except Exception as error:  # noqa: BLE001 - any transport, any failure of it
                self._broken(error, now)
                with self._write() as session:
                    dispatch.mark(session, messages[index:], None)
                return

    def _broken(self, error: Exception, now: float) -> None:
        self._quiet_until = now + QUIET_S
        log.warning("the broker cannot be reached (%s): tried again", type(error).__name__)

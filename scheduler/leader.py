"""One scheduler leads; the others stand by."""

from __future__ import annotations

import os
import secrets
import socket

from sqlalchemy import update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from scheduler.watch import Watch
from sync_tasks import names
from sync_tasks.errors import Fenced
from sync_tasks.models import Lease
from sync_tasks.store import leases
from sync_tasks.store.database import Database

RENEW_S = 0.8
TTL_S = 3.0
"""Shorter than that of work: a leader that is deposed by mistake is fenced, and has nothing under way that is lost."""


class Leader:
    """This process's hold on the scheduler's lease.

    Args:
        database: where the lease is.
        host: of this process; owners on the same host are known to be dead by their pid.
    """

    def __init__(self, database: Database, host: str | None = None) -> None:
        self._db = database
        self._host = host or socket.gethostname()
        self.owner = f"{self._host}:{os.getpid()}:{os.getpid()}:{secrets.token_hex(4)}"
        self.epoch: int | None = None
        self._renewed = 0.0
        self._watch: Watch[str] = Watch(TTL_S)

    def leads(self, now: float) -> bool:
        """Whether this process leads at lived time `now`; claims and renews as needed."""
        if self.epoch is None:
            self.epoch = self._claim(now)
            self._renewed = now
        elif now - self._renewed >= RENEW_S:
            self._renew(now)
        return self.epoch is not None

    def guard(self, session: Session) -> None:
        """Hold the lease until the transaction ends. Raises Fenced if another leads."""
        if self.epoch is None:
            raise leases.lost(names.SCHEDULER_LEASE)
        leases.guard(session, names.SCHEDULER_LEASE, self.owner, self.epoch)

    def deposed(self) -> None:
        """Another leads: stand by."""
        self.epoch = None

    def resign(self) -> None:
        """Give the lease back, so that the next scheduler leads at once."""
        if self.epoch is not None:
            with self._db.write() as session:
                leases.release(session, names.SCHEDULER_LEASE, self.epoch)
            self.epoch = None

    def _renew(self, now: float) -> None:
        assert self.epoch is not None
        try:
            with self._db.rows() as rows:
                leases.renew(rows, names.SCHEDULER_LEASE, self.owner, self.epoch)
            self._renewed = now
        except Fenced:
            self.epoch = None

    def _claim(self, now: float) -> int | None:
        with self._db.read() as session:
            lease = session.get(Lease, names.SCHEDULER_LEASE)
        if lease is not None and lease.owner is not None and not self._is_dead(lease, now):
            return None
        with self._db.write() as session:
            return self._take(session, lease)

    def _is_dead(self, lease: Lease, now: float) -> bool:
        assert lease.owner is not None
        host, _, rest = lease.owner.partition(":")
        pid = rest.partition(":")[0]
        if host == self._host and pid.isdigit() and not _exists(int(pid)):
            return True
        return bool(self._watch.expired({lease.name: (lease.epoch, lease.beat)}, now))

    def _take(self, session: Session, seen: Lease | None) -> int | None:
        if seen is None:
            if session.get(Lease, names.SCHEDULER_LEASE) is not None:
                return None  # another was quicker
            return self._make(session)
        return session.scalar(
            update(Lease)
            .where(Lease.name == seen.name, Lease.epoch == seen.epoch, Lease.beat == seen.beat)
            .values(owner=self.owner, epoch=Lease.epoch + 1, beat=0)
            .returning(Lease.epoch)
            .execution_options(synchronize_session=False)
        )

    def _make(self, session: Session) -> int | None:
        """The first lease of all. On PostgreSQL two may come so far at once, and one of them fails."""
        try:
            with session.begin_nested():
                session.add(Lease(name=names.SCHEDULER_LEASE, owner=self.owner, epoch=1, beat=0))
        except IntegrityError:
            return None
        return 1


def _exists(pid: int) -> bool:
    """Whether a process of this host still is there, ours to signal or not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True

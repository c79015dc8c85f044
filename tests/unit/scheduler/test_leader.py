"""One leads."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

from scheduler.leader import RENEW_S, TTL_S, Leader
from sync_tasks import names
from sync_tasks.models import Lease
from sync_tasks.store import Store


def test_the_first_leads_and_the_second_stands_by(store: Store) -> None:
    first, second = Leader(store.database), Leader(store.database)
    for now in (0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0):
        assert first.leads(now)
        assert not second.leads(now)
    first.resign()
    assert second.leads(6.1)
    assert second.epoch == 2


def test_a_silent_leader_is_replaced_and_notices(store: Store) -> None:
    first, second = Leader(store.database), Leader(store.database)
    assert first.leads(0.0)
    assert not second.leads(0.5)
    assert not second.leads(0.5 + TTL_S - 0.1)
    assert second.leads(0.5 + TTL_S)
    assert not first.leads(RENEW_S + 5.0)
    assert second.leads(0.5 + TTL_S + RENEW_S)
    first.resign()
    assert second.leads(20.0), "who leads no more has nothing to give back"


def test_a_dead_leader_of_this_host_is_replaced_at_once(store: Store) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    first = Leader(store.database)
    first.owner = f"{first._host}:{child.pid}:{child.pid}:x"
    assert first.leads(0.0)
    assert Leader(store.database).leads(0.1)


def test_a_living_process_or_another_host_is_waited_for(store: Store) -> None:
    first = Leader(store.database)
    assert first.leads(0.0)
    assert not Leader(store.database).leads(0.1)
    assert not Leader(store.database, host="elsewhere").leads(0.1)
    assert str(os.getpid()) in first.owner


def test_of_two_that_see_the_same_dead_leader_one_wins(store: Store) -> None:
    """Both have read the lease before either takes it."""
    assert Leader(store.database).leads(0.0)
    with store.database.read() as session:
        seen = session.get_one(Lease, names.SCHEDULER_LEASE)
    second, third = Leader(store.database), Leader(store.database)
    with store.database.write() as session:
        assert second._take(session, seen) == 2
    with store.database.write() as session:
        assert third._take(session, seen) is None


def test_of_two_that_come_first_at_once_one_wins(store: Store) -> None:
    """Neither has seen a lease; on PostgreSQL the second waits for what the first has not committed yet."""
    first, second = Leader(store.database), Leader(store.database)
    won: list[int | None] = []

    def come() -> None:
        with store.database.write() as session:
            won.append(second._take(session, None))

    thread = threading.Thread(target=come)
    with store.database.write() as session:
        won.append(first._take(session, None))
        thread.start()
        thread.join(0.2)
    thread.join(10)
    assert won == [1, None]
    assert not second.leads(0.0)

"""Which replica is read: one that has the master's stream, whole and lately; else the master, and why."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import ConnectionLost, Side
from sync_tasks.replicas import LATE_BYTES, Reading, choose
from tests.servers import free_port
from tests.unit.control.talking import Hall, Says

STREAM = "a" * 40


@pytest.fixture
def hall() -> Iterator[Hall]:
    with ExitStack() as stack:
        yield Hall(stack)


def replica(hall: Hall, offset: int = 1000, **fields: object) -> Says:
    up = {"role": "slave", "master_link_status": "up", "master_replid": STREAM, "slave_repl_offset": offset}
    up |= {"repl_backlog_active": 1, "repl_backlog_first_byte_offset": 901}
    return hall.server(**{**up, **fields})


def master(hall: Hall, *ports: int, offset: int = 1000, **fields: object) -> Says:
    lines = {
        f"slave{n}": f"ip=127.0.0.1,port={port},state=online,offset=1000,lag=0" for n, port in enumerate(ports)
    }
    return hall.server(master_replid=STREAM, master_repl_offset=offset, **lines, **fields)


def chosen(server: Says, least: int = 0, avoid: tuple[str, ...] = ()) -> Reading:
    return choose(Endpoint.parse(f"redis://:pw@127.0.0.1:{server.port}/3", Side.SOURCE), least, avoid)


def test_the_one_that_has_come_furthest(hall: Hall) -> None:
    one, other = replica(hall, 990), replica(hall, 1000)
    found = chosen(master(hall, one.port, other.port))
    assert (found.endpoint.port, found.replica) == (other.port, True)
    assert (found.endpoint.password, found.endpoint.db) == ("pw", 3)
    avoided = chosen(master(hall, one.port, other.port), avoid=(f"127.0.0.1:{other.port}",))
    assert avoided.endpoint.port == one.port


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"master_link_status": "down"}, "lost its master"),
        ({"master_sync_in_progress": 1}, "being loaded"),
        ({"master_replid": "b" * 40}, "another stream"),
        ({"slave_repl_offset": 899}, "late"),
        ({"replica_announced": 0}, "not announced"),
        ({"repl_backlog_active": 0}, "backlog"),
        ({"repl_backlog_first_byte_offset": 902}, "backlog"),
        ({"role": "master"}, "it is a master"),
    ],
)
def test_who_is_passed_over(hall: Hall, fields: dict[str, object], why: str) -> None:
    one = replica(hall, **fields)
    found = chosen(known := master(hall, one.port), least=900)
    assert (found.endpoint.port, found.replica) == (known.port, False)
    assert found.why.startswith(f"127.0.0.1:{one.port}: ")
    assert why in found.why


def test_a_backlog_that_just_reaches(hall: Hall) -> None:
    assert chosen(master(hall, replica(hall).port), least=900).replica
    assert chosen(master(hall, replica(hall, repl_backlog_active=0).port)).replica, "a snapshot is to come"


def test_far_behind(hall: Hall) -> None:
    one = replica(hall, 1000)
    assert chosen(master(hall, one.port, offset=1000 + LATE_BYTES)).replica
    assert not chosen(master(hall, one.port, offset=1001 + LATE_BYTES)).replica


def test_nobody(hall: Hall) -> None:
    gone = free_port()
    assert chosen(master(hall)).why == "it has no replica"
    assert chosen(master(hall, 0)).why == "it has no replica", "port 0: a reader such as we are"
    assert chosen(master(hall, gone)).why == f"127.0.0.1:{gone}: connection refused"
    assert "before Redis 4.0" in chosen(hall.server(run_id="x")).why


def test_a_replica_that_was_named_is_taken(hall: Hall) -> None:
    one = replica(hall)
    assert (chosen(one).endpoint.port, chosen(one).replica) == (one.port, True)


def test_without_the_master_nothing_is_known() -> None:
    with pytest.raises(ConnectionLost):
        choose(Endpoint.parse(f"redis://127.0.0.1:{free_port()}", Side.SOURCE))


def test_of_those_that_sentinels_know(hall: Hall) -> None:
    one, down = replica(hall), replica(hall, 1001)
    known = master(hall)

    def listed(server: Says, flags: str) -> bytes:
        words = ["ip", "127.0.0.1", "port", str(server.port), "flags", flags]
        return b"*6\r\n" + b"".join(b"$%d\r\n%s\r\n" % (len(word), word.encode()) for word in words)

    sentinel = hall.sentinel(known)
    sentinel.also["SLAVES"] = b"*2\r\n" + listed(down, "s_down,slave") + listed(one, "slave")
    found = choose(Endpoint.parse(f"redis+sentinel://127.0.0.1:{sentinel.port}/orders", Side.SOURCE))
    assert (found.endpoint.port, found.replica) == (one.port, True)

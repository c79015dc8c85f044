"""Who writes, and how that is paused, on a real server."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from sync_tasks.errors import Side, SourceError
from tests.servers import Server, start
from tests.unit.protocol.conftest import endpoint
from workers.hold import Hold, Holds, as_state, means, undo_left, writable
from workers.link import Link
from workers.writers import Writers, in_words, quiet


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with start("redis-7.0") as made:
        yield made


@pytest.fixture
def link(server: Server) -> Iterator[Link]:
    made = Link(endpoint(server, Side.SOURCE), "keyferry-test", 0)
    yield made
    made.close()


def test_commands_of_clients_are_counted_and_what_expires_is_not(server: Server, link: Link) -> None:
    with server.client() as client:
        client.set("brief", 1, px=1)
        client.set("read", 1)
        writers = Writers(link)
        before = writers.look()
        time.sleep(0.05)
        assert client.get("brief") is None
        client.get("read")
        assert writers.between(before, writers.look()) == {}
        client.rpush("list", 1, 2)
        client.eval("redis.call('INCR', 'n')", 0)
        assert writers.between(before, writers.look()) == {"rpush": 1, "incr": 1}
        before = writers.look()
        client.config_resetstat()
        client.rpush("list", 3)
        assert writers.between(before, writers.look()) == {"rpush": 1}, "counts that began anew"


def test_nobody_is_named_while_nobody_writes(link: Link) -> None:
    slept: list[float] = []
    assert quiet(Writers(link), 0.2, lambda s: (slept.append(s), time.sleep(s))[1], lambda *_: True) == ({}, [])
    assert slept, "it takes its time, of which looking is a part"
    assert in_words({"set": 3, "del": 9}, []) == "DEL 9, SET 3; by a client that is gone"


def test_a_pause_ends_by_itself_and_by_being_undone(server: Server, link: Link) -> None:
    how = means(link)
    assert how.pause
    with server.client(socket_timeout=20) as client:
        hold = Hold(endpoint(server, Side.SOURCE), how)
        hold.begin(0.3)
        assert hold.holds
        began = time.monotonic()
        client.set("k", 1)
        assert 0.1 < time.monotonic() - began < 5, "writes waited, and then went on"
        assert not hold.holds
        hold.begin(30)
        assert client.get("k") == b"1", "reads do not wait"
        undo_left(endpoint(server, Side.SOURCE), as_state(hold))
        client.set("k", 2)
        hold.close()


def test_a_limit_is_kept(server: Server, link: Link) -> None:
    holds = Holds([Hold(endpoint(server, Side.SOURCE), means(link))], 1.2)
    holds.begin()
    holds.check()
    time.sleep(2.5)
    with pytest.raises(SourceError) as caught:
        holds.check()
    assert caught.value.code == "pause-limit"
    assert holds.undo()


def test_a_setting_is_put_back_as_it_was(server: Server, link: Link) -> None:
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "setter", "on", ">pw", "~*", "+@all", "-client|pause")
        client.config_set("min-replicas-max-lag", 3)
        mine = Link(endpoint(server, Side.SOURCE), "keyferry-test", 0)
        mine.ask(b"AUTH", b"setter", b"pw")
        how = means(mine)
        mine.close()
        assert (how.pause, how.setting, how.before) == (False, "min-replicas-to-write", ["0", "3"])
        assert "CONFIG SET min-replicas-to-write is permitted" in how.words
        hold = Hold(endpoint(server, Side.SOURCE), how)
        hold.begin(5)
        with pytest.raises(Exception, match=r"(?i)replicas"):
            client.set("k", 1)
        hold.begin(5)
        hold.end()
        assert client.config_get("min-replicas-*") == {"min-replicas-to-write": "0", "min-replicas-max-lag": "3"}
        client.set("k", 1)
        hold.close()
        client.execute_command("ACL", "SETUSER", "nothing", "on", ">pw", "~*", "+@all", "-client|pause", "-config")
        mine = Link(endpoint(server, Side.SOURCE), "keyferry-test", 0)
        mine.ask(b"AUTH", b"nothing", b"pw")
        how = means(mine)
        mine.close()
        assert (how.pause, how.setting) == (False, None)
        assert "cannot be paused" in how.words


def test_of_a_replica_the_master_is_paused(server: Server) -> None:
    with start("redis-7.0", config={"replicaof": f"127.0.0.1 {server.port}"}) as replica:
        found = writable(endpoint(replica, Side.SOURCE))
    assert (found.host, found.port) == ("127.0.0.1", server.port)

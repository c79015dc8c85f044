"""Questions to the source, on real servers."""

from __future__ import annotations

import pytest

from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import CredentialsRefused, Side
from tests.servers import Server
from tests.unit.protocol.conftest import endpoint
from workers.source.ask import GONE, Source

FAR = 4_000_000_000_000  # ms


def as_user(server: Server, *rights: str) -> Source:
    """Asks as a user who may do just that."""
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "asker", "reset", "on", ">word", "~*", *rights)
    url = server.url().replace("redis://", "redis://asker:word@")
    return Source(Endpoint.parse(url, Side.SOURCE))


@pytest.fixture
def filled(source: Server) -> Server:
    with source.client() as client:
        client.flushall()
        client.mset({"a": 1, "b": 2})
        client.pexpireat("a", FAR)
        client.execute_command("SELECT", 3)
        client.set("c", 3)
    return source


def test_keys_times_and_place_are_those_of_the_server(filled: Server) -> None:
    asks = Source(endpoint(filled, Side.SOURCE))
    with filled.client() as client:
        info = client.info("replication")
    assert asks.keys() == 3
    assert (asks.position().replid, asks.offset()) == (info["master_replid"], info["master_repl_offset"])
    assert asks.times(0, [b"a", b"b", b"c"]).times == [FAR, -1, GONE]
    assert asks.times(3, [b"a", b"c"]).times == [GONE, -1]
    asks.close()


def test_it_needs_no_more_rights_than_to_ask(filled: Server) -> None:
    """Not CLIENT, and SELECT only for other databases: users were granted rights by what was needed so far."""
    asks = as_user(filled, "+info", "+multi", "+exec", "+pexpiretime")
    assert asks.offset() >= 0
    assert asks.times(0, [b"a"]).times == [FAR]
    with pytest.raises(CredentialsRefused):
        asks.times(3, [b"a"])
    with pytest.raises(CredentialsRefused):
        as_user(filled, "+ping").offset()


def test_it_connects_again_after_a_cut(filled: Server) -> None:
    asks = Source(endpoint(filled, Side.SOURCE))
    asks.offset()
    with filled.client() as client:
        client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    with pytest.raises(Exception, match="the source"):
        asks.offset()
    assert asks.offset() >= 0
    asks.close()

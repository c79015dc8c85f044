"""What tells that notifications of a source were lost, on real servers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import pytest
from redis import Redis

from sync_tasks.errors import Side, SourceError
from tests.servers import Server, start
from tests.unit.protocol.conftest import endpoint, until
from workers.source.notices import Notices
from workers.source.survey import Survey
from workers.told import Told

KINDS = ("redis-6.2", "redis-7.0", "valkey-9.1")
REFILLED = "for n = 1, 3000 do redis.call('SET', 'z' .. n % 50, string.rep('y', 100)) end"


@pytest.fixture
def listening(source: Server) -> Iterator[tuple[Redis, Notices, Told]]:
    told = Told()
    notices = Notices(endpoint(source, Side.SOURCE), told, lambda db, key: True)
    with source.client() as client:
        client.flushall()
        client.config_set("notify-keyspace-events", "EA")
        notices.begin()
        yield client, notices, told
        notices.stop()
        client.config_set("notify-keyspace-events", "")


def test_other_channels_than_those_that_are_heard(listening: tuple[Redis, Notices, Told]) -> None:
    client, notices, told = listening
    client.config_set("notify-keyspace-events", "KEA")
    notices.setting()
    client.config_set("notify-keyspace-events", "KA")
    client.set("unheard", 1)
    assert notices.heard(5.0), "it answers all the same"
    assert len(told) == 0
    with pytest.raises(SourceError) as refused:
        notices.setting()
    assert refused.value.code == "notifications-elsewhere"


def test_off_and_on_again(listening: tuple[Redis, Notices, Told], source: Server) -> None:
    """Between two looks at the setting, a server since 7.0 tells it by a count."""
    client, notices, _ = listening
    asks = Survey(endpoint(source, Side.SOURCE))
    before = asks.upset()
    notices.setting()
    client.set("a", 1)
    assert asks.upset() == before
    client.config_set("notify-keyspace-events", "")
    client.config_set("notify-keyspace-events", "EA")
    notices.setting()
    assert asks.upset() != before
    asks.close()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("held", ["1mb", "16kb"])
def test_a_replica_that_takes_its_masters_data_anew(kind: str, held: str) -> None:
    """From the same master under the same id; a reconnection that goes on where it was is none, nor a full backlog."""
    little = {"repl-backlog-size": "16kb", "repl-timeout": "5"}
    with start(kind, config=little) as master, start(kind, config={"repl-backlog-size": held}) as replica:
        writer, reader = master.client(), replica.client()
        writer.mset({f"k:{n}": "x" * 100 for n in range(100)})
        reader.execute_command("REPLICAOF", "127.0.0.1", master.port)
        until(lambda: reader.info("replication")["master_link_status"] == "up")

        def caught_up() -> bool:
            here, there = reader.info("replication"), writer.info("replication")
            level = here.get("slave_repl_offset") == there["master_repl_offset"]
            return here["master_link_status"] == "up" and level

        asks = Survey(endpoint(replica, Side.SOURCE))
        before = asks.upset()
        for _ in range(2):
            writer.set("k:1", "other" * 2000)
            until(caught_up)
            assert asks.upset() == before
        reader.client_kill_filter(_type="master")
        until(caught_up)
        assert writer.info("stats")["sync_partial_ok"] > 0
        assert asks.upset() == before
        with suppress(Exception), writer.pipeline(transaction=False) as pipe:
            pipe.execute_command("CLIENT", "KILL", "TYPE", "replica")
            pipe.eval(REFILLED, 0)
            pipe.delete(*[f"k:{n}" for n in range(50)])
            pipe.execute()
        until(lambda: writer.info("stats")["sync_full"] > 1)
        until(caught_up)
        assert reader.info("replication")["master_replid"] == before[0]
        assert asks.upset() != before
        asks.close()

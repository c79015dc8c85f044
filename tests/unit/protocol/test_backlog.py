"""A source's stream that is continued without a snapshot: where it begins, and on which database it acts there."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sync_tasks.errors import ConnectionLost, KeyferryError, Side, SourceError
from tests.servers import Server, StartServer, start
from tests.unit.protocol.conftest import Port, endpoint, known, never, until
from workers import way_back
from workers.added import Addition
from workers.codec.resp_cy import parse
from workers.continued import ContinuedReceiver, loaded
from workers.scope import Scope
from workers.source import backlog
from workers.source.ask import Position, Source
from workers.source.backlog import begin, keeps
from workers.source.psync import Continued, ReplicaLink
from workers.spool.commands import commands
from workers.spool.log import Log
from workers.target.claim import Checkpoint

ID, FORMER = "a" * 40, "b" * 40
INFO = {
    "role": "master", "master_replid": ID, "master_replid2": FORMER, "second_repl_offset": "301",
    "repl_backlog_active": "1", "repl_backlog_first_byte_offset": "101", "repl_backlog_histlen": "400",
}  # fmt: skip


@pytest.mark.parametrize(
    ("replid", "offset", "kept"),
    [
        (ID, 99, False), (ID, 100, True), (ID, 500, True), (ID, 501, False), (FORMER, 99, False), (FORMER, 300, True),
        (FORMER, 301, False), ("c" * 40, 200, False), (None, 200, False), (ID, None, False),
    ],
)  # fmt: skip
def test_what_a_backlog_keeps(replid: str | None, offset: int | None, kept: bool) -> None:
    assert keeps(INFO, replid, offset) == kept
    assert not keeps({**INFO, "repl_backlog_active": "0"}, replid, offset)


@pytest.fixture(scope="module", params=["redis-6.2", "redis-7.0", "redis-8.2", "valkey-8.1", "valkey-9.1"])
def keeping(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server that keeps a backlog, without a replica."""
    with start(request.param) as server:
        way_back.keep(endpoint(server, Side.SOURCE))
        yield server


def acts_on(stream: bytes, db: int, key: bytes) -> int:
    """On which database a stream, which begins on another, sets a key."""
    position, argv = 0, [b""]
    while argv[:2] != [b"SET", key]:
        argv, position = parse(stream, position)
        db = int(argv[1]) if argv[0] == b"SELECT" else db
    return db


def test_the_database_is_known_wherever_the_stream_is(keeping: Server) -> None:
    keeping.client().config_resetstat()
    for before, db in ((0, 1), (5, 1), (1, 0), (0, 5)):
        keeping.client(db=before).set("before", db)
        point, kept = begin(endpoint(keeping, Side.SOURCE))
        link = ReplicaLink(endpoint(keeping, Side.SOURCE))
        assert isinstance(link.psync(point.replid, point.offset), Continued)
        keeping.client(db=db).set("behind", db)
        for each in (kept, link):
            sent = b""
            while b"behind" not in sent:
                sent += each.receive()
            each.close()
            assert acts_on(sent, point.db, b"behind") == db
        assert keeping.client(db=db).keys("keyferry:*") == []
    assert keeping.client().info("stats")["sync_full"] == 0


def test_it_begins_behind_whole_transactions(keeping: Server) -> None:
    """Under traffic of transactions over several databases."""
    over = threading.Event()

    def write() -> None:
        client = keeping.client()
        while not over.is_set():
            with client.pipeline(transaction=True) as pipe:
                for db in (3, 4, 3):
                    pipe.execute_command("SELECT", db)
                    pipe.set("k", db)
                pipe.execute()

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(20):
            point, kept = begin(endpoint(keeping, Side.SOURCE))
            link = ReplicaLink(endpoint(keeping, Side.SOURCE))
            assert isinstance(link.psync(point.replid, point.offset), Continued)
            for each in (kept, link):
                sent = b""
                while sent.count(b"\r\nEXEC\r\n") < 1:
                    sent += each.receive()
                each.close()
                assert b"\r\nMULTI\r\n" in sent[: sent.index(b"\r\nEXEC\r\n")]
                assert sent.startswith(b"*")
    finally:
        over.set()
        thread.join()


def test_a_source_with_one_database(server: StartServer) -> None:
    one = server("redis-7.0", config={"databases": "1"})
    way_back.keep(endpoint(one, Side.SOURCE))
    point, link = begin(endpoint(one, Side.SOURCE))
    link.close()
    assert point.db == 0


def test_only_what_can_be_had_without_a_snapshot_is_asked_for(server: StartServer) -> None:
    master = server("redis-7.0")
    with pytest.raises(SourceError, match="keeps no backlog") as caught:
        begin(endpoint(master, Side.SOURCE))
    assert caught.value.code == "no-backlog"
    assert master.client().info("stats")["sync_full"] == 0
    replica = server("redis-7.0", config={"replicaof": f"127.0.0.1 {master.port}"})
    with pytest.raises(SourceError, match="is a replica"):
        begin(endpoint(replica, Side.SOURCE))


def test_a_snapshot_that_comes_all_the_same_is_declined(server: StartServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The backlog may be lost just before it is asked for."""
    source = server("redis-7.0", config={"repl-diskless-sync-delay": "5"})
    monkeypatch.setattr(backlog, "keeps", lambda *_: True)
    with pytest.raises(ConnectionLost, match="snapshot is not taken"):
        begin(endpoint(source, Side.SOURCE))
    assert until(lambda: source.client().info("replication")["connected_slaves"] == 0)
    assert source.client().info("persistence")["rdb_saves"] == 0


def test_a_source_that_loads_its_data_has_not_lost_its_stream(server: StartServer, tmp_path: Path) -> None:
    """Until then it says that it has another one, and keeps nothing of it."""
    slow = {"key-load-delay": "5000", "loading-process-events-interval-bytes": "1024"}
    source = server("redis-7.0", config=slow)
    source.client().mset({f"k{number}": "x" * 100 for number in range(400)})
    at = endpoint(source, Side.SOURCE)
    way_back.keep(at)
    place, log = Source(at).position(), Log(tmp_path / "log", 1)
    log.reset(place.replid, place.offset)
    receiver = ContinuedReceiver(
        at, Port(), log, tmp_path, Source(at), committed=lambda: None, begin=never, checkpoint=lambda: None,
        border=threading.Lock(), reopen=never, known=known(tmp_path),
    )  # fmt: skip
    source.stop(save=True)
    source._spawn()
    assert until(lambda: says_loading(receiver._follow) and says_loading(lambda: begin(at)), 10)
    assert receiver._goes_on(receiver.port.node())
    assert source._answers()
    assert keeps(backlog.replication(at), place.replid, place.offset)


def says_loading(call: Callable[[], Any]) -> bool:
    try:
        call()
    except KeyferryError as error:
        return "loading" in error.message
    return False


@pytest.mark.parametrize("kind", ["redis-6.2", "redis-7.0", "valkey-9.1"])
def test_a_busy_source_keeps_the_place_for_a_moment_only(server: StartServer, tmp_path: Path, kind: str) -> None:
    """It has written more than its backlog by the time that the ranges are cut."""
    source = server(kind, config={"repl-backlog-size": "16384"})
    source.client().set("k", 1)
    at = endpoint(source, Side.SOURCE)
    way_back.keep(at)

    def write(_: int) -> None:
        for number in range(20):
            source.client(db=3).set(f"large:{number}", "x" * 100_000)

    port, log = Port(), Log(tmp_path / "log", 1)
    receiver = ContinuedReceiver(
        at, port, log, tmp_path, Source(at), committed=lambda: None, begin=write, checkpoint=lambda: None,
        border=threading.Lock(), reopen=lambda *_: None, known=known(tmp_path),
    )  # fmt: skip
    receiver.start()
    try:
        assert until(lambda: receiver.connected or port.failures, 10)
        source.client().set("behind", 1)
        assert until(lambda: log.end == Source(at).offset() or port.failures, 10)
        assert port.failures == []
        (found,) = [db for db, argv in commands(log, log.start, log.end, 0, never) if argv[:2] == [b"SET", b"behind"]]
        assert found == 0
    finally:
        receiver.stop_event.set()
        receiver.join(10)
    assert not receiver.is_alive()
    assert source.client().info("stats")["sync_full"] == 1, "by whom it keeps a backlog"
    assert until(lambda: source.client().info("replication")["connected_slaves"] == 0, 10)


@pytest.mark.parametrize("kept", [True, False])
def test_a_damaged_log_is_fetched_again_from_where_it_is_needed(
    server: StartServer, tmp_path: Path, kept: bool
) -> None:
    """Of what is still added, all that the stream has named is."""
    source = server("redis-7.0")
    at = endpoint(source, Side.SOURCE)
    way_back.keep(at)
    base = Source(at).position()
    source.client().mset({f"k{number}": number for number in range(100)})
    there, log = Source(at).position(), Log(tmp_path / "log", 1)
    adding = Addition("", base.offset if kept else -1000, 3, base.replid, 0).text
    found = Checkpoint(there.replid, there.offset, 5, 1, "", 0, "streaming", 1, False, adding=adding)
    log.reset(base.replid, base.offset)
    log.wanted = there.replid, there.offset, 5
    receiver = ContinuedReceiver(
        at, Port(), log, tmp_path, Source(at), committed=lambda: None, begin=never, checkpoint=lambda: found,
        border=threading.Lock(), reopen=never, known=known(tmp_path),
    )  # fmt: skip
    receiver._mend_log()
    assert (log.start, log.end, log.wanted) == (*[base.offset if kept else there.offset] * 2, None)


@pytest.mark.parametrize(("replid", "kept"), [(ID, ID), (FORMER, "")])
def test_what_was_read_of_another_server_is_added_anew(replid: str, kept: str) -> None:
    source: Any = SimpleNamespace(position=lambda: Position(replid, 900))
    found = loaded(Scope(None), source, ID, 500, 3, 7, 12)
    assert (found.replid, found.base, found.db, found.read, found.todo) == (kept, 500, 3, 900, [])
    assert found.keys == 12
    assert Addition.parse(found.text, Scope(None).extent) == found


def test_a_stream_that_does_not_say_it_is_asked_again(keeping: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "MOST_BYTES", 0)
    with pytest.raises(ConnectionLost, match="does not say"):
        begin(endpoint(keeping, Side.SOURCE))

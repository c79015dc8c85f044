"""What a review found broken; each test failed before its find was mended."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sync_tasks.errors import ConnectionLost, KeyferryError, Side, SpoolFull
from tests.servers import Server, start
from tests.unit.protocol.conftest import (
    NODE,
    REPLID,
    UID,
    Chained,
    Followed,
    Port,
    endpoint,
    known,
    never,
    translator,
    until,
)
from workers import settle
from workers.apply import Applier
from workers.clock import Clock
from workers.codec.reads import Reads
from workers.codec.resp_cy import encode, parse, transaction
from workers.expiry import FIELD_HOLD, HOLD
from workers.inquire import Inquiry
from workers.own_keys import own_keys
from workers.receive import Receiver
from workers.scope import Scope
from workers.search import Search
from workers.snapshot import SnapshotReader
from workers.source.ask import Position, Source
from workers.spool import chunks
from workers.spool.log import Block, Cursor, Log
from workers.target.claim import STREAMING, Checkpoint, claim
from workers.target.expiries import Expiries
from workers.target.link import TargetLink
from workers.times import retime

CK = b"keyferry:%s:0:ck" % UID.encode()
OURS = f"keyferry-{UID}-0"

def now_ms() -> int:
    return time.time_ns() // 1_000_000


@pytest.mark.parametrize("cut", [b"$-", b"$-1", b"$-1\r", b"*-", b"*-1\r"])
def test_a_nil_cut_in_two_is_incomplete_not_malformed(cut: bytes) -> None:
    before = b"+OK\r\n:0\r\n+OK\r\n+QUEUED\r\n*1\r\n"
    assert parse(cut, 0) == (None, -1)
    assert transaction(before + cut, 0, 2, 1)[0] == -1


def test_an_owner_whose_claim_was_answered_into_a_cut_connection_claims_again(target: Server) -> None:
    own = Chained(target)
    link = TargetLink(endpoint(target), "cut", 0)
    real = link.try_all

    def cut(commands: list[list[bytes | int]]) -> list[Any]:
        values = real(commands)
        if commands[0] == [b"MULTI"]:
            raise ConnectionLost("cut behind the target's EXEC", side=Side.TARGET)
        return values

    link.try_all = cut  # type: ignore[method-assign]
    with pytest.raises(ConnectionLost):
        claim(link, UID, 0, 1, own.claim.nonce)
    claim(TargetLink(endpoint(target), "again", 0), UID, 0, 1, own.claim.nonce)


def test_a_failover_that_loses_a_claim_does_not_fence_its_owner(
    target: Server, follow: Callable[..., Followed]
) -> None:
    stream = follow(target)
    with target.client() as client:

        def cut() -> None:
            for one in client.client_list():
                if one["name"] == OURS:
                    client.client_kill_filter(_id=one["id"])

        stream.write([b"SELECT", b"0"], [b"SET", b"a", b"1"])
        assert until(lambda: client.get("a"))
        first = client.hgetall(CK)
        token = client.hgetall(first[b"tok"])
        cut()
        stream.write([b"SET", b"b", b"1"])
        assert until(lambda: client.get("b"))
        second = client.hgetall(CK)
        assert second[b"tok"] != first[b"tok"]
        with client.pipeline() as pipe:  # what a replica has that did not get the second claim
            pipe.delete(CK, second[b"tok"])
            pipe.hset(CK, mapping=first)
            pipe.hset(first[b"tok"], mapping=token)
            pipe.execute()
        cut()
        stream.write([b"SET", b"c", b"1"])
        assert until(lambda: client.get("c"), 3), stream.applier.error


def test_a_long_command_is_applied_when_nothing_follows_it(target: Server, follow: Callable[..., Followed]) -> None:
    stream = follow(target)
    data = encode([b"SELECT", b"0"]) + encode([b"SET", b"k", b"x" * 1_500_000])
    for at in range(0, len(data), 256 << 10):
        stream.log.append(data[at : at + (256 << 10)], now_ms())
    with target.client() as client:
        assert until(lambda: client.exists("k"), 3)


def test_a_long_reply_is_read_when_nothing_follows_it(target: Server) -> None:
    chain = Chained(target)
    with target.client() as client:
        client.rpush("l", b"x" * 1_500_000)
    chain.push(10, [b"LPOP", b"l"])
    done: list[Any] = []
    deadline = time.monotonic() + 3
    while not done and time.monotonic() < deadline:
        done = chain.chain.pump(0.2)
    assert done


def _settler(target: Server, source: Server, path: Path) -> tuple[Chained, Applier, settle.Settler]:
    chained = Chained(target, begin=False)
    chained.chain.held = True
    chained.push(0)
    chained.drain()
    asks = Source(endpoint(source, Side.SOURCE))
    applier = Applier(endpoint(target), Port(), Log(path / "log"), asks, path, Scope(None), 0, known(path))  # type: ignore[arg-type]
    expiries = Expiries(applier.endpoint, 0, False)
    search = Search(expiries, applier.scope, True, None)
    made = settle.Settler(applier.clock, chained.chain, expiries, search, Inquiry(asks, applier.scope))
    chained.chain.tip = (0, 0, REPLID)
    return chained, applier, made


def _steps(chained: Chained, settler: settle.Settler, most: int) -> None:
    for _ in range(most):
        if not settler.due():
            return
        window = settler.step()
        if window is not None:
            chained.chain.push(window)
            chained.drain()


def test_a_walk_does_not_begin_before_the_swap_that_asked_for_it(
    target: Server, source: Server, tmp_path: Path
) -> None:
    time_ms = now_ms() + 10_000_000
    with target.client() as zero, target.client(db=1) as one:
        for client, key in ((zero, "k"), (one, "j")):
            client.execute_command("SET", key, "v", "PXAT", time_ms + HOLD)
        chained, applier, settler = _settler(target, source, tmp_path)
        applier.clock.loading = False
        own = own_keys(UID, 0, 0, 1, chained.claim.tok)
        made = translator(own=own, touched=settler.touch, swapped=settler.swap, clock=applier.clock)
        made.feed(Block(0, now_ms(), 0, REPLID, encode([b"SWAPDB", b"0", b"1"])))
        _steps(chained, settler, 1)  # the window with the swap still gathers
        window = made.take()
        assert window is not None
        chained.chain.push(window)
        chained.drain()
        _steps(chained, settler, 50)
        settler.close()
        assert [one.pexpiretime("k"), zero.pexpiretime("j")] == [time_ms, time_ms]


def test_a_walk_does_not_begin_before_the_writes_it_was_asked_for(
    target: Server, source: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settle, "MOST_PENDING", 5)
    time_ms = now_ms() + 10_000_000
    chained, applier, settler = _settler(target, source, tmp_path)
    made = translator(touched=settler.touch, swapped=settler.swap, clock=applier.clock)
    data = b"".join(encode([b"SET", b"k%d" % i, b"v", b"PXAT", b"%d" % time_ms]) for i in range(6))
    made.feed(Block(0, now_ms(), 0, REPLID, data))
    applier.clock.loading = False
    _steps(chained, settler, 9)
    window = made.take()
    assert window is not None
    chained.chain.push(window)
    chained.drain()
    _steps(chained, settler, 50)
    settler.close()
    with target.client() as client:
        assert {client.pexpiretime(f"k{i}") for i in range(6)} == {time_ms}


def test_a_worker_that_wakes_up_does_not_write_into_its_successors_log(tmp_path: Path) -> None:
    old = Log(tmp_path)
    old.reset(REPLID, 0)
    old.append(b"x" * 100, 1)
    new = Log(tmp_path)  # the old one was stopped, its lease taken away
    cursor = Cursor(new, 0)
    cursor.read()
    stream = bytes(range(256)) * 4
    new.append(stream[:700], 2)
    new.append(stream[700:], 2)
    old.append(stream[:300], 3)  # it wakes: its receiver is quicker than its next beat
    got = b""
    while (block := cursor.read()) is not None:
        got += block.data
    assert got == stream
    assert Log(tmp_path).end == new.end


def test_an_answer_of_the_source_after_a_failure_closes_its_retry_window(
    source: Server, follow: Callable[..., Followed]
) -> None:
    """Past its deadline an open window fails the task, though all is well."""
    with start("redis-6.2") as target, source.client() as client, target.client() as reader:
        client.set("k", 1, px=100_000)
        stream = follow(target)
        real, calls = stream.source.times, []

        def times(db: int, keys: list[bytes]) -> Any:
            calls.append(keys)
            if len(calls) == 1:
                raise ConnectionLost("no answer in time", side=Side.SOURCE)
            end = stream.log.end or 0
            return replace(real(db, keys), at=Position(REPLID, end))

        stream.source.times = times  # type: ignore[method-assign]
        stream.write([b"SELECT", b"0"], [b"SET", b"k", b"1"], [b"PEXPIRE", b"k", b"100000"])
        assert until(lambda: len(calls) > 1 and 0 < reader.pttl("k") <= 100_000)
        time.sleep(0.3)
        assert not stream.port.open


def test_room_on_the_disk_closes_the_retry_window_of_a_snapshot(
    source: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = Port(node=replace(NODE, begun=False, snapshot_done=False, gen=0, replid=None))
    real, calls = chunks.ChunkWriter.add, []

    def add(self: chunks.ChunkWriter, *args: Any) -> None:
        calls.append(args)
        if len(calls) == 1:
            raise SpoolFull("full")
        real(self, *args)

    monkeypatch.setattr(chunks.ChunkWriter, "add", add)
    with source.client() as client:
        client.set("x", 1)
    asks = Source(endpoint(source, Side.SOURCE))
    receiver = Receiver(
        endpoint(source, Side.SOURCE), port, Log(tmp_path / "log"), tmp_path, asks,  # type: ignore[arg-type]
        lambda: None, lambda _: None, lambda: None, threading.Lock(), never, known(tmp_path),
    )  # fmt: skip
    receiver.start()
    try:
        assert until(lambda: port.view.snapshot_done, 10)
        assert until(lambda: not port.open, 3), port.open
    finally:
        receiver.stop_event.set()
        receiver.join()


def _snapshots_until_it_hears(source: Server, receiver: Receiver) -> int:
    """Run it until it has what the source writes; how many snapshots the source has sent for that."""
    with source.client() as client:
        before = int(client.info("stats")["sync_full"])
        receiver.start()
        try:
            assert until(lambda: receiver.connected or receiver.error, 10)
            client.incr("x")
            end = int(client.info("replication")["master_repl_offset"])
            assert until(lambda: (receiver.log.end or 0) >= end), receiver.error
        finally:
            receiver.stop_event.set()
            receiver.join()
        return int(client.info("stats")["sync_full"]) - before


def test_a_database_that_forgot_the_snapshot_needs_no_other(source: Server, tmp_path: Path) -> None:
    """A power cut took its last commits. The target streams already, and the log on disk goes on."""

    def receiver(checkpoint: Checkpoint | None) -> Receiver:
        port = Port(node=replace(NODE, begun=False, snapshot_done=False, gen=0, replid=None))
        asks = Source(endpoint(source, Side.SOURCE))
        return Receiver(
            endpoint(source, Side.SOURCE), port, Log(tmp_path / "log"), tmp_path, asks,  # type: ignore[arg-type]
            lambda: None, lambda _: None, lambda: checkpoint, threading.Lock(), never, known(tmp_path),
        )  # fmt: skip

    first = receiver(None)
    assert _snapshots_until_it_hears(source, first) == 1
    streams = Checkpoint(str(first.log.replid), first.log.start or 0, 0, 1, "", 0, STREAMING, 1, True)
    assert _snapshots_until_it_hears(source, receiver(streams)) == 0


def test_a_window_that_never_passes_keeps_its_retry_window_open(follow: Callable[..., Followed]) -> None:
    """Each claim succeeds and each window ends the connection: the deadline must come all the same."""
    with start("redis-7.0", config={"maxmemory-clients": "1mb"}) as target:
        stream = follow(target)
        sets = [[b"SET", b"k%d" % i, b"v" * 10000] for i in range(300)]
        stream.write([b"SELECT", b"0"], [b"MULTI"], *sets, [b"EXEC"])
        assert until(lambda: len(stream.port.failures) > 5)
        assert stream.port.opened == 1


def test_a_key_time_beyond_the_hold_stays_what_it_is(target: Server, follow: Callable[..., Followed]) -> None:
    """Nanoseconds taken for milliseconds."""
    time_ms = 1_764_000_000_000_000_000
    stream = follow(target, held=True)
    with target.client() as client:
        stream.write([b"SELECT", b"0"], [b"SET", b"k", b"1", b"PXAT", b"%d" % time_ms])
        assert until(lambda: client.hget(CK, "held") == b"0")
        assert client.pexpiretime("k") == time_ms


def test_a_field_time_beyond_the_hold_stays_what_it_is(follow: Callable[..., Followed]) -> None:
    year_9999 = 253_402_300_799_000
    with start("valkey-9.1") as target, target.client() as client:
        stream = follow(target, held=True)
        expire = [b"HPEXPIREAT", b"h", b"%d" % year_9999, b"FIELDS", b"1", b"f"]
        stream.write([b"SELECT", b"0"], [b"HSET", b"h", b"f", b"1"], expire)
        assert until(lambda: client.hget(CK, "held") == b"0")
        assert client.execute_command("HPEXPIRETIME", "h", "FIELDS", 1, "f") == [year_9999]


def test_field_times_held_on_redis_8_are_settled(follow: Callable[..., Followed]) -> None:
    time_ms = now_ms() + 3_600_000
    with start("redis-8.2") as target, target.client() as client:
        stream = follow(target, held=True)
        expire = [b"HPEXPIREAT", b"h", b"%d" % time_ms, b"FIELDS", b"1", b"f"]
        stream.write([b"SELECT", b"0"], [b"HSET", b"h", b"f", b"1"], expire)
        assert until(lambda: client.hget(CK, "held") == b"0")
        assert client.execute_command("HPEXPIRETIME", "h", "FIELDS", 1, "f") == [time_ms]


def test_gt_on_a_field_that_is_still_held_takes_effect() -> None:
    clock = Clock(0)
    time_ms = now_ms() + 3_600_000
    with start("valkey-9.1") as target, target.client() as client:
        client.hset("h", "f", 1)
        for at, loading, condition in ((time_ms, True, []), (time_ms + 5000, False, [b"GT"])):
            clock.loading = loading
            argv = [b"HPEXPIREAT", b"h", b"%d" % at, *condition, b"FIELDS", b"1", b"f"]
            done = retime(argv, clock, Reads(80))
            assert done is not None
            for command in done.commands:
                client.execute_command(*command)
        left = client.execute_command("HPEXPIRETIME", "h", "FIELDS", 1, "f")[0]
        assert left % FIELD_HOLD == time_ms + 5000


def test_a_checkpoint_before_a_change_of_id_has_the_former_id(tmp_path: Path) -> None:
    log = Log(tmp_path)
    log.reset(REPLID, 0)
    whole, cut = encode([b"SET", b"a", b"1"]), encode([b"SET", b"b", b"1"])
    made = translator()
    for replid, data in ((REPLID, whole + cut[:9]), ("b" * 40, cut[9:12])):
        log.rename(replid)
        at = log.end or 0
        log.append(data, 1)
        made.feed(Block(at, 1, 0, replid, data))
    window = made.take()
    assert window is not None
    assert log.covers(window.replid, window.end)


def test_the_loads_checkpoint_is_covered_when_the_id_changed_before_the_first_byte(tmp_path: Path) -> None:
    log = Log(tmp_path)
    log.reset(REPLID, 1000)
    log.rename("b" * 40)
    log.append(b"x", 1)
    assert log.covers(REPLID, 1000)


def test_a_snapshot_that_ends_too_early_is_malformed(source: Server, tmp_path: Path) -> None:
    with source.client() as client:
        client.mset({f"k{i}": "v" * 50 for i in range(100)})
        client.save()
    data = (source.dir / "dump.rdb").read_bytes()
    reader = SnapshotReader(
        tmp_path / "gen", closed=lambda _: None, progress=lambda _: None, stopping=lambda: False, waiting=lambda _: 0.0
    )
    with pytest.raises(KeyferryError):
        reader.read(None, iter([data[: len(data) // 2]]))  # type: ignore[arg-type]


def test_a_stale_window_whose_gate_is_refused_for_memory_writes_nothing(target: Server) -> None:
    with target.client() as client:
        client.set("n", 0)
        old = Chained(target, epoch=1)
        old.push(10, [b"INCR", b"n"])
        data = bytes(old.chain._out)
        gate = data.index(encode([b"MULTI"]))
        new = Chained(target, epoch=2)
        new.push(10, [b"INCR", b"n"])
        new.drain()
        client.config_set("maxmemory", 1)
        old.link.send(data[:gate])
        assert b"OOM" in old.link.receive()
        client.config_set("maxmemory", 0)
        old.link.send(data[gate:])
        old.link.receive()
        assert client.get("n") == b"1"

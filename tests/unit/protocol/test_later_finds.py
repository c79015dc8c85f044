"""What a second review found broken; each test failed before its find was mended."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sync_tasks.errors import CannotContinue, ConnectionLost, ControlError, Fenced, Side
from sync_tasks.names import is_gate
from tests.servers import Server, start
from tests.unit.protocol.conftest import NODE, REPLID, TASK, UID, Chained, Followed, Port, endpoint, known, never, until
from workers import resync
from workers.apply import Applier
from workers.clock import Clock
from workers.closing import Closing
from workers.codec.reads import Reads
from workers.codec.resp_cy import encode
from workers.expiry import HOLD
from workers.fence import fence, remove_keys
from workers.full import FencedBatches
from workers.gates import Gates
from workers.pending import Pending
from workers.receive import Receiver
from workers.scope import Scope
from workers.settle import Settler
from workers.source.ask import Position, Source
from workers.spool.damage import is_damaged
from workers.spool.log import Log
from workers.takeover import take_over
from workers.target import replicas
from workers.target.claim import LOADING, begin_load, claim
from workers.target.link import TargetLink
from workers.times import retime

CK = f"keyferry:{UID}:0:ck"


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def test_the_last_window_settles_what_a_window_behind_it_would_have_touched(
    target: Server, follow: Callable[..., Followed]
) -> None:
    """More is read than is carried: a lock is held since long, and written again behind where the target is closed."""
    stream = follow(target)
    stream.source.touch = lambda db, keys: None  # type: ignore[method-assign]
    with target.client() as client:
        stream.write([b"SELECT", b"0"], [b"SET", b"lock", b"1", b"PXAT", b"%d" % (now_ms() + 600)])
        assert until(lambda: client.get("lock") == b"1")
        assert until(lambda: stream.applier.progress.settled_at is not None)
        assert client.pexpiretime("lock") >= HOLD

        one = encode([b"INCR", b"n"])
        assert stream.log.end is not None
        goal = Position(REPLID, stream.log.end + 10 * len(one))
        stream.source.position = lambda: goal  # type: ignore[method-assign]
        stream.applier.finishing.set()
        time.sleep(0.8)  # the end is known, and the target has not come so far
        later = encode([b"SET", b"lock", b"2", b"PXAT", b"%d" % (now_ms() + 900)])
        stream.log.append(one * 12_000 + later, now_ms())
        assert until(lambda: stream.applier.closed_at is not None, 10), stream.applier.error
        assert client.hget(CK, "state") == b"finished"
        assert client.get("lock") in (b"1", b"2", None)
        assert client.pexpiretime("lock") < HOLD


def test_a_key_touched_again_counts_from_its_first_touch_until_the_later_one_is_on_the_target() -> None:
    pending = Pending()
    pending.touch((0, b"a"), 100)
    pending.touch((0, b"b"), 200)
    pending.touch((0, b"a"), 300)
    pending.touch((0, b"b"), 400)
    assert pending.least(committed=150) == 100
    assert pending.least(committed=300) == 200, "b's write of 200 is still what the target has"
    assert pending.least(committed=400) == 300
    assert len(pending) == 2


def chunks(*databases: int) -> list[Any]:
    return [SimpleNamespace(id=10 + seq, seq=seq, db=db, gen=1, epoch=1) for seq, db in enumerate(databases)]


def test_a_chunk_out_of_scope_misses_no_mark(target: Server, tmp_path: Path) -> None:
    port = Port()
    port.chunks = lambda _, every=False: chunks(0, 1)  # type: ignore[method-assign]
    link = TargetLink(endpoint(target), "test", 0)
    closing = Closing(port, NODE, Scope({0: 0}), tmp_path, 0, known(tmp_path))
    assert closing.missing(link) == [10]
    link.ask(b"HSET", f"keyferry:{UID}:0:marks:1".encode(), b"0", b"1")
    assert closing.missing(link) == []


def test_a_hash_whose_fields_are_being_settled_and_that_another_replaces_is_doubtful_anew() -> None:
    chain = SimpleNamespace(held=True, extend_ms=600_000, tip=(150, 0, REPLID), flying=[])
    search = SimpleNamespace(wanted=False, again=lambda *_: None)
    settler = Settler(chain=chain, clock=Clock(600_000), expiries=SimpleNamespace(), search=search, inquiry=None)  # type: ignore[arg-type]
    settler.extend(0, 100)  # the cut-over: every expiry is settled again
    key = (0, b"K")
    settler._doubtful.add(key)
    settler._pending.find(key, 0)
    settler._end(0, SimpleNamespace(key=b"K", when=5, hashed=True), settler._pending.pop(key), True)  # type: ignore[arg-type]
    settler.touch(0, b"K", 200, False)  # RENAME X K, with the former extension; not on the target yet
    settler._turn()  # the old hash comes to its end
    assert key in settler._doubtful
    assert not settler._nothing_left()
    assert settler._every


def test_a_restored_hash_with_field_times_is_settled_also_when_caught_up() -> None:
    with start("valkey-9.1") as server, server.client() as client:
        hour = now_ms() + 3_600_000
        client.hset("h", "f", "1")
        client.execute_command("HPEXPIREAT", "h", hour, "FIELDS", 1, "f")
        clock = Clock(600_000)
        clock.loading = clock.behind = False
        done = retime([b"RESTORE", b"copy", b"0", client.dump("h")], clock, Reads(80))
        assert done.keys == [b"copy"], "or nobody would look at it again"
        client.execute_command(*done.commands[0])
        assert client.execute_command("HPEXPIRETIME", "copy", "FIELDS", 1, "f")[0] > hour + 10**12


def test_a_claim_outlives_a_checkpoint_that_vanishes_under_it(target: Server) -> None:
    Chained(target).link.close()
    link = TargetLink(endpoint(target), "test", 0)
    real, emptied = link.ask_all, []

    def empty_once(commands: list[list[bytes | int]]) -> list[Any]:
        if not emptied and commands[0] == [b"MULTI"]:
            emptied.append(True)
            target.client().flushall()
        return real(commands)

    link.ask_all = empty_once  # type: ignore[method-assign]
    assert claim(link, UID, 0, 2, "n").found is None




@pytest.mark.parametrize(("setting", "refuses", "takes"), [("maxmemory", 1, 0), ("min-replicas-to-write", 1, 0)])
def test_a_window_that_was_refused_together_with_its_successors_gate_is_missed_by_every_claim(
    target: Server, setting: str, refuses: int, takes: int
) -> None:
    """The owner is killed before it has read a reply."""
    owner = Chained(target)
    owner.push(10, [b"INCR", b"n"])
    first = bytes(owner.chain._out)
    owner.push(20, [b"INCR", b"m"])
    second = bytes(owner.chain._out)[len(first) :]
    gate = second.index(encode([b"MULTI"]))
    with target.client() as client:
        client.config_set(setting, refuses)
        owner.link.send(first + second[:gate])
        assert until(lambda: client.info("stats")["total_error_replies"] > 0)
        time.sleep(0.1)
        client.config_set(setting, takes)
        owner.link.send(second[gate:])
        assert until(lambda: client.get("m") == b"1"), "the hole that this is about"
        assert client.get("n") is None
    owner.link.close()
    for epoch in (2, 3):  # and again, should the second owner be killed before it has told anybody
        port = Port(node=replace(NODE, fresh=False), epoch=epoch)
        link = TargetLink(endpoint(target), "test", 0)
        found = take_over(port, link, f"nonce {epoch}").found  # type: ignore[arg-type]
        assert resync.needed(port.node(), found)
        assert "lacks 1 windows before offset 20" in resync.reason(found)
        link.close()
    link = TargetLink(endpoint(target), "test", 0)
    begin_load(link, lambda: take_over(port, link, "nonce 3"), UID, 0, 2)  # type: ignore[arg-type]
    again = take_over(port, TargetLink(endpoint(target), "test", 0), "nonce 3").found  # type: ignore[arg-type]
    assert again is not None
    assert (again.state, again.gen, again.number, again.windows) == (LOADING, 2, 0, 0)
    assert not resync.needed(replace(NODE, begun=False, gen=2), again)


def test_windows_are_counted_through_claims_and_whole_database_commands(
    target: Server, follow: Callable[..., Followed]
) -> None:
    stream = follow(target)
    with target.client() as client:

        def counts() -> tuple[bytes | None, bytes | None]:
            number, windows = client.hmget(CK, "number", "windows")
            return number, windows

        def cut() -> None:
            for one in client.client_list():
                if one["name"] == f"keyferry-{UID}-0":
                    client.client_kill_filter(_id=one["id"])

        stream.write([b"SELECT", b"0"], [b"SET", b"a", b"1"])
        assert until(lambda: client.get("a") == b"1")
        cut()
        stream.write([b"SET", b"b", b"1"], [b"FLUSHALL"], [b"SET", b"c", b"1"], [b"SWAPDB", b"0", b"1"])
        stream.write([b"SELECT", b"1"], [b"SET", b"d", b"1"])
        assert until(lambda: target.client(db=1).get("d") == b"1"), stream.applier.error
        assert until(lambda: counts()[0] == counts()[1] and int(counts()[0] or 0) >= 3), counts()
        cut()
        stream.write([b"SET", b"e", b"1"])
        assert until(lambda: target.client(db=1).get("e") == b"1"), stream.applier.error
        assert counts()[0] == counts()[1]


SET_OLD = encode([b"SET", b"k", b"OLD"])


def loader(
    target: Server, gen: int = 1, what: str = "0", rightful: Callable[[], object] = lambda: None
) -> FencedBatches:
    return FencedBatches(TargetLink(endpoint(target), "loader", 0), UID, 0, gen, what, 0, 0, rightful)


def test_a_loader_that_was_asleep_writes_nothing_into_a_target_that_was_emptied(target: Server) -> None:
    """Between a restart and its new load somebody empties the target, and with it the gates of the old load."""
    asleep = loader(target)
    asleep.send(encode([b"SET", b"early", b"1"]), 1)
    asleep.finish()
    Chained(target)
    fence(endpoint(target), TASK, [NODE], 0)
    remove_keys(endpoint(target), TASK, [], 0, [0])
    with target.client() as client:
        client.flushall()
        client.set("k", "new")
        for _ in range(3):
            asleep.send(SET_OLD, 1)
        with pytest.raises(ConnectionLost, match="emptied"):
            asleep.finish()
        assert client.get("k") == b"new"
        assert client.keys("*") == [b"k"]


def test_a_loader_that_connects_late_is_asked_about_its_right_once_its_token_is_there(target: Server) -> None:
    """What ends the right later, a flush behind a restart, ends the token."""
    with target.client() as client:
        seen: list[int] = []
        late = loader(target, rightful=lambda: seen.append(int(client.exists(f"keyferry:{UID}:0:load:1:0"))))
        assert seen == [0, 1]
        client.flushall()
        late.send(SET_OLD, 1)
        with pytest.raises(ConnectionLost):
            late.finish()

        def not_ours() -> None:
            raise Fenced("taken away")

        with pytest.raises(Fenced):
            loader(target, rightful=not_ours)
        assert client.get("k") is None


def test_of_two_attempts_at_a_chunk_the_later_one_alone_writes(target: Server) -> None:
    """A database that lost its last commits gives the same epoch twice: both would build one temporary list."""
    taken: list[bool] = []

    def rightful() -> None:
        if taken:
            raise Fenced("taken away")

    first = loader(target, rightful=rightful)
    push = encode([b"RPUSH", b"list", b"a"])
    first.send(push, 1)
    first.finish()
    taken.append(True)
    second = loader(target)
    second.send(encode([b"UNLINK", b"list"]), 1)
    second.send(push, 1)
    first.send(push, 1)
    with pytest.raises(Fenced, match="taken away"):
        first.finish()
    second.end(push, 1)
    with target.client() as client:
        assert client.lrange("list", 0, -1) == [b"a", b"a"]
        assert not client.keys("keyferry:*:load:*")


def test_who_has_lost_its_right_takes_no_token_from_its_successor(target: Server) -> None:
    """And should it have been asleep between the question and the token, its successor tries again."""
    successor = loader(target)

    def not_ours() -> None:
        raise Fenced("taken away")

    with pytest.raises(Fenced):
        loader(target, rightful=not_ours)
    successor.send(encode([b"SET", b"k", b"1"]), 1)
    successor.finish()
    asked: list[bool] = []

    def asleep_in_between() -> None:
        asked.append(True)
        if len(asked) > 1:
            raise Fenced("taken away")

    with pytest.raises(Fenced):
        loader(target, rightful=asleep_in_between)
    successor.send(encode([b"SET", b"k", b"2"]), 1)
    with pytest.raises(ConnectionLost, match="lost its right"):
        successor.finish()
    with target.client() as client:
        assert client.get("k") == b"1"


def test_the_late_window_of_a_released_task_is_spoiled_where_memory_refuses_its_gate(target: Server) -> None:
    owner = Chained(target)
    owner.push(10, [b"SET", b"k", b"LATE"])
    late = bytes(owner.chain._out)
    gate = late.index(encode([b"MULTI"]))
    fence(endpoint(target), TASK, [NODE], 0)
    remove_keys(endpoint(target), TASK, [], 0, [0])
    with target.client() as client:
        client.config_set("maxmemory", 1)
        owner.link.send(late[:gate])
        time.sleep(0.1)
        client.config_set("maxmemory", 0)
        owner.link.send(late[gate:])
        assert until(lambda: owner.link.receive().endswith(b"*-1\r\n"))
        assert client.get("k") is None
        assert all(is_gate(key) and client.ttl(key) > 0 for key in client.keys("keyferry:*"))


def test_the_gate_of_an_earlier_load_that_a_failover_opened_has_everything_loaded_again(
    target: Server, tmp_path: Path
) -> None:
    port = Port(node=replace(NODE, gen=2))
    port.chunks = lambda _, every=False: chunks(0, 0)  # type: ignore[method-assign]
    link = TargetLink(endpoint(target), "test", 0)
    closing = Closing(port, port.node(), Scope(None), tmp_path, 0, known(tmp_path))
    link.ask(b"HSET", f"keyferry:{UID}:0:marks:2".encode(), b"0", b"1", b"1", b"1")
    assert closing.missing(link) == [10, 11], "one of the first snapshot's loaders could have written since"
    assert closing.missing(link) == [10, 11], "also for a successor, should this owner die before it has said so"
    link.ask(b"HSET", f"keyferry:{UID}:0:marks:2".encode(), b"0", b"1", b"1", b"1")
    assert closing.missing(link) == []
    asleep = loader(target, gen=1)
    asleep.send(SET_OLD, 1)
    with pytest.raises(Fenced, match="closed"):
        asleep.finish()


def test_no_two_snapshots_have_one_number_whatever_the_database_has_forgotten(target: Server) -> None:
    gives = Gates(endpoint(target), UID, 0, 0)
    assert gives.number(0) == 1
    assert gives.number(1) == 2
    assert gives.number(1) == 3, "the database has forgotten the second, of which nothing was loaded"
    loader(target, gen=3).end()
    with pytest.raises(CannotContinue, match="knows 2 snapshots of 3"):
        gives.number(2)
    with target.client() as client:
        client.flushall()
    assert gives.number(7) == 8, "a target that was emptied counts on from what the database knows"


def test_a_load_that_was_closed_for_a_later_one_is_not_streamed_from(
    target: Server, source: Server, tmp_path: Path
) -> None:
    """The database fell back to where the first snapshot was complete; the second is half loaded over it."""
    (tmp_path / "gen-1").mkdir()
    asks = Source(endpoint(source, Side.SOURCE))
    late = Applier(endpoint(target), Port(), Log(tmp_path / "log"), asks, tmp_path, Scope(None), 0, known(tmp_path))
    link = TargetLink(endpoint(target), "test", 0)
    link.ask(b"SET", f"keyferry:{UID}:0:closed:1".encode(), b"1")
    with pytest.raises(ControlError, match="closed on the target"):
        late._close_now(link, claim(link, UID, 0, 2, "n"), replace(NODE, gen=1, snapshot_offset=0))
    assert is_damaged(tmp_path / "gen-1"), "another snapshot is taken"
    with target.client() as client:
        assert client.hget(CK, "offset") is None


def is_online(master: Server) -> bool:
    """It has a replica that has confirmed something."""
    found = master.client().info("replication").get("slave0", {})
    return found.get("state") == "online" and int(found["offset"]) > 0


def test_the_cut_over_waits_until_the_targets_replicas_have_its_last_window(
    target: Server, follow: Callable[..., Followed]
) -> None:
    """Else a failover in that second would take the last writes back, and nobody might write them again."""
    with start("redis-7.0") as replica, target.client() as client:
        replica.client().replicaof("127.0.0.1", target.port)
        assert until(lambda: is_online(target), 20)
        stream = follow(target)
        end = stream.write([b"SELECT", b"0"], [b"SET", b"k", b"1"])
        stream.source.position = lambda: Position(REPLID, end)  # type: ignore[method-assign]
        assert until(lambda: client.get("k") == b"1")
        replica.pause()
        try:
            stream.applier.finishing.set()
            assert until(lambda: client.hget(CK, "state") == b"finished"), stream.applier.error
            time.sleep(0.5)
            assert stream.applier.closed_at is None
        finally:
            replica.resume()
        assert until(lambda: stream.applier.closed_at == end, 10), stream.applier.error
        assert replica.client().hget(CK, "state") == b"finished"
        replica.client().replicaof("NO", "ONE")
    assert not [event for event in stream.port.events if event.startswith("replicas")]


def test_a_replica_that_confirms_nothing_holds_the_cut_over_for_a_while_only(target: Server) -> None:
    with start("redis-7.0") as replica:
        replica.client().replicaof("127.0.0.1", target.port)
        assert until(lambda: is_online(target), 20)
        link = TargetLink(endpoint(target), "test", 0)
        assert replicas.without(link, lambda: False) == 0
        replica.pause()
        try:
            link.ask(b"SET", b"k", b"1")
            assert replicas.without(link, lambda: False, patience_s=0.3) == 1
            assert replicas.without(link, lambda: True) == 1
        finally:
            replica.resume()


@pytest.mark.parametrize("wipe", [b"FLUSHALL", b"FLUSHDB", b"SWAPDB"])
def test_windows_are_counted_through_a_wipe_within_a_transaction(
    target: Server, follow: Callable[..., Followed], wipe: bytes
) -> None:
    stream = follow(target)
    command = [wipe, b"0", b"1"] if wipe == b"SWAPDB" else [wipe]
    with target.client() as client:
        stream.write([b"SELECT", b"0"], *([b"SET", b"k%d" % number, b"1"] for number in range(2000)))
        stream.write([b"MULTI"], command, [b"SET", b"a", b"1"], [b"EXEC"], [b"SET", b"b", b"1"])
        assert until(lambda: client.get("b") == b"1"), stream.applier.error
        for one in client.client_list():
            if one["name"] == f"keyferry-{UID}-0":
                client.client_kill_filter(_id=one["id"])
        stream.write([b"SET", b"c", b"1"])
        assert until(lambda: client.get("c") == b"1"), stream.applier.error
        number, windows = client.hmget(CK, "number", "windows")
        assert number == windows


@pytest.mark.parametrize("gen", [0, 1, 2])
def test_no_snapshot_is_asked_for_while_the_target_takes_no_write(
    target: Server, source: Server, tmp_path: Path, gen: int
) -> None:
    """Each costs the source a fork; and the retry window must age."""
    port = Port(node=replace(NODE, begun=False, snapshot_done=False, gen=gen, replid=None))
    gates = Gates(endpoint(target), UID, 0, 0)
    asks = Source(endpoint(source, Side.SOURCE))
    receiver = Receiver(
        endpoint(source, Side.SOURCE), port, Log(tmp_path / "log"), tmp_path, asks, lambda: None,
        gates.close_earlier, lambda: None, threading.Lock(), never, known(tmp_path), gates.number,
    )  # fmt: skip
    before = source.client().info("stats")["sync_full"]
    with target.client() as client:
        client.config_set("maxmemory", 1)
        receiver.start()
        assert until(lambda: len(port.failures) >= 3)
        assert port.opened == 1, "one window, which stays open"
        assert source.client().info("stats")["sync_full"] == before
        client.config_set("maxmemory", 0)
        assert until(lambda: port.view.snapshot_done, 10), receiver.error
    receiver.stop_event.set()
    receiver.join(10)
    assert source.client().info("stats")["sync_full"] == before + 1

"""A full sync in place: when it is needed, what stands against it, and what it leaves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sync_tasks.errors import CannotContinue, Fenced, Retry, SourceError
from sync_tasks.names import built_key, checkpoint_key
from sync_tasks.views import NodeView
from tests.servers import Server, start
from tests.unit.protocol.conftest import NODE, TASK, UID, Chained, Port, endpoint, known
from tests.unit.protocol.test_sweep import begin, view
from workers import resync, sweep
from workers.closing import Closing
from workers.codec.resp_cy import encode
from workers.scope import Scope
from workers.spool.known import Known
from workers.spool.log import Log
from workers.spool.tables import write_tables
from workers.takeover import STRIDE, take_over
from workers.target.claim import FINISHED, LOADING, STREAMING, Checkpoint, Claim, Finished, begin_load
from workers.target.link import TargetLink

FOUND = Checkpoint("a" * 40, 10, 0, 1, "n", 10, STREAMING, 2, False)
CK = checkpoint_key(UID, 0)


def node(gen: int, begun: bool) -> NodeView:
    return replace(NODE, gen=gen, begun=begun)


@pytest.mark.parametrize(
    ("gen", "begun", "found", "needed"),
    [
        (2, True, FOUND, False),
        (2, False, FOUND, False),  # the database has lost its last commits
        (1, False, FOUND, False),
        (3, False, FOUND, True),  # the target fell back to before a full sync in place that is under way
        (3, True, FOUND, True),  # or is over
        (2, True, None, True),
        (2, False, None, False),  # the first load
        (2, False, replace(FOUND, state=LOADING), False),
        (1, False, replace(FOUND, state=LOADING), True),  # the database does not know of it
        (2, True, replace(FOUND, state=LOADING), True),
        (2, True, replace(FOUND, number=3, windows=2), True),
    ],
)
def test_when_it_is_needed(gen: int, begun: bool, found: Checkpoint | None, needed: bool) -> None:
    assert resync.needed(node(gen, begun), found) == needed


@pytest.mark.parametrize(
    ("another", "source", "had", "stops"),
    [
        (True, 5, 1000, True),
        (False, 5, 1000, False),
        (True, 200, 1000, False),
        (True, None, 1000, False),
        (True, 0, 99, False),
    ],
)
def test_a_source_that_was_emptied(
    target: Server, tmp_path: Path, another: bool, source: int | None, had: int, stops: bool
) -> None:
    link = TargetLink(endpoint(target), "test", 0)
    if stops:
        with pytest.raises(SourceError, match="was restarted and has 5 keys") as caught:
            resync.check(link, FOUND, known(tmp_path), another, source, had)
        assert caught.value.retry is Retry.OTHER
    else:
        resync.check(link, FOUND, known(tmp_path), another, source, had)


def test_a_target_that_evicts_would_lose_the_next_checkpoint_too(tmp_path: Path) -> None:
    with start("redis-7.0", config={"maxmemory": "3mb", "maxmemory-policy": "allkeys-lru"}) as target:
        link = TargetLink(endpoint(target), "test", 0)
        resync.check(link, None, known(tmp_path), False, 1, 1)
        with target.client() as client:
            for number in range(100):
                client.set(f"k{number}", b"x" * 100_000)
            assert client.info("stats")["evicted_keys"]
        with pytest.raises(CannotContinue, match="has evicted"):
            resync.check(link, None, known(tmp_path), False, 1, 1)


@pytest.mark.parametrize("found", [FOUND, None])
def test_what_is_not_known_cannot_be_removed(target: Server, tmp_path: Path, found: Checkpoint | None) -> None:
    link = TargetLink(endpoint(target), "test", 0)
    with pytest.raises(CannotContinue, match="not in this spool") as caught:
        resync.check(link, found, Known(tmp_path / "known", UID, 1), False, 1, 1)
    assert caught.value.side == ("source" if found else "target")
    closing = Closing(Port(), node(2, False), Scope(None), tmp_path, 0, Known(tmp_path / "known", UID, 1))  # type: ignore[arg-type]
    with pytest.raises(CannotContinue, match="was lost since"):
        closing.sweep(link, FOUND)


def test_a_target_that_is_closed_stays_so(target: Server) -> None:
    """The last window of our own was executed behind the look of the claim."""
    stream = Chained(target)
    link = TargetLink(endpoint(target), "test", 0)
    port = Port(node=replace(NODE, fresh=False), epoch=2)
    claimed = take_over(port, link, "second")  # type: ignore[arg-type]
    claims = 0

    def take() -> Claim:
        """Another of our own comes in behind the first."""
        nonlocal claims
        claims += 1
        claimed = take_over(port, link, "second")  # type: ignore[arg-type]
        if claims == 1:
            take_over(port, TargetLink(endpoint(target), "test", 0), "second")  # type: ignore[arg-type]
        return claimed

    with target.client() as client:
        client.hset(CK, "state", FINISHED)  # type: ignore[arg-type]
        before = client.hgetall(CK)  # type: ignore[arg-type]
        with pytest.raises(Finished):
            begin_load(link, lambda: claimed, UID, 0, 2)
        assert client.hgetall(CK) == before  # type: ignore[arg-type]
        client.hset(CK, "state", STREAMING)  # type: ignore[arg-type]
        begin_load(link, take, UID, 0, 2)
        assert (client.hget(CK, "state"), claims) == (LOADING.encode(), 2)  # type: ignore[arg-type]
        third = Port(node=replace(NODE, fresh=False), epoch=3)
        take_over(third, TargetLink(endpoint(target), "test", 0), "third")  # type: ignore[arg-type]
        with pytest.raises(Fenced, match="another copy"):
            begin_load(link, lambda: claimed, UID, 0, 2)
    del stream


def test_a_full_sync_in_place_may_be_the_first_to_claim_after_a_start(target: Server) -> None:
    """The receiver came to it before the applier had claimed: that claim raises the epoch."""
    stream = Chained(target)
    link = TargetLink(endpoint(target), "test", 0)
    port = Port(node=replace(NODE, fresh=True), epoch=2)
    begin_load(link, lambda: take_over(port, link, "second"), UID, 0, 2)  # type: ignore[arg-type]
    with target.client() as client:
        assert client.hmget(CK, "state", "epoch") == [LOADING.encode(), b"%d" % STRIDE]
    del stream


def test_chunks_of_a_snapshot_that_streamed_count_though_their_marks_are_gone(target: Server, tmp_path: Path) -> None:
    """A FLUSHDB of the database with our keys takes the marks, and leaves what was loaded into others."""
    old = replace(view(tmp_path / "gen-1" / "0.chunk", 1, [b"a", b"b"]), db=3)
    new = replace(view(tmp_path / "gen-2" / "0.chunk", 2, [b"b"]), db=3)
    mine = known(tmp_path)
    mine.stream(1, [])
    with target.client(db=3) as client:
        client.mset({b"a": 1, b"b": 1, b"own": 1})
        link = TargetLink(endpoint(target), "test", 0)
        assert sweep.sweep(link, [old, new], 2, 0, UID, 0, Scope(None), mine) == 1
        assert sorted(client.keys("*")) == [b"b", b"own"]


def test_a_key_of_a_chunk_that_was_swapped_into_another_database(target: Server, tmp_path: Path) -> None:
    old, new = view(tmp_path / "gen-1" / "0.chunk", 1, [b"a"]), view(tmp_path / "gen-2" / "0.chunk", 2, [b"b"])
    mine, log = known(tmp_path), Log(tmp_path / "log")
    log.reset("a" * 40, 0)
    mine.begin(0, 0)
    log.append(encode([b"SWAPDB", b"0", b"1"]), 1)
    mine.fold(log)
    with target.client(db=1) as client, target.client() as home:
        begin(home, [old])
        client.set("a", 1)
        link = TargetLink(endpoint(target), "test", 0)
        assert sweep.sweep(link, [old, new], 2, 0, UID, 0, Scope(None), mine) == 1
        assert not client.exists("a")


CODE = "#!lua name={}\nredis.register_function('{}', function() return 1 end)"


@pytest.mark.parametrize("by", ["snapshot", "log"])
def test_function_libraries_are_as_the_snapshot_has_them(target: Server, tmp_path: Path, by: str) -> None:
    """One that is gone goes, also where another has its function now; the target's own stay."""
    mine, log = known(tmp_path), Log(tmp_path / "log")
    log.reset("a" * 40, 0)
    mine.begin(0, 0)
    if by == "log":
        log.append(encode([b"FUNCTION", b"LOAD", b"REPLACE", CODE.format("one", "f").encode()]), 1)
        mine.fold(log)
    mine.stream(1, ["one"] if by == "snapshot" else [])
    (tmp_path / "gen-2").mkdir()
    write_tables(tmp_path / "gen-2", 10, [CODE.format("two", "f").encode(), CODE.format("three", "g").encode()], [])
    closing = Closing(Port(), replace(NODE, gen=2), Scope(None), tmp_path, 0, mine)  # type: ignore[arg-type]
    stream = Chained(target)
    with target.client() as client:
        client.function_flush()
        for name, function in (("one", "f"), ("three", "h"), ("own", "i")):
            client.function_load(CODE.format(name, function))
        left = [built_key(UID, 0, 0), built_key(UID, 0, 63), built_key(UID, 1, 0)]
        with target.client(db=4) as other:
            other.mset(dict.fromkeys(left, "piece"))
        window = closing.first_window(stream.link)
        stream.chain.push(window)
        stream.drain()
        libraries = {lib[1]: lib[5][0][1] for lib in client.function_list()}
        with target.client(db=4) as other:
            assert other.keys("*") == [left[2]], "what an earlier stream of this node was building is gone"
    assert libraries == {b"two": b"f", b"three": b"g", b"own": b"i"}
    assert closing.libraries() == {"two", "three"}
    assert TASK.uid == UID

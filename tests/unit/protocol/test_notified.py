"""The receiver of a source that is followed by its notifications: what becomes of a log that nobody else has."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sync_tasks.errors import Side, SourceError
from sync_tasks.keyfilter import FilterSpec
from sync_tasks.spec import TaskSpec
from sync_tasks.throttle import FullThrottle, ThrottleSpec
from tests.servers import Server
from tests.unit.protocol.conftest import NODE, REPLID, TASK, Port, endpoint, known, never, until
from workers import notified as module
from workers.codec.resp_cy import encode, parse
from workers.notified import NotifiedReceiver
from workers.source.followed import Followed
from workers.spool.log import Cursor, Log
from workers.target.claim import STREAMING, Checkpoint
from workers.told import Told

WHOLE = encode([b"SELECT", b"0"]) + encode([b"DEL", b"a"])
HALF = encode([b"RESTORE", b"b", b"0", b"x" * 100])[:50]
SPEC = TaskSpec(reader="scan", extend_expiry_s=0)
LATER_MS = 4_000_000_000_000


def at(offset: int, seen: int = 0, replid: str = REPLID) -> Checkpoint:
    return Checkpoint(replid, offset, 0, 1, "", seen or offset, STREAMING, 1, False)


def made(
    source: Server, target: Server, directory: Path, checkpoint: Checkpoint | None, begun: bool = True,
    furthest: Checkpoint | None = None, blocks: tuple[bytes, ...] = (WHOLE, HALF),
) -> NotifiedReceiver:  # fmt: skip
    """As the next owner makes it: the last one has written something behind the checkpoint, and half a command."""
    log = Log(directory / "log", 1)
    log.reset(REPLID, 100)
    for block in blocks:
        log.append(block, 1)
    log.close()
    log = Log(directory / "log", 2)
    port = Port(task=replace(TASK, spec=SPEC), node=replace(NODE, begun=begun, snapshot_offset=100))
    asks = Followed(endpoint(source, Side.SOURCE), Told())
    list_ = known(directory)
    list_.begin(100, 0)
    return NotifiedReceiver(
        endpoint(source, Side.SOURCE), port, log, directory, asks,
        committed=lambda: log.end, begin=lambda _: None, checkpoint=lambda: checkpoint, border=threading.Lock(),
        reopen=never, known=list_, target=endpoint(target), furthest=(lambda: furthest) if furthest else None,
    )  # fmt: skip


def give(receiver: NotifiedReceiver, **settings: Any) -> None:
    """Other settings, as they are from here on."""
    receiver.port.task = replace(TASK, spec=SPEC.model_copy(update=settings))


def passes(receiver: NotifiedReceiver) -> int:
    """How many passes over all keys are over."""
    return sum("reconciled" in event for event in receiver.port.events)


def words(log: Log, start: int) -> list[list[bytes]]:
    """Commands behind an offset."""
    cursor, data = Cursor(log, start), b""
    while block := cursor.read():
        data += block.data
    found, pos = [], 0
    while pos < len(data):
        value, pos = parse(data, pos)
        assert pos > 0, "half a command"
        found.append(value)
    return found


@pytest.fixture
def telling(source: Server) -> Iterator[Server]:
    with source.client() as client:
        client.flushall()
        client.config_set("notify-keyspace-events", "KEA")
    yield source
    with source.client() as client:
        client.config_set("notify-keyspace-events", "")


@pytest.mark.parametrize("offset", [100, 100 + len(WHOLE)])
def test_what_is_behind_the_checkpoint_is_dropped(
    telling: Server, target: Server, tmp_path: Path, offset: int
) -> None:
    receiver = made(telling, target, tmp_path, at(offset))
    assert (receiver.log.start, receiver.log.end, receiver.log.replid) == (offset, offset, REPLID)


@pytest.mark.parametrize("blocks", [(WHOLE, WHOLE, HALF), (WHOLE * 2 + HALF,), (WHOLE[:30], WHOLE[30:] + WHOLE + HALF)])
@pytest.mark.parametrize("begun", [True, False], ids=["all of it streams", "a part of it is loaded still"])
def test_what_is_behind_the_part_of_a_cluster_that_has_come_furthest_is_dropped(
    telling: Server, target: Server, tmp_path: Path, blocks: tuple[bytes, ...], begun: bool
) -> None:
    """What is between it and the others cannot be written once more, and it goes on from nowhere else."""
    last = 100 + len(WHOLE)
    receiver = made(telling, target, tmp_path, at(100) if begun else None, begun, at(last), blocks)
    log = receiver.log
    assert not log.anew
    assert (log.has(REPLID, 100), log.has(REPLID, last), log.end) == (True, True, last)
    assert words(log, 100) == [[b"SELECT", b"0"], [b"DEL", b"a"]]
    log.rename("b" * 40)
    log.append(WHOLE, 1)
    assert len(words(Log(tmp_path / "log", 3), 100)) == 4, "the next owner finds it so"


@pytest.mark.parametrize(
    ("behind", "ahead"), [(at(90), at(110)), (at(100), at(1000)), (at(100), at(110, replid="c" * 40))],
    ids=["before it", "behind it", "of another stream"],
)
def test_where_parts_of_a_cluster_need_what_the_log_does_not_have_all_is_read_anew(
    telling: Server, target: Server, tmp_path: Path, behind: Checkpoint, ahead: Checkpoint
) -> None:
    """They would wait for it, and where the source is idle for ever."""
    assert made(telling, target, tmp_path, behind, furthest=ahead).log.anew


def test_while_it_loads_all_of_it_is(telling: Server, target: Server, tmp_path: Path) -> None:
    receiver = made(telling, target, tmp_path, None, begun=False)
    assert (receiver.log.start, receiver.log.end) == (100, 100)


def test_where_it_can_be_cut_is_not_known(telling: Server, target: Server, tmp_path: Path) -> None:
    """The target has lost its checkpoint, and half a command may be at the end: all is read anew."""
    assert made(telling, target, tmp_path, None).log.anew


def test_under_its_own_id_there_is_something_at_once(telling: Server, target: Server, tmp_path: Path) -> None:
    """What an idle source answers belongs to a place that the target can come to."""
    start = 100 + len(WHOLE)
    receiver = made(telling, target, tmp_path, at(start))
    receiver.start()
    try:
        assert until(lambda: any("reconciled" in event for event in receiver.port.events)), receiver.error
        assert receiver.source.position().offset > start
        assert all(one[0] == b"SELECT" for one in words(receiver.log, start))
    finally:
        receiver.stop_event.set()
        receiver.join()


def test_what_is_told_is_written_behind_it(telling: Server, target: Server, tmp_path: Path) -> None:
    """Under another id than the last owner's, since its bytes are others; and first all keys are compared."""
    start = 100 + len(WHOLE)
    receiver = made(telling, target, tmp_path, at(start))
    give(receiver, filter=FilterSpec(block_prefixes=["out:"]))
    with telling.client() as client, target.client() as other:
        client.set("late", 1)
        other.restore("same", 0, client.dump("late"))
        client.set("same", 1)
        client.set("out:before", 1)
        receiver.start()
        try:
            assert until(lambda: any("reconciled" in event for event in receiver.port.events)), receiver.error
            client.set("out:later", 1)
            client.set("k", 1, px=100_000)
            when = client.pexpiretime("k")
            client.delete("late")
            assert until(lambda: {b"k", b"late"} <= {one[1] for one in words(receiver.log, start)[2:]}), receiver.error
        finally:
            receiver.stop_event.set()
            receiver.join()
        found = words(receiver.log, start)
        assert found[0] == [b"SELECT", b"0"]
        first = Cursor(receiver.log, start).read()
        assert first is not None
        assert first.replid != REPLID
        assert [one[0] for one in found if one[1] == b"late"] == [b"RESTORE", b"DEL"]
        assert not {b"same", b"out:before", b"out:later"} & {one[1] for one in found}, "the target has it, or is not to"
        stored = next(one for one in found if one[1] == b"k")
        assert stored == [b"RESTORE", b"k", b"%d" % when, client.dump("k"), b"REPLACE", b"ABSTTL"]
    assert receiver.log.replid not in (REPLID, None)
    assert "1 of 2 keys differed" in next(event for event in receiver.port.events if "reconciled" in event)


def test_all_keys_are_compared_again_and_again(telling: Server, target: Server, tmp_path: Path) -> None:
    """After `reconcile_min` minutes, which are short ones here. What lives so much longer on the target is equal."""
    for side, late in ((telling, 0), (target, 5000)):
        with side.client() as client:
            client.set("timed", 1, pxat=LATER_MS + late)
    receiver = made(telling, target, tmp_path, at(100 + len(WHOLE)))
    give(receiver, reconcile_min=0.01, extend_expiry_s=5)
    receiver.start()
    try:
        assert until(lambda: passes(receiver) > 2), receiver.error
        assert all("0 of 1 keys differed" in event for event in receiver.port.events if "reconciled" in event)
    finally:
        receiver.stop_event.set()
        receiver.join()


def test_a_pass_asks_no_faster_than_the_task_may_by_now(telling: Server, target: Server, tmp_path: Path) -> None:
    """1000 keys, which are two questions each: twenty seconds, if nothing were changed meanwhile."""
    for side in (telling, target):
        with side.client() as client:
            client.mset({f"k:{number}": number for number in range(1000)})
    receiver = made(telling, target, tmp_path, at(100 + len(WHOLE)))
    give(receiver, throttle=ThrottleSpec(full=FullThrottle(source_qps=100)))
    receiver.start()
    try:
        time.sleep(2)
        assert not passes(receiver)
        give(receiver)
        assert until(lambda: passes(receiver), 10), receiver.error
    finally:
        receiver.stop_event.set()
        receiver.join()


def test_what_the_log_has_lost_begins_where_the_target_is(telling: Server, target: Server, tmp_path: Path) -> None:
    receiver = made(telling, target, tmp_path, at(500))
    receiver.log.wanted = REPLID, 500, 0
    receiver._mend_log()
    assert (receiver.log.start, receiver.log.wanted, receiver.log.anew) == (500, None, False)
    receiver.log.wanted = REPLID, 300, 0
    receiver._mend_log()
    assert (receiver.log.wanted, receiver.log.anew) == (None, True), "nobody has that"


def test_what_the_log_has_lost_begins_nowhere_where_a_part_of_a_cluster_has_come_further(
    telling: Server, target: Server, tmp_path: Path
) -> None:
    receiver = made(telling, target, tmp_path, at(100), furthest=at(100 + len(WHOLE)))
    assert not receiver.log.anew
    receiver.log.wanted = REPLID, 100, 0
    receiver._mend_log()
    assert (receiver.log.wanted, receiver.log.anew) == (None, True)


def test_what_is_lost_in_silence_is_found_before_it_says_in_sync(
    telling: Server, target: Server, tmp_path: Path
) -> None:
    """Nothing was told, and the connection answers: only a look says that something is missing."""
    start = 100 + len(WHOLE)
    receiver = made(telling, target, tmp_path, at(start))
    told = receiver.source.told

    def in_sync() -> bool:
        with contextlib.suppress(SourceError):
            return told.offset(1.0) > 0
        return False

    def written(key: bytes) -> bool:
        return key in [one[1] for one in words(receiver.log, start)]

    with telling.client() as client:
        receiver.start()
        try:
            assert until(in_sync), receiver.error
            client.config_set("notify-keyspace-events", "KA")
            client.set("unheard", 1)
            assert not in_sync() or written(b"unheard")
            assert until(lambda: in_sync() and written(b"unheard")), receiver.error
            client.set("heard", 1)
            assert until(lambda: in_sync() and written(b"heard")), receiver.error
            client.config_set("notify-keyspace-events", "")
            client.set("between", 1)
            client.config_set("notify-keyspace-events", "KA")
            assert not in_sync() or written(b"between")
            assert until(lambda: in_sync() and written(b"between")), receiver.error
        finally:
            receiver.stop_event.set()
            receiver.join()


def test_what_the_source_refuses_for_good_is_one_trouble(
    telling: Server, target: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its retry window stays open from life to life, and is closed once it is over."""
    monkeypatch.setattr(module, "QUIET_S", 0.5)
    receiver = made(telling, target, tmp_path, at(100 + len(WHOLE)))
    port = receiver.port
    with telling.client() as client:
        client.set("a", 1)
        client.acl_setuser("default", enabled=True, commands=["-dump"])
        try:
            receiver.start()
            assert until(lambda: len(port.failures) > 5)
            assert (port.opened, port.open) == (1, {Side.SOURCE})
            client.acl_setuser("default", enabled=True, commands=["+dump"])
            assert until(lambda: not port.open), receiver.error
        finally:
            client.acl_setuser("default", enabled=True, commands=["+dump"])
            receiver.stop_event.set()
            receiver.join()


def test_one_that_nothing_ails_is_sound_after_a_while(
    telling: Server, target: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it loads no pass is made."""
    monkeypatch.setattr(module, "QUIET_S", 0.5)
    receiver = made(telling, target, tmp_path, None, begun=False)
    receiver.port.open.add(Side.SOURCE)
    receiver.start()
    try:
        assert until(lambda: not receiver.port.open), receiver.error
    finally:
        receiver.stop_event.set()
        receiver.join()

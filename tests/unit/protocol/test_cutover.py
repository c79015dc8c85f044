"""The end of a stream, and settling once more: every expiry becomes what the source says it is, then nobody writes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sync_tasks.errors import Fenced, Side
from sync_tasks.names import checkpoint_key
from sync_tasks.spec import TaskSpec
from sync_tasks.views import NodeView, Orders, TaskView
from tests.servers import Server, start
from tests.unit.protocol.conftest import NODE, REPLID, TASK, UID, Chained, Followed, Port, endpoint, until
from workers import settle
from workers.clock import MARGIN_MS, Clock
from workers.codec.resp_cy import encode
from workers.expiry import FIELD_HOLD, HOLD
from workers.inquire import Inquiry
from workers.scope import Scope
from workers.search import Search
from workers.settle import Settler
from workers.source.ask import Position, Source, Times
from workers.stream import StreamJob
from workers.target.claim import FINISHED, MIXED, Finished, claim, look
from workers.target.expiries import Expiries
from workers.target.link import TargetLink, lost
from workers.target.windows import Chain, Window

CK = checkpoint_key(UID, 0)
HOUR_MS = 3_600_000
EXTENDED = replace(TASK, spec=TaskSpec(extend_expiry_s=600))
NEW = replace(NODE, begun=False, snapshot_done=False, gen=0, replid=None)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class Lasting(Port):
    """A port that several jobs can have one after the other."""

    def __init__(self, task: TaskView = EXTENDED, node: NodeView = NEW) -> None:
        super().__init__(task, node)
        self.orders = Orders()
        self.ends = self.took = 0

    def renew(self) -> Orders:
        super().renew()
        return self.orders

    def begin_snapshot(self, replid: str, offset: int, *rest: Any) -> int:  # type: ignore[override]
        gen = super().begin_snapshot(replid, offset, *rest)
        self.view = replace(self.view, replid=replid, snapshot_offset=offset)
        return gen

    def begin_stream(self) -> None:
        self.view = replace(self.view, begun=True)

    def finished(self) -> None:
        self.ends += 1

    def took_up(self) -> None:
        self.took += 1


class Run:
    """A stream job in a thread, between an empty source and a target."""

    def __init__(self, port: Lasting, source: Server, target: Server, directory: Path) -> None:
        self.port = port
        port.epoch += 1
        self.job = StreamJob(port, endpoint(source, Side.SOURCE), endpoint(target), directory, 0)
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.job.run()
        except BaseException as error:
            self.error = error

    def streams(self) -> bool:
        return hasattr(self.job, "applier") and self.job.applier.progress.streaming

    def has(self, server: Server) -> bool:
        """Whether the target has all that the source has written, with nothing held."""
        end = int(server.client().info("replication")["master_repl_offset"])

        def there() -> bool:
            progress = self.job.applier.progress
            return all(at is not None and at >= end for at in (progress.committed, progress.settled_at))

        return until(there, 15)

    def ended(self, seconds: float = 15) -> bool:
        self.thread.join(seconds)
        return not self.thread.is_alive()

    def stop(self) -> None:
        self.port.orders = replace(self.port.orders, wanted=False)
        assert self.ended()
        self.port.orders = replace(self.port.orders, wanted=True)


Begin = Callable[..., Run]


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    """Begins a job, always on one spool; stopped with the test."""
    with ExitStack() as stack:

        def make(source: Server, target: Server, port: Lasting) -> Run:
            run = Run(port, source, target, tmp_path)
            stack.callback(run.stop)
            assert until(run.streams), run.error
            return run

        yield make


Pair = tuple[Server, Server]


@pytest.fixture(scope="module")
def sevens() -> Iterator[Pair]:
    with start("redis-7.0") as source, start("redis-7.0") as target:
        yield source, target


@pytest.fixture(scope="module")
def nines() -> Iterator[Pair]:
    with start("valkey-9.1") as source, start("valkey-9.1") as target:
        yield source, target


def emptied(pair: Pair) -> Pair:
    for server in pair:
        with server.client() as client:
            client.flushall()
    return pair


@pytest.fixture(params=["sevens", "nines"])
def pair(request: pytest.FixtureRequest) -> Pair:
    """An empty source and an empty target."""
    return emptied(request.getfixturevalue(request.param))


@pytest.fixture
def nine(nines: Pair) -> Pair:
    return emptied(nines)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs hear of what is asked of them at once."""
    monkeypatch.setattr("workers.beat.BEAT_S", 0.05)


def finish(run: Run) -> None:
    run.port.orders = Orders(finishing=True)


def times(server: Server, keys: list[str], db: int = 0) -> list[int]:
    pipe = server.client(db=db).pipeline(transaction=False)
    for key in keys:
        pipe.pexpiretime(key)
    return list(pipe.execute())


def field_times(server: Server, key: str, fields: int) -> list[int]:
    names = [f"f{i}" for i in range(fields)]
    return list(server.client().execute_command("HPEXPIRETIME", key, "FIELDS", fields, *names))


def fill(server: Server, keys: int = 300, db: int = 0) -> list[str]:
    """Volatile keys, each with a time of its own."""
    pipe = server.client(db=db).pipeline(transaction=False)
    for i in range(keys):
        pipe.set(f"k{i}", i, pxat=now_ms() + HOUR_MS + 7919 * i)
    pipe.execute()
    return [f"k{i}" for i in range(keys)]


def fill_hash(server: Server, key: str, fields: int) -> None:
    pipe = server.client().pipeline(transaction=False)
    for i in range(fields):
        pipe.hset(key, f"f{i}", i)
        pipe.execute_command("HPEXPIREAT", key, now_ms() + HOUR_MS + 7919 * i, "FIELDS", 1, f"f{i}")
    pipe.execute()


def held(server: Server, key: str) -> bool:
    return int(server.client().pexpiretime(key)) >= HOLD


# --- the cut-over


def test_every_expiry_becomes_the_sources(pair: Pair, begin: Begin) -> None:
    source, target = pair
    foreign = now_ms() + HOUR_MS
    target.client().set("foreign", 1, pxat=foreign)
    run = begin(source, target, Lasting())
    names, more = fill(source), fill(source, 20, db=3)
    assert run.has(source)
    assert times(target, names) == [t + 600_000 for t in times(source, names)]

    finish(run)
    assert run.ended(), run.job.applier.progress
    assert run.error is None
    assert run.port.ends == 1
    assert times(target, names) == times(source, names)
    assert times(target, more, 3) == times(source, more, 3)
    assert times(target, ["foreign"]) == [foreign]
    found = target.client().hgetall(CK)
    assert (found[b"state"], found[b"held"], found[b"extend"]) == (b"finished", b"0", b"0")
    assert f"closed: node 0: closed at offset {int(found[b'offset'])}; what follows is not carried" in run.port.events


def test_databases_out_of_scope_are_left_alone(pair: Pair, tmp_path: Path) -> None:
    source, target = pair
    theirs = fill(target, 50, db=3)
    port = Lasting(replace(EXTENDED, databases={0: 0, 3: 5}))
    before = times(target, theirs, 3)
    run = Run(port, source, target, tmp_path)
    assert until(run.streams)
    names = fill(source, 100)
    more = fill(source, 120, db=3)
    assert run.has(source)
    finish(run)
    assert run.ended()
    assert times(target, names) == times(source, names)
    assert times(target, more, 5) == times(source, more, 3)
    assert times(target, theirs, 3) == before


def test_fields_too_in_windows_of_bounded_size(nine: Pair, begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = nine
    target.client().hset("foreign", "f0", 1)
    foreign = now_ms() + HOUR_MS
    target.client().execute_command("HPEXPIREAT", "foreign", foreign, "FIELDS", 1, "f0")
    sizes: list[int] = []
    real = Chain.push

    def push(self: Chain, window: Window) -> None:
        if window.start == window.end:
            sizes.append(window.commands)
        real(self, window)

    monkeypatch.setattr(Chain, "push", push)
    run = begin(source, target, Lasting())
    with pytest.MonkeyPatch.context() as while_behind:
        while_behind.setattr(Clock, "holding", property(lambda self: True))
        fill_hash(source, "large", 4000)
        for i in range(100):
            fill_hash(source, f"small{i}", 40)
        assert until(lambda: target.client().hlen("small99") == 40, 10)
        assert field_times(target, "large", 1) == [t + FIELD_HOLD for t in field_times(source, "large", 1)]
    assert run.has(source)
    for key, fields in (("large", 4000), ("small7", 40)):
        assert field_times(target, key, fields) == [t + 600_000 for t in field_times(source, key, fields)]

    finish(run)
    assert run.ended()
    for key, fields in (("large", 4000), ("small7", 40)):
        assert field_times(target, key, fields) == field_times(source, key, fields)
    assert field_times(target, "foreign", 1) == [foreign]
    assert sum(sizes) >= 2 * 8000
    assert max(sizes) <= 2500


def test_fields_with_one_time_share_a_command(nine: Pair, begin: Begin) -> None:
    source, target = nine
    run = begin(source, target, Lasting())
    client, at = source.client(), now_ms() + HOUR_MS
    client.hset("h", mapping={f"f{i}": i for i in range(50)})
    client.execute_command("HPEXPIREAT", "h", at, "FIELDS", 50, *[f"f{i}" for i in range(50)])
    assert run.has(source)
    before = target.client().info("commandstats")["cmdstat_hpexpireat"]["calls"]
    finish(run)
    assert run.ended()
    assert field_times(target, "h", 50) == [at] * 50
    assert target.client().info("commandstats")["cmdstat_hpexpireat"]["calls"] - before <= 4


def asking(monkeypatch: pytest.MonkeyPatch, before: Callable[[], None], after: Callable[[], None]) -> None:
    """Have something done at the source just before, and just after, it is first asked for times."""
    real, calls = Source.times, []

    def times_(self: Source, db: int, keys: list[bytes]) -> Times:
        calls.append(keys)
        if len(calls) == 1:
            before()
        said = real(self, db, keys)
        if len(calls) == 1:
            after()
        return said

    monkeypatch.setattr(Source, "times", times_)


def test_a_field_that_the_source_only_hides_yet_is_gone(nine: Pair, begin: Begin) -> None:
    """Its HDEL comes when the source finds the time, perhaps behind the end."""
    source, target = nine
    run = begin(source, target, Lasting())
    client = source.client()
    client.execute_command("DEBUG", "SET-ACTIVE-EXPIRE", 0)
    try:
        client.hset("h", mapping={"stays": 1, "f0": 1, "f1": 1})
        client.execute_command("HPEXPIRE", "h", 300, "FIELDS", 1, "f0")
        client.hset("all", "f0", 1)
        client.execute_command("HPEXPIRE", "all", 300, "FIELDS", 1, "f0")
        assert run.has(source)
        time.sleep(0.4)
        assert target.client().hlen("h") == 3
        finish(run)
        assert run.ended()
        assert target.client().hgetall("h") == client.hgetall("h") == {b"stays": b"1", b"f1": b"1"}
        assert not target.client().exists("all")
    finally:
        client.execute_command("DEBUG", "SET-ACTIVE-EXPIRE", 1)


def nothing() -> None: ...


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_renewal_to_just_the_time_that_the_target_has_is_not_undone(
    moment: str, pair: Pair, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = pair
    at = now_ms() + HOUR_MS
    run = begin(source, target, Lasting())
    source.client().set("k", 1, pxat=at)
    assert run.has(source)

    def renew() -> None:
        source.client().pexpireat("k", at + 600_000)

    asking(monkeypatch, *((renew, nothing) if moment == "before" else (nothing, renew)))
    finish(run)
    assert run.ended()
    assert times(target, ["k"]) == [at + 600_000]


@pytest.mark.parametrize("change", ["rename", "swap", "persist", "delete", "copy"])
def test_what_the_stream_does_meanwhile_is_seen(
    change: str, pair: Pair, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = pair
    run = begin(source, target, Lasting())
    names = fill(source)
    assert run.has(source)
    monkeypatch.setattr("workers.search.BATCH", 50)

    def disturb() -> None:
        pipe = source.client().pipeline(transaction=False)
        for name in names:
            if change == "rename":
                pipe.rename(name, f"{name}:new")
            elif change == "persist":
                pipe.persist(name)
            elif change == "delete":
                pipe.delete(name)
            elif change == "copy":
                pipe.execute_command("COPY", name, f"{name}:new", "DB", "4")
        if change == "swap":
            pipe.execute_command("SWAPDB", "0", "3")
        pipe.execute()

    asking(monkeypatch, nothing, disturb)
    finish(run)
    assert run.ended()
    every = [*names, *(f"{name}:new" for name in names)]
    for db in (0, 3, 4):
        assert times(target, every, db) == times(source, every, db)


def test_it_ends_under_traffic_of_the_shortest_lives(pair: Pair, begin: Begin) -> None:
    """Locks that live for less than the margin are held, always some of them; the last window needs no quiet moment."""
    source, target = pair
    run = begin(source, target, Lasting())
    names = fill(source)
    client, over = source.client(), threading.Event()

    def locks() -> None:
        number = 0
        while not over.is_set():
            number += 1
            pipe = client.pipeline(transaction=False).set(f"lock{number % 50}", number, px=400)
            for _ in range(50):
                pipe.incr("n")
            pipe.execute()
            time.sleep(0.001)

    writer = threading.Thread(target=locks)
    writer.start()
    try:
        assert until(lambda: target.client().exists("lock7"))
        finish(run)
        assert run.ended(), run.job.applier.progress
    finally:
        over.set()
        writer.join()
    left = times(target, [f"lock{i}" for i in range(50)])
    assert max(left) < HOLD
    assert times(target, names) == times(source, names)
    assert until(lambda: not target.client().keys("lock*"), 3), "their time comes there, too"


def test_times_that_came_as_relative_ones(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    """They become absolute by the moment at which they came: half a second late, say. Only the source knows better."""
    monkeypatch.setattr("workers.receive.now_ms", lambda: now_ms() + 500)
    with start("redis-6.2") as source, start("redis-7.0") as target:
        run = begin(source, target, Lasting())
        client = source.client()
        for i in range(40):
            client.set(f"k{i}", i, px=HOUR_MS + 7919 * i)
        names = [f"k{i}".encode() for i in range(40)]
        assert run.has(source)
        asked = Source(endpoint(source, Side.SOURCE))
        exact = asked.times(0, names).times
        asked.close()
        assert until(lambda: times(target, [n.decode() for n in names]) == [t + 600_000 for t in exact])
        finish(run)
        assert run.ended()
        assert times(target, [n.decode() for n in names]) == exact


def test_it_waits_until_all_that_was_written_is_there(
    pair: Pair, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The source is asked for its end when all is settled, and written to before it has answered."""
    source, target = pair
    run = begin(source, target, Lasting())
    real = Inquiry.position

    def position(self: Inquiry) -> Position | None:
        source.client().incr("written")
        return real(self)

    monkeypatch.setattr(Inquiry, "position", position)
    finish(run)
    assert run.ended()
    assert target.client().get("written") == source.client().get("written")


def test_a_source_with_another_history_is_not_the_end(
    pair: Pair, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was restarted, and its offsets began anew: that the target is further says nothing."""
    source, target = pair
    run = begin(source, target, Lasting())
    real, calls = Inquiry.position, []

    def position(self: Inquiry) -> Position | None:
        calls.append(self)
        return Position("b" * 40, 0) if len(calls) < 3 else real(self)

    monkeypatch.setattr(Inquiry, "position", position)
    finish(run)
    assert run.ended()
    assert len(calls) == 3


def test_the_target_stops_just_where_an_answer_is_true(target: Server, tmp_path: Path) -> None:
    """Though what follows comes in the same block; asked once is enough, then."""
    exact, calls = now_ms() + HOUR_MS, []
    with start("redis-7.0") as source, target.client() as reader:
        stream = Followed(target, source, tmp_path)
        stream.source.offset = lambda: 0  # type: ignore[method-assign]

        def times_(db: int, keys: list[bytes]) -> Times:
            calls.append(keys)
            before, behind = encode([b"INCR", b"n"]), encode([b"INCR", b"n"]) + encode([b"SET", b"k", b"2", b"KEEPTTL"])
            stop = (stream.log.end or 0) + len(before)
            stream.log.append(before + behind, now_ms())
            return Times(Position(REPLID, stop), [exact])

        stream.source.times = times_  # type: ignore[method-assign,assignment]
        try:
            stream.write([b"SELECT", b"0"], [b"SET", b"k", b"1", b"PX", b"%d" % HOUR_MS])
            assert until(lambda: reader.pexpiretime("k") == exact), (calls, reader.pexpiretime("k"))
            assert until(lambda: reader.get("k") == b"2")
            assert reader.get("n") == b"2"
            assert len(calls) == 1
        finally:
            stream.close()


# --- nobody goes on


def closed(target: Server) -> dict[bytes, bytes]:
    """A checkpoint that an owner of epoch 1 has closed at offset 7."""
    owner = Chained(target)
    owner.push(7)
    owner.drain()
    owner.chain.close(owner.window(7))
    owner.drain()
    return dict(target.client().hgetall(CK))


def test_nobody_claims_what_is_finished(target: Server) -> None:
    before = closed(target)
    keys = sorted(target.client().keys())
    with pytest.raises(Finished) as refused:
        Chained(target, epoch=5)
    assert refused.value.offset == 7
    assert target.client().hgetall(CK) == before
    assert sorted(target.client().keys()) == keys


def test_a_claim_that_comes_upon_the_end_stops_and_leaves_it_so(target: Server) -> None:
    owner = Chained(target, epoch=2)
    link = TargetLink(endpoint(target), "late", 0)
    real = link.try_all

    def sneaking(commands: list[list[bytes | int]]) -> list[object]:
        if commands[0] == [b"MULTI"]:
            owner.chain.close(owner.window(9))
            owner.drain()
        return real(commands)

    link.try_all = sneaking  # type: ignore[method-assign]
    with pytest.raises(Finished):
        claim(link, UID, 0, 3, "late")
    found = look(link, UID, 0)
    assert found is not None
    assert (found.state, found.offset) == (FINISHED, 9)


@pytest.mark.parametrize("claims", [True, False])
def test_an_owner_that_died_before_it_could_say_so(
    claims: bool, target: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its successor finds that out though the source, which has forgotten us, lets the stream end before it claims."""
    closed(target)
    if not claims:
        monkeypatch.setattr("workers.apply.take_over", lambda *_: (_ for _ in ()).throw(lost("busy")))
    port = Lasting(replace(TASK, finishing=True), NODE)
    with start("redis-7.0") as source:
        run = Run(port, source, target, tmp_path)
        assert run.ended()
        assert run.error is None
        assert port.ends == 1
        assert "closed: node 0: closed at offset 7; what follows is not carried" in port.events


def test_a_task_that_was_never_told_is_fenced_and_writes_nothing(target: Server, tmp_path: Path) -> None:
    """An older copy of the state directory, say."""
    before = closed(target)
    port = Lasting(EXTENDED, NODE)
    port.epoch = 1 << 30
    with start("redis-7.0") as source:
        run = Run(port, source, target, tmp_path)
        assert run.ended()
    assert isinstance(run.job.applier.error, Finished)
    assert isinstance(run.error, Fenced) or run.job.receiver.error is run.error
    assert port.ends == 0
    assert target.client().hgetall(CK) == before


# --- another extension


def test_another_extension_settles_everything_again(pair: Pair, begin: Begin) -> None:
    source, target = pair
    port = Lasting()
    names: list[str] = []
    for seconds in (600, 0, 60):
        port.task = replace(TASK, spec=TaskSpec(extend_expiry_s=seconds))
        run = begin(source, target, port)
        names = names or fill(source)
        assert run.has(source)
        assert times(target, names) == [t + seconds * 1000 for t in times(source, names)]
        assert until(lambda ms=seconds * 1000: target.client().hget(CK, "extend") == b"%d" % ms, 5)
        assert until(lambda: port.took == 1), port.took
        port.took = 0
        run.stop()


def test_the_same_extension_asks_nothing(pair: Pair, begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does a checkpoint of an earlier version, which does not say what it was."""
    source, target = pair
    port = Lasting()
    run = begin(source, target, port)
    names = fill(source)
    assert run.has(source)
    run.stop()
    asked: list[int] = []
    monkeypatch.setattr(Source, "times", lambda *_: asked.append(1))
    for forget in (False, True):
        if forget:
            assert target.client().hdel(CK, "extend") == 1
        run = begin(source, target, port)
        source.client().incr("n")
        assert run.has(source)
        run.stop()
    assert not asked
    assert times(target, names) == [t + 600_000 for t in times(source, names)]


def test_stopped_half_way_it_goes_on(pair: Pair, begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = pair
    port = Lasting()
    run = begin(source, target, port)
    names = fill(source)
    assert run.has(source)
    monkeypatch.setattr("workers.search.BATCH", 20)
    real, gate, calls = Source.times, threading.Event(), []

    def slow(self: Source, db: int, keys: list[bytes]) -> Times:
        calls.append(keys)
        if len(calls) > 4:
            gate.wait(10)
        return real(self, db, keys)

    monkeypatch.setattr(Source, "times", slow)
    finish(run)
    assert until(lambda: len(calls) > 4, 10)
    port.orders = Orders(wanted=False)
    assert until(lambda: run.job.applier.stop_event.is_set())
    gate.set()
    assert run.ended()
    there, here = times(target, names), times(source, names)
    exact = sum(a == b for a, b in zip(there, here, strict=True))
    assert 0 < exact < len(names)
    assert all(a - b in (0, 600_000) for a, b in zip(there, here, strict=True))
    assert target.client().hget(CK, "extend") == b"%d" % MIXED

    port.orders, port.task = Orders(finishing=True), replace(EXTENDED, finishing=True)
    run = Run(port, source, target, run.job.directory.parent.parent)
    assert run.ended()
    assert run.error is None
    assert times(target, names) == times(source, names)


# --- bounds


def settler(target: Server, expiries: Expiries, search: Search, asks: Source) -> tuple[Chained, Clock, Settler]:
    chained = Chained(target, begin=False)
    chained.chain.held = True
    chained.push(0)
    chained.drain()
    chained.chain.tip = (0, 0, REPLID)
    clock = Clock(0)
    clock.loading = False
    return chained, clock, Settler(clock, chained.chain, expiries, search, Inquiry(asks, Scope(None)))


def test_what_is_pending_costs_nothing_to_look_at(target: Server) -> None:
    expiries = Expiries(endpoint(target), 0, False)
    _, _, made = settler(target, expiries, Search(expiries, Scope(None), False, None), None)  # type: ignore[arg-type]
    for i in range(150_000):
        made.touch(0, b"k%d" % i, 1000 + i, True)
    began = time.monotonic()
    for _ in range(2000):
        assert made.state() == (150_000, 999)
        assert not made.due()
    assert time.monotonic() - began < 1


def test_a_search_in_files_names_a_batch_at_a_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    named = [b"%d" % i for i in range(2500)]
    monkeypatch.setattr("workers.search.volatile_keys", lambda path: [path.name.encode() + name for name in named])
    search = Search(None, Scope(None), True, [(0, Path("a")), (1, Path("b"))])  # type: ignore[arg-type]
    found = []
    while search.wanted:
        some = search.step(0)
        assert len(some) <= 1000
        found += some
    assert len(set(found)) == len(found) == 5000


def test_with_many_past_their_time_no_more_are_looked_for(target: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settle, "MOST_WAITING", 10)
    monkeypatch.setattr(settle, "WAIT_S", 0.0)
    monkeypatch.setattr("workers.search.BATCH", 5)
    client = target.client()
    for i in range(400):
        client.execute_command("SET", f"k{i}", 1, "PXAT", now_ms() - 1000 + HOLD)
    expiries = Expiries(endpoint(target), 0, False)
    with start("redis-7.0") as source:
        asks = Source(endpoint(source, Side.SOURCE))
        chained, _, made = settler(target, expiries, Search(expiries, Scope(None), True, None), asks)
        most = 0
        for _ in range(2000):
            if client.dbsize() <= 2 and chained.chain.held is False:
                break
            if made.due() and (window := made.step()) is not None:
                chained.chain.push(window)
                chained.drain()
            most = max(most, len(made._pending))
            if made._pending.waiting:  # what the source's DEL does
                client.delete(next(iter(made._pending.waiting))[1])
        assert chained.chain.held is False
        assert most <= 60
    made.close()


# --- the target's clock


def test_a_clock_that_steps_widens_the_margin_for_a_while() -> None:
    now = 1_000_000
    clock = Clock(0, now_ms=lambda: now)
    clock.observe(now, now + 50, now)
    assert (clock.skew_ms, clock.margin_ms) == (50, MARGIN_MS)
    assert clock.ahead(now + 1100)
    clock.observe(now, now + 5050, now + 10)  # five seconds forward
    assert clock.target_now() == now + 5050
    assert not clock.ahead(now + 5050 + 5000)
    assert clock.ahead(now + 5050 + 6100)
    for _ in range(20):
        now += 10_000
        clock.observe(now, now + 5050, now)
    assert clock.margin_ms == MARGIN_MS
    clock.observe(now, now, now)  # and back
    assert clock.margin_ms == MARGIN_MS + 5050


def test_a_target_slow_to_answer_widens_it_too() -> None:
    clock = Clock(0, now_ms=lambda: 0)
    clock.observe(0, 4000, 4000)
    assert clock.target_now() == 4000, "it may have read its clock at once"
    assert clock.margin_ms == MARGIN_MS + 4000


def test_a_step_of_the_targets_clock_is_noticed(pair: Pair, begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    """A life shorter than the step is over there: its renewal, which follows in the log, would find nothing."""
    source, target = pair
    run = begin(source, target, Lasting(TASK))
    source.client().set("long", 1, pxat=now_ms() + HOUR_MS)
    assert run.has(source)
    clock = run.job.applier.clock
    monkeypatch.setattr("workers.target.expiries._ms", lambda said: int(said[0]) * 1000 + int(said[1]) // 1000 + 60_000)
    assert until(lambda: clock.margin_ms > 50_000)
    source.client().set("short", 1, px=90_000)
    assert until(lambda: target.client().exists("short"))
    assert held(target, "short")
    assert not held(target, "long")

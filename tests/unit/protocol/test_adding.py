"""Databases and keys that are added to a stream which goes on, whatever comes in between; and those that are let go."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sync_tasks.errors import ConnectionLost, Side
from sync_tasks.extent import Extent
from sync_tasks.keyfilter import FilterSpec
from sync_tasks.spec import TaskSpec
from sync_tasks.views import ChunkView, TaskView
from tests.servers import Server
from tests.unit.protocol.conftest import REPLID, UID, Port, endpoint, until
from tests.unit.protocol.test_repair import Command, Mirrored
from tests.unit.protocol.test_sweep import view
from workers import adding, pump, turns
from workers.added import Addition, Former
from workers.apply import Applier
from workers.feed import Feed
from workers.scope import Scope
from workers.source.ask import Position, Source
from workers.spool.known import Known
from workers.surplus import Surplus

PLAIN = FilterSpec()


class Changing(Mirrored):
    """A stream whose owners may have one scope after another. `steps`: called before each step of an addition."""

    def __init__(self, source: Server, target: Server, directory: Path) -> None:
        super().__init__(source, target, directory, {0: 0})
        self.conflict_mode = "precheck-and-report"
        self.known = Known(directory / "known", UID, 1)
        self.known.create()
        self.known.begin(0, 0)
        self.known.stream(1, [])
        self.asked_of: list[tuple[int, bytes]] = []
        self.extents: list[str] = []  # of all owners
        self.chunk: ChunkView | None = None  # of the snapshot
        self.replid = REPLID
        self.hidden: set[bytes] = set()  # the source is a replica, and does not show these

    def questions(self) -> Source:
        """To the source: the answers are true where its stream, which is the log, stands in that moment."""
        ask = Source(endpoint(self.server, Side.SOURCE))
        times, values, walk, full, there = ask.times, ask.values, ask.walk, ask.full, ask.there_at

        def said(keys: Any) -> Any:
            self.asked_of += keys
            with self.moment:
                found = replace(values(keys), at=self.place)
            shown = [None if key in self.hidden else value for (_, key), value in zip(keys, found.values, strict=True)]
            return replace(found, values=shown, replica=bool(self.hidden))

        ask.values = said  # type: ignore[method-assign]
        ask.offset = lambda: self.end  # type: ignore[method-assign]
        ask.position = lambda: self.place  # type: ignore[method-assign]
        ask.times = lambda *a: replace(times(*a), at=self.place)  # type: ignore[method-assign]
        ask.walk = lambda *a: self.shown(*self.now(lambda: walk(*a), 1))  # type: ignore[method-assign]
        ask.is_replica = lambda: bool(self.hidden)  # type: ignore[method-assign]
        ask.full = lambda: self.now(full, 0)  # type: ignore[method-assign]
        ask.there_at = lambda *a: self.now(lambda: there(*a), 0)  # type: ignore[method-assign]
        return ask

    def now(self, ask: Callable[[], Any], place: int) -> Any:
        """An answer, with the place of the stream that belongs to it."""
        with self.moment:
            said = list(ask())
            said[place] = self.place
            return tuple(said)

    @property
    def place(self) -> Position:
        return Position(self.replid, self.end)

    def shown(self, run: str, at: Position, cursor: int, names: list[bytes]) -> tuple[str, Position, int, list[bytes]]:
        return run, at, cursor, [name for name in names if name not in self.hidden]

    @property
    def task(self) -> TaskView:
        spec = TaskSpec(extend_expiry_s=self.extend_s, conflict_mode=self.conflict_mode)  # type: ignore[arg-type]
        return replace(super().task, spec=spec, former=tuple(dict.fromkeys(self.extents[:-1])))

    def own(self) -> Applier:
        self.extents.append(Extent.of(self.databases, self.filter).text)
        self.ports.append(Port(self.task, epoch=self.epoch + len(self.owners)))
        chunks = [self.chunk] if self.chunk else []
        self.ports[-1].chunks = lambda _, every=False: [*chunks]  # type: ignore[method-assign]
        made = Applier(
            endpoint(self.target), self.ports[-1], self.log, self.questions(), self.directory,  # type: ignore[arg-type]
            Scope(self.databases, self.filter), 0, self.known,
        )  # fmt: skip
        self.owners.append(made)
        made.start()
        return made

    def become(self, databases: dict[int, int] | None, keys: FilterSpec = PLAIN) -> Applier:
        """The owner of another scope; the one before ends at a checkpoint."""
        for owner in self.owners:
            owner.stop_event.set()
            self.log.wake()
            owner.join(10)
        self.databases, self.filter = databases, keys
        return self.own()

    @property
    def extent(self) -> Extent:
        return Extent.parse(self.checkpoint().get(b"extent", b"").decode() or Extent({}).text)

    def is_whole(self) -> bool:
        return self.extent == Extent.of(self.databases, self.filter)

    def in_step(self) -> bool:
        return self.is_whole() and super().in_step()

    def differences(self) -> list[tuple[int, bytes]]:
        """Of keys that are in scope."""
        scope = self.owners[-1].scope
        return [(db, key) for db, key in super().differences() if scope.takes(db, key)]

    def in_extended_step(self) -> bool:
        """The same, but for expiries."""
        return self.is_whole() and self.committed()

    def keys(self, db: int) -> set[bytes]:
        with self.target.client(db=db) as client:
            return {key for key in client.keys("*") if not key.startswith(b"keyferry:")}


@pytest.fixture
def stream(tmp_path: Path, source: Server, target: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Changing]:
    """In small steps."""
    for name, value in {"SCANNED": 5, "BATCH": 3, "ROUND_BYTES": 400, "FEW": 2}.items():
        monkeypatch.setattr(adding, name, value)
    made = Changing(source, target, tmp_path)
    yield made
    for port, owner in zip(made.ports, made.owners, strict=True):
        print(port.failures, port.events, repr(owner.error))
    print(made.checkpoint(), made.end)
    made.stop()


def many(db: int, count: int = 40) -> list[Command]:
    return [[b"SET", b"k%d" % number, b"%d" % (1000 * db)] for number in range(count)]


def once(action: Callable[[], Any]) -> Callable[[], None]:
    """An action that is done when it is first called."""
    left = [action]
    return lambda: left.pop()() if left else None


@pytest.fixture
def before_step(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Addition], None]], None]:
    """Have something called before each step of an addition that has begun."""

    def install(action: Callable[[Addition], None]) -> None:
        step = adding.Adding.step

        def called(self: adding.Adding) -> Any:
            if self._state is not None:
                action(self._state)
            return step(self)

        monkeypatch.setattr(adding.Adding, "step", called)

    return install


def test_a_database_is_added_while_it_is_written_to(
    stream: Changing, before_step: Callable[[Callable[[Addition], None]], None]
) -> None:
    stream.do(1, *many(1), [b"RPUSH", b"list", b"a", b"b"], [b"SET", b"timed", b"1", b"PXAT", b"99999999999999"])
    stream.do(0, *many(0))
    stream.become({0: 0})
    assert until(stream.in_step)
    assert stream.keys(1) == set()
    count = iter(range(10**9))

    def write(_: Addition) -> None:
        number = next(count) % 40
        stream.do(1, [b"INCR", b"k%d" % number], [b"DEL", b"k%d" % (number + 7)], [b"RPUSH", b"list", b"c"])
        stream.do(0, [b"INCR", b"k%d" % number])
        stream.do(1, [b"SET", b"new%d" % number, b"1"])

    before_step(write)
    stream.become({0: 0, 1: 1})
    assert until(stream.is_whole)
    stream.do(1, [b"INCR", b"after"], [b"INCR", b"k3"])
    assert until(stream.in_step), stream.differences()
    assert stream.events().count("adding") == stream.events().count("added") == 1
    assert not any(port.failures for port in stream.ports)


def test_the_log_is_read_by_and_by_where_all_traffic_is_of_what_is_added(
    stream: Changing, before_step: Callable[[Callable[[Addition], None]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SOON_S", "CHECKPOINT_S"):  # our own windows come more often than that
        monkeypatch.setattr(pump, name, 0.02)
    for name in ("SCANNED", "BATCH"):
        monkeypatch.setattr(adding, name, 10)
    stream.do(1, *many(1, 2000))
    stream.become({0: 0})
    assert until(stream.in_step)
    bases: set[int] = set()

    def write(state: Addition) -> None:
        stream.do(1, [b"APPEND", b"k1", b"x" * 100])
        if state.phase == adding.SCANNING:
            bases.add(state.base)

    before_step(write)
    stream.become({0: 0, 1: 1})
    assert until(stream.is_whole, 60)
    assert len(bases) > 2
    assert until(stream.in_step)


def test_a_source_that_answers_again_is_well_long_before_all_is_added(
    stream: Changing, before_step: Callable[[Callable[[Addition], None]], None]
) -> None:
    """Else a task fails in the middle of it, once the time for retries is over."""
    stream.do(1, *many(1, 60))
    stream.become({0: 0})
    assert until(stream.in_step)
    well: list[bool] = []

    def step(_: Addition) -> None:
        stream.do(0, [b"INCR", b"k1"])
        well.append("source" not in stream.ports[-1].open)
        if len(well) == 3:
            raise ConnectionLost("the source is away", side=Side.SOURCE)

    before_step(step)
    stream.become({0: 0, 1: 1})
    assert until(stream.is_whole)
    assert not well[3]
    assert well[-1]


def test_who_passes_over_much_stops_when_asked(stream: Changing, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(50):
        stream.do(1, [b"SET", b"k", b"%d" % number])
    read, blocks = Feed.next, 0

    def stop(self: Feed) -> Any:
        nonlocal blocks
        blocks += 1
        stream.owners[-1].stop_event.set()
        return read(self)

    monkeypatch.setattr(Feed, "next", stop)
    stream.become({0: 0}).join(10)
    assert blocks == 1


def test_what_is_let_go_stays_as_it_was(stream: Changing) -> None:
    stream.become({0: 0, 1: 1})
    stream.do(1, [b"SET", b"k", b"1"])
    stream.do(0, [b"SET", b"in:k", b"1"], [b"SET", b"out:k", b"1"])
    assert until(stream.in_step)
    stream.become({0: 0}, FilterSpec(block_prefixes=["out:"]))
    stream.do(1, [b"INCR", b"k"], [b"SET", b"more", b"1"])
    stream.do(0, [b"INCR", b"in:k"], [b"INCR", b"out:k"], [b"SET", b"out:more", b"1"])
    assert until(stream.in_step)
    with stream.target.client(db=1) as one:
        assert (one.get("k"), stream.keys(1)) == (b"1", {b"k"})
    assert (stream.target.client().get("out:k"), stream.keys(0)) == (b"1", {b"in:k", b"out:k"})
    assert stream.events().count("narrowed") == 1


@pytest.mark.parametrize("command", [[b"FLUSHDB"], [b"FLUSHALL"], [b"SWAPDB", b"0", b"3"]])
def test_the_checkpoint_keeps_what_it_is_exact_for(command: Command, stream: Changing) -> None:
    """The stream empties, or swaps away, the database in which it is."""
    stream.become({0: 0, 3: 3})
    stream.do(0, [b"SET", b"k", b"1"])
    assert until(stream.in_step)
    stream.do(0, command, [b"SET", b"behind", b"1"])
    assert until(stream.in_step)
    stream.become({0: 0, 3: 3, 1: 1})
    stream.do(1, [b"SET", b"k", b"1"])
    assert until(stream.in_step)
    assert stream.events().count("adding") == 1


def test_what_comes_back_has_lost_what_the_source_has_deleted(stream: Changing) -> None:
    stream.become({0: 0, 1: 1})
    stream.do(1, *many(1), [b"SET", b"gone", b"1"])
    assert until(stream.in_step)
    stream.become({0: 0})
    stream.do(1, [b"DEL", b"gone", b"k1"], [b"SET", b"k2", b"other"])
    assert until(stream.in_step)
    with stream.target.client(db=1) as one:
        one.set("mine", "own")
        assert one.exists("gone", "k1", "k2", "mine") == 4
    stream.become({0: 0, 1: 1})
    assert until(stream.is_whole)
    assert until(lambda: stream.differences() == [(1, b"mine")]), "the target's own key stays"


def test_what_the_snapshot_has_brought_goes(stream: Changing, tmp_path: Path) -> None:
    """Before its files are taken in as its load is tidied up."""
    stream.chunk = view(tmp_path / "gen-1" / "0.chunk", 1, [b"left"])
    stream.become({0: 0})
    assert until(stream.in_step)
    with stream.target.client() as zero:
        zero.mset({"left": 1, "own": 1})
        stream.become({1: 0})
        stream.do(1, [b"INCR", b"n"])
        assert until(stream.is_whole)
        assert until(lambda: stream.keys(0) == {b"own", b"n"}), stream.keys(0)


def test_nobody_knows_which_keys_came_back(stream: Changing) -> None:
    stream.conflict_mode = "ignore-and-proceed"
    stream.become({0: 0, 1: 1})
    stream.do(1, [b"SET", b"gone", b"1"], [b"SET", b"there", b"1"])
    assert until(stream.in_step)
    stream.become({0: 0})
    stream.do(1, [b"DEL", b"gone"])
    assert until(stream.in_step)
    stream.known.forget()
    stream.become({0: 0, 1: 1})
    assert until(stream.is_whole)
    assert stream.differences() == [(1, b"gone")]
    assert "unverified" in stream.events()


@pytest.mark.parametrize("command", [[b"FLUSHDB"], [b"SWAPDB", b"1", b"2"], [b"FLUSHALL"]])
def test_whole_databases_change_meanwhile(
    command: Command, stream: Changing, before_step: Callable[[Callable[[Addition], None]], None]
) -> None:
    stream.do(2, [b"SET", b"swapped", b"1"])
    stream.do(1, *many(1))
    stream.become({0: 0})
    assert until(stream.in_step)
    change = once(lambda: stream.do(1, command, [b"SET", b"behind", b"1"]))
    before_step(lambda state: change() if state.keys > 20 else None)
    stream.become({0: 0, 1: 1})
    assert until(stream.in_step), stream.differences()
    assert stream.events().count("adding") == 2


@pytest.mark.parametrize("command", [[b"FLUSHDB"], [b"FLUSHALL"], [b"SWAPDB", b"0", b"3"]])
def test_an_addition_is_known_still_though_its_checkpoint_was_emptied(
    command: Command, stream: Changing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its next owner would take what it has put for the target's own."""
    stream.become({0: 0, 3: 3})
    stream.do(1, *many(1))
    assert until(stream.in_step)
    with monkeypatch.context() as held:
        held.setattr(adding.Adding, "_may_switch", lambda _: False)
        stream.become(wider := {0: 0, 3: 3, 1: 1})
        assert until(lambda: b'"catch up"' in stream.checkpoint().get(b"adding", b""))
        stream.do(1, [b"DEL", b"k1"])
        stream.do(0, command)
        assert until(stream.committed)
        stream.stop()
    stream.extents.pop()  # its run has copied nothing else before
    stream.become(wider)
    assert until(stream.in_step), stream.differences()


@pytest.mark.parametrize("times", [1, 6])
def test_a_source_that_did_not_answer_is_well_once_it_has(
    stream: Changing, before_step: Callable[[Callable[[Addition], None]], None], times: int
) -> None:
    """Its link is up all the while, and nobody else would close the retry window; what is copied may take for longer
    than that. While the same question has no answer it stays open."""
    stream.do(1, *many(1))
    stream.become({0: 0})
    assert until(stream.in_step)
    open_: list[tuple[int, bool]] = []

    def fail(state: Addition) -> None:
        owner = stream.owners[-1]
        failures, keys = len(owner.port.failures), state.keys  # type: ignore[attr-defined]
        if keys >= 10 and failures < times:
            raise ConnectionLost("slots are on their way", side=Side.SOURCE)
        if failures:
            open_.append((keys, "source" in owner.port.open))  # type: ignore[attr-defined]

    before_step(fail)
    stream.become({0: 0, 1: 1})
    assert until(stream.in_step), stream.differences()
    first = open_[0][0]
    assert all(is_open for keys, is_open in open_ if keys <= first)
    assert not any(is_open for keys, is_open in open_ if keys > first + 10), "it goes on"
    assert open_[-1][0] > first + 10
    assert stream.ports[-1].opened == 1, "it was not closed in between"
    assert until(lambda: stream.ports[-1].open == set())


def test_a_question_that_has_no_answer_behind_the_walk_closes_no_window(
    stream: Changing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That the walk is over is not in the checkpoint yet; each connection begins with it."""
    stream.do(1, *many(1))
    nothing = FilterSpec(block_prefixes=["k"])
    stream.become({0: 0}, nothing)
    assert until(stream.in_step)
    with stream.target.client(db=1) as client:
        client.set("k:own", 1)  # or nothing is walked over
    left = [6]

    def missing(*_: Any) -> Any:
        left[0] -= 1
        raise ConnectionLost("slots are on their way", side=Side.SOURCE)

    with monkeypatch.context() as failing:
        failing.setattr(Surplus, "missing", missing)
        stream.become({0: 0, 1: 1}, nothing)
        assert until(lambda: left[0] <= 0)
        assert stream.ports[-1].opened == 1
        assert "source" in stream.ports[-1].open
    assert until(stream.in_step), stream.differences()
    assert until(lambda: stream.ports[-1].open == set())


def test_they_change_again_and_again(
    stream: Changing, before_step: Callable[[Callable[[Addition], None]], None]
) -> None:
    stream.do(1, *many(1))
    stream.become({0: 0})
    assert until(stream.in_step)
    before_step(lambda _: stream.do(1, [b"FLUSHDB"], *many(1, 3)) and None)
    stream.become({0: 0, 1: 1})
    assert until(lambda: stream.ports[-1].failures)
    assert "again and again" in str(stream.ports[-1].failures[0])


def test_a_key_too_large_to_be_asked_for(stream: Changing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adding, "MOST_BYTES", 1000)
    stream.do(1, [b"SET", b"large", b"x" * 2000])
    stream.become({0: 0})
    assert until(stream.in_step)
    stream.become({0: 0, 1: 1})
    assert until(lambda: stream.ports[-1].failures)
    assert "large of database 1" in str(stream.ports[-1].failures[0])
    assert not stream.is_whole()


def test_keys_that_were_in_scope_are_not_copied_anew(stream: Changing, monkeypatch: pytest.MonkeyPatch) -> None:
    stream.do(1, *many(1))
    stream.become({0: 0})
    stream.do(0, *many(0))
    assert until(stream.in_step)
    stream.asked_of.clear()
    due, written = adding.Adding.due, list[int]()

    def late(self: adding.Adding) -> bool:
        if self._state is not None and self._state.phase == adding.CATCHING_UP and not written:
            stream.do(0, *[[b"INCR", b"k%d" % n] for n in range(3)])
            written.append(stream.do(1, [b"INCR", b"k1"]))
        return due(self) and (not written or self._chain.tip[0] == written[0])

    monkeypatch.setattr(adding.Adding, "due", late)
    stream.become({0: 0, 1: 1})
    assert until(stream.in_step)
    assert "repaired: 1 keys were copied anew" in str(stream.ports[-1].events)
    assert {db for db, _ in stream.asked_of} == {1}


def test_a_database_is_empty_when_it_is_added(stream: Changing) -> None:
    stream.become({0: 0})
    assert until(stream.in_step)
    stream.become({0: 0, 1: 1})
    assert until(stream.is_whole)
    stream.do(1, [b"INCR", b"first"])
    assert until(stream.in_step)


def test_another_place_on_the_target(stream: Changing) -> None:
    stream.become({0: 0, 1: 1})
    stream.do(1, *many(1))
    assert until(stream.in_step)
    stream.become({0: 0, 1: 4})
    stream.do(1, [b"INCR", b"k1"])
    assert until(stream.in_step)
    with stream.target.client(db=1) as former:
        assert former.get("k1") == b"1000"


def test_a_database_is_merged_into_one_that_is_flushed(
    stream: Changing, before_step: Callable[[Callable[[Addition], None]], None]
) -> None:
    stream.do(1, *[[b"SET", b"one:%d" % n, b"1"] for n in range(20)])
    stream.become({0: 0})
    stream.do(0, [b"SET", b"zero", b"1"])
    assert until(stream.in_step)
    change = once(lambda: stream.do(0, [b"FLUSHDB"]))
    before_step(lambda state: change() if state.keys > 5 else None)
    stream.become({0: 0, 1: 0})
    assert until(lambda: stream.ports[-1].failures)
    assert "share their database" in str(stream.ports[-1].failures[0])


def test_the_extension_changes_meanwhile(
    stream: Changing, before_step: Callable[[Callable[[Addition], None]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    stream.extend_s = 100
    stream.do(1, *[[b"SET", b"k%d" % n, b"1", b"PXAT", b"9999999999999"] for n in range(20)])
    stream.become({0: 0})
    assert until(stream.in_extended_step)
    stop = once(lambda: stream.owners[-1].stop_event.set())
    before_step(lambda state: stop() if state.keys > 8 else None)
    stream.become({0: 0, 1: 1})
    assert until(lambda: not stream.owners[-1].is_alive())
    stream.extend_s = 300
    due = adding.Adding.due
    monkeypatch.setattr(adding.Adding, "due", lambda self: due(self) and stream.checkpoint()[b"extend"] == b"300000")
    stream.become({0: 0, 1: 1})
    assert until(stream.in_extended_step), stream.differences()
    with stream.target.client(db=1) as one:
        assert until(lambda: {one.pexpiretime(key) for key in one.keys("*")} == {9999999999999 + 300_000})


def test_connections_end_in_the_middle_of_a_page(
    stream: Changing, before_step: Callable[[Callable[[Addition], None]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    stream.do(1, *many(1))
    stream.become({0: 0})
    assert until(stream.in_step)
    pages: list[Addition] = []
    scan = adding.Adding._scan
    monkeypatch.setattr(adding.Adding, "_scan", lambda self, state: pages.append(state) or scan(self, state))
    sent: list[int] = []

    def cut(state: Addition) -> None:
        made = stream.owners[-1].extending._last
        assert made is not None
        if made._page and made._sent and state.number not in sent:  # once each, else there is no end
            sent.append(state.number)
            own = f"keyferry-{UID}-0"
            with stream.target.client() as client:
                for one in client.client_list():
                    if one["name"] == own:
                        client.client_kill_filter(_id=one["id"])

    before_step(cut)
    stream.become({0: 0, 1: 1})
    assert until(stream.in_step, 60)
    assert len(sent) > 3, "it was cut"
    assert len(pages) == len({(page.cursor, *page.todo) for page in pages}), "no page was read twice"


def test_the_log_is_kept_from_where_it_is_needed(
    stream: Changing, before_step: Callable[[Callable[[Addition], None]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "TURN_S", 0.0)
    stream.do(1, *many(1))
    stream.become({0: 0})
    assert until(stream.in_step)
    pruned: list[tuple[int, int]] = []

    def look(state: Addition) -> None:
        stream.do(0, [b"INCR", b"n"])
        stream.do(1, [b"INCR", b"k1"])
        pruned.append((stream.owners[-1].progress.prunable, state.base))

    before_step(look)
    stream.become({0: 0, 1: 1})
    assert until(stream.in_step)
    assert len({upto for upto, _ in pruned}) > 1
    assert all(upto <= base for upto, base in pruned)


def test_the_log_has_lost_what_was_named_meanwhile(
    stream: Changing, before_step: Callable[[Callable[[Addition], None]], None]
) -> None:
    stream.do(1, *many(1))
    stream.become({0: 0})
    assert until(stream.in_step)
    stop = once(lambda: (stream.do(1, [b"INCR", b"k1"]), stream.owners[-1].stop_event.set()))
    before_step(lambda state: stop() if state.keys > 20 else None)
    stream.become({0: 0, 1: 1})
    assert until(lambda: not stream.owners[-1].is_alive())
    stream.become({0: 0})
    stream.do(1, *[[b"INCR", b"k%d" % number] for number in range(40)])
    assert until(stream.committed)
    lost = stream.end
    stream.log._open_segment(REPLID, lost)
    while int(stream.checkpoint()[b"seen"]) < lost:
        stream.do(0, [b"INCR", b"n"])
        assert until(stream.committed)
    stream.log.prune(lost, keep=0)
    assert stream.log.start == lost
    stream.become({0: 0, 1: 1})
    assert until(stream.in_step), stream.differences()
    assert stream.events().count("adding") == 2


def test_the_source_is_replaced_by_another_server(
    stream: Changing, before_step: Callable[[Callable[[Addition], None]], None]
) -> None:
    """What was read of the former one may have been lost with it."""
    stream.do(1, *many(1))
    stream.become({0: 0})
    assert until(stream.in_step)

    def replaced() -> None:
        with stream.target.client(db=1) as one:
            one.set("k1", "lost with the former source")
        stream.replid = "b" * 40
        stream.log.rename(stream.replid)
        stream.do(0, [b"INCR", b"n"])

    change = once(replaced)
    before_step(lambda state: change() if state.keys >= 40 else None)
    stream.become({0: 0, 1: 1})
    assert until(stream.in_step), stream.differences()


def test_a_replica_hides_what_its_master_renews(stream: Changing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adding, "SKEW_S", 2.0)
    stream.do(1, *many(1, 5), [b"SET", b"hidden", b"1", b"PXAT", b"9999999999999"])
    stream.become({0: 0})
    assert until(stream.in_step)
    stream.hidden.add(b"hidden")
    stream.become({0: 0, 1: 1})
    assert until(lambda: stream.keys(1) == {b"k%d" % number for number in range(5)})
    time.sleep(1.0)  # a replica's clock is ahead by that
    stream.hidden.clear()
    stream.do(1, [b"PEXPIREAT", b"hidden", b"9999999999998"], [b"INCR", b"hidden"])
    assert until(stream.in_step), stream.differences()


OPERATIONS: list[Callable[[random.Random], Command]] = [
    lambda r: [b"INCR", b"n%d" % r.randrange(30)],
    lambda r: [b"RPUSH", b"l%d" % r.randrange(10), b"%d" % r.randrange(100)],
    lambda r: [b"LPOP", b"l%d" % r.randrange(10)],
    lambda r: [b"DEL", b"%b%d" % (r.choice([b"n", b"l"]), r.randrange(10))],
    lambda r: [b"RPOPLPUSH", b"l%d" % r.randrange(10), b"l%d" % r.randrange(10)],
    lambda r: [b"MOVE", b"%b%d" % (r.choice([b"n", b"l"]), r.randrange(10)), b"%d" % r.randrange(3)],
    lambda r: [b"COPY", b"l%d" % r.randrange(10), b"l%d" % r.randrange(10), b"DB", b"%d" % r.randrange(3), b"REPLACE"],
    lambda r: [b"RENAME", b"n%d" % r.randrange(30), b"n%d" % r.randrange(30)],
]


@pytest.mark.parametrize("seed", range(12))
def test_owners_die_and_scopes_change_under_traffic(
    seed: int, stream: Changing, before_step: Callable[[Callable[[Addition], None]], None]
) -> None:
    rng = random.Random(seed)

    def write(count: int) -> None:
        for _ in range(count):
            db, command = rng.randrange(3), rng.choice(OPERATIONS)(rng)
            with stream.moment:
                effective(stream, db, command)

    for db in range(3):
        stream.do(db, *[[b"SET", b"n%d" % n, b"%d" % (100 * db)] for n in range(30)])
    stream.become({0: 0})
    assert until(stream.committed)
    dying = threading.Event()

    def die(_: Addition) -> None:
        write(rng.randrange(4))
        if rng.random() < 0.15:
            dying.set()  # and the next owner comes in the middle

    before_step(die)
    scopes: list[tuple[dict[int, int], FilterSpec]] = [
        ({0: 0, 1: 1}, PLAIN),
        ({0: 0, 1: 1, 2: 2}, FilterSpec(block_prefixes=["l"])),
        ({1: 1, 2: 2}, PLAIN),
        ({0: 0, 1: 1, 2: 2}, FilterSpec(db={"1": {"allow_prefixes": ["l"]}})),  # type: ignore[dict-item]
        ({0: 0, 2: 2}, PLAIN),
    ]
    rng.shuffle(scopes)
    for databases, keys in scopes:
        stream.databases, stream.filter = databases, keys
        stream.own()
        for _ in range(rng.randrange(1, 4)):
            write(10)
            if until(lambda: dying.is_set() or stream.is_whole(), 3) and dying.is_set():
                dying.clear()
                stream.own()
    assert until(stream.is_whole, 60), stream.events()
    write(20)
    assert until(stream.in_step, 60), (stream.differences(), stream.ports[-1].failures, stream.ports[-1].events[-5:])
    assert stream.events().count("added") >= 1


def effective(stream: Changing, db: int, command: Command) -> None:
    """Do what the source takes, and let the stream have it: a source tells no more than that."""
    with stream.server.client(db=db) as here:
        name, key = command[0], command[1]
        if name in (b"LPOP", b"DEL", b"RPOPLPUSH", b"MOVE", b"COPY", b"RENAME") and not here.exists(key):
            return
        if name == b"MOVE":
            to = int(command[2])
            with stream.server.client(db=to) as there:
                if to == db or there.exists(key):
                    return
        if name == b"COPY" and (int(command[4]) == db and command[1] == command[2]):
            return
        if name == b"RENAME" and command[1] == command[2]:
            return
    stream.do(db, command)


def test_what_the_checkpoint_says_of_an_addition() -> None:
    extent, other = Extent({0: 0, 1: 1}), Extent({0: 0})
    state = Addition(adding.digest(extent), 7, 1, REPLID, 0, todo=[1, 2], cursor=9)
    assert Addition.parse(state.text, extent) == state
    assert Addition.parse(state.text, other) is None, "it was of another change"
    former = Former(other.text, 5, 0)
    assert (Former.parse(former.text), Former.parse(state.text), Addition.parse(former.text, extent)) == (
        former, None, None,
    )  # fmt: skip
    assert Former.parse("") is None
    assert former.extent == other
    assert state.walked("r", 4, 3) == replace(state, run="r", cursor=4, keys=3)
    assert state.walked("r", 0, 0).todo == [2]
    assert state.walked("r", 0, 0).walked("r", 0, 0).phase == adding.SWEEPING

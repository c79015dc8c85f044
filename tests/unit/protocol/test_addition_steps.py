"""One addition, step by step, against a source and a target in memory."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest

from sync_tasks.errors import CannotContinue, ConnectionLost, ControlError, Retry
from sync_tasks.extent import Extent
from tests.unit.protocol.conftest import REPLID
from workers import adding, passed
from workers.added import CATCHING_UP, SWEEPING, Addition, digest
from workers.adding import BATCH, Adding
from workers.clock import Clock
from workers.codec import crc64
from workers.codec.digest_cy import key_hash
from workers.codec.resp_cy import parse
from workers.converging import MOST_ROUNDS, Converging
from workers.reach import nowhere
from workers.repair import SKEW_S
from workers.rewrite import Rewriter
from workers.scope import Scope
from workers.snapshot import Stopped
from workers.source.ask import Position, Values
from workers.target.claim import MIXED, Checkpoint
from workers.target.windows import Window
from workers.wanted import Wanted

Key = tuple[int, bytes]


def payload(text: bytes) -> bytes:
    """As DUMP gives a string of some bytes."""
    body = bytes([0, len(text)]) + text + (9).to_bytes(2, "little")
    return body + crc64(body).to_bytes(8, "little")


class World:
    """All that an addition has to do with: of databases to a task that copies database 0. What the stream brings to
    database 0 is applied by hand.
    """

    def __init__(self, databases: dict[int, int], replica: bool = False) -> None:
        self.source: dict[Key, bytes] = {}
        self.target: dict[Key, bytes] = {}
        self.stream: list[tuple[int, int, list[bytes]]] = []  # offset behind, database, command
        self.end = 1000  # of the source's stream
        self.says: int | None = None  # where the source says that it stands, if not there
        self.databases_, self.replica = databases, replica
        self.tip, self.start = (1000, 0, REPLID), 0
        self.events: list[str] = []
        self.pages: list[list[bytes]] = [[]]  # of the walk over the target
        self.brought: dict[int, set[bytes]] = {}
        self.former: list[Extent] = []
        self.is_whole, self.seed = True, b"seed"
        self.ck, self.db, self.link, self.extend_ms = b"keyferry:x:0:ck", 0, None, 0
        self.seen = self.seen_db = 0
        self.stops = False  # whoever adds is to stop

    def write(self, db: int, *argv: bytes, size: int = 100) -> None:
        """At the source, and in its stream, where it takes so many bytes."""
        match argv:
            case b"SET", key, value:
                self.source[db, key] = value
            case b"DEL", key:
                self.source.pop((db, key), None)
            case b"MOVE", key, to:
                self.source[int(to), key] = self.source.pop((db, key))
        self.end += size
        self.stream.append((self.end, db, [*argv]))

    def come(self) -> None:
        """The target stands where the source does."""
        self.tip = (self.end, 0, self.tip[2])

    def commit(self, window: Window | None) -> None:
        """Execute it."""
        if window is None:
            return
        pos, data, db = 0, bytes(window.body), 0
        while pos < len(data):
            argv, pos = parse(data, pos)
            match argv:
                case b"SELECT", number:
                    db = int(number)
                case b"RESTORE", key, _, value, *_:
                    self.target[db, key] = value[2:-10]
                case b"UNLINK", *keys:
                    for key in keys:
                        self.target.pop((db, key), None)

    def add(self, found: str = "", earlier: Adding | None = None, extend_ms: int = 0) -> Adding:
        """A connection's part, behind a checkpoint that says `found`."""
        whole = Scope(self.databases_)
        rewriter = Rewriter(whole, Clock(extend_ms), 0, lambda _: [], lambda *_: None, lambda _: None)
        point = Checkpoint(REPLID, self.tip[0], 0, 1, "n", 0, "streaming", 1, False, adding=found)
        so_far = Scope.within(Extent({0: 0}).meet(whole.extent), whole)
        it: Any = self
        return Adding(
            it, it, it, it, it, rewriter, so_far, point, self.former, self.pause,
            lambda *event: self.events.append(": ".join(event)), earlier,
        )  # fmt: skip

    def pause(self, _seconds: float) -> None:
        if self.stops:
            raise Stopped

    def begun(self, **more: Any) -> str:
        return Addition(digest(Scope(self.databases_).extent), 1000, 0, REPLID, 0, **more).text

    def run(self, one: Adding) -> None:
        """As long as there is something to do now."""
        while not one.over and one.due():
            self.commit(one.step())

    # the source

    def at(self) -> Position:
        return Position(REPLID, self.says or self.end)

    def full(self) -> tuple[Position, list[int]]:
        return self.at(), sorted({db for db, _ in self.source})

    def is_replica(self) -> bool:
        return self.replica

    def sizes(self, keys: list[Key]) -> list[int]:
        return [100 for _ in keys]

    def walk(self, db: int, _cursor: int, _count: int) -> tuple[str, Position, int, list[bytes]]:
        return "run", self.at(), 0, sorted(key for at, key in self.source if at == db)

    def values(self, keys: list[Key]) -> Values:
        found = [self.source.get(key) for key in keys]
        values = [None if value is None else payload(value) for value in found]
        return Values(self.at(), [*values], [-1] * len(found), True, self.replica)

    def there_at(self, db: int, names: list[bytes]) -> tuple[Position, list[bool]]:
        return self.at(), [(db, name) in self.source for name in names]

    def named(self, asked: list[Any]) -> list[None]:
        return [None for _ in asked]

    # the target, and its chain

    def own_window(self) -> Window:
        offset, db, replid = self.tip
        return Window(start=offset, end=offset, db=db, replid=replid, first=0, selected=0)

    def databases(self, scope: Scope) -> list[int]:
        return sorted({to for db in range(16) if (to := scope.target(db)) is not None})

    def scan(self, _db: int, cursor: int, _count: int) -> tuple[int, list[bytes]]:
        return (cursor + 1) % len(self.pages), self.pages[cursor]

    # what is known

    def put(self, hashes: dict[int, bytes]) -> None: ...

    def fold(self, log: Any, stop: int | None = None) -> None: ...

    def covers(self, _gen: int, _offset: int) -> bool:
        return self.is_whole

    def count(self, db: int) -> int:
        return len(self.brought.get(db, ()))

    def part(self, db: int, _bits: int, _part: int) -> bytes:
        return b"".join(sorted(key_hash(key, self.seed) for key in self.brought.get(db, ())))


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    def placed(log: World, start: int, stop: int, _db: int, _wait: Any) -> Any:
        return (one for one in log.stream if start < one[0] <= stop)

    def commands(*args: Any) -> Any:
        return (one[1:] for one in placed(*args))

    def keys_of(_link: Any, stream: Any, _ask: Any = None) -> Any:
        for db, argv in stream:
            others = {(int(argv[2]), argv[1])} if argv[0] == b"MOVE" else set()
            yield (db, argv), {(db, argv[1])} | others

    monkeypatch.setattr(passed, "commands", commands)
    monkeypatch.setattr(passed, "placed", placed)
    monkeypatch.setattr(passed, "keys_of", keys_of)
    monkeypatch.setattr(adding, "reach", lambda log, at, pause: None)
    monkeypatch.setattr(adding, "error_count", lambda *_: "run:0:0")


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The time, in s."""
    clock = SimpleNamespace(s=100.0)
    monkeypatch.setattr("time.monotonic", lambda: clock.s)
    return clock


def back(replica: bool = False) -> World:
    """Database 1 comes back."""
    world = World({0: 0, 1: 1}, replica)
    world.former = [Extent({0: 0, 1: 1}), Extent({0: 0})]
    return world


def test_a_key_comes_again_while_the_target_is_swept() -> None:
    world = back()
    world.brought = {1: {b"k", b"other", b"gone"}}
    world.target = {(1, b"k"): b"old", (1, b"other"): b"1", (1, b"gone"): b"1"}
    world.source = {(1, b"other"): b"1"}
    world.pages = [[b"k", b"gone"], [b"other"]]
    one = world.add(world.begun(phase=SWEEPING))
    world.commit(one.step())  # two are not at the source
    world.write(1, b"SET", b"k", b"new")
    world.write(1, b"SET", b"other", b"2", size=5 << 20)
    world.come()
    world.run(one)
    assert one.over
    assert world.target == world.source


@pytest.mark.parametrize("asked", ["there_at", "part"])
def test_what_was_not_answered_of_a_sweep_is_asked_by_whoever_goes_on(asked: str) -> None:
    """The source in the middle of it, or the disk at its end: no name that was seen there may be passed over."""
    world = back()
    world.brought = {1: {b"one", b"two", b"three"}}
    world.target = dict.fromkeys([(1, b"one"), (1, b"two"), (1, b"three")], b"1")
    world.pages = [[b"one"], [b"two"], [b"three"]]
    one = world.add(world.begun(phase=SWEEPING))
    usual, calls = getattr(world, asked), 0

    def fails(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == (2 if asked == "there_at" else 1):
            raise nowhere()
        return usual(*args)

    setattr(world, asked, fails)
    with pytest.raises(ConnectionLost):
        world.run(one)
    another = world.add(world.begun(phase=SWEEPING), one)
    world.run(another)
    assert another.over
    assert world.target == {}


def test_expiries_are_later_by_one_or_another_where_that_has_changed_within_a_page() -> None:
    world = World({0: 0, 1: 1})
    world.source = {(1, b"%d" % number): b"1" for number in range(BATCH + 1)}
    one = world.add(world.begun(todo=[1]))
    assert one.step() is None, "the page was read"
    world.commit(one.step())
    another = world.add(one.said, one, extend_ms=1000)
    world.commit(another.step())
    assert len(world.target) == BATCH + 1
    said = Addition.parse(another.said)
    assert said is not None
    assert said.extend_ms == MIXED


def test_values_are_read_behind_where_base_goes() -> None:
    world = back(replica=True)
    one = world.add(world.begun(phase=SWEEPING))
    world.write(1, b"SET", b"k", b"1", size=5 << 20)
    world.come()
    assert one.step() is None, "what is named is to be put"
    world.says = 1000  # the source, a replica, has begun with an older snapshot
    with pytest.raises(ConnectionLost, match=str(nowhere())):
        one.step()


def test_a_busy_replica_comes_to_an_end(now: Any) -> None:
    world = back(replica=True)
    one = world.add(world.begun(phase=SWEEPING))
    for _ in range(2 * adding.MOST_ROUNDS):
        world.write(1, b"SET", b"k", b"1")
        world.write(1, b"DEL", b"k", size=5 << 20)  # so much in four seconds
        world.come()
        now.s += 4
        world.run(one)
        if one.over:
            break
    assert one.over


def test_who_takes_over_does_not_know_what_a_replica_has_hidden(now: Any) -> None:
    world = back(replica=True)
    one = world.add(world.begun(phase=CATCHING_UP))
    assert not one.due()
    now.s += SKEW_S
    assert one.due()
    world.replica = False
    assert world.add(world.begun(phase=CATCHING_UP)).due()


def test_a_source_that_was_replaced_is_not_waited_for() -> None:
    """It may never come to where the one before was read."""
    world = back()
    one = world.add(world.begun(phase=CATCHING_UP, read=5000))
    assert not one.due()
    world.tip = (1000, 0, "b" * 40)
    assert one.due()


def test_much_that_was_named_is_put_before_the_stream_has_come_to_where_all_was_read() -> None:
    """What others have loaded beside the stream begins so: it would else be too much at once."""
    world = back()
    one = world.add(world.begun(phase=CATCHING_UP, read=1000 + (50 << 20)))
    assert not one.due()
    for number in range(5):
        world.write(1, b"SET", b"k%d" % number, b"1", size=5 << 20)
        world.come()
        assert one.due()
        world.run(one)
        assert not one.over, "more was read than the stream has"
        assert one.base == world.tip[0]
    assert world.target == world.source
    world.write(1, b"SET", b"last", b"1", size=25 << 20)
    world.come()
    world.run(one)
    assert one.over


def test_what_passes_at_once_is_put_by_and_by(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing is in scope so far, all that was written during a load passes in one window."""
    monkeypatch.setattr(passed, "ROUND_KEYS", 10)
    monkeypatch.setattr(passed, "MOST_DOUBTED", 15)
    monkeypatch.setattr(adding, "FEW", 0)
    world = back()
    for number in range(100):
        world.write(1, b"SET", b"k%d" % (number % 90), b"%d" % number, size=1 << 20)
    for number in range(100, 125):
        world.stream.append((world.end, 1, [b"MULTI", b""]))
        for _ in range(3):
            world.write(1, b"SET", b"k%d" % number, b"%d" % number)
        world.stream.append((world.end, 1, [b"EXEC", b""]))
    one = world.add(world.begun(phase=CATCHING_UP, read=world.end))
    world.come()
    bases = set()
    while not one.over:
        assert one.due()
        world.commit(one.step())
        bases.add(one.base)
    assert world.target == world.source
    assert len(bases) > 10


def keeps_on(world: World, keys: int) -> Callable[[], None]:
    """A source that writes so many more keys of 1 MB, and the target passes over them."""
    numbers = count()

    def on() -> None:
        for _ in range(keys):
            world.write(1, b"SET", b"k%d" % next(numbers), b"1", size=1 << 20)
        world.come()

    return on


@pytest.mark.parametrize(("keys", "told"), [(12, 1), (8, 0)])
def test_a_source_that_writes_more_than_is_copied_is_told_of(
    monkeypatch: pytest.MonkeyPatch, keys: int, told: int
) -> None:
    """Once, by all connections of an owner; one that is only far behind comes to its end."""
    monkeypatch.setattr(passed, "ROUND_KEYS", 10)
    world = back()
    on = keeps_on(world, 40)
    on()
    on = keeps_on(world, keys)
    one = world.add(world.begun(phase=CATCHING_UP, read=world.end))
    for _ in range(4 * MOST_ROUNDS):
        if one.step() is None:  # a round begins
            world.commit(one.step())
            on()
        if one.over:
            break
        world.says = world.end
        one = world.add(one.said, one)
    found = [event for event in world.events if event.startswith("not-converging")]
    assert len(found) == told
    assert one.over is not bool(told)
    assert all("write rate" in event and f" {(40 + MOST_ROUNDS * 2)}.0 MiB" in event for event in found)


@pytest.mark.parametrize("phase", [SWEEPING, CATCHING_UP])
def test_a_busy_source_that_is_kept_up_with_is_not_told_of(monkeypatch: pytest.MonkeyPatch, phase: str) -> None:
    """Each round finds as much as the one before."""
    monkeypatch.setattr(adding, "FEW", 0)
    world = back()
    world.pages = [[] for _ in range(40)]
    one = world.add(world.begun(phase=phase))
    for number in range(2 * MOST_ROUNDS):
        world.write(1, b"SET", b"k%d" % number, b"1", size=5 << 20)
        world.come()
        assert one.step() is None, "a round begins"
        world.commit(one.step())
        if phase == SWEEPING:
            world.commit(one.step())
    assert one._state is not None
    assert one._state.phase == phase
    assert not [event for event in world.events if "not-converging" in event]


def test_it_goes_on_while_the_database_is_away_and_is_told_later() -> None:
    told = list[str]()

    def tell(kind: str, _: str) -> None:
        told.append(kind)
        if len(told) < 3:
            raise ControlError("the database is away", retry=Retry.OTHER)

    converging = Converging(tell)
    for _ in range(2 * MOST_ROUNDS):
        converging.round(100)
    assert told == 3 * ["not-converging"]


def test_who_reads_a_long_log_stops_when_asked() -> None:
    world = back()
    for number in range(100):
        world.write(1, b"SET", b"k%d" % number, b"1", size=1 << 20)
    one = world.add(world.begun(phase=CATCHING_UP, read=world.end))
    world.come()
    world.stops = True
    with pytest.raises(Stopped):
        one.step()


def test_all_of_the_log_is_not_read_for_each_key_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where what is merged is all added, nobody but us has put anything there: who was named last says nothing."""
    monkeypatch.setattr(adding, "FEW", 0)
    world = World({0: 0, 1: 1, 2: 1})
    for number in range(20):
        world.target[1, b"k%d" % number] = b"old"
        world.write(1, b"SET", b"k%d" % number, b"1")
        if number % 4 == 1:
            world.write(1, b"MOVE", b"k%d" % number, b"2")
        elif number % 4 == 3:
            world.write(1, b"DEL", b"k%d" % number)
    one = world.add(world.begun(phase=CATCHING_UP, read=world.end))
    world.come()
    monkeypatch.setattr(passed, "commands", lambda *_: pytest.fail("it was read"))
    world.run(one)
    assert one.over
    assert world.target == {(1, key): value for (_, key), value in world.source.items()}


# --- what may be removed


@pytest.mark.parametrize("whole", [True, False])
def test_keys_of_the_targets_own_stay(whole: bool) -> None:
    """The source has had them, too, before they were to be copied."""
    world = World({0: 0, 1: 1})
    world.former = [Extent({0: 0})]
    world.brought, world.is_whole = {0: {b"own"}, 1: {b"own"}}, whole
    world.target, world.pages = {(1, b"own"): b"1"}, [[b"own"]]
    world.source = {(1, b"k"): b"1"}
    one = world.add()
    world.run(one)
    assert world.target == {(1, b"own"): b"1", (1, b"k"): b"1"}
    assert not any("unverified" in event for event in world.events)


@pytest.mark.parametrize("whole", [True, False])
def test_nobody_knows_any_more_whose_they_are(whole: bool) -> None:
    world = back()
    world.is_whole, world.brought = whole, {1: {b"ours"}}
    world.target, world.pages = {(1, b"ours"): b"1", (1, b"foreign"): b"1"}, [[b"ours", b"foreign"]]
    one = world.add()
    world.run(one)
    assert world.target == {(1, b"foreign"): b"1"}
    assert ("unverified: 1 keys of the target's database 1" in str(world.events)) is not whole


@pytest.mark.parametrize("whole", [True, False])
def test_what_was_loaded_beside_a_stream_that_is_lost(whole: bool) -> None:
    """Its DEL was in there: the target may not be called in sync with that key."""
    world = back()
    world.is_whole, world.brought = whole, {1: {b"gone"}} if whole else {}
    world.target, world.pages = {(1, b"gone"): b"1", (1, b"k"): b"1"}, [[b"gone", b"k"]]
    world.source = {(1, b"k"): b"1"}
    world.end, world.start = 2000, 2000
    world.come()
    one = world.add(world.begun(phase=CATCHING_UP, read=1500, again=True, initial=True))
    world.commit(one.step())
    one = world.add(one.said)
    if whole:
        world.run(one)
        assert world.target == world.source
    else:
        with pytest.raises(CannotContinue, match="1 keys of the target's database 1 are not at the source"):
            world.run(one)
        assert not one.over


def test_what_a_first_attempt_has_brought_goes() -> None:
    world = World({0: 0, 1: 1})
    world.source, world.pages = {(1, b"k"): b"1"}, [[b"k"]]
    one = world.add()
    world.commit(one.step())
    one.step()
    world.commit(one.step())
    assert world.target == {(1, b"k"): b"1"}
    world.brought = {1: {b"k"}}
    world.source, world.tip = {}, (1000, 0, "b" * 40)  # the source was replaced, and has lost it
    world.commit(one.step())
    another = world.add(one._said.text if one._said else "")
    world.tip = (1000, 0, REPLID)
    world.run(another)
    assert world.target == {}


def test_another_database_takes_the_place() -> None:
    world = World({1: 0})
    world.former = [Extent({0: 0})]
    world.brought, world.pages = {0: {b"a", b"n"}}, [[b"a", b"n", b"own"]]
    world.target = {(0, b"a"): b"1", (0, b"n"): b"5", (0, b"own"): b"1"}
    world.source = {(0, b"a"): b"1", (0, b"n"): b"5", (1, b"c"): b"3"}
    one = world.add()
    world.run(one)
    assert world.target == {(0, b"c"): b"3", (0, b"own"): b"1"}


# --- databases that are merged


def merged() -> World:
    world = World({0: 0, 1: 0})
    world.former = [Extent({0: 0})]
    return world


def test_a_key_that_was_moved_to_the_database_in_scope_stays() -> None:
    world = merged()
    one = world.add(world.begun(phase=CATCHING_UP))
    for number in range(adding.FEW + 2):
        world.write(1, b"SET", b"gone%d" % number, b"1")
        world.write(1, b"DEL", b"gone%d" % number)
    world.write(1, b"SET", b"k", b"1")
    world.write(1, b"MOVE", b"k", b"0")
    world.target = {(0, b"k"): b"1", (0, b"gone7"): b"1"}  # it was copied anew
    world.come()
    world.run(one)
    assert one.over
    assert world.target == {(0, b"k"): b"1"}


def test_a_key_that_was_moved_there_and_goes_on_from_there() -> None:
    """Where the target stands it is there still."""
    world = merged()
    one = world.add(world.begun(phase=SWEEPING))
    world.write(1, b"SET", b"k", b"1")
    world.write(1, b"MOVE", b"k", b"0", size=5 << 20)
    world.target = {(0, b"k"): b"1"}
    world.come()
    world.write(0, b"MOVE", b"k", b"7")
    assert one.step() is None
    world.commit(one.step())
    assert world.target == {(0, b"k"): b"1"}


def test_two_had_the_name_at_once() -> None:
    world = merged()
    world.source[0, b"k"], world.target = b"0", {(0, b"k"): b"0"}
    one = world.add(world.begun(phase=SWEEPING))
    world.write(1, b"SET", b"k", b"1")
    world.write(1, b"DEL", b"k", size=5 << 20)
    world.come()
    world.run(one)
    assert world.target == {(0, b"k"): b"0"}


def test_a_name_that_the_database_in_scope_has_then() -> None:
    """The stream has it: an INCR may have been applied to what was put."""
    world = merged()
    one = world.add(world.begun(phase=SWEEPING))
    world.write(1, b"SET", b"k", b"1")
    world.write(1, b"DEL", b"k")
    world.write(0, b"SET", b"k", b"2", size=5 << 20)
    world.come()
    with pytest.raises(Wanted, match="k is in one and then in another"):
        world.run(one)


def test_a_name_that_the_database_in_scope_has_only_behind() -> None:
    """What is left there must be gone when the stream comes to it."""
    world = merged()
    one = world.add(world.begun(phase=SWEEPING))
    world.write(1, b"SET", b"k", b"1")
    world.write(1, b"DEL", b"k", size=5 << 20)
    world.come()
    world.write(0, b"SET", b"k", b"2")
    world.target = {(0, b"k"): b"1"}
    assert one.step() is None
    world.commit(one.step())
    assert world.target == {}


def test_a_key_is_moved_between_databases_that_are_added() -> None:
    world = World({0: 0, 1: 5, 2: 5})
    one = world.add(world.begun(phase=SWEEPING))
    world.write(2, b"SET", b"k", b"1")
    world.write(2, b"MOVE", b"k", b"1", size=5 << 20)
    world.come()
    world.run(one)
    assert one.over
    assert world.target == {(5, b"k"): b"1"}


def test_what_is_deleted_in_scope_meanwhile_is_left_to_the_stream() -> None:
    world = merged()
    world.brought, world.target, world.pages = {0: {b"k"}}, {(0, b"k"): b"1"}, [[b"k"]]
    one = world.add(world.begun(phase=SWEEPING))
    world.write(0, b"SET", b"k", b"1")
    world.write(0, b"DEL", b"k")  # the target is not there yet
    world.commit(one.step())
    world.commit(one.step())
    assert world.target == {(0, b"k"): b"1"}

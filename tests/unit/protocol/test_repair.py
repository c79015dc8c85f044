"""Keys of commands that the target refuses at run time are copied anew, and so is what such keys were joined with."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis

from sync_tasks.errors import RefusedCommand, Side
from sync_tasks.keyfilter import FilterSpec
from sync_tasks.names import checkpoint_key
from sync_tasks.spec import TaskSpec
from sync_tasks.views import TaskView
from tests.servers import Server
from tests.unit.protocol.conftest import REPLID, TASK, UID, Chained, Port, endpoint, known, until
from workers import aside, repair
from workers.apply import Applier
from workers.codec.resp_cy import encode
from workers.moment import now_ms
from workers.scope import Scope
from workers.source.ask import Position, Source, Values
from workers.spool.log import Log
from workers.target.error_count import UNKNOWN, error_count, unchanged
from workers.target.link import TargetLink
from workers.target.windows import Chain, Window

Command = list[bytes]


class Mirrored:
    """A source whose writes come by a log written by hand, and the owners of its stream."""

    def __init__(self, source: Server, target: Server, directory: Path, databases: dict[int, int] | None) -> None:
        self.server, self.target, self.directory, self.databases = source, target, directory, databases
        self.client = source.client()
        self.client.flushall()
        self.log = Log(directory / "log")
        self.log.reset(REPLID, 0)
        self.db = 0
        self.source = Source(endpoint(source, Side.SOURCE))
        self.asked = 0
        self.real = self.source.values
        self.source.values = self.values  # type: ignore[method-assign]
        self.source.offset = lambda: self.end  # type: ignore[method-assign]
        self.source.position = lambda: Position(REPLID, self.end)  # type: ignore[method-assign]
        self.extend_s = TASK.spec.extend_expiry_s
        self.filter = FilterSpec()
        self.moment = threading.RLock()
        self.answer_s = 0.0  # that the source's answer is under way
        self.epoch = 3
        self.owners: list[Applier] = []
        self.ports: list[Port] = []
        self.begin()

    def begin(self) -> None:
        """The first checkpoint."""
        Chained(self.target).link.close()

    @property
    def end(self) -> int:
        return self.log.end or 0

    def values(self, keys: Any) -> Values:
        self.asked += 1
        with self.moment:
            said = replace(self.real(keys), at=Position(REPLID, self.end))
        time.sleep(self.answer_s)
        return said

    def do(self, db: int, *commands: Command) -> int:
        """Write to the source and into its stream."""
        if db != self.db:
            commands = ([b"SELECT", b"%d" % db], *commands)
            self.db = db
        with self.moment:  # what the source has is what its stream says
            for command in commands:
                self.client.execute_command(*command)  # type: ignore[no-untyped-call]
            self.log.append(b"".join(encode(command) for command in commands), now_ms())
            return self.end

    @property
    def task(self) -> TaskView:
        return replace(TASK, databases=self.databases, spec=TaskSpec(extend_expiry_s=self.extend_s))

    def own(self) -> Applier:
        """The next owner."""
        self.ports.append(Port(self.task, epoch=self.epoch + len(self.owners)))
        made = Applier(
            endpoint(self.target), self.ports[-1], self.log, self.source, self.directory,  # type: ignore[arg-type]
            Scope(self.databases, self.filter), 0, known(self.directory),
        )  # fmt: skip
        self.owners.append(made)
        made.start()
        return made

    def stop(self) -> None:
        for owner in self.owners:
            owner.stop_event.set()
            owner.loaded.set()
            self.log.wake()
            owner.join(10)

    def checkpoint(self) -> dict[bytes, bytes]:
        found: dict[bytes, bytes] = self.target.client().hgetall(checkpoint_key(UID, 0))
        return found

    def committed(self) -> bool:
        return int(self.checkpoint()[b"offset"]) == self.end

    def in_step(self) -> bool:
        """The target has the stream, and every key of the source's as it is there."""
        if not self.committed() or self.owners[-1].chain is None or self.owners[-1].chain.refused is not None:
            return False
        return self.differences() == []

    def differences(self) -> list[tuple[int, bytes]]:
        found = []
        for db in range(16):
            goal = db if self.databases is None else self.databases.get(db)
            if goal is None:
                continue
            with self.server.client(db=db) as here, self.target.client(db=goal) as there:
                keys = {k for one in (here, there) for k in one.keys("*") if not k.startswith(b"keyferry:")}
                found += [(db, key) for key in keys if _state(here, key) != _state(there, key)]
        return found

    def events(self) -> list[str]:
        return [event.split(":")[0] for port in self.ports for event in port.events]


def _state(client: redis.Redis, key: bytes) -> Any:
    kind = client.type(key)
    read = {b"string": "GET", b"list": "LRANGE", b"set": "SMEMBERS", b"hash": "HGETALL", b"none": "GET"}[kind]
    with client.pipeline() as pipe:
        pipe.type(key)
        pipe.execute_command(read, key, *((0, -1) if read == "LRANGE" else ()))  # type: ignore[no-untyped-call]
        pipe.ttl(key)
        now, value, ttl = pipe.execute(raise_on_error=False)
    return now, str(value) if isinstance(value, Exception) else value, ttl > 0


@pytest.fixture
def mirror(tmp_path: Path, source: Server, target: Server) -> Iterator[Callable[..., Mirrored]]:
    made: list[Mirrored] = []

    def make(databases: dict[int, int] | None = None) -> Mirrored:
        made.append(Mirrored(source, target, tmp_path, databases))
        return made[-1]

    yield make
    for one in made:
        one.stop()


def spoil(target: Server, key: str, db: int = 0) -> None:
    """Somebody else writes to the target."""
    with target.client(db=db) as client:
        client.delete(key)
        client.rpush(key, "foreign")


def test_a_refused_command(mirror: Callable[..., Mirrored], target: Server) -> None:
    made = mirror()
    owner = made.own()
    made.do(0, [b"SET", b"n", b"1"], [b"SET", b"other", b"x"])
    assert until(made.in_step), owner.error
    spoil(target, "n")
    offset = made.end
    made.do(0, [b"INCR", b"n"], [b"INCR", b"m"])
    assert until(made.in_step), (owner.error, made.differences())
    assert until(lambda: made.events() == ["refused", "repaired"]), made.events()
    assert f"INCR n of the stream at offset {offset}: WRONGTYPE" in made.ports[0].events[0]
    made.do(0, [b"INCR", b"n"], [b"INCR", b"m"])
    assert until(made.in_step), (owner.error, made.differences())
    assert made.asked == 1, "once is enough"
    assert int(made.checkpoint()[b"seen"]) >= offset
    assert made.ports[0].failures == []


def test_what_a_spoilt_key_is_joined_with(mirror: Callable[..., Mirrored], target: Server) -> None:
    """Commands behind the refused one carry the foreign value on, without being refused themselves."""
    made = mirror()
    owner = made.own()
    made.do(0, [b"SADD", b"s", b"a", b"b"])
    assert until(made.in_step), owner.error
    with target.client() as client:
        client.delete("s")
        client.rpush("s", "foreign")
    made.do(
        0, [b"SADD", b"s", b"c"], [b"COPY", b"s", b"copied"], [b"COPY", b"s", b"elsewhere", b"DB", b"3"],
        [b"RENAME", b"copied", b"renamed"], [b"SET", b"untouched", b"1"],
    )  # fmt: skip
    made.do(3, [b"MOVE", b"elsewhere", b"5"])
    made.do(5, [b"SUNIONSTORE", b"union", b"elsewhere", b"none"])
    assert until(made.in_step), (owner.error, made.differences())


def test_keys_that_are_joined_only_while_the_values_are_on_their_way(
    mirror: Callable[..., Mirrored], target: Server
) -> None:
    """Each answer is older than the next command of a loop that carries a spoilt key from list to list."""
    made = mirror()
    owner = made.own()
    made.do(0, [b"RPUSH", b"l0", b"1", b"2", b"3", b"4", b"5", b"6"])
    assert until(made.in_step), owner.error
    answer, turns = made.values, iter(range(1, 5))

    def late(keys: Any) -> Values:
        said = answer(keys)
        turn = next(turns, None)
        if turn is not None:
            made.do(0, [b"LMOVE", b"l%d" % (turn - 1), b"l%d" % turn, b"LEFT", b"RIGHT"])
        return said

    made.source.values = late  # type: ignore[method-assign]
    with target.client() as client:
        client.delete("l0")
        client.set("l0", "foreign")
    made.do(0, [b"LPUSH", b"l0", b"0"])
    assert until(made.in_step), (owner.error, made.differences())
    assert until(lambda: made.events() == ["refused", "repaired"]), made.events()


@pytest.fixture
def lives(monkeypatch: pytest.MonkeyPatch) -> list[Applier]:
    """Whose connection's life has begun, each time."""
    begun: list[Applier] = []
    life = Applier._life

    def counted(owner: Applier) -> None:
        begun.append(owner)
        life(owner)

    monkeypatch.setattr(Applier, "_life", counted)
    return begun


def test_refusals_all_the_while_are_mended_in_one_life(
    mirror: Callable[..., Mirrored], target: Server, lives: list[Applier]
) -> None:
    made = mirror()
    owner = made.own()
    with target.client() as client:
        for i in range(60):
            key = b"n%d" % (i % 7)
            client.eval("redis.call('DEL', KEYS[1]) redis.call('RPUSH', KEYS[1], 'foreign')", 1, key)
            made.do(0, [b"INCR", key], [b"COPY", key, b"copied", b"REPLACE"], [b"INCR", b"other"])
            assert i % 15 < 14 or until(made.in_step), (owner.error, made.differences())
    assert made.asked >= 4
    assert len(lives) == 1
    assert made.ports[0].failures == []


@pytest.mark.parametrize("swap", [False, True])
def test_what_is_refused_on_the_way_is_mended_in_the_next_round(
    mirror: Callable[..., Mirrored], target: Server, lives: list[Applier], swap: bool
) -> None:
    """With what was joined with it; where databases were swapped, by another life."""
    made = mirror()
    owner = made.own()
    made.do(0, [b"SET", b"n", b"1"], [b"SET", b"m", b"1"])
    assert until(made.in_step), owner.error
    for key in ("n", "m"):
        spoil(target, key)
    answer = made.values

    def late(keys: Any) -> Values:
        if not made.asked:
            made.do(0, [b"INCR", b"m"], [b"COPY", b"m", b"copied"], *([[b"SWAPDB", b"0", b"3"]] if swap else []))
        return answer(keys)

    made.source.values = late  # type: ignore[method-assign]
    made.do(0, [b"INCR", b"n"])
    assert until(made.in_step), (owner.error, made.differences())
    assert made.asked == 2
    assert len(lives) == 1 + swap


@pytest.mark.parametrize("databases", [None, {0: 0, 3: 5}])
def test_long_values_go_through_a_file(
    mirror: Callable[..., Mirrored], target: Server, monkeypatch: pytest.MonkeyPatch, databases: dict[int, int] | None
) -> None:
    """Among short ones; built in pieces, since their target may be older."""
    for user in (aside, repair):
        monkeypatch.setattr(user, "LONG_BYTES", 1000)
    monkeypatch.setattr(repair, "MOST_HELD_BYTES", 3000)
    made = mirror(databases)
    owner = made.own()
    elements = [b"element %d" % i for i in range(3000)]
    for db in (0, 3):
        made.do(
            db, [b"RPUSH", b"list", *elements], [b"SADD", b"set", *elements], [b"HSET", b"hash", *elements],
            [b"SET", b"string", b"x" * 5000], [b"PEXPIRE", b"set", b"9000000"], [b"SET", b"short", b"1"],
        )  # fmt: skip
    assert until(made.in_step), (owner.error, made.differences())
    before = target.client().info("commandstats")
    keys = ("list", "set", "hash", "string", "short")
    for db in (0, 3):
        with target.client(db=db if databases is None else databases[db]) as client:
            client.delete(*keys)
            for key in keys:
                client.xadd(key, {"foreign": "1"})
        made.do(
            db, [b"RPUSH", b"list", b"x"], [b"SADD", b"set", b"x"], [b"HSET", b"hash", b"x", b"y"],
            [b"APPEND", b"string", b"x"], [b"INCR", b"short"],
        )  # fmt: skip
    assert until(made.in_step), (owner.error, made.differences())
    after = target.client().info("commandstats")
    assert after["cmdstat_rename"]["calls"] - before.get("cmdstat_rename", {"calls": 0})["calls"] >= 6
    assert made.ports[0].failures == []
    with target.client(db=3 if databases is None else 5) as client:
        assert not client.keys("keyferry:tmp:*")


def test_a_refusal_that_nobody_read(mirror: Callable[..., Mirrored], target: Server) -> None:
    """The owner dies between EXEC and its replies, one of which was WRONGTYPE."""
    made = mirror()
    spoil(target, "n")
    unread(made, target, [b"SET", b"x", b"1"], [b"INCR", b"n"])
    owner = made.own()
    assert until(made.in_step), (owner.error, made.differences())
    assert until(lambda: made.events() == ["repaired"]), made.events()


def count(target: Server) -> str:
    link = TargetLink(endpoint(target), "count", 0)
    try:
        return error_count(link, b"")
    finally:
        link.close()


def test_nothing_is_copied_when_no_error_was_answered(mirror: Callable[..., Mirrored]) -> None:
    made = mirror()
    made.extend_s = 600  # else a machine that stands still for a second has every key looked at
    for turn in range(3):
        owner = made.own()
        made.do(turn, [b"INCR", b"n"])
        assert until(made.in_step), owner.error
        owner.stop_event.set()
        made.log.wake()
        owner.join(10)
    assert made.asked == 0
    assert int(made.checkpoint()[b"seen"]) < made.end, "so it was the count that told"


def test_a_death_on_the_way(mirror: Callable[..., Mirrored], target: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The values are known, commands behind the refused one are on the target: its successor doubts them all again."""
    made = mirror()
    owner = made.own()
    made.do(0, [b"SADD", b"s", b"a"])
    assert until(made.in_step), owner.error
    monkeypatch.setattr(repair.Repair, "put", lambda *_: owner.stop_event.set())
    with target.client() as client:
        client.delete("s")
        client.rpush("s", "foreign")
    made.do(0, [b"SADD", b"s", b"b"], [b"COPY", b"s", b"t"])
    owner.join(10)
    assert made.committed()
    assert made.differences()
    monkeypatch.undo()

    owner = made.own()
    assert until(made.in_step), (owner.error, made.differences())
    assert until(lambda: made.events() == ["refused", "repaired"]), made.events()


def test_swapped_and_emptied_databases(mirror: Callable[..., Mirrored], target: Server) -> None:
    made = mirror()
    owner = made.own()
    made.do(2, [b"SET", b"n", b"1"], [b"SET", b"kept", b"1"])
    made.do(4, [b"SET", b"n", b"1"])
    assert until(made.in_step), owner.error
    spoil(target, "n", db=2)
    spoil(target, "n", db=4)
    made.do(4, [b"INCR", b"n"], [b"FLUSHDB"], [b"SET", b"after", b"1"])
    made.do(2, [b"INCR", b"n"], [b"SWAPDB", b"2", b"7"], [b"SET", b"n", b"8"])
    assert until(made.in_step), (owner.error, made.differences())


def test_mapped_databases(mirror: Callable[..., Mirrored], target: Server) -> None:
    made = mirror({0: 3, 1: 0})
    owner = made.own()
    made.do(0, [b"SET", b"n", b"1"])
    made.do(5, [b"SET", b"n", b"out of scope"])
    made.do(1, [b"SET", b"n", b"2"])
    assert until(made.in_step), owner.error
    spoil(target, "n", db=3)
    made.do(0, [b"INCR", b"n"])
    made.do(5, [b"APPEND", b"n", b"x"])
    assert until(made.in_step), (owner.error, made.differences())
    assert target.client(db=5).get("n") is None


def test_a_key_that_was_moved_between_merged_databases(mirror: Callable[..., Mirrored], target: Server) -> None:
    made = mirror({0: 0, 1: 0})
    owner = made.own()
    made.do(1, [b"SET", b"n", b"1"], [b"SET", b"gone", b"1"])
    assert until(made.committed), owner.error
    spoil(target, "n")
    spoil(target, "gone")
    made.do(1, [b"INCR", b"n"], [b"INCR", b"gone"], [b"MOVE", b"n", b"0"], [b"DEL", b"gone"])
    assert until(lambda: made.committed() and "repaired" in made.events()), owner.error
    with target.client() as client:
        assert (client.get("n"), client.exists("gone")) == (b"2", 0)


def test_what_is_too_large_stays_in_merged_databases(
    mirror: Callable[..., Mirrored], target: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = mirror({0: 0, 1: 0})
    owner = made.own()
    made.do(0, [b"SET", b"large", b"x" * 10_000], [b"SET", b"n", b"1"])
    assert until(made.committed), owner.error
    monkeypatch.setattr(repair, "MOST_BYTES", 5000)
    spoil(target, "n")
    made.do(0, [b"APPEND", b"large", b"y"], [b"INCR", b"n"])
    assert until(lambda: made.committed() and "repaired" in made.events()), owner.error
    with target.client() as client:
        assert (client.get("n"), client.strlen("large")) == (b"2", 10_001)


def test_expiries_and_absent_keys(mirror: Callable[..., Mirrored], target: Server) -> None:
    made = mirror()
    owner = made.own()
    made.do(0, [b"SET", b"timed", b"1"], [b"SET", b"gone", b"1"])
    assert until(made.in_step), owner.error
    spoil(target, "timed")
    spoil(target, "gone")
    when = b"%d" % (now_ms() + 3_600_000)
    made.do(0, [b"INCR", b"timed"], [b"INCR", b"gone"], [b"PEXPIREAT", b"timed", when], [b"DEL", b"gone"])
    assert until(made.in_step), (owner.error, made.differences())
    with target.client() as client:
        assert until(lambda: client.execute_command("PEXPIRETIME", "timed") == int(when))
        assert not client.exists("gone")


def test_a_command_without_keys_still_stops_the_task(mirror: Callable[..., Mirrored]) -> None:
    made = mirror()
    owner = made.own()
    made.log.append(encode([b"FUNCTION", b"LOAD", b"no library"]), now_ms())
    owner.join(5)
    assert isinstance(owner.error, RefusedCommand)
    assert "FUNCTION" in owner.error.message


def test_a_value_that_is_too_large_takes_a_full_sync_in_place(
    mirror: Callable[..., Mirrored], target: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repair, "MOST_BYTES", 10_000)
    made = mirror()
    owner = made.own()
    made.do(0, [b"SET", b"large", b"x" * 20_000])
    assert until(made.in_step), owner.error
    spoil(target, "large")
    made.do(0, [b"APPEND", b"large", b"y"])
    assert until(lambda: made.log.anew), owner.error
    assert any("large" in str(error) for error in made.ports[0].failures), made.ports[0].failures


def test_values_that_come_into_scope_all_the_time(mirror: Callable[..., Mirrored], target: Server) -> None:
    """There is no moment at which nothing is doubted: what is mended by then must count all the same."""
    made = mirror()
    made.filter = FilterSpec(allow_prefixes=["in:"])
    target.client().set("theirs", "not ours")
    made.answer_s = 0.05
    owner = made.own()
    seen, asked = set(), []
    real = made.real
    made.real = lambda keys: asked.append(len(keys)) or real(keys)  # type: ignore[func-returns-value]
    for i in range(400):
        made.do(0, [b"SET", b"out:%d" % i, b"%d" % i], [b"RENAME", b"out:%d" % i, b"in:%d" % i])
        made.do(0, [b"INCR", b"in:%d" % (i // 2)])
        time.sleep(0.005)
        if owner.chain is not None and owner.chain.refused is not None:
            seen.add(int(made.checkpoint()[b"seen"]))
    assert made.events().count("repaired") < len(seen), made.events()
    assert len(seen) > 3, "an owner that dies now need not begin where the first of them came"
    assert max(asked) < 300, "what has been mended is not asked for again"
    target.client().delete("theirs")
    assert until(made.in_step), (owner.error, made.differences())


def test_a_death_among_them(mirror: Callable[..., Mirrored], target: Server) -> None:
    made = mirror()
    made.filter = FilterSpec(allow_prefixes=["in:"])
    for life in range(5):
        owner = made.own()
        for i in range(60):
            name = b"%d" % (i % 7)
            made.do(0, [b"SET", b"out:" + name, b"%d %d" % (life, i)])
            made.do(0, [b"COPY", b"out:" + name, b"in:" + name, b"REPLACE"])
            made.do(0, [b"APPEND", b"in:" + name, b"."], [b"RENAME", b"in:" + name, b"in:x" + name])
            made.do(0, [b"DEL", b"out:" + name])
            time.sleep(0.002)
        if life < 4:
            owner.stop_event.set()
            made.log.wake()
    assert until(made.in_step), (owner.error, made.differences())


def test_what_is_too_large_and_only_doubted_is_named(
    mirror: Callable[..., Mirrored], target: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else has got an error of the target's, perhaps: that must not end a task that has a large key."""
    monkeypatch.setattr(repair, "MOST_BYTES", 10_000)
    made = mirror()
    spoil(target, "n")
    unread(made, target, [b"SET", b"large", b"x" * 20_000], [b"INCR", b"n"])
    owner = made.own()
    assert until(made.in_step), (owner.error, made.differences())
    assert until(lambda: made.events() == ["unverified", "repaired"]), made.events()
    assert "large" in made.ports[0].events[0]


@pytest.mark.parametrize("before", [[], [[b"SELECT", b"0"]]])
@pytest.mark.parametrize("later", [None, 0, 5, 30])
@pytest.mark.parametrize("behind", [False, True])
def test_the_question_is_a_transaction_of_the_stream(
    mirror: Callable[..., Mirrored],
    target: Server,
    monkeypatch: pytest.MonkeyPatch,
    before: list[Command],
    later: int | None,
    behind: bool,
) -> None:
    """Before 7.0, where a key's time is found to be over: the values are true at a place between MULTI and EXEC.

    later: so many bytes of what follows come with it, the others later; None: all.
    """
    made = mirror()
    made.extend_s = 600
    if behind:  # what the stream names is looked at
        monkeypatch.setattr(Applier, "_is_behind", lambda *_: (True, False))
    owner = made.own()
    made.do(0, [b"SET", b"n", b"1"], [b"SET", b"over", b"1"])
    assert until(made.in_step), owner.error
    real, end = made.source.values, encode([b"EXEC"])

    def within(keys: Any) -> Values:
        made.client.delete("over")
        begun = encode([b"MULTI"]) + encode([b"DEL", b"over"])
        at = made.end + len(begun)
        rest = b"".join(map(encode, before)) + end
        begun, rest = begun + rest[:later], b"" if later is None else rest[later:]
        made.log.append(begun, now_ms())
        said = replace(real(keys), at=Position(REPLID, at))
        if rest:
            threading.Timer(0.3, lambda: made.log.append(rest, now_ms())).start()
        return said

    made.source.values = within  # type: ignore[method-assign]
    spoil(target, "n")
    made.do(0, [b"INCR", b"n"])
    assert until(made.in_step), (owner.error, made.differences(), made.events())
    assert made.asked == 1
    assert made.events() == ["refused", "repaired"]


def test_the_answer_lies_in_another_clients_transaction(mirror: Callable[..., Mirrored], target: Server) -> None:
    """It cannot be true anywhere: the source is asked again."""
    made = mirror()
    owner = made.own()
    made.do(0, [b"SET", b"n", b"1"])
    assert until(made.in_step), owner.error
    real = made.source.values

    def within(keys: Any) -> Values:
        made.source.values = real  # type: ignore[method-assign]
        begun, rest = encode([b"MULTI"]) + encode([b"INCR", b"n"]), encode([b"INCR", b"n"]) + encode([b"EXEC"])
        at = made.end + len(begun)
        said = replace(real(keys), at=Position(REPLID, at))
        made.client.incrby("n", 2)
        made.log.append(begun + rest, now_ms())
        return said

    made.source.values = within  # type: ignore[method-assign]
    spoil(target, "n")
    made.do(0, [b"INCR", b"n"])
    assert until(made.in_step), (owner.error, made.differences(), made.events())
    assert made.asked == 2


def test_values_that_do_not_fit_in_one_answer(
    mirror: Callable[..., Mirrored], target: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repair, "MOST_BYTES", 10_000)
    made = mirror()
    owner = made.own()
    made.do(0, *[[b"SET", b"k%d" % i, b"x" * 4000] for i in range(7)])
    assert until(made.in_step), owner.error
    for i in range(7):
        spoil(target, f"k{i}")
    made.do(0, *[[b"APPEND", b"k%d" % i, b"y"] for i in range(7)])
    assert until(made.in_step), (owner.error, made.differences())
    assert made.asked >= 4
    assert until(lambda: made.events() == ["refused", "repaired"]), made.events()


@pytest.mark.parametrize("behind", [False, True])
def test_a_queue_with_a_new_list_for_each_job(
    mirror: Callable[..., Mirrored], target: Server, monkeypatch: pytest.MonkeyPatch, behind: bool
) -> None:
    """Every answer is younger than a join with a key of a new name: the repair ends all the same."""
    made = mirror()
    made.extend_s = 600  # without an extension, a machine that stands still for a second leaves new names in doubt
    if behind:  # what the stream names is looked at
        monkeypatch.setattr(Applier, "_is_behind", lambda *_: (True, False))
    owner = made.own()
    made.do(0, [b"RPUSH", b"q", *[b"%d" % i for i in range(500)]])
    assert until(made.in_step), owner.error
    answer, number, over = made.values, iter(range(400)), threading.Event()

    def moving(keys: Any) -> Values:
        if not over.is_set():
            made.do(0, [b"LMOVE", b"q", b"job:%d" % next(number), b"LEFT", b"RIGHT"])
        return answer(keys)

    made.source.values = moving  # type: ignore[method-assign]
    with target.client() as client:
        client.delete("q")
        client.set("q", "foreign")
    made.do(0, [b"LPUSH", b"q", b"0"])
    assert until(lambda: "repaired" in made.events()), owner.error
    over.set()
    assert until(made.in_step), (owner.error, made.differences())
    assert made.asked < 5


def test_far_behind(mirror: Callable[..., Mirrored], target: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes longer than any patience to come to where the values are true, but the stream does come nearer."""
    monkeypatch.setattr(repair, "PATIENCE_S", 0.3)
    made = mirror()
    made.extend_s = 600
    owner = made.own()
    made.do(0, [b"SET", b"n", b"1"])
    assert until(made.in_step), owner.error
    sizes, push = made.source.sizes, Chain.push
    asked: list[int] = []

    def ahead(keys: Any) -> list[int]:
        asked.append(len(keys))
        if len(asked) == 1:
            for j in range(40):
                made.do(0, *[[b"SET", b"k%d" % (j * 300 + i), b"v" * 20] for i in range(300)])
        return sizes(keys)

    def slow(chain: Chain, window: Window) -> None:
        time.sleep(0.05)
        push(chain, window)

    made.source.sizes = ahead  # type: ignore[method-assign]
    monkeypatch.setattr(Chain, "push", slow)
    spoil(target, "n")
    made.do(0, [b"INCR", b"n"])
    assert until(lambda: "repaired" in made.events(), 20), owner.error
    assert asked == [1]
    assert made.ports[0].failures == []


def test_a_move_to_where_a_doubted_key_is(mirror: Callable[..., Mirrored], target: Server) -> None:
    """The target does not move onto a key that only it has: the one that should have moved stays there."""
    made = mirror()
    owner = made.own()
    made.do(0, [b"SET", b"k", b"1"])
    made.do(5, [b"SET", b"k", b"1"])
    assert until(made.in_step), owner.error
    sizes, turns = made.source.sizes, iter([1])

    def late(keys: Any) -> list[int]:
        if next(turns, None):
            made.do(5, [b"DEL", b"k"])
            made.do(0, [b"MOVE", b"k", b"5"])
        return sizes(keys)

    made.source.sizes = late  # type: ignore[method-assign]
    spoil(target, "k", db=5)
    made.do(5, [b"INCR", b"k"])
    assert until(made.in_step), (owner.error, made.differences())


@pytest.mark.parametrize("late", [False, True])
def test_what_reads_keys_that_it_does_not_name(mirror: Callable[..., Mirrored], target: Server, late: bool) -> None:
    made = mirror()
    owner = made.own()
    made.do(0, [b"SADD", b"src", b"1", b"2", b"3"], *[[b"SET", b"w_%d" % i, b"%d" % i] for i in (1, 2, 3)])
    assert until(made.in_step), owner.error
    spoil(target, "w_1")
    sizes, turns = made.source.sizes, iter([1] if late else [])
    sort = [b"SORT", b"src", b"BY", b"w_*", b"STORE", b"dst"]

    def behind(keys: Any) -> list[int]:
        if next(turns, None):
            made.do(0, sort)
        return sizes(keys)

    made.source.sizes = behind  # type: ignore[method-assign]
    made.do(0, [b"INCRBY", b"w_1", b"9"], *([] if late else [sort]))
    assert until(made.in_step), (owner.error, made.differences())
    assert until(lambda: made.events() == ["refused", "repaired"]), made.events()


def unread(made: Mirrored, target: Server, *commands: Command) -> None:
    """An owner dies between EXEC and its replies."""
    before = Chained(target, epoch=2, begin=False)
    before.chain.errors = count(target)
    before.push(made.do(0, *commands), *commands)
    before.chain.pump(0.1)
    assert until(made.committed)
    before.link.close()


def test_a_target_that_does_not_say_which_keys_a_command_names(mirror: Callable[..., Mirrored], target: Server) -> None:
    made = mirror()
    spoil(target, "n")
    unread(made, target, [b"SET", b"x", b"1"], [b"INCR", b"n"], [b"RENAMENX", b"x", b"y"])
    with target.client() as client:
        client.execute_command("ACL", "SETUSER", "default", "-command")
        try:
            owner = made.own()
            assert until(lambda: owner.error or made.ports[0].failures)
            assert int(made.checkpoint()[b"seen"]) < made.end, "nothing is trusted"
        finally:
            client.execute_command("ACL", "SETUSER", "default", "+@all")
    assert until(made.in_step), (owner.error, made.differences())


def test_a_library_that_may_have_been_refused_is_named(mirror: Callable[..., Mirrored], target: Server) -> None:
    made = mirror()
    library = b"#!lua name=l\nredis.register_function('f', function() return %d end)"
    with target.client() as client:
        client.execute_command("FUNCTION", "LOAD", library % 2)
    unread(made, target, [b"FUNCTION", b"LOAD", library % 1])
    owner = made.own()
    assert until(lambda: made.events() == ["unverified"]), owner.error
    with made.server.client() as client:
        client.execute_command("FUNCTION", "FLUSH")


def test_a_count_that_was_set_back_proves_nothing() -> None:
    assert unchanged("run:3:100", "run:3:100")
    assert unchanged("run:3:100", "run:3:120")
    assert not unchanged("run:3:100", "run:3:99")
    assert not unchanged("run:3:100", "run:4:120")
    assert not unchanged("run:3:100", "other:3:120")
    assert not unchanged(UNKNOWN, UNKNOWN)


def test_what_a_replica_does_not_show_may_only_be_hidden(
    mirror: Callable[..., Mirrored], target: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a replica's clock the time has come; by its master's not yet, and it is renewed."""
    monkeypatch.setattr(repair, "SKEW_S", 1.0)
    made = mirror()
    owner = made.own()
    made.do(0, [b"SET", b"n", b"1"])
    assert until(made.in_step), owner.error
    answer = made.values

    def hiding(keys: Any) -> Values:
        said = replace(answer(keys), replica=True)
        return replace(said, values=[None] * len(said.values)) if made.asked < 3 else said

    made.source.values = hiding  # type: ignore[method-assign]
    spoil(target, "n")
    made.do(0, [b"INCR", b"n"])
    assert until(made.in_step), (owner.error, made.differences())
    assert made.asked == 3

"""Keys that the target has expired by itself, and that the source has renewed meanwhile, are copied anew."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sync_tasks.names import checkpoint_key
from tests.servers import Server, start
from tests.unit.protocol.conftest import REPLID, UID, Chained, until
from tests.unit.protocol.faulty import NEW, Receiving
from tests.unit.protocol.test_repair import Command, Mirrored
from workers import repair, suspects
from workers.applied import Progress
from workers.apply import Applier
from workers.clock import Clock
from workers.codec.resp_cy import encode
from workers.moment import now_ms
from workers.pump import Pump
from workers.source.ask import Position
from workers.spool.log import BACKLOG
from workers.suspects import Behind, Suspects
from workers.target.claim import ALL_HELD
from workers.target.windows import Chain, Window

EXTEND_S = 1
LONG = 3_600_000
SOON = 60_000
AWAY_S = 0.5
"""Longer than what counts as behind with that extension."""

Make = Callable[..., Mirrored]


@pytest.fixture
def mirror(tmp_path: Path, source: Server, target: Server) -> Iterator[Make]:
    made: list[Mirrored] = []

    def make(databases: dict[int, int] | None = None, extend_s: int = EXTEND_S) -> Mirrored:
        made.append(Mirrored(source, target, tmp_path, databases))
        made[-1].extend_s = extend_s
        return made[-1]

    yield make
    for one in made:
        one.stop()


def end(made: Mirrored) -> None:
    owner = made.owners[-1]
    owner.stop_event.set()
    made.log.wake()
    owner.join(10)


def timed(key: bytes, life_ms: int = LONG) -> Command:
    return [b"PEXPIREAT", key, b"%d" % (now_ms() + life_ms)]


def caught_up(made: Mirrored) -> Applier:
    """An owner that writes times with the extension alone, and whose checkpoint says so."""
    owner = made.own()
    assert until(lambda: owner.progress.streaming and not owner.clock.holding and not owner.clock.all_held), owner.error
    return owner


def read_up(made: Mirrored) -> None:
    """All that was written is seen by the owner, the checkpoint says so, and times are settled."""
    for _ in range(3):
        made.do(made.db, [b"SADD", b"always", b"1"])
        assert until(made.in_step), (made.owners[-1].error, made.differences())
    owner = made.owners[-1]
    assert until(lambda: owner.progress.settled_at is not None), owner.error


def vanish(made: Mirrored, *keys: str, db: int = 0) -> None:
    """What the target does once a key's time has come there."""
    goal = db if made.databases is None else made.databases[db]
    made.target.client(db=goal).delete(*keys)
    time.sleep(AWAY_S)


def away(made: Mirrored, keys: int = 1, db: int = 0) -> None:
    """`k0`, `k1`, ... have a time; then the owner is away for so long that the target has none of them any more."""
    names = [b"k%d" % i for i in range(keys)]
    made.do(db, *([b"SET", name, b"7"] for name in names), [b"SADD", b"always", b"1"])
    caught_up(made)
    made.do(db, *(timed(name, SOON) for name in names))
    read_up(made)
    end(made)
    vanish(made, *(name.decode() for name in names), db=db)


def same_times(made: Mirrored, *keys: str, db: int = 0) -> bool:
    goal = db if made.databases is None else made.databases[db]
    with made.server.client(db=db) as here, made.target.client(db=goal) as there:
        ours = [here.execute_command("PEXPIRETIME", key) for key in keys]
        theirs = [there.execute_command("PEXPIRETIME", key) for key in keys]
    return theirs == [when + made.extend_s * 1000 if when > 0 else when for when in ours]


def check(made: Mirrored, *keys: str) -> None:
    """The same in the end, times included; nothing was retried."""
    owner = made.owners[-1]
    assert until(made.in_step), (owner.error, made.differences())
    assert until(lambda: same_times(made, *keys)), owner.error
    assert made.ports[-1].failures == []


@pytest.mark.parametrize(
    "command", [[b"INCR", b"k0"], [b"APPEND", b"k0", b"x"], [b"SETRANGE", b"k0", b"5", b"x"], [b"PERSIST", b"k0"]]
)
def test_a_renewed_key(mirror: Make, command: Command) -> None:
    made = mirror()
    away(made)
    made.do(0, timed(b"k0"), command)
    made.own()
    check(made, "k0")
    assert made.asked == 1
    assert until(lambda: made.events() == ["repaired"]), made.events()


def test_a_key_changed_before_it_is_renewed(mirror: Make) -> None:
    made = mirror()
    away(made)
    made.do(0, [b"INCR", b"k0"], [b"INCR", b"k0"], timed(b"k0"), [b"INCR", b"k0"])
    made.own()
    check(made, "k0")


def test_what_the_source_has_made_anew_is_left_alone(mirror: Make) -> None:
    made = mirror()
    when = b"%d" % (now_ms() + LONG)
    away(made, keys=2)
    made.do(
        0,
        [b"SET", b"k0", b"1", b"PXAT", when],
        timed(b"k0"),
        [b"INCR", b"k0"],
        [b"HSET", b"new", b"f", b"1"],
        [b"INCR", b"other"],
        [b"SADD", b"always", b"2"],
        [b"DEL", b"k1"],
        [b"RPUSH", b"k1", b"1"],
        timed(b"k1"),
    )
    made.own()
    check(made, "k0", "k1")
    assert made.asked == 0
    assert made.events() == []


@pytest.mark.parametrize(
    "command",
    [
        [b"RENAME", b"k0", b"to"], [b"COPY", b"k0", b"to", b"DB", b"3"], [b"MOVE", b"k0", b"3"],
        [b"SUNIONSTORE", b"to", b"always", b"none"], [b"BITOP", b"NOT", b"to", b"k0"],
    ],
)  # fmt: skip
def test_a_key_that_is_joined_with_others(mirror: Make, command: Command) -> None:
    made = mirror()
    away(made)
    made.do(0, timed(b"k0"), command, [b"SADD", b"always", b"3"])
    made.own()
    check(made, "k0", "to")


def test_a_key_that_is_renewed_under_another_name(mirror: Make) -> None:
    made = mirror()
    away(made)
    made.do(0, [b"RENAME", b"k0", b"k9"], timed(b"k9"), [b"INCR", b"k9"])
    made.own()
    check(made, "k9")


def test_in_a_transaction(mirror: Make) -> None:
    made = mirror()
    away(made)
    made.do(0, [b"MULTI"], [b"INCR", b"k0"], timed(b"k0"), [b"COPY", b"k0", b"copied"], [b"EXEC"], [b"INCR", b"copied"])
    made.own()
    check(made, "k0", "copied")


def test_keys_deleted_at_the_source_meanwhile(mirror: Make) -> None:
    made = mirror()
    away(made, keys=3)
    made.do(0, timed(b"k0"), [b"INCR", b"k0"], [b"DEL", b"k0"], [b"INCR", b"k1"], timed(b"k2"), [b"DEL", b"k1"])
    made.own()
    check(made, "k2")
    with made.target.client() as client:
        assert not client.exists("k0", "k1")


def test_keys_deleted_and_made_while_the_values_are_on_their_way(mirror: Make) -> None:
    made = mirror()
    away(made, keys=3)
    made.do(0, timed(b"k0"), timed(b"k1"), timed(b"k2"))
    answer, turns = made.values, iter([1])

    def late(keys: Any) -> Any:
        if next(turns, None):
            made.do(0, [b"DEL", b"k0"], [b"RENAME", b"k1", b"k7"], [b"INCR", b"k2"])
        said = answer(keys)
        made.do(0, [b"INCR", b"k2"], [b"INCR", b"k7"])
        return said

    made.source.values = late  # type: ignore[method-assign]
    made.own()
    check(made, "k2", "k7")


def test_other_databases(mirror: Make) -> None:
    made = mirror({2: 5, 0: 0})
    away(made, db=2)
    made.do(2, timed(b"k0"), [b"INCR", b"k0"])
    made.do(7, [b"SET", b"k0", b"out of scope"], timed(b"k0"))
    made.own()
    check(made)
    assert until(lambda: same_times(made, "k0", db=2))


def test_swapped_databases(mirror: Make) -> None:
    made = mirror()
    away(made, keys=2)
    made.do(0, [b"SWAPDB", b"0", b"2"])
    made.do(2, timed(b"k0"), [b"INCR", b"k0"], [b"SWAPDB", b"2", b"6"])
    made.do(6, timed(b"k1"))
    made.own()
    check(made)
    assert until(lambda: same_times(made, "k0", "k1", db=6))


def test_without_an_extension(mirror: Make) -> None:
    made = mirror(extend_s=0)
    away(made)
    made.do(0, [b"INCR", b"k0"])
    time.sleep(1.0)
    made.own()
    check(made, "k0")
    assert made.asked == 1, "what vanishes while we look may be renewed behind that"


@pytest.mark.parametrize("deaths", [1, 3])
def test_a_death_on_the_way(mirror: Make, monkeypatch: pytest.MonkeyPatch, deaths: int) -> None:
    """The commands on the missing keys are on the target by then, which has keys of those names: they prove nothing."""
    made = mirror()
    away(made, keys=2)
    made.do(0, [b"INCR", b"k0"], timed(b"k0"), [b"RENAME", b"k1", b"to"], timed(b"to"), [b"INCR", b"to"])
    for _ in range(deaths):
        with monkeypatch.context() as patched:
            patched.setattr(repair.Repair, "put", lambda *_: made.owners[-1].stop_event.set())
            made.own().join(10)
            assert made.committed()
            assert made.differences()
            made.do(0, [b"INCR", b"k0"], [b"COPY", b"to", b"copied", b"REPLACE"], [b"APPEND", b"copied", b"1"])
    made.own()
    check(made, "k0", "to", "copied")
    assert made.events()[-1] == "repaired"


def test_a_death_after_which_all_looks_fresh(mirror: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is renewed in the stream's last moment: the checkpoint must not look younger than the doubts."""
    made = mirror()
    away(made)
    made.do(0, [b"INCR", b"k0"], timed(b"k0"))
    with monkeypatch.context() as patched:
        patched.setattr(repair.Repair, "reached", lambda *_: False)
        owner = made.own()
        for _ in range(20):
            made.do(0, [b"INCR", b"else"])
            time.sleep(0.02)
        end(made)
        assert owner.error is None
    made.own()
    check(made, "k0")


def test_what_was_executed_too_late(mirror: Make, target: Server) -> None:
    """The owner dies with a window under way; the target, which stood still, executes it when the key has expired."""
    made = mirror()
    away(made)
    commands = ([b"INCR", b"k0"], timed(b"k0"), [b"APPEND", b"k0", b"1"])
    before = Chained(target, epoch=9, begin=False)
    before.push(made.do(0, *commands), *commands)
    before.chain.pump(0.1)
    assert until(made.committed)
    before.link.close()
    assert made.differences()
    made.epoch = 20
    made.own()
    check(made, "k0")


def test_an_ordinary_death_under_traffic(mirror: Make) -> None:
    """What nobody has seen the answers to is doubted as soon as it is old; that is all there is to it."""
    made = mirror()
    made.do(0, [b"SADD", b"always", b"1"])
    caught_up(made)
    read_up(made)
    made.do(0, [b"INCR", b"n"], timed(b"n"))
    assert until(made.committed)
    end(made)
    time.sleep(AWAY_S)
    made.own()
    check(made, "n")
    assert made.asked == 1


def test_a_target_that_stands_still(mirror: Make, target: Server) -> None:
    """Some windows are in its buffers, more are in ours."""
    made = mirror()
    names = [b"k%d" % i for i in range(4)]
    made.do(0, *([b"SET", name, b"7"] for name in names), [b"SADD", b"always", b"1"])
    caught_up(made)
    made.do(0, *(timed(name, 1500) for name in names))
    read_up(made)
    target.pause()
    try:
        made.do(0, [b"INCR", b"k0"], timed(b"k0"), [b"INCR", b"k0"])
        time.sleep(0.1)
        made.do(0, [b"COPY", b"k1", b"copied"], timed(b"copied"), timed(b"k1"))
        time.sleep(0.1)
        made.do(0, *(timed(b"k2") for _ in range(12_000)), [b"INCR", b"k2"], [b"INCR", b"k3"], timed(b"k3"))
        time.sleep(2.5)
        made.do(0, [b"INCR", b"k0"], [b"INCR", b"copied"])
    finally:
        target.resume()
    check(made, "k0", "k1", "k2", "k3", "copied")


def test_what_is_there_still_is_held(mirror: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would vanish before its command comes, were that to take a while."""
    made = mirror()
    names = [b"k%d" % i for i in range(40)]
    made.do(0, *([b"SET", name, b"7"] for name in names))
    caught_up(made)
    made.do(0, *(timed(name, 2500) for name in names))
    read_up(made)
    end(made)
    made.do(0, *([b"INCR", name] for name in names), *map(timed, names))
    time.sleep(AWAY_S)
    pushed, slow = Chain.push, iter([1])

    def push(chain: Chain, window: Window) -> None:
        if window.start != window.end and next(slow, None):
            assert until(lambda: made.target.client().dbsize() < 40, 4) is False
        pushed(chain, window)

    monkeypatch.setattr(Chain, "push", push)
    made.own()
    assert until(made.committed, 10)
    check(made, *(name.decode() for name in names))
    assert made.asked == 0


def test_blocks_of_unknown_age(mirror: Make) -> None:
    """They come out of the source's backlog after a cut, to an owner that lives on."""
    made = mirror()
    made.do(0, [b"SET", b"k0", b"7"], [b"SADD", b"always", b"1"])
    owner = caught_up(made)
    made.do(0, timed(b"k0", SOON))
    read_up(made)
    vanish(made, "k0")
    renewal = timed(b"k0")
    made.client.execute_command(*renewal)
    made.client.incr("k0")
    made.log.append(encode(renewal) + encode([b"INCR", b"k0"]), now_ms(), BACKLOG)
    check(made, "k0")
    assert made.owners == [owner]


def test_a_short_absence_asks_nobody(mirror: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    made = mirror(extend_s=600)
    made.do(0, [b"SET", b"k0", b"7"], [b"SADD", b"always", b"1"])
    caught_up(made)
    made.do(0, timed(b"k0"))
    read_up(made)
    end(made)
    made.do(0, [b"INCR", b"k0"], timed(b"k0"))
    monkeypatch.setattr(suspects.Suspects, "_live", lambda _: pytest.fail("asked"))
    made.own()
    check(made, "k0")
    assert 0 < int(made.checkpoint()[b"fresh"]) < ALL_HELD


def test_nothing_can_be_missing_before_it_has_caught_up_once(mirror: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    made = mirror()
    made.do(0, [b"SET", b"k0", b"7"], timed(b"k0"))
    made.source.position = lambda: Position(REPLID, 1 << 40)  # type: ignore[method-assign]
    monkeypatch.setattr(suspects.Suspects, "_live", lambda _: pytest.fail("asked"))
    for _ in range(2):
        owner = made.own()
        assert until(made.committed), owner.error
        assert int(made.checkpoint()[b"fresh"]) == ALL_HELD
        end(made)
        time.sleep(AWAY_S)
        made.do(0, [b"INCR", b"k0"])


def test_a_checkpoint_of_an_earlier_version(mirror: Make, target: Server) -> None:
    made = mirror(extend_s=600)
    away(made)
    made.do(0, timed(b"k0"))
    target.client().hdel(checkpoint_key(UID, 0), "fresh")
    made.own()
    check(made, "k0")
    assert until(lambda: made.events() == ["repaired"]), made.events()


def test_too_many_to_tell(mirror: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suspects, "MOST_DOUBTED", 5)
    made = mirror()
    away(made, keys=6)
    made.do(0, *(timed(b"k%d" % i) for i in range(6)))
    owner = made.own()
    assert until(lambda: made.log.anew), owner.error
    assert until(lambda: len(made.ports[-1].failures) == 1)
    assert "over 5 keys that it names since are not on the target; it is loaded" in made.ports[-1].failures[0].message
    assert not made.committed()
    owner.reopened.set()
    assert until(lambda: not owner.reopened.is_set()), owner.error  # it claims for the new load
    assert owner.error is None


def test_more_than_is_remembered(mirror: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suspects, "MOST_KNOWN", 3)
    monkeypatch.setattr(suspects, "BATCH", 2)
    made = mirror()
    away(made, keys=20)
    names = [b"k%d" % i for i in range(20)] + [b"s%d" % i for i in range(20)]
    made.do(0, *([b"INCR", name] for name in names[:20]), *([b"SET", name, b"1"] for name in names[20:]))
    made.do(0, *map(timed, names))
    with monkeypatch.context() as patched:
        patched.setattr(repair.Repair, "put", lambda *_: made.owners[-1].stop_event.set())
        made.own().join(10)
    made.own()
    check(made, *(name.decode() for name in names))


def test_values_that_do_not_fit_in_one_answer(mirror: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stream stands still meanwhile, so every look is from the same place."""
    monkeypatch.setattr(repair, "MOST_BYTES", 10_000)
    made = mirror()
    away(made, keys=7)
    names = [b"k%d" % i for i in range(7)]
    made.do(0, *([b"SETRANGE", name, b"4000", b"x"] for name in names), *map(timed, names))
    made.own()
    check(made, *(name.decode() for name in names))
    assert until(lambda: made.events() == ["repaired"]), made.events()
    assert made.asked >= 4


def test_the_source_is_awaited(mirror: Make) -> None:
    """What it has written and we have not received may renew what is missing."""
    made = mirror()
    away(made)
    first, second = [b"INCR", b"k0"], timed(b"k0")
    for command in (first, second):
        made.client.execute_command(*command)
    made.log.append(encode(first), now_ms())
    there = Position(REPLID, made.end + len(encode(second)))
    made.source.position = lambda: there  # type: ignore[method-assign]
    owner = made.own()
    time.sleep(0.5)
    assert int(made.checkpoint()[b"offset"]) < made.end
    made.log.append(encode(second), now_ms())
    check(made, "k0")
    assert owner.error is None


def test_what_comes_after_we_stood_still_is_of_unknown_age(tmp_path: Path, source: Server) -> None:
    """The link was up all the time, but nobody has read what came over it."""
    receiving = Receiving(source, tmp_path, NEW)
    log = receiving.receiver.log
    append, waits, blocks = log.append, iter([1.5]), []

    def waiting(data: bytes, received_ms: int, flags: int = 0) -> None:
        append(data, received_ms, flags)
        blocks.append((bytes(data), flags))
        time.sleep(next(waits, 0) if b"stood" in data else 0)

    log.append = waiting  # type: ignore[method-assign, assignment]
    receiving.receiver.start()
    try:
        assert until(receiving.in_step)
        with source.client() as client:
            for word in ("before", "stood", "meanwhile"):
                client.set(word, 1)
                time.sleep(0.1)
            assert until(lambda: any(b"meanwhile" in data for data, _ in blocks))
            client.set("then", 1)
            assert until(lambda: any(b"then" in data for data, _ in blocks))
    finally:
        receiving.stop()
    flags = {word: flag for data, flag in blocks for word in (b"before", b"meanwhile", b"then") if word in data}
    assert flags == {b"before": 0, b"meanwhile": BACKLOG, b"then": 0}


# --- fields of hashes


@pytest.fixture(scope="module")
def modern() -> Iterator[tuple[Server, Server]]:
    with start("valkey-9.1") as one, start("valkey-9.1") as other:
        yield one, other


@pytest.fixture
def hashes(tmp_path: Path, modern: tuple[Server, Server]) -> Iterator[Mirrored]:
    """A hash `h` whose fields have a time; then the owner is away."""
    source, target = modern
    target.client().flushall()
    made = Mirrored(source, target, tmp_path, None)
    made.extend_s = EXTEND_S
    made.do(0, [b"HSET", b"h", b"a", b"1", b"b", b"1", b"stays", b"1"], [b"SADD", b"always", b"1"])
    caught_up(made)
    made.do(0, field_time(b"a", SOON), field_time(b"b", SOON))
    read_up(made)
    end(made)
    yield made
    made.stop()


def field_time(name: bytes, life_ms: int = LONG) -> Command:
    return [b"HPEXPIREAT", b"h", b"%d" % (now_ms() + life_ms), b"FIELDS", b"1", name]


def field_times(made: Mirrored, key: str) -> bool:
    asked = "HPEXPIRETIME", key, "FIELDS", 3, "a", "b", "stays"
    ours = made.server.client().execute_command(*asked)
    theirs = made.target.client().execute_command(*asked)
    return bool(theirs == [when + made.extend_s * 1000 if when > 0 else when for when in ours])


COUNT: Command = [b"HINCRBY", b"h", b"a", b"1"]


@pytest.mark.parametrize(
    "commands",
    [
        [field_time(b"a"), COUNT], [COUNT, field_time(b"a")], [[b"HPERSIST", b"h", b"FIELDS", b"2", b"a", b"b"], COUNT],
        [[b"COPY", b"h", b"g"], [b"HPERSIST", b"g", b"FIELDS", b"1", b"a"], COUNT, [b"DEL", b"h"]],
        [[b"RENAME", b"h", b"g"]],
    ],
)  # fmt: skip
def test_fields_that_are_renewed(hashes: Mirrored, commands: list[Command]) -> None:
    made = hashes
    made.do(0, *commands)
    made.target.client().hdel("h", "a")
    time.sleep(AWAY_S)
    made.own()
    assert until(made.in_step), (made.owners[-1].error, made.differences())
    assert until(lambda: field_times(made, "h") and field_times(made, "g")), made.owners[-1].error
    assert made.asked == 1


def test_a_hash_whose_last_field_has_vanished(hashes: Mirrored) -> None:
    made = hashes
    made.do(0, [b"HDEL", b"h", b"stays"], field_time(b"a"), COUNT)
    made.target.client().delete("h")
    time.sleep(AWAY_S)
    made.own()
    assert until(made.in_step), (made.owners[-1].error, made.differences())
    assert until(lambda: field_times(made, "h")), made.owners[-1].error


def test_fields_that_are_there_are_held(hashes: Mirrored, monkeypatch: pytest.MonkeyPatch) -> None:
    made = hashes
    made.do(0, COUNT, [b"HINCRBY", b"h", b"b", b"1"], field_time(b"a"), field_time(b"b"))
    time.sleep(AWAY_S)
    pushed: list[bytes] = []
    push = Chain.push

    def noting(chain: Chain, window: Window) -> None:
        pushed.append(bytes(window.body))
        push(chain, window)

    monkeypatch.setattr(Chain, "push", noting)
    made.own()
    assert until(made.in_step), (made.owners[-1].error, made.differences())
    assert until(lambda: field_times(made, "h")), made.owners[-1].error
    assert pushed[0].count(b"HPEXPIREAT") == 2
    assert made.asked == 0


@pytest.mark.parametrize("first_ms", [0, 1])
def test_a_late_window_is_noticed_behind_another(first_ms: int) -> None:
    """One with nothing but a PING has no moment, and one that was in time says nothing of the next."""
    clock = Clock(3000, now_ms=lambda: 10_000)
    chain = SimpleNamespace(seen=0, refused=None)
    port = SimpleNamespace(healed=lambda _: None)
    applier = SimpleNamespace(clock=clock, port=port, progress=Progress(), answered=lambda: None)
    applier.log, applier.pace, applier.sample = None, None, None
    end = SimpleNamespace(saw=lambda *_: None)
    pump = Pump(chain, None, SimpleNamespace(offset=0), None, end, applier, SimpleNamespace(covered=0))  # type: ignore[arg-type]
    before = Window(end=1, received_ms=first_ms and 9500)
    pump._done([before, Window(end=2, received_ms=9500)], 0.0)
    with pytest.raises(Behind):
        pump._done([before, Window(end=2, received_ms=8900)], 0.0)


def test_a_stop_that_moves_ends_the_look_there() -> None:
    """What follows was written since the look, too, and is not looked at: there is no log here."""
    look = Suspects(None, None, None, None, Clock(600_000), None, None, None)  # type: ignore[arg-type]
    look.begin(0, 0)
    look._at = look.covered = 10
    look._began = time.monotonic()
    look.move(10, 24)
    assert look.again(24, 0, 30, time.monotonic()) == set()
    assert look.covered == 24

"""What becomes of commands that a target does not know."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from sync_tasks.errors import ControlError, RefusedCommand, Retry, TargetError, UnknownCommand
from tests.servers import Server, start
from tests.unit.protocol.conftest import REPLID, Chained, Followed, endpoint, until
from tests.unit.protocol.test_translate import ABS, clock, commands, feed
from workers import left_out, saying
from workers.codec.convert_cy import LATEST
from workers.codec.reads import Reads
from workers.left_out import LeftOut
from workers.older import OLD, REFUSED, Learned, Older
from workers.rewrite import Rewriter
from workers.scope import Scope
from workers.source.ask import Position
from workers.target import knows
from workers.target.knows import ASKED, Knows
from workers.target.link import TargetLink
from workers.target.windows import Window
from workers.translate import Translator

REDIS_6_2 = Knows(Reads(9), frozenset())
REDIS_7_0 = Knows(Reads(10), frozenset((b"FUNCTION",)))
REDIS_7_4 = Knows(Reads(12), frozenset((b"FUNCTION", b"HPEXPIREAT")))
REDIS_8 = Knows(Reads(12), frozenset(ASKED))
VALKEY_9 = Knows(Reads(80), frozenset(ASKED))


def split(text: str) -> list[bytes]:
    return text.encode().split()


class Told(list[tuple[int, str, bytes]]):
    def __call__(self, count: int, what: str, key: bytes) -> None:
        self.append((count, what, key))


def translated(known: Knows, *texts: str, told: Told | None = None) -> tuple[list[str], list[Window]]:
    rewriter = Rewriter(
        Scope(None), clock(), 0, lambda _: [], lambda *_: None, lambda *_: None, known, Told() if told is None else told
    )
    windows = feed(Translator(0, 0, rewriter), *map(split, texts))
    return [b" ".join(argv).decode() for window in windows for argv in commands(window)], windows


@pytest.mark.parametrize(
    ("text", "known", "becomes"),
    [
        ("XSETID s 9-1 ENTRIESADDED 7 MAXDELETEDID 5-0", REDIS_6_2, ["XSETID s 9-1"]),
        ("XSETID s 9-1 ENTRIESADDED 7 MAXDELETEDID 5-0", REDIS_7_0, None),
        ("XGROUP SETID s g 4-0 ENTRIESREAD 4", REDIS_6_2, ["XGROUP SETID s g 4-0"]),
        ("XGROUP CREATE s g $ MKSTREAM ENTRIESREAD 4", REDIS_6_2, ["XGROUP CREATE s g $ MKSTREAM"]),
        ("XGROUP CREATE s entriesread 0", REDIS_6_2, None),
        ("XGROUP SETID s g 4-0 ENTRIESREAD 4", REDIS_7_0, None),
        ("FUNCTION DELETE lib", REDIS_6_2, []),
        ("FUNCTION DELETE lib", REDIS_7_0, None),
        (f"HPEXPIREAT h {ABS} FIELDS 2 f g", REDIS_7_0, []),
        (f"HPEXPIREAT h {ABS} FIELDS 2 f g", REDIS_7_4, None),
        ("HPERSIST h FIELDS 1 f", REDIS_7_0, []),
        ("HPERSIST h FIELDS 1 f", REDIS_7_4, None),
        ("HGETDEL h FIELDS 2 f g", REDIS_7_4, ["HDEL h f g"]),
        ("HGETDEL h FIELDS 2 f g", VALKEY_9, None),
        (f"HSETEX h PXAT {ABS} FIELDS 2 f 1 g 2", REDIS_7_0, ["HSET h f 1 g 2"]),
        (f"HSETEX h PXAT {ABS} FIELDS 2 f 1 g 2", REDIS_7_4, ["HSET h f 1 g 2", f"HPEXPIREAT h {ABS} FIELDS 2 f g"]),
        (f"HSETEX h PXAT {ABS} FIELDS 2 f 1 g 2", VALKEY_9, None),
        ("HSETEX h FIELDS 1 f 1", REDIS_7_4, ["HSET h f 1"]),
        (f"HPEXPIREAT h {1 << 60} FIELDS 1 f", REDIS_7_4, [f"HPEXPIREAT h {LATEST} FIELDS 1 f"]),
        (f"HPEXPIREAT h {1 << 60} FIELDS 1 f", VALKEY_9, None),
        (f"HSETEX h PXAT {1 << 60} FIELDS 1 f 1", REDIS_8, [f"HSETEX h PXAT {LATEST} FIELDS 1 f 1"]),
        ("HSETEX h KEEPTTL FIELDS 1 f 1", REDIS_7_0, ["HSET h f 1"]),
        ("HSETEX h KEEPTTL FIELDS 1 f 1", REDIS_7_4, [b" ".join(REFUSED).decode()]),
    ],
)
def test_each_becomes_what_it_does(text: str, known: Knows, becomes: list[str] | None) -> None:
    assert translated(known, text)[0] == ([text] if becomes is None else becomes)


def test_what_is_left_out_is_told() -> None:
    told = Told()
    translated(REDIS_6_2, f"HSETEX h PXAT {ABS} FIELDS 2 f 1 g 2", f"HPEXPIREAT i {ABS} FIELDS 1 f", told=told)
    translated(REDIS_6_2, "FUNCTION DELETE lib", "HPERSIST h FIELDS 1 f", told=told)
    assert told == [
        (2, "expiries of hash fields", b"h"),
        (1, "expiries of hash fields", b"i"),
        (1, "FUNCTION commands", b"DELETE"),
    ]


def test_it_is_told_at_once_and_then_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    away = [True]

    def event(kind: str, text: str) -> None:
        if away[0]:
            raise ControlError("away", retry=Retry.OTHER)
        events.append(f"{kind}: {text}")

    now = [0.0]
    monkeypatch.setattr(left_out.time, "monotonic", lambda: now[0])
    what = LeftOut(event)
    what.tell()
    what.add(2, "expiries", b"h")
    what.tell()
    assert not events
    away[0] = False
    what.add(3, "expiries", b"i")
    what.tell()
    what.add(1, "expiries", b"j")
    what.tell()
    assert len(events) == 1
    assert events[0].endswith(": 5 expiries, first of h")
    now[0] = 61.0
    what.tell()
    assert events[1].endswith(": 1 expiries, first of j")
    what.tell()
    assert len(events) == 2


def test_a_learned_command_is_one_that_is_refused_for_certain() -> None:
    known = Knows(Reads(10), frozenset(), frozenset((b"NEWCMD",)))
    texts = ("SELECT 3", "INCR a", "newcmd k x", "MULTI", "INCR b", "NEWCMD l", "EXEC", "INCR c")
    got, (window,) = translated(known, *texts)
    refused = b" ".join(REFUSED).decode()
    assert got == ["SELECT 3", "INCR a", refused, "INCR b", refused, "INCR c"]
    for index, text in ((2, "newcmd k x"), (4, "NEWCMD l")):
        assert window.stands_in(index)
        assert window.command(index)[0] == split(text)
        assert window.database(index) == 3
    assert not window.stands_in(3)
    assert window.command(5)[0] == [b"INCR", b"c"]


@pytest.mark.parametrize(
    ("kind", "version", "commands"),
    [
        ("redis-6.2", 9, ()),
        ("redis-7.0", 10, (b"FUNCTION",)),
        ("valkey-8.1", 11, (b"FUNCTION",)),
        ("redis-8.2", 12, ASKED),
        ("valkey-9.1", 80, (b"FUNCTION", b"HGETDEL", b"HPEXPIREAT", b"HSETEX")),
    ],
)
def test_the_target_is_asked(kind: str, version: int, commands: tuple[bytes, ...]) -> None:
    with start(kind) as server:
        client = server.client()
        client.hset("key", "f", 1)
        found = knows.ask(TargetLink(endpoint(server), "test", 0), b"key", frozenset((b"X",)))
        assert found.reads.version in (version, version + 1)
        assert found.commands == frozenset(commands)
        assert found.learned == {b"X"}
        for name in OLD:
            assert name.decode().lower() in client.execute_command("COMMAND", "INFO", name)


def test_functions_are_restored_by_a_version_that_the_target_takes() -> None:
    """Of one line to the other, and back to an older one."""
    code = "#!lua name=lib\nredis.register_function('f', function() return 7 end)"
    with start("redis-8.2") as source, start("redis-7.0") as old, start("valkey-9.1") as other:
        source.client().execute_command("FUNCTION", "LOAD", code)
        payload = source.client().execute_command("FUNCTION", "DUMP")
        for server, known in ((old, REDIS_7_0), (other, VALKEY_9)):
            (command,) = Older(known, Told()).rewrite([b"FUNCTION", b"RESTORE", payload, b"REPLACE"]) or []
            assert server.client().execute_command(*command) == b"OK"
            assert server.client().execute_command("FCALL", "f", 0) == 7


def test_an_unknown_command_spoils_its_window(target: Server) -> None:
    chained = Chained(target)
    chained.push(10, [b"INCR", b"a"], [b"NEWCMD", b"k", b"x"])
    chained.push(20, [b"INCR", b"a"])
    with pytest.raises(UnknownCommand, match="NEWCMD k at offset 9") as raised:
        chained.drain()
    assert raised.value.argv == [b"NEWCMD", b"k", b"x"]
    assert not target.client().exists("a")


def test_what_stands_for_it_is_refused_by_its_name(target: Server) -> None:
    chained = Chained(target)
    known = Knows(Reads(10), frozenset(), frozenset((b"NEWCMD",)))
    _, (window,) = translated(known, "INCR a", "NEWCMD k x")
    chained.chain.push(window)
    with pytest.raises(RefusedCommand, match=r"NEWCMD k of the stream .* is not sent as it is") as raised:
        chained.drain()
    assert raised.value.argv == [b"NEWCMD", b"k", b"x"]
    assert not raised.value.final
    assert target.client().get("a") == b"1"
    assert not target.client().exists(REFUSED[1])


def mirror(stream: Followed) -> None:
    """The source's values are true at the end of the log, which is written by hand."""
    values = stream.source.values

    def position() -> Position:
        return Position(REPLID, stream.log.end or 0)

    stream.source.offset = lambda: 0  # type: ignore[method-assign]
    stream.source.position = position  # type: ignore[method-assign]
    stream.source.values = lambda keys: replace(values(keys), at=position())  # type: ignore[method-assign]


def test_its_keys_are_copied_anew(target: Server, source: Server, follow: Callable[..., Followed]) -> None:
    """Each time it comes; it is told once."""
    client, there = source.client(), target.client()
    client.flushall()
    client.mset({"k": "theirs", "other": "theirs"})
    stream = follow(target)
    mirror(stream)
    for text in (b"first", b"second"):
        client.set("k", text)
        client.incrby("n", 2)
        stream.write([b"SELECT", b"0"], [b"INCR", b"n"], [b"NEWCMD", b"k", text], [b"INCR", b"n"])
        assert until(lambda text=text: there.get("k") == text), stream.port.events
    assert until(lambda: there.get("n") == b"4")
    assert not there.exists("other")
    assert not stream.port.failures
    kinds = [event.partition(":")[0] for event in stream.port.events]
    assert kinds.count("unknown-command") == 1
    assert "refused" not in kinds


def test_the_source_says_which_keys_it_names(target: Server, tmp_path: Path) -> None:
    """Each argument may be one to the target, which may have keys of its own by such names."""
    there = target.client()
    there.mset({"IDS": "its own", "1": "its own"})
    with start("redis-8.2") as source:
        client = source.client()
        client.xadd("s", {"n": 2}, id="2-1")
        stream = Followed(target, source, tmp_path)
        mirror(stream)
        stream.write([b"SELECT", b"0"], [b"XDELEX", b"s", b"IDS", b"1", b"1-1"])
        assert until(lambda: there.xlen("s") == 1), stream.port.events
        stream.close()
    assert there.mget("IDS", "1") == [b"its own", b"its own"]


def test_all_that_a_window_was_refused_is_known(target: Server) -> None:
    chained = Chained(target)
    target.client().set("k", "text")
    chained.push(10, [b"INCR", b"k"], [b"INCR", b"a"], [b"LPUSH", b"k", b"x"])
    with pytest.raises(RefusedCommand) as raised:
        chained.drain()
    assert [error.argv[0] for error in (raised.value, *raised.value.others)] == [b"INCR", b"LPUSH"]


def test_what_comes_often_is_told_some_times_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    now = [0.0]
    monkeypatch.setattr(saying.time, "monotonic", lambda: now[0])
    tell = saying.Sparing(lambda kind, text: told.append(f"{kind}: {text}"), most=3)
    for i in range(10):
        tell("repaired", f"{i}")
    tell("refused", "one")
    assert told == ["repaired: 0", "repaired: 1", "repaired: 2", "refused: one"]
    now[0] = 61.0
    tell("repaired", "later")
    tell("repaired", "again")
    assert told[4:] == ["repaired: later (and 7 more like it before)", "repaired: again"]


def test_a_command_that_every_target_has_is_not_learned() -> None:
    """It is forbidden to us, by a new name: an operator is to hear of it."""
    events: list[str] = []
    learned = Learned(lambda kind, _: events.append(kind))
    assert not learned.learn(UnknownCommand([b"lset", b"k"], TargetError("no")))
    for name in (b"", b"N" * 32):
        assert not learned.learn(UnknownCommand([name], TargetError("no"))), "nothing would look for it"
    assert not events
    error = UnknownCommand([b"newcmd", b"k"], TargetError("no"))
    assert learned.learn(error)
    assert not learned.learn(error), "then it is our own doing"
    assert learned.names == {b"NEWCMD"}
    assert events == ["unknown-command"]

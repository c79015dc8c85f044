"""Commands by way of a script: what is in the window, and in which order filter, script and the rest come."""

from __future__ import annotations

from io import BytesIO

import pytest

from sync_tasks.errors import TransformError
from sync_tasks.keyfilter import FilterSpec
from sync_tasks.transform.script import Script
from tests.unit.protocol.test_translate import AT, NOW, clock, commands, feed
from workers.codec import crc64
from workers.entries import commands_of, commands_of_dump
from workers.expiry import HOLD
from workers.older import REFUSED
from workers.scope import Scope
from workers.target.windows import Window
from workers.transform import Transformer
from workers.translate import Translator
from workers.wanted import Wanted

RENAME = "for _, i in ipairs(about.positions) do argv[i] = 'n:' .. argv[i] end return argv"


def transformed(
    body: str, databases: dict[int, int] | None = None, loading: bool = False, **rules: list[str]
) -> Translator:
    script = Script(f"function transform(db, argv, about) {body} end")
    scope = Scope(databases, FilterSpec(**rules))
    made = Transformer(script, scope, clock(loading), 0, lambda _: [], lambda *_: None, lambda *_: None)
    return Translator(0, 0, made)


def got(made: Translator, *argvs: list[bytes]) -> list[list[bytes]]:
    return [command for window in feed(made, *argvs) for command in commands(window)]


def test_each_command_passes_and_lies_in_its_place() -> None:
    made = transformed("if argv[2] == 'd' then return false end if argv[2] ~= 'same' then " + RENAME + " end")
    stream = [[b"INCR", b"a"], [b"MULTI"], [b"SET", b"d", b"1"], [b"RENAME", b"a", b"b"], [b"SADD", b"same", b"x"]]
    (window,) = feed(made, *stream, [b"EXEC"], [b"PING"], [b"FLUSHDB"])
    assert commands(window) == [
        [b"INCR", b"n:a"], [b"RENAME", b"n:a", b"n:b"], [b"SADD", b"same", b"x"], [b"FLUSHDB"],
    ]  # fmt: skip
    assert window.changes == 5


def test_a_result_names_databases_of_the_target() -> None:
    made = transformed(
        "if argv[2] == 'a' then return {{'SET', 'here', db}, {db = 7, 'SET', 'there', 1}} end", {0: 4, 5: 5}
    )
    (window,) = feed(made, [b"SET", b"a", b"1"], [b"SET", b"b", b"2"], [b"SELECT", b"9"], [b"SET", b"a", b"1"])
    assert commands(window) == [
        [b"SELECT", b"4"], [b"SET", b"here", b"0"], [b"SELECT", b"7"], [b"SET", b"there", b"1"],
        [b"SELECT", b"4"], [b"SET", b"b", b"2"],
    ]  # fmt: skip
    assert window.databases == {4, 7}


def test_times_are_held_as_ever() -> None:
    made = transformed(RENAME, loading=True)
    held = b"%d" % (AT + HOLD)
    assert got(made, [b"SET", b"a", b"1", b"PXAT", b"%d" % AT], [b"PEXPIREAT", b"b", b"%d" % AT]) == [
        [b"SET", b"n:a", b"1", b"PXAT", held], [b"PEXPIREAT", b"n:b", held],
    ]  # fmt: skip
    # By the moment at which it was received: nobody can be asked about such a key.
    made.rewriter.clock.blind = True
    assert got(made, [b"EXPIRE", b"a", b"60"]) == [[b"PEXPIREAT", b"n:a", b"%d" % (NOW + 60_000 + HOLD)]]


def test_the_filter_comes_first_and_not_behind() -> None:
    made = transformed(
        "assert(argv[2]:sub(1, 1) == 'a') argv[2] = 'x' .. argv[2] return argv", allow_prefixes=["a"]
    )
    stream = [
        [b"SET", b"a1", b"1"], [b"SET", b"b1", b"1"], [b"DEL", b"b1", b"a1", b"a2"], [b"RENAME", b"a1", b"b1"],
        [b"COPY", b"a1", b"b1"], [b"PEXPIREAT", b"b1", b"%d" % AT], [b"MSET", b"b", b"1", b"a", b"2"],
    ]  # fmt: skip
    assert got(made, *stream) == [
        [b"SET", b"xa1", b"1"], [b"DEL", b"xa1", b"a2"], [b"DEL", b"xa1"], [b"MSET", b"xa", b"2"],
    ]  # fmt: skip
    # What brings a value into scope is copied anew, and so passes the script as a snapshot's entry does.
    made = transformed("error('not called')", allow_prefixes=["a"])
    (window,) = feed(made, [b"RENAME", b"b", b"a"], [b"SUNIONSTORE", b"a", b"a", b"b"])
    assert commands(window) == [REFUSED, REFUSED]
    assert made.rewriter.stands_for([b"RENAME", b"b", b"a"], 0) == {(0, b"a")}


def test_a_refusal_is_of_the_sources_command() -> None:
    made = transformed("return {{db = 3, 'HSET', 'h', 'f', argv[3]}, {'SADD', 's', argv[2]}}", {0: 1})
    (window,) = feed(made, [b"INCR", b"before"], [b"SET", b"k", b"v"])
    number = commands(window).index([b"HSET", b"h", b"f", b"v"])
    assert (window.command(number)[0], window.database(number)) == ([b"SET", b"k", b"v"], 1)
    assert window.sent(number)[0] == [b"HSET", b"h", b"f", b"v"]
    assert window.origin(number) == [b"SET", b"k", b"v"]
    assert window.size > len(window.body), "what is kept beside it counts"


@pytest.mark.parametrize(
    ("result", "says"),
    [
        ("{{'SET', 'half', 1}, {'EXPIRE', 'k', 'soon'}}", "EXPIRE k with arguments that make no sense"),
        ("{{'SET', 'half', 1}, {'SET', 'k', 1, 'PX'}}", "SET k with arguments that make no sense"),
        ("{{'SET', 'half', 1}, {'FLUSHALL'}}", "FLUSHALL"),
    ],
)
def test_of_what_is_no_good_nothing_is_put_in(result: str, says: str) -> None:
    made = transformed(f"if argv[2] == 'bad' then return {result} end")
    with pytest.raises(TransformError, match="at INCR bad") as caught:
        feed(made, [b"INCR", b"a"], [b"INCR", b"bad"], [b"INCR", b"c"])
    assert says in caught.value.message
    # What lies before it can be committed.
    window = made.take()
    assert window is not None
    assert commands(window) == [[b"INCR", b"a"]]
    assert window.end == len(b"*2\r\n$4\r\nINCR\r\n$1\r\na\r\n")


def test_scripts_of_an_old_source_are_not_run() -> None:
    made = transformed("error('not called')")
    (window,) = feed(made, [b"EVAL", b"return redis.call('INCR', KEYS[1])", b"1", b"k"])
    assert commands(window) == [REFUSED]
    assert made.rewriter.stands_for([b"EVAL", b"", b"1", b"k"], 0) == frozenset()
    with pytest.raises(Wanted):
        feed(made, [b"EVAL", b"return 1", b"0"])


def test_a_key_that_is_copied_anew_passes_the_script() -> None:
    made = transformed("assert(about.snapshot) " + RENAME, loading=True).rewriter
    body = b"\x02\x01\x01x" + (11).to_bytes(2, "little")
    window = Window(first=0, selected=0)
    made.put(0, b"s", body + crc64(body).to_bytes(8, "little"), AT, True, 5, window)
    made.remove(0, b"gone", 5, window)
    assert commands(window) == [
        [b"DEL", b"n:s"], [b"SADD", b"n:s", b"x"], [b"PEXPIREAT", b"n:s", b"%d" % (AT + HOLD)], [b"DEL", b"n:gone"],
    ]  # fmt: skip


def string(value: bytes) -> bytes:
    return b"\x80" + len(value).to_bytes(4, "big") + value


@pytest.mark.parametrize(
    ("size", "makes"), [(5, ["SET"]), (5 << 18, ["SET", "APPEND"]), (5 << 19, ["SET", "APPEND", "APPEND"])]
)
@pytest.mark.parametrize("when", [-1, AT])
def test_a_string_is_one_set_or_a_set_and_what_follows(size: int, makes: list[str], when: int) -> None:
    value = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    read = BytesIO(string(value)).read
    made = list(commands_of(b"k", 0, read, lambda: None, 11, when))
    timed = [] if when < 0 or len(makes) == 1 else ["PEXPIREAT"]
    assert [argv[0].decode() for argv in made] == [*makes, *timed]
    assert b"".join(argv[2] for argv in made[: len(makes)]) == value
    if when >= 0:
        assert made[-1][-1] == b"%d" % AT


def test_what_no_command_makes_comes_as_one_restore() -> None:
    body = b"\x07some module" + (11).to_bytes(2, "little")
    payload = body + crc64(body).to_bytes(8, "little")
    assert list(commands_of_dump(b"k", payload, -1)) == [[b"RESTORE", b"k", b"0", payload, b"REPLACE", b"ABSTTL"]]

"""From the stream to windows: what is cut, dropped, rewritten."""

from __future__ import annotations

import hashlib

import pytest

from sync_tasks.errors import Malformed
from sync_tasks.lanes import Lane, tags
from sync_tasks.slots import slot
from tests.unit.protocol.conftest import REPLID, translator
from workers.clock import Clock
from workers.codec.reads import Reads
from workers.codec.resp_cy import arguments, encode
from workers.expiry import FIELD_HOLD, HOLD, INEXACT
from workers.older import REFUSED
from workers.rewrite import Rewriter
from workers.scope import Scope
from workers.spool.log import Block
from workers.target.windows import Window
from workers.times import Retimed
from workers.times import retime as retime_for
from workers.translate import Translator
from workers.wanted import Wanted

NOW = 1_700_000_000_000
AT = NOW + 60_000


def clock(loading: bool = False, extend_ms: int = 0) -> Clock:
    made = Clock(extend_ms, now_ms=lambda: NOW)
    made.loading = loading
    made.at(NOW, 0)
    return made


def commands(window: Window) -> list[list[bytes]]:
    body, at, out = bytes(window.body), 0, []
    for _ in range(window.commands):
        out.append(arguments(body, at))
        at += len(encode(out[-1]))
    assert at == len(body)
    return out


def feed(made: Translator, *argvs: list[bytes], split: int = 0) -> list[Window]:
    data = b"".join(encode(a) for a in argvs)
    start = made.offset + len(made._data)
    step = split or len(data)
    for at in range(0, len(data), step):
        made.feed(Block(start + at, NOW, 0, REPLID, data[at : at + step]))
    last = made.take()
    done, made.full = made.full + ([last] if last else []), []
    return done


@pytest.mark.parametrize("split", [0, 1, 7])
def test_bytes_may_be_cut_anywhere(split: int) -> None:
    argvs = [[b"SELECT", b"3"], [b"SET", b"a", b"1"], [b"MULTI"], [b"INCR", b"b"], [b"EXEC"], [b"DEL", b"c"]]
    made = translator()
    windows = feed(made, *argvs, split=split)
    got = [c for w in windows for c in commands(w)]
    assert got == [[b"SELECT", b"3"], [b"SET", b"a", b"1"], [b"INCR", b"b"], [b"DEL", b"c"]]
    assert windows[-1].end == sum(len(encode(a)) for a in argvs)
    assert windows[-1].db == 3


def test_a_transaction_is_never_cut_and_waits_for_its_exec() -> None:
    made = translator()
    before = feed(made, [b"SET", b"a", b"1"], [b"MULTI"], *[[b"INCR", b"n"]] * 1000)
    assert [commands(w) for w in before] == [[[b"SET", b"a", b"1"]]]
    assert before[-1].end == len(encode([b"SET", b"a", b"1"]))
    assert made.take() is None
    after = feed(made, [b"EXEC"], [b"SET", b"z", b"1"])
    assert commands(after[0]) == [[b"INCR", b"n"]] * 1000
    assert commands(after[1]) == [[b"SET", b"z", b"1"]]


def test_a_transaction_that_does_not_fit_gets_a_window_of_its_own() -> None:
    made = translator()
    windows = feed(made, *[[b"INCR", b"a"]] * 200, [b"MULTI"], *[[b"INCR", b"b"]] * 200, [b"EXEC"], [b"INCR", b"c"])
    assert [w.commands for w in windows] == [200, 201]
    assert {c[1] for c in commands(windows[0])} == {b"a"}


def test_select_travels_only_when_needed_and_each_window_begins_at_home() -> None:
    made = translator({0: 0, 1: 5, 2: 7}, db=1)
    windows = feed(made, [b"SET", b"a", b"1"], [b"SELECT", b"2"], [b"SELECT", b"1"], [b"SET", b"b", b"1"])
    assert commands(windows[0]) == [[b"SELECT", b"5"], [b"SET", b"a", b"1"], [b"SET", b"b", b"1"]]
    assert windows[0].databases == {5}
    windows = feed(made, [b"SELECT", b"9"], [b"SET", b"out", b"1"], [b"SELECT", b"0"], [b"SET", b"c", b"1"])
    assert commands(windows[0]) == [[b"SET", b"c", b"1"]]
    windows = feed(made, [b"SELECT", b"9"], [b"SET", b"out", b"1"])
    assert (windows[0].commands, windows[0].db) == (0, 9)


def test_select_inside_a_transaction() -> None:
    made = translator()
    windows = feed(
        made, [b"SELECT", b"1"], [b"SET", b"a", b"1"], [b"MULTI"], [b"SELECT", b"2"], [b"SET", b"b", b"1"],
        [b"SELECT", b"1"], [b"SET", b"c", b"1"], [b"EXEC"], [b"SET", b"d", b"1"],
    )  # fmt: skip
    assert commands(windows[0]) == [
        [b"SELECT", b"1"], [b"SET", b"a", b"1"], [b"SELECT", b"2"], [b"SET", b"b", b"1"],
        [b"SELECT", b"1"], [b"SET", b"c", b"1"], [b"SET", b"d", b"1"],
    ]  # fmt: skip
    assert windows[0].db == 1


def test_what_is_no_write_counts_in_the_offset_and_does_not_travel() -> None:
    made = translator()
    argvs = [[b"PING"], [b"REPLCONF", b"GETACK", b"*"], [b"PUBLISH", b"c", b"m"], [b"spublish", b"c", b"m"]]
    windows = feed(made, *argvs)
    assert windows[0].commands == 0
    assert windows[0].end == sum(len(encode(a)) for a in argvs)
    made.feed(Block(windows[0].end, NOW, 0, REPLID, b"\n\n"))
    window = made.take()
    assert window is not None
    assert window.end == windows[0].end + 2


def test_flush_and_swap_stay_in_scope_and_put_our_keys_back() -> None:
    asked: list[list[int]] = []

    def own(databases: list[int]) -> list[list[bytes]]:
        asked.append(databases)
        return [[b"SELECT", b"5"], [b"SET", b"ours", b"1"]] if 5 in databases else []

    made = translator({0: 5, 1: 6}, own=own)
    windows = feed(made, [b"FLUSHALL"], [b"SELECT", b"0"], [b"SWAPDB", b"0", b"1"], [b"SET", b"a", b"1"])
    assert commands(windows[0]) == [
        [b"SELECT", b"5"], [b"FLUSHDB"], [b"SELECT", b"6"], [b"FLUSHDB"], [b"SELECT", b"5"], [b"SET", b"ours", b"1"],
        [b"SWAPDB", b"5", b"6"], [b"SELECT", b"5"], [b"SET", b"ours", b"1"], [b"SET", b"a", b"1"],
    ]  # fmt: skip
    assert asked == [[5, 6], [5, 6]]
    with pytest.raises(Wanted):
        feed(made, [b"SWAPDB", b"0", b"4"])


@pytest.mark.parametrize("within", [False, True], ids=["alone", "in a transaction"])
def test_all_databases_are_emptied_on_one_that_a_refusal_can_name(within: bool) -> None:
    """A part of a cluster refuses it while slots are on their way."""
    around = ([b"MULTI"], [b"EXEC"]) if within else ([b"PING"], [b"PING"])
    (window,) = feed(translator(db=3), around[0], [b"FLUSHALL"], around[1])
    assert [command for command in commands(window) if command[0] != b"SELECT"] == [[b"FLUSHALL"]]
    assert window.database(window.commands - 1) == 0


def test_move_and_copy_out_of_scope() -> None:
    made = translator({0: 0})
    windows = feed(made, [b"MOVE", b"k", b"3"], [b"COPY", b"k", b"j", b"DB", b"3"], [b"COPY", b"k", b"j", b"REPLACE"])
    assert commands(windows[0])[-2:] == [[b"UNLINK", b"k"], [b"COPY", b"k", b"j", b"REPLACE"]]
    for command in ([b"MOVE", b"k", b"0"], [b"COPY", b"j", b"k", b"DB", b"0"]):
        made = translator({0: 7})
        (window,) = feed(made, [b"SELECT", b"3"], command)
        assert commands(window) == [[b"SELECT", b"7"], REFUSED], "what comes in is copied anew"
        assert window.command(1)[0] == [b"RESTORE", b"k"]
        assert made.rewriter.stands_for(command, 3) == {(0, b"k")}


def test_garbage_is_malformed_and_writes_nothing() -> None:
    for data in (
        b"SET a 1\r\n",
        b"*0\r\n",
        b"*2\r\n:1\r\n",
        b"*1\r\n$-1\r\n",
        b"*9999999999\r\n",
        b"*1\r\n$3\r\nabcde",
    ):
        made = translator()
        with pytest.raises(Malformed):
            made.feed(Block(0, NOW, 0, REPLID, data))
        assert made.window.commands == 0


BAD = [[b"SELECT", b"x"], [b"EXPIRE", b"k", b"soon"], [b"SWAPDB", b"0"], [b"MOVE", b"k"], [b"MSETEX", b"9", b"k"]]


@pytest.mark.parametrize("argv", BAD)
def test_arguments_without_sense_are_malformed(argv: list[bytes]) -> None:
    with pytest.raises(Malformed):
        feed(translator(), argv)


REL, ABS = NOW + 5000, AT
FORMS: list[tuple[list[bytes], list[bytes], int, bool]] = [
    ([b"EXPIRE", b"k", b"5"], [b"PEXPIREAT", b"k"], REL, False),
    ([b"pexpire", b"k", b"5000", b"GT"], [b"PEXPIREAT", b"k"], REL, False),
    ([b"EXPIREAT", b"k", b"%d" % (ABS // 1000)], [b"PEXPIREAT", b"k"], ABS, True),
    ([b"PEXPIREAT", b"k", b"%d" % ABS, b"XX"], [b"PEXPIREAT", b"k"], ABS, True),
    ([b"SETEX", b"k", b"5", b"v"], [b"SET", b"k", b"v", b"PXAT"], REL, False),
    ([b"PSETEX", b"k", b"5000", b"v"], [b"SET", b"k", b"v", b"PXAT"], REL, False),
    ([b"SET", b"k", b"v", b"EX", b"5"], [b"SET", b"k", b"v", b"PXAT"], REL, False),
    ([b"SET", b"k", b"v", b"NX", b"px", b"5000"], [b"SET", b"k", b"v", b"PXAT"], REL, False),
    ([b"SET", b"k", b"v", b"PXAT", b"%d" % ABS, b"GET"], [b"SET", b"k", b"v", b"PXAT"], ABS, True),
    ([b"SET", b"k", b"v", b"IFEQ", b"EX", b"EXAT", b"%d" % (ABS // 1000)], [b"SET", b"k", b"v", b"PXAT"], ABS, True),
    ([b"GETEX", b"k", b"PX", b"5000"], [b"PEXPIREAT", b"k"], REL, False),
    ([b"GETEX", b"k", b"PXAT", b"%d" % ABS], [b"PEXPIREAT", b"k"], ABS, True),
]


PAYLOAD = b"\x00\x01v" + b"\x0b\x00" + b"checksum"


def retime(argv: list[bytes], clock: Clock) -> Retimed:
    done = retime_for(argv, clock, Reads(80))
    assert done is not None
    return done


@pytest.mark.parametrize(
    ("argv", "head", "time_ms", "exact"), FORMS, ids=lambda x: str(x) if isinstance(x, int) else ""
)
def test_each_form_of_expiry_becomes_absolute(argv: list[bytes], head: list[bytes], time_ms: int, exact: bool) -> None:
    held = retime(list(argv), clock(loading=True))
    assert held.commands == [[*head, b"%d" % (time_ms + (HOLD if exact else INEXACT))]]
    assert held.keys == [b"k"]
    live = retime(list(argv), clock(extend_ms=7000))
    assert live.commands == [[*head, b"%d" % (time_ms + (7000 if exact else INEXACT))]]


def test_forms_without_a_time() -> None:
    for argv, want in (
        ([b"SET", b"k", b"v", b"KEEPTTL"], [[b"SET", b"k", b"v", b"KEEPTTL"]]),
        ([b"SET", b"k", b"v", b"XX", b"GET"], [[b"SET", b"k", b"v"]]),
        ([b"GETEX", b"k", b"PERSIST"], [[b"PERSIST", b"k"]]),
        ([b"GETEX", b"k"], []),
        ([b"RESTORE", b"k", b"0", PAYLOAD, b"REPLACE"], [[b"RESTORE", b"k", b"0", PAYLOAD, b"REPLACE"]]),
    ):
        assert retime(argv, clock(loading=True)).commands == want


def test_restore_and_several_keys() -> None:
    payload = PAYLOAD
    got = retime([b"RESTORE", b"k", b"5000", payload, b"REPLACE"], clock(loading=True)).commands[0]
    assert got == [b"RESTORE", b"k", b"%d" % (REL + INEXACT), payload, b"REPLACE", b"ABSTTL"]
    got = retime([b"RESTORE", b"k", b"%d" % ABS, payload, b"ABSTTL"], clock(loading=True)).commands[0]
    assert got == [b"RESTORE", b"k", b"%d" % (ABS + HOLD), payload, b"ABSTTL"]
    done = retime([b"MSETEX", b"2", b"a", b"1", b"b", b"2", b"PXAT", b"%d" % ABS], clock(loading=True))
    assert done.keys == [b"a", b"b"]
    assert len(done.commands) == 2


BODY = b"return redis.call('EXPIRE', KEYS[1], ARGV[1])"
DIGEST = hashlib.sha1(BODY).hexdigest().encode()


def test_what_a_script_may_have_given_a_time_is_held_until_the_source_is_asked() -> None:
    made, said = translator(), []
    made.rewriter._touched = lambda *what: said.append(what)
    script = [b"EVAL", BODY, b"2", b"a", b"b", b"argument"]
    window = feed(made, script, [b"EVAL", b"return 1", b"0", b"argument"])[0]
    sent = commands(window)
    assert (sent[0], sent[2]) == (script, [b"EVAL", b"return 1", b"0", b"argument"])
    assert (sent[1][0], sent[1][2:]) == (b"EVAL", [b"2", b"a", b"b", b"%d" % (INEXACT + 1)])
    assert window.held
    end = len(encode(script))
    assert said == [(0, b"a", end, True), (0, b"b", end, True)]


@pytest.mark.parametrize(
    "sender",
    [
        [[b"EVAL", BODY, b"1", b"k"]],
        [[b"script", b"load", BODY]],
        [[b"SELECT", b"9"], [b"EVAL", BODY, b"0"], [b"SELECT", b"0"]],
    ],
    ids=["was run", "was loaded", "was run out of scope"],
)
def test_a_script_that_comes_by_its_digest_is_sent_whole(sender: list[list[bytes]]) -> None:
    """The target may have lost it since, or never have had it."""
    made = translator({0: 0})
    feed(made, *sender)
    window = feed(made, [b"EVALSHA", DIGEST.upper(), b"1", b"a"])[0]
    assert commands(window)[0] == [b"EVAL", BODY, b"1", b"a"]


@pytest.mark.parametrize(
    "script",
    [
        [b"EVALSHA", DIGEST, b"1", b"a"],
        [b"EVAL", b"if redis.call('pttl', KEYS[1]) < 0 then return 1 end", b"1", b"a"],
        [b"EVAL", b'redis.call("ExpireAt", KEYS[1], 5)', b"1", b"a"],
        [b"EVAL", b"redis.call('set', KEYS[1], 1, 'PXAT', 5)", b"1", b"a"],
    ],
)
def test_a_script_that_would_do_something_else_on_the_target_is_refused(script: list[bytes]) -> None:
    """So its keys are copied anew."""
    made = translator()
    window = feed(made, script)[0]
    assert commands(window) == [REFUSED]
    assert window.command(0)[0] == script
    assert made.rewriter.cannot_run(script)
    assert commands(feed(made, [*script[:2], b"0"])[0]) == [[*script[:2], b"0"]], "there is no key to copy"


def test_a_time_that_is_near_or_past_is_held_even_live() -> None:
    for time_ms in (0, NOW - 1, NOW, NOW + 999):
        done = retime([b"PEXPIREAT", b"k", b"%d" % time_ms], clock())
        assert done.commands == [[b"PEXPIREAT", b"k", b"%d" % (time_ms + HOLD)]]


def test_fields() -> None:
    argv = [b"HPEXPIREAT", b"h", b"%d" % ABS, b"FIELDS", b"1", b"f"]
    assert retime(argv, clock(loading=True)).commands[0][2] == b"%d" % (ABS + FIELD_HOLD)
    assert retime(argv, clock()).commands == [argv]
    got = retime([b"HSETEX", b"h", b"FNX", b"EX", b"5", b"FIELDS", b"1", b"f", b"v"], clock()).commands
    assert got == [[b"HSETEX", b"h", b"PXAT", b"%d" % REL, b"FIELDS", b"1", b"f", b"v"]]


@pytest.mark.parametrize("condition", [b"NX", b"XX", b"GT", b"LT"])
def test_conditions_on_fields(condition: bytes) -> None:
    """One field alone, and those of Redis, are named if they were changed; Valkey names all of several."""
    one = [b"HPEXPIREAT", b"h", b"%d" % ABS, condition, b"FIELDS", b"1", b"f"]
    two = [b"HPEXPIREAT", b"h", b"%d" % ABS, condition, b"FIELDS", b"2", b"f", b"g"]
    for loading in (True, False):
        now = clock(loading=loading)
        at = b"%d" % (ABS + (FIELD_HOLD if loading else 0))
        assert retime(one, now).commands == [[b"HPEXPIREAT", b"h", at, b"FIELDS", b"1", b"f"]]
        redis = retime_for(two, now, Reads(80), redis=True)
        assert redis is not None
        assert redis.commands == [[b"HPEXPIREAT", b"h", at, b"FIELDS", b"2", b"f", b"g"]]
        valkey = retime_for(two, now, Reads(80))
        if condition in (b"GT", b"LT"):
            assert valkey is None, "a field may have the hold and another not: the key is copied anew"
            assert retime_for(two, now, Reads(9)) is not None, "such a target has no times at all"
        else:
            assert valkey is not None
            assert valkey.commands == [[b"HPEXPIREAT", b"h", at, condition, b"FIELDS", b"2", b"f", b"g"]]


def test_held_keys_are_told_with_the_offset_behind_their_command() -> None:
    told: list[tuple[int, bytes, int, bool]] = []
    made = translator(clock=clock(loading=True), touched=lambda *a: told.append(a))
    first, second = [b"PEXPIREAT", b"k", b"%d" % ABS], [b"RENAME", b"k", b"j"]
    windows = feed(made, first, second)
    one, two = len(encode(first)), len(encode(first)) + len(encode(second))
    assert told == [(0, b"k", one, True), (0, b"j", two, False)]
    assert windows[0].held


@pytest.mark.parametrize(
    ("argv", "waits"),
    [([b"SET", b"a", b"1"], True), ([b"FUNCTION", b"FLUSH"], True), ([b"PING"], False), ([b"SET", b"b", b"1"], False)],
    ids=["in scope", "beside a window", "nothing", "of another lane"],
)
def test_what_was_passed_concerns_nobody(argv: list[bytes], waits: bool) -> None:
    scope = Scope(None, lane=Lane(0, tags()[slot(b"a")], ((slot(b"a"), slot(b"a")),)))
    made = Translator(7, 0, Rewriter(scope, clock(), 0, lambda _: [], lambda *_: None, lambda _: None))
    assert made.passed == 7
    data = encode(argv)
    made.feed(Block(7, NOW, 0, REPLID, data[:5]))
    assert made.passed == 7, "it has not come whole"
    made.feed(Block(12, NOW, 0, REPLID, data[5:]))
    assert made.passed == (None if waits else 7 + len(data))
    assert made.take() is not None
    assert made.passed == 7 + len(data)

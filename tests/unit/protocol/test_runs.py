"""Runs of plain commands: whole transactions are part of them, and SETs that follow one another go as one MSET."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sync_tasks.keyfilter import FilterSpec
from sync_tasks.throttle import Limits
from tests.unit.protocol.conftest import REPLID, translator
from tests.unit.protocol.test_translate import NOW, commands
from workers.clock import Clock
from workers.codec.mset_cy import packed
from workers.codec.resp_cy import arguments, encode
from workers.pace import Pace
from workers.rewrite import Rewriter
from workers.scope import Scope
from workers.spool.log import Block
from workers.target.windows import Window
from workers.translate import LEAST_SETS, Translator

Argv = list[bytes]
KEYS = [b"%x" % n for n in range(12)]


def sets(count: int) -> list[Argv]:
    return [[b"SET", KEYS[n % 12], b"x%d" % n] for n in range(count)]


def resp(argvs: list[Argv]) -> bytes:
    return b"".join(map(encode, argvs))


def windows(made: Translator, data: bytes, step: int) -> list[Window]:
    for at in range(0, len(data), step):
        made.feed(Block(at, NOW, 0, REPLID, data[at : at + step]))
    made.flush()
    last = made.take()
    return made.full + ([last] if last else [])


def unpacked(argvs: list[Argv]) -> list[Argv]:
    out = []
    for argv in argvs:
        if argv[0] == b"MSET":
            out += [[b"SET", key, value] for key, value in zip(argv[1::2], argv[2::2], strict=True)]
        else:
            out.append([argv[0].upper(), *argv[1:]])
    return out


def test_sets_that_follow_one_another_go_as_one() -> None:
    made = translator()
    (window,) = windows(made, resp([[b"INCR", b"a"], *sets(20), [b"INCR", b"b"]]), 1 << 20)
    got = commands(window)
    assert got == [[b"INCR", b"a"], [b"MSET", *(arg for argv in sets(20) for arg in argv[1:])], [b"INCR", b"b"]]
    assert window.changes == 22


def test_a_few_go_as_they_are() -> None:
    made = translator()
    (window,) = windows(made, resp([*sets(LEAST_SETS - 1), [b"INCR", b"b"], *sets(LEAST_SETS - 1)]), 1 << 20)
    assert {argv[0] for argv in commands(window)} == {b"SET", b"INCR"}


def test_each_command_counts_where_commands_are_counted() -> None:
    made, pace = translator(), Pace()
    pace.limits = Limits(rps=100, bytes_per_s=None)
    made.keep_to(pace)
    got = windows(made, resp(sets(30)), 1 << 20)
    assert [window.commands for window in got] == [10, 10, 10]


def test_they_go_as_they_are_to_a_target_that_does_not_know_mset() -> None:
    rewriter = translator().rewriter
    rewriter.older.kinds[b"MSET"] = "unknown"
    made, pace = Translator(0, 0, rewriter), Pace()
    made.keep_to(pace)
    (window,) = windows(made, resp(sets(20)), 1 << 20)
    assert commands(window) == sets(20)


@pytest.mark.parametrize("name", [b"set", b"SeT"])
def test_names_may_be_of_either_case(name: bytes) -> None:
    data = resp([[name, *argv[1:]] for argv in sets(9)])
    ((start, stop, count, made),) = packed(data, 0, len(data), 8)
    assert (start, stop, count) == (0, len(data), 9)
    assert made is not None
    assert unpacked([arguments(made, 0)]) == sets(9)


def test_a_transaction_is_part_of_a_run() -> None:
    made = translator()
    argvs = [[b"INCR", b"a"], [b"MULTI"], [b"INCR", b"b"], [b"INCR", b"c"], [b"EXEC"], [b"INCR", b"d"]]
    (window,) = windows(made, resp(argvs), 1 << 20)
    assert len(window.runs) == 1
    assert [argv[1] for argv in commands(window)] == [b"a", b"b", b"c", b"d"]
    assert window.command(3) == ([b"INCR", b"d"], len(resp(argvs[:-1])))


@pytest.mark.parametrize("argvs", [[[b"MULTI"], [b"EXEC"]], [[b"MULTI"], [b"EXEC"], [b"INCR", b"a"]]])
def test_an_empty_transaction_is_nothing(argvs: list[Argv]) -> None:
    made = translator()
    (window,) = windows(made, resp(argvs), 1 << 20)
    assert commands(window) == [argv for argv in argvs if argv[0] == b"INCR"]
    assert window.end == len(resp(argvs))


ONE = st.sampled_from(
    [
        *[[b"SET", key, b"value"] for key in KEYS], [b"set", b"k", b""], [b"INCR", b"n"], [b"DEL", b"a", b"b"],
        [b"SETEX", b"e", b"100", b"v"], [b"SET", b"p", b"v", b"PX", b"100000"],
    ]
)  # fmt: skip
SOME = st.one_of(st.lists(ONE, max_size=4), st.integers(1, 40).map(sets))
TRANSACTION = SOME.map(lambda inner: [[b"MULTI"], *inner, [b"EXEC"]])
STREAM = st.lists(st.one_of(SOME, TRANSACTION, st.just([[b"SELECT", b"2"]]), st.just([])), max_size=12)


BLOCKED = [b"1", b"2", b"n"]


@settings(max_examples=150, deadline=None)
@given(STREAM, st.integers(1, 5000), st.tuples(st.integers(1, 60), st.integers(50, 3000)), st.booleans())
def test_what_comes_goes_in_order_and_transactions_whole(
    parts: list[list[Argv]], step: int, most: tuple[int, int], filtered: bool
) -> None:
    """Whatever the cuts of the stream and the limits of a window: nothing twice, nothing lost, transactions whole."""
    blocked = BLOCKED if filtered else []
    scope = Scope(None, FilterSpec(block_prefixes=[key.decode() for key in blocked]))
    made = Translator(0, 0, Rewriter(scope, Clock(0), 0, lambda _: [], lambda *_: None, lambda *_: None))
    made.most = most
    stream = [argv for part in parts for argv in part]
    data = resp(stream)
    begins, at = {}, 0
    for argv in stream:
        begins[at] = argv
        at += len(encode(argv))
    got = windows(made, data, step)
    sent, borders = [], [0]
    for window in got:
        assert window.start == borders[-1]
        borders.append(window.end)
        for index, argv in enumerate(commands(window)):
            if argv[0] != b"SELECT":
                sent += unpacked([argv])
                origin = begins[window.command(index)[1]]  # each is named by where it, or its first one, began
                assert origin[1] == argv[1]
    drop = (b"MULTI", b"EXEC", b"SELECT")
    taken = [argv for argv in stream if argv[0] not in drop and argv[1] not in blocked]
    assert [argv[1] for argv in sent] == [argv[1] for argv in taken]
    assert filtered or sum(window.changes for window in got) == len(taken)
    assert borders[-1] == len(data)
    inside = False
    for offset, argv in begins.items():
        assert not (inside and offset in borders[1:])
        inside = (inside or argv[0] == b"MULTI") and argv[0] != b"EXEC"


def test_long_runs_are_cut_by_their_bytes() -> None:
    rng = random.Random(1)
    argvs: list[Argv] = [[b"SET", b"k%d" % rng.randrange(1000), b"x" * 100] for _ in range(5000)]
    got = windows(translator(), resp(argvs), 100_000)
    assert max(window.size for window in got) < 200 << 10
    assert sum(window.changes for window in got) == 5000

"""Which keys of what was committed are looked at again: at a rate, without choosing, and without holding many."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from tests.unit.protocol.conftest import translator
from tests.unit.protocol.test_translate import clock, commands, feed
from workers import sampling
from workers.codec.resp_cy import encode
from workers.sampling import Key, Sample, written
from workers.target.window import Run, Window


def window(*argvs: list[bytes], db: int = 0) -> Window:
    made = Window(end=1)
    for argv in argvs:
        made.runs.append(Run(made.commands, len(made.body), 0, False, db=db))
        made.body += encode(argv)
        made.commands += 1
    return made


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def all_of(window: Window) -> list[list[Key]]:
    return [written(window, index) for index in range(window.commands)]


def test_keys_are_those_of_the_commands_as_the_target_gets_them() -> None:
    made = translator({3: 7}, clock=clock())
    stream = [
        [b"SELECT", b"3"], [b"SET", b"a", b"1"], [b"INCR", b"n"], [b"DEL", b"x", b"y"], [b"MULTI"],
        [b"RENAME", b"b", b"c"], [b"EXPIRE", b"t", b"60"], [b"EXEC"], [b"SUNIONSTORE", b"s", b"s1", b"s2"],
        *[[b"SET", b"many:%d" % number, b"v"] for number in range(20)], [b"SADD", b"last", b"\r\n*3\r\n$3\r\nSET\r\n"],
    ]  # fmt: skip
    (got,) = feed(made, *stream)
    assert [argv[0] for argv in commands(got) if argv[0] == b"MSET"] == [b"MSET"], "they went as one"
    keys = [key for some in all_of(got) for key in some]
    assert {db for db, _ in keys} == {7}
    assert [key for _, key in keys] == [
        b"a", b"n", b"x", b"y", b"c", b"t", b"s", *[b"many:%d" % number for number in range(20)], b"last",
    ]  # fmt: skip


def test_what_another_command_stands_for_and_what_is_not_whole() -> None:
    made = window([b"SET", b"k", b"refused"], [b"SET", b"long", b"v"], [b"MOVE", b"m", b"9"], db=4)
    made.runs[0].instead = [b"INCR", b"counter"]
    made.runs[1].long = [b"APPEND", b"huge"]
    assert all_of(made) == [[(4, b"counter")], [(4, b"huge")], [(4, b"m")]]


def test_of_a_large_window_the_first_commands_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "LARGE_BYTES", 64)
    made = window([b"SET", b"large", b"v" * 100], [b"MSET", b"a", b"1", b"b", b"2"])
    assert written(made, 0) == [(0, b"large")]
    with pytest.raises(ValueError, match="more keys"):
        written(made, 1)
    sample = Sample(100, Clock())
    sample.take([made], 200.0)
    assert sample.ripe(0, 9) in ([(0, b"large")], [])


def test_a_rate_is_held_and_nothing_is_chosen() -> None:
    """Of windows of 300 commands, each beginning with the same one."""
    clock = Clock()
    sample = Sample(100, clock, Random(1))
    found: Counter[bytes] = Counter()
    for number in range(20_000):  # 20 s
        clock.now += 0.001
        sample.take([window([b"SET", b"first", b"1"], *[[b"SET", b"k%d" % n, b"1"] for n in range(9)])], clock.now)
        found.update(key for _, key in sample.ripe(0, 1000))
        if number == 9999:
            clock.now += 60  # nothing is written for a while
    assert 1950 <= sum(found.values()) <= 2100
    assert len(found) == 10
    assert max(found.values()) < 1.5 * min(found.values()), "the first of a window is like any other"


def test_a_little_traffic_is_seen_whole() -> None:
    clock = Clock()
    sample = Sample(100, clock)
    seen = set()
    for number in range(20):
        clock.now += 0.1
        sample.take([window([b"SET", b"a%d" % number, b"1"], [b"SET", b"b%d" % number, b"1"])], clock.now)
        seen |= set(sample.ripe(0, 100))
    assert len(seen) == 40


def test_a_key_waits_from_its_last_write_on_and_comes_once() -> None:
    clock = Clock()
    sample = Sample(1000, clock)
    for _ in range(3):
        clock.now += 1
        sample.take([window([b"SET", b"k", b"1"])], clock.now)
    assert sample.some.is_set()
    clock.now += 0.9
    assert sample.ripe(1.0, 10) == []
    clock.now += 0.2
    assert sample.ripe(1.0, 10) == [(0, b"k")]
    assert not sample.some.is_set()
    assert sample.ripe(1.0, 10) == []


def test_no_more_wait_than_are_allowed_and_ours_never(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "MOST", 5)
    clock = Clock()
    sample = Sample(1000, clock)
    clock.now += 1
    sample.take([window(*[[b"SET", b"k%d" % n, b"1"] for n in range(100)], [b"SET", b"keyferry:x", b"1"])], clock.now)
    assert len(sample.ripe(0, 100)) == 5
    sample.again([(0, b"again")])
    monkeypatch.setattr(sampling, "MOST_BYTES", 6)
    sample.again([(0, b"too much")])
    assert sample.ripe(0, 100) == [(0, b"again")]
    clock.now += 1
    sample.take([window([b"SET", b"keyferry:x", b"1"])], clock.now)
    assert sample.ripe(0, 100) == []

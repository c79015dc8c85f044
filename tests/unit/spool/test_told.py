"""Keys that were told, and are to be read again."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sync_tasks.errors import SourceError
from workers import told as module
from workers.source.notices import EVENTS, SPACES, Notices
from workers.spool.log import Log
from workers.told import Told

REPLID = "6b65796665727263" + "0" * 24


@pytest.fixture
def told(tmp_path: Path) -> Told:
    made = Told(clock=iter(range(1000, 10_000, 10)).__next__)
    made.log = Log(tmp_path, 1)
    made.log.reset(REPLID, 1)
    made.heard = lambda _: looked(made)
    made.mend()
    return made


def looked(told: Told) -> bool:
    """As who reads the source does: nothing was lost."""
    told.looked(told.look())
    return True


def behind(told: Told) -> bool:
    try:
        return told.offset(0.01) != 1
    except SourceError:
        return True


def test_a_key_keeps_its_place(told: Told) -> None:
    for name in (b"b", b"a", b"b", b"c"):
        told.touch((0, name))
    assert told.take(2) == [(0, b"b"), (0, b"a")]
    told.touch((0, b"b"))  # it has changed since it was taken
    told.done()
    assert told.take(9) == [(0, b"c"), (0, b"b")]


def test_what_was_not_read_is_first_again(told: Told) -> None:
    for name in (b"a", b"b", b"c"):
        told.touch((0, name))
    told.take(2)
    told.touch((0, b"b"))
    told.back()
    assert told.take(9) == [(0, b"a"), (0, b"b"), (0, b"c")]
    assert behind(told)
    told.done()
    assert told.offset(0.01) == 1


def test_it_is_all_there_once_what_was_told_before_is(told: Told) -> None:
    told.touch((0, b"a"))
    assert behind(told), "it waits"
    told.take(1)
    assert behind(told), "it is being read"
    timer = threading.Timer(0.05, lambda: (told.done(), told.touch((0, b"later"))))
    timer.start()
    assert told.offset(5.0) == 1, "what is told later is not waited for"
    timer.join()
    told.heard = lambda _: False
    told.take(1)
    told.done()
    assert behind(told), "the source may have told more"
    told.heard = lambda _: looked(told)
    told.lose()
    assert behind(told), "something was lost"


def test_too_many_are_forgotten(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_KEYS", 3)
    for number in range(4):
        told.touch((0, b"%d" % number))
    assert len(told) == 0
    assert told.overflowed()
    assert not told.overflowed()
    told.mend()
    assert told.offset(0.01) == 1
    told.touch((0, b"x" * 100))
    monkeypatch.setattr(module, "MOST_BYTES", 99)
    told.touch((0, b"y"))
    assert behind(told), "nobody has looked yet, and it is known all the same"
    told.mend()
    assert behind(told), "a pass that has begun before does not make it good"
    assert told.overflowed()
    told.mend()
    assert told.offset(0.01) == 1


def test_somebody_must_have_looked_since(told: Told) -> None:
    told.heard = lambda _: True
    told.looked(told.look())
    assert behind(told), "that look had begun before"
    before = told.look()
    assert behind(told)
    told.looked(before)
    assert told.awaited
    told.heard = lambda _: looked(told)
    assert told.offset(0.01) == 1
    assert not told.awaited


def test_what_was_lost_and_found_meanwhile_need_not_be_there(told: Told) -> None:
    def lost(_: float) -> bool:
        told.lose()
        told.mend()
        return looked(told)

    told.heard = lost
    assert behind(told)


def test_how_long_they_wait() -> None:
    now = [0]
    told = Told(clock=lambda: now[0])
    assert told.age_ms() == 0
    told.touch((0, b"a"))
    now[0] = 300
    assert told.age_ms() == 300
    told.take(1)
    now[0] = 400
    told.done()
    assert told.age_ms() == 400, "so long it took a moment ago"
    now[0] = 2000
    assert told.age_ms() == 0


HEARD: list[tuple[bytes, bytes, bytes, list[Any]]] = [
    (EVENTS, b"__keyevent@3__:set", b"k", [(3, b"k")]),
    (SPACES, b"__keyspace@12__:a__:b", b"set", [(12, b"a__:b")]),
    (EVENTS, b"__keyevent@0__:del", b"keyferry:x:ck", []),
    (EVENTS, b"__keyevent@9__:del", b"k", []),
    (EVENTS, b"__keyevent@x__:set", b"k", []),
    (EVENTS, b"__keyevent@-1__:set", b"k", []),
    (EVENTS, b"__keyevent@" + b"9" * 5000 + b"__:set", b"k", []),
    (SPACES, b"__keyspace@", b"", []),
    (EVENTS, b"__keyevent@0__:keymiss", b"k", []),
    (SPACES, b"__keyspace@0__:k", b"keymiss", []),
    (SPACES, b"__keyspace@0__:keymiss", b"set", [(0, b"keymiss")]),
]


@pytest.mark.parametrize(("pattern", "channel", "message", "keys"), HEARD)
def test_what_is_heard(told: Told, pattern: bytes, channel: bytes, message: bytes, keys: list[Any]) -> None:
    """Anybody who may publish at the source may make a channel up."""
    notices: Any = SimpleNamespace(_told=told, _takes=lambda db, _: db != 9, _databases={})
    notices._database = lambda channel: Notices._database(notices, channel)
    Notices._take(notices, [b"pmessage", pattern, channel, message])
    assert told.take(9) == keys

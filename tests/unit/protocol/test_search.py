"""Looking for held expiries on a target whose databases are swapped while they are walked."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from workers.clock import Clock
from workers.expiry import hold
from workers.hashes import Part
from workers.pending import Key, Pending
from workers.scope import Scope
from workers.search import Search
from workers.settle import Asked, Settler
from workers.target.expiries import Expiry


class Walked:
    """A target of which each step of SCAN shows one key."""

    def __init__(self, databases: dict[int, list[bytes]]) -> None:
        self.keys = databases
        self.scanned: list[int] = []

    def databases(self, _scope: Scope) -> list[int]:
        return [db for db, keys in self.keys.items() if keys]

    def scan(self, db: int, cursor: int, _count: int) -> tuple[int, list[bytes]]:
        self.scanned.append(db)
        keys = self.keys[db]
        after = cursor + 1 if cursor + 1 < len(keys) else 0
        return after, keys[cursor : cursor + 1]

    def read(self, _db: int, keys: list[bytes]) -> list[Any]:
        return [Expiry(key, hold(1_000), False) for key in keys]


def _search(target: Walked, files: list[tuple[int, Path]] | None = None) -> Search:
    return Search(target, Scope(None), True, files)  # type: ignore[arg-type]


def test_one_comes_to_its_end_though_others_are_swapped_at_every_step() -> None:
    target = Walked({0: [b"%d" % i for i in range(20)], 11: [b"x"], 12: [b"y"]})
    search = _search(target)
    found: list[Key] = []
    for tip in range(60):
        search.again(tip, False, [11, 12])
        if search.possible(tip):
            found += search.step(tip)
    assert [at for at in found if at[0] == 0] == [(0, b"%d" % i) for i in range(20)], "each once"
    assert set(target.scanned[20:]) <= {11, 12}
    assert search.wanted, "those that were swapped just now are still to be walked"
    rest = [search.step(60) for _ in range(3)]
    assert rest == [[(11, b"x")], [(12, b"y")], []]
    assert not search.wanted


def test_those_that_are_swapped_are_walked_from_their_beginning_and_not_before_the_swap_is_there() -> None:
    target = Walked({0: [b"a", b"b", b"c"], 1: [b"d"]})
    search = _search(target)
    assert search.step(5) == [(0, b"a")]
    search.again(9, False, [0, 1])
    assert not search.possible(9)
    target.keys = {0: [b"d"], 1: [b"a", b"b", b"c"]}
    found = []
    while search.wanted:
        assert search.possible(10)
        found += search.step(10)
    assert sorted(found) == [(0, b"d"), (1, b"a"), (1, b"b"), (1, b"c")]


def test_one_that_held_nothing_when_the_walk_began_is_walked_once_it_is_swapped() -> None:
    target = Walked({0: [b"a"], 1: []})
    search = _search(target)
    assert search.step(0) == [(0, b"a")]
    assert search.wanted, "until that is settled"
    assert search.step(0) == []
    assert not search.wanted
    search.again(3, False, [0, 1])
    target.keys = {0: [], 1: [b"a"]}
    found = []
    while search.wanted:
        found += search.step(4)
    assert found == [(1, b"a")]


@pytest.mark.parametrize("intact", [True, False])
def test_files_of_the_others_are_still_read(monkeypatch: pytest.MonkeyPatch, intact: bool) -> None:
    """And when one of those is damaged, everything is walked."""
    monkeypatch.setattr("workers.search.volatile_keys", lambda path: [path.name.encode()])
    monkeypatch.setattr("workers.search.still_intact", lambda path: intact)
    target = Walked({0: [b"zero"], 1: [b"two"], 2: [b"one"]})
    search = _search(target, [(0, Path("zero")), (1, Path("one")), (2, Path("two"))])
    search.again(7, False, [1, 2])
    found, tip = [], 7
    while search.wanted:
        tip += not search.possible(tip)
        found += search.step(tip)
    assert found == [(0, b"zero"), (1, b"two"), (2, b"one")]
    assert (0 in target.scanned) is not intact


def test_one_in_no_files_is_over() -> None:
    search = _search(Walked({0: [b"a"]}), [])
    assert search.possible(0)
    assert search.step(0) == []
    assert not search.wanted


def test_what_is_pending_in_the_others_stays() -> None:
    pending = Pending()
    for offset, at in enumerate([(0, b"a"), (1, b"a"), (2, b"a")], 1):
        pending.touch(at, offset)
    pending.find((1, b"b"), 4)
    pending.wait((2, b"b"), 5)
    pending.wait((0, b"b"), 6)
    pending.drop([1, 2])
    assert pending.all() == [(0, b"a"), (0, b"b")]
    assert pending.least(0) == 1
    pending.drop([0])
    assert (pending.all(), pending.least(0)) == ([], 1 << 62)


def test_what_was_begun_in_databases_that_are_swapped_is_begun_anew_and_in_the_others_goes_on() -> None:
    """An answer, and a place in a hash, are of what the name stood for; a doubt nobody looks into is never over."""
    chain = SimpleNamespace(held=True, extend_ms=0, tip=(9, 0, "r"))
    settler = Settler(Clock(0), chain, None, _search(Walked({})), None)  # type: ignore[arg-type]
    for db in (0, 1):
        settler.touch(db, b"k", 5, True)
        settler._doubtful.add((db, b"k"))
    for db, left in ((0, True), (2, True), (1, False)):
        settler._hashes.add(Part((db, b"h"), 5, False, True))
        settler._asked = Asked(db, None, 5)  # type: ignore[arg-type]
        settler.swap([1, 3], 9)
        assert (settler._asked is not None, bool(settler._hashes.parts)) == (left, left)
        settler._hashes.clear()
    assert (settler._pending.all(), settler._doubtful) == ([(0, b"k")], {(0, b"k")})

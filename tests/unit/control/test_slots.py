"""Slots as ranges, and what extents with slots have in common."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sync_tasks import slots
from sync_tasks.extent import Extent
from sync_tasks.keyfilter import FilterSpec
from workers.codec.filter_cy import Filter
from workers.codec.slots_cy import slot
from workers.scope import Scope

some = st.sets(st.integers(0, slots.SLOTS - 1), max_size=30)


@given(some, some)
def test_ranges_are_sets(one: set[int], other: set[int]) -> None:
    mine, theirs = slots.ranges(one), slots.ranges(other)
    assert slots.members(mine) == one
    assert slots.read(slots.written(mine)) == mine
    assert slots.meet(mine, theirs) == slots.ranges(one & other)
    assert slots.meet(mine, None) == slots.meet(None, mine) == mine
    table = slots.table(mine)
    assert {number for number in range(slots.SLOTS) if table[number]} == one
    assert bin(slots.mask(mine)).count("1") == len(one)
    assert bool(slots.mask(mine) & slots.mask(theirs)) is not one.isdisjoint(other)


@given(st.binary(max_size=12))
def test_a_key_has_the_slot_that_the_core_gives_it(key: bytes) -> None:
    number = slot(key)
    assert slots.slot(key) == number
    assert slots.has(((number, number),), key)
    assert not slots.has(slots.ranges(set(range(slots.SLOTS)) - {number}), key)
    assert Filter([], [], slots.table(((number, number),))).takes(key)


@given(some, some)
def test_extents_of_slots(one: set[int], other: set[int]) -> None:
    mine, theirs = (Extent.of(None, FilterSpec(), slots.ranges(each)) for each in (one, other))
    whole = Extent.of(None, FilterSpec())
    assert mine.meet(theirs).slots == slots.ranges(one & other)
    assert whole.covers(mine)
    assert mine.covers(theirs) == (other <= one)
    assert mine.adds(theirs, 0) == (not one <= other)
    assert Extent.parse(mine.text) == mine
    assert "slots" not in whole.text, "extents of a server that stands alone are written as ever"


def test_a_node_of_a_cluster_shares_its_database_with_others() -> None:
    scope = Scope(None, FilterSpec(allow_prefixes=["a"]), ((slots.slot(b"a1"), slots.slot(b"a1")),))
    assert scope.shares(0)
    assert scope.takes(0, b"a1")
    assert scope.ours(0, b"a1")
    assert not scope.takes(0, b"a2")
    assert not scope.ours(0, b"a2")
    assert not scope.takes(0, b"{a1}")

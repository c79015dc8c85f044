"""What two extents have in common, and what one adds to another: held to the plain meaning of the settings."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_tasks import slots as hash_slots
from sync_tasks.extent import ALL, NOTHING, Extent, Names
from sync_tasks.keyfilter import FilterSpec, KeyFilter

WORDS = [b"".join(letters) for size in range(5) for letters in product((b"a", b"b"), repeat=size)]
PREFIXES = st.lists(st.text("ab", min_size=1, max_size=3), max_size=3)
KEYS = st.builds(lambda allow, block: KeyFilter(allow_prefixes=allow, block_prefixes=block), PREFIXES, PREFIXES)
DATABASES = st.none() | st.dictionaries(st.integers(0, 3), st.integers(0, 3), min_size=1)
FILTERS = st.builds(
    lambda usual, own: FilterSpec(
        allow_prefixes=usual.allow_prefixes, block_prefixes=usual.block_prefixes, db={str(k): v for k, v in own.items()}
    ),
    KEYS,
    st.dictionaries(st.integers(0, 3), KEYS, max_size=2),
)
SETTINGS = st.tuples(DATABASES, FILTERS)


def taken(extent: Extent) -> set[tuple[int, int | None, bytes]]:
    return {(db, extent.target(db), word) for db in range(4) for word in WORDS if extent.takes(db, word)}


@given(SETTINGS)
def test_an_extent_takes_what_its_settings_say(settings: tuple[dict[int, int] | None, FilterSpec]) -> None:
    databases, spec = settings
    extent = Extent.of(databases, spec)
    for db, word in product(range(4), WORDS):
        wanted = (databases is None or db in databases) and spec.of(db).takes(word)
        assert extent.takes(db, word) == wanted
    assert Extent.parse(extent.text) == extent


@given(SETTINGS, SETTINGS)
def test_common_is_what_both_take_to_the_same_place(
    one: tuple[dict[int, int] | None, FilterSpec], two: tuple[dict[int, int] | None, FilterSpec]
) -> None:
    first, second = Extent.of(*one), Extent.of(*two)
    both = first.meet(second)
    assert taken(both) == taken(first) & taken(second)
    assert both.text == second.meet(first).text
    if first.covers(second):
        assert taken(second) <= taken(first)
    for db in range(4):
        mine = {at for at in taken(second) - taken(first) if at[0] == db}
        assert second.adds(first, db) or not mine


def test_the_same_set_of_names_is_equal() -> None:
    assert Names.of((b"a", b"ab"), (b"c",)) == Names.of((b"a",), ())
    assert Names.of((b"ab",), (b"a",)) == NOTHING == Names.of((b"a",), ()).meet(Names.of((b"b",), ()))
    assert Names.of((), ()) == ALL
    assert Extent.of({0: 0, 1: 1}, FilterSpec(allow_prefixes=["a"])) == Extent.of(
        {0: 0, 1: 1}, FilterSpec(db={"0": KeyFilter(allow_prefixes=["a"]), "1": KeyFilter(allow_prefixes=["a", "ab"])})
    )


@pytest.mark.parametrize(
    ("before", "after", "covered"),
    [
        (({0: 0, 1: 1}, FilterSpec()), ({0: 0}, FilterSpec()), True),
        (({0: 0}, FilterSpec()), ({0: 0, 1: 1}, FilterSpec()), False),
        (({0: 0}, FilterSpec()), ({0: 5}, FilterSpec()), False),
        ((None, FilterSpec()), ({3: 3}, FilterSpec()), True),
        ((None, FilterSpec()), (None, FilterSpec(block_prefixes=["a"])), True),
        ((None, FilterSpec(allow_prefixes=["a"])), (None, FilterSpec(allow_prefixes=["a", "b"])), False),
        ((None, FilterSpec(allow_prefixes=["a"])), (None, FilterSpec(allow_prefixes=["ab"])), True),
        ((None, FilterSpec()), (None, FilterSpec(block_commands=["SET"])), True),
    ],
)
def test_what_narrows_is_covered(
    before: tuple[dict[int, int] | None, FilterSpec], after: tuple[dict[int, int] | None, FilterSpec], covered: bool
) -> None:
    assert Extent.of(*before).covers(Extent.of(*after)) is covered


def test_without_some_slots() -> None:
    """All of them are another thing than none."""
    whole = Extent.of({0: 0}, FilterSpec())
    assert whole.without(()) == whole
    assert whole.without(((0, 99), (16383, 16383))).slots == ((100, 16382),)
    some = Extent.of({0: 0}, FilterSpec(), ((5, 9),))
    assert some.without(((7, 7),)).slots == ((5, 6), (8, 9))
    nothing = some.without(((0, 16383),))
    assert nothing.slots == ()
    assert nothing.without(((1, 1),)).slots == ()


def test_the_slots_that_a_stream_acts_on() -> None:
    assert Extent().acts_on == hash_slots.ALL
    assert Extent(slots=((0, 5),)).acts_on == ((0, 5),)
    assert Extent(databases={0: 0}, slots=()).acts_on == ()
    assert Extent(databases={}).meet(Extent(slots=((0, 5),))).acts_on == (), "it copies nothing so far"

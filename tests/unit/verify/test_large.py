"""The walk over elements of a large value, on made-up ones that change while they are walked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from workers.verify.elements import Element, Elements
from workers.verify.flux import Patience, Token
from workers.verify.large import difference
from workers.verify.stream_pieces import after

PAGE = 10


class Table(Elements):
    """A hash in memory; `then` runs before page number n is walked."""

    def __init__(self, values: dict[bytes, bytes], then: dict[int, Any] | None = None) -> None:
        self.values = values
        self.then = then or {}
        self.step = PAGE
        self.walks = 0

    def count(self) -> int:
        return len(self.values)

    def pages(self) -> Iterator[dict[Element, Token]]:
        self.walks += 1
        names = sorted(self.values)
        for number, start in enumerate(range(0, len(names), PAGE)):
            self.then.pop(number, lambda: None)()
            some = [name for name in names[start : start + PAGE] if name in self.values]
            yield {name: self.values[name] for name in some}

    def read_page(self, elements: Sequence[Element]) -> list[Token]:
        assert len(elements) <= PAGE
        return [self.values.get(element) for element in elements]

    def name(self, element: Element) -> bytes:
        return bytes(element)


def fields(count: int = 95) -> dict[bytes, bytes]:
    return {b"f%03d" % i: b"%d" % i for i in range(count)}


def compare(ours: Table, theirs: Table) -> bytes | None:
    return difference(ours, theirs, Patience(pauses=(0, 0), sample_s=0))


def test_equal_values_are_walked_once() -> None:
    ours, theirs = Table(fields()), Table(fields())
    assert compare(ours, theirs) is None
    assert (ours.walks, theirs.walks) == (1, 0)


def test_a_field_that_differs_is_missing_or_is_one_too_many() -> None:
    assert compare(Table(fields()), Table({**fields(), b"f050": b"x"})) == b"f050"
    assert compare(Table(fields()), Table(fields(94))) == b"f094"
    assert compare(Table(fields()), Table({**fields(), b"zzz": b"x"})) == b"zzz"
    swapped = {name: value for name, value in fields().items() if name != b"f011"} | {b"g": b"x"}
    assert compare(Table(fields()), Table(swapped)) == b"f011"


def test_a_field_deleted_on_both_sides_meanwhile_is_no_difference() -> None:
    ours, theirs = Table(fields()), Table(fields())

    def both() -> None:
        ours.values.pop(b"f093")
        theirs.values.pop(b"f093")

    ours.then[5] = both
    assert compare(ours, theirs) is None


def test_an_extra_field_is_found_though_the_source_grew_by_one_too() -> None:
    """Equal counts prove nothing when they moved."""
    ours, theirs = Table(fields()), Table({**fields(), b"zzz": b"x"})

    def both() -> None:
        ours.values[b"a"] = theirs.values[b"a"] = b"new"
        ours.values[b"b"] = b"new"
        theirs.values[b"b"] = b"new"

    ours.then[5] = both
    assert compare(ours, theirs) == b"zzz"


def test_a_difference_of_the_moment_is_no_difference() -> None:
    ours, theirs = Table(fields()), Table(fields())
    ours.then[3] = lambda: ours.values.update({b"f045": b"new"})
    ours.then[9] = lambda: theirs.values.update({b"f045": b"new"})
    assert compare(ours, theirs) is None


class Extended(Table):
    """A target's hash, some of whose fields are over on the source."""

    expired: frozenset[bytes] = frozenset()

    def over(self, elements: Sequence[Element]) -> set[Element]:
        return self.expired & set(elements)


def test_a_field_that_the_target_may_hold_is_no_difference() -> None:
    theirs = Extended({**fields(), b"yyy": b"x", b"zzz": b"x"})
    theirs.expired = frozenset((b"zzz", b"f001"))
    assert compare(Table(fields()), theirs) == b"yyy"
    theirs.expired |= {b"yyy"}
    assert compare(Table(fields()), theirs) is None
    theirs.values[b"f001"] = b"x"
    assert compare(Table(fields()), theirs) == b"f001", "what the source has is compared"


def test_a_field_that_ends_on_the_source_while_it_is_watched_is_no_difference() -> None:
    for expired, found in ((frozenset(), b"f045"), (frozenset((b"f045",)), None)):
        ours, theirs = Table(fields()), Extended(fields())
        theirs.expired = expired
        ours.then[3] = lambda ours=ours: ours.values.update({b"f045": b"new"})  # type: ignore[misc]
        ours.then[9] = lambda ours=ours: ours.values.pop(b"f045")  # type: ignore[misc]
        assert compare(ours, theirs) == found


def test_a_source_that_counts_what_it_hides_proves_nothing_by_its_count() -> None:
    class Hiding(Table):
        hides = True

        def count(self) -> int:
            return len(self.values) + 1

    assert compare(Hiding(fields()), Table({**fields(), b"zzz": b"x"})) == b"zzz"


def test_ids_that_follow() -> None:
    assert after(b"5-7") == b"5-8"
    assert after(b"5-18446744073709551615") == b"6-0"

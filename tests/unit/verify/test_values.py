"""Canonical values, their tokens, and how a report shows bytes."""

from __future__ import annotations

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.verify.findings import MOST_LISTED, Finding, Kind, Pair, Report, shown
from workers.verify.states import slices
from workers.verify.streams import Counters, differing_part, read_stream
from workers.verify.values import KINDS, canonical, digest, kind_of, score
from workers.verify.wire import Refusal

ALL = Counters(stream=True, group=True)

STREAM = [
    *(b"length", 1, b"radix-tree-keys", 1, b"radix-tree-nodes", 2, b"last-generated-id", b"5-0"),
    *(b"max-deleted-entry-id", b"2-0", b"entries-added", 9, b"recorded-first-entry-id", b"5-0"),
    b"entries",
    [[b"5-0", [b"f", b"v"]]],
    b"groups",
    [
        [
            *(b"name", b"g", b"last-delivered-id", b"5-0", b"entries-read", 1, b"lag", 0, b"pel-count", 1),
            b"pending",
            [[b"5-0", b"c", 123, 1]],
            b"consumers",
            [[b"name", b"c", b"seen-time", 456, b"pel-count", 1, b"pending", [[b"5-0", 123, 1]]]],
        ]
    ],
]


@given(st.lists(st.binary(max_size=4), max_size=6), st.lists(st.binary(max_size=4), max_size=6))
def test_tokens_tell_where_parts_end(a: list[bytes], b: list[bytes]) -> None:
    assert (digest(a) == digest(b)) == (a == b)


@given(st.floats(allow_nan=False))
def test_scores_are_equal_by_their_bits_whatever_digits_stand_for_them(value: float) -> None:
    assert score(repr(value).encode()) == score(b"%.17g" % value) == struct.pack(">d", value)


def test_zero_has_two_scores() -> None:
    assert score(b"0") != score(b"-0")
    assert score(b"inf") == struct.pack(">d", math.inf)


def test_the_order_of_hashes_and_sets_does_not_matter_that_of_lists_does() -> None:
    hashes, sets, lists = KINDS[b"hash"], KINDS[b"set"], KINDS[b"list"]
    assert canonical(hashes, [b"a", b"1", b"b", b"2"], ALL) == canonical(hashes, [b"b", b"2", b"a", b"1"], ALL)
    assert canonical(sets, [b"a", b"b"], ALL) == canonical(sets, [b"b", b"a"], ALL)
    assert canonical(lists, [b"a", b"b"], ALL) != canonical(lists, [b"b", b"a"], ALL)
    for kind in (hashes, sets):
        a, b = (canonical(kind, order, ALL) for order in ([b"a", b"1", b"b", b"2"], [b"b", b"2", b"a", b"1"]))
        assert digest(kind.parts(a)) == digest(kind.parts(b))


def test_what_is_gone_has_no_value() -> None:
    for answer in (None, [], Refusal(b"WRONGTYPE x")):
        assert canonical(KINDS[b"list"], answer, ALL) is None
    assert canonical(KINDS[b"string"], b"", ALL) == b""


def test_a_type_of_a_module_is_its_payload_without_version_and_checksum() -> None:
    kind = kind_of(b"ReJSON-RL")
    assert canonical(kind, b"payload" + bytes(10), ALL) == canonical(kind, b"payload" + bytes(range(10)), ALL)


def test_streams_are_compared_without_what_depends_on_the_moment() -> None:
    later = list(STREAM)
    later[3] = 7  # radix tree keys
    group = list(later[-1][0])  # type: ignore[index]
    group[7] = 5  # lag
    group[-1] = [[b"name", b"c", b"seen-time", 789, b"active-time", 1, b"pel-count", 1, b"pending", []]]
    later[-1] = [group]

    a, b = read_stream(STREAM), read_stream(later)

    assert a == b
    assert differing_part(a, b) is None
    assert digest(a.parts()) == digest(b.parts())


@pytest.mark.parametrize(
    ("counters", "part"),
    [
        (Counters(True, True), b"entries-added"),
        (Counters(False, True), b"group g entries-read"),
        (Counters(False, False), None),
    ],
)
def test_counters_count_where_both_sides_keep_them(counters: Counters, part: bytes | None) -> None:
    other = list(STREAM)
    other[11] = 10
    group = list(other[-1][0])  # type: ignore[index]
    group[5] = 2
    other[-1] = [group]

    a, b = read_stream(STREAM).known(counters), read_stream(other).known(counters)

    assert differing_part(a, b) == part
    assert (digest(a.parts()) == digest(b.parts())) is (part is None)


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"a b", "a b"),
        ("ключ".encode(), "ключ"),
        (b"", ""),
        (b"\xff", "hex:ff"),
        (b"a\n", "hex:610a"),
        (b"hex:61", "hex:6865783a3631"),
    ],
)
def test_bytes_are_shown_so_that_no_two_look_alike(raw: bytes, text: str) -> None:
    assert shown(raw) == text


def test_a_report_lists_so_many_and_counts_all() -> None:
    report = Report()
    for i in range(MOST_LISTED + 5):
        report.add(Finding(Pair(0, 0), b"%d" % i, Kind.MISSING))
    found = report.as_dict()
    assert found["missing"] == MOST_LISTED + 5
    assert len(found["keys"]) == MOST_LISTED
    assert found["left_out"] == 5
    assert not report.equal


@given(st.lists(st.integers(0, 100), max_size=30), st.integers(1, 200))
def test_slices_hold_everything_once_and_never_too_much(sizes: list[int], limit: int) -> None:
    cuts = list(slices(sizes, limit))
    assert [i for cut in cuts for i in range(cut.start, cut.stop)] == list(range(len(sizes)))
    for cut in cuts:
        assert sum(sizes[cut]) <= limit or cut.stop - cut.start == 1

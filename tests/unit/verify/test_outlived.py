"""Which expiries on the target explain that the source has a key or field no more; the servers are made up."""

from __future__ import annotations

from typing import Any

import pytest

from workers.verify import server as server_module
from workers.verify.findings import Pair
from workers.verify.outlived import HSCAN, Outlived
from workers.verify.server import NO_EXPIRY, NO_KEY, TIME, UNKNOWN, Server
from workers.verify.shift import Shift
from workers.verify.wire import arg

NOW = 1_700_000_000_000
LATE = 600_000
PAIR = Pair(0, 0)


class Source:
    """Only tells the time."""

    def __init__(self, *, field_expiry: bool = True) -> None:
        self.field_expiry = field_expiry

    def clock_ms(self) -> int:
        return NOW


class Target:
    """Keys with an expiry, and hashes: a page of field expiries after the other."""

    field_expiry = True

    def __init__(self, expiries: dict[bytes, int], hashes: dict[bytes, list[dict[bytes, int]]] | None = None) -> None:
        self.keys = {arg(key): moment for key, moment in expiries.items()}
        self.hashes = {arg(key): pages for key, pages in (hashes or {}).items()}
        self.link = self

    def expiries(self, db: int, args: list[bytes]) -> list[int]:
        return [self.keys.get(key, NO_EXPIRY if key in self.hashes else NO_KEY) for key in args]

    def types(self, db: int, args: list[bytes]) -> list[bytes]:
        return [b"hash" if key in self.hashes else b"string" for key in args]

    def field_expiries(self, db: int, wanted: list[tuple[bytes, list[bytes]]]) -> list[list[int]]:
        times = {key: {field: at for page in pages for field, at in page.items()} for key, pages in self.hashes.items()}
        return [[times[key].get(field, NO_KEY) for field in fields] for key, fields in wanted]

    def ask(self, db: int, request: bytes, count: int, *, loose: bool) -> list[Any]:
        answers = []
        for one in request.split(HSCAN)[1:]:
            key = next(key for key in self.hashes if one.startswith(key))
            cursor = int(one[len(key) :].split(b"\r\n")[1])
            pages = self.hashes[key]
            following = cursor + 1 if cursor + 1 < len(pages) else 0
            answers.append([b"%d" % following, list(pages[cursor])])
        assert len(answers) == count
        return answers


def outlived(target: Target, *, field_expiry: bool = True, late: int = LATE) -> Outlived:
    return Outlived(Source(field_expiry=field_expiry), target, Shift(late))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("moment", "explained"),
    [
        (NOW + LATE, True),
        (NOW + 1, True),
        (NOW + LATE + 1, False),
        (NOW + LATE + 2**60, False),
        (NO_EXPIRY, False),
        (UNKNOWN, False),
        (NO_KEY, True),
    ],
)
def test_an_expiry_explains_up_to_the_extension(moment: int, explained: bool) -> None:
    here = outlived(Target({b"a": moment}))
    assert here.keys(PAIR, [b"a"]) == ({b"a"} if explained else set())
    assert here.count == explained


def test_fields_follow_the_same_rule() -> None:
    pages = [{b"over": NOW + LATE, b"later": NOW + LATE + 1, b"none": NO_EXPIRY}]
    wanted = [(arg(b"h"), [b"over", b"later", b"none", b"gone meanwhile"])]
    assert outlived(Target({}, {b"h": pages})).fields(0, wanted) == [{b"over", b"gone meanwhile"}]
    assert outlived(Target({}, {b"h": pages}), field_expiry=False).fields(0, wanted) == [set()]


def test_a_hash_is_over_with_its_last_field_on_whatever_page() -> None:
    over = [{b"a": NOW + 5}, {}, {b"b": NOW + LATE}]
    for last, explained in (({b"c": NOW + 1}, True), ({b"c": NO_EXPIRY}, False), ({b"c": NOW + LATE + 1}, False)):
        target = Target({}, {b"h": [*over, last], b"empty by now": [{}]})
        assert outlived(target).keys(PAIR, [b"h", b"empty by now"]) >= {b"empty by now"}
        assert (b"h" in outlived(target).keys(PAIR, [b"h"])) is explained
        assert outlived(target, field_expiry=False).keys(PAIR, [b"h"]) == set()


def test_without_extension_only_what_is_over_on_the_source_is_explained() -> None:
    here = outlived(Target({b"a": NOW, b"b": NOW + 1}), late=0)
    assert here.keys(PAIR, [b"a", b"b"]) == {b"a"}


def test_a_clock_that_is_not_asked_goes_on_and_never_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    heard = [100.0]
    monkeypatch.setattr(server_module.time, "monotonic", lambda: heard[0])
    server = Server.__new__(Server)

    class Link:
        def everywhere(self, request: bytes) -> list[Any]:
            assert request == TIME
            heard[0] += 0.25  # the answer's way back
            return [[b"1700000000", b"5999"]]

    server.link = Link()  # type: ignore[assignment]
    assert server.now_ms() == NOW + 5
    assert server.clock_ms() == NOW + 5
    heard[0] += 2
    assert server.clock_ms() == NOW + 2005

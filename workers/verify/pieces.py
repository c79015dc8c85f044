"""Elements of large strings, lists, sets, sorted sets, hashes and of types that modules bring."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from workers.verify.elements import Element, Elements, Place, token
from workers.verify.flux import Token
from workers.verify.server import NO_KEY
from workers.verify.values import DUMP, FOOTER, digest, score
from workers.verify.wire import arg, each, head

BLOCK = 1 << 16  # bytes of a string, or of a list on average
BLOCKS = 16  # in a page


class Blocks(Elements):
    """A value that is cut by position; an element is a block's number."""

    unit = 1  # positions in a block

    def pages(self) -> Iterator[dict[Element, Token]]:
        blocks = -(-self.count() // self.unit)
        for start in range(0, blocks, self.step):
            numbers = range(start, min(start + self.step, blocks))
            yield dict(zip(numbers, self.read_page(numbers), strict=True))

    def _request(self, word: bytes, blocks: Sequence[int]) -> bytes:
        beginning = head(4, word) + self.arg
        return b"".join(
            beginning + arg(b"%d" % (block * self.unit)) + arg(b"%d" % ((block + 1) * self.unit - 1))
            for block in blocks
        )


class StringBlocks(Blocks):
    """64 kB of a string each."""

    length = b"STRLEN"
    unit = BLOCK

    def _step(self) -> int:
        return BLOCKS

    def read_page(self, elements: Sequence[Element]) -> list[Token]:
        answers = self.place.ask(self._request(b"GETRANGE", elements), len(elements))
        return [token(answer) if answer else None for answer in answers]

    def name(self, element: Element) -> bytes:
        return b"bytes %d..%d" % (element * self.unit, (element + 1) * self.unit - 1)


class ListBlocks(Blocks):
    """Some 64 kB of a list each."""

    length = b"LLEN"

    def _step(self) -> int:
        self.unit = max(1, min(10_000, BLOCK * self.count() // max(1, self.place.size)))
        return BLOCKS

    def like(self, other: Elements) -> None:
        super().like(other)
        assert isinstance(other, ListBlocks)
        self.unit = other.unit

    def read_page(self, elements: Sequence[Element]) -> list[Token]:
        answers = self.place.ask(self._request(b"LRANGE", elements), len(elements))
        return [digest(answer) if isinstance(answer, list) and answer else None for answer in answers]

    def name(self, element: Element) -> bytes:
        return b"index %d..%d" % (element * self.unit, (element + 1) * self.unit - 1)


class Scanned(Elements):
    """A collection with a SCAN of its own; elements are fields or members."""

    scan: bytes = b""

    def name(self, element: Element) -> bytes:
        return bytes(element)

    def _scanned(self) -> Iterator[list[Any]]:
        cursor = b"0"
        while True:
            answer = self.place.one(self.scan, self.place.key, cursor, b"COUNT", b"%d" % self.step)
            if not isinstance(answer, list):
                return
            cursor, items = answer
            yield items
            if cursor == b"0":
                return


class HashFields(Scanned):
    """Values of a hash's fields."""

    length = b"HLEN"  # expired fields that were not yet removed included
    scan = b"HSCAN"

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.hides = place.server.field_expiry

    def pages(self) -> Iterator[dict[Element, Token]]:
        for items in self._scanned():
            yield {field: token(value) for field, value in zip(items[::2], items[1::2], strict=True)}

    def read_page(self, elements: Sequence[Element]) -> list[Token]:
        request = head(2 + len(elements), b"HMGET") + self.arg + b"".join(map(arg, elements))
        answer = self.place.ask(request, 1)[0]
        return [token(value) for value in answer] if isinstance(answer, list) else [None] * len(elements)

    def over(self, elements: Sequence[Element]) -> set[Element]:
        place, over = self.place, set[Element]()
        for start in range(0, len(elements) if place.outlived else 0, self.step):
            assert place.outlived
            over |= place.outlived.fields(place.db, [(self.arg, elements[start : start + self.step])])[0]
        self.explained = self.explained or bool(over)
        return over


class HashTimes(Scanned):
    """Expiries of a hash's fields; which fields there are is for `HashFields` to say."""

    length = b"HLEN"
    scan = b"HSCAN"

    def pages(self) -> Iterator[dict[Element, Token]]:
        for items in self._scanned():
            fields = items[::2]
            yield dict(zip(fields, self.read(fields), strict=True))

    def differ(self, ours: Token, theirs: Token) -> bool:
        return ours is not None and theirs is not None and ours != theirs

    def read_page(self, elements: Sequence[Element]) -> list[Token]:
        place = self.place
        times = place.server.field_expiries(place.db, [(self.arg, elements)])[0] if elements else []
        return [None if time == NO_KEY else b"%d" % place.shift.field(time) for time in times]


class SetMembers(Scanned):
    """Members of a set."""

    length = b"SCARD"
    scan = b"SSCAN"

    def pages(self) -> Iterator[dict[Element, Token]]:
        for items in self._scanned():
            yield dict.fromkeys(items, b"in")

    def read_page(self, elements: Sequence[Element]) -> list[Token]:
        request = each(head(3, b"SISMEMBER") + self.arg, [arg(member) for member in elements])
        return [b"in" if answer == 1 else None for answer in self.place.ask(request, len(elements))]


class ZsetMembers(Scanned):
    """Scores of a sorted set's members."""

    length = b"ZCARD"
    scan = b"ZSCAN"

    def pages(self) -> Iterator[dict[Element, Token]]:
        for items in self._scanned():
            yield {member: score(text) for member, text in zip(items[::2], items[1::2], strict=True)}

    def read_page(self, elements: Sequence[Element]) -> list[Token]:
        request = each(head(3, b"ZSCORE") + self.arg, [arg(member) for member in elements])
        answers = self.place.ask(request, len(elements))
        return [score(answer) if isinstance(answer, bytes) else None for answer in answers]


class Payload(Elements):
    """A module's value as a whole: the one kind that is held in memory however large it is."""

    def count(self) -> int:
        return 1

    def pages(self) -> Iterator[dict[Element, Token]]:
        yield {b"payload": self.read_page([b"payload"])[0]}

    def read_page(self, elements: Sequence[Element]) -> list[Token]:
        answers = self.place.ask(each(DUMP, [self.arg] * len(elements)), len(elements))
        return [digest((answer[:-FOOTER],)) if isinstance(answer, bytes) else None for answer in answers]

    def name(self, element: Element) -> bytes:
        return bytes(element)

"""What a large value is to those who compare it: elements that can be walked and read one by one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from workers.verify.flux import Token
from workers.verify.outlived import Outlived
from workers.verify.server import Server
from workers.verify.shift import Shift
from workers.verify.streams import Counters
from workers.verify.values import digest
from workers.verify.wire import arg, pack

PAGE_BYTES = 1 << 20  # of values that are held at once
MOST_IN_PAGE = 1_000  # elements
SHORT = 32  # bytes up to which a value is its own token

Element = Any
"""Hashable; bytes, a number or a tuple, as the view has it."""


@dataclass(frozen=True, slots=True)
class Place:
    """A large value on one side.

    Args:
        shift: what to add to expiries there so that both sides' compare.
        size: bytes of memory it takes.
        counters: the counters of streams that can be compared.
        outlived: of the target: what it holds though the source does not any more.
    """

    server: Server
    db: int
    key: bytes
    shift: Shift
    size: int
    counters: Counters
    outlived: Outlived | None = None

    def ask(self, request: bytes, count: int) -> list[Any]:
        """Answers to packed commands; what tells that the key has changed is among them."""
        return self.server.link.ask(self.db, request, count, loose=True)

    def one(self, *words: bytes) -> Any:
        """The answer to one command."""
        return self.ask(pack(*words), 1)[0]

    def number(self, *words: bytes) -> int:
        """The answer to a command that counts; 0 when the key has another type by now."""
        answer = self.one(*words)
        return answer if isinstance(answer, int) else 0


class Elements(ABC):
    """One way to look at a large value on one side."""

    length: bytes = b""  # the command that counts elements
    hides: bool = False  # `count` counts elements that `pages` may not show
    explained: bool = False  # some element was `over`

    def __init__(self, place: Place) -> None:
        self.place = place
        self.arg = arg(place.key)
        self.step = self._step()

    def _step(self) -> int:
        """Elements that make up a page."""
        count = self.count()
        return max(1, min(MOST_IN_PAGE, PAGE_BYTES * count // max(1, self.place.size)))

    def like(self, other: Elements) -> None:
        """Cut the value as the other side does."""
        self.step = other.step

    def count(self) -> int:
        """How many elements there are."""
        return self.place.number(self.length, self.place.key)

    @abstractmethod
    def pages(self) -> Iterator[dict[Element, Token]]:
        """All elements with their tokens, a page at a time; some may come twice."""

    @abstractmethod
    def read_page(self, elements: Sequence[Element]) -> list[Token]:
        """Tokens of at most a page of elements; None: absent."""

    def read(self, elements: Sequence[Element]) -> list[Token]:
        """Tokens of any number of elements."""
        out: list[Token] = []
        for start in range(0, len(elements), self.step):
            out += self.read_page(elements[start : start + self.step])
        return out

    def over(self, elements: Sequence[Element]) -> set[Element]:
        """Those of the target's elements that it rightly holds though the source has them no more."""
        return set()

    def differ(self, ours: Token, theirs: Token) -> bool:
        """Whether these tokens of one element are a difference."""
        return ours != theirs

    @abstractmethod
    def name(self, element: Element) -> bytes:
        """What a report calls it."""


def token(value: Any) -> Token:
    """What stands for a value; None for what is not there."""
    if not isinstance(value, bytes):
        return None
    return b"=" + value if len(value) <= SHORT else digest((value,))

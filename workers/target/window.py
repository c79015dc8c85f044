"""Windows: commands that are committed together, and where in the stream each of them comes from."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from workers.codec.resp_cy import arguments, encode
from workers.target.link import TargetLink


@dataclass(slots=True)
class Run:
    """Commands of a window that lie behind each other in the stream as they do in the window's body."""

    command: int  # number of the first one in the body
    position: int  # of it in the body, bytes
    offset: int  # of the stream byte before it
    verbatim: bool  # the body's bytes are the stream's
    instead: list[bytes] | None = None  # the stream's command, which the body's one command stands for
    long: list[bytes] | None = None  # the first arguments of the one command, whose bytes are not all in the body
    db: int | None = None  # target database that they act on
    expected: bool = False  # `Rewriter.stands_for` tells that another stands for the one command
    origin: tuple[list[bytes], int] | None = None  # the stream's command that a transform made it of; target database
    parts: list[tuple[int, int, int]] | None = None  # of the stream, behind `offset`: start, end

    def at(self, position: int) -> int:
        """The stream offset of what stands at a position of the window's body."""
        behind = position - self.position
        if not self.verbatim:
            return self.offset
        for start, stop, _ in self.parts or ():
            if behind < stop - start:
                return self.offset + start + behind
            behind -= stop - start
        return self.offset + behind


@dataclass(slots=True)
class Elsewhere:
    """Bytes that are sent in the middle of a window's body, and not held in memory."""

    position: int  # in the body
    size: int
    read: Callable[[], Iterator[bytes]]


class Parts(Protocol):
    """What is built ahead of a window."""

    def put(self, own: Window, link: TargetLink) -> bool:
        """Put the next part into a window of our own; False: there is none.

        Args:
            link: that of the chain; what is to be asked is asked beside it.
        """


@dataclass(slots=True)
class Window:
    """Commands to commit together; `end` and `db` are the stream's offset and database behind them."""

    body: bytearray = field(default_factory=bytearray)
    commands: int = 0
    runs: list[Run] = field(default_factory=list)
    elsewhere: list[Elsewhere] = field(default_factory=list)  # by their position
    start: int = 0
    end: int = 0
    db: int = 0
    replid: str = ""
    held: bool = False  # writes an expiry with the hold
    received_ms: int = 0  # of its first bytes
    fresh_ms: int = 0  # by the target's clock, not later than it was written; 0: not known
    changes: int = 0  # source commands in it
    databases: set[int] = field(default_factory=set)  # target databases it names
    first: int | None = None  # database in which the body begins; None: not yet known
    selected: int | None = None  # and in which it ends
    beside: int = 0  # bytes of commands that others stand for
    wipes: bool = False  # empties or swaps the checkpoint's database: nothing may be in flight before it
    serves: str = ""  # of a cluster: it empties a node, which must serve these slots and no others
    plain: list[list[bytes]] = field(default_factory=list)  # goes beside it, and before; may be executed again
    ahead: list[tuple[int, Parts]] = field(default_factory=list)
    """What is to be executed before it, in windows of our own: target database, and parts."""

    @property
    def alone(self) -> bool:
        """Whether nothing may be in flight before it."""
        return self.wipes or bool(self.plain) or bool(self.serves)

    @property
    def size(self) -> int:
        """Bytes of the body as it is sent, and of what is kept beside it."""
        here = len(self.body) + self.beside
        return here + sum(piece.size for piece in self.elsewhere) if self.elsewhere else here

    def stands_in(self, index: int) -> bool:
        """Whether a command of the body stands for one that the target does not know."""
        return self.run_of(index).instead is not None

    def is_expected(self, index: int) -> bool:
        """Whether whoever reads the stream knows that this one is refused."""
        return self.run_of(index).expected

    def command(self, index: int) -> tuple[list[bytes], int]:
        """Arguments of a command of the body, the first ones if it is long, and the stream offset where it began."""
        run = self.run_of(index)
        if run.origin is not None:
            return run.origin[0], run.offset
        return self.sent(index)

    def origin(self, index: int) -> list[bytes] | None:
        """The stream's command, where a transform has made the one of the body of it."""
        found = self.run_of(index).origin
        return None if found is None else found[0]

    def sent(self, index: int) -> tuple[list[bytes], int]:
        """As `command`, of what the body has though a transform made it."""
        run = self.run_of(index)
        if argv := run.instead or run.long:
            return argv, run.offset
        body, position = bytes(self.body), run.position
        for _ in range(index - run.command):
            position += len(encode(arguments(body, position)))
        return arguments(body, position), run.at(position)

    def run_of(self, index: int) -> Run:
        """The run that a command of the body is of."""
        return self.runs[bisect_right(self.runs, index, key=lambda run: run.command) - 1]

    def database(self, index: int) -> int:
        """The target database on which a command of the body acts."""
        run = self.run_of(index)
        db = run.db if run.origin is None else run.origin[1]
        assert db is not None
        return db

    def pieces(self) -> Iterator[bytes | bytearray]:
        """The body as it is sent."""
        at = 0
        for piece in self.elsewhere:
            yield self.body[at : piece.position]
            yield from piece.read()
            at = piece.position
        yield self.body[at:]

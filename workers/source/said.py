"""What a source says of itself and of its keys."""

from __future__ import annotations

from dataclasses import dataclass

from workers.aside import Kept

GONE = -2
NO_HASH = -3


@dataclass(frozen=True, slots=True)
class Position:
    """A place in the source's stream."""

    replid: str
    offset: int


@dataclass(frozen=True, slots=True)
class Times:
    """Expiries in ms since the epoch; all true at one place of the stream.

    -1: none; -2 (GONE): no such key or field; -3 (NO_HASH): no such hash. replica: whether one was asked.
    """

    at: Position
    times: list[int]
    replica: bool = False


@dataclass(frozen=True, slots=True)
class Values:
    """Keys as they are at one place of the stream.

    values: payloads as DUMP gives them, long ones in a file; None: no such key, one that a replica hides, or nothing.
    times: expiries in ms since the epoch, -1: none. exact: whether they are, else they may be some ms off.
    """

    at: Position
    values: list[bytes | Kept | None]
    times: list[int]
    exact: bool
    replica: bool


@dataclass(frozen=True, slots=True)
class Kind:
    """A source as the stream's rewriting needs to know it. `major`: of the Redis it is or claims to be."""

    redis: bool = False
    major: int = 0

"""Small streams as XINFO STREAM FULL shows them: entries, counters, groups, what is pending for whom.

What depends on the moment of reading or on the server alone is left out: radix tree sizes, lag, and when a
consumer was last seen (masters do not tell their replicas).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

COUNTERS = (b"max-deleted-entry-id", b"entries-added")


class Counters(NamedTuple):
    """Which counters of streams both sides are expected to agree on.

    Args:
        stream: those in the header; known from 7.0 on.
        group: entries read by a group; before 7.2.5 a master does not tell its replicas.
        whole: no counter: whether both sides show a stream at once; before 6.0 it is compared in pieces.
    """

    stream: bool
    group: bool
    whole: bool = True


Pending = tuple[bytes, int, int]  # consumer, last delivery in ms since 1970, number of deliveries


@dataclass(frozen=True, slots=True)
class Group:
    """One consumer group."""

    last: bytes  # id delivered last
    read: int | None  # entries read; None: unknown, or no matter
    pending: dict[bytes, Pending]
    consumers: frozenset[bytes]


@dataclass(frozen=True, slots=True)
class Stream:
    """One stream."""

    last: bytes
    counters: dict[bytes, bytes]
    entries: dict[bytes, tuple[bytes, ...]]  # id to fields and values
    groups: dict[bytes, Group]

    def known(self, counters: Counters) -> Stream:
        """The same with these counters alone."""
        groups = self.groups
        if not counters.group:
            groups = {name: replace(group, read=None) for name, group in groups.items()}
        return replace(self, counters=self.counters if counters.stream else {}, groups=groups)

    def parts(self) -> Iterator[bytes]:
        """Bytes that tell it from all others."""
        yield self.last
        for counter in self.counters.items():
            yield from counter
        for name, entry in self.entries.items():
            yield from (name, *entry)
        for group, state in sorted(self.groups.items()):
            yield from (b"group", group, state.last, b"%r" % state.read, *sorted(state.consumers))
            for name, (consumer, time, count) in state.pending.items():
                yield from (name, consumer, b"%d %d" % (time, count))


def read_stream(answer: list[Any]) -> Stream:
    """From the answer to XINFO STREAM key FULL COUNT 0."""
    info = table(answer)
    return Stream(
        last=info[b"last-generated-id"],
        counters={name: _text(info[name]) for name in COUNTERS if name in info},
        entries={name: tuple(fields) for name, fields in info[b"entries"]},
        groups={group[b"name"]: _group(group) for group in map(table, info[b"groups"])},
    )


def _group(group: dict[bytes, Any]) -> Group:
    return Group(
        last=group[b"last-delivered-id"],
        read=group.get(b"entries-read"),
        pending={name: (consumer, time, count) for name, consumer, time, count in group[b"pending"]},
        consumers=frozenset(table(consumer)[b"name"] for consumer in group[b"consumers"]),
    )


def table(flat: Iterable[Any]) -> dict[bytes, Any]:
    """Names and values that follow each other."""
    items = iter(flat)
    return dict(zip(items, items, strict=True))


def _text(value: Any) -> bytes:
    return value if isinstance(value, bytes) else b"%d" % value


def differing_part(a: Stream, b: Stream) -> bytes | None:
    """What differs, or None."""
    entry = _first(a.entries, b.entries)
    if entry is not None:
        return b"entry " + entry
    if a.last != b.last:
        return b"last-generated-id"
    for name in COUNTERS:
        if a.counters.get(name) != b.counters.get(name):
            return name
    for name in sorted(a.groups.keys() | b.groups.keys()):
        part = _differing_group(a.groups.get(name), b.groups.get(name))
        if part is not None:
            return b"group " + name + part
    return None


def _differing_group(a: Group | None, b: Group | None) -> bytes | None:
    if a is None or b is None:
        return b""
    if a.last != b.last:
        return b" last-delivered-id"
    if a.read != b.read:
        return b" entries-read"
    pending = _first(a.pending, b.pending)
    if pending is not None:
        return b" pending " + pending
    if a.consumers != b.consumers:
        return b" consumer " + min(a.consumers ^ b.consumers)
    return None


def _first(a: dict[bytes, Any], b: dict[bytes, Any]) -> bytes | None:
    """The lowest name, as text, whose values differ."""
    return min((name for name in a.keys() | b.keys() if a.get(name) != b.get(name)), default=None)

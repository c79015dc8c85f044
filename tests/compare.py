"""An independent judge: two servers, key by key, type, value and expiry, both ways.

Written without a look at `workers.verify`, which it is there to check. Values are read with the commands a user
would use, never as DUMP payloads. What a batch of keys answers is first held against the other side's as it came;
only what is not the same byte for byte is taken apart. So it judges millions, and holds no more of them than a
batch, the largest value, and what differs.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tests.raw import arg, replies
from tests.sides import GONE, NEVER, Heads, Range, Side, asking_times, canonical, fields_in_parts, reading

BATCH_BYTES = 8 << 20  # of values that are held of one side; a single value may be larger
SUSPECTS = 20_000  # keys that wait together to be read again
MOST = 100_000  # differences after which no more are looked for


@dataclass(frozen=True)
class Difference:
    """One key that differs. `kind` is missing, extra, type, value, expiry, field-expiry or functions."""

    db: int
    key: bytes
    kind: str
    detail: str

    def __str__(self) -> str:
        return f"db {self.db} {self.key[:60]!r}: {self.kind}, {self.detail[:300]}"


@dataclass(frozen=True)
class Slack:
    """How the target's expiries relate to the source's, in ms: later by `shift_ms`, give or take."""

    shift_ms: int
    tolerance_ms: int


@dataclass(frozen=True)
class State:
    """What one server says of one key."""

    type: bytes
    value: Any
    expiry: Range
    fields: dict[bytes, Range]  # hash field expiries


def _alive(state: State | None, now_ms: int, shift_ms: int) -> State | None:
    """The state as it should read at `now_ms` of the source's clock: what has expired is gone, though the
    server may not have removed it yet. `shift_ms` is what this side's expiries lie behind the source's."""
    if state is None or (state.expiry != NEVER and state.expiry[1] - shift_ms <= now_ms):
        return None
    gone = {name for name, at in state.fields.items() if at[1] - shift_ms <= now_ms}
    value = {name: item for name, item in state.value.items() if name not in gone} if gone else state.value
    if state.type != b"string" and not value:  # the last field hides before the hash is removed
        return None
    fields = {name: at for name, at in state.fields.items() if name not in gone}
    return State(state.type, value, state.expiry, fields)


def _same_time(source: Range, target: Range, slack: Slack) -> bool:
    if NEVER in (source, target):
        return source == target
    earliest = source[0] + slack.shift_ms - slack.tolerance_ms
    latest = source[1] + slack.shift_ms + slack.tolerance_ms
    return earliest <= target[1] and target[0] <= latest


def _first_difference(a: Any, b: Any) -> str:
    if type(a) is type(b) and isinstance(a, dict):
        for name in [*a, *(name for name in b if name not in a)]:
            if a.get(name) != b.get(name):
                return f"{name!r}: {_first_difference(a.get(name), b.get(name))}"
    if type(a) is type(b) and isinstance(a, list):
        for i, (left, right) in enumerate(zip(a, b, strict=False)):
            if left != right:
                return f"at {i} of {len(a)}/{len(b)}: {_first_difference(left, right)}"
        return f"{len(a)} items here, {len(b)} there; then {(a[len(b) :] or b[len(a) :])[:3]!r}"
    if type(a) is type(b) and isinstance(a, frozenset):
        return f"only source {sorted(a - b)[:3]!r}, only target {sorted(b - a)[:3]!r}"
    return f"{a!r:.100} | {b!r:.100}"


def _judge(db: int, key: bytes, a: State | None, b: State | None, slack: Slack) -> Difference | None:
    if a is None and b is None:
        return None
    if b is None:
        return Difference(db, key, "missing", "on the target")
    if a is None:
        return Difference(db, key, "extra", f"{b.type.decode()} {b.value!r:.100}, expiry {b.expiry}")
    if a.type != b.type:
        return Difference(db, key, "type", f"{a.type.decode()} | {b.type.decode()}")
    if a.value != b.value:
        return Difference(db, key, "value", _first_difference(a.value, b.value))
    if not _same_time(a.expiry, b.expiry, slack):
        return Difference(db, key, "expiry", f"{a.expiry} | {b.expiry}, {b.expiry[0] - a.expiry[0]} ms apart")
    for name in {*a.fields, *b.fields}:
        mine, theirs = a.fields.get(name, NEVER), b.fields.get(name, NEVER)
        if not _same_time(mine, theirs, slack):
            return Difference(db, key, "field-expiry", f"{name!r}: {mine} | {theirs}")
    return None


class Same:
    """What stands for two values whose answers were the same byte for byte."""


SAME = Same()


class Half:
    """What one side says of a batch of keys: heads, then values and field expiries by the key's place."""

    def __init__(self, side: Side, db: int, args: Sequence[bytes]) -> None:
        self.side, self.db, self.args = side, db, args
        self.wire = side.wire(db)
        self.heads = Heads([], [], [])
        self.values: dict[int, Any] = {}
        self.fields: dict[int, dict[bytes, Range]] = {}
        self.asked: list[tuple[int, list[list[bytes]]]] = []  # hashes, by place, and their fields in parts

    def reading(self, type: bytes, places: Sequence[int], full: bool) -> bytes:
        return reading(type, [self.args[i] for i in places], full)

    def take(self, type: bytes, places: Sequence[int], answer: bytes, counters: bool) -> None:
        """Take values from raw answers."""
        for i, value in zip(places, replies(answer), strict=True):
            self.values[i] = canonical(type, value, counters)

    def timed(self, places: Sequence[int]) -> list[int]:
        """Those of `places` that are hashes whose fields may expire."""
        hashes = places if self.side.has_field_expiry else ()
        return [i for i in hashes if self.heads.types[i] == b"hash" and isinstance(self.values[i], dict)]

    def ask_times(self, places: Sequence[int]) -> None:
        """Ask for the expiries of fields of hashes; `take_times` reads the answer."""
        self.asked = [(i, fields_in_parts(self.values[i])) for i in places]
        self.wire.send(b"".join(asking_times(self.args[i], parts) for i, parts in self.asked))

    def take_times(self) -> None:
        (answer,) = self.wire.receive()
        asked = [(i, names) for i, parts in self.asked for names in parts]
        for (i, names), times in zip(asked, replies(answer), strict=True):
            if isinstance(times, list) and max(times) >= 0:
                moments = {name: (at, at) for name, at in zip(names, times, strict=True) if at >= 0}
                self.fields.setdefault(i, {}).update(moments)

    def state(self, i: int) -> State | None:
        type = self.heads.types[i]
        if type == GONE:
            return None
        return State(type, self.values[i], self.heads.expiries[i], self.fields.get(i, {}))


class Batch:
    """A batch of keys on both sides."""

    def __init__(self, a: Side, b: Side, dbs: tuple[int, int], keys: Sequence[bytes]) -> None:
        self.keys = keys
        self.db = dbs[0]
        args = [arg(key) for key in keys]
        self.a, self.b = Half(a, dbs[0], args), Half(b, dbs[1], args)
        self.both = (self.a, self.b)
        self.counters, self.full = a.counters and b.counters, a.full and b.full
        self.timed = b.has_field_expiry  # a target without has nothing to be wrong
        for half in self.both:
            half.side.ask_heads(half.db, args)
        for half in self.both:
            half.heads = half.side.heads(half.db, args)

    def differences(self, slack: Slack) -> Iterator[Difference]:
        for places in self._cuts():
            self._read(places)
            now_ms = self.a.side.now_ms()
            for i in places:
                if self._plainly_same(i, slack):
                    continue
                here = _alive(self.a.state(i), now_ms, 0)
                there = _alive(self.b.state(i), now_ms, slack.shift_ms)
                if difference := _judge(self.db, self.keys[i], here, there, slack):
                    yield difference
            for half in self.both:
                half.values.clear()
                half.fields.clear()

    def _plainly_same(self, i: int, slack: Slack) -> bool:
        """Whether nothing needs to be weighed: the same value, and no expiry or exactly the right one."""
        a, b = self.a, self.b
        if a.values.get(i, a) is not b.values.get(i, b) or a.fields.get(i) or b.fields.get(i):
            return False
        mine, theirs = a.heads.expiries[i], b.heads.expiries[i]
        if NEVER in (mine, theirs):
            return mine == theirs
        return mine[0] == mine[1] and theirs == (mine[0] + slack.shift_ms, mine[0] + slack.shift_ms)

    def _cuts(self) -> Iterator[range]:
        """Places of keys whose values may be held together."""
        start = held = 0
        for i, sizes in enumerate(zip(self.a.heads.sizes, self.b.heads.sizes, strict=True)):
            if held + max(sizes) > BATCH_BYTES and i > start:
                yield range(start, i)
                start, held = i, 0
            held += max(sizes)
        yield range(start, len(self.keys))

    def _read(self, places: Sequence[int]) -> None:
        """Read the values, type by type, where both sides have the same; then field expiries."""
        alike: dict[bytes, list[int]] = {}
        single: dict[tuple[Half, bytes], list[int]] = {}
        for i in places:
            mine, theirs = self.a.heads.types[i], self.b.heads.types[i]
            if mine == theirs != GONE:
                alike.setdefault(mine, []).append(i)
            else:
                for half in self.both:
                    if (type := half.heads.types[i]) != GONE:
                        single.setdefault((half, type), []).append(i)
        requests = [self.a.reading(type, group, self.full) for type, group in alike.items()]
        for half in self.both:
            half.wire.send(*requests)
        for (type, group), mine, theirs in zip(
            alike.items(), self.a.wire.receive(), self.b.wire.receive(), strict=True
        ):
            self._take(type, group, mine, theirs)
        for (half, type), group in single.items():
            (answer,) = half.wire.ask(half.reading(type, group, self.full))
            half.take(type, group, answer, self.counters)
        self._read_times(places)

    def _take(self, type: bytes, group: list[int], mine: bytes, theirs: bytes) -> None:
        same = mine == theirs and not mine.startswith(b"-") and b"\r\n-" not in mine  # none refused, to be sure
        if same and not (type == b"hash" and self.timed):
            for half in self.both:
                half.values.update(dict.fromkeys(group, SAME))
            return
        self.a.take(type, group, mine, self.counters)
        if not same:
            self.b.take(type, group, theirs, self.counters)
        for i in group:
            if same or self.a.values[i] == self.b.values[i]:
                self.b.values[i] = self.a.values[i]

    def _read_times(self, places: Sequence[int]) -> None:
        """Expiries of the fields of hashes, of both sides at once."""
        for half in self.both:
            half.ask_times(half.timed(places) if self.timed else ())
        for half in self.both:
            half.take_times()


def _suspects(a: Side, b: Side, pairs: dict[int, int], slack: Slack) -> Iterator[Difference]:
    """All keys that differ at this moment: the source's, and those of the target that the source lacks."""
    for ours, theirs in sorted(pairs.items()):
        for keys in a.batches(ours):
            yield from Batch(a, b, (ours, theirs), keys).differences(slack)
        for keys in b.batches(theirs):
            if extra := a.lacks(ours, keys):
                yield from Batch(a, b, (ours, theirs), extra).differences(slack)


def _again(a: Side, b: Side, pairs: dict[int, int], slack: Slack, found: list[Difference]) -> list[Difference]:
    """Those of `found` that still differ."""
    by_db: dict[int, list[bytes]] = {}
    for difference in found:
        by_db.setdefault(difference.db, []).append(difference.key)
    left: list[Difference] = []
    for db, keys in by_db.items():
        for at in range(0, len(keys), 500):
            left += Batch(a, b, (db, pairs[db]), keys[at : at + 500]).differences(slack)
    return left


def compare(
    source: str,
    target: str,
    *,
    shift_ms: int = 0,
    tolerance_ms: int = 0,
    dbs: dict[int, int] | None = None,
    tries: int = 3,
    pause: float = 0.3,
) -> list[Difference]:
    """All keys of two servers that differ; empty when they are equal. It ends early after MOST of them.

    Args:
        source: URL without a database number.
        target: the same.
        shift_ms: how far expiries of the target must lie behind the source's.
        tolerance_ms: how far they may be off: a source before 7.0 sends relative times.
        dbs: source to target numbers; all, each to its own, when left out.
        tries: readings, `pause` seconds apart, of a key that differs (a write on its way) until it counts.
    """
    a, b = Side(source), Side(target)
    try:
        return _compare(a, b, dbs, Slack(shift_ms, tolerance_ms), [pause] * (tries - 1))
    finally:
        a.close()
        b.close()


def _compare(a: Side, b: Side, dbs: dict[int, int] | None, slack: Slack, pauses: list[float]) -> list[Difference]:
    pairs = dbs if dbs is not None else {db: db for db in a.dbs | b.dbs}
    found: dict[tuple[int, bytes], Difference] = {}
    waiting: dict[tuple[int, bytes], Difference] = {}

    def settle() -> None:
        left = list(waiting.values())
        waiting.clear()
        for pause in pauses:
            if left:
                time.sleep(pause)
                left = _again(a, b, pairs, slack, left)
        found.update({(difference.db, difference.key): difference for difference in left})

    for difference in _suspects(a, b, pairs, slack):
        waiting[difference.db, difference.key] = difference
        if len(waiting) >= SUSPECTS:
            settle()
        if len(found) >= MOST:
            break
    settle()
    different = [found[place] for place in sorted(found)]
    if min(a.version, b.version) >= (7, 0) and (here := a.functions()) != (there := b.functions()):
        names = {item[0] for item in set(here) ^ set(there)}
        different.append(Difference(-1, b"", "functions", f"libraries {sorted(names)!r} differ"))
    return different


def same(source: str, target: str, **kw: Any) -> None:
    """Assert that `compare` finds nothing, and show the first differences when it does."""
    found = compare(source, target, **kw)
    kinds = {kind: sum(1 for d in found if d.kind == kind) for kind in {d.kind for d in found}}
    assert not found, f"{len(found)} keys differ {kinds}:\n" + "\n".join(str(d) for d in found[:15])

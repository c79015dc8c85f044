"""A pass over all keys of a source that is followed by notifications, and of its target: for what those do not tell.

    renewed  the source is walked over; keys that the target has otherwise are told, and so read again
    gone     the target is walked over; keys that the source has no more, and that this task has brought, are told

A key is compared once the target has all that was in the log before the source was asked for it. What is written into
the log behind that was read later; so a key that is found equal stays right, whatever is on its way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sync_tasks.endpoints import Endpoint
from sync_tasks.names import KEY_PREFIX
from sync_tasks.slots import Ranges, has
from sync_tasks.throttle import reading_limits
from sync_tasks.views import NodeView, TaskView
from workers import resync
from workers.alike import alike
from workers.aside import Aside, Kept
from workers.codec.digest_cy import among, distinct
from workers.expiry import FIELD_HOLD, held, source_time
from workers.lanes import each
from workers.pace import Pace
from workers.ports import StreamPort
from workers.scope import Scope
from workers.source.survey import Survey
from workers.spool.hash_files import bits_of
from workers.spool.known import Known
from workers.spool.log import Log
from workers.target.databases import holding
from workers.target.expiries import Expiries
from workers.target.link import TargetLink
from workers.told import Told

SCANNED = 1000
BATCH = 50
"""Keys that either side is asked for at once."""
PAGE_BYTES = 4 << 20
"""Of values of the source, about, for which the target is awaited once."""
MOST_LACKING = 50_000
"""So many keys of the target that the source lacks are looked up at once among those that were brought."""
State = tuple[bytes | Kept | None, int]
"""Payload, and time in ms since the epoch; -1: none, -2: no such key."""
Steps = Iterator[bool]
"""Of the work; each says whether something was done, and not only waited for."""


@dataclass(slots=True)
class Tally:
    """What a pass has found."""

    keys: int = 0  # that the source has in scope, some counted twice
    renewed: int = 0
    gone: int = 0
    unknown: int = 0  # on the target, not at the source, and nobody knows whether they were brought


class Reconciling:
    """One pass.

    Args:
        port: the claimed job.
        source: is walked over, on a connection of its own.
        target: the same.
        scope: what travels.
        told: told of what is to be read again.
        log: of the node.
        known: what the task has brought.
        committed: the offset that the target has.
        wary: the source is another process than before, and may have lost its data.
    """

    def __init__(
        self,
        port: StreamPort,
        source: Survey,
        target: Endpoint,
        scope: Scope,
        told: Told,
        log: Log,
        known: Known,
        committed: Callable[[], int | None],
        *,
        wary: bool = False,
    ) -> None:
        self._port, self._source, self._target, self._scope = port, source, target, scope
        self._told, self._log, self._known, self._committed = told, log, known, committed
        self._wary = wary
        self._extend_ms = port.task.spec.extend_expiry_s * 1000
        self._pace = Pace()
        self.tally = Tally()

    def steps(self) -> Steps:
        """All of it. Raises what source and target answer; SourceError if the source seems to have lost its data."""
        self._take_in(self._port.node())
        if self._wary:
            self._check_emptied()
        yield from self._renewed()
        self._known.fold(self._log)
        for place, task in each(self._port.task, self._target):
            link = TargetLink(place, f"keyferry-{task.uid}-reconcile", task.home)
            try:
                yield from self._gone(link, task.home)
            finally:
                link.close()

    def _check_emptied(self) -> None:
        scope, keys = self._scope, 0
        source_keys = self._source.keys(scope.databases) or 0
        for place, task in each(self._port.task, self._target):
            link = TargetLink(place, f"keyferry-{task.uid}-reconcile", task.home)
            try:
                keys += resync.keys_there(link, scope)
            finally:
                link.close()
        resync.check_emptied(source_keys, min(keys, resync.brought(self._port.node(), self._known)))

    # --- what the source has

    def _renewed(self) -> Steps:
        there = _There(self._target, self._port.task, self._log.directory)
        try:
            for db in sorted(self._source.spaces()[1]):
                if self._scope.target(db) is not None:
                    yield from self._walk(db, there)
        finally:
            there.close()

    def _walk(self, db: int, there: _There) -> Steps:
        cursor = -1
        while cursor != 0:
            yield from self._paced(1)
            self._source.beyond(0)  # the keys that are told are read by the same
            cursor, names = self._source.scan(db, max(cursor, 0), SCANNED)
            self._pace.took(self._source.beyond(1), 0)
            mine = [one for one in _theirs(dict.fromkeys(names)) if self._scope.takes(db, one)]
            self.tally.keys += len(mine)
            while mine:
                said, size = dict[bytes, State](), 0
                while mine and size < PAGE_BYTES:
                    yield from self._paced(2 * BATCH)
                    self._source.beyond(0)
                    said |= self._said(db, mine[:BATCH])
                    self._pace.took(self._source.beyond(2 * BATCH), 0)
                    size, mine = sum(len(value) for value, _ in said.values() if isinstance(value, bytes)), mine[BATCH:]
                    yield True
                yield from self._compare(db, said, there)
            yield True

    def _said(self, db: int, names: list[bytes]) -> dict[bytes, State]:
        """What the source has."""
        keys = [(db, name) for name in names]
        said = self._source.values(keys)
        return dict(zip(names, zip(said.values, self._source.exact(keys, said), strict=True), strict=True))

    def _compare(self, db: int, said: dict[bytes, State], there: _There) -> Steps:
        """Tell those that the target has otherwise."""
        upto, to = self._log.end or 0, self._scope.target(db)
        assert to is not None
        while (self._committed() or 0) < upto:
            yield False
        names = list(said)
        for at in range(0, len(names), BATCH):
            found = there.read(to, names[at : at + BATCH])
            for name, (other, time_ms) in found.items():
                value, when = said[name]
                if not (self._is_due(when, time_ms) and alike(value, other, (0, self._extend_ms, FIELD_HOLD))):
                    self._tell((db, name))
            yield True

    def _is_due(self, when: int, there: int) -> bool:
        """Whether a time on the target is what the stream makes of the source's."""
        if when < 0 or there < 0:
            return when == there
        return there in (when, when + self._extend_ms) or (held(there) and source_time(there)[0] == when)

    def _tell(self, at: tuple[int, bytes]) -> None:
        self.tally.renewed += 1
        self._told.touch(at)

    def _paced(self, commands: int) -> Steps:
        while self._waits():
            yield False
        self._pace.took(commands, 0)

    def _waits(self) -> bool:
        """Whether nothing may be asked now; how fast it may go may have been changed since."""
        self._pace.limits = reading_limits(self._port.task.spec.throttle, 1)
        return self._pace.wait_s() > 0

    # --- what the target has

    def _take_in(self, node: NodeView) -> None:
        """What was loaded, and what the log has named, is ours."""
        if node.gen not in self._known.gens:
            self._known.add(
                node.gen, [(c.db, c.path, c.keys) for c in self._port.chunks(node.gen, every=True)]
            )
        self._known.fold(self._log)

    def _gone(self, link: TargetLink, home: int) -> Steps:
        for to in holding(link, self._scope):
            cursor, lacking = b"", list[bytes]()
            while cursor != b"0":
                yield from self._paced(1)
                ask: list[list[bytes | int]] = [
                    [b"SELECT", to], [b"SCAN", cursor or b"0", b"COUNT", SCANNED], [b"SELECT", home],
                ]  # fmt: skip
                cursor, names = link.ask_all(ask)[1]
                lacking += self._lacking(to, _theirs(names))
                if len(lacking) >= MOST_LACKING or cursor == b"0":
                    self._tell_ours(to, lacking)
                    lacking = []
                yield True

    def _lacking(self, to: int, names: list[bytes]) -> list[bytes]:
        """Those that may have come from the source, and that it does not have."""
        left = [name for name in names if any(self._scope.takes(db, name) for db in self._scope.sources(to))]
        for db in self._scope.sources(to):
            mine = [name for name in left if self._scope.takes(db, name)]
            if mine:
                there = {name for name, found in zip(mine, self._source.there(db, mine), strict=True) if found}
                left = [name for name in left if name not in there]
        return left

    def _tell_ours(self, to: int, names: list[bytes]) -> None:
        """Those that this task has brought."""
        if not names:
            return
        left = set(names)
        for db in self._scope.sources(to):
            bits = bits_of(self._known.count(db))
            for part in range(1 << bits):
                for name in among(names, distinct(self._known.part(db, bits, part)), self._known.seed):
                    if self._scope.takes(db, name):
                        self.tally.gone += name in left
                        left.discard(name)
                        self._told.touch((db, name))
        if not self._known.whole:
            self.tally.unknown += len(left)


class _There:
    """What the target has: one server, or of a cluster the node that has each lane.

    Args:
        spool: a directory for long values.
    """

    def __init__(self, target: Endpoint, task: TaskView, spool: Path) -> None:
        self._home, self._spool = task.home, spool
        self._parts: list[tuple[Ranges | None, TargetLink, Expiries]] = []
        given: list[tuple[Ranges | None, Endpoint]] = [
            (lane.slots, target.serving(lane.home)) for lane in task.lanes if lane.slots
        ]
        for slots, place in given or [(None, target)]:
            link = TargetLink(place, f"keyferry-{task.uid}-values", task.home)
            self._parts.append((slots, link, Expiries(place, task.home, fields=False)))

    def read(self, db: int, names: list[bytes]) -> dict[bytes, State]:
        """What is there; of a cluster whose slots have moved, not of all."""
        found: dict[bytes, State] = {}
        for slots, link, times in self._parts:
            mine, aside = [name for name in names if has(slots, name)], Aside(self._spool)
            ask: list[list[bytes | int]] = [[b"SELECT", db]]
            ask += [[b"DUMP", one] for one in mine]
            ask.append([b"SELECT", self._home])
            payloads = [one if isinstance(one, bytes) else None for one in link.try_all(ask, aside)[1:-1]]
            for name, payload, one in zip(mine, payloads, times.read(db, mine, hashes=False), strict=True):
                found[name] = (aside.values.get(payload, payload) if payload else None), one.when
        return found

    def close(self) -> None:
        for _, link, times in self._parts:
            link.close()
            times.close()


def _theirs(names: Iterable[bytes]) -> list[bytes]:
    """Without Keyferry's own keys."""
    return [name for name in names if not name.startswith(KEY_PREFIX)]


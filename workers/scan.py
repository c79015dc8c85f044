"""A source that is read by SCAN and DUMP: its databases are cut into ranges, which load workers read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from sync_tasks.dumps import mark
from sync_tasks.slots import ALL, meet, size
from sync_tasks.views import NodeView
from workers.from_here import NO_VERSION
from workers.receive import STEP_S
from workers.scope import Scope
from workers.source.cluster_survey import survey_of
from workers.source.psync import Full
from workers.source.survey import Survey
from workers.spool.chunks import Closed
from workers.spool.damage import is_damaged, is_outdated
from workers.spool.ranges import Range, SlotRange, bits_of, cut
from workers.spool.sorted import keep
from workers.spool.tables import write_tables
from workers.unstreamed import OFFSET, Unstreamed


class ScanReceiver(Unstreamed):
    """Cuts the source into ranges, and waits until they are loaded. Arguments as of `Receiver`."""

    def _bring(self) -> None:
        source = survey_of(self.endpoint)
        try:
            self._plan(source)
        finally:
            source.close()

    def _goes_on(self, node: NodeView) -> bool:
        return super()._goes_on(node) and (node.begun or not is_outdated(self.snapshots / f"gen-{node.gen}"))

    def _rest(self) -> None:
        """Until there is something to do: ranges are to be read anew, or the target has lost what it had."""
        told = False
        while not self.stop_event.wait(STEP_S):
            node = self.port.node()
            if self._must_begin(node):
                return
            if not told and node.snapshot_done:
                told = self._count(node)

    def _must_begin(self, node: NodeView) -> bool:
        """Whether something is to be read anew."""
        snapshot = self.snapshots / f"gen-{node.gen}"
        if self.log.wanted is not None or self._is_anew() or is_damaged(snapshot):
            return True
        if not node.begun and is_outdated(snapshot):
            return True
        return self._publisher is not None and self._publisher.error is not None

    def _count(self, node: NodeView) -> bool:
        """Say how many keys it were, once all are loaded; whether they are."""
        state = self.port.load_state(node.gen)
        if state.done < state.chunks:
            return False
        self.port.progress({"keys_total": state.keys_done, "bytes_total": state.bytes_done})
        return True

    def _plan(self, source: Survey) -> None:
        scope = Scope(self.port.task.databases, self.port.task.spec.filter, self._slots)
        codes = self._codes(source)
        run, spaces = source.spaces()
        mine = {db: keys for db, keys in spaces.items() if scope.target(db) is not None and keys}
        version = next((found for db in mine if (found := source.version(db)) is not None), NO_VERSION)
        place, begins = self._place(run)
        gen = self._new_generation(place, None)
        directory = self.snapshots / f"gen-{gen}"
        directory.mkdir(parents=True, exist_ok=True)
        for old in directory.iterdir():
            old.unlink()
        write_tables(directory, version, codes, [])
        keep(directory, self.port.task.lanes)
        if self.stored is not None:
            self.stored.put_tables(directory)
        publisher = self._publisher_of(gen, written=False)
        for one in self._ranges(source, run, mine, directory):
            publisher.put(one if self.stored is None else replace(one, path=self.stored.recorded(Path(one.path))))
        self._known.begin(place.offset, begins)
        self.log.reset(place.replid, place.offset)
        self.port.progress({"stream_db": begins})
        publisher.end(partial(self.port.end_snapshot, gen, sum(mine.values()), None))
        self._publisher = publisher

    def _codes(self, source: Survey) -> list[bytes]:
        """Of its function libraries; nothing else was read of it before."""
        return source.codes()

    def _place(self, run: str) -> tuple[Full, int]:
        """Where what follows begins, and the database there."""
        return Full(self._id(run), OFFSET), 0

    def _id(self, run: str) -> str:
        """Stands in the place of a replication id, of what this owner reads of a process."""
        return mark("scan", f"{self.port.task.uid} {run} {self.port.epoch}")

    def _ranges(self, source: Survey, run: str, spaces: dict[int, int], directory: Path) -> Iterator[Closed]:
        seq = 0
        for db, keys in sorted(spaces.items()):
            for lane, one, share in self._parts(source, run, db, keys):
                yield Closed(seq, db, lane, False, one.path(directory, seq), max(1, share), 0)
                seq += 1

    def _parts(
        self, source: Survey, run: str, db: int, keys: int
    ) -> Iterator[tuple[int, Range | SlotRange, int]]:
        """The ranges of a database, each with the lane whose keys are meant, and how many these are, about."""
        sorts = not self.port.task.spec.transform.active
        lanes = [(lane.number, lane.slots) for lane in self.port.task.lanes if lane.slots and sorts] or [(0, ALL)]
        if self._slots is not None:
            for lane, slots in lanes:
                for one, share in cut(meet(self._slots, slots) or (), keys / max(1, size(self._slots))):
                    yield lane, one, share
            return
        bits = 0 if source.is_clustered() else bits_of(keys, source.scan(db, 0, 1)[0])
        for index in range(1 << bits):
            for lane, _ in lanes:
                yield lane, Range(bits, index, run), (keys >> bits) // len(lanes)

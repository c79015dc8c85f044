"""A source that is read by SCAN, while its stream is followed without a snapshot.

The stream is continued from where the source stands (`workers.source.backlog`), and only then are keys read. So when
all ranges are loaded, each key that the stream does not name since is on the target as at the source. That is what an
addition beside the stream (`workers.adding`) comes to at the end of its walk, and as such it goes on: the first
checkpoint says that nothing is in scope so far, and that all of it is added. What the stream has named is put once
more, and in one moment all is in scope. From there on it is a stream as any.

A snapshot is never taken: what the source offers instead of its stream is declined, and its keys are read anew.
"""

from __future__ import annotations

from typing import Any

from sync_tasks.errors import ControlError, is_away
from sync_tasks.point import Point
from workers.added import CATCHING_UP, Addition, digest
from workers.scan import ScanReceiver
from workers.scope import Scope
from workers.source import backlog
from workers.source.ask import Source
from workers.source.psync import Full, ReplicaLink
from workers.source.survey import Survey
from workers.spool.damage import is_outdated
from workers.target.claim import STREAMING, Checkpoint

MOST_TRIES = 10
"""Function libraries that change all the time are taken as they were last."""


class ContinuedReceiver(ScanReceiver):
    """Arguments as of `Receiver`."""

    def __init__(self, *args: Any, **kw: Any) -> None:
        super().__init__(*args, **kw)
        self._counted = False
        self._begun: tuple[Point, ReplicaLink] | None = None  # where the stream begins, and a link that is there

    def _follow(self) -> None:
        self._await_publisher()
        self._mend_log()
        node = self.port.node()
        if not self._goes_on(node):
            if self.alone.is_set():
                raise self._too_late()
            self._ask_target_first(node)
            self._known.fold(self.log)
            self._over(self._brought(), self._go_on)
            return
        endpoint = self.place.choose(self.log.end)
        if not backlog.keeps(backlog.replication(endpoint), self.log.replid, self.log.end):
            self._decline()
        self._over(ReplicaLink(endpoint), self._resume)

    def _brought(self) -> ReplicaLink:
        """A link at the beginning of the log, in front of which all is being read."""
        try:
            self._bring()
        except BaseException:
            self._leave()
            raise
        assert self._begun is not None
        (_, link), self._begun = self._begun, None
        return link

    def _leave(self) -> None:
        begun, self._begun = self._begun, None
        if begun is not None:
            begun[1].close()

    def _go_on(self, link: ReplicaLink) -> None:
        """What has waited on the link was written a while ago."""
        self._fresh_until = self.source.offset()

    def _needed(self, found: Checkpoint) -> tuple[str, int, int]:
        """What the stream has named since all was loaded is to be known, if the source has that still."""
        state = Addition.parse(found.adding)
        if state is not None and state.replid == found.replid:
            said = backlog.replication(self.place.choose(None))
            if backlog.keeps(said, state.replid, state.base):
                return state.replid, state.base, state.db
        return super()._needed(found)

    def _mend_log(self) -> None:
        if self.log.wanted is not None:
            found = self._checkpoint()
            if found is not None and found.state == STREAMING and self.log.wanted[:2] == (found.replid, found.offset):
                self.log.wanted = self._needed(found)
        super()._mend_log()

    def _decline(self) -> None:
        """Go on where the target is, if that has come further; else all is read anew. Raises ConnectionLost."""
        self._gone = (self.log.replid, self.log.end)
        self._skip_ahead(self._checkpoint())
        raise backlog.declined()

    def _take(self, link: ReplicaLink, answer: Full) -> None:
        raise backlog.declined()

    def _bring(self) -> None:
        self._counted = False
        super()._bring()

    def _codes(self, source: Survey) -> list[bytes]:
        """As they are at the place where the stream begins: its commands on them come on top."""
        codes = source.codes()
        for _ in range(MOST_TRIES):
            self._leave()
            self._begun = backlog.begin(self.place.choose(None))
            before, codes = codes, source.codes()
            if codes == before:
                break
        return codes

    def _place(self, run: str) -> tuple[Full, int]:
        assert self._begun is not None
        point, _ = self._begun
        return Full(point.replid, point.offset), point.db

    def _acknowledge(self, link: ReplicaLink) -> bool:
        due = super()._acknowledge(link)
        if due and not self._counted:
            try:
                self._look()
            except ControlError as error:
                if not is_away(error):
                    raise
        return due

    def _look(self) -> None:
        """Whether ranges are to be read anew; and how many keys it were, once all are loaded."""
        node = self.port.node()
        if not node.begun and is_outdated(self.snapshots / f"gen-{node.gen}"):
            self.place.leave.set()
        elif node.snapshot_done:
            self._counted = self._count(node)


def loaded(scope: Scope, source: Source, replid: str, offset: int, db: int, extend_ms: int, keys: int) -> Addition:
    """All ranges are loaded: what is to be put once more, of what the stream has named meanwhile.

    Args:
        scope: of all that there will be.
        source: is asked where it stands by now: what was read may have effects of all up to there.
        replid, offset, db: where the stream begins.
        keys: so many were loaded.
    Raises what the source answers.
    """
    now = source.position()
    same = replid if now.replid == replid else ""  # another server's word: all is added anew, by a walk
    return Addition(
        digest(scope.extent), offset, db, same, extend_ms, read=now.offset, phase=CATCHING_UP, keys=keys, again=True,
        initial=True,
    )  # fmt: skip

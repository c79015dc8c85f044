"""A source that is read by SCAN, and then followed by its keyspace notifications.

A key that was told is read once more, and what it is by then is written into a log of our own: a RESTORE, or a DEL.
From there on all is as with a source's stream: the applier, its checkpoint and fences, filters, conversions. What is
lost of the notifications, when a connection ends or a database is emptied, a pass over all keys makes good
(`workers.reconcile`), and so it does for each new owner: what the last one has written behind the checkpoint may end in
the middle of a command, and is dropped.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from functools import partial
from hashlib import sha256
from typing import Any

from sync_tasks.dumps import KINDS
from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import ConnectionLost, ControlError, KeyferryError, Retry, Side, is_away
from sync_tasks.views import NodeView
from workers.aside import Kept
from workers.codec.resp_cy import encode
from workers.moment import now_ms
from workers.receive import STEP_S
from workers.reconcile import Reconciling, Steps
from workers.saying import said
from workers.scan import ScanReceiver
from workers.scope import Scope
from workers.source.cluster_survey import survey_of
from workers.source.followed import Followed
from workers.source.hearing import Hearing
from workers.source.survey import Survey
from workers.spool.room import when_there_is_room
from workers.target.claim import ENDED, FINISHED, STREAMING
from workers.told import Key, taken

BATCH = 100
"""Keys that are read in one transaction of the source."""
BLOCK_BYTES, MOST_BYTES = 1 << 20, 8 << 20
HELD_BACK = 50_000
AHEAD_BYTES = 64 << 20
"""While it loads, or the target has so much of the log to come, so many keys wait to be read."""
MOST_AHEAD = 20_000
"""With so many keys to be read, a pass over all of them rests."""
IDLE_S = 0.05
WAIT_S = 0.005
LOOK_S = 1.0
AGAIN_S = 5.0
SETTING_S = 5.0
KEEP_UP_S = 30.0
QUIET_S = 5.0
"""A life that goes on for so long, and so much longer than one that died of the source, finds it sound."""
PROCESS = 8
UPSET = (
    "a database was emptied or swapped, settings were changed, or the source has taken another server's data or place"
)

MOVED = "keys are at servers whose notifications were not heard"


class NotifiedReceiver(ScanReceiver):
    """Arguments as of `Receiver`, and

    Args:
        target: is compared with the source.
    """

    def __init__(self, *args: Any, target: Endpoint, **kw: Any) -> None:
        super().__init__(*args, **kw)
        assert isinstance(self.source, Followed)
        self._told, self._compared = self.source.told, target
        self._told.log = self.log
        self._notices: Hearing
        self._reader: Survey
        self._due: str | None = None  # why all keys are to be compared
        self._pass: tuple[Reconciling, Steps, str | None] | None = None
        self._next_at = self._not_before = self._looked_at = self._asked_at = self._kept_up_at = 0.0
        self._upset: object = None
        self._since, self._sure_s = 0.0, QUIET_S  # when this life began, and how long it must last to be sound
        self._begun = self._torn = self._fresh = self._counted = self._elsewhere = False
        self._run = self._kept = ""  # the source's process, and what stands for the one before, until all is compared
        self._db: int | None = None  # that the log has selected last
        self._seen: tuple[Any, Scope] | None = None
        self._cut()

    def _cut(self) -> None:
        """Drop what the log has behind the target, before anybody reads it. Raises what the target answers."""
        node = self.port.node()
        if self.log.replid is None:
            return
        if node.begun:
            found = self._checkpoint()
            if found is not None and found.state == STREAMING and found.gen >= node.gen:
                self._cut_behind(found.replid, found.offset, found.db, found.gen)
            elif found is None or found.state not in (FINISHED, ENDED):
                self.log.anew = True  # nobody knows where the log can be cut: it may end within a command
        elif node.snapshot_done and node.replid is not None and node.snapshot_offset is not None:
            self._cut_behind(node.replid, node.snapshot_offset, node.stream_db, node.gen)

    def _cut_behind(self, replid: str, offset: int, db: int, gen: int) -> None:
        """Drop what is behind the target, which stands there. Of a cluster, some parts may have come further: what lies
        between nobody can write once more, and they go on only from where they are."""
        last = self._furthest()
        if last is None or last.state != STREAMING or (last.gen, last.offset) <= (gen, offset):
            self._reset(replid, offset, db)
            return
        self._known.fold(self.log)
        if last.gen == gen and self.log.has(replid, offset) and self.log.has(last.replid, last.offset):
            with contextlib.suppress(ControlError):  # it is damaged
                self.log.cut(last.offset)
                self._known.go_on(last.offset, last.db)
                return
        self.log.anew = True

    def _mend_log(self) -> None:
        """Nobody but us has what the log has lost: it begins anew where the target is, or all of it is read anew."""
        wanted, node = self.log.wanted, self.port.node()
        if wanted is None:
            return
        found, last = self._checkpoint() if node.begun else None, self._furthest()
        places = [(node.replid, node.snapshot_offset)] if not node.begun else []
        places += [(found.replid, found.offset)] if found is not None and found.state == STREAMING else []
        further = last is not None and last.state == STREAMING and last.offset > wanted[1]
        if wanted[:2] in places and not further:
            super()._mend_log()
        else:
            self.log.wanted, self.log.anew = None, True

    def _id(self, run: str) -> str:
        """No two owners, nor two lives of one, write into the log under the same one. It says of which process of the
        source the target is known to have all keys."""
        self._kept = _process(run)
        return KINDS["scan"] + self._kept + secrets.token_hex(8)

    # --- one life of the subscription

    def _follow(self) -> None:
        self.place.choose(None)
        self._pass, self._db, self._fresh, self._elsewhere = None, None, False, False
        self._lose("what was told in between is lost")
        self._looked_at = self._asked_at = 0.0
        self._since = time.monotonic()
        self._told.inside = None
        if self._torn:
            self._torn, self.log.anew = False, True
        self._reader = survey_of(self.endpoint)
        self._reader.spool = self.log.directory
        self._notices = Hearing((), self._told, self._takes)
        try:
            self._notices = Hearing(self._reader.places(), self._told, self._takes)
            self._upset = self._reader.upset()  # first: what is changed while we subscribe is seen
            self._notices.begin()
            super()._follow()
        except KeyferryError as error:
            if error.side is Side.SOURCE and not isinstance(error, ConnectionLost):
                # It lies as far into the next life: a key that cannot be read, a source without its data.
                most = self.port.task.spec.retry.other_min * 30.0
                self._sure_s = min(max(self._sure_s, time.monotonic() - self._since + QUIET_S), most)
            raise
        finally:
            self.connected = False
            self._told.lose()
            self._notices.stop()
            self._reader.close()

    def _heal(self) -> None:
        """That it was reached says little: what it refused lately is asked for again later."""

    def _healed(self) -> None:
        """All was read, or more than up to where the source's error would have come again."""
        self._sure_s = QUIET_S
        self.port.healed("source")

    def _bring(self) -> None:
        self._told.forget()  # what was told before will be read now
        super()._bring()
        self._due, self._fresh = None, True
        self._told.mend()

    def _rest(self) -> None:
        self._run = self._reader.spaces()[0]
        if not self._fresh:
            self._kept = (self.log.replid or "")[len(KINDS["scan"]) :][:PROCESS]
            self._rename(KINDS["scan"] + self._kept + secrets.token_hex(8))
        self._counted, looked = False, 0.0
        self._next_at = time.monotonic() + self._every_s
        while not self.stop_event.is_set():
            now = time.monotonic()
            if now - looked >= STEP_S:
                looked = now
                if self._is_over():
                    return
                if now - self._since > self._sure_s:
                    self._healed()
            self._notices.check()
            read, worked = self._refresh(), self._reconcile(now)
            if not read and not worked:
                pause = IDLE_S if worked is None else WAIT_S
                (self.stop_event if self._holds else self._told).wait(pause)

    def _is_over(self) -> bool:
        """Whether another life is to begin. While the database is away, nobody can say so."""
        try:
            node = self.port.node()
            self._begun = node.begun
            if self._must_begin(node) or self.place.leave.is_set() or self._elsewhere:
                return True
            self._counted = self._counted or (node.snapshot_done and self._count(node))
        except ControlError as error:
            if not is_away(error):
                raise
        return False

    def _must_begin(self, node: NodeView) -> bool:
        return not self.alone.is_set() and super()._must_begin(node)

    @property
    def _every_s(self) -> float:
        return self.port.task.spec.reconcile_min * 60.0

    @property
    def _scope(self) -> Scope:
        """Of the settings as they are now: a suspended task may be given others."""
        task = self.port.task
        if self._seen is None or self._seen[0] is not task:
            self._seen = task, Scope(task.databases, task.spec.filter, self._slots)
        return self._seen[1]

    def _takes(self, db: int, key: bytes) -> bool:
        return self._scope.takes(db, key)

    # --- keys that were told

    @property
    def _holds(self) -> bool:
        """Whether they wait: one that changes all the time is read once when the target can take it."""
        waits = (self.log.end or 0) - (self.committed() or self.log.start or 0)
        return (not self._begun or waits > AHEAD_BYTES) and len(self._told) < HELD_BACK

    def _refresh(self) -> bool:
        """Read some of them, and write what they are. Whether there was any."""
        if self._holds:
            return False
        keys = self._told.take(BATCH)
        if not keys:
            return False
        try:
            self._write(taken(keys, self._scope.together), now_ms())
        except BaseException:
            self._told.back()
            raise
        self._told.done()
        return True

    def _write(self, keys: list[Key], moment: int) -> None:
        """What keys are now, as commands: those that are gone first, since another database may have what is the same
        key on the target.

        Args:
            moment: now, ms since the epoch.
        """
        said = self._reader.values(keys)
        times = self._reader.exact(keys, said)
        found = sorted(zip(keys, said.values, times, strict=True), key=lambda one: (one[1] is not None, one[0]))
        data = bytearray()
        for (db, key), value, when in found:
            if db != self._db:
                data += encode([b"SELECT", b"%d" % db])
                self._db = db
            if value is None:
                data += encode([b"DEL", key])
            elif isinstance(value, Kept):
                self._append(data, moment)
                data = bytearray()
                self._append_long(key, value, when, moment)
            else:
                data += encode([b"RESTORE", key, b"%d" % max(0, when), value, b"REPLACE", b"ABSTTL"])
            if len(data) >= BLOCK_BYTES:
                self._append(data, moment)
                data = bytearray()
        self._append(data, moment)

    def _rename(self, replid: str) -> None:
        """Go on under another id. Nothing is at a place under that id before something has come there: a command that
        changes nothing is written, since an idle source would bring none."""
        self.log.rename(replid)
        if self._db is None:
            self._db = min(self._reader.spaces()[1], default=0)
        self._append(encode([b"SELECT", b"%d" % self._db]), now_ms())

    def _append(self, data: bytes | bytearray, moment: int) -> None:
        for at in range(0, len(data), MOST_BYTES):
            write = partial(self.log.append, bytes(data[at : at + MOST_BYTES]), moment)
            when_there_is_room(write, self._waiting, self.stop_event.is_set)
            self._has_room()

    def _append_long(self, key: bytes, value: Kept, when: int, moment: int) -> None:
        """A RESTORE in several blocks."""
        words = (b"RESTORE", key, b"%d" % max(0, when))
        self._torn, self._told.inside = True, self._told.position()
        head = b"*6\r\n" + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)
        self._append(head + b"$%d\r\n" % value.size, moment)
        for block in value.read(0, value.size):
            self._append(block, moment)
        self._append(b"\r\n$7\r\nREPLACE\r\n$6\r\nABSTTL\r\n", moment)
        self._torn, self._told.inside = False, None

    # --- all keys

    def _reconcile(self, now: float) -> bool | None:
        """A step of a pass, if one is due. Whether something was done; None: there is nothing to do."""
        self._look(now)
        if not self._begun or self.alone.is_set():
            return None
        self._keep_up(now)
        if len(self._told) > MOST_AHEAD:
            return False
        try:
            if self._pass is None:
                if now < (self._next_at if self._due is None else self._not_before):
                    return None
                self._begin_pass()
            assert self._pass is not None
            for worked in self._pass[1]:
                return worked
        except KeyferryError as error:
            if error.side is Side.SOURCE or error.retry is Retry.FATAL:
                raise  # the subscription may be over as well
            self._due, self._pass = self._due or "it had not come to its end", None
            self._not_before = now + max(AGAIN_S, self.port.failing(error))
            return None
        self._end_pass()
        return True

    def _begin_pass(self) -> None:
        made = Reconciling(
            self.port, self._reader, self._compared, self._scope, self._told, self.log, self._known, self.committed,
            wary=self._kept != _process(self._run),
        )  # fmt: skip
        why, self._due = self._due, None
        self._pass = made, made.steps(), why

    def _end_pass(self) -> None:
        assert self._pass is not None
        made, _, why = self._pass
        self._pass, self._next_at = None, time.monotonic() + self._every_s
        if self._kept != _process(self._run):
            self._rename(self._id(self._run))
        if self._due is None:
            self._told.mend()
        self._healed()
        found = made.tally
        told = f"{found.renewed} of {found.keys} keys differed, and {found.gone} were gone"
        said(self.port.event, "reconciled", f"all keys were compared{f': {why}' if why else ''}; {told}")
        if found.unknown:
            said(
                self.port.event, "unverified",
                f"{found.unknown} keys of the target are not at the source; whether this task has brought them is not"
                " known any more: they stay",
            )  # fmt: skip

    def _look(self, now: float) -> None:
        """Whether something has happened that no notification tells of."""
        if self._told.overflowed():
            self._lose("more keys were changed than could be remembered")
        if now - self._looked_at < LOOK_S and not self._told.awaited:
            return
        number, self._looked_at = self._told.look(), now
        upset = self._reader.upset()
        if upset != self._upset:
            self._upset = upset
            self._lose(UPSET)
        if self._reader.strangers():
            self._elsewhere = True  # another life listens to them, too
            self._lose(MOVED)
        if now - self._asked_at >= SETTING_S or self._told.awaited:
            self._asked_at = now
            self._notices.setting()
        self._told.looked(number)

    def _keep_up(self, now: float) -> None:
        """Begin the log anew where the target is, if that has come further: another owner has just been there."""
        if self.committed() is None and now - self._kept_up_at > KEEP_UP_S:
            self._kept_up_at = now
            with contextlib.suppress(KeyferryError):
                found = self._checkpoint()
                if found is not None and found.state == STREAMING and found.offset > (self.log.end or 0):
                    self.log.wanted = found.replid, found.offset, found.db

    def _lose(self, why: str) -> None:
        """Something was not told: a pass is due, another one if one goes on."""
        self._due = why
        self._told.lose()


def _process(run: str) -> str:
    """What stands for a process of a source."""
    return sha256(run.encode()).hexdigest()[:PROCESS]

"""What of a task's scope the target has, connection by connection: it may be given another one while it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NoReturn

from sync_tasks import slots as hash_slots
from sync_tasks.extent import Extent
from sync_tasks.names import checkpoint_key, taken_key
from sync_tasks.slots import Ranges
from sync_tasks.topology import shortened
from sync_tasks.views import TaskView
from workers import handed
from workers.added import Added, Addition, Former
from workers.adding import Adding
from workers.clock import Clock
from workers.compose import emit
from workers.leaving import Leaving
from workers.left_out import LeftOut
from workers.others import Others
from workers.ports import StreamPort
from workers.scope import Scope
from workers.source.ask import Source
from workers.spool.known import Known
from workers.spool.log import Log
from workers.target.claim import Checkpoint
from workers.target.expiries import Expiries
from workers.target.knows import Knows
from workers.target.link import TargetLink, lost
from workers.target.windows import Chain, commit
from workers.transformers import rewriter_of
from workers.trimmed import may_trim


class Extending:
    """Of one applier.

    Args:
        scope: what the task is to copy.
        task: says what its run had before.
        log, source, known, clock: of the node.
        pause: sleeps so many seconds; raises when the job is to stop.
        port: told what people should know; knows the task's other source nodes, and what was given up to them.
        left_out: what the target has no place for.
    """

    def __init__(
        self,
        scope: Scope,
        task: TaskView,
        log: Log,
        source: Source,
        known: Known,
        clock: Clock,
        pause: Callable[[float], None],
        port: StreamPort,
        left_out: LeftOut,
    ) -> None:
        self._scope, self._first = scope, next(iter(task.former), scope.extent.text)
        self._uid = task.uid
        self._transform = task.spec.transform  # one that was given since the addition began
        self._former = [*map(Extent.parse, task.former)]
        if scope.extent.slots is not None:  # a slot that moves, at either end, has what another stream has brought
            self._former.append(Extent.of(task.databases, task.spec.filter))
        self._log, self._source, self._known, self._clock = log, source, known, clock
        self._pause, self._tell, self._left_out, self._port = pause, port.event, left_out.add, port
        self._last: Adding | None = None  # of the last connection
        self._left: Leaving | None = None  # of the last connection
        self._leaves = ""  # as `Checkpoint.leaving`, once `say` has said so
        self.whole = False  # nothing is being added to what the stream acts on
        self.serves: Callable[[], bool] = lambda: True  # the source has all that the node is to carry

    def so_far(self, found: Checkpoint) -> Scope:
        """What the stream acts on behind a checkpoint: what the target has of the task's scope."""
        both = self._before(found).meet(self._scope.extent)
        self.whole = both == self._scope.extent
        return self._scope if self.whole else Scope.within(both, self._scope)

    def _before(self, found: Checkpoint) -> Extent:
        """An earlier version did not write it down: it was what the run began with.

        Of slots that its lane has given up since, another one may have gone further meanwhile: they begin anew.
        """
        extent, lane = Extent.parse(found.extent or self._first), self._scope.lane
        if lane is None:
            return extent
        # Of a later turn than the database knows, nobody can say what was given up.
        return extent.without(lane.given_since(found.turn) if found.turn <= lane.turn else hash_slots.ALL)

    def former(self, found: Checkpoint) -> tuple[Scope, Former] | None:
        """Behind an addition: what was in scope before it, and where it ended."""
        former = Former.parse(found.adding)
        return None if former is None else (Scope.within(former.extent, self._scope), former)

    def say(self, chain: Chain, found: Checkpoint, scope: Scope) -> None:
        """What is not in scope any more is let go: from here on the target need not be exact there. Raises Wanted."""
        was, node = self._before(found), self._port.node()
        gone = handed.given_up(was, self._scope.slots, self._scope.lane)
        trims = bool(gone) and may_trim(self._source.kind_if_there())
        more = self._unsaid(found, was).union(hash_slots.members(gone) if trims else ())
        self._leaves = handed.to_leave(found, was, self._scope, scope.extent.acts_on, more)
        adding = self._begun(found, scope)
        now = scope.extent.text, scope.turn, adding, self._leaves
        if (found.extent, found.turn, found.adding, found.leaving) == now:
            return
        if gone and not trims and node.shard is not None and handed.is_before(node, found):
            end = node.shard.drained[1]
            handed.clear(chain, self._log, self._source, found, was, gone, end, self._pause)
        window = chain.own_window()
        emit(window, [b"HSET", chain.ck, *scope.fields], window.end)
        for name, before, after in ((b"adding", found.adding, adding), (b"leaving", found.leaving, self._leaves)):
            if before != after:
                emit(window, [b"HSET", chain.ck, name, after.encode()], window.end)
        commit(chain, window)
        if not scope.extent.covers(was.without(gone)):  # what slots had went with them
            held = "; expiries there that are held stay so" if found.held else ""
            self._tell("narrowed", f"what was taken away is left as it is at offset {found.offset}{held}")

    def loads(self, link: TargetLink, found: Checkpoint | None) -> list[list[bytes | int]]:
        """What is to be said with the beginning of a full sync in place: of slots that it brings, and on which the
        stream does not act, that they are being taken up; its loaders put keys there. If another stream begins with
        some behind this, the next transaction is void.

        Args:
            link: in the checkpoint's database.
            found: the checkpoint there.
        Raises ConnectionLost while another stream has such a slot.
        """
        if self._scope.slots is None or self._scope.extent.slots is None:
            return []
        was = Extent(databases={}) if found is None else self._before(found)
        addition = None if found is None else Addition.parse(found.adding)
        gained = hash_slots.members(self._scope.extent.slots) - hash_slots.members(was.acts_on)
        if not gained:
            return []
        fresh = gained if addition is None else gained - hash_slots.members(hash_slots.read(addition.slots))
        said = Others(link, self._uid, self._port.others()).watch()
        theirs = {one for one in gained if said.acts >> one & 1} | {one for one in fresh if said.any >> one & 1}
        if theirs:
            raise lost(
                f"a full sync in place is needed, and slots {shortened(theirs)} are another stream's still by what the"
                " target says"
            )
        node = self._port.node().number
        ck, slots = checkpoint_key(self._uid, node), hash_slots.written(hash_slots.ranges(gained))
        adding = Addition("", 0, 0, "", 0, slots=slots).text
        leaving = "" if found is None else handed.to_leave(found, was, self._scope, ())
        return [
            [b"HSET", ck, b"adding", adding.encode(), b"leaving", leaving.encode()],
            [b"SET", taken_key(self._uid, node), ck],
        ]

    def trim(self, chain: Chain, scope: Scope, slots: Ranges) -> NoReturn:
        """The source has emptied slots, all at once: they are not in scope from here on, and to be left. What was being
        added is begun anew, and is said to be meanwhile. Nothing may be in flight. Raises Added, or what the target
        answers."""
        gone = hash_slots.members(slots)
        acts = replace(scope.extent, slots=hash_slots.ranges(hash_slots.members(scope.extent.acts_on) - gone))
        left = hash_slots.written(hash_slots.ranges(gone | hash_slots.members(hash_slots.read(self._leaves))))
        window = chain.own_window()
        emit(window, [b"HSET", chain.ck, b"extent", acts.text.encode(), b"leaving", left.encode()], window.end)
        if (addition := Addition.parse((chain.link.ask(b"HGET", chain.ck, b"adding") or b"").decode())) is not None:
            emit(window, [b"HSET", chain.ck, b"adding", replace(addition, to="").text.encode()], window.end)
        commit(chain, window)
        self._tell("slots", f"the source has emptied slots {shortened(gone)} as a whole, at offset {window.end}")
        raise Added

    def _begun(self, found: Checkpoint, scope: Scope) -> str:
        """As `Checkpoint.adding`, unless nobody goes on with it: an addition to slots that the lane has given up since,
        where what it had put may have come back anew, or one that the source node is not to make any more. One that is
        to be begun anew, without some slots, or since some are to be left and may come back, names what it has of them
        still: who waits for those would wait in vain, and whom it keeps from the others is to be kept from them."""
        addition = Addition.parse(found.adding)
        if addition is None:
            return found.adding
        if found.turn != scope.turn or (self.whole and self._scope.slots is not None):
            return ""
        left = hash_slots.written(hash_slots.meet(hash_slots.read(addition.slots), self._scope.extent.acts_on) or ())
        void = self._leaves or left != addition.slots
        return replace(addition, to="", slots=left).text if void else found.adding

    def kept(self, found: Checkpoint, scope: Scope, script: str, adding: Adding | Leaving | None) -> list[bytes]:
        """Fields of the checkpoint, as they are by now, that windows of the stream do not write: names and values.

        Args:
            found: the checkpoint that was claimed.
            scope: what the stream acts on.
            script: as `Checkpoint.script`.
            adding: what is going on beside the stream.
        """
        said = adding.said if isinstance(adding, Adding) else self._begun(found, scope)
        return [*scope.fields, b"adding", said.encode(), *([b"script", script.encode()] if script else [])]

    def leaving(self, chain: Chain, scope: Scope, expiries: Expiries) -> Leaving | None:
        """What removes the keys of slots that were given up before they were taken up whole; None: there are none.
        Until it is over they may not be let go. Nothing may be in flight.

        Args:
            scope: what the stream acts on.
        """
        if not self._leaves:
            return None
        slots = hash_slots.read(self._leaves)
        if self._transform.active:
            names = shortened(hash_slots.members(slots))
            self._tell("unverified", f"slots {names} are left, and keys there that the transform has renamed stay")
        self._take_in(chain.gen)
        others = Others(chain.link, self._uid, self._port.others())
        self._left = Leaving(
            chain, self._log, self._known, expiries, self._scope, scope, self._former, slots, self._tell, others
        )  # fmt: skip
        return self._left

    def _unsaid(self, found: Checkpoint, was: Extent) -> set[int]:
        """Slots that are to be left, though the target does not say so. On a lane that was made since, or for a slot
        with which nothing was begun, the database knows, by what the node holds. And where the stream acts on a slot
        that the node does not hold, the database has forgotten that it was taken: what the source deletes there until
        the slot goes on nobody would know.

        Args:
            was: what the stream acted on behind the checkpoint.
        """
        node, mine, lane, left = self._port.node(), self._scope.slots, self._scope.lane, self._left
        if node.shard is None or mine is None:
            return set()
        if left is not None and found.number < left.number:
            left = self._left = None  # the target has fallen back to before its end
        held = hash_slots.members(node.shard.holds)
        acted = hash_slots.members(() if Addition.parse(found.adding) is not None else was.acts_on)
        over = left.slots if left is not None and left.over else ()
        slots = held.difference(acted, *map(hash_slots.members, (node.shard.slots, mine, over)))
        if not handed.is_before(node, found):
            slots |= hash_slots.members(handed.given_up(was, mine, lane)) - held
        return slots

    def adding(
        self, chain: Chain, found: Checkpoint, expiries: Expiries, so_far: Scope, home: int, knows: Knows
    ) -> Adding | None:
        """What puts the rest on the target; None: there is none. Nothing may be in flight."""
        if self.whole:
            self._last = None
            return None
        found = replace(found, adding=self._begun(found, so_far), turn=so_far.turn)
        self._take_in(chain.gen)
        rewriter = rewriter_of(self._transform)(
            self._scope, self._clock, home, lambda _: [], lambda *_: None, lambda _: None, knows, self._left_out,
            self._source.kind_if_there(),
        )  # fmt: skip
        self._last = Adding(
            chain, self._log, self._source, self._known, expiries, rewriter, so_far, found, self._former, self._pause,
            self._tell, self._last,
        )  # fmt: skip
        self._last.may = self._may_add(chain, found, so_far)
        return self._last

    def _may_add(self, chain: Chain, found: Checkpoint, so_far: Scope) -> Callable[[bool], bool]:
        """Whether what is added is the source node's, by now and by what the target says of others'. A database that
        has fallen back says that it is, though it was given to another one since. A target that has fallen back may
        have what another one is to remove: that comes before it is begun. Once the target says that it is, that one
        waits. Whoever else begins behind that question spoils the window with which it is begun."""
        slots = self._scope.extent.slots
        if self._scope.slots is None or slots is None:
            return lambda _: True
        added = hash_slots.members(slots) - hash_slots.members(so_far.extent.acts_on)
        mine = hash_slots.mask(hash_slots.ranges(added))
        others = Others(chain.link, self._uid, self._port.others() if added else [])
        addition = Addition.parse(found.adding)
        fresh = mine if addition is None else mine & ~hash_slots.mask(hash_slots.read(addition.slots))

        def may(begun: bool) -> bool:
            if not self.serves():
                return False
            if begun:
                return not mine & others.say().acts
            said = others.watch()
            if free := not (mine & said.acts or fresh & said.any):
                return free
            others.let_be()
            return free

        return may

    def _take_in(self, gen: int) -> None:
        """What the snapshot has brought is ours, also while its files are still there."""
        if gen == self._port.node().gen and gen not in self._known.gens:
            self._known.add(gen, [(c.db, c.path, c.keys) for c in self._port.chunks(gen, every=True)])

"""The applier: a thread that carries the log to the target in chained windows, and settles expiries."""

from __future__ import annotations

import secrets
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path

from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import CannotContinue, Fenced, KeyferryError, Malformed, RefusedCommand, UnknownCommand
from sync_tasks.names import built_key
from sync_tasks.views import NodeView
from workers import lane_script, resync
from workers.added import Added
from workers.clock import Clock
from workers.closing import Closing
from workers.cutover import CutOver
from workers.extending import Extending
from workers.inquire import Inquiry
from workers.left_out import LeftOut
from workers.older import Learned
from workers.own_keys import own_keys
from workers.part import Part
from workers.ports import StreamPort
from workers.pump import Pump
from workers.reach import await_log, await_seen
from workers.repair import Repair
from workers.rewrite import Rewriter
from workers.saying import Sparing
from workers.scope import Scope
from workers.search import Search
from workers.settle import Settler
from workers.snapshot import Stopped
from workers.source.ask import Source
from workers.spool.damage import damaged
from workers.spool.known import Known
from workers.spool.log import Cursor, Log
from workers.spool.scripts import Scripts
from workers.suspects import Behind, Suspects
from workers.takeover import take_over
from workers.target import knows, replicas
from workers.target.claim import ALL_HELD, STREAMING, Checkpoint, Claim, Finished, begin_load, look
from workers.target.databases import Databases
from workers.target.error_count import error_count, unchanged
from workers.target.evictions import Evictions
from workers.target.expiries import Expiries
from workers.target.link import TargetLink, lost
from workers.target.measure import measure
from workers.target.pours import Pours
from workers.target.windows import Chain, commit
from workers.transformers import rewriter_of
from workers.translate import Translator


class Applier(Part):
    """Applies one node's stream.

    Args:
        endpoint: the target.
        port: the claimed job.
        log: of the node.
        source: ordinary questions to the source.
        directory: of the node in the spool.
        home: the checkpoint's database on the target.
        known: of the node.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        port: StreamPort,
        log: Log,
        source: Source,
        directory: Path,
        scope: Scope,
        home: int,
        known: Known,
    ) -> None:
        super().__init__(endpoint, port, source, scope, home)
        self.log, self.directory, self.known, self.slots = log, directory, known, scope.slots
        self.reopened = threading.Event()  # a full sync in place has begun: what is streaming is over
        blind = self.blind = self.task.spec.transform.active  # a key of the target may be any of the source
        self.clock = Clock(0 if blind else self.task.spec.extend_expiry_s * 1000, blind=blind, still=source.still)
        self.clock.own_from = 0 if source.compares else log.end or 0  # that log is its owner's alone
        if self.task.finishing:
            self.finishing.set()
        self._nonce = secrets.token_hex(8)
        self.databases: Databases  # of the present connection
        self._refused: RefusedCommand | None = None  # its keys are to be copied anew
        self._learned = Learned(port.event)
        self._scripts = Scripts(Path("/dev/null") if scope.lane is not None else directory / "scripts")  # it runs none
        self.left_out, self.sparing = LeftOut(port.event), Sparing(port.event)
        self._behind: int | None = None  # what follows is to be looked at; all answers up to there came in time
        self._loaded_files: list[tuple[int, Path]] | None = None
        self.extending = Extending(scope, self.task, log, source, known, self.clock, self.pause, port, self.left_out)
        self._evictions = Evictions(port.event, first=port.node().gen == 0)
        self._pours = Pours()

    # --- life

    def run(self) -> None:
        try:
            while not self.stop_event.is_set() and self.closed_at is None:
                try:
                    self._life()
                except Stopped:
                    return
                except (resync.Begun, Added):
                    continue
                except Behind as behind:
                    self._behind = behind.offset
                except (Fenced, CannotContinue) as error:
                    if isinstance(error, Fenced) and self.chain is not None and self._still_owner():
                        continue  # somebody claimed who had no right: claim again
                    raise
                except RefusedCommand as error:
                    if error.final:
                        raise
                    self._refused = error
                    if error.argv[0].upper() not in self._learned.names:  # of those it is said once
                        self.sparing("refused", f"{error.message}; its keys are copied anew")
                except UnknownCommand as error:
                    if not self._learned.learn(error):
                        self.wait_out(error)
                except Malformed as error:
                    if not self.reopened.is_set():  # else the log is another stream's by now
                        self.wait_out(error)
                except resync.Wanted as wanted:
                    self.wait_out(self._anew(str(wanted)))
                except KeyferryError as error:
                    self.wait_out(error)
        except BaseException as error:  # noqa: BLE001 - handed to the job, which ends with it
            self.error = error

    def _still_owner(self) -> bool:
        self.port.renew()  # raises Fenced when the lease is lost
        self.chain = None
        return True

    def _life(self) -> None:
        """One life of the connection: claim, close the load if need be, stream."""
        link = TargetLink(self.endpoint, f"keyferry-{self.task.uid}-{self.number}", self.home)
        self.came_by(link)
        try:
            self.databases = Databases(link, self.home)
            self.clock.live(self.finishing.is_set())
            self._evictions.ask(link)  # what it has evicted may be the checkpoint
            claimed = self._take_over(link)
            found = claimed.found
            self.agree(found, self.pause)
            if found is None or found.state != STREAMING:
                found = self._close_load(link, claimed)
            self._stream(link, claimed, found)
        except Finished as done:
            if self.agreement is not None:
                self.agreement.leave(self.lane)
            if not (self.finishing.is_set() or self.task.finishing):
                raise
            self.closed(link, done.offset)  # we had done it, and died before we could say so
        finally:
            self.progress.streaming, self.progress.settled_at, self.progress.reached = False, None, None
            self.stands_at = None  # who goes on may have to go further
            link.close()

    def _take_over(self, link: TargetLink) -> Claim:
        """Claim; see that the target and the database mean the same load. Else one of them has fallen back."""
        with self.border:
            claimed, node = take_over(self.port, link, self._nonce), self.port.node()
            if resync.needed(node, claimed.found):
                raise self._anew(resync.reason(claimed.found))
            self.reopened.clear()
            if claimed.found is None or claimed.found.state != STREAMING:
                self.progress.committed, self.progress.prunable = None, 0  # of a stream that is over
            elif not node.begun:
                # The database had lost its last commits, or we died in between: what it holds as open is long loaded.
                self.port.void_chunks(claimed.found.gen)
                self.port.begin_stream()
            return claimed

    def _anew(self, reason: str) -> KeyferryError:
        """Have the receiver begin a full sync in place; the error to wait with."""
        self.log.anew = True
        self.log.wake()
        return resync.ask(reason)

    def reopen(self, gen: int, former: str | None, replid: str, source_keys: int | None) -> None:
        """Begin a full sync in place by snapshot `gen`: no window behind an earlier one is executed any more.

        Args:
            former, replid: replication id of the stream so far, if it is known, and of the snapshot.
            source_keys: how many the source has in scope, roughly; None: unknown.
        Raises what stands against it; nothing is changed then.
        """
        link = TargetLink(self.endpoint, f"keyferry-{self.task.uid}-reopen", self.home)
        try:
            self._check_reopening(link, former, replid, source_keys)
            self.reopened.set()
            take = partial(take_over, self.port, link, self._nonce)
            begin_load(link, take, self.task.uid, self.number, gen, partial(self.extending.loads, link))
            self.progress.committed, self.progress.prunable = None, 0
            self.log.wake()
        finally:
            link.close()

    def may_reopen(self, former: str | None, replid: str, source_keys: int | None) -> None:
        """Raise what stands against `reopen`."""
        link = TargetLink(self.endpoint, f"keyferry-{self.task.uid}-reopen", self.home)
        try:
            self._check_reopening(link, former, replid, source_keys)
        finally:
            link.close()

    def _check_reopening(self, link: TargetLink, former: str | None, replid: str, source_keys: int | None) -> None:
        found, keys = look(link, self.task.uid, self.number), resync.keys_there(link, self.scope)
        had = min(keys, resync.brought(self.port.node(), self.known))
        resync.check(link, found, self.known, former not in (None, replid), source_keys, had, self.blind)
        self.extending.loads(link, found)

    def closed(self, link: TargetLink, offset: int) -> None:
        """The last window is on the target, which is to keep it whatever becomes of its master."""
        if late := replicas.without(link, self.stop_event.is_set):
            self.port.event("replicas", f"closed, and {late} replicas of the target have not confirmed the last writes")
        self.progress.committed = self.closed_at = offset

    # --- from load to stream

    def _close_load(self, link: TargetLink, claimed: Claim) -> Checkpoint:
        """Wait for the load, see its marks on the target, fence its loaders, write the first checkpoint."""
        node = self.port.node()
        if node.snapshot_done:
            self._check_open(link, node)
        if not self._is_loaded(node):
            self.port.healed("target")  # it took our claim, and is asked for no more yet; else the first window tells
        while True:
            while not self.loaded.wait(0.05):
                self.pause(0)
            self.pause(0)
            with self.border:
                node = self.port.node()
                if self._is_loaded(node) and self._has_log(node):
                    return self._close_now(link, claimed, node)
                self.loaded.clear()  # the source began a new snapshot meanwhile

    def _check_open(self, link: TargetLink, node: NodeView) -> None:
        """Have another snapshot taken if this load was closed: by a later one that the database has forgotten, or by a
        restart that came to nothing."""
        if self._closing(node).superseded(link):
            self.loaded.clear()
            raise damaged(self.directory / f"gen-{node.gen}" / "tables", "is of a load that is closed on the target")

    def _closing(self, node: NodeView) -> Closing:
        return Closing(self.port, node, self.scope, self.directory, self.home, self.known, self._scripts)

    def _is_loaded(self, node: NodeView) -> bool:
        state = self.port.load_state(node.gen)
        return node.snapshot_done and state.done == state.chunks

    def _has_log(self, node: NodeView) -> bool:
        """Whether the log goes on behind the snapshot: a power cut may have taken that away."""
        assert node.replid is not None
        assert node.snapshot_offset is not None
        self.log.want(node.replid, node.snapshot_offset, node.stream_db)
        return self.log.covers(node.replid, node.snapshot_offset)

    def _close_now(self, link: TargetLink, claimed: Claim, node: NodeView) -> Checkpoint:
        self._check_open(link, node)
        closing = self._closing(node)
        self._evictions.ask(link)
        if missing := closing.missing(link):
            self.loaded.clear()
            self.port.reload(missing)
            raise lost(f"the target has lost {len(missing)} chunks of the load; they are loaded again")
        closing.sweep(link, claimed.found, lambda: self.pause(0))
        if not closing.stands(link):
            raise lost("the target has fallen back to an earlier state at the end of the load; it is checked again")
        closing.add(self.source, self.clock.extend_ms)
        window = closing.first_window(link)
        self.known.stream(closing.gen, closing.libraries())
        chain = self._chain(link, claimed, closing.gen, closing.offset)
        # What nothing was loaded over may have expired there by itself, whenever: it is looked at before it is changed.
        chain.fresh_ms = fresh_ms = ALL_HELD if self.task.spec.loads else 0
        self._loaded_files = closing.files()
        commit(chain, window)
        self.port.begin_stream()
        return replace(closing.checkpoint(claimed.nonce), extend_ms=chain.extend_ms, fresh_ms=fresh_ms)

    # --- streaming

    def _chain(self, link: TargetLink, claimed: Claim, gen: int, seen: int) -> Chain:
        """The one chain of this connection."""
        if self.chain is None or self.chain.link is not link:
            self.chain = Chain(link, claimed, self.task.uid, self.number, self.home, self.port.epoch, gen)
            self.chain.seen, self.chain.errors = seen, error_count(link, self.chain.ck)
            self.chain.extend_ms = self.clock.extend_ms
        return self.chain

    def _stream(self, link: TargetLink, claimed: Claim, found: Checkpoint) -> None:
        await_log(self.log, found, self.pause)
        chain = self._chain(link, claimed, found.gen, found.seen)
        chain.tip = (found.offset, found.db, found.replid)
        chain.held = found.held
        self.clock.begin(found)
        measure(link, self.clock)
        scope = self.extending.so_far(found)
        script = found.script if self.agreement is None else self.agreement.script(found)
        divided = self.scope.filtered or scope.filtered or scope.lane is not None
        known = knows.ask(link, chain.ck, self._learned.names, filtered=divided)
        expiries = Expiries(self.endpoint, self.home, bool(known.reads.timed), self.clock.observe, self._evictions.look)
        loaded, self._loaded_files = None if self.blind else self._loaded_files, None
        search = Search(expiries, Scope(None) if self.blind else scope, found.held, loaded)
        settler = Settler(self.clock, chain, expiries, search, inquiry := Inquiry(self.source, scope))
        own = own_keys(self.task.uid, self.number, self.home, found.gen, claimed.tok)
        rewriter = rewriter_of(self.task.spec.transform)(
            scope, self.clock, self.home, own, settler.touch, settler.swap, known, self.left_out.add,
            self.source.kind_if_there(), self._scripts, partial(built_key, self.task.uid, self.number),
        )  # fmt: skip
        rewriter.pours = self._pours
        # A checkpoint of an earlier version does not say: it was settled with the task's.
        chain.extend_ms = self.task.spec.extend_expiry_s * 1000 if found.extend_ms is None else found.extend_ms
        settler.extend(self.clock.extend_ms, found.offset)
        suspects = Suspects(chain, self.log, self.source, scope, self.clock, expiries, settler, self.pause)
        self.progress.committed, self.progress.streaming = found.offset, True
        cursor = Cursor(self.log, found.offset)
        try:
            repair = self._repair(chain, found, suspects, rewriter)
            self.extending.say(chain, found, scope)
            lane_script.say(chain, found, script)
            leaving = self.extending.leaving(chain, scope, expiries)
            if self.slots is not None and leaving is None:
                self.port.holds(self.slots)
            adding = leaving or self.extending.adding(chain, found, expiries, scope, self.home, known)
            chain.kept = partial(self.extending.kept, found, scope, script, adding)
            translator = Translator(found.offset, found.db, rewriter, self.log)
            end = CutOver(chain, settler, inquiry)
            Pump(chain, translator, cursor, settler, end, self, suspects, repair, adding).run()
        finally:
            cursor.close()
            settler.close()

    def _repair(self, chain: Chain, found: Checkpoint, suspects: Suspects, rewriter: Rewriter) -> Repair | None:
        """What to do about commands behind `seen` that were refused, or came too late; None: there was none."""
        refused, self._refused = self._refused, None
        if self.source.compares and (self.log.start or 0) > found.seen:
            found = replace(found, seen=found.offset, seen_db=found.db, errors="")  # what is in doubt is compared
        if refused is not None and refused.offset >= found.offset:
            refused = None  # the target has fallen back: it is sent again
        known = not found.errors or unchanged(found.errors, chain.errors)
        unread = refused is not None or not (known or found.seen == found.offset)
        behind, executed = self._is_behind(found)
        if not unread and not behind:
            chain.trust(chain.errors)
            return None
        if unread or executed:
            await_seen(self.log, found, self.pause)
            chain.seen, chain.seen_db, chain.errors = found.seen, found.seen_db, found.errors
        else:
            chain.trust(chain.errors)
        chain.refused = []
        read = [refused, *refused.others] if refused is not None else []
        repair = Repair(
            chain.link, self.log, self.source, rewriter.scope, found, read, suspects, self.pause, self.port.event,
            rewriter.stands_for, self.extending.former(found),
        )  # fmt: skip
        doubted = unread and repair.doubt()
        if (behind and repair.suspect(executed)) or doubted:
            repair.aim(found.offset, found.db)
            return repair
        chain.trust(error_count(chain.link, chain.ck))
        return None

    def _is_behind(self, found: Checkpoint) -> tuple[bool, bool]:
        """Whether the target may have expired what the stream renews behind the checkpoint; and what it has executed
        behind `seen` already."""
        in_time, self._behind = self._behind, None
        behind = in_time is not None or (not self.clock.all_held and self.clock.is_past(found.fresh_ms))
        executed = behind and found.seen < found.offset and in_time != found.offset
        return behind and (executed or (self.log.end or 0) > found.offset), executed

    def pause(self, seconds: float) -> None:
        if self.stop_event.wait(seconds):
            raise Stopped
        if self.reopened.is_set():
            raise resync.Begun
        self.stay()

    def checkpoint(self) -> Checkpoint | None:
        """The checkpoint on the target as it is now, without a claim."""
        link = TargetLink(self.endpoint, "keyferry-look", self.home)
        try:
            return look(link, self.task.uid, self.number)
        finally:
            link.close()

    furthest = checkpoint  # there is one part

"""The applier: a thread that carries the log to the target in chained windows, and settles expiries."""

from __future__ import annotations

import re
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import CannotContinue, Fenced, KeyferryError, Side, TargetError
from sync_tasks.names import checkpoint_key, closed_key, marks_key
from sync_tasks.views import NodeView, TaskView
from workers.codec.resp_cy import ReplyError, encode
from workers.moment import now_ms
from workers.ports import StreamPort
from workers.pump import Pump
from workers.settle import Settler
from workers.snapshot import Stopped
from workers.source.ask import Source
from workers.spool.log import Cursor, Log
from workers.spool.tables import read_tables
from workers.sweep import sweep
from workers.target.claim import STREAMING, Checkpoint, Claim, claim, look, peek_epoch
from workers.target.link import TargetLink, lost
from workers.target.windows import Chain, Run, Window
from workers.times import Clock
from workers.translate import Scope, Translator

STRIDE = 1 << 20
"""An operator's start takes the next multiple of it, a take-over the next number: so no number of take-overs lets an
older copy of a state directory catch up with a newer one."""


@dataclass(slots=True)
class Progress:
    """What the applier has done, read by the job's main thread."""

    committed: int | None = None  # offset in the target's checkpoint
    latency_ms: float | None = None  # receipt to commit, of the last window
    oldest_ms: int | None = None  # receipt of what is not committed yet
    streaming: bool = False
    held: int | None = None
    settled_at: int | None = None  # all holds on writes up to this offset are settled


class Applier(threading.Thread):
    """Applies one node's stream.

    Args:
        endpoint: the target.
        port: the claimed job.
        log: of the node.
        source: ordinary questions to the source.
        directory: of the node in the spool.
        home: the checkpoint's database on the target.
    """

    def __init__(
        self, endpoint: Endpoint, port: StreamPort, log: Log, source: Source, directory: Path, scope: Scope, home: int
    ) -> None:
        super().__init__(name="applier", daemon=True)
        self.endpoint, self.port, self.log, self.source, self.directory = endpoint, port, log, source, directory
        self.scope, self.home = scope, home
        self.task: TaskView = port.task
        self.node = port.node()
        self.stop_event = threading.Event()
        self.loaded = threading.Event()
        self.border = threading.Lock()
        self.error: BaseException | None = None
        self.progress = Progress()
        self.clock = Clock(self.task.extend_expiry_s * 1000)
        self.chain: Chain | None = None
        self._nonce = secrets.token_hex(8)
        self._aborted_at: int | None = None
        self._proven: set[int] = set()
        self._loaded_files: list[tuple[int, Path]] | None = None
        self.fields = False  # whether the target's hashes may hold field expiries

    # --- life

    def run(self) -> None:
        try:
            while not self.stop_event.is_set():
                try:
                    self._life()
                except Stopped:
                    return
                except (Fenced, CannotContinue) as error:
                    if isinstance(error, Fenced) and self.chain is not None and self._still_owner():
                        continue  # somebody claimed blindly and saw that it had no right: claim again
                    raise
                except KeyferryError as error:
                    self._remember_abort()
                    if self.stop_event.wait(self.port.failing(error)):
                        return
        except BaseException as error:  # noqa: BLE001 - handed to the job, which ends with it
            self.error = error

    def _still_owner(self) -> bool:
        self.port.renew()  # raises Fenced when the lease is lost
        self.chain = None
        return True

    def _remember_abort(self) -> None:
        if self.chain is not None and self.chain.aborted_at is not None:
            self._aborted_at = self.chain.aborted_at

    def _life(self) -> None:
        """One life of the connection: claim, close the load if need be, stream."""
        link = TargetLink(self.endpoint, f"keyferry-{self.task.uid}-{self.node.number}", self.home)
        try:
            self._proven = {self.home}
            claimed = self._claim(link)
            found = claimed.found
            self._check_abort(found)
            if found is None or found.state != STREAMING:
                found = self._close_load(link, claimed)
            elif not self.node.begun:
                # The database had lost its last commits, or we died in between: what it holds as open is long loaded.
                self.port.void_chunks(found.gen)
                self.port.begin_stream()
            self._stream(link, claimed, found)
        finally:
            self.progress.streaming, self.progress.settled_at = False, None
            link.close()

    def _claim(self, link: TargetLink) -> Claim:
        node = self.port.node()
        if node.fresh:
            highest = max(self.port.epoch, peek_epoch(link, self.task.uid, node.number))
            self.port.raise_epoch((highest // STRIDE + 1) * STRIDE)
        self.port.renew()
        claimed = claim(link, self.task.uid, node.number, self.port.epoch, self._nonce)
        if node.begun and claimed.found is None:
            raise CannotContinue(
                "the target no longer has the checkpoint of this task: it was emptied, or restarted without its data",
                side=Side.TARGET,
                hint="start over with an empty target and a new --state directory",
            )
        return claimed

    def _check_abort(self, found: Checkpoint | None) -> None:
        at, self._aborted_at = self._aborted_at, None
        if at is not None and found is not None and found.offset > at:
            raise CannotContinue(
                f"a window behind the refused one at offset {at} was committed: its commands are missing on the target",
                side=Side.TARGET,
                hint="start over with an empty target and a new --state directory",
            )

    # --- from load to stream

    def close_earlier(self, gen: int) -> None:
        """Close the loads of all snapshots before `gen` on the target: their loaders write nothing any more."""
        if gen <= 1:
            return
        link = TargetLink(self.endpoint, f"keyferry-{self.task.uid}-closing", self.home)
        try:
            for old in range(1, gen):
                link.ask(b"SET", closed_key(self.task.uid, self.node.number, old), b"1")
        finally:
            link.close()

    def _close_load(self, link: TargetLink, claimed: Claim) -> Checkpoint:
        """Wait for the load, see its marks on the target, fence its loaders, write the first checkpoint."""
        self.port.healed("target")
        while True:
            while not self.loaded.wait(0.05):
                if self.stop_event.is_set():
                    raise Stopped
            if self.stop_event.is_set():
                raise Stopped
            with self.border:
                node = self.port.node()
                state = self.port.load_state(node.gen)
                if node.snapshot_done and state.done == state.chunks:
                    return self._close_now(link, claimed, node)
                self.loaded.clear()  # the source began a new snapshot meanwhile

    def _close_now(self, link: TargetLink, claimed: Claim, node: NodeView) -> Checkpoint:
        assert node.replid is not None
        assert node.snapshot_offset is not None
        gen = node.gen
        marks = set(link.ask(b"HKEYS", marks_key(self.task.uid, self.node.number, gen)))
        missing = [c.id for c in self.port.chunks(gen) if b"%d" % c.seq not in marks]
        if missing:
            self.loaded.clear()
            self.port.reload(missing)
            raise lost(f"the target has lost {len(missing)} chunks of the load; they are loaded again")
        self._sweep(link, gen)
        chain = self._chain(link, claimed, gen, node.snapshot_offset)
        first = self._first_window(gen, node.replid, node.snapshot_offset, node.stream_db)
        chain.push(first)
        files = [(self.scope.target(c.db), Path(c.path)) for c in self.port.chunks(gen)]
        self._loaded_files = [(db, path) for db, path in files if db is not None]
        while chain.flying:
            chain.pump(0.5)
        self.port.begin_stream()
        return Checkpoint(
            node.replid, node.snapshot_offset, node.stream_db, self.port.epoch, claimed.nonce,
            node.snapshot_offset, STREAMING, gen, True,
        )  # fmt: skip

    def _first_window(self, gen: int, replid: str, offset: int, db: int) -> Window:
        """Window 1 of a task: fences the loaders, brings function libraries and scripts, writes the checkpoint."""
        _, functions, scripts = read_tables(self.directory / f"gen-{gen}")
        commands = [[b"FUNCTION", b"LOAD", b"REPLACE", code] for code in functions]
        commands += [[b"SCRIPT", b"LOAD", script] for script in scripts]
        commands.append([b"SET", closed_key(self.task.uid, self.node.number, gen), b"1"])
        window = Window(start=offset, end=offset, db=db, replid=replid, held=True)
        window.runs.append(Run(0, 0, offset, False))
        for command in commands:
            window.body += encode(command)
            window.commands += 1
        return window

    def _chain(self, link: TargetLink, claimed: Claim, gen: int, seen: int) -> Chain:
        if self.chain is None or self.chain.link is not link:
            self.chain = Chain(link, claimed, self.task.uid, self.node.number, self.home, self.port.epoch, gen)
            self.chain.seen = seen
        return self.chain

    def _sweep(self, link: TargetLink, gen: int) -> None:
        """Remove what snapshots that broke off had loaded and this one no longer has."""
        if gen > 1:
            chunks = [(c.gen, c.db, Path(c.path)) for g in range(1, gen + 1) for c in self.port.chunks(g)]
            removed = sweep(link, chunks, gen, self.home, self.task.uid, self.node.number, self.scope)
            if removed:
                self.port.event("sweep", f"{removed} keys that the source deleted between two snapshots were removed")

    # --- streaming

    def _own_keys(self, gen: int, tok: bytes) -> Callable[[list[int]], list[list[bytes]]]:
        """Commands that put our keys in order behind FLUSHDB, FLUSHALL, SWAPDB; the window's tail rewrites the rest."""
        uid, number = self.task.uid, self.node.number
        ours = [checkpoint_key(uid, number), tok, marks_key(uid, number, gen)]
        ours += [closed_key(uid, number, g) for g in range(1, gen + 1)]

        def own(databases: list[int]) -> list[list[bytes]]:
            if self.home not in databases:
                return []
            out: list[list[bytes]] = []
            for other in databases:
                if other != self.home:
                    out += [[b"SELECT", b"%d" % other], [b"DEL", *ours]]
            out.append([b"SELECT", b"%d" % self.home])
            return out + [[b"SET", closed_key(uid, number, g), b"1"] for g in range(1, gen + 1)]

        return own

    def _stream(self, link: TargetLink, claimed: Claim, found: Checkpoint) -> None:
        self._await_log(found)
        chain = self._chain(link, claimed, found.gen, found.seen)
        chain.held = found.held
        self.clock.loading = True
        self._measure_clock(link)
        loaded, self._loaded_files = self._loaded_files, None
        settler = Settler(self, chain, found, loaded)
        translator = Translator(
            found.offset, found.db, self.scope, self.clock, self.home,
            self._own_keys(found.gen, claimed.tok), settler.touch, settler.disturb,
        )  # fmt: skip
        chain.tip = (found.offset, found.db, found.replid)
        self.progress.committed, self.progress.streaming = found.offset, True
        cursor = Cursor(self.log, found.offset)
        try:
            Pump(chain, translator, cursor, settler, self).run()
        finally:
            cursor.close()
            settler.close()

    def _await_log(self, found: Checkpoint) -> None:
        """The log may have lost its end with the power; the receiver then fetches it again."""
        while not self.log.covers(found.replid, found.offset):
            if self.stop_event.is_set():
                raise Stopped
            if self.log.end is not None and self.log.end >= found.offset:
                raise CannotContinue(
                    f"the log on disk does not hold what follows offset {found.offset} of {found.replid}",
                    side=Side.SOURCE,
                    hint="start over with an empty target and a new --state directory",
                )
            self.stop_event.wait(0.1)

    def checkpoint(self) -> Checkpoint | None:
        """The checkpoint on the target as it is now, without a claim."""
        link = TargetLink(self.endpoint, "keyferry-look", self.home)
        try:
            return look(link, self.task.uid, self.node.number)
        finally:
            link.close()

    def near(self, offset: int) -> bool:
        """Whether the source has written no more than up to `offset`."""
        try:
            return self.source.offset() <= offset
        except KeyferryError:
            return False

    def _measure_clock(self, link: TargetLink) -> None:
        info: bytes = link.ask(b"INFO", b"server")
        valkey = re.search(rb"valkey_version:(\d+)", info)
        found = valkey or re.search(rb"redis_version:(\d+)", info)
        self.fields = found is not None and int(found[1]) >= (9 if valkey else 8)
        seconds, micros = link.ask(b"TIME")
        self.clock.skew_ms = int(seconds) * 1000 + int(micros) // 1000 - now_ms()

    def prove(self, databases: set[int]) -> None:
        """SELECT each database once, and see the answer, before a window may name it. The chain must be empty."""
        assert self.chain is not None
        for db in sorted(databases - self._proven):
            values = self.chain.link.try_all([[b"SELECT", db], [b"SELECT", self.home]])
            if isinstance(values[0], ReplyError):
                raise TargetError(
                    f"the target has no database {db}: {values[0].line.decode(errors='replace')}",
                    hint="raise `databases` in the target's configuration, or leave that database out of the task",
                )
            self._proven.add(db)

    def unproven(self, window: Window) -> set[int]:
        return window.databases - self._proven

"""From load to stream: what a load has left on the target is checked, its loaders are fenced."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sync_tasks.errors import CannotContinue, Side
from sync_tasks.extent import Extent
from sync_tasks.names import at_field, checkpoint_key, closed_key, marks_key
from sync_tasks.slots import members, ranges
from sync_tasks.views import NodeView
from workers import handed
from workers.building import built_keys
from workers.codec.resp_cy import ReplyError
from workers.compose import emit
from workers.continued import loaded
from workers.lane_script import Since
from workers.named import library
from workers.ports import StreamPort
from workers.scope import Scope
from workers.source.ask import Source
from workers.spool.known import Known
from workers.spool.scripts import Scripts
from workers.spool.tables import read_tables
from workers.sweep import SWEPT, sweep
from workers.target import knows
from workers.target.claim import STREAMING, Checkpoint
from workers.target.databases import holding
from workers.target.link import TargetLink
from workers.target.windows import Window
from workers.transformers import transformer


class Closing:
    """The end of one snapshot's load.

    Args:
        port: the claimed job.
        node: as it is now; all chunks of its snapshot are done.
        scope: databases that travel.
        directory: of the node in the spool.
        home: the checkpoint's database on the target.
        known: what earlier snapshots and the log have brought.
        scripts: takes in those of the snapshot.
    """

    def __init__(
        self,
        port: StreamPort,
        node: NodeView,
        scope: Scope,
        directory: Path,
        home: int,
        known: Known,
        scripts: Scripts | None = None,
    ) -> None:
        assert node.replid is not None
        assert node.snapshot_offset is not None
        self._port, self._node, self._scope, self._directory, self._home = port, node, scope, directory, home
        self._uid, self._known, self._scripts = port.task.uid, known, scripts
        self.gen, self.replid, self.offset = node.gen, node.replid, node.snapshot_offset
        digest = port.task.spec.transform.digest if scope.lane is not None else ""
        self._begins, self._adding, self._leaving = scope.extent, "", ""
        self._script = str(Since(digest, self.offset)) if digest else ""

    def add(self, source: Source, extend_ms: int) -> None:
        """Where a stream is followed since before the load, what was loaded is added. Raises what the source answers.

        Args:
            extend_ms: so much later expiries are put than the source's.
        """
        if self._port.task.spec.continues:
            place = self.replid, self.offset, self._node.stream_db
            keys = sum(chunk.keys for chunk in self._port.chunks(self.gen))
            self._adding = loaded(self._scope, source, *place, extend_ms, keys).text
            self._begins = Extent(databases={}).meet(self._scope.extent)

    def missing(self, link: TargetLink) -> list[int]:
        """Ids of chunks that the target has lost, to a failover, or may have overwritten with older values since."""
        marks = set(link.ask(b"HKEYS", marks_key(self._uid, self._node.number, self.gen)))
        # What is out of scope was never sent, and so has no mark.
        chunks = [c for c in self._port.chunks(self.gen) if self._scope.target(c.db) is not None]
        if self._reopened(link, [SWEPT, *(b"%d" % c.seq for c in chunks), *(at_field(c.seq) for c in chunks)]):
            return [c.id for c in chunks]
        return [c.id for c in chunks if b"%d" % c.seq not in marks]

    def stands(self, link: TargetLink) -> bool:
        """Whether all that was checked and swept is there still; if not by the next transaction, that one fails.

        The target may fall back while this connection lives on: a master that is demoted and promoted again.
        """
        marks = marks_key(self._uid, self._node.number, self.gen)
        link.ask(b"WATCH", marks)
        swept = self.gen == 1 or bool(link.ask(b"HEXISTS", marks, SWEPT))
        return swept and not self.missing(link)

    def _reopened(self, link: TargetLink, done: list[bytes]) -> bool:
        """Whether the gates of earlier snapshots had come open: the target fell back to before they were closed.

        A loader of theirs that was asleep could have written among ours, so all is loaded again behind closed gates.
        That a chunk was begun stays true: should the load break off here, the next one's sweep must know.

        Args:
            done: the marks of what is done.
        """
        gates = [closed_key(self._uid, self._node.number, g) for g in range(1, self.gen)]
        if not gates or int(link.ask(b"EXISTS", *gates)) == len(gates):
            return False
        # In one: should we die now, what is missing says by itself that all of it has to come again.
        sets: list[list[bytes | int]] = [[b"SET", gate, b"1"] for gate in gates]
        marks = marks_key(self._uid, self._node.number, self.gen)
        link.ask_all([[b"MULTI"], [b"HDEL", marks, *done], *sets, [b"EXEC"]])
        return True

    def superseded(self, link: TargetLink) -> bool:
        """Whether this load was closed for a later snapshot, of which the database knows nothing any more."""
        return bool(link.ask(b"EXISTS", closed_key(self._uid, self._node.number, self.gen)))

    def sweep(self, link: TargetLink, former: Checkpoint | None, check: Callable[[], None] = lambda: None) -> None:
        """Remove what earlier snapshots and their log had brought and this one no longer has.

        Args:
            former: the checkpoint that is there; what its log has brought must be known. Slots of its extent that were
                given up since are swept, too; what it was adding, or has to leave, is left behind this.
        """
        if former is not None:
            was = Extent.parse(former.extent) if former.extent else self._begins
            self._leaving = handed.to_leave(former, was, self._scope, self._scope.extent.acts_on)
        if former is not None and not self._known.whole:
            raise CannotContinue(
                "a full sync in place was begun, and the list of the keys that were brought to the target was lost"
                " since: what the source has deleted meanwhile cannot be told",
                side=Side.CONTROL,
                hint="see the worker's log for what happened to the spool; restart the task with an empty target",
            )
        if self.gen > 1:
            mine = marks_key(self._uid, self._node.number, self.gen)
            # What was loaded to another lane may have moved to this one since, with its slot.
            chunks = [c for g in range(1, self.gen) for c in self._port.chunks(g, every=True)]
            chunks += self._port.chunks(self.gen)
            spec = self._port.task.spec
            made = None
            if spec.transform.active:
                made = transformer(spec, self._scope, self._home, knows.ask(link, mine))
            removed = sweep(
                link, chunks, self.gen, self._home, self._uid, self._node.number, self._swept(former), self._known,
                self._port.renew, check, made,
            )  # fmt: skip
            if removed:
                self._port.event("sweep", f"{removed} keys that the source deleted between two snapshots were removed")

    def _swept(self, former: Checkpoint | None) -> Scope:
        scope, task, was = self._scope, self._port.task, "" if former is None else former.extent
        gone = handed.given_up(Extent.parse(was), scope.slots, scope.lane) if was else ()
        if not gone or scope.slots is None:
            return scope
        slots = ranges(members(scope.slots) | members(gone))
        return Scope(task.databases, task.spec.filter, slots, scope.lane)

    def libraries(self) -> set[str]:
        """Names of the snapshot's function libraries."""
        codes = read_tables(self._directory / f"gen-{self.gen}")[1]
        return {name for code in codes if (name := library(code))}

    def _former(self, link: TargetLink) -> list[bytes]:
        """Names of the libraries on the target that go before the snapshot's come: one may have a function of another.

        Those that were the target's own stay.
        """
        mine = self.libraries() | set(self._known.libraries)
        if self.gen == 1 or not mine:
            return []
        (found,) = link.try_all([[b"FUNCTION", b"LIST"]])
        if isinstance(found, ReplyError):  # no such command
            return []
        there = [dict(zip(one[::2], one[1::2], strict=True))[b"library_name"] for one in found]
        return [name for name in there if name.decode(errors="replace") in mine]

    def first_window(self, link: TargetLink) -> Window:
        """Window 1 of a stream: fences the loaders, brings function libraries and scripts, writes the checkpoint."""
        _, functions, scripts = read_tables(self._directory / f"gen-{self.gen}")
        if functions and not link.ask(b"COMMAND", b"INFO", b"FUNCTION")[0]:
            names = ", ".join(sorted(self.libraries()))
            self._port.event("left-out", f"function libraries, which the target's version does not have: {names}")
            functions = []
        window = Window(start=self.offset, end=self.offset, db=self._node.stream_db, replid=self.replid, held=True)
        commands = [[b"FUNCTION", b"DELETE", name] for name in self._former(link)]
        commands += [[b"FUNCTION", b"LOAD", b"REPLACE", code] for code in functions]
        commands += [[b"SCRIPT", b"LOAD", script] for script in scripts]
        if link.scripted:
            window.plain += commands  # no script may say them
        else:
            for command in commands:
                emit(window, command, self.offset)
        for script in scripts:
            if self._scripts is not None:
                self._scripts.add(script)
        emit(window, [b"SET", closed_key(self._uid, self._node.number, self.gen), b"1"], self.offset)
        ck = checkpoint_key(self._uid, self._node.number)
        fields = [b"extent", self._begins.text.encode(), b"turn", b"%d" % self._scope.turn]
        fields += [b"adding", self._adding.encode(), b"leaving", self._leaving.encode()]
        emit(window, [b"HSET", ck, *fields], self.offset)
        if self._script:
            emit(window, [b"HSET", ck, b"script", self._script.encode()], self.offset)
        for db in [] if link.scripted else holding(link, self._scope):  # what an earlier stream was building
            emit(window, [b"SELECT", b"%d" % db], self.offset)
            emit(window, [b"UNLINK", *built_keys(self._uid, self._node.number)], self.offset)
        return window

    def files(self) -> list[tuple[int, Path]] | None:
        """Target database and file of each chunk loaded; None: they are not in scope yet."""
        if self._adding:
            return None
        files = [(self._scope.target(c.db), self._known.file(c.path)) for c in self._port.chunks(self.gen)]
        return [(db, path) for db, path in files if db is not None]

    def checkpoint(self, nonce: str) -> Checkpoint:
        """What the first window has written."""
        return Checkpoint(
            self.replid, self.offset, self._node.stream_db, self._port.epoch, nonce, self.offset, STREAMING, self.gen,
            True, seen_db=self._node.stream_db, extent=self._begins.text, adding=self._adding,
            turn=self._scope.turn, script=self._script, leaving=self._leaving,
        )  # fmt: skip

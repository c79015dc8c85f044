"""The chain of windows: each is one write, and commits only if its predecessor did.

    WATCH ck tok over   PEXPIREAT over <far>   HSETNX tok <n-1> 0
    MULTI  <commands>  SELECT <ck's db>  DEL tok  HSET tok <n> 1  HINCRBY ck windows 1  HSET ck <all fields>  EXEC

`over` exists once the chain is over: it spoils a late window even where HSETNX was refused for memory. A gate that was
refused like the window before it proves nothing: so the target counts windows, and every claim compares.
"""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice

from sync_tasks.answers import classify
from sync_tasks.errors import (
    CannotContinue,
    Fenced,
    RefusedCommand,
    Retry,
    Side,
    TransformError,
    UnknownCommand,
    named,
)
from sync_tasks.names import checkpoint_key, over_key, taken_key
from workers.codec.resp_cy import ABORTED, COMMITTED, NIL, WHOLE, ReplyError, encode, transaction
from workers.target.claim import ALL_HELD, FINISHED, STREAMING, Checkpoint, Claim
from workers.target.link import SILENCE_S, TargetLink, lost
from workers.target.scripted import check_alone, counted, ended, raise_away, scripted, scripted_pieces
from workers.target.window import Elsewhere as Elsewhere
from workers.target.window import Run as Run
from workers.target.window import Window as Window

MULTI = encode([b"MULTI"])
EXEC = encode([b"EXEC"])
FAR = 1 << 53
GATE_COMMANDS = 3  # WATCH, PEXPIREAT, HSETNX
TAIL_COMMANDS = 5  # SELECT, DEL, HSET, HINCRBY (or HSET), HSET
POUR_BYTES = 1 << 20
STEP_S = 0.05
QUEUED_BYTES = 9  # of +QUEUED; no refusal is shorter
SCRIPTED_BYTES = 4  # of :1; no answer is shorter
TURNS = 3
"""Replies of so many parts of the windows in flight are waited for, one after the other."""


NOT_SENT = "it is not sent as it is: the target does not know it, or it concerns keys in scope and others"
ALREADY = re.compile(rb"Library .*already exists|Library not found", re.IGNORECASE)
"""What a command answers that is executed a second time."""
UNKNOWN = re.compile(rb"-ERR unknown (command|subcommand)", re.IGNORECASE)


class Chain:
    """Windows in flight on one claimed connection.

    Args:
        link: the claimed connection, in the checkpoint's database.
        claim: what was claimed.
        uid, node, db: names and place of the checkpoint.
    """

    def __init__(self, link: TargetLink, claim: Claim, uid: str, node: int, db: int, epoch: int, gen: int) -> None:
        self.link = link
        self.epoch, self.gen, self.nonce, self.tok = epoch, gen, claim.nonce, claim.tok
        self.ck, self.taken = checkpoint_key(uid, node), taken_key(uid, node)
        self.db = db
        self.number = 0
        self._before = claim.found.number if claim.found else 0  # windows of all chains before this one
        self.flying: deque[Window] = deque()
        self.flying_bytes = 0
        self.seen, self.seen_db = (claim.found.seen, claim.found.seen_db) if claim.found else (0, 0)
        self.errors = claim.found.errors if claim.found else ""  # as `Checkpoint.errors`
        self.refused: list[RefusedCommand] | None = None  # keys are, or are to be, under repair: `seen` stays
        self.collects = False  # refused commands of the stream are gathered there, not raised
        self.fresh_ms = claim.found.fresh_ms if claim.found else ALL_HELD  # as `Checkpoint.fresh_ms`
        self.held = claim.found.held if claim.found else True
        self.extend_ms: int | None = None  # what settled expiries on the target are later than the source's, or MIXED
        self.kept: Callable[[], Sequence[bytes]] = tuple  # names and values of the checkpoint that no tail writes else
        self.closed = False  # the window that ends it all has been pushed
        self.tip = (0, 0, "")  # offset, stream's database, replication id behind the last window pushed
        self._out = bytearray()
        self.pouring: Iterator[bytes | bytearray] | None = None  # what is to be sent behind that
        self.sent = 0  # bytes
        self._in = b""
        self._wanted = 0  # bytes of replies to have before it is worth looking again
        over = over_key(self.tok)
        self._watch = encode([b"WATCH", self.ck, self.tok, over]) + encode([b"PEXPIREAT", over, FAR])
        self._tail = encode([b"SELECT", db]) + encode([b"DEL", self.tok])
        self._errors = counted(self.ck)
        self._count = encode([b"HINCRBY", self.ck, b"windows", b"1"])

    def push(self, window: Window) -> None:
        """Queue one window for sending. What goes beside it is executed now."""
        assert not (window.alone and self.flying)
        if window.plain:
            self._beside(window.plain)
        if window.serves:
            check_alone(self.link.ask(b"CLUSTER", b"NODES"), window.serves)
        assert self.pouring is None
        self.number += 1
        n = self.number
        self.held = self.held or window.held
        self.tip = (window.end, window.db, window.replid)
        point = self.point()
        self._out += self._watch
        self._out += encode([b"HSETNX", self.tok, n - 1, b"0"])
        self._out += MULTI
        # Both are gone with the database; all windows before are known to be there.
        kept = self.kept() if window.wipes else ()
        count = encode([b"HSET", self.ck, b"windows", self._before + n]) if window.wipes else self._count
        here = encode([b"HSET", self.ck, *point.fields(), *kept, b"tok", self.tok])
        errors = self._errors if window.commands and self.link.scripted else b""
        end = b"".join((self._tail, encode([b"HSET", self.tok, n, b"1"]), count, here, errors, EXEC))
        if window.elsewhere:
            pieces = window.pieces()
            if self.link.scripted:
                pieces = scripted_pieces(pieces, window.pieces(), self.ck, self.db)
            self.pouring = chain(pieces, [end])
        else:
            self._out += scripted(window.body, self.ck, self.db) if self.link.scripted else window.body
            self._out += end
        self.flying.append(window)
        self.flying_bytes += len(window.body) + window.beside

    def _beside(self, commands: list[list[bytes]]) -> None:
        """Execute what a script may not say, if the chain is ours still. After a death it is done again."""
        tok, over = self.tok, over_key(self.tok)
        gate: list[list[bytes | int]] = [
            [b"WATCH", self.ck, tok, over], [b"PEXPIREAT", over, FAR], [b"HSETNX", tok, self.number, b"0"], [b"MULTI"],
        ]  # fmt: skip
        for argv in commands:
            gate.append([*argv])
        *_, done = self.link.ask_all([*gate, [b"EXEC"]])
        if done is None:
            raise Fenced("a command of the stream was refused: another owner has claimed it")
        for answer in done:
            if isinstance(answer, ReplyError) and not ALREADY.search(answer.line):
                raise classify(answer.line, Side.TARGET)

    def point(self) -> Checkpoint:
        """What the last window pushed says, or was to say."""
        (offset, db, replid), state = self.tip, FINISHED if self.closed else STREAMING
        return Checkpoint(
            replid, offset, db, self.epoch, self.nonce, self.seen, state, self.gen, self.held, self.extend_ms,
            self._before + self.number, seen_db=self.seen_db, errors=self.errors, fresh_ms=self.fresh_ms,
        )  # fmt: skip

    def close(self, window: Window) -> None:
        """Queue the last window there is: behind it nobody claims the target for this stream again."""
        assert not self.flying
        self.closed, self.held = True, False
        self.push(window)

    def trust(self, errors: str) -> None:
        """All of the stream up to the tip took effect as at the source; nothing is in flight.

        Args:
            errors: the target's count of them by now.
        """
        self.seen, self.seen_db, _ = self.tip
        self.errors, self.refused = errors, None

    def own_window(self) -> Window:
        """A window for writes of our own behind the last one pushed: it leaves the stream where it is."""
        offset, db, replid = self.tip
        return Window(start=offset, end=offset, db=db, replid=replid, first=self.db, selected=self.db)

    def pump(self, timeout_s: float, patient: bool = False) -> list[Window]:
        """Send and receive what can be without waiting longer than the timeout; the windows committed.

        Args:
            patient: not to be woken for less than the replies of some windows; a target answers a few commands at a
                time. Only for as long as the target does answer.
        Raises ConnectionLost, Fenced, TargetBusy, RefusedCommand, CannotContinue.
        """
        least = self._least() if patient else 1
        readable, writable = self.link.ready(timeout_s, write=bool(self._out), least=least)
        if writable:
            self._write()
        if not readable:
            if not self._wanted:
                return []
            self._wanted = 0  # nothing more is coming: what is there may be complete
            return self._read()
        self._in += self.link.receive()
        return self._read()

    def _least(self) -> int:
        """Bytes of replies without which some of the windows in flight cannot have been committed."""
        some = islice(self.flying, max(1, len(self.flying) // TURNS))
        each = SCRIPTED_BYTES if self.link.scripted else QUEUED_BYTES
        return max(1, sum(each * window.commands for window in some) - len(self._in))

    def _write(self) -> None:
        sent = self.link.write(self._out)
        self.sent += sent
        del self._out[:sent]
        while self.pouring is not None and len(self._out) < POUR_BYTES:
            part = next(self.pouring, None)
            if part is None:
                self.pouring = None
            else:
                self._out += part

    def _read(self) -> list[Window]:
        done: list[Window] = []
        if len(self._in) < self._wanted:
            return done
        pos = 0
        while self.flying:
            window = self.flying[0]
            inside = window.commands if self.link.scripted else 0
            queued = window.commands + TAIL_COMMANDS + bool(inside)
            end, outcome, gate, refused, failed = transaction(self._in, pos, GATE_COMMANDS, queued, inside)
            if end < 0:
                break
            pos = end
            self.flying.popleft()
            self.flying_bytes -= len(window.body) + window.beside
            self._judge(window, outcome, gate, refused, failed)
            if self.refused is None:
                self.seen, self.seen_db = window.end, window.db
                self.fresh_ms = window.fresh_ms or self.fresh_ms
            done.append(window)
        self._in = self._in[pos:]
        # A window with long replies is not scanned again for every packet of them.
        self._wanted = 2 * len(self._in) if len(self._in) > 1 << 20 else 0
        if not self.flying and self._in:
            raise lost("the target answers out of turn")
        return done

    def _judge(
        self, window: Window, outcome: int, gate: dict[int, bytes], refused: dict[int, bytes], failed: dict[int, bytes]
    ) -> None:
        if 0 in gate or GATE_COMMANDS in gate:
            line = gate.get(0) or gate[GATE_COMMANDS]
            if (busy := classify(line, Side.TARGET)).retry is not Retry.FATAL:
                raise busy
            raise CannotContinue(
                f"the target refused WATCH or MULTI: {line.decode(errors='replace').lstrip('-')}",
                side=Side.TARGET,
                hint="allow WATCH, MULTI and EXEC to the user of the target URL; start over with an empty target",
            )
        if outcome == NIL:
            raise Fenced("a window of the stream was refused: another owner has claimed it")
        if outcome == ABORTED:
            line = next(iter(refused.values()))
            index = next(iter(refused))
            error = classify(line, Side.TARGET)
            if index < window.commands:
                argv, offset = window.sent(index)
                made_of = window.origin(index)
                own = made_of is not None and argv[0].upper() != made_of[0].upper()
                if own and made_of is not None and error.retry is Retry.FATAL:
                    raise TransformError(f"the target refuses {named(argv)}: {error.message}", 0, made_of)
                error.message += f" [{named(argv)} at offset {offset}]"
                if UNKNOWN.match(line) and window.start != window.end:
                    raise UnknownCommand(argv, error)
            raise error
        assert outcome == COMMITTED
        found: list[RefusedCommand] = []
        if (whole := failed.pop(WHOLE, None)) is not None and window.start == window.end:
            raise ended(whole)  # what it was to do is begun anew
        for index, line in failed.items():
            if index >= window.commands:
                raise CannotContinue(
                    f"the checkpoint could not be written: {line.decode(errors='replace')}",
                    side=Side.TARGET,
                    hint="keys that begin keyferry: are Keyferry's own; leave them alone",
                )
            argv, offset = window.command(index)
            if whole is not None and argv[0].upper() == b"SELECT":
                continue  # it was not refused itself, and names nothing that could be copied anew
            final = window.start == window.end  # a window of our own
            raise_away(line, final and self.link.scripted)
            if self.refused is not None and window.is_expected(index):
                continue  # `Repair` knows of each by itself
            made_of = window.origin(index)
            if final and made_of is not None:
                what = f"the target refuses {named(window.sent(index)[0])}: {line.decode(errors='replace').lstrip('-')}"
                raise TransformError(what, 0, made_of)
            answer = NOT_SENT if window.stands_in(index) else line.decode(errors="replace").lstrip("-")
            found.append(RefusedCommand(argv, window.database(index), offset, answer, final))
        if found and (found[0].final or (self.refused is None and not self.collects)):
            found[0].others = found[1:]
            raise found[0]
        if found:
            self.refused = [*(self.refused or []), *found]


def commit(chain: Chain, window: Window) -> None:
    """Push one window, and see it committed. Raises what `Chain.pump` raises, and ConnectionLost."""
    chain.push(window)
    by = time.monotonic() + SILENCE_S
    while chain.flying:
        if chain.pump(STEP_S):
            continue
        if time.monotonic() > by:
            raise lost(f"the target has been silent for {SILENCE_S:.0f} s")

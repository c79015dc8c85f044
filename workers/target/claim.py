"""Claims: how an owner of a stream takes over, and where it goes on.

The checkpoint is a hash on the target, written in the same transaction as each window.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace

from sync_tasks.errors import Fenced, TargetError
from sync_tasks.names import checkpoint_key, claims_key, over_key, token_key
from workers.target.link import TargetLink

FIELDS = (
    b"replid", b"offset", b"db", b"epoch", b"nonce", b"tok", b"seen", b"state", b"gen", b"held", b"extend",
    b"number", b"windows", b"seendb", b"errors", b"fresh", b"extent", b"adding", b"back", b"script", b"turn",
    b"leaving",
)  # fmt: skip

OVER_S = 30 * 86400
STREAMING = "streaming"
"""State of a checkpoint whose load is closed; without it the data set is still being loaded."""
LOADING = "loading"
"""State of a checkpoint that was streaming, while a full sync in place loads snapshot `gen`."""
ENDED = "ended"
"""State of a checkpoint that was fenced for a restart or a release: nobody may claim it, and it was not cut over."""
FINISHED = "finished"
"""State of a checkpoint that is closed for good: nobody may claim it any more."""
MIXED = -1
"""In place of an extension: expiries on the target carry one or another."""
ALL_HELD = 1 << 62
"""In place of a moment: nothing that has an expiry was written without the hold so far."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What the target knows of the stream.

    offset: the last stream byte whose effect the target has; seen: the highest one whose replies were read.
    db: the stream's database there. state: STREAMING, LOADING, ENDED or FINISHED.
    gen: number of the snapshot below it, or of the one that is being loaded.
    held: whether some expiries on the target may still carry the hold.
    extend_ms: what all others are later than the source's, or MIXED; None: not known, an earlier version wrote it.
    number: of the last window, counted by whoever sent it; windows: counted by the target. They differ when a window
    is missing among those committed: its gate was refused (OOM, NOREPLICAS), and its successor's just as well.
    seen_db: the stream's database behind `seen`. errors: the target's count of error replies before anything behind
    `seen` was written (`workers.target.error_count`); empty: an earlier version wrote it.
    extent: of which databases and keys the target is what the source was at `offset`, as `Extent.text`; empty: an
    earlier version wrote it. adding: how far an addition to that is, as `workers.added` writes it. Both are written
    only by the windows that change them.
    turn: of the lane whose extent it is, as `sync_tasks.lanes.Lane.turn`; written with it.
    back: of a target that is closed, where its own stream stood then, as `Point`; empty: not known.
    leaving: hash slots, as `slots.written`, where keys may be that we have put, an addition most often, and on which no
    stream acts: until those are gone (`workers.leaving`) nobody takes such a slot up.
    script: of a part of a cluster under a transform, by which script its stream goes, and since where, as `Since`.
    fresh_ms: a moment by the target's clock before which nothing behind `seen` was written at the source, or ALL_HELD;
    0: not known.
    """

    replid: str
    offset: int
    db: int
    epoch: int
    nonce: str
    seen: int
    state: str
    gen: int
    held: bool
    extend_ms: int | None = None
    number: int = 0
    windows: int = 0
    seen_db: int = 0
    errors: str = ""
    fresh_ms: int = 0
    extent: str = ""
    adding: str = ""
    back: str = ""
    script: str = ""
    turn: int = 0
    leaving: str = ""

    def fields(self) -> list[bytes]:
        """Name and value in turn, but the token's name, the target's own count, and what seldom changes."""
        extend = [] if self.extend_ms is None else [b"extend", b"%d" % self.extend_ms]
        return [
            b"replid", self.replid.encode(), b"offset", b"%d" % self.offset, b"db", b"%d" % self.db,
            b"epoch", b"%d" % self.epoch, b"nonce", self.nonce.encode(), b"seen", b"%d" % self.seen,
            b"state", self.state.encode(), b"gen", b"%d" % self.gen, b"held", b"%d" % self.held,
            b"number", b"%d" % self.number, b"seendb", b"%d" % self.seen_db, b"errors", self.errors.encode(),
            b"fresh", b"%d" % self.fresh_ms, *extend,
        ]  # fmt: skip


class Finished(Fenced):
    """The target is closed to this stream for good. Nothing was written.

    Args:
        offset: up to which the target has the stream.
    """

    def __init__(self, offset: int) -> None:
        super().__init__(
            f"the target is closed to this task: it was ended or cut over at offset {offset},"
            " and never writes there again",
            hint="make a new task, with another state directory",
        )
        self.offset = offset


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim that succeeded: the token of its chain, and the checkpoint found (None: there was none)."""

    epoch: int
    nonce: str
    tok: bytes
    found: Checkpoint | None


def _read(values: list[bytes | None]) -> Checkpoint | None:
    got = dict(zip(FIELDS, values, strict=True))
    if got[b"state"] is None or (got[b"offset"] is None and got[b"state"] != FINISHED.encode()):
        return None
    try:
        return Checkpoint(
            replid=(got[b"replid"] or b"").decode(),
            offset=int(got[b"offset"] or 0),
            db=int(got[b"db"] or 0),
            epoch=int(got[b"epoch"] or 0),
            nonce=(got[b"nonce"] or b"").decode(),
            seen=int(got[b"seen"] or 0),
            state=got[b"state"].decode(),
            gen=int(got[b"gen"] or 0),
            held=got[b"held"] != b"0",
            extend_ms=None if got[b"extend"] is None else int(got[b"extend"]),
            number=int(got[b"number"] or 0),
            windows=int(got[b"windows"] or 0),
            seen_db=int(got[b"seendb"] or 0),
            errors=(got[b"errors"] or b"").decode(),
            fresh_ms=int(got[b"fresh"] or 0),
            extent=(got[b"extent"] or b"").decode(),
            adding=(got[b"adding"] or b"").decode(),
            back=(got[b"back"] or b"").decode(),
            script=(got[b"script"] or b"").decode(),
            turn=int(got[b"turn"] or 0),
            leaving=(got[b"leaving"] or b"").decode(),
        )
    except ValueError as e:
        hint = "start over with an empty target and a new state directory"
        raise TargetError("the checkpoint on the target is damaged", hint=hint) from e


def peek_epoch(link: TargetLink, uid: str, node: int) -> int:
    """The epoch that the target has seen, 0 when none."""
    return int(link.ask(b"HGET", checkpoint_key(uid, node), b"epoch") or 0)


def look(link: TargetLink, uid: str, node: int) -> Checkpoint | None:
    """The checkpoint, without claiming it."""
    return _read(link.ask(b"HMGET", checkpoint_key(uid, node), *FIELDS))


def claim(link: TargetLink, uid: str, node: int, epoch: int, nonce: str) -> Claim:
    """Take the stream over: from now on every window of any other owner or connection answers nil.

    Args:
        link: in the checkpoint's database.
        uid, node: whose checkpoint.
        epoch: of the lease, checked just before.
        nonce: of this owner, the same for all its claims: an answer may be lost, and a failover may take a claim back.
    Raises Fenced when somebody with a better right was found. Raises Finished when there is nothing to own any more.

    It waits for no window of a busy predecessor, but it is void if another claim was executed since it looked: one
    that arrives late, perhaps of our own, would put its token's name in place of the chain's that is going on, and
    whoever claims next would end the wrong one.
    """
    ck, claims = checkpoint_key(uid, node), claims_key(uid, node)
    tok = token_key(uid, node, secrets.token_hex(8))
    doomed: set[bytes] = set()
    while True:
        found = link.ask_all([[b"WATCH", claims], [b"HMGET", ck, *FIELDS]])[1]
        _check(found, epoch, nonce)
        former = found[FIELDS.index(b"tok")]
        commands: list[list[bytes | int]] = [
            [b"MULTI"],
            [b"HMGET", ck, *FIELDS],
            [b"SET", claims, tok],
            [b"HSET", ck, b"epoch", epoch, b"nonce", nonce.encode(), b"tok", tok],
        ]
        doomed |= {former} - {tok, None}
        if doomed:
            commands.append([b"DEL", *doomed])
            commands += [[b"SET", over_key(d), b"1", b"EX", OVER_S] for d in doomed]
        commands += [[b"HSET", tok, b"0", b"1"], [b"EXEC"]]
        answers = link.ask_all(commands)[-1]
        if answers is None:  # somebody else claimed meanwhile, or emptied the database
            continue
        values = answers[0]
        before = values[FIELDS.index(b"tok")]
        _check(values, epoch, nonce)
        if before != former:  # an older version claimed between the two: its token must go, too
            doomed |= {before} - {None}
            continue
        point = _read(values)
        return Claim(epoch, nonce, tok, replace(point, epoch=epoch, nonce=nonce) if point else None)


def begin_load(
    link: TargetLink,
    take: Callable[[], Claim],
    uid: str,
    node: int,
    gen: int,
    more: Callable[[Checkpoint | None], list[list[bytes | int]]] = lambda _: [],
) -> None:
    """Say that a full sync in place loads snapshot `gen`; no window of an earlier stream is executed any more.

    Args:
        link: in the checkpoint's database.
        take: claims on it, and so ends all chains; once more if a claim of our own comes late, from a connection that
            is no more. The first claim after a start raises the epoch.
        more: commands that go with it, by the checkpoint that is there; what it watches besides spoils it, too.
    Raises what `more` does, Fenced if somebody else has claimed, Finished if the last window of the stream was executed
    before that.
    """
    ck, claimed = checkpoint_key(uid, node), take()
    begun: list[bytes | int] = [b"state", LOADING.encode(), b"gen", gen, b"number", 0, b"windows", 0]
    while True:
        values = link.ask_all([[b"WATCH", ck], [b"HMGET", ck, *FIELDS]])[1]
        _check(values, claimed.epoch, claimed.nonce)
        if values[FIELDS.index(b"tok")] != claimed.tok:
            claimed = take()
        elif link.ask_all([[b"MULTI"], [b"HSET", ck, *begun], *more(_read(values)), [b"EXEC"]])[-1] is not None:
            return


def check_open(state: str, offset: int) -> None:
    """Raise Finished or Fenced if the target is closed to the task."""
    if state == FINISHED:
        raise Finished(offset)
    if state == ENDED:
        raise Fenced("the task was restarted or released meanwhile", hint="restart it, or release it")


def _check(values: list[bytes | None], epoch: int, nonce: str) -> None:
    """Raise what stands against a claim."""
    got = dict(zip(FIELDS, values, strict=True))
    check_open((got[b"state"] or b"").decode(), int(got[b"offset"] or 0))
    other_epoch, other_nonce = got[b"epoch"], got[b"nonce"]
    if other_epoch is None:
        return
    theirs = int(other_epoch)
    if theirs > epoch or (theirs == epoch and (other_nonce or b"").decode() != nonce):
        raise Fenced(
            f"another copy of this task owns the target (epoch {theirs}, ours {epoch})",
            hint="only one state directory may drive a task: go on with the newer copy, or start over with a new one",
        )

"""Claims: how an owner of a stream takes over, and where it goes on (DESIGN 4).

The checkpoint is a hash on the target, written in the same transaction as each window.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace

from sync_tasks.errors import Fenced, TargetError
from sync_tasks.names import checkpoint_key, over_key, token_key
from workers.target.link import TargetLink

FIELDS = (b"replid", b"offset", b"db", b"epoch", b"nonce", b"tok", b"seen", b"state", b"gen", b"held")

OVER_S = 30 * 86400
STREAMING = "streaming"
"""State of a checkpoint whose load is closed; without it the data set is still being loaded."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What the target knows of the stream.

    offset: the last stream byte whose effect the target has; seen: the highest one whose replies were read.
    db: the stream's database there. state: STREAMING. gen: number of the snapshot below it.
    held: whether some expiries on the target may still carry the hold.
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

    def fields(self) -> list[bytes]:
        """Name and value in turn, but the token's name."""
        return [
            b"replid", self.replid.encode(), b"offset", b"%d" % self.offset, b"db", b"%d" % self.db,
            b"epoch", b"%d" % self.epoch, b"nonce", self.nonce.encode(), b"seen", b"%d" % self.seen,
            b"state", self.state.encode(), b"gen", b"%d" % self.gen, b"held", b"%d" % self.held,
        ]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim that succeeded: the token of its chain, and the checkpoint found (None: there was none)."""

    nonce: str
    tok: bytes
    found: Checkpoint | None


def _read(values: list[bytes | None]) -> Checkpoint | None:
    got = dict(zip(FIELDS, values, strict=True))
    if got[b"state"] is None or got[b"offset"] is None:
        return None
    try:
        return Checkpoint(
            replid=(got[b"replid"] or b"").decode(),
            offset=int(got[b"offset"]),
            db=int(got[b"db"] or 0),
            epoch=int(got[b"epoch"] or 0),
            nonce=(got[b"nonce"] or b"").decode(),
            seen=int(got[b"seen"] or 0),
            state=got[b"state"].decode(),
            gen=int(got[b"gen"] or 0),
            held=got[b"held"] != b"0",
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
    Raises Fenced when somebody with a better right was found; the rightful owner claims again by itself.
    """
    ck = checkpoint_key(uid, node)
    tok = token_key(uid, node, secrets.token_hex(8))
    doomed: set[bytes] = set()
    while True:
        former, other_epoch, other_nonce = link.ask(b"HMGET", ck, b"tok", b"epoch", b"nonce")
        _check(other_epoch, other_nonce, epoch, nonce)
        commands: list[list[bytes | int]] = [
            [b"MULTI"],
            [b"HMGET", ck, *FIELDS],
            [b"HSET", ck, b"epoch", epoch, b"nonce", nonce.encode(), b"tok", tok],
        ]
        doomed |= {former} - {tok, None}
        if doomed:
            commands.append([b"DEL", *doomed])
            commands += [[b"SET", over_key(d), b"1", b"EX", OVER_S] for d in doomed]
        commands += [[b"HSET", tok, b"0", b"1"], [b"EXEC"]]
        values = link.ask_all(commands)[-1][0]
        before = values[FIELDS.index(b"tok")]
        if before != former:  # somebody claimed between the two: its token must go, too
            _check(values[FIELDS.index(b"epoch")], values[FIELDS.index(b"nonce")], epoch, nonce)
            doomed.add(before)
            continue
        found = _read(values)
        return Claim(nonce, tok, replace(found, epoch=epoch, nonce=nonce) if found else None)


def _check(other_epoch: bytes | None, other_nonce: bytes | None, epoch: int, nonce: str) -> None:
    if other_epoch is None:
        return
    theirs = int(other_epoch)
    if theirs > epoch or (theirs == epoch and (other_nonce or b"").decode() != nonce):
        raise Fenced(
            f"another copy of this task owns the target (epoch {theirs}, ours {epoch})",
            hint="only one state directory may drive a task: go on with the newer copy, or start over with a new one",
        )

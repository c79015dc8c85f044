"""Names of Celery tasks, queues and roles, and of every key written to a user's server; once each."""

from __future__ import annotations

# Celery tasks
FOLLOW = "stream.follow"
LOAD = "load.chunk"
OPS = "ops.run"
PART = "verify.part"
SWEEP = "spool.sweep"

# Queues
QUEUE_STREAM = "kf.stream"
QUEUE_LOAD = "kf.load"
QUEUE_OPS = "kf.ops"
QUEUES = {FOLLOW: QUEUE_STREAM, LOAD: QUEUE_LOAD, OPS: QUEUE_OPS, PART: QUEUE_LOAD, SWEEP: QUEUE_LOAD}


def queue(task: str, spool: str | None = None) -> str:
    """Queue of a Celery task; with the id of a spool, that of the workers who see this spool."""
    return QUEUES[task] if spool is None or task == OPS else f"{QUEUES[task]}.{spool}"


# Processes that the command line starts; resolved by name, since sync_tasks imports no other layer.
SCHEDULER_MAIN = "scheduler.main:run"
VERIFY_MAIN = "workers.verify:verify"
MAPPERS = "sqlalchemy.orm:configure_mappers"
CORE = "workers.codec:core"
REQUIRE_CORE = "workers.codec:require_core"
TASK_MODULES = ("workers.tasks",)

SCHEDULER_LEASE = "scheduler"


def node_lease(node_id: int) -> str:
    """Lease of the one stream job of a source node."""
    return f"node:{node_id}"


KEY_PREFIX = b"keyferry:"
"""All keys that Keyferry writes to a user's server begin so."""
STREAM_CHANNEL = KEY_PREFIX + b"stream"
"""Channel on which empty messages are published at a source, so that its stream says on which database it acts."""


def checkpoint_key(uid: str, node: int) -> bytes:
    """Hash in the target's checkpoint database: replid, offset, db, epoch, nonce, tok, seen, state, gen, ...

    `snapshots` counts those that were begun.
    """
    return b"keyferry:%s:%d:ck" % (uid.encode(), node)


def token_key(uid: str, node: int, nonce: str) -> bytes:
    """Hash of the chain of windows, named anew by each claim: field n is set by window n."""
    return b"keyferry:%s:%d:tok:%s" % (uid.encode(), node, nonce.encode())


def taken_key(uid: str, node: int) -> bytes:
    """String that is written whenever the stream begins to take slots up: whoever watches it has been overtaken."""
    return b"keyferry:%s:%d:taken" % (uid.encode(), node)


def claims_key(uid: str, node: int) -> bytes:
    """String that each claim writes, and nothing else does: a claim that arrives behind another is spoiled by it."""
    return b"keyferry:%s:%d:claims" % (uid.encode(), node)


def closed_key(uid: str, node: int, gen: int) -> bytes:
    """String that exists once loading of snapshot `gen` has ended; fences its load workers."""
    return b"keyferry:%s:%d:closed:%d" % (uid.encode(), node, gen)


def marks_key(uid: str, node: int, gen: int) -> bytes:
    """Hash: chunk number to keys written, set by a chunk's last batch; `begun:<number>` once a loader has begun it."""
    return b"keyferry:%s:%d:marks:%d" % (uid.encode(), node, gen)


def begun(what: str) -> bytes:
    """Field of `marks_key`: something of that part may be on the target."""
    return b"begun:" + what.encode()


def at_field(seq: int) -> bytes:
    """Field of `marks_key`: how far a chunk is loaded, where loading it twice would do harm. Position in its file, and
    commands of the record there and keys before it that are done."""
    return b"at:%d" % seq


def script_field(seq: int) -> bytes:
    """Field of `marks_key`, of a part of a cluster: digest of the transform by which a chunk is loaded there."""
    return b"script:%d" % seq


def load_key(uid: str, node: int, gen: int, what: str) -> bytes:
    """Hash of the chain of one loader's batches, taken over by whoever loads the same chunk next; gone with its end.

    Args:
        what: the chunk's number, or "sweep".
    """
    return b"keyferry:%s:%d:load:%d:%s" % (uid.encode(), node, gen, what.encode())


def tmp_key(uid: str, chunk: int, attempt: int, tag: str = "") -> bytes:
    """A huge value while it is built in pieces; renamed into place.

    Args:
        tag: hash tag, where it must be in the slot of the key that it becomes.
    """
    return b"keyferry:tmp:%s%s:%d:%d" % (_tagged(tag), uid.encode(), chunk, attempt)


def built_key(uid: str, node: int, number: int, tag: str = "") -> bytes:
    """A huge value that the stream restores, while it is built in pieces; renamed into place.

    Args:
        number: of such values in one transaction of the source, from 0.
        tag: as for `tmp_key`.
    """
    return b"keyferry:tmp:%s%s:%d:stream:%d" % (_tagged(tag), uid.encode(), node, number)


def _tagged(tag: str) -> bytes:
    return b"{%s}:" % tag.encode() if tag else b""


def over_key(tok: bytes) -> bytes:
    """String that exists once a token's chain is over: spoils its late windows even where memory refuses HSETNX."""
    return tok + b":over"


def is_gate(key: bytes) -> bool:
    """Whether a key of ours keeps out who wakes up late."""
    return key.endswith(b":over") or b":closed:" in key

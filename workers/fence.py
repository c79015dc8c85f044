"""Ending a task on its target: nobody writes for it any more, and later its own keys go."""

from __future__ import annotations

import re
import secrets

from sync_tasks.endpoints import Endpoint
from sync_tasks.names import KEY_PREFIX, checkpoint_key, closed_key, is_gate, over_key
from sync_tasks.views import ChunkView, NodeView, TaskView
from workers.building import built_keys
from workers.huge import remove_pieces
from workers.scope import Scope
from workers.takeover import STRIDE
from workers.target.claim import ENDED, FINISHED, OVER_S, claim, peek_epoch
from workers.target.databases import holding
from workers.target.link import TargetLink

BATCH = 1000
WOKEN_LATE_S = 24 * 3600
"""How long gates stay shut behind a release: a loader may still be asleep somewhere, or bytes be under way."""


def fence(endpoint: Endpoint, task: TaskView, nodes: list[NodeView], home: int) -> None:
    """Shut the target to every stream and loader of a task, whoever sleeps and wakes up later. Safe to repeat.

    Args:
        endpoint: the target.
        task, nodes: whose; no stream job of it holds a lease.
        home: database of Keyferry's keys there.

    Raises:
        KeyferryError: what the target answers.
    """
    link = TargetLink(endpoint, f"keyferry-{task.uid}-fence", home)
    try:
        for node in nodes:
            # The stream first: should the target go away in between, a load that is shut would never be complete.
            close_stream(link, task.uid, node.number)
            close_loads(link, task.uid, node)
    finally:
        link.close()


def close_loads(link: TargetLink, uid: str, node: NodeView) -> None:
    """Shut the target to every loader of a node."""
    # The database may have lost its last commits.
    begun = int(link.ask(b"HGET", checkpoint_key(uid, node.number), b"snapshots") or 0)
    for gen in range(1, max(begun, node.gen) + 1):
        link.ask(b"SET", closed_key(uid, node.number, gen), b"1")


def close_stream(link: TargetLink, uid: str, number: int) -> None:
    """Unless it is closed: claim above every owner there was, then end our own chain: its token goes as any
    predecessor's does."""
    if link.ask(b"HGET", checkpoint_key(uid, number), b"state") in (FINISHED.encode(), ENDED.encode()):
        return
    epoch = (peek_epoch(link, uid, number) // STRIDE + 1) * STRIDE
    tok = claim(link, uid, number, epoch, secrets.token_hex(8)).tok
    link.ask_all([
        [b"MULTI"],
        [b"DEL", tok],
        [b"SET", over_key(tok), b"1", b"EX", OVER_S],
        [b"HSET", checkpoint_key(uid, number), b"state", ENDED.encode()],
        [b"EXEC"],
    ])  # fmt: skip


def remove_keys(
    endpoint: Endpoint, task: TaskView, chunks: list[ChunkView], home: int, numbers: list[int]
) -> int:
    """Remove every key of a fenced task from its target; how many. Safe to repeat.

    The gates of its loads and windows go by themselves after a day: who sent some may only be asleep.

    Args:
        chunks: of all its snapshots.
        numbers: of its source nodes.
    """
    link = TargetLink(endpoint, f"keyferry-{task.uid}-release", home)
    try:
        removed = 0
        if not link.scripted:
            scope = Scope(task.databases)
            removed = remove_pieces(link, task.uid, scope, chunks)
            for db in holding(link, scope):
                link.ask(b"SELECT", db)
                for number in numbers:
                    removed += int(link.ask(b"UNLINK", *built_keys(task.uid, number)))
            link.ask(b"SELECT", home)
        uid = re.escape(task.uid.partition(":")[0].encode())  # of a cluster, keys of all lanes that are there
        cursor, mine = b"0", re.compile(b"%b(tmp:({[0-9a-f]+}:)?)?%b:" % (KEY_PREFIX, uid))
        while True:
            cursor, found = link.ask(b"SCAN", cursor, b"MATCH", KEY_PREFIX + b"*", b"COUNT", BATCH)
            for key in filter(mine.match, found):
                if is_gate(key):
                    link.ask(b"EXPIRE", key, WOKEN_LATE_S)
                else:
                    removed += int(link.ask(b"UNLINK", key))
            if cursor == b"0":
                return removed
    finally:
        link.close()

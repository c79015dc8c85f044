"""Our own keys on the target, put in order behind commands that empty or swap whole databases."""

from __future__ import annotations

from collections.abc import Callable

from sync_tasks.names import checkpoint_key, claims_key, closed_key, marks_key


def own_keys(uid: str, node: int, home: int, gen: int, tok: bytes) -> Callable[[list[int]], list[list[bytes]]]:
    """Commands for behind FLUSHDB, FLUSHALL, SWAPDB; the window's tail rewrites the rest (`Chain.kept`, too).

    Args:
        uid, node: of the task and the source node.
        home: the checkpoint's database.
        gen: of the snapshot below the stream.
        tok: token of the claim.
    Returns what gives the commands for the target databases concerned.
    """
    ours = [checkpoint_key(uid, node), tok, claims_key(uid, node), marks_key(uid, node, gen)]
    ours += [closed_key(uid, node, g) for g in range(1, gen + 1)]

    def own(databases: list[int]) -> list[list[bytes]]:
        if home not in databases:
            return []
        out: list[list[bytes]] = []
        for other in databases:
            if other != home:
                out += [[b"SELECT", b"%d" % other], [b"DEL", *ours]]
        out.append([b"SELECT", b"%d" % home])
        return out + [[b"SET", closed_key(uid, node, g), b"1"] for g in range(1, gen + 1)]

    return own

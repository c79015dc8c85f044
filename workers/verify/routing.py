"""Where a command of a pipeline goes in a cluster: its key, cut out of the packed bytes."""

from __future__ import annotations

import re

from workers.verify.wire import CR_LF

SECOND = frozenset((b"MEMORY", b"DEBUG", b"XINFO"))
"""Commands whose key stands behind a word more."""
KEYLESS = frozenset((b"TIME", b"INFO", b"SELECT", b"SCAN", b"FUNCTION"))
AWAY = re.compile(rb"(MOVED|ASK) (\d+) (.*):(\d+)$")
BUSY = (b"TRYAGAIN", b"CLUSTERDOWN")


def cut(request: bytes) -> tuple[list[bytes], list[bytes | None]]:
    """Commands one by one, and the key of each; None: it has none."""
    raws: list[bytes] = []
    keys: list[bytes | None] = []
    find, pos, end = request.find, 0, len(request)
    while pos < end:
        start = pos
        stop = find(CR_LF, pos)
        count = int(request[pos + 1 : stop])
        pos = stop + 2
        key: bytes | None = None
        at = 1
        for i in range(count):
            stop = find(CR_LF, pos)
            begin = stop + 2
            pos = begin + int(request[pos + 1 : stop]) + 2
            if i == 0:
                name = request[begin : pos - 2]
                at = 2 if name in SECOND else 0 if name in KEYLESS else 1
            if i == at and i:
                key = request[begin : pos - 2]
        raws.append(request[start:pos])
        keys.append(key)
    return raws, keys


def unpacked(packed: bytes) -> bytes:
    """What `wire.arg` has packed."""
    return packed[packed.index(b"\n") + 1 : -2]

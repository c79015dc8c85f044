"""Whether the target's own replicas have what was written: a failover behind the cut-over must not take it back."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from workers.target.link import TargetLink

PATIENCE_S = 10.0
LOOK_EVERY_S = 0.1
ONLINE = re.compile(rb"^slave\d+:.*state=online,offset=(\d+)", re.MULTILINE)


def without(link: TargetLink, stopping: Callable[[], bool], patience_s: float = PATIENCE_S) -> int:
    """Wait until every online replica has confirmed what the target holds now; how many have not.

    WAIT would tell the same only of what this very connection has written. A replica that is slow for good, or is one
    by name alone (to a source we are such a one), costs the patience, no more.

    Args:
        stopping: ends the waiting.
        patience_s: seconds.

    Raises:
        KeyferryError: what the target answers.
    """
    goal, deadline = _offset(_info(link)), time.monotonic() + patience_s
    while True:
        late = sum(int(offset) < goal for offset in ONLINE.findall(_info(link)))
        if not late or stopping() or time.monotonic() > deadline:
            return late
        time.sleep(LOOK_EVERY_S)


def _info(link: TargetLink) -> bytes:
    info: bytes = link.ask(b"INFO", b"replication")
    return info.replace(b"\r\n", b"\n")


def _offset(info: bytes) -> int:
    found = re.search(rb"^master_repl_offset:(\d+)", info, re.MULTILINE)
    return int(found[1]) if found else 0

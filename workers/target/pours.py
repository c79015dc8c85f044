"""Which strings a target takes poured: as one SET, whose value is sent as it is read and held by the target alone.

A server reads a long argument straight into the buffer that becomes the value, and serves others in between. Built by
APPENDs, a string moves as a whole whenever the allocator finds no room behind it: with jemalloc one APPEND to a string
of 500 MB took 300 to 600 ms. But to whoever is sent what the target has executed (replicas, their backlog, the AOF) a
long command goes in one copy, and a replica may be cut off for it; there pieces are the lesser evil. Where commands go
as a script, it would copy them, too. All this is asked of the target for each such string: it changes meanwhile.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from contextlib import closing
from typing import Any

from sync_tasks.errors import KeyferryError
from workers.codec.resp_cy import ReplyError
from workers.target.link import TargetLink

LEAST = 4 << 20
"""Bytes; no piece of a shorter string takes long."""
ROOM = 4
"""Times its size: the value, the buffer that the server makes ready for another such, and as much for others' pours."""
SPARE = 1 << 20
"""Bytes that a connection takes beside the value."""
TRIES = 3
NAME = "keyferry-look"
REMEMBERED = 200
"""Strings that a stream sent last; more than one window has."""
LIMITS = {b"proto-max-bulk-len": 512 << 20, b"client-query-buffer-limit": 1 << 30, b"maxmemory-clients": 0}
"""What bounds one argument and one connection, in bytes, and the defaults."""
SENT_ON = ("aof_enabled", "connected_slaves", "repl_backlog_active")
SECTIONS = (b"memory", b"persistence", b"replication")


class Pours:
    """What one loader or stream asks before it sends such a string.

    Args:
        tried: attempts at what is sent that have failed so far, maybe for being poured.
    """

    def __init__(self, tried: int = 0) -> None:
        self._tried = tried
        self._asked: dict[Hashable, int] = {}  # how often

    def may(self, link: TargetLink, size: int, which: Hashable = None) -> bool:
        """Whether to pour a string of `size` bytes. Raises what the link raises.

        Where the target does not tell its limits, a connection that broke may have met one: then it is not tried again.

        Args:
            link: to the target, nothing in flight on it.
            which: tells it from others, for one that sends many; asked again, the last attempt has failed.
        """
        if size < LEAST or link.scripted:
            return False
        tried = self._tried
        if which is not None:
            tried += self._asked.get(which, 0)
            self._asked = {**dict(list(self._asked.items())[-REMEMBERED:]), which: tried + 1}
        limits, known = _limits(link)
        if tried >= (TRIES if known else 1):
            return False
        longest, buffer, clients = (limits[name] for name in LIMITS)
        if size > longest or size + SPARE > buffer or clients:
            return False
        told = link.try_all([[b"INFO", section] for section in SECTIONS])
        return _has_room(b"".join(answer for answer in told if isinstance(answer, bytes)), size)

    def may_beside(self, link: TargetLink, size: int, which: Hashable) -> bool:
        """As `may`, asked on a connection of its own to where `link` goes; no, if there is none to be had."""
        if size < LEAST or link.scripted:
            return False
        try:
            with closing(TargetLink(link.endpoint, NAME, 0)) as beside:
                return self.may(beside, size, which)
        except KeyferryError:
            return False


def _limits(link: TargetLink) -> tuple[dict[bytes, int], bool]:
    """LIMITS as they are set there, and whether that is known: CONFIG may be refused."""
    answers = link.try_all([[b"CONFIG", b"GET", name] for name in LIMITS])
    found = {name: _limit(answer, LIMITS[name]) for name, answer in zip(LIMITS, answers, strict=True)}
    return found, not any(isinstance(answer, ReplyError) for answer in answers)


def _limit(answer: Any, default: int) -> int:
    """A version may lack the setting; one that is a share of the memory counts as set."""
    if not isinstance(answer, list) or len(answer) < 2:
        return default
    return int(answer[1]) if answer[1].isdigit() else 1


def _has_room(info: bytes, size: int) -> bool:
    """Whether nobody is sent what is executed, and there is room; what is not told counts against it."""
    told = {name.decode(): int(number) for name, number in re.findall(rb"(?m)^(\w+):(\d+)\r?$", info)}
    if any(told.get(name, 1) for name in SENT_ON) or not {"maxmemory", "used_memory"} <= told.keys():
        return False
    return not told["maxmemory"] or told["used_memory"] + ROOM * size <= told["maxmemory"]

"""One side of a verification: what it can answer, and its exact expiries."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from sync_tasks.endpoints import Endpoint
from sync_tasks.names import KEY_PREFIX
from sync_tasks.throttle import NO_LIMITS, Limits
from workers.pace import Pace
from workers.verify.cluster import ClusterLink
from workers.verify.link import Link
from workers.verify.wire import Refusal, arg, each, head, pack

PROBE = KEY_PREFIX + b"probe"  # is only ever read, never written
SAMPLES = 8192  # elements that MEMORY USAGE looks at: nearly all of any value that we call small

SERIALIZED = re.compile(rb"serializedlength:(\d+)")

MEMORY = head(5, b"MEMORY", b"USAGE")
MEMORY_END = arg(b"SAMPLES") + arg(b"%d" % SAMPLES)
DEBUG = head(3, b"DEBUG", b"OBJECT")
PEXPIRETIME = head(2, b"PEXPIRETIME")
PTTL = head(2, b"PTTL")
TYPE = head(2, b"TYPE")
TIME = pack(b"TIME")

NO_KEY = -2
NO_EXPIRY = -1
UNKNOWN = -3  # could not be read exactly; equals nothing

GROUP = 16  # PTTLs between two TIMEs: some 20 microseconds
TRIES = 300  # of reading a group, or a single key, within one millisecond


Either = Link | ClusterLink
"""They have the same methods."""


def link_to(endpoint: Endpoint, pace: Pace | None = None) -> Either:
    """Answers pipelines of reading commands, each key's where the key is. Raises as `Link`."""
    return ClusterLink(endpoint, pace) if endpoint.is_cluster else Link(endpoint, pace)


class Server:
    """One server, or a cluster as if it were one, and what it is able to tell.

    Args:
        endpoint: where it is.
        limits: of what it is asked for.

    Raises:
        KeyferryError: it cannot be reached or refuses us.
    """

    def __init__(self, endpoint: Endpoint, limits: Limits = NO_LIMITS) -> None:
        self.endpoint = endpoint
        pace = Pace()
        pace.limits = limits
        self.link = link_to(endpoint, pace)
        info = self.link.info
        # Valkey also gives a redis_version, for the clients' sake, that stays where the two parted.
        self.version = _version(info.get("valkey_version") or info.get("redis_version", ""))
        self.exact_expiry = self.link.knows(b"PEXPIRETIME", PROBE)  # 7.0
        self.field_expiry = self.link.knows(b"HPEXPIRETIME", PROBE, b"FIELDS", b"1", b"f")  # Valkey 9, Redis 7.4
        self.says_memory = self.version >= (4, 0)
        self.whole_streams = self.version >= (6, 0)  # XINFO STREAM FULL
        self.stream_counters = self.version >= (7, 0)
        self.passes_on_entries_read = self.version >= (7, 2, 5)  # redis/redis#12898
        self.functions = self.version >= (7, 0)
        self._said = (self.now_ms(), time.monotonic())  # its clock in ms, and ours in s when it had said so

    def info(self, section: bytes) -> bytes:
        """INFO of one section; of a cluster that of all its masters."""
        return b"\n".join(self.link.everywhere(pack(b"INFO", section)))

    def keys_by_db(self) -> dict[int, int]:
        """Number of keys of each database that holds any, expired ones included."""
        return keys_by_db(self.info(b"KEYSPACE"))

    def now_ms(self) -> int:
        """The server's clock; of a cluster the one that is furthest behind."""
        now_ms = min(map(in_ms, self.link.everywhere(TIME)))
        self._said = (now_ms, time.monotonic())
        return now_ms

    def clock_ms(self) -> int:
        """The server's clock, never ahead of it: by what it said last, and without asking, so that any thread may."""
        said_ms, heard_s = self._said
        return said_ms + int((time.monotonic() - heard_s) * 1000)

    def start_heads(self, db: int, args: Sequence[bytes]) -> None:
        """Ask for size and expiry of keys (packed arguments); `finish_heads` reads the answers."""
        expiries = each(PEXPIRETIME if self.exact_expiry else PTTL, args)
        sizes = each(MEMORY, args, MEMORY_END) if self.says_memory else each(DEBUG, args)
        self.link.start(db, sizes + expiries, 2 * len(args))

    def finish_heads(self, db: int, args: Sequence[bytes]) -> tuple[list[int | None], list[int]]:
        """Bytes of memory (None: no such key) and expiries of the keys asked for.

        An expiry is in ms since 1970, or one of NO_KEY, NO_EXPIRY, UNKNOWN.
        """
        answers = self.link.finish(loose=not self.says_memory)
        sizes, expiries = answers[: len(args)], answers[len(args) :]
        if not self.says_memory:
            sizes = [None if isinstance(said, Refusal) else _serialized(said) for said in sizes]
        if not self.exact_expiry:
            volatile = [i for i, ttl in enumerate(expiries) if ttl >= 0]
            exact = self._moments(db, [args[i] for i in volatile])
            for i, moment in zip(volatile, exact, strict=True):
                expiries[i] = moment
        return sizes, expiries

    def sizes(self, db: int, keys: Sequence[bytes]) -> list[int]:
        """Bytes of memory of each key; a server before 4.0 tells those of a snapshot. 0: there is none."""
        args = [arg(key) for key in keys]
        request = each(MEMORY, args, MEMORY_END) if self.says_memory else each(DEBUG, args)
        said = self.link.ask(db, request, len(args), loose=not self.says_memory)
        if self.says_memory:
            return [size or 0 for size in said]
        return [0 if isinstance(one, Refusal) else _serialized(one) for one in said]

    def expiries(self, db: int, args: Sequence[bytes]) -> list[int]:
        """Expiries alone, as `finish_heads` gives them."""
        if self.exact_expiry:
            return self.link.ask(db, each(PEXPIRETIME, args), len(args))
        return self._moments(db, args)

    def types(self, db: int, args: Sequence[bytes]) -> list[bytes]:
        """Type of each key, b"none" where there is none."""
        return self.link.ask(db, each(TYPE, args), len(args))

    def field_expiries(self, db: int, hashes: Sequence[tuple[bytes, Sequence[bytes]]]) -> list[list[int]]:
        """Expiries in ms, or NO_EXPIRY, of fields of hashes (packed key, fields) as this server has them."""
        if not self.field_expiry:
            return [[NO_EXPIRY] * len(fields) for _, fields in hashes]
        request = b"".join(
            head(len(fields) + 4, b"HPEXPIRETIME")
            + b"".join((key, arg(b"FIELDS"), arg(b"%d" % len(fields)), *map(arg, fields)))
            for key, fields in hashes
        )
        answers = self.link.ask(db, request, len(hashes), loose=True)
        return [
            times if isinstance(times, list) else [NO_KEY] * len(fields)
            for times, (_, fields) in zip(answers, hashes, strict=True)
        ]

    def _moments(self, db: int, args: Sequence[bytes]) -> list[int]:
        """Expiries of a server that knows only PTTL (before 7.0), to the millisecond.

        TIME before and after a few PTTLs: when both are in the same millisecond so was every PTTL, whatever
        other clients did in between, and time + PTTL is exact. The others are asked again, in the end singly.
        """
        moments = [UNKNOWN] * len(args)
        todo = list(range(len(args)))
        for attempt in range(TRIES):
            if not todo:
                break
            size, left = GROUP if attempt < 3 else 1, []
            for part in self.link.by_node([args[i] for i in todo]):
                groups = [[todo[i] for i in part[at : at + size]] for at in range(0, len(part), size)]
                request = TIME + b"".join(each(PTTL, [args[i] for i in group]) + TIME for group in groups)
                answers = self.link.ask(db, request, 1 + len(part) + len(groups))
                left += _settle(groups, answers, moments)
            todo = left
        return moments

    def close(self) -> None:
        self.link.close()


def _serialized(said: bytes) -> int:
    """What DEBUG OBJECT says of a value: as it would take in a snapshot, perhaps compressed."""
    found = SERIALIZED.search(said)
    return int(found[1]) if found else 0


def _version(text: str) -> tuple[int, ...]:
    found = re.match(r"(\d+)\.(\d+)\.(\d+)", text)
    return tuple(map(int, found.groups())) if found else (0, 0, 0)


def _settle(groups: list[list[int]], answers: list[Any], moments: list[int]) -> list[int]:
    """Write down the expiries of the groups that were read within a millisecond; the keys left."""
    again: list[int] = []
    before, pos = in_ms(answers[0]), 1
    for group in groups:
        ttls, after = answers[pos : pos + len(group)], in_ms(answers[pos + len(group)])
        for i, ttl in zip(group, ttls, strict=True):
            if isinstance(ttl, Refusal):
                again.append(i)  # its slot is another node's now
            elif ttl < 0:
                moments[i] = ttl
            elif ttl == 0 or before != after:
                again.append(i)  # 0 also stands for a time that has just passed
            else:
                moments[i] = before + ttl
        before = after
        pos += len(group) + 1
    return again


def in_ms(time: Sequence[bytes]) -> int:
    """TIME's answer, seconds and microseconds, in whole milliseconds, cut off as PTTL's clock is."""
    return int(time[0]) * 1000 + int(time[1]) // 1000


def keys_by_db(info: bytes) -> dict[int, int]:
    """Of one or more servers' INFO KEYSPACE, together: number of keys of each database that holds any."""
    found: Counter[int] = Counter()
    for db, keys in re.findall(rb"^db(\d+):keys=(\d+)", info, re.MULTILINE):
        found[int(db)] += int(keys)
    return dict(found)

"""A dry run: what a script makes of real keys. Only reads, and writes nothing anywhere."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from sync_tasks.transform.script import Command, Script

ITEMS = 100
"""Elements of a value that are read at most, as one page of SCAN is."""
BYTES = 64 << 10
"""Of a string that are read at most."""
PAGE = 100


@dataclass(frozen=True, slots=True)
class Sample:
    """One key, as a snapshot would bring it: long values only begin so.

    `after` has, for each of the commands, what the script returned: None, they travel as they are; empty, dropped.
    """

    db: int
    key: bytes
    type: str
    before: list[list[bytes]]
    after: list[list[Command] | None] = field(default_factory=list)


def dry_run(script: Script, sample: Sample) -> Sample:
    """The same with what the script makes of it. Raises TransformError."""
    made = [script.run(sample.db, argv, type=sample.type, snapshot=True) for argv in sample.before]
    sample.after.extend(made)
    return sample


def samples(client: Any, databases: Iterable[int] | None, count: int) -> Iterator[Sample]:
    """Some keys of a server, of each database about as many. Raises what the client does.

    Args:
        databases: None: all that hold keys.
    """
    there = sorted(int(name[2:]) for name in client.info("keyspace"))
    wanted = [db for db in there if databases is None or db in set(databases)]
    for db in wanted:
        with client.client() as one:
            one.execute_command("SELECT", db)
            yield from _some(one, db, max(1, count // len(wanted)))


def _some(client: Any, db: int, count: int) -> Iterator[Sample]:
    cursor, left = 0, count
    while left > 0:
        cursor, page = client.scan(cursor, count=PAGE)
        for key in page[:left]:
            type_ = client.type(key).decode()
            before = _commands(client, key, type_)
            if before:
                left -= 1
                yield Sample(db, key, type_, before)
        if int(cursor) == 0:
            return


def _commands(client: Any, key: bytes, type_: str) -> list[list[bytes]]:
    """As `workers.entries` makes them of a snapshot."""
    left = client.pttl(key)
    when = b"%d" % (int(time.time() * 1000) + left) if left > 0 else b""
    if type_ == "string":
        value = client.getrange(key, 0, BYTES - 1)
        return [[b"SET", key, value, *([b"PXAT", when] if when else [])]]
    makes: list[list[bytes]] = []
    if type_ == "list":
        makes = [[b"RPUSH", key, *client.lrange(key, 0, ITEMS - 1)]]
    elif type_ == "set":
        makes = [[b"SADD", key, *client.sscan(key, count=ITEMS)[1]]]
    elif type_ == "zset":
        makes = [[b"ZADD", key, *(x for m, s in client.zscan(key, count=ITEMS)[1] for x in (repr(s).encode(), m))]]
    elif type_ == "hash":
        makes = [[b"HSET", key, *(x for pair in client.hscan(key, count=ITEMS)[1].items() for x in pair)]]
    elif type_ == "stream":
        found = client.xrange(key, count=ITEMS)
        makes = [[b"XADD", key, id_, *(x for pair in fields.items() for x in pair)] for id_, fields in found]
    elif type_ != "none":
        payload = client.dump(key)
        return [[b"RESTORE", key, when or b"0", payload, b"REPLACE", b"ABSTTL"]] if payload else []
    makes = [argv for argv in makes if len(argv) > 2]
    if not makes and type_ != "stream":
        return []  # it has gone in this moment
    return [[b"DEL", key], *makes, *([[b"PEXPIREAT", key, when]] if when else [])]

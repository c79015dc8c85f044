"""Syncs of some keys and databases alone: what the source must be without the rest, to be compared with the target."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from contextlib import contextmanager

from sync_tasks.spec import from_table
from tests.dataset import sibling
from tests.servers import Server
from workers.scope import Scope


def scope_of(config: str) -> Scope:
    """Of a task's settings, TOML."""
    spec = from_table(tomllib.loads(config), "test")
    return Scope(spec.databases, spec.filter)


@contextmanager
def alone(source: Server, scope: Scope) -> Iterator[None]:
    """For the block, each database of the source is where it goes, without what is out of scope: that is gone for good.

    Nobody may follow the source meanwhile. No databases may be merged, or go where another one comes from.
    """
    client = source.client(socket_timeout=600)
    for name in client.info("keyspace"):
        number = int(name[2:])
        here = sibling(client, number)
        for key in here.scan_iter(count=1000):
            if not scope.takes(number, key):
                here.unlink(key)
    moved = [(db, to) for db, to in (scope.databases or {}).items() if db != to]
    for db, to in moved:
        client.execute_command("SWAPDB", db, to)
    yield
    for db, to in moved:
        client.execute_command("SWAPDB", db, to)

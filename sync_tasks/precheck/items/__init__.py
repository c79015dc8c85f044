"""Every item, in the order in which they are shown and in which the first that has failed is told."""

from __future__ import annotations

from sync_tasks.errors import Side, UsageError
from sync_tasks.nearest import nearest
from sync_tasks.precheck.item import Item
from sync_tasks.precheck.items import (
    append_only,
    backlog,
    bulk_limit,
    clocks,
    connection,
    databases_exist,
    different_servers,
    eviction,
    extended_expiry,
    fork_headroom,
    grants,
    modules,
    no_loop,
    notifications,
    permissions,
    replica,
    replica_buffer,
    replication_timeout,
    retry_times,
    script_replication,
    shared_keys,
    spool_space,
    spool_store,
    target_empty,
    target_memory,
    tls,
    topology,
    transform,
    value_types,
    versions,
)
from sync_tasks.precheck.masters import of_each

ITEMS: tuple[Item, ...] = (
    grants.ITEM,
    connection.ITEMS[Side.SOURCE],
    permissions.ITEMS[Side.SOURCE],
    connection.ITEMS[Side.TARGET],
    tls.ITEM,
    of_each(different_servers.ITEM, Side.SOURCE),
    no_loop.ITEM,
    topology.ITEMS[Side.SOURCE],
    topology.ITEMS[Side.TARGET],
    of_each(versions.ITEM, Side.SOURCE),
    databases_exist.ITEMS[Side.SOURCE],
    permissions.ITEMS[Side.TARGET],
    databases_exist.ITEMS[Side.TARGET],
    target_empty.ITEM,
    of_each(shared_keys.ITEM, Side.SOURCE),
    transform.ITEM,
    value_types.ITEM,
    target_memory.ITEM,
    eviction.ITEM,
    modules.ITEM,
    of_each(clocks.ITEM, Side.SOURCE),
    replica.ITEM,
    of_each(replica_buffer.ITEM, Side.SOURCE),
    of_each(backlog.ITEM, Side.SOURCE),
    of_each(replication_timeout.ITEM, Side.SOURCE),
    of_each(fork_headroom.ITEM, Side.SOURCE),
    of_each(bulk_limit.ITEM, Side.SOURCE),
    of_each(notifications.ITEM, Side.SOURCE),
    of_each(script_replication.ITEM, Side.SOURCE),
    of_each(append_only.ITEM, Side.SOURCE),
    spool_space.ITEM,
    spool_store.ITEM,
    retry_times.ITEM,
    extended_expiry.ITEM,
)

BY_ID = {item.id: item for item in ITEMS}


def item_of(name: str) -> Item:
    """The item of that id. Raises UsageError if there is none."""
    if name not in BY_ID:
        raise UsageError(f"there is no precheck item {name}", hint=nearest(name, BY_ID), code="no-item")
    return BY_ID[name]

"""Every metric, once: its name, type, labels and meaning. The table of docs/observe.md is made of these.

Names follow https://prometheus.io/docs/practices/naming/: base units, `_total` behind what only counts up. Offsets are
gauges although they grow: one that falls back by a few bytes when a server fails over would count as a counter's reset,
and `rate` would add the whole offset. `deriv` of a gauge does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

TASK = ("account", "task", "task_id")
"""Labels of whatever belongs to a task: names need not be unique, ids are."""
NODE = (*TASK, "node")
"""Of one source node, by its number."""


@dataclass(frozen=True, slots=True)
class Family:
    """One metric.

    Args:
        name: as it is scraped, with its unit and suffix.
        kind: of Prometheus.
        labels: names, in the order of the values.
        help: what it is. What is not known has no sample: unknown is never 0.
    """

    name: str
    kind: Literal["gauge", "counter"]
    labels: tuple[str, ...]
    help: str


BUILD = Family("keyferry_build_info", "gauge", ("version",), "1, with the version of this process")
DATABASE_UP = Family(
    "keyferry_database_up", "gauge", (), "1 if the database answered this scrape; with 0 only this host is described"
)
COLLECT = Family("keyferry_collect_duration_seconds", "gauge", (), "how long it took to gather what is scraped")

STATE = Family("keyferry_task_state", "gauge", (*TASK, "state"), "1 for the state that a task is in; no other is shown")
WINDOWS = Family("keyferry_retry_windows_open", "gauge", TASK, "open retry windows: something fails and is tried again")
WINDOW_LEFT = Family(
    "keyferry_retry_window_remaining_seconds",
    "gauge",
    (*TASK, "kind", "side"),
    "until the task fails, if what this window was opened for does not heal",
)
WINDOW_ATTEMPTS = Family(
    "keyferry_retry_window_attempts", "gauge", (*TASK, "kind", "side"), "failures since the window was opened"
)
CHUNKS = Family("keyferry_chunks", "gauge", (*TASK, "state"), "chunks of the present snapshots: ready, running, done")
COMPARED = Family(
    "keyferry_verification_compared_keys", "gauge", TASK, "keys of the source that the last verification compared"
)
DIFFERENCES = Family(
    "keyferry_verification_differences", "gauge", (*TASK, "kind"), "what the last verification found, by kind"
)
REPAIRED = Family("keyferry_verification_repaired", "gauge", TASK, "of these, what it has copied anew")

DELAY = Family(
    "keyferry_delay_seconds", "gauge", NODE, "from the receipt of a write to its commit; none while nothing streams"
)
IN_SYNC = Family("keyferry_in_sync", "gauge", NODE, "1 if nothing is behind")
SOURCE_OFFSET = Family("keyferry_source_offset_bytes", "gauge", NODE, "place of the source, when it was last asked")
RECEIVED_OFFSET = Family("keyferry_received_offset_bytes", "gauge", NODE, "place up to which the stream is on disk")
APPLIED_OFFSET = Family("keyferry_applied_offset_bytes", "gauge", NODE, "place of the target's checkpoint")
BACKLOG = Family("keyferry_unapplied_bytes", "gauge", NODE, "bytes of the stream on disk that the target has not")
COMMITTED = Family("keyferry_windows_total", "counter", NODE, "windows committed on the target; from 0 for each worker")
HELD = Family("keyferry_held_expiries", "gauge", NODE, "expiries on the target that are still later than they will be")
KEYS = Family("keyferry_snapshot_keys", "gauge", NODE, "keys of the present snapshot")
KEYS_LOADED = Family("keyferry_snapshot_loaded_keys", "gauge", NODE, "of these, those on the target")
BYTES = Family("keyferry_snapshot_bytes", "gauge", NODE, "bytes of the present snapshot")
BYTES_LOADED = Family("keyferry_snapshot_loaded_bytes", "gauge", NODE, "of these, those on the target")
SNAPSHOTS = Family("keyferry_snapshots_total", "counter", NODE, "snapshots that were begun")
WANTED = Family("keyferry_stream_wanted", "gauge", NODE, "1 if a worker is to follow the node")
OWNED = Family("keyferry_stream_owned", "gauge", NODE, "1 if a worker holds its lease")
BEATS = Family("keyferry_stream_beats_total", "counter", NODE, "its signs of life, one a second; from 0 for each")
CHANGES = Family(
    "keyferry_lease_changes_total", "counter", NODE, "changes of hands of the stream; from 0 with each start of a task"
)

LEADER_OWNED = Family("keyferry_leader_owned", "gauge", (), "1 if a scheduler holds the lease of the leader")
LEADER_BEATS = Family("keyferry_leader_beats_total", "counter", (), "its signs of life; from 0 for each")
LEADER_CHANGES = Family("keyferry_leader_changes_total", "counter", (), "how often another scheduler took the lead")

SPOOL_USED = Family("keyferry_spool_used_bytes", "gauge", (), "of this host's spool: bytes of all its files")
SPOOL_FREE = Family("keyferry_spool_free_bytes", "gauge", (), "of its file system: bytes that may still be written")
SPOOL_SIZE = Family("keyferry_spool_size_bytes", "gauge", (), "of its file system: all its bytes")
SPOOL_TASK = Family("keyferry_spool_task_bytes", "gauge", TASK, "of this host's spool: a task's chunks and log")

FAMILIES = tuple(found for found in list(globals().values()) if isinstance(found, Family))
"""All of them, in the order of the docs."""

"""Metrics of an installation, read from its database when they are scraped.

The database is what all processes write anyway, so no process counts anything for us: nothing is added to the way of
the data, no files are shared between the processes of a pool, and numbers outlive whoever wrote them. Any host can
answer for all; only the spool is its own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from sync_tasks.errors import ControlError
from sync_tasks.observe import families as f
from sync_tasks.observe.spooled import SpoolUse
from sync_tasks.store.database import Database
from sync_tasks.store.measures import CHUNKS_SHOWN, Measures, measures
from sync_tasks.verification import KINDS

STARTS = 1 << 20
"""An operator's start takes an epoch that is a multiple of it, each change of hands the next number."""


class Installation(Collector):
    """All tasks of a database, and this host's spool.

    Args:
        database: of the installation.
        spool: of this host.
        wall: Unix seconds.
    """

    def __init__(self, database: Database, spool: SpoolUse, wall: Callable[[], float] = time.time) -> None:
        self._database = database
        self._spool = spool
        self._wall = wall
        self._lock = threading.Lock()  # scrapes wait for each other, the database is asked by one

    def collect(self) -> Iterator[Metric]:
        """Every family, with samples or without."""
        with self._lock:
            yield from self._sheet().metrics()

    def _sheet(self) -> Sheet:
        begun, sheet = time.perf_counter(), Sheet()
        sheet.put(f.BUILD, (_version(),), 1)
        spooled, room = self._spool.now(), self._spool.room()
        sheet.put(f.SPOOL_USED, (), spooled.used)
        if room is not None:
            sheet.put(f.SPOOL_FREE, (), room[0])
            sheet.put(f.SPOOL_SIZE, (), room[1])
        try:
            found = measures(self._database, self._wall())
        except ControlError:
            sheet.put(f.DATABASE_UP, (), 0)
        else:
            sheet.put(f.DATABASE_UP, (), 1)
            _tasks(sheet, found, spooled.by_uid)
        sheet.put(f.COLLECT, (), time.perf_counter() - begun)
        return sheet


class Sheet:
    """Samples by family."""

    def __init__(self) -> None:
        self._metrics: dict[str, Any] = {}
        for family in f.FAMILIES:
            kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
            self._metrics[family.name] = kind(family.name, family.help, labels=family.labels)

    def put(self, family: f.Family, labels: tuple[str, ...], value: float | None) -> None:
        """One sample; none if it is not known."""
        if value is not None:
            self._metrics[family.name].add_metric(labels, value)

    def metrics(self) -> Iterator[Metric]:
        """In the order of the docs."""
        yield from self._metrics.values()


def _tasks(sheet: Sheet, found: Measures, spooled: dict[str, int]) -> None:
    labels: dict[int, tuple[str, ...]] = {task.id: (task.account, task.name, str(task.id)) for task in found.tasks}
    for task in found.tasks:
        mine, retries = labels[task.id], found.retries.get(task.id, [])
        sheet.put(f.STATE, (*mine, task.state), 1)
        sheet.put(f.WINDOWS, mine, len(retries))
        for window in retries:
            sheet.put(f.WINDOW_LEFT, (*mine, window.kind, window.side), max(0.0, window.seconds_left))
            sheet.put(f.WINDOW_ATTEMPTS, (*mine, window.kind, window.side), window.attempts)
        sheet.put(f.SPOOL_TASK, mine, spooled.get(task.uid, 0))
    _loads(sheet, found, labels)
    for verified in found.verifications:
        mine = labels[verified.task_id]
        sheet.put(f.COMPARED, mine, verified.compared)
        sheet.put(f.REPAIRED, mine, verified.repaired or 0)
        for kind in KINDS:
            sheet.put(f.DIFFERENCES, (*mine, kind), getattr(verified, kind))
    if found.leader is not None:
        sheet.put(f.LEADER_OWNED, (), found.leader.owner is not None)
        sheet.put(f.LEADER_BEATS, (), found.leader.beat)
        sheet.put(f.LEADER_CHANGES, (), found.leader.epoch)


def _loads(sheet: Sheet, found: Measures, labels: dict[int, tuple[str, ...]]) -> None:
    """Nodes, and what is loaded of each."""
    keys: dict[int, int] = {}
    size: dict[int, int] = {}
    number: dict[tuple[int, str], int] = {}
    for chunks in found.chunks:
        keys[chunks.node_id] = keys.get(chunks.node_id, 0) + int(chunks.keys_done)
        size[chunks.node_id] = size.get(chunks.node_id, 0) + int(chunks.bytes_done)
        of = chunks.task_id, chunks.state
        number[of] = number.get(of, 0) + chunks.number
    for node in found.nodes:
        mine = (*labels[node.task_id], str(node.number))
        _node(sheet, mine, node)
        sheet.put(f.KEYS_LOADED, mine, keys.get(node.id, 0))
        sheet.put(f.BYTES_LOADED, mine, size.get(node.id, 0))
    for task_id, mine in labels.items():
        for state in CHUNKS_SHOWN:
            sheet.put(f.CHUNKS, (*mine, state.value), number.get((task_id, state), 0))


def _node(sheet: Sheet, mine: tuple[str, ...], node: Any) -> None:
    sheet.put(f.DELAY, mine, None if node.delay_ms is None else node.delay_ms / 1000)
    sheet.put(f.IN_SYNC, mine, node.in_sync)
    sheet.put(f.SOURCE_OFFSET, mine, node.source_offset)
    sheet.put(f.RECEIVED_OFFSET, mine, node.received_offset)
    sheet.put(f.APPLIED_OFFSET, mine, node.applied_offset)
    if node.received_offset is not None and node.applied_offset is not None:
        sheet.put(f.BACKLOG, mine, max(0, node.received_offset - node.applied_offset))
    sheet.put(f.COMMITTED, mine, node.windows)
    sheet.put(f.HELD, mine, node.held)
    sheet.put(f.KEYS, mine, node.keys_total)
    sheet.put(f.BYTES, mine, node.bytes_total)
    sheet.put(f.SNAPSHOTS, mine, node.gen)
    sheet.put(f.WANTED, mine, node.wanted)
    sheet.put(f.OWNED, mine, node.owner is not None)
    if node.epoch is not None:
        sheet.put(f.BEATS, mine, node.beat)
        sheet.put(f.CHANGES, mine, node.epoch % STARTS)


def _version() -> str:
    try:
        return metadata.version("keyferry")
    except metadata.PackageNotFoundError:
        return "unknown"

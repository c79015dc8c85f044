"""Parts of jobs for tests of what goes wrong: nodes, records, a receiver whose target is in our hands."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

from sync_tasks.errors import ConnectionLost, KeyferryError, Retry, Side
from sync_tasks.views import NodeView
from tests.servers import Server
from tests.unit.protocol.conftest import NODE, TASK, Port, endpoint, known
from workers.receive import Receiver
from workers.source.ask import Source
from workers.spool.chunks import RECORD
from workers.spool.log import Log
from workers.target.claim import Checkpoint

NEW = replace(NODE, begun=False, snapshot_done=False, gen=0, replid=None)
LOADED = replace(NODE, begun=False, snapshot_done=True, gen=1)


def record(key: bytes, value: bytes = b"\x00\x01v") -> bytes:
    return RECORD.pack(-1, len(key), len(value)) + key + value


class Receiving:
    """A receiver on a source, with what it asks of the target in our hands."""

    def __init__(self, source: Server, directory: Path, node: NodeView) -> None:
        self.source, self.directory = source, directory
        self.port = Port(TASK, node)
        self.found: Checkpoint | None = None
        self.away: set[str] = set()
        self.begins: list[int] = []
        self.reopened: list[int] = []
        asks = Source(endpoint(source, Side.SOURCE))
        self.receiver = Receiver(
            endpoint(source, Side.SOURCE), self.port, Log(directory / "log"), directory, asks,
            lambda: None, self._begin, self._checkpoint, threading.Lock(), self._reopen, known(directory),
        )  # fmt: skip
        with source.client() as client:
            self._before = int(client.info("stats")["sync_full"])

    def _reopen(self, gen: int, *_: object) -> None:
        self.reopened.append(gen)
        self.found = None

    def _begin(self, gen: int) -> None:
        self.begins.append(gen)
        if "writes" in self.away:
            raise KeyferryError("READONLY", side=Side.TARGET, retry=Retry.OTHER)

    def _checkpoint(self) -> Checkpoint | None:
        if "all" in self.away:
            raise ConnectionLost("away", side=Side.TARGET)
        return self.found

    def snapshots(self) -> int:
        with self.source.client() as client:
            return int(client.info("stats")["sync_full"]) - self._before

    def in_step(self) -> bool:
        with self.source.client() as client:
            end = int(client.info("replication")["master_repl_offset"])
        return self.receiver.connected and (self.receiver.log.end or 0) >= end and self.port.view.snapshot_done

    def cut(self) -> None:
        with self.source.client() as client:
            client.client_kill_filter(_type="replica")

    def stop(self) -> None:
        self.receiver.stop_event.set()
        self.receiver.join(10)

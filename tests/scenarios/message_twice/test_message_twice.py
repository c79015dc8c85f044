"""Each message of a stream or chunk is sent again and again, while it loads and while it follows: nothing happens."""

from __future__ import annotations

import threading

from sync_tasks import Client, names
from sync_tasks.app import make_app, send
from sync_tasks.messages import Message
from sync_tasks.settings import Settings
from tests.dataset import fill
from tests.hosts import Installation
from tests.scenarios.judge import equal, snapshots
from tests.servers import StartServer
from tests.slow import RAW, bulk, slowed
from tests.traffic import Traffic
from tests.waiting import until

EVERY_S = 0.3


class Echo(threading.Thread):
    """Sends what the database shows: a message for the stream and one for each chunk, whatever has become of it."""

    def __init__(self, here: Installation) -> None:
        super().__init__(daemon=True)
        self.here, self.app, self.over = here, make_app(Settings()), threading.Event()
        self.sent = {names.FOLLOW: 0, names.LOAD: 0}
        self.owners: list[str] = []  # of the stream, in turn

    def run(self) -> None:
        while not self.over.wait(EVERY_S):
            for name, table in ((names.FOLLOW, "node"), (names.LOAD, "chunk")):
                for row in self.here.rows(table):
                    send(self.app, Message(name, row["id"]))
                    self.sent[name] += 1
            owner = self.here.owner(names.node_lease(1))
            if owner not in self.owners[-1:]:
                self.owners.append(owner)


def test_it_changes_nothing(here: Installation, server: StartServer) -> None:
    source, target = server("redis-7.0", config=RAW), server("redis-7.0")
    fill(source.client(), 400)
    bulk(source, 8_000)
    here.controlled()
    a = here.host("a")
    a.start("worker", "--stream", "3")
    a.start("worker", "--load", "2")
    echo = Echo(here)

    with Client() as client:
        task = client.create(source.url(), target.url())
        client.start(task)
        until(lambda: here.owner(names.node_lease(1)), "the stream's owner")
        with Traffic(source, clients=2, rate=1000, mix="exact"):
            with slowed(target):
                echo.start()
                until(lambda: client.progress(task).keys_done, "a first chunk")
                loading = until(lambda: dict(echo.sent) if echo.sent[names.LOAD] > 50 else None, "messages in the load")
                assert client.get(task).state == "initializing", "the load was over before"
            until(lambda: client.progress(task).in_sync, "in sync")
            until(lambda: echo.sent[names.FOLLOW] > loading[names.FOLLOW] + 5, "messages in the follow")
        end = int(source.client().info("replication")["master_repl_offset"])
        until(lambda: client.progress(task).in_sync and (client.progress(task).applied_offset or 0) >= end, "the end")
        echo.over.set()
        echo.join()

    assert {row["epoch"] for row in here.rows("chunk")} == {1}, "a chunk was loaded twice"
    assert len(echo.owners) == 1, "the stream has changed hands"
    equal(source, target)
    assert snapshots(source) == 1

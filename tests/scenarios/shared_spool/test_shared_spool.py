"""Two hosts that see one spool load one snapshot together; SIGKILL of all that runs on the first, in mid-load."""

from __future__ import annotations

from pathlib import Path

from sync_tasks import Client
from sync_tasks.names import node_lease
from tests.dataset import fill
from tests.hosts import Installation
from tests.scenarios.judge import equal, snapshots
from tests.servers import StartServer
from tests.slow import RAW, bulk, slowed
from tests.traffic import Traffic
from tests.waiting import until


class Hands:
    """Who loaded what: a chunk that is done has no owner any more, so they are looked at while it is loaded."""

    def __init__(self, here: Installation) -> None:
        self.here = here
        self.last: dict[int, str] = {}  # by chunk, the host that had it last
        self.done: set[int] = set()

    def look(self) -> set[str]:
        """Hosts of which a chunk is done."""
        rows = self.here.rows("chunk")
        self.last |= {row["id"]: row["owner"].partition(":")[0] for row in rows if row["owner"]}
        self.done = {row["id"] for row in rows if row["state"] == "done"}
        return {self.last[number] for number in self.done & set(self.last)}


def test_one_snapshot_is_loaded_by_both_and_outlives_one(
    here: Installation, server: StartServer, tmp_path: Path
) -> None:
    source, target = server("redis-7.0", config=RAW), server("redis-7.0")
    fill(source.client(), 400)
    bulk(source, 15_000)
    here.settings |= {"KEYFERRY_SPOOL_DIR": str(tmp_path / "spool"), "KEYFERRY_SPOOL_SHARED": "1"}
    here.controlled()
    a, b = here.host("a"), here.host("b")
    a.start("worker", "--stream", "1")
    a.start("worker", "--load", "1")
    b.start("worker", "--load", "1")
    until(lambda: (a.report() + b.report()).count("ready.") == 3, "three workers")
    hands = Hands(here)

    with Client() as client:
        task = client.create(source.url(), target.url())
        with Traffic(source, clients=1, rate=500):
            with slowed(target):
                client.start(task)
                until(lambda: hands.look() == {"a", "b"}, "a chunk done by each")
                until(lambda: here.rows("node")[0]["snapshot_done"], "the whole snapshot in the spool")
                assert len(hands.done) < len(here.rows("chunk")), "the load was over before the kill"
                assert here.owner(node_lease(1)).startswith("a:")
                a.kill()
                b.start("worker", "--stream", "1")
            until(lambda: client.progress(task).in_sync, "in sync, by the other host")
            assert here.owner(node_lease(1)).startswith("b:")
        end = int(source.client().info("replication")["master_repl_offset"])
        until(lambda: client.progress(task).in_sync and (client.progress(task).applied_offset or 0) >= end, "the end")
    equal(source, target)
    assert snapshots(source) == 1

"""A snapshot is loaded while it still arrives, several chunks at a time."""

from __future__ import annotations

from tests.run_keyferry import Keyferry
from tests.scenarios.conftest import StartFerry
from tests.scenarios.judge import equal, snapshots
from tests.servers import StartServer
from tests.slow import DAWDLING, bulk
from tests.waiting import until

DONE_EARLY = """
    SELECT chunk.seq FROM chunk JOIN node ON node.id = chunk.node_id
    WHERE chunk.gen = node.gen AND chunk.state = 'done' AND NOT node.snapshot_done
"""


def loaders(run: Keyferry) -> set[str]:
    """Process ids of those that have a chunk in hand."""
    return {chunk["owner"].split(":")[-2] for chunk in run.chunks() if chunk["state"] == "running"}


def test_chunks_are_loaded_while_the_snapshot_arrives(server: StartServer, ferry: StartFerry) -> None:
    source, target = server("redis-7.0", config=DAWDLING), server("redis-7.0")
    bulk(source, 12_000)

    run = ferry(source, target, until="in-sync", load_workers=2)
    until(lambda: run.rows(DONE_EARLY), "a chunk loaded before the snapshot was whole")
    target.pause()
    until(lambda: len(loaders(run)) == 2, "two chunks in the hands of two")
    target.resume()
    assert run.wait() == 0

    assert snapshots(source) == 1
    equal(source, target)

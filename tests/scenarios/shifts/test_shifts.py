"""Shifts of a second: the stream ends at a checkpoint and begins again, over and over, under traffic."""

from __future__ import annotations

from pathlib import Path

from tests.dataset import fill
from tests.run_up import Up
from tests.scenarios.judge import equal, snapshots
from tests.servers import StartServer
from tests.traffic import Traffic
from tests.waiting import until

SHIFTS = 3


def test_every_write_takes_effect_once(server: StartServer, tmp_path: Path) -> None:
    source, target = server("redis-7.0"), server("redis-7.0")
    fill(source.client(), 400)

    with Up(tmp_path / "state", "--stream", "2", env={"KEYFERRY_STREAM_SHIFT_S": "1"}) as service:
        service.wait_ready()
        task = service.add_task(source.url(), target.url())
        store = service.store()
        with Traffic(source, clients=2, rate=1000):
            begun = until(lambda: store.nodes(task)[0].begun and store.nodes(task)[0].epoch, "the first shift")
            until(lambda: store.nodes(task)[0].epoch >= begun + SHIFTS, "shifts")
        end = int(source.client().info("replication")["master_repl_offset"])

        def settled() -> bool:
            (node,) = store.nodes(task)
            return node.in_sync and node.settled and (node.applied_offset or 0) >= end

        until(settled, "in sync")
        store.dispose()
        assert service.stop() == 130
    equal(source, target)
    assert snapshots(source) == 1

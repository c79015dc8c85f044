"""A task is cut over while slots of its source are on their way: what they hold is on the target, whole."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from sync_tasks import Client
from tests.clusters import differences
from tests.run_up import Up
from tests.scenarios.conftest import StartCluster
from tests.servers import StartServer
from tests.waiting import until
from workers.codec.slots_cy import slot

TAGS = [b"n%d" % number for number in range(6)]


@pytest.mark.rare
def test_while_slots_move(server: StartServer, cluster: StartCluster, tmp_path: Path) -> None:
    """Nobody writes but whoever moves them; no key may be missing, whichever shard is closed first."""
    source, target = cluster("redis-7.0"), server("redis-7.0")
    here: Any = source.client()
    for tag in TAGS:
        for number in range(20):
            here.set(b"{%b}%d" % (tag, number), number)
    rng = random.Random(7)
    with Up(tmp_path / "state", "--stream", "3") as service, Client(service.state) as client:
        service.wait_ready()
        task = client.create(source.url(), target.url())
        client.start(task)
        until(lambda: client.progress(task).in_sync, "in sync")
        client.finish(task, 0, force=True, verify="off")
        for tag in TAGS:
            until(lambda: rng.random() < 0.05, "some moment")
            owner = source.owner(slot(tag))
            source.move(slot(tag), rng.choice([one for one in source.masters if one is not owner]))
        until(lambda: client.get(task).state == "finished", "cut over")
    assert not differences(here, target.client())

"""A replica as the source: its stream goes on in whatever database the last SELECT named, and names it to nobody.

A master that is asked for a snapshot begins its stream anew with a SELECT. A replica passes its own master's stream
on as it is: only the snapshot says in which database it stands (`repl-stream-db`), and only the checkpoint says it
to whoever goes on later.
"""

from __future__ import annotations

import random
import time

import pytest
import redis

from tests.dataset import fill
from tests.run_keyferry import Keyferry
from tests.scenarios.conftest import StartFerry
from tests.scenarios.judge import equal, snapshots
from tests.servers import Server, StartServer
from tests.traffic import Traffic

DB = 7


def replicate(master: Server, replica: Server) -> None:
    replica.client().execute_command("REPLICAOF", "127.0.0.1", master.port)
    until_same(master, replica)


def until_same(master: Server, replica: Server, timeout: float = 20.0) -> None:
    """The replica has all that the master has written until now."""
    offset = int(master.client().info("replication")["master_repl_offset"])
    deadline = time.monotonic() + timeout
    while True:
        said = replica.client().info("replication")
        if said["master_link_status"] == "up" and int(said["slave_repl_offset"]) >= offset:
            return
        assert time.monotonic() < deadline, f"the replica is not there yet: {said}"
        time.sleep(0.02)


def write(client: redis.Redis, times: int) -> None:
    """What counts double when executed twice, and is elsewhere when executed in another database."""
    for _time in range(times):
        client.incr("counted")
        client.append("grown", "x")
        client.lpush("pushed", 1)


def selects(run: Keyferry) -> int:
    """How often the stream, as received, names a database."""
    return sum(path.read_bytes().count(b"SELECT") for path in run.state.glob("spool/*/*/log/*.seg"))


@pytest.mark.parametrize("kind", ["redis-7.0", "valkey-8.1", "valkey-9.1"])
def test_the_streams_database(kind: str, server: StartServer, ferry: StartFerry) -> None:
    master, source, target = server(kind), server(kind), server(kind)
    replicate(master, source)
    client = master.client(db=DB)
    write(client, 5)  # from now on the stream stands in this database
    until_same(master, source)

    run = ferry(source, target)
    run.wait_phase("synchronizing")
    write(client, 5)
    until_same(master, source)
    run.settle(source)
    assert target.client(db=DB).get("counted") == b"10"

    run.kill_tree(random.Random(kind))
    write(client, 5)
    run = ferry(source, target)
    run.wait_phase("synchronizing")
    write(client, 5)
    until_same(master, source)
    run.settle(source)
    assert target.client(db=DB).get("counted") == b"20"
    assert selects(run) == 0, "the stream has said itself where it stands: this has tested nothing"

    fill(master.client(), 200)
    with Traffic(master, clients=4, rate=2000):
        time.sleep(1)
        run.kill_tree(random.Random(kind))
        run = ferry(source, target)
        run.wait_phase("synchronizing")
        time.sleep(1)
    until_same(master, source)
    run.settle(source)

    assert selects(run) > 0
    equal(source, target)
    assert snapshots(source) == 1

"""What a killed process had sent arrives at the target after its successor has begun: it has no effect there.

Neither lease nor signal can take such bytes back: only what stands on the target fences them.
"""

from __future__ import annotations

import time

from tests.dataset import fill
from tests.proxy import Proxy
from tests.run_keyferry import Keyferry
from tests.scenarios.conftest import StartFerry
from tests.scenarios.judge import equal, snapshots
from tests.servers import Server, StartServer
from tests.slow import RAW, VALUE, bulk
from tests.traffic import Traffic

KEYS = 30_000


def pool_child(run: Keyferry, role: str, port: int) -> int:
    """The pool process of a role that is the client of `port` on this machine."""
    for process in run.find(role, child=True):
        if any(link.laddr.port == port for link in process.net_connections(kind="tcp")):
            return int(process.pid)
    raise AssertionError(f"no process of the {role} has a connection from port {port}")


def kill_owner(run: Keyferry, role: str, port: int) -> None:
    pid = pool_child(run, role, port)
    next(process for process in run.find(role, child=True) if process.pid == pid).kill()


def committed(target: Server) -> bytes | None:
    """The offset of the checkpoint on the target."""
    client = target.client()
    (checkpoint,) = client.scan_iter(match="keyferry:*:ck", count=10_000)
    return client.hget(checkpoint, "offset")


def rewrite(source: Server) -> None:
    """Make everything untrue that a loader may have sent."""
    client = source.client(db=2)
    for at in range(0, KEYS, 1000):
        client.mset({f"key:{i}": "new" for i in range(at, at + 1000)})
    client.delete(*(f"key:{i}" for i in range(0, KEYS, 7)))


def test_of_a_load_worker(server: StartServer, ferry: StartFerry) -> None:
    source, target = server("redis-7.0", config=RAW), server("redis-7.0")
    bulk(source, KEYS)

    with Proxy(target) as network:
        run = ferry(source, network)
        link = network.hold(b"key:1")
        while len(link.kept) < 2 * VALUE:  # some batch is whole
            time.sleep(0.01)
        time.sleep(0.5)
        kill_owner(run, "load worker", link.client.getpeername()[1])
        run.wait_in_sync(timeout=90)
        rewrite(source)
        run.settle(source)

        assert link.release() > 100_000
        time.sleep(1)
        run.settle(source)
        equal(source, target)


def test_of_a_stream_worker(server: StartServer, ferry: StartFerry) -> None:
    source, target = server("redis-7.0"), server("redis-7.0")
    fill(source.client(), 300)

    with Proxy(target) as network, Traffic(source, clients=4, rate=4000, mix="exact") as traffic:
        run = ferry(source, network)
        run.wait_phase("synchronizing")
        time.sleep(1)
        for _time in range(3):
            link = network.hold(b"HSETNX")
            time.sleep(0.5)
            kill_owner(run, "stream worker", link.client.getpeername()[1])
            before = committed(target)
            while committed(target) == before:
                time.sleep(0.05)
            assert link.release() > 1000
            time.sleep(1)
        traffic.stop()
        run.settle(source)
        equal(source, target)
    assert snapshots(source) == 1

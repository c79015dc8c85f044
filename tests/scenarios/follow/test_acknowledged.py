"""What is acknowledged to the source is what the target has: the source's own INFO shows the true lag."""

from __future__ import annotations

import time

from tests.scenarios.conftest import StartFerry
from tests.servers import Server, StartServer
from tests.traffic import Traffic
from tests.waiting import until

WATCHED_S = 3.0  # an acknowledgement a second
MOST_LAG_S = 2


def committed(target: Server) -> int:
    """The offset of the checkpoint on the target."""
    client = target.client()
    (checkpoint,) = client.scan_iter(match="keyferry:*:ck", count=10_000)
    return int(client.hget(checkpoint, "offset"))


def acknowledged(source: Server) -> int:
    """What the source says of us."""
    info = source.client().info("replication")
    replica = info["slave0"]
    assert replica["state"] == "online"
    assert replica["lag"] <= MOST_LAG_S
    assert replica["offset"] < info["master_repl_offset"], "never the last byte: a FAILOVER would pick us"
    return int(replica["offset"])


def test_no_more_than_is_committed(server: StartServer, ferry: StartFerry) -> None:
    source, target = server("redis-7.0"), server("redis-7.0")
    source.client().set("a", 1)
    run = ferry(source, target)
    run.wait_in_sync()

    with Traffic(source, clients=2, rate=1000, mix="sets"):
        target.client().client_pause(60_000, all=False)  # reads are answered: of the checkpoint
        stands_at = committed(target)
        until(lambda: source.client().info("replication")["master_repl_offset"] > stands_at + 100_000, "a lag")
        end = time.monotonic() + WATCHED_S
        while time.monotonic() < end:
            assert acknowledged(source) <= stands_at == committed(target)
            time.sleep(0.1)
        target.client().client_unpause()
        until(lambda: acknowledged(source) > stands_at, "it goes on")
    run.settle(source)
    offset = source.client().info("replication")["master_repl_offset"]
    until(lambda: acknowledged(source) >= offset - 1, "all that was written is acknowledged")

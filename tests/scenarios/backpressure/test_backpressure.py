"""The target stands still while the source is written to: the stream is drained to disk all the same."""

from __future__ import annotations

import time

import pytest

from tests.scenarios.conftest import StartFerry
from tests.scenarios.judge import equal, snapshots
from tests.servers import Server, StartServer
from tests.traffic import Traffic

LIMIT = 24 << 20  # bytes: the source would cut a replica that lags by more
STOPPED_S = 20.0  # as long as repl-timeout, after which the source cuts a replica that says nothing


def replicas(source: Server) -> list[dict[str, str]]:
    return list(source.client().client_list(_type="replica"))


@pytest.mark.long
def test_the_source_does_not_feel_it(server: StartServer, ferry: StartFerry) -> None:
    buffers = {"client-output-buffer-limit": f"replica {LIMIT} {LIMIT} 0", "repl-backlog-size": "1mb"}
    limit = buffers | {"repl-timeout": f"{STOPPED_S:.0f}"}
    source, target = server("redis-7.0", config=limit), server("redis-7.0")
    run = ferry(source, target)
    run.wait_in_sync()
    before = replicas(source)
    began = source.client().info("replication")["master_repl_offset"]

    def written() -> int:
        return int(source.client().info("replication")["master_repl_offset"]) - began

    most = 0
    with Traffic(source, clients=2, rate=15_000, mix="sets"):
        target.pause()
        end = time.monotonic() + STOPPED_S
        while time.monotonic() < end or (written() < LIMIT * 1.1 and time.monotonic() < end + 60):
            most = max([most, *(int(replica["omem"]) for replica in replicas(source))])
            time.sleep(0.1)
    target.resume()

    assert written() > LIMIT, "less was written than a buffer would have held"
    assert most < LIMIT / 2
    assert [replica["id"] for replica in replicas(source)] == [replica["id"] for replica in before]
    run.settle(source, timeout=120)
    assert snapshots(source) == 1
    equal(source, target)

"""A transform over all traffic; workers die meanwhile. Then the target has what the script makes of the source."""

from __future__ import annotations

import contextlib

import redis

from tests.dataset import fill, sibling
from tests.run_keyferry import Keyferry
from tests.scenarios.conftest import StartFerry
from tests.scenarios.cutover.test_cutover import ends, finish
from tests.scenarios.judge import equal, snapshots
from tests.scenarios.kill_load_worker.test_kill_load_worker import kill as kill_loader
from tests.servers import Server, StartServer
from tests.slow import RAW, bulk, slowed
from tests.traffic import Traffic
from tests.waiting import until

RENAMED = """
[transform]
lua = '''
function transform(db, argv, about)
  if about.key and about.key:sub(1, 5) == "drop:" then return false end
  for _, i in ipairs(about.positions) do argv[i] = "n:" .. argv[i] end
  if about.keys[1] then return argv end
end
'''
"""
COMMANDS = 2500


def more(source: Server) -> None:
    """Wait for so much more of the traffic."""

    def executed() -> int:
        return int(source.client().info("stats")["total_commands_processed"])

    begun = executed()
    until(lambda: executed() > begun + COMMANDS, "traffic goes on", 60)


def rename(client: redis.Redis) -> None:
    """Do to the source what the script does."""
    for db in client.info("keyspace"):
        there = sibling(client, int(db.removeprefix("db")))
        for key in set(there.scan_iter(count=1000)):
            if key.startswith(b"drop:"):
                there.delete(key)
                continue
            with contextlib.suppress(redis.ResponseError):  # it has expired in this moment
                there.rename(key, b"n:" + key)


def test_every_write_is_transformed_exactly_once(server: StartServer, ferry: StartFerry) -> None:
    source, target = server("redis-7.0", config=RAW), server("valkey-9.1")
    fill(source.client(), 1000)
    bulk(source, 20_000)
    source.client().mset({f"drop:{i}": i for i in range(500)})

    with Traffic(source, clients=3, rate=1000) as traffic:
        with slowed(target):
            run = ferry(source, target, config=RENAMED)
            run.wait_for(lambda line: line["keys_done"], what="a first chunk's keys")
            kill_loader(run, child=True)
        run.wait_phase("synchronizing", timeout=90)
        for _ in range(3):
            more(source)
            source.client().set("drop:later", 1)
            run.kill("stream worker", child=True)
        more(source)
    run.settle(source, 120)
    assert traffic.written > 3000
    assert snapshots(source) == 1
    close(run)
    rename(source.client())
    equal(source, target, extended_ms=0)


def close(run: Keyferry) -> None:
    finish(run)
    ends(run)

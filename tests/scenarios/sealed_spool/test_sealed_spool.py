"""What is received is sealed on disk: chunks, log and all else, across kills and a change of the secret key."""

from __future__ import annotations

from pathlib import Path

import pytest

from sync_tasks import Client
from sync_tasks.secrets import new_key
from tests.dataset import fill
from tests.hosts import Host, Installation
from tests.scenarios.judge import equal, snapshots
from tests.servers import StartServer
from tests.slow import RAW, slowed
from tests.traffic import Traffic
from tests.waiting import until

MARKER = b"plainly-visible"


def seen(host: Host) -> list[Path]:
    """Files of a host that show what was received; chunks and log must be there."""
    files = [path for path in host.directory.rglob("*") if path.is_file()]
    return [path for path in files if MARKER in path.read_bytes()]


@pytest.mark.parametrize("how", ["sealed", "clear"])
def test_nothing_is_read_on_disk(here: Installation, server: StartServer, how: str) -> None:
    source, target = server("redis-7.0", config=RAW), server("redis-7.0")
    fill(source.client(), 200)
    client_of_source = source.client(db=2)
    for start in range(0, 4000, 500):
        client_of_source.mset({MARKER + b"%d" % n: MARKER * 250 for n in range(start, start + 500)})
    here.settings |= {"KEYFERRY_SPOOL_ENCRYPT": "1" if how == "sealed" else "0"}
    here.controlled()
    a = here.host("a")

    def begin() -> None:
        a.start("worker", "--stream", "1")
        a.start("worker", "--load", "1")

    begin()
    with Client() as client:
        task = client.create(source.url(), target.url())
        with Traffic(source, clients=1, rate=300):
            with slowed(target):
                client.start(task)
                until(lambda: here.rows("node")[0]["snapshot_done"], "the whole snapshot on disk")
                assert list(a.directory.rglob("*.chunk"))
                assert bool(seen(a)) == (how == "clear")
                a.kill()
                assert any(row["state"] != "done" for row in here.rows("chunk")), "the load was over before the kill"
            a.env["KEYFERRY_SECRET_KEY"] = f"{new_key().decode()} {a.env['KEYFERRY_SECRET_KEY']}"
            begin()
            until(lambda: client.progress(task).in_sync, "in sync")
            target.pause()
            at = here.rows("node")[0]["received_offset"]
            client_of_source.set(b"in the log", MARKER * 20_000)
            until(lambda: here.rows("node")[0]["received_offset"] > at + 20_000 * len(MARKER), "it is in the log")
            assert bool(seen(a)) == (how == "clear")
            a.kill()
            target.resume()
            begin()
            until(lambda: client.progress(task).in_sync, "in sync again")
        end = int(source.client().info("replication")["master_repl_offset"])
        until(lambda: client.progress(task).in_sync and (client.progress(task).applied_offset or 0) >= end, "the end")
    assert bool(seen(a)) == (how == "clear")
    assert snapshots(source) == 1, "all that was sealed was read again"
    equal(source, target)

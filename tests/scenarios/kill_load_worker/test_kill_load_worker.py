"""SIGKILL of load workers in mid-load: the chunk is loaded again, and nothing is lost or doubled."""

from __future__ import annotations

import time

import pytest

from tests.dataset import fill
from tests.run_keyferry import Keyferry, Line
from tests.scenarios.conftest import StartFerry
from tests.scenarios.judge import equal, snapshots
from tests.servers import StartServer
from tests.slow import RAW, bulk, slowed
from tests.traffic import Traffic
from tests.waiting import until

GOES_ON_WITHIN_S = 5.0  # 0.4 to 0.6 s were measured on a machine with other things to do


def caught(run: Keyferry) -> Line | None:
    """A chunk in the hands of a living loader."""
    pids = {str(loader.pid) for loader in run.find("load worker", child=True)}
    return next((chunk for chunk in run.chunks() if pid_of(chunk) in pids), None)


def pid_of(chunk: Line) -> str | None:
    """The process that loads it."""
    return chunk["owner"].split(":")[2] if chunk["state"] == "running" else None


def kill(run: Keyferry, *, child: bool) -> None:
    """SIGKILL in mid-chunk: in time the chunk is sent again, and a new process loads.

    Not necessarily that chunk: it waits behind those that were sent before.
    """
    chunk = until(lambda: caught(run), "a chunk that is being loaded", timeout=10)
    loaders = run.find("load worker", child=True)
    old = {str(process.pid) for process in loaders}
    for process in loaders if child else run.find("load worker"):
        if not child or str(process.pid) == pid_of(chunk):
            process.kill()
    killed = time.monotonic()

    def goes_on() -> bool:
        rows = run.chunks()
        (now,) = (row for row in rows if row["id"] == chunk["id"])
        sent = now["attempts"] > chunk["attempts"] and now["dispatched_at"] is not None
        in_time = now["state"] == "done" and now["epoch"] == chunk["epoch"]  # it had just ended
        return (sent or in_time) and any(pid_of(row) not in {None, *old} for row in rows)

    until(goes_on, "sent again, and a new process at work", GOES_ON_WITHIN_S)
    print(f"went on {time.monotonic() - killed:.2f} s after the kill")


@pytest.mark.parametrize("child", [True, False], ids=["pool child", "whole worker"])
def test_the_chunk_is_loaded_again(child: bool, server: StartServer, ferry: StartFerry) -> None:
    source, target = server("redis-7.0", config=RAW), server("redis-7.0")
    fill(source.client(), 1000)
    bulk(source, 50_000)

    with Traffic(source, clients=2, rate=1000), slowed(target):
        run = ferry(source, target)
        run.wait_for(lambda line: line["keys_done"], what="a first chunk's keys")
        for _time in range(3):
            kill(run, child=child)
        assert run.last["phase"] == "initializing", "the load was over before the last kill"
    run.wait_phase("synchronizing", timeout=90)
    run.settle(source)

    assert any(chunk["epoch"] > 1 for chunk in run.chunks()), "no kill has hit a chunk"
    equal(source, target)
    assert snapshots(source) == 1

"""A party falls silent for half a minute without closing anything, and goes on as if nothing had been."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.dataset import fill
from tests.run_keyferry import Keyferry
from tests.scenarios.conftest import StartFerry
from tests.scenarios.judge import equal, snapshots
from tests.servers import Server, StartServer
from tests.traffic import Traffic

STALL_S = 32.0  # longer than any silence that is waited for


@contextmanager
def stopped(party: str, run: Keyferry, source: Server, target: Server) -> Iterator[None]:
    """SIGSTOP it for the block."""
    process = run.one("broker") if party == "broker" else {"source": source, "target": target}[party].process
    assert process is not None
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


@pytest.mark.parametrize("party", ["source", "target", "broker"])
def test_in_follow(party: str, server: StartServer, ferry: StartFerry) -> None:
    source, target = server("redis-7.0"), server("redis-7.0")
    fill(source.client(), 500)
    with Traffic(source, clients=2, rate=1000):
        run = ferry(source, target)
        run.wait_phase("synchronizing")
        time.sleep(1)
        with stopped(party, run, source, target):
            time.sleep(STALL_S)
            assert run.alive
    run.settle(source)
    equal(source, target)
    assert snapshots(source) == 1

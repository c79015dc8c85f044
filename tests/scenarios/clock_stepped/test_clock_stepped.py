"""A clock is set an hour or twelve ahead and back: of our machine, of the source's, of the target's."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.clocks import Clock
from tests.dataset import fill
from tests.run_keyferry import Keyferry
from tests.scenarios.conftest import StartFerry
from tests.scenarios.judge import equal, snapshots
from tests.servers import StartServer
from tests.slow import RAW, assert_mid_load, bulk, in_mid_load, slowed
from tests.traffic import Traffic

STEPS = (1, -1, 12, -12)  # hours from the right time, one after the other
STEP_S = 2.0  # between two of them
WINDOW = "[retry]\nconnection_min = 30"  # shorter than the shortest step
LONG_S = 50_000
"""An extension that is longer than the longest step. A target whose clock is further ahead than the extension expires
what the source has: nobody can hold it there, but with a longer one."""


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    return Clock(tmp_path / "clock")


def owners(run: Keyferry) -> list[tuple[str, int]]:
    """Who holds which lease."""
    found = run.rows("SELECT name, owner, epoch FROM lease ORDER BY name")
    return [(row["owner"], row["epoch"]) for row in found]


def test_ours_in_follow(clock: Clock, server: StartServer, ferry: StartFerry) -> None:
    """Nobody loses a lease by it. Processes that begin at a wrong time go on with what others left at another one."""
    source, target = server("redis-7.0"), server("redis-7.0")
    fill(source.client(), 500)
    with Traffic(source, clients=2, rate=1500):
        run = ferry(source, target, env=clock.env)
        run.wait_phase("synchronizing")
        for number, hours in enumerate(STEPS):
            held = owners(run)
            epoch = run.last["nodes"][0]["epoch"]
            clock.set(hours=hours)
            time.sleep(STEP_S)
            assert owners(run) == held
            if number % 2:
                run.kill("stream worker", child=True)
                run.kill("scheduler")
                run.wait_for(lambda line, epoch=epoch: line["nodes"][0]["epoch"] > epoch, what="another owner")
        assert run.alive, run.errors
    run.settle(source)
    equal(source, target)
    assert snapshots(source) == 1


def test_ours_in_full_sync(clock: Clock, server: StartServer, ferry: StartFerry) -> None:
    source, target = server("redis-7.0", config=RAW), server("redis-7.0")
    fill(source.client(), 500)
    bulk(source, 4000, 30_000)
    with Traffic(source, clients=2, rate=800):
        with slowed(target):
            run = ferry(source, target, env=clock.env)
            run.wait_for(in_mid_load, what="some keys loaded")
            for number, hours in enumerate(STEPS):
                clock.set(hours=hours)
                time.sleep(0.5)
                if number % 2:
                    run.kill("load worker", child=True)
            assert_mid_load(run)
        run.wait_phase("synchronizing", timeout=90)
    run.settle(source)
    equal(source, target)
    assert snapshots(source) == 1


def test_ours_while_the_target_is_away(clock: Clock, server: StartServer, ferry: StartFerry) -> None:
    """A retry window of half an hour is not over because a clock says so, nor does a pause last for hours."""
    source, target = server("redis-7.0"), server("redis-7.0")
    fill(source.client(), 500)
    with Traffic(source, clients=2, rate=800):
        run = ferry(source, target, env=clock.env, config=WINDOW)
        run.wait_phase("synchronizing")
        time.sleep(1)
        target.stop(save=True)
        run.wait_retry("target")
        for hours in STEPS:
            clock.set(hours=hours)
            time.sleep(STEP_S)
            assert run.alive, run.errors
            assert run.last["retry"]["side"] == "target"
        target.start()
        run.wait_for(lambda line: line["retry"] is None, 45, what="no retry window")
    run.settle(source)
    equal(source, target)
    assert snapshots(source) == 1


# Not Valkey 9: where so many fields of hashes expire at once, a COPY may come before they are removed; see
# tests/scenarios/follow/test_hidden_fields.py.
@pytest.mark.parametrize("kind", ["redis-6.2", "valkey-8.1"])
def test_the_sources(kind: str, clock: Clock, server: StartServer, ferry: StartFerry) -> None:
    """Its time is the truth: what it says is expired is gone. A source of 6.2 sends no moments at all."""
    source, target = server(kind, env=clock.env), server(kind)
    fill(source.client(), 500)
    with Traffic(source, clients=2, rate=1500):
        run = ferry(source, target)
        run.wait_phase("synchronizing")
        for hours in STEPS:
            clock.set(hours=hours)
            time.sleep(STEP_S)
        assert run.alive, run.errors
        clock.set(hours=0)
    run.settle(source)
    equal(source, target)
    assert snapshots(source) == 1


def test_the_targets(clock: Clock, server: StartServer, ferry: StartFerry) -> None:
    source, target = server("redis-7.0"), server("redis-7.0", env=clock.env)
    fill(source.client(), 500)
    with Traffic(source, clients=2, rate=1500):
        run = ferry(source, target, config=f"extend_expiry_s = {LONG_S}")
        run.wait_phase("synchronizing")
        for hours in STEPS:
            clock.set(hours=hours)
            time.sleep(STEP_S)
        assert run.alive, run.errors
    run.settle(source)
    clock.set(hours=0)  # how long an entry of a stream has been pending cannot be read by a clock behind its moment
    equal(source, target, extended_ms=LONG_S * 1000)
    assert snapshots(source) == 1

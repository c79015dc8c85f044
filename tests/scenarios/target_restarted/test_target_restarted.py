"""The target goes away and comes back: with all it had, or with what it had saved some time before."""

from __future__ import annotations

import time

from tests.dataset import fill
from tests.run_keyferry import Keyferry
from tests.scenarios.conftest import StartFerry
from tests.scenarios.judge import equal, snapshots
from tests.servers import StartServer
from tests.slow import DAWDLING, bulk
from tests.traffic import Traffic
from tests.waiting import until


def test_with_its_data(server: StartServer, ferry: StartFerry) -> None:
    source, target = server("redis-7.0"), server("redis-7.0")
    fill(source.client(), 1000)

    with Traffic(source, clients=4, rate=2000):
        run = ferry(source, target)
        run.wait_phase("synchronizing")
        time.sleep(1)
        target.stop(save=True)
        run.wait_retry("target")
        target.start()
        run.wait_for(lambda line: line["retry"] is None, 45, what="no retry window")
    run.settle(source)

    equal(source, target)
    assert snapshots(source) == 1


def test_without_its_last_second(server: StartServer, ferry: StartFerry) -> None:
    """Data and checkpoint roll back together; the log on disk still has what is missing."""
    source, target = server("redis-7.0"), server("redis-7.0")
    fill(source.client(), 1000)

    with Traffic(source, clients=4, rate=2000):
        run = ferry(source, target)
        run.wait_phase("synchronizing")
        time.sleep(1)
        target.client().save()
        time.sleep(1)
        target.kill()
        time.sleep(0.5)
        target.start()
        time.sleep(1)
    run.settle(source)

    equal(source, target)
    assert snapshots(source) == 1


def test_without_what_was_loaded_last(server: StartServer, ferry: StartFerry) -> None:
    """Chunks and their marks roll back together: what lost its mark is loaded again before the stream begins."""
    source, target = server("redis-7.0", config=DAWDLING), server("redis-7.0")
    fill(source.client(), 500)
    bulk(source, 12_000)

    with Traffic(source, clients=2, rate=500):
        run = ferry(source, target)
        until(lambda: done(run), "some chunk loaded")
        target.client().save()
        saved = done(run)
        until(lambda: done(run) > saved + 1, "more chunks loaded")
        assert run.last["phase"] == "initializing"
        target.kill()
        target.start()
        run.wait_phase("synchronizing")
    run.settle(source)

    (event,) = run.rows("SELECT text FROM event WHERE kind = 'reload'")
    assert int(event["text"].split()[0]) < len(run.chunks()), "what was saved was not loaded again"
    equal(source, target)
    assert snapshots(source) == 1


def done(run: Keyferry) -> int:
    """How many chunks are recorded as loaded."""
    return sum(chunk["state"] == "done" for chunk in run.chunks())

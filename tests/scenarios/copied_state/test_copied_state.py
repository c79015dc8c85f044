"""Copies of one state directory: whichever is started later owns the target, and the one started earlier ends."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.dataset import fill
from tests.run_keyferry import Keyferry
from tests.scenarios.judge import equal, snapshots
from tests.servers import Server, StartServer
from tests.traffic import Traffic

CONTROL = 5
ORDERS = [("original", "copy"), ("copy", "original")]

Begin = Callable[[str, Server, Server], Keyferry]


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    """Starts the command on one of the copies; killed with the test."""
    with ExitStack() as stack:

        def start(name: str, source: Server, target: Server) -> Keyferry:
            return stack.enter_context(Keyferry(source.url(), target.url(), tmp_path / name))

        yield start


def stopped_and_copied(run: Keyferry) -> None:
    """Stop at a checkpoint, as an operator would before copying the directory."""
    run.wait_in_sync()
    assert run.stop(signal.SIGTERM) == 143
    shutil.copytree(run.state, run.state.with_name("copy"))


def fenced(run: Keyferry) -> None:
    """It has ended by itself, and one line says why and what to do."""
    assert run.wait(20) == CONTROL, run.report()
    (line,) = run.errors.splitlines()
    assert line.startswith("keyferry: control: another copy of this task owns the target"), line
    assert "newer copy" in line
    assert run.last["error"]["code"] == "fenced"


@pytest.mark.parametrize(("earlier", "later"), ORDERS)
def test_the_later_fences_the_earlier(earlier: str, later: str, server: StartServer, begin: Begin) -> None:
    source, target = server("redis-7.0"), server("redis-7.0")
    fill(source.client(), 200, dbs=(0, 5))

    with Traffic(source, clients=4, rate=2000, mix="exact"):
        stopped_and_copied(begin("original", source, target))
        older = begin(earlier, source, target)
        older.wait_in_sync()
        newer = begin(later, source, target)
        fenced(older)
        newer.wait_in_sync()
        time.sleep(1)
    newer.settle(source)

    equal(source, target)
    assert snapshots(source) == 1
    assert newer.stop() == 130


def test_the_fenced_one_stays_so(server: StartServer, begin: Begin) -> None:
    """Started again by a supervisor that knows no better, it refuses and leaves the newer alone."""
    source, target = server("redis-7.0"), server("redis-7.0")

    with Traffic(source, clients=2, rate=1000, mix="exact"):
        stopped_and_copied(begin("original", source, target))
        older = begin("original", source, target)
        older.wait_in_sync()
        newer = begin("copy", source, target)
        fenced(older)
        again = begin("original", source, target)
        assert again.wait(20) == CONTROL, again.report()
        (line,) = again.errors.splitlines()
        assert "take another --state" in line
    newer.settle(source)

    equal(source, target)


def test_in_turn(server: StartServer, begin: Begin) -> None:
    """Never both at once, but each time the log of the one that starts ends far before the checkpoint."""
    source, target = server("redis-7.0"), server("redis-7.0")
    fill(source.client(), 200, dbs=(0, 5))

    with Traffic(source, clients=4, rate=2000, mix="exact"):
        stopped_and_copied(begin("original", source, target))
        for name in ("copy", "original", "copy"):
            run = begin(name, source, target)
            run.wait_in_sync()
            assert run.stop(signal.SIGTERM) == 143
        run = begin("original", source, target)
        run.wait_in_sync()
    run.settle(source)

    equal(source, target)
    assert snapshots(source) == 1


def test_the_log_ends_long_before_the_backlog(server: StartServer, begin: Begin) -> None:
    """The copy went far ahead. What the original has not received is gone from the source, but the target has it."""
    source, target = server("redis-7.0", config={"repl-backlog-size": "256kb"}), server("redis-7.0")
    client = source.client()
    client.incr("counted")
    stopped_and_copied(begin("original", source, target))
    run = begin("copy", source, target)
    run.wait_in_sync()
    for number in range(20):
        client.append("grown", f"{number:100000}")
    client.incr("counted")
    run.settle(source)
    assert run.stop(signal.SIGTERM) == 143
    run = begin("original", source, target)
    client.incr("counted")
    run.settle(source)

    assert target.client().get("counted") == b"3"
    equal(source, target)


def test_both_at_once(server: StartServer, begin: Begin) -> None:
    source, target = server("redis-7.0"), server("redis-7.0")
    fill(source.client(), 200, dbs=(0, 5))

    with Traffic(source, clients=4, rate=2000, mix="exact"):
        stopped_and_copied(begin("original", source, target))
        both = [begin("original", source, target), begin("copy", source, target)]
        deadline = time.monotonic() + 20
        while all(run.alive for run in both) and time.monotonic() < deadline:
            time.sleep(0.05)
        (older,) = [run for run in both if not run.alive]
        (newer,) = [run for run in both if run.alive]
        fenced(older)
        newer.wait_in_sync()
        time.sleep(1)
    newer.settle(source)

    equal(source, target)
    assert snapshots(source) == 1

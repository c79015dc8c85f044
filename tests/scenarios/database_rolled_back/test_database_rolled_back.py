"""The database loses its last commits, as in a power cut, while the target already streams.

What it then holds as work to be done was done long ago, and must not be done again: the target knows better.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from pathlib import Path

import pytest

from tests.dataset import fill
from tests.run_keyferry import Keyferry
from tests.scenarios.conftest import StartFerry
from tests.scenarios.judge import equal, snapshots
from tests.servers import StartServer
from tests.slow import RAW, bulk, slowed
from tests.traffic import Traffic

MOMENTS = ("no snapshot", "snapshot arrives", "chunks are open")


def back_up(run: Keyferry, path: Path) -> str | None:
    """Copy the database as it is at this moment; which of MOMENTS that is."""
    path.unlink(missing_ok=True)
    with (
        contextlib.closing(sqlite3.connect(f"file:{run.state / 'keyferry.db'}?mode=ro", uri=True)) as present,
        contextlib.closing(sqlite3.connect(path)) as copy,
    ):
        present.backup(copy)
        return moment(copy)


def moment(database: sqlite3.Connection) -> str | None:
    node = database.execute("SELECT gen, snapshot_done, begun FROM node WHERE wanted").fetchone()
    opened = database.execute("SELECT count(*) FROM chunk WHERE state IN ('ready', 'running')").fetchone()[0]
    match node:
        case (0, 0, 0):
            return MOMENTS[0]
        case (1, 0, 0) if opened:
            return MOMENTS[1]
        case (1, 1, 0) if opened:
            return MOMENTS[2]
    return None


def catch(run: Keyferry, wanted: str, path: Path) -> None:
    """Copy the database at the first such moment."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with contextlib.suppress(sqlite3.OperationalError):  # not there yet, or without tables
            if back_up(run, path) == wanted:
                return
        time.sleep(0.02)
    raise AssertionError(f"never: {wanted}\n{run.report()}")


def put_in_place(copy: Path, state: Path) -> None:
    for old in state.glob("keyferry.db*"):
        old.unlink()
    copy.rename(state / "keyferry.db")


@pytest.mark.parametrize("wanted", MOMENTS)
def test_the_stream_goes_on(wanted: str, server: StartServer, ferry: StartFerry, tmp_path: Path) -> None:
    source, target = server("redis-7.0", config=RAW), server("redis-7.0")
    fill(source.client(), 200)
    bulk(source, 10_000)
    copy = tmp_path / "earlier.db"

    with Traffic(source, clients=4, rate=1500, mix="exact"):
        with slowed(target):
            run = ferry(source, target)
            catch(run, wanted, copy)
        run.wait_in_sync()
        run.kill_tree()
        put_in_place(copy, run.state)
        run = ferry(source, target)
        run.wait_phase("synchronizing")
        time.sleep(2)
    run.settle(source)

    assert {chunk["state"] for chunk in run.chunks()} <= {"done", "void"}
    assert run.last["retry"] is None
    equal(source, target)
    assert snapshots(source) == 1


def test_back_to_an_earlier_snapshot(server: StartServer, ferry: StartFerry, tmp_path: Path) -> None:
    """The first snapshot broke off, the second was loaded; the database remembers the first alone."""
    source, target = server("redis-7.0", config=RAW), server("redis-7.0")
    bulk(source, 10_000)
    copy = tmp_path / "earlier.db"

    with Traffic(source, clients=4, rate=1500, mix="exact"):
        with slowed(target):
            run = ferry(source, target)
            catch(run, MOMENTS[1], copy)
            run.kill_tree()
        run = ferry(source, target)
        run.wait_in_sync()
        run.kill_tree()
        put_in_place(copy, run.state)
        run = ferry(source, target)
        run.wait_phase("synchronizing")
        time.sleep(2)
    run.settle(source)

    assert {chunk["state"] for chunk in run.chunks()} <= {"done", "void"}
    assert run.last["retry"] is None
    equal(source, target)
    assert snapshots(source) == 2


def test_until_full(server: StartServer, ferry: StartFerry, tmp_path: Path) -> None:
    """It has been loaded long ago, though the database does not remember the end of it."""
    source, target = server("redis-7.0", config=RAW), server("redis-7.0")
    bulk(source, 5000)
    copy = tmp_path / "earlier.db"
    with slowed(target):
        run = ferry(source, target)
        catch(run, MOMENTS[1], copy)
    run.wait_in_sync()
    run.kill_tree()
    put_in_place(copy, run.state)
    assert ferry(source, target, until="full").wait() == 0
    equal(source, target)

"""When the source is asked for another snapshot, and when it is not."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sync_tasks.errors import ControlError, Retry, Side
from sync_tasks.views import NodeView
from tests.servers import Server
from tests.unit.protocol.conftest import until
from tests.unit.protocol.faulty import LOADED, NEW, Receiving
from workers.spool.damage import damaged, is_damaged
from workers.target.claim import STREAMING, Checkpoint


@pytest.fixture
def receive(source: Server, tmp_path: Path) -> Iterator[Callable[..., Receiving]]:
    made: list[Receiving] = []

    def begin(node: NodeView = NEW, server: Server = source) -> Receiving:
        made.append(Receiving(server, tmp_path, node))
        return made[-1]

    yield begin
    for one in made:
        one.stop()


def test_a_damaged_snapshot_is_taken_again(receive: Callable[..., Receiving], tmp_path: Path) -> None:
    one = receive()
    one.receiver.start()
    assert until(one.in_step)
    error = damaged(tmp_path / "gen-1" / "000000.chunk", "is missing")
    one.port.failing(error)
    assert until(lambda: one.port.view.gen == 2 and one.in_step()), one.receiver.error
    assert one.snapshots() == 2
    assert until(lambda: Side.CONTROL not in one.port.open)


def test_damage_to_a_snapshot_that_is_loaded_matters_no_more(receive: Callable[..., Receiving], tmp_path: Path) -> None:
    one = receive()
    one.receiver.start()
    assert until(one.in_step)
    one.port.view = replace(one.port.view, begun=True)
    one.found = Checkpoint(str(one.receiver.log.replid), 0, 0, 1, "", 0, STREAMING, 1, True)
    damaged(tmp_path / "gen-1" / "000000.chunk", "is missing")
    assert until(lambda: not is_damaged(tmp_path / "gen-1"))
    assert until(one.in_step)
    assert one.snapshots() == 1


def test_chunks_are_recorded_while_the_source_is_drained(
    receive: Callable[..., Receiving], monkeypatch: pytest.MonkeyPatch, source: Server
) -> None:
    """The disk takes its time; the source must not feel it, and the snapshot is not whole before."""
    disk = threading.Event()
    monkeypatch.setattr("workers.spool.publish.make_durable", lambda _: disk.wait(10))
    with source.client() as client:
        client.set("x", 1)
        one = receive()
        one.receiver.start()
        assert until(lambda: one.receiver.connected)
        client.set("x", 2)
        end = int(client.info("replication")["master_repl_offset"])
        assert until(lambda: (one.receiver.log.end or 0) >= end)
        assert not one.port.view.snapshot_done
        disk.set()
        assert until(one.in_step)
        assert one.snapshots() == 1


@pytest.mark.parametrize("away", ["all", "writes"])
def test_no_snapshot_is_asked_for_while_the_target_is_away(receive: Callable[..., Receiving], away: str) -> None:
    """Each costs the source a fork. The one before broke off."""
    one = receive(replace(NEW, gen=2))
    one.away = {away}
    one.receiver.start()
    assert until(lambda: len(one.port.failures) > 5)
    assert one.snapshots() == 0
    one.away = set()
    assert until(one.in_step)
    assert one.snapshots() == 1
    assert one.port.open == set()


@pytest.mark.parametrize("begun", [False, True])
def test_a_source_that_cannot_go_on_is_asked_once_while_the_target_is_away(
    receive: Callable[..., Receiving], begun: bool
) -> None:
    one = receive(replace(LOADED, begun=begun, replid="f" * 40))
    one.receiver.log.reset("f" * 40, 0)
    one.receiver.log.append(b"x", 1)
    one.away = {"all"}
    one.receiver.start()
    assert until(lambda: len(one.port.failures) > 5)
    assert one.snapshots() <= 1
    one.away = set()
    assert until(one.in_step), one.receiver.error
    assert one.snapshots() <= 2
    assert one.reopened == ([2] if begun else [])


def test_a_disk_that_spoils_every_snapshot_ends_the_task(receive: Callable[..., Receiving], tmp_path: Path) -> None:
    """Each costs the source a fork, and the target a load."""
    one = receive()
    one.receiver.start()
    for gen in range(1, 4):
        assert until(lambda gen=gen: one.port.view.gen == gen and one.in_step()), one.receiver.error  # type: ignore[misc]
        damaged(tmp_path / f"gen-{gen}" / "000000.chunk", "is missing")
    assert until(lambda: one.receiver.error is not None)
    assert isinstance(one.receiver.error, ControlError)
    assert one.receiver.error.retry is Retry.FATAL
    assert one.snapshots() == 3

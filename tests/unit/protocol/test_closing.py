"""The end of a load: which chunks the target must have."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sync_tasks.errors import Side
from sync_tasks.lanes import Lane
from sync_tasks.names import closed_key, marks_key
from sync_tasks.slots import ALL, members, ranges, written
from sync_tasks.spec import TaskSpec
from sync_tasks.states import ChunkState
from sync_tasks.views import ChunkView
from tests.servers import Server
from tests.unit.protocol.conftest import NODE, REPLID, TASK, UID, Port, endpoint, known, until
from tests.unit.protocol.faulty import LOADED
from workers.added import Addition
from workers.apply import Applier
from workers.closing import Closing
from workers.codec.resp_cy import encode
from workers.moment import now_ms
from workers.scope import Scope
from workers.source.ask import Position, Source
from workers.spool.log import BACKLOG, Log
from workers.spool.tables import write_tables
from workers.target.claim import LOADING, Checkpoint
from workers.target.link import TargetLink


class Loaded(Port):
    """A job with a chunk of each of four databases, numbered as they are."""

    def chunks(self, _: int, *, every: bool = False) -> list[Any]:
        return [ChunkView(10 + n, 1, 1, 1, n, n, 0, False, "", 1, 1, ChunkState.DONE, 0, 1) for n in range(4)]


def test_what_has_no_mark_is_missing_unless_it_does_not_travel(target: Server, tmp_path: Path) -> None:
    node = replace(NODE, snapshot_offset=0)
    link = TargetLink(endpoint(target), "test", 0)
    with target.client() as client:
        client.hset(marks_key(UID, 0, 1), 1, 1)
    for databases, missing in ((None, [10, 12, 13]), ({1: 5, 3: 0}, [13]), ({1: 1}, [])):
        closing = Closing(Loaded(TASK, node), node, Scope(databases), tmp_path, 0, known(tmp_path))
        assert closing.missing(link) == missing
    link.close()


def test_a_target_that_falls_back_behind_the_last_look_takes_no_first_window(target: Server, tmp_path: Path) -> None:
    """A connection outlives a demotion and the promotion after it; the marks of the load do not."""
    node = replace(NODE, snapshot_offset=0)
    link = TargetLink(endpoint(target), "test", 0)
    closing = Closing(Loaded(TASK, node), node, Scope({1: 1}), tmp_path, 0, known(tmp_path))
    with target.client() as client:
        assert not closing.stands(link)
        link.ask(b"UNWATCH")
        client.hset(marks_key(UID, 0, 1), 1, 1)
        assert closing.stands(link)
        client.delete(marks_key(UID, 0, 1))
    assert link.ask_all([[b"MULTI"], [b"SET", b"first", b"window"], [b"EXEC"]])[-1] is None
    link.close()


def test_what_was_swept_must_be_so_still(target: Server, tmp_path: Path) -> None:
    node = replace(NODE, snapshot_offset=0, gen=2)
    link = TargetLink(endpoint(target), "test", 0)
    closing = Closing(Loaded(TASK, node), node, Scope({1: 1}), tmp_path, 0, known(tmp_path))
    with target.client() as client:
        client.set(closed_key(UID, 0, 1), 1)
        client.hset(marks_key(UID, 0, 2), 1, 1)
        assert not closing.stands(link)
        client.hset(marks_key(UID, 0, 2), "swept", 1)
        assert closing.stands(link)
    link.close()


def test_that_chunks_were_begun_is_known_even_when_all_comes_again(target: Server, tmp_path: Path) -> None:
    """The target had fallen back to before the first snapshot's loaders were fenced."""
    node = replace(NODE, snapshot_offset=0, gen=2)
    link = TargetLink(endpoint(target), "test", 0)
    closing = Closing(Loaded(TASK, node), node, Scope(None), tmp_path, 0, known(tmp_path))
    with target.client() as client:
        client.hset(marks_key(UID, 0, 2), mapping={"begun:0": 1, "0": 1, "begun:1": 1, "1": 1, "swept": 1})
        assert closing.missing(link) == [10, 11, 12, 13]
        assert client.hkeys(marks_key(UID, 0, 2)) == [b"begun:0", b"begun:1"]
        assert client.exists(closed_key(UID, 0, 1))
        assert closing.missing(link) == [10, 11, 12, 13], "though its gates are closed now"
    link.close()


def test_a_load_that_is_closed_is_of_the_turn_in_which_its_lane_is(tmp_path: Path) -> None:
    """Else the extent is taken for one of before the lane had given slots up, and they are copied once more."""
    node = replace(NODE, snapshot_offset=0)
    scope = Scope(None, lane=Lane(0, "0", ((0, 16383),), turn=3, gave=((3, ((5, 5),)),)))
    found = Closing(Port(TASK, node), node, scope, tmp_path, 0, known(tmp_path)).checkpoint("nonce")
    assert (found.turn, found.extent) == (3, scope.extent.text)


@pytest.mark.parametrize("known_already", [False, True])
def test_what_an_addition_has_put_into_a_slot_that_went_on_is_to_be_left_behind_a_load_too(
    target: Server, tmp_path: Path, known_already: bool
) -> None:
    """The load knows nothing of it, and the next owner of the slot removes only what its own stream has brought."""
    moved, node = ((7, 7),), replace(NODE, snapshot_offset=0)
    scope = Scope(None, slots=ranges(members(ALL) - {7}))
    under_way = Addition("", 0, 0, REPLID, 0, slots=written(moved)).text
    former = Checkpoint(
        REPLID, 0, 0, 1, "n", 0, LOADING, 1, held=False, extent=scope.extent.text,
        adding="" if known_already else under_way, leaving=written(moved) if known_already else "",
    )  # fmt: skip
    link = TargetLink(endpoint(target), "test", 0)
    closing = Closing(Loaded(TASK, node), node, scope, tmp_path, 0, known(tmp_path))
    (tmp_path / "gen-1").mkdir(exist_ok=True)
    write_tables(tmp_path / "gen-1", 10, [], [])
    closing.sweep(link, former)
    assert closing.checkpoint("nonce").leaving == "7"
    assert b"$7\r\nleaving\r\n$1\r\n7\r\n" in closing.first_window(link).body
    closing = Closing(Loaded(TASK, node), node, Scope(None, slots=ALL), tmp_path, 0, known(tmp_path))
    closing.sweep(link, former)
    assert closing.checkpoint("nonce").leaving == "", "it has been loaded itself"
    link.close()


def test_where_nothing_was_loaded_keys_that_have_expired_are_looked_at_first(
    source: Server, target: Server, tmp_path: Path
) -> None:
    """On the way back of a cut-over, say: the new master has renewed one that the old one had with its exact time."""
    with source.client() as client:
        client.flushall()
        client.rpush("kept", "v")
    log, asks = Log(tmp_path / "log"), Source(endpoint(source, Side.SOURCE))
    log.reset(REPLID, 0)
    log.append(encode([b"PERSIST", b"kept"]), now_ms(), BACKLOG)
    asks.position = lambda: Position(REPLID, log.end or 0)  # type: ignore[method-assign]
    asks.offset = lambda: log.end or 0  # type: ignore[method-assign]
    values = asks.values
    asks.values = lambda keys: replace(values(keys), at=asks.position())  # type: ignore[method-assign]
    (tmp_path / "gen-1").mkdir()
    write_tables(tmp_path / "gen-1", 10, [], [])
    task = replace(TASK, spec=TaskSpec(sync_types=["incremental"]))
    port: Any = Port(task, replace(LOADED, snapshot_offset=0))
    applier = Applier(endpoint(target), port, log, asks, tmp_path, Scope(None), 0, known(tmp_path))
    applier.start()
    try:
        applier.loaded.set()
        with target.client() as client:
            assert until(lambda: client.lrange("kept", 0, -1) == [b"v"], 8), applier.error
    finally:
        applier.stop_event.set()
        log.wake()
        applier.join(10)

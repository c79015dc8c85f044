"""The end of a load: which chunks the target must have."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from sync_tasks.lanes import Lane
from sync_tasks.names import closed_key, marks_key
from sync_tasks.states import ChunkState
from sync_tasks.views import ChunkView
from tests.servers import Server
from tests.unit.protocol.conftest import NODE, TASK, UID, Port, endpoint, known
from workers.closing import Closing
from workers.scope import Scope
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

"""Slots that pass from one source node to another, where the target has not come so far, or has fallen back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sync_tasks.errors import ConnectionLost, Side
from sync_tasks.extent import Extent
from sync_tasks.keyfilter import FilterSpec
from sync_tasks.names import checkpoint_key, taken_key
from sync_tasks.slots import ALL, Ranges, mask, members, ranges, slot, written
from sync_tasks.views import ShardView
from tests.servers import Server
from tests.unit.protocol.conftest import NODE, REPLID, UID, Port, endpoint, until
from tests.unit.protocol.test_adding import Changing
from workers import apply, others
from workers.added import CATCHING_UP, Addition, digest
from workers.adding import Adding
from workers.apply import Applier
from workers.leaving import Leaving
from workers.others import Others
from workers.scope import Scope
from workers.target.windows import Window

MOVED = slot(b"moved")
LEFT = ranges(members(ALL) - {MOVED})
OTHER = checkpoint_key(UID, 1)


class Slotted(Changing):
    """A stream of a cluster's shard.

    slots: that the next owner carries. drained: as of its node. serves: whether its shard has them.
    """

    def __init__(self, source: Server, target: Server, directory: Path) -> None:
        super().__init__(source, target, directory)
        self.slots: Ranges = ALL
        self.drained = (0, 0)
        self.held: Ranges | None = None  # by its node; None: what it carries
        self.serves = True

    def own(self) -> Applier:
        self.extents.append(Extent.of(self.databases, self.filter, self.slots).text)
        shard = ShardView(("a",), "a:1", self.slots, self.held or self.slots, self.drained)
        self.ports.append(Port(self.task, replace(NODE, shard=shard), self.epoch + len(self.owners)))
        self.ports[-1].rest = [1]
        made = Applier(
            endpoint(self.target), self.ports[-1], self.log, self.questions(), self.directory,  # type: ignore[arg-type]
            Scope(self.databases, self.filter, self.slots), 0, self.known,
        )  # fmt: skip
        made.extending.serves = lambda: self.serves
        self.owners.append(made)
        made.start()
        return made

    def carry(self, slots: Ranges) -> Applier:
        """The owner of other slots; the one before ends at a checkpoint."""
        for owner in self.owners:
            owner.stop_event.set()
            self.log.wake()
            owner.join(10)
        self.slots = slots
        return self.own()

    def is_whole(self) -> bool:
        return self.extent == Extent.of(self.databases, self.filter, self.slots)


@pytest.fixture
def slotted(tmp_path: Path, source: Server, target: Server) -> Iterator[Slotted]:
    made = Slotted(source, target, tmp_path)
    yield made
    made.stop()


def begin(made: Slotted) -> None:
    owner = made.own()
    made.do(0, [b"SET", b"moved", b"1"], [b"SET", b"stays", b"1"], [b"SET", b"{moved}too", b"1"])
    assert until(made.in_step), owner.error


def test_a_target_from_before_slots_were_given_up_is_brought_to_there(slotted: Slotted) -> None:
    """It was further, and fell back. The stream deletes each key that moves away, and does not act on it any more."""
    begin(slotted)
    slotted.stop()
    end = slotted.do(0, [b"DEL", b"moved"], [b"INCR", b"stays"], [b"UNLINK", b"{moved}too"])
    slotted.drained = (1, end)
    owner = slotted.carry(LEFT)
    assert until(lambda: slotted.is_whole() and slotted.committed()), owner.error
    with slotted.target.client() as client:
        assert client.mget("moved", "{moved}too", "stays") == [None, None, b"2"]


def test_nothing_is_loaded_of_a_slot_before_who_has_given_it_up_has_done_so_on_the_target(slotted: Slotted) -> None:
    """The target fell back; whoever gave the slot up removes there what its stream deletes. The one that has it now
    needs a full sync in place just then: what that brings must not be there before.
    """
    begin(slotted)
    slotted.stop()
    slotted.drained = (1, slotted.do(0, [b"DEL", b"moved"], [b"UNLINK", b"{moved}too"], [b"INCR", b"stays"]))
    mine = ranges({MOVED})
    port = Port(slotted.task, replace(NODE, number=1, shard=ShardView(("b",), "b:1", mine, mine, (0, 0))))
    port.rest = [0]
    other = Applier(
        endpoint(slotted.target), port, slotted.log, slotted.questions(), slotted.directory,  # type: ignore[arg-type]
        Scope(slotted.databases, slotted.filter, mine), 0, slotted.known,
    )  # fmt: skip
    with pytest.raises(ConnectionLost, match="another stream"):
        other.reopen(2, REPLID, REPLID, None)
    owner = slotted.carry(LEFT)
    assert until(lambda: slotted.is_whole() and slotted.committed()), owner.error
    other.reopen(2, REPLID, REPLID, None)
    with slotted.target.client() as client:
        assert client.hget(OTHER, "state") == b"loading"
        client.set("moved", "2")
        owner = slotted.carry(LEFT)
        slotted.do(0, [b"INCR", b"stays"])
        assert until(slotted.committed), owner.error
        assert client.get("moved") == b"2"


@pytest.mark.parametrize("drained", [(1, 0), (2, 1 << 40)], ids=["it has all of it", "of another snapshot"])
def test_what_others_have_put_since_is_left_to_them(slotted: Slotted, drained: tuple[int, int]) -> None:
    begin(slotted)
    slotted.stop()
    slotted.drained = drained
    slotted.do(0, [b"INCR", b"stays"])
    with slotted.target.client() as client:
        theirs = Extent.of({0: 0}, slotted.filter, ((MOVED, MOVED),)).text
        client.hset(OTHER, mapping={"state": "streaming", "extent": theirs})
        owner = slotted.carry(LEFT)
        assert until(lambda: slotted.is_whole() and slotted.committed()), owner.error
        assert until(lambda: not slotted.checkpoint().get(b"leaving")), owner.error
        assert client.get("moved") == b"1"
    assert not slotted.events().count("narrowed"), "nobody has taken anything away"


def test_a_slot_that_the_database_does_not_know_was_taken_leaves_no_key(slotted: Slotted) -> None:
    """It has fallen back to before that. What the source deletes until the slot goes on, nobody else knows."""
    begin(slotted)
    slotted.stop()
    with slotted.target.client() as client:
        client.set("{moved}foreign", 1)
        owner = slotted.carry(LEFT)
        slotted.do(0, [b"DEL", b"moved"], [b"INCR", b"stays"])
        assert until(lambda: slotted.is_whole() and slotted.committed()), owner.error
        assert until(lambda: not client.exists("moved")), owner.error
        assert until(lambda: not slotted.checkpoint().get(b"leaving")), owner.error
        assert client.mget("{moved}too", "{moved}foreign", "stays") == [None, b"1", b"2"]


def test_a_source_that_was_emptied_meanwhile_is_loaded_anew(slotted: Slotted) -> None:
    """Which keys are gone the stream does not say then."""
    begin(slotted)
    slotted.stop()
    slotted.drained = (1, slotted.do(0, [b"FLUSHALL"], [b"SET", b"moved", b"2"], [b"DEL", b"moved"]))
    slotted.carry(LEFT)
    assert until(lambda: slotted.log.anew)
    assert not slotted.is_whole()


def waits(true: Callable[[], bool]) -> bool:
    """Whether it is not so for a while."""
    deadline = time.monotonic() + 0.7
    while time.monotonic() < deadline:
        if true():
            return False
        time.sleep(0.05)
    return True


@pytest.mark.parametrize("founded", [False, True], ids=["", "on a lane that was made since"])
def test_a_slot_is_not_begun_with_while_the_target_says_that_it_is_anothers(slotted: Slotted, founded: bool) -> None:
    slotted.slots = LEFT
    owner = slotted.own()
    slotted.do(0, [b"SET", b"moved", b"1"], [b"SET", b"stays", b"1"])
    assert until(slotted.in_step), owner.error
    with slotted.target.client() as client:
        theirs = Extent.of({0: 0}, slotted.filter, ((MOVED, MOVED),)).text
        client.hset(OTHER, mapping={"state": "streaming", "extent": theirs})
        if founded:
            slotted.stop()
            client.hset(checkpoint_key(UID, 0), "extent", Extent(databases={}).text)
        owner = slotted.carry(ALL)
        assert waits(lambda: bool(client.exists("moved")) or slotted.is_whole())
        slotted.do(0, [b"INCR", b"stays"])
        assert founded or until(lambda: client.get("stays") == b"2"), "the stream goes on"
        client.hset(OTHER, "extent", Extent.of({0: 0}, slotted.filter, ()).text)
        assert until(slotted.in_step), owner.error
        assert client.get("moved") == b"1"


def test_a_slot_that_is_not_at_the_source_is_not_begun_with(slotted: Slotted) -> None:
    """The database has fallen back to before it was given away: its keys would be taken for deleted."""
    begin(slotted)
    slotted.held = ALL
    owner = slotted.carry(LEFT)
    slotted.client.delete("moved", "{moved}too")
    assert until(slotted.is_whole), owner.error
    slotted.serves = False
    owner = slotted.carry(ALL)
    with slotted.target.client() as client:
        assert waits(lambda: not client.exists("moved"))
        slotted.serves = True
        assert until(slotted.in_step), owner.error
        assert not client.exists("moved")


def test_a_stream_that_is_to_be_closed_waits_for_those_of_other_shards(slotted: Slotted) -> None:
    begin(slotted)
    owner = slotted.owners[-1]
    owner.finishing.set()
    slotted.log.wake()
    assert until(lambda: owner.stands_at == slotted.end), owner.error
    assert waits(lambda: slotted.checkpoint()[b"state"] != b"streaming")
    slotted.do(0, [b"INCR", b"stays"])
    assert waits(lambda: slotted.committed()), "nor does it go on"
    owner.finishing.clear()
    assert until(lambda: slotted.committed() and owner.stands_at is None), owner.error
    owner.finishing.set()
    owner.may_close.set()
    assert until(lambda: owner.closed_at == slotted.end), owner.error
    assert slotted.checkpoint()[b"state"] == b"finished"


def test_a_stream_without_a_connection_stands_nowhere(slotted: Slotted, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the others are closed where they stand, and this one wherever the source is once the target is back."""
    begin(slotted)
    owner = slotted.owners[-1]
    owner.finishing.set()
    slotted.log.wake()
    assert until(lambda: owner.stands_at == slotted.end), owner.error
    with monkeypatch.context() as away:

        def refused(*_: Any) -> None:
            raise ConnectionLost("away", side=Side.TARGET)

        away.setattr(apply, "TargetLink", refused)
        with slotted.target.client() as client:
            client.client_kill_filter(_type="normal", skipme=True)
        assert until(lambda: slotted.ports[-1].failures), "it is noticed, though nothing is sent"
        assert until(lambda: owner.stands_at is None, 2)
    assert until(lambda: owner.stands_at == slotted.end), owner.error


def cut_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection is lost in the next step of what leaves slots."""
    step = Leaving.step

    def broken(one: Leaving) -> Window | None:
        monkeypatch.setattr(Leaving, "step", step)
        raise ConnectionLost("cut", side=Side.TARGET)

    monkeypatch.setattr(Leaving, "step", broken)


@pytest.mark.parametrize(
    ("again", "founded"), [(False, False), (True, False), (False, True)],
    ids=["at once", "after a lost connection", "on a lane that was made since"],
)
def test_a_slot_that_leaves_while_it_is_being_added_leaves_no_key(
    slotted: Slotted, monkeypatch: pytest.MonkeyPatch, again: bool, founded: bool
) -> None:
    """What its source deleted beside the addition would stay: whoever has the slot next never had the key."""
    said: list[tuple[Ranges, bool]] = []
    with slotted.target.client() as client:
        monkeypatch.setattr(Port, "holds", lambda _, slots: said.append((slots, bool(client.exists("moved")))))
        slotted.slots = LEFT
        slotted.own()
        slotted.do(0, [b"SET", b"moved", b"1"], [b"SET", b"stays", b"1"])
        assert until(lambda: client.exists("stays"))
        client.set("{moved}foreign", 1)
        if founded:
            assert until(slotted.committed)
            slotted.stop()
            client.hset(checkpoint_key(UID, 0), "extent", Extent(databases={}).text)
        monkeypatch.setattr(Adding, "_may_switch", lambda _: False)
        owner = slotted.carry(ALL)
        assert until(lambda: client.exists("moved")), owner.error
        slotted.stop()
        assert not slotted.is_whole()
        monkeypatch.undo()
        monkeypatch.setattr(Port, "holds", lambda _, slots: said.append((slots, bool(client.exists("moved")))))
        said.clear()
        slotted.do(0, [b"DEL", b"moved"])
        slotted.held = ALL
        if again:
            cut_once(monkeypatch)
        owner = slotted.carry(LEFT)
        slotted.do(0, [b"INCR", b"stays"])
        assert until(lambda: bool(said) and slotted.is_whole() and slotted.committed()), owner.error
        assert said[0] == (LEFT, False), "it is let go behind that"
        assert client.mget("moved", "{moved}foreign", "stays") == [None, b"1", b"2"]


def test_a_slot_that_leaves_leaves_no_key_where_nothing_is_copied_to_any_more(
    slotted: Slotted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database is mapped elsewhere while the slot leaves; it may be mapped back."""
    slotted.slots = LEFT
    owner = slotted.own()
    slotted.do(0, [b"SET", b"moved", b"1"], [b"SET", b"stays", b"1"])
    with slotted.target.client() as client:
        assert until(lambda: client.exists("stays")), owner.error
        with monkeypatch.context() as patched:
            patched.setattr(Adding, "_may_switch", lambda _: False)
            owner = slotted.carry(ALL)
            assert until(lambda: client.exists("moved")), owner.error
            slotted.stop()
        slotted.do(0, [b"DEL", b"moved"])
        slotted.held, slotted.databases = ALL, {0: 3}
        owner = slotted.carry(LEFT)
        assert until(lambda: slotted.is_whole() and slotted.committed()), owner.error
        assert client.mget("moved", "stays") == [None, b"1"]


@pytest.mark.parametrize("again", [False, True], ids=["at once", "after a lost connection"])
def test_a_slot_that_leaves_while_names_are_being_added_leaves_none_of_these(
    slotted: Slotted, monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    """The stream acts on its other keys. What the source deleted of those that were being added nobody else knows."""
    said: list[tuple[Ranges, bool]] = []
    names = ("new:{moved}", "{moved}foreign", "new:stays", "stays")
    with slotted.target.client() as client:
        slotted.filter = FilterSpec(block_prefixes=["new:"])
        begin(slotted)
        slotted.do(0, [b"SET", b"new:{moved}", b"1"], [b"SET", b"new:stays", b"1"])
        client.set("{moved}foreign", 1)
        monkeypatch.setattr(Adding, "_may_switch", lambda _: False)
        slotted.filter = FilterSpec()
        owner = slotted.carry(ALL)
        assert until(lambda: f'"{CATCHING_UP}"'.encode() in slotted.checkpoint().get(b"adding", b"")), owner.error
        slotted.do(0, [b"DEL", b"moved"], [b"DEL", b"{moved}too"], [b"DEL", b"new:{moved}"])
        assert until(lambda: slotted.committed() and not client.exists("moved")), owner.error
        slotted.stop()
        assert client.exists("new:{moved}")
        assert not slotted.is_whole()
        monkeypatch.undo()
        monkeypatch.setattr(Port, "holds", lambda _, slots: said.append((slots, bool(client.exists("new:{moved}")))))
        slotted.held = ALL
        if again:
            cut_once(monkeypatch)
        owner = slotted.carry(LEFT)
        slotted.do(0, [b"INCR", b"stays"])
        assert until(lambda: bool(said) and slotted.is_whole() and slotted.committed()), owner.error
        assert said[0] == (LEFT, False), "it is let go behind that"
        assert client.mget(*names) == [None, b"1", b"1", b"2"]


def test_a_slot_that_leaves_while_others_are_being_added_may_come_back(
    slotted: Slotted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The addition is not gone on with: some of what it had put was removed. Nor is the slot to be left for ever."""
    said: list[Ranges] = []
    another = slot(b"another")
    slotted.slots = ranges(members(LEFT) - {another})
    owner = slotted.own()
    slotted.do(0, [b"SET", b"moved", b"1"], [b"SET", b"another", b"1"], [b"SET", b"stays", b"1"])
    assert until(slotted.in_step), owner.error
    with slotted.target.client() as client:
        with monkeypatch.context() as patched:
            patched.setattr(Adding, "_may_switch", lambda _: False)
            owner = slotted.carry(ALL)
            assert until(lambda: client.exists("moved", "another") == 2), owner.error
            slotted.stop()
        monkeypatch.setattr(Port, "holds", lambda _, slots: said.append(slots))
        slotted.serves, slotted.held = False, ALL
        owner = slotted.carry(ranges(members(ALL) - {another}))
        assert until(lambda: said == [slotted.slots]), owner.error
        assert not client.exists("another")
        assert slotted.checkpoint()[b"leaving"] == b""
        slotted.serves = True
        owner = slotted.carry(ALL)
        assert until(slotted.in_step), owner.error
        assert client.mget("moved", "another") == [b"1", b"1"]


def test_keys_of_a_slot_that_another_stream_acts_on_stay(slotted: Slotted) -> None:
    """The database has fallen back to before the slot was let go."""
    slotted.slots = LEFT
    owner = slotted.own()
    slotted.do(0, [b"SET", b"moved", b"1"], [b"SET", b"stays", b"1"])
    with slotted.target.client() as client:
        assert until(lambda: client.exists("stays")), owner.error
        client.set("moved", 7)
        theirs = Extent.of({0: 0}, slotted.filter, ((MOVED, MOVED),)).text
        client.hset(OTHER, mapping={"state": "streaming", "extent": theirs})
        slotted.held = ALL
        owner = slotted.carry(LEFT)
        slotted.do(0, [b"INCR", b"stays"])
        assert until(slotted.committed), owner.error
        assert client.get("moved") == b"7"


@pytest.mark.parametrize("acts", [False, True], ids=["it gives up", "it acts on it in the end"])
def test_keys_of_a_slot_that_another_stream_takes_up_wait_for_what_becomes_of_that(
    slotted: Slotted, monkeypatch: pytest.MonkeyPatch, acts: bool
) -> None:
    """The database has fallen back to before the slot was let go, and that stream was adding it."""
    said: list[Ranges] = []
    monkeypatch.setattr(Port, "holds", lambda _, slots: said.append(slots))
    slotted.slots = LEFT
    owner = slotted.own()
    slotted.do(0, [b"SET", b"moved", b"1"], [b"SET", b"stays", b"1"])
    with slotted.target.client() as client:
        assert until(lambda: client.exists("stays")), owner.error
        client.set("moved", 7)
        extent = Extent.of({0: 0}, slotted.filter, ((MOVED, MOVED),))
        theirs = Addition(digest(extent), 0, 0, REPLID, 0, slots=written(((MOVED, MOVED),)))
        client.hset(OTHER, mapping={"state": "streaming", "extent": Extent(slots=()).text, "adding": theirs.text})
        slotted.held = ALL
        said.clear()
        owner = slotted.carry(LEFT)
        slotted.do(0, [b"INCR", b"stays"])
        assert until(slotted.committed), owner.error
        assert waits(lambda: not client.exists("moved") or bool(said)), "neither is it let go"
        if acts:
            client.hset(OTHER, mapping={"extent": extent.text, "adding": ""})
        else:
            client.hset(OTHER, "adding", "")
        assert until(lambda: said == [LEFT]), owner.error
        assert client.get("moved") == (b"7" if acts else None)


def test_who_begins_to_take_a_slot_up_spoils_the_window_that_would_remove_its_keys(
    slotted: Slotted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database has fallen back to before the slot was let go, and the one that leaves it had just asked."""
    said: list[Ranges] = []
    overtaken = threading.Event()
    monkeypatch.setattr(Port, "holds", lambda _, slots: said.append(slots))
    slotted.slots = LEFT
    owner = slotted.own()
    slotted.do(0, [b"SET", b"moved", b"1"], [b"SET", b"stays", b"1"])
    with slotted.target.client() as client:
        assert until(lambda: client.exists("stays")), owner.error
        client.set("moved", 1)
        extent = Extent.of({0: 0}, slotted.filter, ((MOVED, MOVED),))
        theirs = Addition(digest(extent), 0, 0, REPLID, 0, slots=written(((MOVED, MOVED),)))
        remove = Leaving._remove

        def late(one: Leaving, to: int, names: list[bytes]) -> Window | None:
            window = remove(one, to, names)
            if window is not None and not overtaken.is_set():
                client.hset(OTHER, mapping={"state": "streaming", "extent": Extent(slots=()).text})
                client.hset(OTHER, "adding", theirs.text)
                client.set(taken_key(UID, 1), "their token")
                client.set("moved", 7)
                overtaken.set()
            return window

        monkeypatch.setattr(Leaving, "_remove", late)
        slotted.held = ALL
        said.clear()
        owner = slotted.carry(LEFT)
        assert overtaken.wait(10), owner.error
        slotted.do(0, [b"INCR", b"stays"])
        assert until(slotted.committed), owner.error
        assert waits(lambda: not client.exists("moved") or bool(said)), "it waits for what becomes of that"
        client.hset(OTHER, mapping={"extent": extent.text, "adding": ""})
        assert until(lambda: said == [LEFT]), owner.error
        assert client.get("moved") == b"7"


def test_a_stream_that_begins_to_take_slots_up_says_so_to_all_who_watch(slotted: Slotted) -> None:
    slotted.slots = LEFT
    owner = slotted.own()
    slotted.do(0, [b"SET", b"moved", b"1"])
    assert until(slotted.in_step), owner.error
    with slotted.target.client() as client:
        client.set(taken_key(UID, 0), "earlier")
        owner = slotted.carry(ALL)
        assert until(slotted.in_step), owner.error
        assert client.get(taken_key(UID, 0)) not in (None, b"earlier")


def leave_unfinished(slotted: Slotted, monkeypatch: pytest.MonkeyPatch) -> dict[bytes, bytes]:
    """The stream has left a slot that it was adding; the checkpoint in the middle of that addition."""
    slotted.slots = LEFT
    slotted.own()
    slotted.do(0, [b"SET", b"moved", b"1"], [b"SET", b"stays", b"1"])
    assert until(slotted.in_step)
    with monkeypatch.context() as patched, slotted.target.client() as client:
        patched.setattr(Adding, "_may_switch", lambda _: False)
        owner = slotted.carry(ALL)
        assert until(lambda: f'"{CATCHING_UP}"'.encode() in slotted.checkpoint().get(b"adding", b"")), owner.error
        slotted.stop()
        found = slotted.checkpoint()
        slotted.do(0, [b"DEL", b"moved"])
        slotted.held = ALL
        owner = slotted.carry(LEFT)
        assert until(lambda: not client.exists("moved") and slotted.is_whole() and slotted.committed()), owner.error
        assert until(lambda: not slotted.checkpoint().get(b"leaving"))
        slotted.stop()
    slotted.held = None
    return found


@pytest.mark.parametrize("said", [False, True], ids=["before it gave it up", "behind that"])
def test_a_target_that_falls_back_has_no_key_left_of_a_slot_that_was_let_go_unfinished(
    slotted: Slotted, monkeypatch: pytest.MonkeyPatch, said: bool
) -> None:
    """The database says that it is let go, and so it is not asked."""
    was = leave_unfinished(slotted, monkeypatch)
    with slotted.target.client() as client:
        client.set("moved", 1)
        fields = (b"extent", b"adding", b"offset", b"seen", b"number", b"windows")
        client.hset(checkpoint_key(UID, 0), mapping={name: was[name] for name in fields if name in was})
        if said:
            client.hset(checkpoint_key(UID, 0), mapping={"adding": "", "leaving": str(MOVED)})
        owner = slotted.carry(LEFT)
        assert until(lambda: not client.exists("moved")), owner.error
        assert until(lambda: slotted.committed() and not slotted.checkpoint().get(b"leaving")), owner.error


def test_a_slot_that_comes_back_is_left_before_it_is_begun(
    slotted: Slotted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else what the source deleted in between would stay."""
    leave_unfinished(slotted, monkeypatch)
    with slotted.target.client() as client:
        client.set("moved", 1)
        client.hset(checkpoint_key(UID, 0), "leaving", str(MOVED))
        slotted.do(0, [b"SET", b"{moved}new", b"1"])
        owner = slotted.carry(ALL)
        assert until(slotted.in_step), owner.error
        assert client.mget("moved", "{moved}new") == [None, b"1"]
        assert not slotted.checkpoint().get(b"leaving")


def test_a_slot_that_comes_back_is_left_though_it_is_not_begun_with_yet(
    slotted: Slotted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may go on before it is: nothing would say any more that keys of it are there."""
    leave_unfinished(slotted, monkeypatch)
    with slotted.target.client() as client:
        client.set("moved", 1)
        client.hset(checkpoint_key(UID, 0), "leaving", str(MOVED))
        slotted.serves = False
        owner = slotted.carry(ALL)
        assert until(lambda: not slotted.checkpoint().get(b"leaving")), owner.error
        assert not client.exists("moved")


def test_what_the_database_alone_knows_is_to_be_left_is_said_before_it_is(
    slotted: Slotted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The target falls back to before it was, once the database has let the slot go."""
    found: list[dict[bytes, bytes]] = []
    slotted.slots = LEFT
    owner = slotted.own()
    slotted.do(0, [b"SET", b"moved", b"1"], [b"SET", b"stays", b"1"])
    with slotted.target.client() as client:
        assert until(lambda: client.exists("stays") and slotted.committed()), owner.error
        slotted.stop()
        client.set("moved", 1)
        client.hset(checkpoint_key(UID, 0), "extent", Extent(databases={}).text)
        step = Leaving.step

        def kept(one: Leaving) -> Window | None:
            found.append(slotted.checkpoint())
            return step(one)

        monkeypatch.setattr(Leaving, "step", kept)
        slotted.held = ALL
        owner = slotted.carry(LEFT)
        assert until(lambda: bool(found) and not client.exists("moved") and slotted.is_whole()), owner.error
        slotted.stop()
        slotted.held = None
        client.set("moved", 1)
        client.delete(checkpoint_key(UID, 0))
        client.hset(checkpoint_key(UID, 0), mapping=found[0])  # type: ignore[arg-type]
        owner = slotted.carry(LEFT)
        assert until(lambda: slotted.is_whole() and slotted.committed()), owner.error
        assert until(lambda: not client.exists("moved")), owner.error


def test_what_the_target_says_is_to_be_left_is_so_whatever_was_done_before(
    slotted: Slotted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It had fallen back, windows have been written since, and the connection was lost before the walk began."""
    ended = threading.Event()
    end = Leaving._end

    def over(one: Leaving) -> Window:
        ended.set()
        return end(one)

    monkeypatch.setattr(Leaving, "_end", over)
    slotted.slots = LEFT
    owner = slotted.own()
    slotted.do(0, [b"SET", b"moved", b"1"], [b"SET", b"stays", b"1"])
    with slotted.target.client() as client:
        assert until(lambda: client.exists("stays")), owner.error
        slotted.held = ALL
        owner = slotted.carry(LEFT)
        assert ended.wait(10), owner.error
        for number in range(3):
            slotted.do(0, [b"INCR", b"stays"])
            assert until(lambda number=number: client.get("stays") == b"%d" % (number + 2)), owner.error
        client.set("moved", 1)
        client.hset(checkpoint_key(UID, 0), "leaving", str(MOVED))
        client.client_kill_filter(_type="normal", skipme=True)
        assert until(lambda: not client.exists("moved")), owner.error
        assert until(lambda: not slotted.checkpoint().get(b"leaving")), owner.error


def test_a_slot_that_the_target_says_is_being_taken_up_is_begun_with(slotted: Slotted) -> None:
    """Of an addition that nobody can go on with: whoever has to leave the slot waits for it."""
    slotted.slots = LEFT
    owner = slotted.own()
    slotted.do(0, [b"SET", b"moved", b"1"])
    assert until(slotted.in_step), owner.error
    slotted.stop()
    with slotted.target.client() as client:
        client.hset(checkpoint_key(UID, 0), "adding", Addition("other", 0, 0, REPLID, 0, slots=str(MOVED)).text)
        client.hset(OTHER, mapping={"state": "streaming", "extent": Extent(slots=()).text, "leaving": str(MOVED)})
        owner = slotted.carry(ALL)
        assert until(slotted.in_step), owner.error


def test_a_slot_is_not_said_to_be_taken_up_that_is_not_to_be_any_more(
    slotted: Slotted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names are being added besides, and that goes on when others let it: they would wait for each other."""

    def added() -> Addition | None:
        return Addition.parse(slotted.checkpoint().get(b"adding", b"").decode())

    slotted.slots, slotted.filter = LEFT, FilterSpec(block_prefixes=["new:"])
    slotted.own()
    slotted.do(0, [b"SET", b"moved", b"1"], [b"SET", b"stays", b"1"])
    assert until(slotted.in_step)
    with monkeypatch.context() as patched:
        patched.setattr(Adding, "_may_switch", lambda _: False)
        slotted.filter = FilterSpec()
        owner = slotted.carry(ALL)
        assert until(added), owner.error
        slotted.stop()
    slotted.held, slotted.serves = ALL, False
    owner = slotted.carry(LEFT)
    assert until(lambda: (one := added()) is None or not one.slots), owner.error
    slotted.serves = True
    assert until(slotted.in_step), owner.error


def test_of_two_who_begin_with_a_slot_at_once_one_waits(slotted: Slotted, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both had asked before: what one has put, and its source deleted since, the other one does not know."""
    overtaken = threading.Event()
    slotted.slots = LEFT
    owner = slotted.own()
    slotted.do(0, [b"SET", b"moved", b"1"], [b"SET", b"stays", b"1"])
    assert until(slotted.in_step), owner.error
    begins = Adding._begin
    with slotted.target.client() as client:

        def late(one: Adding, tries: int) -> Window:
            if not overtaken.is_set():
                theirs = Addition("", 0, 0, REPLID, 0, slots=str(MOVED)).text
                client.hset(OTHER, mapping={"state": "streaming", "extent": Extent(slots=()).text, "adding": theirs})
                client.set(taken_key(UID, 1), "their token")
                overtaken.set()
            return begins(one, tries)

        monkeypatch.setattr(Adding, "_begin", late)
        owner = slotted.carry(ALL)
        assert overtaken.wait(10), owner.error
        assert waits(lambda: bool(client.exists("moved")) or bool(slotted.checkpoint().get(b"adding")))
        slotted.do(0, [b"INCR", b"stays"])
        assert until(lambda: client.get("stays") == b"2"), "the stream goes on"
        client.hset(OTHER, "adding", "")
        assert until(slotted.in_step), owner.error


@pytest.mark.parametrize("what", ["adding", "leaving"])
def test_a_slot_is_not_begun_with_while_another_stream_has_to_leave_it(slotted: Slotted, what: str) -> None:
    """The target has fallen back, and that stream has not seen it yet."""
    slotted.slots = LEFT
    owner = slotted.own()
    slotted.do(0, [b"SET", b"moved", b"1"], [b"SET", b"stays", b"1"])
    assert until(slotted.in_step), owner.error
    theirs = Addition("", 0, 0, REPLID, 0, slots=str(MOVED)).text if what == "adding" else str(MOVED)
    with slotted.target.client() as client:
        client.hset(OTHER, mapping={"state": "streaming", "extent": Extent(slots=()).text, what: theirs})
        owner = slotted.carry(ALL)
        assert waits(lambda: bool(client.exists("moved")) or bool(slotted.checkpoint().get(b"adding")))
        client.hset(OTHER, what, "")
        assert until(slotted.in_step), owner.error
        client.hset(OTHER, what, theirs)


def test_a_slot_that_is_begun_with_goes_on_whatever_another_stream_has_to_leave(
    slotted: Slotted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That one waits: both waiting for each other would be for ever."""
    slotted.slots = LEFT
    owner = slotted.own()
    slotted.do(0, [b"SET", b"moved", b"1"])
    assert until(slotted.in_step), owner.error
    with slotted.target.client() as client:
        with monkeypatch.context() as patched:
            patched.setattr(Adding, "_may_switch", lambda _: False)
            owner = slotted.carry(ALL)
            assert until(lambda: client.exists("moved")), owner.error
            client.hset(OTHER, mapping={"state": "streaming", "extent": Extent(slots=()).text, "leaving": str(MOVED)})
        assert until(slotted.in_step), owner.error


def test_a_slot_that_is_left_but_for_what_another_stream_acts_on(
    slotted: Slotted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of two: what is in the other goes."""
    leave_unfinished(slotted, monkeypatch)
    second = slot(b"second")
    with slotted.target.client() as client:
        slotted.do(0, [b"SET", b"second", b"1"])
        owner = slotted.carry(LEFT)
        assert until(slotted.in_step), owner.error
        client.set("moved", 7)
        client.hset(checkpoint_key(UID, 0), "leaving", written(ranges([MOVED, second])))
        theirs = Extent.of({0: 0}, slotted.filter, ((MOVED, MOVED),)).text
        client.hset(OTHER, mapping={"state": "streaming", "extent": theirs})
        slotted.stop()
        owner = slotted.carry(ranges(members(LEFT) - {second}))
        assert until(lambda: not client.exists("second")), owner.error
        assert until(lambda: not slotted.checkpoint().get(b"leaving")), owner.error
        assert client.get("moved") == b"7"


@pytest.mark.parametrize("what", ["extent", "adding", "leaving"])
def test_a_full_sync_in_place_waits_for_whoever_has_a_slot_that_it_brings(slotted: Slotted, what: str) -> None:
    """The target has fallen back, and that stream has yet to delete what it had there."""
    slotted.slots = LEFT
    owner = slotted.own()
    slotted.do(0, [b"SET", b"stays", b"1"])
    assert until(slotted.in_step), owner.error
    moved = ((MOVED, MOVED),)
    says = {
        "extent": Extent.of({0: 0}, slotted.filter, moved).text, "leaving": str(MOVED),
        "adding": Addition("", 0, 0, REPLID, 0, slots=str(MOVED)).text,
    }  # fmt: skip
    with slotted.target.client() as client:
        client.hset(OTHER, mapping={"state": "streaming", "extent": Extent(slots=()).text, what: says[what]})
        owner = slotted.carry(ALL)
        assert until(slotted.committed), owner.error
        for call in (owner.may_reopen, lambda *given: owner.reopen(2, *given)):
            with pytest.raises(ConnectionLost, match=f"slots {MOVED} .* another stream"):
                call(REPLID, REPLID, None)
        assert slotted.checkpoint()[b"state"] == b"streaming"
        assert not owner.reopened.is_set(), "the stream goes on"
        assert not client.exists(taken_key(UID, 0))


def test_a_full_sync_in_place_says_which_slots_it_takes_up(slotted: Slotted) -> None:
    """Its loaders put keys there, though no stream of the node acts on them."""
    slotted.slots = LEFT
    owner = slotted.own()
    slotted.do(0, [b"SET", b"stays", b"1"])
    assert until(slotted.in_step), owner.error
    slotted.stop()
    with slotted.target.client() as client:
        was = Addition("", 0, 0, REPLID, 0, slots=f"{MOVED},{slot(b'second')}").text
        client.hset(checkpoint_key(UID, 0), "adding", was)
        client.hset(OTHER, mapping={"state": "streaming", "extent": Extent(slots=()).text, "leaving": str(MOVED)})
        slotted.serves = False
        second = slot(b"second")
        owner = slotted.carry(ranges(members(ALL) - {second}))
        owner.stop_event.set()
        owner.join(10)
        client.hset(checkpoint_key(UID, 0), "adding", was)
        owner.reopen(2, REPLID, REPLID, None)
        found = slotted.checkpoint()
        assert (found[b"state"], found[b"leaving"]) == (b"loading", str(second).encode())
        said = Others(owner.chain.link, UID, [0])._said([[found.get(name) for name in others.FIELDS]])  # type: ignore[union-attr]
        assert said.takes == 1 << MOVED
        assert client.exists(taken_key(UID, 0))


def test_a_full_sync_in_place_is_not_begun_if_another_stream_takes_up_what_it_brings(
    slotted: Slotted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It had asked before, and asks once more."""
    slotted.slots = LEFT
    owner = slotted.own()
    slotted.do(0, [b"SET", b"stays", b"1"])
    assert until(slotted.in_step), owner.error
    slotted.serves = False
    owner = slotted.carry(ALL)
    assert until(slotted.committed), owner.error
    watch = Others.watch
    asked: list[int] = []
    with slotted.target.client() as client:

        def late(one: Others) -> others.Said:
            said = watch(one)
            if threading.current_thread() is threading.main_thread() and len(asked) < 2:
                asked.append(1)
                if len(asked) == 2:
                    theirs = Addition("", 0, 0, REPLID, 0, slots=str(MOVED)).text
                    client.hset(OTHER, mapping={"state": "streaming", "adding": theirs})
                    client.set(taken_key(UID, 1), "their token")
            return said

        monkeypatch.setattr(Others, "watch", late)
        with pytest.raises(ConnectionLost, match="another stream"):
            owner.reopen(2, REPLID, REPLID, None)
        assert slotted.checkpoint()[b"state"] == b"streaming"


def test_an_addition_that_is_not_to_be_made_any_more_is_not_said_to_go_on(
    slotted: Slotted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others would wait for it."""
    slotted.slots = LEFT
    slotted.own()
    slotted.do(0, [b"SET", b"moved", b"1"], [b"SET", b"stays", b"1"])
    assert until(slotted.in_step)
    monkeypatch.setattr(Adding, "_may_switch", lambda _: False)
    owner = slotted.carry(ALL)

    def added() -> Addition | None:
        return Addition.parse(slotted.checkpoint().get(b"adding", b"").decode())

    assert until(added), owner.error
    found = added()
    assert found is not None
    assert found.slots == str(MOVED)
    slotted.carry(LEFT)
    assert until(lambda: added() is None)


def test_what_another_stream_says_is_read_once_and_heard_at_once_when_it_changes(
    monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[str] = []

    def parse(text: str) -> Extent:
        parsed.append(text)
        return Extent.parse(text)

    monkeypatch.setattr(others, "Extent", SimpleNamespace(parse=parse))
    others._acted_on.cache_clear()
    apart, same = (Extent(slots=slots).text.encode() for slots in (((0, 9),), ((0, 9), (20, 30))))
    said = [b"streaming", apart, None, None]
    link: Any = SimpleNamespace(ask_all=lambda commands: [said for _ in commands])

    def is_free(*slots: int) -> bool:
        return not Others(link, UID, [1, 2]).say().acts & mask(ranges(slots))

    assert is_free(10, 19, 20)
    assert is_free(16383)
    assert not is_free(9, 10)
    assert len(parsed) == 1
    said[1] = same
    assert not is_free(10, 19, 20)
    said[0] = b"finished"
    assert is_free(10, 19, 20)
    assert not Others(link, UID, []).say().any
    assert len(parsed) == 2
    others._acted_on.cache_clear()

"""Slots that a source empties as a whole: Redis from 8.4 on says TRIMSLOTS, and no DEL, of what has gone on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sync_tasks.keyfilter import FilterSpec
from sync_tasks.slots import ALL, Ranges, ranges, slot
from sync_tasks.spec import TaskSpec
from sync_tasks.transform.setting import TransformSpec
from tests.servers import Server
from tests.unit.protocol.conftest import Port, until
from tests.unit.protocol.test_handed import LEFT, MOVED, Slotted, begin
from workers import trimmed
from workers.added import CATCHING_UP
from workers.adding import Adding
from workers.codec.resp_cy import encode
from workers.moment import now_ms
from workers.source.ask import Kind, Source
from workers.translate import Translator
from workers.trimmed import Trimmed, may_trim

ANOTHER = slot(b"another")


@pytest.fixture
def slotted(tmp_path: Path, source: Server, target: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Slotted]:
    monkeypatch.setattr(Source, "kind", lambda _: Kind(redis=True, major=8))
    made = Slotted(source, target, tmp_path)
    yield made
    made.stop()


def command(*slots: int) -> bytes:
    pairs = [b"%d" % end for pair in ranges(slots) for end in pair]
    return encode([b"TRIMSLOTS", b"RANGES", b"%d" % (len(pairs) // 2), *pairs])


def trim(made: Slotted, *slots: int) -> None:
    """The source empties slots: no command but one says so."""
    with made.moment:
        for key in made.client.keys("*"):
            if slot(key) in slots:
                made.client.delete(key)
        made.log.append(command(*slots), now_ms())


def is_catching_up(made: Slotted) -> bool:
    """Whether the walks over source and target are over."""
    return f'"{CATCHING_UP}"'.encode() in made.checkpoint().get(b"adding", b"")


def test_what_has_gone_on_is_removed_and_the_rest_goes_on(slotted: Slotted) -> None:
    begin(slotted)
    owner, slotted.serves = slotted.owners[-1], False
    trim(slotted, MOVED)
    slotted.do(0, [b"INCR", b"stays"], [b"DEL", b"nothing"])
    with slotted.target.client() as client:
        assert until(lambda: not client.exists("moved", "{moved}too")), owner.error
        assert until(lambda: client.get("stays") == b"2"), owner.error
        assert not slotted.is_whole()
        assert any(told.startswith("sweep: 2 keys") for told in slotted.ports[-1].events)
        owner = slotted.carry(LEFT)
        slotted.do(0, [b"INCR", b"stays"])
        assert until(lambda: slotted.is_whole() and slotted.committed()), owner.error
        assert client.get("stays") == b"3"


def test_what_has_come_back_meanwhile_is_added_anew(slotted: Slotted) -> None:
    """Else what was deleted while it was elsewhere would stay on the target."""
    begin(slotted)
    slotted.do(0, [b"LPUSH", b"{moved}list", b"1"])
    assert until(slotted.in_step), slotted.owners[-1].error
    trim(slotted, MOVED)
    slotted.do(0, [b"SET", b"moved", b"2"], [b"LPUSH", b"{moved}list", b"2"], [b"INCR", b"stays"])
    assert until(slotted.in_step), slotted.owners[-1].error
    with slotted.target.client() as client:
        assert client.mget("moved", "{moved}too", "stays") == [b"2", None, b"2"]
        assert client.lrange("{moved}list", 0, -1) == [b"2"]


def test_what_was_said_before_it_counts(slotted: Slotted) -> None:
    """In one block of the log: none of it is lost, and none is done twice."""
    begin(slotted)
    owner = slotted.owners[-1]
    slotted.serves = False
    with slotted.moment:
        slotted.client.incr("stays")
        slotted.client.incr("stays")
        slotted.client.delete("moved", "{moved}too")
        incr = encode([b"INCR", b"stays"])
        slotted.log.append(incr + command(MOVED, ANOTHER) + incr, now_ms())
    with slotted.target.client() as client:
        assert until(lambda: client.get("stays") == b"3" and slotted.committed()), owner.error
        assert until(lambda: not client.exists("moved"))


def test_it_may_follow_a_command_of_which_some_is_waited_for(slotted: Slotted, monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for more is looked at once the log has no more: there it may stand, too."""
    begin(slotted)
    owner, slotted.serves = slotted.owners[-1], False
    waits, flush = threading.Event(), Translator.flush

    def flushed(one: Translator) -> bool:
        if one._need > 0:
            waits.set()
        return flush(one)

    monkeypatch.setattr(Translator, "flush", flushed)
    long = encode([b"MSET", b"{stays}a", b"a" * 1_200_000, b"{stays}b", b"b"])
    slotted.log.append(long[:1_150_000], now_ms())
    assert waits.wait(10), owner.error
    slotted.log.append(long[1_150_000:] + command(MOVED), now_ms())
    with slotted.target.client() as client:
        assert until(lambda: not client.exists("moved", "{moved}too")), owner.error
        assert client.strlen("{stays}a") == 1_200_000
        assert client.get("{stays}b") == b"b"
        assert owner.error is None


def test_what_is_emptied_a_second_time_is_left_a_second_time(
    slotted: Slotted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would be left by whoever goes on after a death: with it what had been added again by then."""
    begin(slotted)
    trim(slotted, MOVED)
    slotted.do(0, [b"SET", b"moved", b"2"], [b"SET", b"{moved}too", b"2"])
    assert until(slotted.in_step), slotted.owners[-1].error
    with slotted.target.client() as client:
        with monkeypatch.context() as patched:
            may = Adding._may_switch
            patched.setattr(Adding, "_may_switch", lambda one: one._state.tries == 0 and may(one))
            trim(slotted, MOVED)
            slotted.do(0, [b"SET", b"moved", b"3"], [b"SET", b"{moved}too", b"3"])
            assert until(lambda: is_catching_up(slotted) and b'"tries":1' in slotted.checkpoint()[b"adding"])
            assert slotted.checkpoint()[b"leaving"] == b""
            slotted.stop()
        owner = slotted.carry(ALL)
        slotted.do(0, [b"INCR", b"stays"])
        assert until(slotted.in_step), owner.error
        assert client.mget("moved", "{moved}too") == [b"3", b"3"]


@pytest.mark.parametrize("lua", ["", "function transform(db, argv) return argv end"], ids=["", "under a transform"])
def test_under_a_transform_it_is_told_that_renamed_keys_may_stay(
    slotted: Slotted, monkeypatch: pytest.MonkeyPatch, lua: str
) -> None:
    """What the target calls them nobody knows."""
    plain = Slotted.task.fget
    assert plain is not None
    spec = TaskSpec(transform=TransformSpec(lua=lua))
    monkeypatch.setattr(Slotted, "task", property(lambda one: replace(plain(one), spec=spec)))
    begin(slotted)
    owner, slotted.serves = slotted.owners[-1], False
    trim(slotted, MOVED)
    with slotted.target.client() as client:
        assert until(lambda: not client.exists("moved", "{moved}too")), owner.error
    told = [one for one in slotted.ports[-1].events if one.startswith("unverified")]
    words = f"unverified: slots {MOVED} are left, and keys there that the transform has renamed stay"
    assert told == ([words] if lua else [])


def test_slots_of_others_are_nothing_to_it(slotted: Slotted) -> None:
    slotted.slots = LEFT
    begin(slotted)
    owner = slotted.owners[-1]
    trim(slotted, MOVED)
    slotted.do(0, [b"INCR", b"stays"])
    assert until(slotted.in_step), owner.error
    assert not any(told.startswith("slots") for told in slotted.ports[-1].events)


@pytest.mark.parametrize(("kind", "stay"), [(Kind(True, 8), False), (Kind(True, 7), True), (Kind(False, 7), True)])
def test_a_slot_that_is_given_up_before_the_source_has_said_so_leaves_no_key(
    slotted: Slotted, monkeypatch: pytest.MonkeyPatch, kind: Kind, stay: bool
) -> None:
    """It waits while writes are paused, for one. Of a source that deletes key by key nothing can be left."""
    said: list[tuple[Ranges, bool]] = []
    begin(slotted)
    slotted.stop()
    with slotted.target.client() as client:
        monkeypatch.setattr(Source, "kind", lambda _: kind)
        monkeypatch.setattr(Port, "holds", lambda _, slots: said.append((slots, bool(client.exists("moved")))))
        slotted.held = ALL
        owner = slotted.carry(LEFT)
        trim(slotted, MOVED)
        slotted.do(0, [b"INCR", b"stays"])
        assert until(lambda: bool(said) and slotted.is_whole() and slotted.committed()), owner.error
        assert said[0] == (LEFT, stay)
        assert client.mget("moved", "stays") == [b"1" if stay else None, b"2"]


def test_a_slot_that_is_emptied_while_it_is_being_added_is_begun_anew(
    slotted: Slotted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the addition has put would be there still, though it was away in between."""
    slotted.slots = LEFT
    owner = slotted.own()
    slotted.do(0, [b"SET", b"moved", b"1"], [b"SET", b"{moved}too", b"1"], [b"SET", b"stays", b"1"])
    assert until(slotted.in_step), owner.error
    with slotted.target.client() as client:
        with monkeypatch.context() as patched:
            patched.setattr(Adding, "_may_switch", lambda _: False)
            owner = slotted.carry(ALL)
            assert until(lambda: is_catching_up(slotted)), owner.error
            assert client.exists("moved", "{moved}too") == 2
            trim(slotted, MOVED)
            slotted.do(0, [b"SET", b"moved", b"2"])
        assert until(slotted.in_step), owner.error
        assert client.mget("moved", "{moved}too") == [b"2", None]


def test_while_names_are_added_others_of_the_slot_go_too(slotted: Slotted, monkeypatch: pytest.MonkeyPatch) -> None:
    slotted.filter = FilterSpec(block_prefixes=["new:"])
    begin(slotted)
    slotted.do(0, [b"SET", b"new:{moved}", b"1"], [b"SET", b"new:stays", b"1"])
    with slotted.target.client() as client:
        with monkeypatch.context() as patched:
            patched.setattr(Adding, "_may_switch", lambda _: False)
            slotted.filter = FilterSpec()
            owner = slotted.carry(ALL)
            assert until(lambda: is_catching_up(slotted)), owner.error
            assert client.exists("new:{moved}", "new:stays") == 2
            trim(slotted, MOVED)
        slotted.do(0, [b"SET", b"{moved}three", b"1"])
        assert until(slotted.in_step), owner.error
        assert client.mget("moved", "new:{moved}", "{moved}three", "new:stays") == [None, None, b"1", b"1"]


@pytest.mark.parametrize(
    "words",
    [[b"RANGES"], [b"SLOTS", b"1", b"1", b"1"], [b"RANGES", b"2", b"1", b"1"], [b"RANGES", b"1", b"a", b"1"]],
)
def test_what_makes_no_sense_is_told(slotted: Slotted, words: list[bytes]) -> None:
    begin(slotted)
    port: Any = slotted.ports[-1]
    slotted.log.append(encode([b"TRIMSLOTS", *words]), now_ms())
    assert until(lambda: bool(port.failures)), slotted.owners[-1].error
    assert "make no sense" in str(port.failures[-1])


def test_which_slots_and_which_sources() -> None:
    assert trimmed.trimmed([b"TRIMSLOTS", b"ranges", b"2", b"7", b"9", b"0", b"0"]) == ((0, 0), (7, 9))
    with pytest.raises(Trimmed) as caught:
        trimmed.trim([b"TRIMSLOTS", b"RANGES", b"1", b"0", b"9"], ((5, 20),))
    assert caught.value.slots == ((5, 9),)
    trimmed.trim([b"TRIMSLOTS", b"RANGES", b"1", b"0", b"4"], ((5, 20),))
    kinds = Kind(True, 8), Kind(True, 7), Kind(False, 9), Kind()
    assert [may_trim(one) for one in kinds] == [True, False, False, True]

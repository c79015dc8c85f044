"""Claims and chained windows on a real server: who may write, and that nothing is lost or doubled."""

from __future__ import annotations

from typing import Any

import pytest

from sync_tasks.errors import CannotContinue, Fenced, RefusedCommand, TargetBusy, TargetError
from sync_tasks.names import checkpoint_key, closed_key
from tests.servers import Server
from tests.unit.protocol.conftest import UID, Chained, endpoint
from workers.codec.resp_cy import encode
from workers.full import FencedBatches
from workers.target import scripted
from workers.target.claim import claim, peek_epoch
from workers.target.link import TargetLink

CK = checkpoint_key(UID, 0)
INCR = [b"INCR", b"n"]


def test_windows_commit_in_order_and_the_checkpoint_follows(target: Server) -> None:
    owner = Chained(target)
    for end in range(1, 21):
        owner.push(end, INCR, [b"APPEND", b"log", b"%d," % end])
    assert [w.end for w in owner.drain()] == list(range(1, 21))
    with target.client() as client:
        assert client.get("n") == b"20"
        assert client.get("log") == b"".join(b"%d," % i for i in range(1, 21))
        assert client.hget(CK, "offset") == b"20"
        assert client.hkeys(client.hget(CK, "tok")) == [b"21"]


def test_no_window_of_the_former_owner_commits_behind_a_claim(target: Server) -> None:
    """Twenty windows in the old owner's pipe, three of them sent before the claim, the rest after it."""
    old = Chained(target, epoch=1)
    parts = []
    for end in range(1, 21):
        at = len(old.chain._out)
        old.push(end, INCR)
        parts.append(bytes(old.chain._out[at:]))
    old.link.send(b"".join(parts[:3]) + parts[3][:-20])  # the fourth stops before its EXEC
    with target.client() as client:
        while client.get("n") != b"3":
            pass
        new = Chained(target, epoch=2)
        assert new.claim.found is not None
        assert new.claim.found.offset == 3
        old.link.send(parts[3][-20:] + b"".join(parts[4:]))
        for end in range(4, 21):
            new.push(end, INCR)
        new.drain()
        old.chain._out.clear()
        with pytest.raises(Fenced):
            old.drain()
        assert client.get("n") == b"20"
        assert client.hget(CK, "epoch") == b"2"


def test_two_claims_back_to_back_leave_the_second_as_owner(target: Server) -> None:
    first = Chained(target, epoch=1)
    second = Chained(target, epoch=2)
    third = Chained(target, epoch=3)
    for one in (first, second):
        one.push(10, INCR)
        with pytest.raises(Fenced):
            one.drain()
    third.push(10, INCR)
    third.drain()
    with target.client() as client:
        assert client.get("n") == b"1"
        assert client.hget(CK, "tok") == third.claim.tok


def test_an_owner_claims_again_with_its_own_nonce_and_only_with_it(target: Server) -> None:
    first = Chained(target, epoch=4)
    first.push(7, INCR)
    first.drain()
    again = Chained(target, epoch=4, nonce=first.claim.nonce)
    assert again.claim.found is not None
    assert again.claim.found.offset == 7
    with pytest.raises(Fenced):
        Chained(target, epoch=4, nonce="another")
    with pytest.raises(Fenced):
        Chained(target, epoch=3)
    assert peek_epoch(again.link, UID, 0) == 4


def test_a_claim_between_the_two_halves_of_another_is_noticed(target: Server) -> None:
    Chained(target, epoch=1)
    link = TargetLink(endpoint(target), "late", 0)
    real, rivals = link.try_all, []

    def sneaking(commands: list[list[bytes | int]]) -> list[object]:
        if commands[0] == [b"MULTI"] and not rivals:
            rivals.append(Chained(target, epoch=2))
        return real(commands)

    link.try_all = sneaking  # type: ignore[method-assign]
    claimed = claim(link, UID, 0, 3, "late")
    rivals[0].push(10, INCR)
    with pytest.raises(Fenced):
        rivals[0].drain()
    with target.client() as client:
        assert client.hget(CK, "tok") == claimed.tok
        assert client.hget(CK, "epoch") == b"3"


def test_a_claim_without_right_that_sneaks_in_stops_and_the_owner_goes_on(target: Server) -> None:
    Chained(target, epoch=1)
    link = TargetLink(endpoint(target), "stale", 0)
    real, owners = link.try_all, []

    def sneaking(commands: list[list[bytes | int]]) -> list[object]:
        if commands[0] == [b"MULTI"] and not owners:
            owners.append(Chained(target, epoch=5))
        return real(commands)

    link.try_all = sneaking  # type: ignore[method-assign]
    with pytest.raises(Fenced):
        claim(link, UID, 0, 2, "stale")
    owner = owners[0]
    owner.push(10, INCR)  # its token was not touched: it goes on, and puts the checkpoint right
    owner.drain()
    with target.client() as client:
        assert client.get("n") == b"1"
        assert client.hget(CK, "epoch") == b"5"


def test_a_window_refused_when_queued_stops_all_behind_it(target: Server) -> None:
    owner = Chained(target)
    owner.push(1, INCR)
    owner.push(2, [b"NOSUCHCOMMAND", b"x"])
    for end in range(3, 10):
        owner.push(end, INCR)
    with pytest.raises(TargetError) as caught:
        owner.drain()
    assert "NOSUCHCOMMAND x at offset 1" in caught.value.message
    again = Chained(target, epoch=1, nonce=owner.claim.nonce)
    assert again.claim.found is not None
    assert again.claim.found.offset == 1
    with target.client() as client:
        assert client.get("n") == b"1"


def test_a_target_without_memory_stops_the_chain_and_loses_nothing(target: Server) -> None:
    owner = Chained(target)
    with target.client() as client:
        client.config_set("maxmemory", 1)
        for end in range(1, 10):
            owner.push(end, INCR)
        with pytest.raises(TargetBusy):
            owner.drain()
        client.config_set("maxmemory", 0)
        again = Chained(target, epoch=1, nonce=owner.claim.nonce)
        assert again.claim.found is not None
        assert again.claim.found.offset == 0
        assert client.get("n") is None


def test_a_command_refused_at_run_time_is_named(target: Server) -> None:
    owner = Chained(target)
    with target.client() as client:
        client.rpush("n", 1)
    owner.push(5, [b"SET", b"a", b"1"], INCR)
    with pytest.raises(RefusedCommand, match=r"INCR n of the stream at offset 4: WRONGTYPE"):
        owner.drain()


def test_a_foreign_value_at_the_checkpoint_stops(target: Server) -> None:
    owner = Chained(target)
    owner.push(5, [b"DEL", CK], [b"SET", CK, b"x"])
    with pytest.raises(CannotContinue):
        owner.drain()


def test_flushall_in_a_window_keeps_the_chain_the_checkpoint_and_the_fence(target: Server) -> None:
    owner = Chained(target)
    closed = closed_key(UID, 0, 1)
    loader = TargetLink(endpoint(target), "loader", 0)
    with target.client() as client:
        client.set(closed, 1)
        owner.push(1, [b"SET", b"old", b"1"])
        owner.push(2, [b"FLUSHALL"], [b"SELECT", b"0"], [b"SET", closed, b"1"])
        owner.push(3, INCR)
        owner.drain()
        assert client.get("n") == b"1"
        assert not client.exists("old")
        assert client.hget(CK, "offset") == b"3"
    batches = FencedBatches(loader, UID, 0, 1, "0", 0, 0)
    batches.send(encode([b"SET", b"late", b"1"]), 1)
    with pytest.raises(Fenced):
        batches.finish()


def test_a_batch_that_was_queued_before_the_load_was_closed_is_spoiled(target: Server) -> None:
    loader = TargetLink(endpoint(target), "loader", 0)
    batches = FencedBatches(loader, UID, 0, 1, "0", 0, 3)
    batches.send(encode([b"SET", b"early", b"1"]), 1)
    batches.finish()
    command = encode([b"SET", b"late", b"1"])
    gate, tail = batches._next()
    loader.send(gate + batches._select + command)
    with target.client() as client, target.client(db=3) as three:
        while b"QUEUED" not in loader.receive():
            pass
        client.set(closed_key(UID, 0, 1), 1)
        loader.send(batches._back + tail + encode([b"EXEC"]))
        answer = loader.receive()
        while not answer.endswith(b"\r\n*-1\r\n") and not answer.startswith(b"*"):
            answer += loader.receive()
        assert answer.endswith(b"*-1\r\n")
        assert three.keys() == [b"early"]


def test_a_script_that_is_ended_leaves_keys_in_doubt_and_not_the_choice_of_their_database(
    target: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a cluster with several databases: SELECT names no key, so its refusal would end the task."""
    owner: Any = Chained(target)
    owner.link.scripted, owner.chain.collects = True, True
    monkeypatch.setattr(scripted, "TEXT", b"return redis.error_reply('broken')")
    owner.push(1, [b"SELECT", b"3"], [b"SET", b"there", b"1"], [b"select", b"0"], INCR)
    owner.drain()
    assert [refused.argv for refused in owner.chain.refused] == [[b"SET", b"there", b"1"], INCR]


def test_a_select_that_the_target_refuses_is_told(target: Server) -> None:
    owner = Chained(target)
    owner.push(1, [b"SELECT", b"3000"], INCR)
    with pytest.raises(RefusedCommand, match="SELECT"):
        owner.drain()

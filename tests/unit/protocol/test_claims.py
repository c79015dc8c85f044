"""What the simulation found about claims that reach the target late; each test failed before its find was mended."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sync_tasks.errors import ConnectionLost, Fenced, Side
from sync_tasks.names import checkpoint_key
from tests.servers import Server
from tests.unit.protocol.conftest import NODE, UID, Chained, Port, endpoint
from workers import resync
from workers.codec.resp_cy import encode
from workers.takeover import take_over
from workers.target.claim import claim
from workers.target.link import TargetLink

INCR = [b"INCR", b"n"]


def late_claim(target: Server, epoch: int, nonce: str) -> tuple[TargetLink, bytes]:
    """A claim that was sent but has not arrived: its connection, and its bytes."""
    link = TargetLink(endpoint(target), "late", 0)
    real, kept = link.try_all, []

    def hold_back(commands: list[list[bytes | int]]) -> list[Any]:
        if commands[0] == [b"MULTI"]:
            kept.append(b"".join(encode(argv) for argv in commands))
            raise ConnectionLost("cut", side=Side.TARGET)
        return real(commands)

    link.try_all = hold_back  # type: ignore[method-assign]
    with pytest.raises(ConnectionLost):
        claim(link, UID, 0, epoch, nonce)
    return link, kept[0]


@pytest.mark.parametrize("epoch", [1, 2], ids=["of the owner", "of its predecessor"])
def test_a_claim_that_arrives_late_does_not_hide_the_chain_of_the_owner(target: Server, epoch: int) -> None:
    """Its successor ends the chain that the checkpoint names: were it another one, windows under way would commit."""
    first = Chained(target, epoch=1)
    link, late = late_claim(target, 1, first.claim.nonce)
    owner = Chained(target, epoch=epoch, nonce=first.claim.nonce if epoch == 1 else "second")
    link.send(late)
    assert link.receive()
    owner.push(10, INCR)
    under_way = bytes(owner.chain._out)
    successor = Chained(target, epoch=epoch + 1)
    assert successor.claim.found is not None
    assert successor.claim.found.offset == 0
    successor.push(10, INCR)
    successor.drain()
    owner.link.send(under_way)
    owner.chain._out.clear()
    with pytest.raises(Fenced):
        owner.drain()
    with target.client() as client:
        assert client.get("n") == b"1"


def test_a_window_too_many_is_told_from_one_that_is_missing(target: Server) -> None:
    """A former owner's, whose gates the target had all refused (NOREPLICAS)."""
    Chained(target, epoch=1)
    with target.client() as client:
        client.hincrby(checkpoint_key(UID, 0), "windows", 1)  # type: ignore[arg-type]
    port = Port(node=replace(NODE, fresh=False), epoch=2)
    found = take_over(port, TargetLink(endpoint(target), "test", 0), "second").found
    assert resync.needed(port.node(), found)
    assert "executed 1 windows of an owner that was none" in resync.reason(found)

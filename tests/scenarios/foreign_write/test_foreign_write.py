"""Somebody else writes to keys in scope on the target. What no command of the stream is refused for stays, as
docs/guarantees.md says; `keyferry verify` names exactly that, and all the rest is as if nothing had been."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest

from tests.dataset import fill
from tests.scenarios.conftest import StartFerry
from tests.scenarios.judge import equal, snapshots
from tests.servers import Server, StartServer
from tests.traffic import Traffic

IDLE = ("f:text", "f:hash", "f:gone")  # of the source, which writes to them no more
COUNT = 50


def prepare(source: Server) -> None:
    with source.client(db=5) as client:
        client.mset({"f:text": "ours", "f:gone": "ours", "f:count": 0, "f:number": 0, "f:again": "ours"})
        client.hset("f:hash", "field", "ours")
        client.rpush("f:list", "ours")


def meddle(target: Server) -> None:
    """Overwrite, change, delete, add."""
    with target.client(db=5) as client:
        client.set("f:text", "theirs")
        client.hset("f:hash", "field", "theirs")
        client.delete("f:gone")
        client.set("f:extra", "theirs")
        client.set("f:count", 1000)
        client.set("f:again", "theirs")


def spoil(target: Server) -> None:
    """Commands on these are refused."""
    with target.client(db=5) as client:
        client.set("f:number", "no number")
        client.set("f:list", "no list")


def go_on(source: Server) -> None:
    """To what was meddled with."""
    with source.client(db=5) as client:
        for _ in range(COUNT):
            client.incr("f:count")
        client.set("f:again", "ours again")


def refuse(source: Server) -> None:
    with source.client(db=5) as client:
        for _ in range(COUNT):
            client.incr("f:number")
            client.rpush("f:list", "more")


def differing(source: Server, target: Server) -> set[str]:
    """Keys that `keyferry verify` names."""
    command = [sys.executable, "-m", "sync_tasks.cli.main", "verify", source.url(), target.url(), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    return {found["key"] for found in json.loads(done.stdout.splitlines()[-1])["keys"]}


@pytest.mark.parametrize("kind", ["redis-6.2", "valkey-9.1"])
def test_in_follow(kind: str, server: StartServer, ferry: StartFerry) -> None:
    source, target = server(kind), server(kind)
    fill(source.client(), 500)
    prepare(source)
    with Traffic(source, clients=2, rate=1000):
        run = ferry(source, target)
        run.wait_phase("synchronizing")
        time.sleep(1)
        meddle(target)
        go_on(source)
        time.sleep(2)
        spoil(target)
        refuse(source)
        time.sleep(2)
    run.settle(source)

    with target.client(db=5) as client:
        assert client.get("f:count") == b"%d" % (1000 + COUNT), "ours, once each, upon theirs"
        assert client.get("f:again") == b"ours again"
        assert client.get("f:number") == b"%d" % COUNT, "refused, and so copied anew"
        assert client.llen("f:list") == 1 + COUNT, "refused, and so copied anew"
    assert differing(source, target) == {*IDLE, "f:extra", "f:count"}

    with source.client(db=5) as client:  # whatever the source writes anew is right again
        client.mset({"f:text": "ours", "f:gone": "ours", "f:extra": "ours", "f:count": COUNT})
        client.hset("f:hash", "field", "ours")
    run.settle(source)
    equal(source, target)
    assert snapshots(source) == 1

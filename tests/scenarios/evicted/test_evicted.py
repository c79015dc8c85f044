"""The target evicts keys, against the one assumption about its memory: it is told, and nothing counts twice."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from tests.run_keyferry import Keyferry
from tests.scenarios.conftest import StartFerry
from tests.servers import Server, StartServer
from tests.waiting import until

COUNTERS = 200
ROUNDS = 40
FILLER = 20_000  # bytes of a value; there is one for ten counters in each round
ROOM = 1_000_000  # bytes that the target has left
QUIET = {"repl-ping-replica-period": "3600"}  # s; a PING is checkpointed, and so keeps the checkpoint in use


@pytest.fixture
def words() -> Iterator[int]:
    """No word is pushed twice."""
    return itertools.count()


def count(source: Server, words: Iterator[int], rounds: int = ROUNDS, filler: int = FILLER) -> None:
    """Add one to every counter, and a new word to every list, and fill the memory."""
    with source.client() as client:
        for number in range(rounds):
            with client.pipeline(transaction=False) as pipe:
                for counter in range(COUNTERS):
                    pipe.incr(f"n{counter}")
                    pipe.rpush(f"l{counter}", next(words))
                    if filler and not counter % 10:
                        pipe.set(f"filler:{number}:{counter}", b"x" * filler)
                pipe.execute()


def limit(target: Server, policy: str) -> None:
    """It is all but full."""
    with target.client() as client:
        client.config_set("maxmemory-samples", 64)
        client.config_set("maxmemory-policy", policy)
        client.config_set("maxmemory", client.info("memory")["used_memory"] + ROOM)


def assert_nothing_twice(source: Server, target: Server) -> None:
    """Counters are no higher than the source's; lists are pieces of the source's, where no word is there twice."""
    with source.client() as ours, target.client() as theirs:
        for counter in range(COUNTERS):
            assert int(theirs.get(f"n{counter}") or 0) <= int(ours.get(f"n{counter}"))
            whole, there = ours.lrange(f"l{counter}", 0, -1), theirs.lrange(f"l{counter}", 0, -1)
            start = whole.index(there[0]) if there else 0
            assert whole[start : start + len(there)] == there


def told(run: Keyferry, kind: str) -> list[str]:
    """Texts of such events."""
    return [str(row["text"]) for row in run.rows(f"SELECT text FROM event WHERE kind = '{kind}' ORDER BY id")]


def checkpoints(target: Server) -> list[bytes]:
    """Keys that are there."""
    return list(target.client().keys("keyferry:*:ck"))


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-random"])
@pytest.mark.parametrize("kind", ["redis-6.2", "valkey-9.1"])
def test_in_follow(kind: str, policy: str, words: Iterator[int], server: StartServer, ferry: StartFerry) -> None:
    """Random eviction takes the checkpoint, too, or the token of the chain, at any moment."""
    source, target = server(kind), server(kind)
    count(source, words, 3, 0)
    run = ferry(source, target)
    run.wait_in_sync()
    limit(target, policy)
    count(source, words)

    assert target.client().info("stats")["evicted_keys"] > 0
    until(lambda: told(run, "evicted"), "it is told")
    assert "noeviction" in told(run, "evicted")[0]
    until(lambda: not run.alive or run.last["in_sync"], "it goes on, or says why not")
    if not run.alive:
        assert run.last["error"]["side"] == "target", run.last
    assert_nothing_twice(source, target)


def test_in_full_sync(words: Iterator[int], server: StartServer, ferry: StartFerry) -> None:
    """What is loaded first is gone when the load is over."""
    limits = {"maxmemory": "8mb", "maxmemory-policy": "allkeys-lru", "maxmemory-samples": "64"}
    source, target = server("redis-7.0"), server("redis-7.0", config=limits)
    count(source, words)
    run = ferry(source, target)
    until(lambda: run.rows("SELECT 1 FROM event") and told(run, "may-evict"), "the policy is told at once")
    until(lambda: told(run, "evicted"), "it is told")
    count(source, words, 3, 0)
    until(lambda: not run.alive or (run.lines and run.last["in_sync"]), "it goes on, or says why not")
    assert_nothing_twice(source, target)


def test_the_checkpoint_alone(words: Iterator[int], server: StartServer, ferry: StartFerry) -> None:
    """The source is idle while others fill the target: the checkpoint is what nobody has used for longest."""
    source, target = server("redis-7.0", config=QUIET), server("redis-7.0")
    count(source, words, 3, 0)
    run = ferry(source, target)
    run.wait_in_sync()
    limit(target, "allkeys-lru")
    with target.client(db=9) as other:
        assert checkpoints(target)
        for number in range(5000):
            other.set(f"other:{number}", b"x" * FILLER)
            if not number % 20 and not checkpoints(target):
                break
        assert not checkpoints(target), "it was not evicted"
    until(lambda: told(run, "evicted"), "it is told")
    count(source, words, 3, 0)

    until(lambda: not run.alive or (run.last["in_sync"] and checkpoints(target)), "it goes on, or says why not")
    if not run.alive:
        assert run.last["error"]["side"] == "target", run.last
    assert_nothing_twice(source, target)

"""Which versions fit, and who waits for whom; without servers."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import ConnectionLost, KeyferryError, Side, SourceError, TargetError
from sync_tasks.precheck import capacity, reach, versions
from sync_tasks.precheck.facts import Facts, gather
from tests.servers import start

SOURCE = Endpoint.parse("redis://a:6379", Side.SOURCE)
TARGET = Endpoint.parse("redis://b:6379", Side.TARGET)


def facts(endpoint: Endpoint, name: str) -> Facts:
    product, _, number = name.partition(" ")
    major, minor = number.split(".")
    return Facts(endpoint, product, (int(major), int(minor)), "", "master", True, "", "", False, {})


@pytest.mark.parametrize(
    ("source", "target", "lacks"),
    [
        ("Redis 6.2", "Redis 6.2", []),
        ("Redis 6.2", "Redis 7.4", []),
        ("Redis 2.8", "Redis 6.2", []),
        ("Redis 7.0", "Valkey 8.1", []),
        ("Valkey 7.2", "Redis 7.2", []),
        ("Valkey 8.1", "Valkey 9.1", []),
        ("Redis 7.4", "Valkey 9.0", []),
        ("Valkey 9.1", "Redis 8.2", []),
        ("Valkey 8.1", "Redis 7.0", []),
        ("Redis 7.0", "Redis 6.2", ["function libraries"]),
        ("Valkey 9.1", "Valkey 8.1", ["hash fields that expire"]),
        ("Redis 7.4", "Redis 7.2", ["hash fields that expire"]),
        ("Redis 8.2", "Redis 6.2", ["hash fields that expire", "function libraries"]),
    ],
)
def test_what_a_target_will_lack_is_said(source: str, target: str, lacks: list[str]) -> None:
    said = versions.check(facts(SOURCE, source), facts(TARGET, target))
    assert len(said) == len(lacks)
    for text, lack in zip(said, lacks, strict=True):
        assert lack in text
        assert source in text
        assert target in text


NOTED = [
    ({}, {}, ""),
    ({}, {"maxmemory": 1000, "used_memory": 100, "policy": "noeviction"}, ""),
    ({"used_memory": 800}, {"maxmemory": 1000, "used_memory": 100, "policy": "noeviction"}, ""),
    ({"used_memory": 900}, {"maxmemory": 1000, "used_memory": 100}, "CONFIG SET maxmemory 1090"),
    ({}, {"maxmemory": 1000, "policy": "allkeys-lru"}, "evicts keys when its memory is full (allkeys-lru)"),
    ({}, {"policy": "allkeys-lru"}, ""),
    ({"modules": frozenset("ab")}, {"modules": frozenset("bc")}, "lacks modules of the source (a)"),
    ({"ahead_ms": 1000.0}, {"ahead_ms": 5900.0}, ""),
    ({"ahead_ms": 1000.0}, {"ahead_ms": 8000.0}, "clock of b:6379 is 7 s ahead of that of a:6379"),
    ({"ahead_ms": 3_600_000.0}, {}, "clock of a:6379 is 3600 s ahead"),
]


@pytest.mark.parametrize(("source", "target", "said"), NOTED)
def test_what_may_go_wrong_is_said_with_what_to_do(source: Any, target: Any, said: str) -> None:
    found = capacity.check(
        replace(facts(SOURCE, "Redis 7.0"), **source), replace(facts(TARGET, "Redis 7.0"), **target)
    )
    assert len(found) == bool(said)
    assert said in "".join(found)


def test_a_server_says_what_it_has() -> None:
    with start("redis-7.0", config={"maxmemory": "50mb", "maxmemory-policy": "allkeys-lru"}) as server:
        endpoint = Endpoint.parse(server.url(), Side.TARGET)
        found = gather(endpoint.connect(db=0), endpoint)
    assert (found.maxmemory, found.policy, found.modules) == (50 << 20, "allkeys-lru", frozenset())
    assert found.used_memory > 100_000
    assert abs(found.ahead_ms) < 1000


@pytest.mark.parametrize(
    ("source", "target", "error"),
    [("Redis 2.6", "Redis 7.0", SourceError), ("Redis 6.2", "Redis 6.0", TargetError)],
)
def test_others_do_not_fit_and_say_which_they_are(source: str, target: str, error: type[KeyferryError]) -> None:
    with pytest.raises(error) as caught:
        versions.check(facts(SOURCE, source), facts(TARGET, target))
    assert (source if error is SourceError else target) in caught.value.message
    assert caught.value.hint


def ask(source: Any, target: Any, within_s: float = 5.0) -> tuple[Any, Any]:
    return reach.ask_both((SOURCE, source), (TARGET, target), lambda _s: None, within_s)


def refused() -> None:
    raise TargetError("refused", hint="h")


def test_both_answers_come_back_in_order() -> None:
    assert ask(lambda: "s", lambda: "t") == ("s", "t")


def test_who_never_answers_is_named_when_time_is_up() -> None:
    begin = time.monotonic()
    with pytest.raises(ConnectionLost, match="b:6379: no answer") as caught:
        ask(lambda: "s", lambda: time.sleep(5), within_s=0.2)
    assert caught.value.side is Side.TARGET
    assert time.monotonic() - begin < 2


def test_a_refusal_need_not_wait_for_the_other_side() -> None:
    begin = time.monotonic()
    with pytest.raises(TargetError, match="refused"):
        ask(lambda: time.sleep(5), refused)
    assert time.monotonic() - begin < 2

"""The runner of precheck items: who waits for whom; and what the numbers of some mean. Without servers."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import ConnectionLost, KeyferryError, Side, SourceError, TargetError
from sync_tasks.precheck import run
from sync_tasks.precheck.facts import Facts, gather
from sync_tasks.precheck.item import Answer, Item, Result, passed
from sync_tasks.precheck.items import item_of
from sync_tasks.precheck.scene import Scene
from sync_tasks.spec import TaskSpec
from tests.servers import start

SOURCE = Endpoint.parse("redis://a:6379", Side.SOURCE)
TARGET = Endpoint.parse("redis://b:6379", Side.TARGET)


def facts(endpoint: Endpoint, name: str = "Redis 7.0", **more: Any) -> Facts:
    product, _, number = name.partition(" ")
    major, minor = number.split(".")
    plain = Facts(endpoint, product, (int(major), int(minor)), "", "master", True, "", "", False, {})
    return replace(plain, **more)


def answer(item: str, source: Facts, target: Facts) -> Answer:
    scene = Scene(SOURCE, TARGET, known={Side.SOURCE: source, Side.TARGET: target})
    return item_of(item).ask(scene)


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
    assert answer("versions", facts(SOURCE, source), facts(TARGET, target)).finding == "passed"
    said = answer("value-types", facts(SOURCE, source), facts(TARGET, target))
    assert said.finding == ("warning" if lacks else "passed")
    for lack in lacks:
        assert f"b:6379 is {target}, the source {source}" in said.found
        assert lack in said.found
    unused = answer("value-types", facts(SOURCE, source, field_times=0, libraries=0), facts(TARGET, target))
    assert unused.finding == "passed"


NOTED = [
    ("target-memory", {}, {}, ""),
    ("target-memory", {}, {"maxmemory": 1000, "used_memory": 100}, ""),
    ("target-memory", {"used_memory": 800}, {"maxmemory": 1000, "used_memory": 100}, ""),
    ("target-memory", {"used_memory": 900}, {"maxmemory": 1000, "used_memory": 100}, "has room for 900 B, the source"),
    ("clocks", {"ahead_ms": 1000.0}, {"ahead_ms": 5900.0}, ""),
    ("clocks", {"ahead_ms": 1000.0}, {"ahead_ms": 8000.0}, "clock of b:6379 is 7 s ahead of that of a:6379"),
    ("clocks", {"ahead_ms": 3_600_000.0}, {}, "clock of a:6379 is 3600 s ahead"),
    ("modules", {"modules": frozenset("ab")}, {"modules": frozenset("bc")}, "lacks modules of the source (a)"),
    ("fork-headroom", {"memory": 1000, "resident": 800, "used_memory": 700}, {}, ""),
    ("fork-headroom", {"memory": 1000, "resident": 950, "used_memory": 900}, {}, "may take 90 B more"),
    ("fork-headroom", {"memory": 1000, "resident": 800, "copied": 300}, {}, "may take 300 B more"),
    ("script-replication", {"version": (5, 0), "settings": {"lua-replicate-commands": "no"}}, {}, "as they are"),
    ("append-only", {"persistent": True, "settings": {"appendonly": "yes"}}, {}, ""),
    ("append-only", {"persistent": True}, {}, "does not say what appendonly is"),
]


@pytest.mark.parametrize(("item", "source", "target", "said"), NOTED)
def test_what_may_go_wrong_is_said(item: str, source: Any, target: Any, said: str) -> None:
    found = answer(item, facts(SOURCE, **source), facts(TARGET, **target))
    assert found.finding == ("warning" if said else "passed")
    assert said in found.found
    assert bool(found.repair) == bool(said)


def test_an_instance_in_persistent_memory_needs_its_append_only_file() -> None:
    without = facts(SOURCE, persistent=True, settings={"appendonly": "no"})
    with pytest.raises(SourceError, match="its appendonly is no") as caught:
        answer("append-only", without, facts(TARGET))
    assert "CONFIG SET appendonly yes" in caught.value.hint
    usual = answer("append-only", facts(SOURCE, settings={"appendonly": "no"}), facts(TARGET))
    assert usual.finding == "skipped"


@pytest.mark.parametrize("flags", ["KEA", "EA", "KA", "Eg$lshzxet", "Kg$lshzxetd"])
def test_a_source_that_tells_of_every_key(flags: str) -> None:
    assert told_by({"notify-keyspace-events": flags}).finding == "passed"


@pytest.mark.parametrize("flags", ["", "A", "K", "KEg$lshzxe", "Ex"])
def test_a_source_that_does_not_tell_of_every_key(flags: str) -> None:
    with pytest.raises(SourceError, match="does not tell of every key") as caught:
        told_by({"notify-keyspace-events": flags})
    assert "CONFIG SET notify-keyspace-events KEA" in caught.value.hint


def test_a_source_that_does_not_say_whether_it_tells() -> None:
    assert told_by({}).finding == "skipped"
    assert told_by({}, TaskSpec()).found == "the source is not followed by its notifications"


def test_each_master_of_a_cluster_tells_of_its_keys() -> None:
    whole = facts(SOURCE, settings={"notify-keyspace-events": "KEA"})
    one = replace(whole, settings={"notify-keyspace-events": ""}, endpoint=replace(whole.endpoint, host="silent"))
    scene = Scene(SOURCE, TARGET, TaskSpec(reader="scan"), known={Side.SOURCE: whole, Side.TARGET: facts(TARGET)})
    scene.masters[Side.SOURCE] = (whole, whole)
    assert item_of("notifications").ask(scene).finding == "passed"
    scene.masters[Side.SOURCE] = (whole, one)
    with pytest.raises(SourceError, match=r"silent.*does not tell of every key"):
        item_of("notifications").ask(scene)


def told_by(settings: dict[str, str], spec: TaskSpec = TaskSpec(reader="scan")) -> Any:  # noqa: B008
    known = {Side.SOURCE: facts(SOURCE, settings=settings), Side.TARGET: facts(TARGET)}
    return item_of("notifications").ask(Scene(SOURCE, TARGET, spec, known=known))


def test_of_the_memory_that_the_source_uses_what_is_in_scope_counts() -> None:
    known = {
        Side.SOURCE: facts(SOURCE, used_memory=1000, keys={0: 90, 1: 10}),
        Side.TARGET: facts(TARGET, maxmemory=200, used_memory=0),
    }
    assert item_of("target-memory").ask(Scene(SOURCE, TARGET, scope={1: 1}, known=known)).finding == "passed"
    assert item_of("target-memory").ask(Scene(SOURCE, TARGET, scope={0: 1}, known=known)).finding == "warning"


def test_a_server_says_what_it_has() -> None:
    with start("redis-7.0", config={"maxmemory": "50mb", "maxmemory-policy": "allkeys-lru"}) as server:
        endpoint = Endpoint.parse(server.url(), Side.TARGET)
        found = gather(endpoint.connect(db=0), endpoint)
    assert (found.maxmemory, found.policy, found.modules) == (50 << 20, "allkeys-lru", frozenset())
    assert found.used_memory > 100_000
    assert found.settings["repl-timeout"] == "60"
    assert abs(found.ahead_ms) < 1000


@pytest.mark.parametrize(
    ("source", "target", "error"),
    [("Redis 2.6", "Redis 7.0", SourceError), ("Redis 6.2", "Redis 6.0", TargetError)],
)
def test_others_do_not_fit_and_say_which_they_are(source: str, target: str, error: type[KeyferryError]) -> None:
    with pytest.raises(error) as caught:
        answer("versions", facts(SOURCE, source), facts(TARGET, target))
    assert (source if error is SourceError else target) in caught.value.message
    assert caught.value.hint


def item(name: str, ask: Any) -> Item:
    return Item(name, name, "", lambda _scene: ask(), needs=frozenset())


def ask(*items: Item, **more: Any) -> list[Result]:
    return run.ask(Scene(SOURCE, TARGET), lambda _s: None, items=items, within_s=0.3, **more)


def refused() -> Answer:
    raise TargetError("refused", hint="h")


def test_results_come_back_in_order_and_are_told_as_they_come() -> None:
    told: list[list[str]] = []

    def slow() -> Answer:
        time.sleep(0.1)
        return passed("slow")

    items = [item("a", slow), item("b", lambda: passed("quick")), item("c", refused)]
    found = ask(*items, tell=lambda some: told.append(sorted(result.item for result in some)))
    assert [(result.item, result.finding.value, result.found) for result in found] == [
        ("a", "passed", "slow"), ("b", "passed", "quick"), ("c", "failed", "refused"),
    ]  # fmt: skip
    assert told[-1] == ["a"]
    assert sorted(name for names in told for name in names) == ["a", "b", "c"]
    assert found[2].repair == "h"


def test_who_never_answers_has_failed_when_time_is_up() -> None:
    begin = time.monotonic()
    late, quick = ask(item("target-x", lambda: time.sleep(5)), item("b", lambda: passed("")))
    assert (late.finding, quick.finding) == ("failed", "passed")
    assert isinstance(late.error, ConnectionLost)
    assert (late.error.side, "b:6379: no answer" in late.found) == (Side.TARGET, True)
    assert time.monotonic() - begin < 2


def test_a_hasty_refusal_need_not_wait_for_the_others() -> None:
    begin = time.monotonic()
    found = ask(item("a", lambda: time.sleep(0.3) or passed("")), item("b", refused), hasty=True)
    assert [result.item for result in found] == ["b"]
    assert time.monotonic() - begin < 0.25
    assert isinstance(run.first_error(found), TargetError)


def test_an_internal_error_is_no_finding() -> None:
    with pytest.raises(ZeroDivisionError):
        ask(item("a", lambda: 1 / 0))

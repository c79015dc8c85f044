"""What a target evicts is told: once, then again when it goes on."""

from __future__ import annotations

import pytest

from sync_tasks.errors import DATABASE, ControlError, Fenced, KeyferryError, Retry
from tests.servers import Server
from tests.unit.protocol.conftest import endpoint
from workers.target import evictions
from workers.target.evictions import Evictions
from workers.target.link import TargetLink


class Told:
    """Events, and what fails when they are recorded."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []
        self.fails: list[KeyferryError] = []

    def __call__(self, kind: str, text: str) -> None:
        if self.fails:
            raise self.fails.pop(0)
        self.events.append((kind, text))

    @property
    def counts(self) -> list[int]:
        return [int(text.removeprefix("the target has evicted ").split()[0]) for kind, text in self.events]


def stats(count: int) -> bytes:
    return b"# Stats\r\nexpired_keys:7\r\nevicted_keys:%d\r\nkeyspace_hits:0\r\n" % count


@pytest.fixture
def told() -> Told:
    return Told()


def test_a_rise_is_told_and_the_next_one_a_minute_later(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    watching = Evictions(told, first=False)
    for count in (0, 3, 5, 9):
        watching.look(stats(count))
    assert told.counts == [3]
    monkeypatch.setattr(evictions, "AGAIN_S", 0.0)
    watching.look(stats(9))
    watching.look(stats(9))
    assert told.counts == [3, 6]


def test_what_was_evicted_before_the_task_began_is_none_of_ours(told: Told) -> None:
    watching = Evictions(told, first=True)
    watching.look(stats(100))
    assert told.events == []
    watching.look(stats(101))
    assert told.counts == [1]


def test_an_owner_that_comes_later_tells_the_whole_count(told: Told) -> None:
    Evictions(told, first=False).look(stats(100))
    assert told.counts == [100]


def test_a_target_that_starts_anew_counts_anew(told: Told) -> None:
    watching = Evictions(told, first=True)
    watching.look(stats(100))
    watching.look(stats(2))
    assert told.counts == [2]


def test_a_database_that_is_away_is_told_later_and_a_lost_lease_ends_the_owner(told: Told) -> None:
    watching = Evictions(told, first=False)
    told.fails = [ControlError("away", code=DATABASE, retry=Retry.OTHER)]
    watching.look(stats(3))
    watching.look(stats(4))
    assert told.counts == [4]
    told.fails = [Fenced("lost")]
    with pytest.raises(Fenced):
        Evictions(told, first=False).look(stats(9))


@pytest.mark.parametrize(
    ("policy", "limit", "warned"), [("allkeys-lru", "1gb", 1), ("noeviction", "1gb", 0), ("allkeys-lru", "0", 0)]
)
def test_a_policy_that_evicts_is_told_before_it_does(
    told: Told, target: Server, policy: str, limit: str, warned: int
) -> None:
    link = TargetLink(endpoint(target), "test", 0)
    with target.client() as client:
        client.config_set("maxmemory-policy", policy)
        client.config_set("maxmemory", limit)
        try:
            watching = Evictions(told, first=True)
            watching.ask(link)
            watching.ask(link)
        finally:
            client.config_set("maxmemory-policy", "noeviction")
            client.config_set("maxmemory", 0)
            link.close()
    assert [kind for kind, _ in told.events] == ["may-evict"] * warned

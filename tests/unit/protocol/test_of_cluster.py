"""A part of a cluster is read on real servers, while slots of it are on their way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import Side
from tests.clusters import Cluster
from workers.codec.slots_cy import slot
from workers.source import slot_walk
from workers.source.cluster_survey import ClusterSurvey

KINDS = ("redis-7.0", "redis-8.2", "redis-6.2", "valkey-8.1", "valkey-9.1")
HALF = ((0, 8191),)
TAGGED = [b"{b}%d" % number for number in range(20)]
NAMES = [b"k%d" % number for number in range(500)]


@pytest.fixture(params=KINDS)
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    with Cluster(request.param, masters=2, config={"notify-keyspace-events": "KEA"}) as made:
        client: Any = made.client()
        for number, name in enumerate([*TAGGED, *NAMES]):
            client.set(name, number, px=1_000_000 + number)
        yield made


def survey(cluster: Cluster) -> ClusterSurvey:
    return ClusterSurvey(replace(Endpoint.parse(cluster.url(), Side.SOURCE), slots=HALF))


def named(asks: ClusterSurvey, cursor: int = 0) -> set[bytes]:
    cursor, names = asks.scan(0, cursor, 20)
    while cursor:
        cursor, more = asks.scan(0, cursor, 20)
        names += more
    return set(names)


def test_what_moves_is_read_where(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    asks, mine = survey(cluster), {key for key in [*TAGGED, *NAMES] if slot(key) <= HALF[0][1]}
    assert slot(b"b") <= HALF[0][1], "or choose another"
    client: Any = cluster.client()
    wanted = [client.dump(key) for key in TAGGED]
    assert named(asks) == mine
    assert [place.port for place in asks.places()] == [cluster.masters[0].port]
    run, spaces = asks.spaces()
    assert abs(spaces[0] - len(mine)) < 20
    checked = []

    def between() -> None:
        """Half of them are at the other node."""
        assert named(asks) == mine
        keys = [(0, key) for key in [*TAGGED, b"{b}gone"]]
        said = asks.values(keys)
        assert said.values == [*wanted, None]
        times = asks.exact(keys, said)
        assert times[-1] == -2
        assert all(abs(when - at - times[0]) < 2000 for at, when in enumerate(times[:-1])), "one a key"
        assert asks.there(0, [key for _, key in keys]) == [True] * 20 + [False]
        assert asks.times(0, TAGGED).times == times[:-1]
        assert len(asks.sizes(keys[:-1])) == 20
        assert asks.strangers(), "the other node has some of them, and may be written to"
        checked.append(True)

    cluster.move(slot(b"b"), cluster.masters[1], between)
    assert checked
    assert asks.strangers()
    assert len(asks.places()) == 2
    assert not asks.strangers()
    assert asks.spaces()[0] != run
    assert asks.keys() == asks.keys([0]) == len(mine), "or the source would seem to be emptied, or not to be"
    tagged = ClusterSurvey(replace(Endpoint.parse(cluster.url(), Side.SOURCE), slots=((slot(b"b"),) * 2,)))
    assert (tagged.keys(), tagged.keys([1])) == (20, 0)
    tagged.close()
    assert named(asks) == mine
    monkeypatch.setattr(slot_walk, "MOST_NAMES", 10)
    assert named(asks) == mine, "by SCAN"
    assert asks.values([(0, key) for key in TAGGED]).values == wanted
    asks.close()


@pytest.mark.parametrize("kind", KINDS)
def test_all_keys_are_on_their_way(kind: str) -> None:
    """To a shard that has no slots so far: who has them no more would not say that there is a database."""
    with Cluster(kind, masters=2) as cluster:
        client: Any = cluster.client()
        for number, name in enumerate(TAGGED):
            client.set(name, number)
        asks, found = survey(cluster), list[Any]()

        def between() -> None:
            assert cluster.masters[0].client().dbsize() == 0
            found.append((asks.spaces()[1], asks.databases(), named(asks), asks.version(0)))

        cluster.move(slot(b"b"), cluster.add(), between, share=1.0)
        ((spaces, databases, names, version),) = found
        assert spaces == {0: 1}
        assert databases == [0]
        assert names == set(TAGGED)
        assert version == asks.version(0)
        assert version
        asks.close()

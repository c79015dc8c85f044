"""What a node of a cluster says of keys whose slots are not its own any more."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import ConnectionLost, Side
from tests.clusters import Cluster
from tests.servers import Server
from workers.codec.slots_cy import slot
from workers.source.ask import GONE, Source

GIVEN, TAGGED = b"moved", b"{moved}too"
KEYS = [(0, GIVEN), (0, b"stay"), (0, TAGGED)]


@pytest.fixture(scope="module", params=["redis-7.0", "redis-6.2", "valkey-9.1"])
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    with Cluster(request.param, masters=2) as made:
        yield made


@pytest.fixture
def ends(cluster: Cluster) -> tuple[Server, Server]:
    """Who has the slot of `moved`, and the other one; `stay` is a key that stays with the former."""
    giver = cluster.owner(slot(GIVEN))
    assert cluster.owner(slot(b"stay")) is giver
    return giver, next(one for one in cluster.masters if one is not giver)


def questions(cluster: Cluster, server: Server) -> Source:
    """To the master of a shard."""
    return Source(Endpoint.parse(cluster.url(), Side.SOURCE).of_shard((cluster.name(server),), ()))


def test_keys_of_a_slot_that_has_gone_are_gone_there(cluster: Cluster, ends: tuple[Server, Server]) -> None:
    giver, taker = ends
    cluster.client().mset({GIVEN: 1, TAGGED: 2})
    cluster.client().set("stay", 3)
    source = questions(cluster, giver)
    try:
        assert None not in source.values(KEYS).values
        assert all(source.sizes(KEYS))
        cluster.move(slot(GIVEN), taker)
        said = source.values(KEYS)
        assert [value is None for value in said.values] == [True, False, True]
        assert said.times == [GONE, -1, GONE]
        assert said.at.offset <= source.offset()
        assert [size > 0 for size in source.sizes(KEYS)] == [False, True, False]
        assert source.values(KEYS[:1]).values == [None], "of none that it serves"
    finally:
        source.close()
        cluster.move(slot(GIVEN), giver)


def test_a_slot_that_is_on_its_way_is_waited_for(cluster: Cluster, ends: tuple[Server, Server]) -> None:
    """The node has keys of it still, or already: nobody may take the others for gone."""
    giver, taker = ends
    keys = [(0, b"{moved}%d" % number) for number in range(30)]
    cluster.client().mset({key: 1 for _, key in keys})
    sources = questions(cluster, giver), questions(cluster, taker)

    def between() -> None:
        for source in sources:
            with pytest.raises(ConnectionLost) as refused:
                source.values(keys)
            assert refused.value.code == "slots-move"
            assert len(source.sizes(keys)) == len(keys)

    try:
        cluster.move(slot(GIVEN), taker, between=between)
    finally:
        for source in sources:
            source.close()
        cluster.move(slot(GIVEN), giver)

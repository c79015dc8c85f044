"""Keys that are to be copied anew, and are not where they were: their slots have gone to another shard."""

from __future__ import annotations

from typing import Any

from tests.scenarios.cluster_source.test_cluster_source import alike
from tests.scenarios.conftest import StartCluster, Sync
from tests.servers import StartServer
from workers.codec.slots_cy import slot


def test_a_command_is_refused_whose_key_has_moved_since(server: StartServer, cluster: StartCluster, sync: Sync) -> None:
    """Its shard does not answer for it any more; all that it has to say of it is in its stream."""
    source, target = cluster("redis-7.0"), server("redis-7.0")
    client: Any = source.client()
    for number in range(20):
        client.set(f"n{number}", 1)
    run = sync(source.url(), target.url())
    run.wait_in_sync()
    assert run.stop() == 130
    with target.client() as other:
        other.delete("n5")
        other.lpush("n5", "of somebody else")
    client.incr("n5")
    giver = source.owner(slot(b"n5"))
    source.move(slot(b"n5"), next(one for one in source.masters if one is not giver))
    client.incr("n5")
    run = sync(source.url(), target.url())
    alike(run, source, target)
    assert target.client().get("n5") == b"3"

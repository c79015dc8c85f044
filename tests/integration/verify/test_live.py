"""Traffic on its way to the target raises no alarm; what differs for good is found all the same."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.dataset import fill
from tests.integration.verify import hot
from tests.integration.verify.copies import caught_up, endpoints, follow, found
from tests.servers import Server, StartServer
from tests.traffic import Traffic
from workers.verify import verify
from workers.verify.flux import Patience

KINDS = [("redis-6.2", "redis-7.0"), ("redis-7.0", "redis-7.0"), ("valkey-8.1", "valkey-9.1")]
PAUSES = (0.1, 0.2, 0.4, 0.8)  # seconds; shorter than usual, since each large key that never rests takes them all


def alarms(report: dict[str, Any], source: Server) -> list[dict[str, Any]]:
    """What a report names and should not.

    Before 7.0 a master tells its replicas by how much later a key expires: theirs does so some milliseconds
    after the master's, and a verification is right to say it.
    """
    return [item for item in report["keys"] if item["kind"] != "expiry" or source.version >= (7, 0)]


def replica(server: StartServer, kinds: tuple[str, str]) -> tuple[Server, Server]:
    source = server(kinds[0])
    target = server(kinds[1], config={"replica-read-only": "no"})
    fill(source.client(), 2000, dbs=(0, 3, 7))
    hot.prepare(source.client())
    follow(source, target)
    return source, target


@pytest.mark.parametrize("kinds", KINDS, ids="-to-".join)
def test_traffic_of_all_kinds_raises_no_alarm(server: StartServer, kinds: tuple[str, str]) -> None:
    source, target = replica(server, kinds)

    with Traffic(source, clients=3, rate=3000):
        time.sleep(1)
        report = verify(*endpoints(source, target), extend_expiry_s=0).as_dict()

    assert alarms(report, source) == []
    assert report["compared"] > 2000


@pytest.mark.parametrize("kinds", KINDS, ids="-to-".join)
def test_keys_that_never_rest_raise_no_alarm(server: StartServer, kinds: tuple[str, str]) -> None:
    source, target = replica(server, kinds)

    patience = Patience(pauses=PAUSES)
    with hot.writing(source):
        report = verify(*endpoints(source, target), extend_expiry_s=0, patience=patience).as_dict()

    assert alarms(report, source) == []
    assert patience.rechecked > 0, "else this test has not tested what it is for"


def test_lasting_differences_are_found_under_traffic(server: StartServer) -> None:
    source, target = replica(server, ("redis-7.0", "redis-7.0"))
    source.client().set("quiet", 1)
    caught_up(source, target)

    with hot.writing(source):
        other = target.client()
        other.set("quiet", 2)
        other.decrby("hot:counter", 1_000_000)
        other.hincrby("hot:hash", "f1", 1_000_000)
        other.sadd("hot:set", "one more")
        other.xgroup_create("hot:stream", "other", "0")
        patience = Patience(pauses=PAUSES)
        report = verify(*endpoints(source, target), extend_expiry_s=0, patience=patience).as_dict()

    assert [item[:2] for item in found(report)] == [
        ("hot:counter", "value"),
        ("hot:hash", "value"),
        ("hot:set", "value"),
        ("hot:stream", "value"),
        ("quiet", "value"),
    ]
    fields = {key: field for key, _, field in found(report)}
    assert fields["hot:hash"] == "f1"
    assert fields["hot:set"] == "one more"
    assert fields["hot:stream"].startswith("group other")

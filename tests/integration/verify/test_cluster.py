"""Clusters on either side: every key of every node, whatever moves meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import Side, TargetError
from sync_tasks.extent import Extent
from sync_tasks.keyfilter import FilterSpec
from sync_tasks.lanes import tags
from sync_tasks.slots import ranges
from tests.clusters import Cluster
from tests.integration.verify.copies import QUICK, caught_up, follow, found
from tests.integration.verify.planted import LARGE, SMALL, Planted
from tests.integration.verify.test_planted import late
from tests.sentinels import Group, Sentinels
from tests.servers import Server, StartServer, start
from workers.codec.slots_cy import slot
from workers.verify import mend as mending
from workers.verify import scan as scanning
from workers.verify import verify
from workers.verify.flux import Patience

KINDS = [("redis-7.0", "valkey-9.1"), ("redis-6.2", "redis-6.2")]
KNOWN = [(7, 0), (6, 2)]
"""Of each pair, the older version."""
Side_ = Server | Cluster | Group


@pytest.fixture(scope="module")
def sides(request: pytest.FixtureRequest) -> Iterator[tuple[Server, Cluster]]:
    """One server, and a cluster, for all tests of the module."""
    with ExitStack() as stack:
        one, many = request.param
        yield stack.enter_context(start(one)), stack.enter_context(Cluster(many))


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Cluster("redis-7.0") as one:
        yield one


def compare(source: Side_, target: Side_, **kw: Any) -> dict[str, Any]:
    kw.setdefault("patience", Patience(pauses=QUICK, sample_s=0.2))
    ends = Endpoint.parse(source.url(), Side.SOURCE), Endpoint.parse(target.url(), Side.TARGET)
    return verify(*ends, **kw).as_dict()


def empty(side: Server | Cluster) -> None:
    for node in side.masters if isinstance(side, Cluster) else [side]:
        with node.client() as client:
            client.flushall()


def send(side: Server | Cluster, commands: list[Any]) -> None:
    """Each to the node of its key; `MEMORY`-like ones with a key elsewhere are not among them."""
    if isinstance(side, Server):
        for command in commands:
            side.client().execute_command(*command)
        return
    clients = {node.port: node.client() for node in side.masters}
    owners = side.owners()
    for command in commands:
        key = command[2] if command[0] == "XGROUP" else command[1]
        clients[owners[slot(key if isinstance(key, bytes) else str(key).encode())]].execute_command(*command)


def planted() -> Iterator[Any]:
    """What to try with which servers: what does not depend on PTTL with newer ones alone; every fourth both ways."""
    cases = [*SMALL, *LARGE[1:12:5]]
    for kinds, known in zip(KINDS, KNOWN, strict=True):
        for number, case in enumerate(cases):
            if case.since > known or (known < (7, 0) and number % 4 and "ms" not in case.name):
                continue
            for back in (False, True):
                marks = [pytest.mark.rare] if number % 4 else []
                name = f"{case.name}-{'from' if back else 'to'} a cluster-{'-to-'.join(kinds)}"
                yield pytest.param(kinds, case, back, id=name, marks=marks)


@pytest.mark.parametrize(("sides", "case", "back"), list(planted()), indirect=["sides"])
def test_each_kind_of_difference(sides: tuple[Server, Cluster], case: Planted, back: bool) -> None:
    source, target = sides[::-1] if back else sides
    for side in sides:
        empty(side)
    around = [("SET", f"around:{number}", number) for number in range(20)]
    send(source, [*around, *case.both])
    send(target, [late(command) for command in [*around, *case.both]])
    assert found(before := compare(source, target)) == []
    assert before["compared"] >= len(around)
    send(target, [late(command) for command in case.target])
    report = compare(source, target)
    assert [item[:2] for item in found(report)] == [item[:2] for item in sorted(case.found)]
    mended = compare(source, target, repair=True)
    assert mended["repaired"] == len(mended["keys"]) == len(case.found)
    assert found(compare(source, target)) == [], "nothing else has been touched"


KEYS = 3000


def filled(cluster: Cluster, server: Server) -> dict[int, list[bytes]]:
    """Both sides hold the same; the keys by their slots."""
    slots: dict[int, list[bytes]] = {}
    commands = []
    for number in range(KEYS):
        commands.append(("SET", f"k:{number}", number))  # MIGRATE may shift expiries by a ms
        slots.setdefault(slot(b"k:%d" % number), []).append(b"k:%d" % number)
    send(cluster, commands)
    send(server, commands)
    return slots


@pytest.mark.parametrize("back", [False, True], ids=["to a cluster", "from a cluster"])
def test_slots_that_move_hide_no_key(
    back: bool, cluster: Cluster, server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a master that is yet to be walked to the one that has been, in the middle; and one the other way."""
    other = server("redis-7.0")
    slots = filled(cluster, other)
    first, *_, last = sorted(cluster.masters, key=lambda node: cluster.owners().index(node.port))
    there = [number for number, port in enumerate(cluster.owners()) if port == last.port and number in slots][:5]
    here = [number for number, port in enumerate(cluster.owners()) if port == first.port and number in slots][:5]
    lost = [slots[there[0]][0], slots[here[0]][0]]
    (other.client().delete(*lost) if back else [cluster.client().delete(key) for key in lost])
    extra = slots[there[1]][0]
    if not back:
        cluster.client().set(b"{%s}more" % slots[there[2]][0], 1)
    (cluster.client() if not back else other.client()).set(extra, "changed")
    whole, moves = scanning._node, []

    def node(link: Any, place: Any, db: int, some: Any) -> Iterator[list[bytes]]:
        yield from whole(link, place, db, some)
        if place[1] == first.port and some is None:
            moves.append(place)
            for number in there:
                cluster.move(number, first)
            for number in here:
                cluster.move(number, last)

    monkeypatch.setattr(scanning, "_node", node)
    report = compare(*((cluster, other) if back else (other, cluster)))
    assert moves
    more = [] if back else [(f"{{{slots[there[2]][0].decode()}}}more", "extra", None)]
    wanted = more + [(key.decode(), "missing", None) for key in lost] + [(extra.decode(), "value", "byte 0")]
    assert found(report) == sorted(wanted)


def test_a_slot_that_stays_half_moved(cluster: Cluster, server: StartServer) -> None:
    """Half of its keys answer ASK."""
    other = server("redis-7.0")
    send(other, [(("SET", f"{{a}}{n}", n)) for n in range(200)])
    send(cluster, [(("SET", f"{{a}}{n}", n)) for n in range(200)])
    number = slot(b"{a}")
    to = next(node for node in cluster.masters if node is not cluster.owner(number))
    pairs, seen = ((other, cluster), (cluster, other)), list[Any]()
    cluster.move(number, to, lambda: seen.extend(compare(*pair) for pair in pairs))
    assert [found(report) for report in seen] == [[], []]
    assert all(report["compared"] >= 200 for report in seen)


def test_a_master_that_fails_over_while_it_is_walked(server: StartServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.verify.link.PAUSES_S", (0.1, 0.1))
    other = server("redis-7.0")
    with Cluster("redis-7.0", replicas=1) as cluster:
        slots = filled(cluster, other)
        for node, (replica, *_) in zip(cluster.masters, cluster.replicas, strict=True):
            caught_up(node, replica)
        owners = cluster.owners()
        lost = [keys[0] for number, keys in slots.items() if owners[number] == cluster.masters[1].port]
        other.client().delete(*lost)
        whole, killed = scanning._walk, []

        def walk(link: Any, db: int, *cursors: Any) -> Iterator[list[bytes]]:
            for keys in whole(link, db, *cursors):
                yield keys
                if link.endpoint.port == cluster.masters[1].port and not killed:
                    killed.append(cluster.fail_over(1))

        monkeypatch.setattr(scanning, "_walk", walk)
        report = compare(cluster, other)
        assert killed
        assert found(report) == sorted((key.decode(), "missing", None) for key in lost)


def test_a_key_waits_for_the_stream_of_its_own_node(
    cluster: Cluster, server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Checkpoints as lanes have them: in each node one, whose key is in another slot than what is mended."""
    monkeypatch.setattr("workers.verify.mend.PATIENCE_S", 0.5)
    source = server("redis-7.0", config={"repl-ping-replica-period": "3600"})  # no write but those of the test
    follow(source, server("redis-7.0"))  # else its stream does not advance
    send(source, [("SET", f"k:{n}", n) for n in range(50)])
    info = source.client().info("replication")
    at = {"replid": info["master_replid"], "state": "streaming", "held": 0, "extend": 0}
    cks = []
    for node in cluster.masters:
        number = max(number for number, port in enumerate(cluster.owners()) if port == node.port)
        cks.append(f"keyferry:0123456789abcdef:{{{tags()[number]}}}:0:ck")
        node.client().hset(cks[-1], mapping={**at, "offset": info["master_repl_offset"] + 1_000_000})
    report = compare(source, cluster, repair=True, extend_expiry_s=0)
    assert report["repaired"] == 0, "all streams have passed the place where the values are true"
    for node, ck in zip(cluster.masters, cks, strict=True):
        node.client().hset(ck, "offset", info["master_repl_offset"])
    assert compare(source, cluster, repair=True, extend_expiry_s=0)["repaired"] == 50
    source.client().set("k:1", "newer")
    own = cluster.owner(slot(b"k:1"))
    # Those of the others have come there, its own has not; then the other way round.
    for those in ([node for node in cluster.masters if node is not own], [own]):
        with pytest.raises(TargetError, match="far behind"):
            compare(source, cluster, repair=True, extend_expiry_s=0)
        for node in those:
            offset = source.client().info("replication")["master_repl_offset"]
            node.client().hset(cks[cluster.masters.index(node)], "offset", offset)
    assert compare(source, cluster, repair=True, extend_expiry_s=0)["repaired"] == 1


@pytest.fixture
def streams(server: StartServer) -> Iterator[tuple[Cluster, Server, list[str]]]:
    """A cluster, a target with a checkpoint for each shard's stream, that has come to its end, and their keys."""
    target = server("redis-7.0")
    with Cluster("redis-7.0", replicas=1) as source:
        send(source, [("SET", f"k:{n}", n) for n in range(60)])
        cks = [f"keyferry:0123456789abcdef:{number}:ck" for number in range(3)]
        owners = source.owners()
        for number, (node, ck) in enumerate(zip(source.masters, cks, strict=True)):
            mine = ranges(n for n, port in enumerate(owners) if port == node.port)
            info = node.client().info("replication")
            at = {"replid": info["master_replid"], "state": "streaming", "held": 0, "extend": 0, "number": number}
            extent = Extent.of(None, FilterSpec(), mine).text
            target.client().hset(ck, mapping={**at, "offset": info["master_repl_offset"], "extent": extent})
        yield source, target, cks


def arrive(source: Cluster, target: Server, cks: list[str], more: int = 0) -> None:
    """All streams are on the target, and so many bytes more."""
    for node, ck in zip(source.masters, cks, strict=True):
        target.client().hset(ck, "offset", node.client().info("replication")["master_repl_offset"] + more)


def test_a_key_waits_for_the_stream_of_its_own_shard(
    streams: tuple[Cluster, Server, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the other shards' streams have come to does not matter."""
    monkeypatch.setattr("workers.verify.mend.PATIENCE_S", 0.5)
    monkeypatch.setattr("workers.verify.mend.TRIES", 3)
    source, target, cks = streams
    arrive(source, target, cks, more=1_000_000)
    assert compare(source, target, repair=True, extend_expiry_s=0)["repaired"] == 0, "all have passed it"
    own = source.masters.index(source.owner(slot(b"k:1")))
    target.client().hset(cks[own], "offset", source.masters[own].client().info("replication")["master_repl_offset"])
    mended = compare(source, target, repair=True, extend_expiry_s=0)
    mine = {n for n in range(60) if source.owner(slot(b"k:%d" % n)) is source.masters[own]}
    assert {item["key"] for item in mended["keys"] if item["repaired"]} == {f"k:{n}" for n in mine}
    assert {item["why"] for item in mended["keys"] if not item["repaired"]} == {"it was written to all the while"}
    assert target.client().get("k:1") == b"1"
    arrive(source, target, cks)
    assert compare(source, target, repair=True, extend_expiry_s=0)["repaired"] == 60 - len(mine)
    target.client().hset(cks[own], "offset", 1)
    target.client().set("k:1", "theirs")
    with pytest.raises(TargetError, match="far behind"):
        compare(source, target, repair=True, extend_expiry_s=0)
    assert target.client().get("k:1") == b"theirs"


def test_a_key_whose_slot_no_stream_carries_is_left_alone(
    streams: tuple[Cluster, Server, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has moved, and is being added; another stream may still write what it was before."""
    monkeypatch.setattr("workers.verify.mend.TRIES", 3)
    source, target, cks = streams
    arrive(source, target, cks)
    number = slot(b"k:1")
    own = source.masters.index(source.owner(number))
    mine = ranges(n for n, port in enumerate(source.owners()) if port == source.masters[own].port and n != number)
    whole = target.client().hget(cks[own], "extent")
    target.client().hset(cks[own], "extent", Extent.of(None, FilterSpec(), mine).text)
    mended = compare(source, target, repair=True, extend_expiry_s=0)
    left = [item for item in mended["keys"] if not item["repaired"]]
    assert [(item["key"], item["why"]) for item in left] == [("k:1", "its slot moves")]
    assert not target.client().exists("k:1")
    target.client().hset(cks[own], "extent", whole)
    assert compare(source, target, repair=True, extend_expiry_s=0)["repaired"] == 1


def test_what_a_stream_carries_is_looked_at_when_it_is_written(
    streams: tuple[Cluster, Server, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The target is told in the last moment that the slot is another's."""
    monkeypatch.setattr("workers.verify.mend.TRIES", 1)
    source, target, cks = streams
    arrive(source, target, cks)
    number = slot(b"k:1")
    own = source.masters.index(source.owner(number))
    mine = ranges(n for n, port in enumerate(source.owners()) if port == source.masters[own].port and n != number)
    whole, told = mending.written, []

    def written(*args: Any) -> bytes:
        if any(key == b"k:1" for key, _ in args[5]):
            target.client().hset(cks[own], "extent", Extent.of(None, FilterSpec(), mine).text)
        told.append(whole(*args))
        return told[-1]

    monkeypatch.setattr(mending, "written", written)
    compare(source, target, repair=True, extend_expiry_s=0)
    assert b"slots" in told
    assert not target.client().exists("k:1")


def test_a_master_that_sentinels_know() -> None:
    with Sentinels("redis-7.0", "one", "two") as sentinels:
        one, two = sentinels["one"], sentinels["two"]
        one.client().set("a", 1)
        two.client().set("b", 1)
        assert found(compare(one, two)) == [("a", "missing", None), ("b", "extra", None)]
        assert compare(one, two, repair=True)["repaired"] == 2
        assert found(compare(one, two)) == []

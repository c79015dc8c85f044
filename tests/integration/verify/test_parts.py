"""A verification cut into parts: every key is in one of them, and they find what the whole finds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import ConnectionLost, Side
from sync_tasks.verify_spec import VerifySpec
from tests.clusters import Cluster
from tests.integration.verify.copies import QUICK
from tests.servers import Server, StartServer
from workers.codec.slots_cy import slot
from workers.scope import Scope
from workers.verify import scan as scanning
from workers.verify.flux import Patience
from workers.verify.parts import SOURCE, TARGET, Piece, cut
from workers.verify.run import opened, verify_piece
from workers.verify.scan import scan
from workers.verify.sides import Sides

KEYS = 3000


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Databases of a test are cut, too."""
    monkeypatch.setattr("workers.spool.ranges.KEYS", 300)


def fill(side: Any, count: int = KEYS) -> None:
    pipe = side.pipeline(transaction=False)
    for number in range(count):
        pipe.set(f"k:{number}", number)
    pipe.execute()


def sides(source: Server | Cluster, target: Server | Cluster) -> Any:
    ends = Endpoint.parse(source.url(), Side.SOURCE), Endpoint.parse(target.url(), Side.TARGET)
    return opened(*ends, 0, VerifySpec(), Patience(pauses=QUICK, sample_s=0.2))


def found(both: Sides, pieces: list[Piece], **options: Any) -> list[tuple[str, str]]:
    options = {"repair": False, "keep_extra": False, **options}
    reports = [verify_piece(both, piece, Scope(None), lambda *_: None, **options).as_dict() for piece in pieces]
    return sorted((key["key"], key["kind"]) for report in reports for key in report["keys"])


@pytest.mark.parametrize("kind", ["redis-6.2", "redis-7.0", "valkey-8.1", "valkey-9.1"])
def test_each_key_is_in_one_part(kind: str, server: StartServer) -> None:
    source, target = server(kind), server("redis-7.0")
    fill(source.client())
    fill(source.client(db=5), 10)
    fill(target.client(), 700)
    with sides(source, target) as both:
        pieces = cut(both, Scope(None), [], extra=True)
        assert Counter((piece.side, piece.pair.source) for piece in pieces) == {
            (SOURCE, 0): 8, (SOURCE, 5): 1, (TARGET, 0): 2, (TARGET, 5): 1,
        }  # fmt: skip
        seen: Counter[bytes] = Counter()
        for piece in pieces:
            if piece.side == SOURCE and piece.pair.source == 0:
                seen.update({key for keys in scan(both.source, 0, piece.share.range) for key in keys})
        assert seen == {b"k:%d" % number: 1 for number in range(KEYS)}
        assert cut(both, Scope(None), {piece.pair for piece in pieces}, extra=True) == [], "all were cut before"
        assert {piece.side for piece in cut(both, Scope(None), [], extra=False)} == {SOURCE}


def test_they_find_and_mend_what_differs(server: StartServer) -> None:
    source, target = server("valkey-9.1"), server("valkey-9.1")
    for side in (source, target):
        fill(side.client())
    target.client().delete("k:1")
    target.client().set("k:2", "x")
    target.client().set("more", "x")
    target.client().expire("k:3", 100)
    target.client(db=9).set("elsewhere", 1)
    with sides(source, target) as both:
        pieces = cut(both, Scope(None), [], extra=True)
        wanted = [("elsewhere", "extra"), ("k:1", "missing"), ("k:2", "value"), ("k:3", "expiry"), ("more", "extra")]
        assert found(both, pieces) == wanted
        assert found(both, pieces, repair=True, keep_extra=True) == wanted
        assert target.client().get("more") == b"x"
        assert target.client().get("k:2") == b"2"
        found(both, pieces, repair=True)
        assert found(both, pieces) == []


def test_a_range_is_of_one_process(server: StartServer) -> None:
    """Another one's table has its keys in other places."""
    source, target = server("redis-7.0"), server("redis-7.0")
    fill(source.client())
    with sides(source, target) as both:
        piece = next(piece for piece in cut(both, Scope(None), [], extra=True) if piece.side == SOURCE)
    source.restart()
    with sides(source, target) as both, pytest.raises(ConnectionLost) as caught:
        found(both, [piece])
    assert caught.value.code == "restarted"


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Cluster("redis-7.0") as one:
        yield one


@pytest.mark.parametrize("back", [False, True], ids=["to a cluster", "from a cluster"])
def test_a_part_of_a_cluster_is_of_the_slots_of_a_node(
    back: bool, cluster: Cluster, server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has them by the time it is walked, and while they move."""
    other = server("redis-7.0")
    client: Any = cluster.client()
    names = [f"k:{number}" for number in range(KEYS)]
    for name in names:
        client.set(name, 1)
        other.client().set(name, 1)
    first, middle, last = sorted(cluster.masters, key=lambda node: cluster.owners().index(node.port))
    theirs = [name for name in names if cluster.owner(slot(name.encode())) is last][:4]
    planted, moved = theirs[:2], theirs[2]
    for name in planted:
        client.set(name, 2)
    ends = (cluster, other) if back else (other, cluster)
    whole = scanning._node

    def node(link: Any, place: Any, db: int, some: Any) -> Iterator[list[bytes]]:
        """When the last one is about to be walked, the first, which has been, gets slots of it."""
        if place[1] == last.port:
            for name in (planted[0], moved):
                cluster.move(slot(name.encode()), first)
        yield from whole(link, place, db, some)

    with sides(*ends) as both:
        pieces = cut(both, Scope(None), [], extra=True)
        walked = SOURCE if back else TARGET
        assert sum(piece.side == walked for piece in pieces) == 3
        cluster.move(slot(planted[1].encode()), middle)  # since they were cut
        monkeypatch.setattr(scanning, "_node", node)
        if not back:
            pieces = [piece for piece in pieces if piece.side == TARGET]
            more = f"{{{planted[0]}}}more"
            client.set(more, 1)
            assert found(both, pieces) == [(more, "extra")]
            return
        reports = [
            verify_piece(both, piece, Scope(None), lambda *_: None, repair=False, keep_extra=False)
            for piece in pieces if piece.side == SOURCE
        ]  # fmt: skip
    assert sorted(finding.key.decode() for report in reports for finding in report.findings) == sorted(planted)
    assert sum(report.compared for report in reports) >= KEYS

"""What `--repair` must not write, beside streams that stand elsewhere and for databases that are merged."""

from __future__ import annotations

from typing import Any

import pytest

from sync_tasks.errors import KeyferryError, TargetError
from tests.integration.verify.copies import caught_up, endpoints, follow
from tests.servers import Server, StartServer
from workers.scope import Scope
from workers.verify import mend
from workers.verify.findings import Finding, Kind, Pair
from workers.verify.flux import Patience
from workers.verify.mend import Mender
from workers.verify.server import Server as Asked
from workers.verify.shift import Shift
from workers.verify.sides import Sides

CK = "keyferry:0123456789abcdef:0:ck"


def mender(source: Server, target: Server, databases: dict[int, int] | None = None) -> Mender:
    ours, theirs = map(Asked, endpoints(source, target))
    return Mender(Sides(ours, theirs, Shift(0), Patience()), Scope(databases), lambda *_: None)


def differing(server: StartServer) -> tuple[Server, Server]:
    source, target = server("redis-7.0"), server("redis-7.0")
    source.client().set("n", 2)
    target.client().set("n", 1)
    return source, target


def checkpoint(target: Server, **fields: Any) -> None:
    target.client().hset(CK, mapping={"epoch": 1, "nonce": "n", "tok": "t", "held": 0, **fields})


def test_a_key_that_has_come_into_another_merged_database_stays(server: StartServer) -> None:
    source, target = server("redis-7.0"), server("redis-7.0")
    source.client(db=0).set("k", 1)
    target.client(db=0).set("k", 1)
    target.client(db=0).set("extra", 1)
    extra = [Finding(Pair(1, 0), key, Kind.EXTRA) for key in (b"k", b"extra")]
    assert mender(source, target, {0: 0, 1: 0}).mend(extra) == [(Pair(1, 0), b"extra")]
    assert target.client(db=0).get("k") == b"1"
    assert not target.client(db=0).exists("extra")


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({}, "loading"),  # the first load goes on
        ({"replid": "a" * 40, "offset": 10, "state": "loading"}, "loading"),
        ({"replid": "a" * 40, "offset": 10, "state": "streaming"}, "other-task"),
    ],
)
def test_nothing_is_written_beside_what_is_not_known(fields: dict[str, Any], code: str, server: StartServer) -> None:
    source, target = differing(server)
    checkpoint(target, **fields)
    with pytest.raises(TargetError) as caught:
        mender(source, target)
    assert caught.value.code == code
    assert target.client().get("n") == b"1"


def test_a_stream_of_the_source_before_it_was_promoted_counts(
    server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stands before an INCR, which the value at the source has in it."""
    monkeypatch.setattr(mend, "PATIENCE_S", 0.5)
    former, (source, target) = server("redis-7.0"), differing(server)
    follow(former, source)
    former.client().set("n", 2)
    caught_up(former, source)
    info = source.client().info("replication")
    source.client().execute_command("REPLICAOF", "NO", "ONE")
    checkpoint(target, replid=info["master_replid"], offset=0, state="streaming", extend=0)
    with pytest.raises(TargetError, match="far behind"):
        mender(source, target).mend([Finding(Pair(0, 0), b"n", Kind.VALUE)])
    assert target.client().get("n") == b"1"
    target.client().hset(CK, "offset", source.client().info("replication")["master_repl_offset"])
    assert mender(source, target).mend([Finding(Pair(0, 0), b"n", Kind.VALUE)]) == [(Pair(0, 0), b"n")]
    assert target.client().get("n") == b"2"


def test_a_task_with_other_expiries_in_mind_is_named(server: StartServer) -> None:
    source, target = differing(server)
    replid = source.client().info("replication")["master_replid"]
    checkpoint(target, replid=replid, offset=0, state="streaming", extend=600_000)
    with pytest.raises(KeyferryError, match="600 s later than at the source, and not 0 s"):
        mender(source, target)


def test_one_key_is_tried_as_often_as_many(server: StartServer, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = differing(server)
    tried: list[list[bytes]] = []
    monkeypatch.setattr(Mender, "_try", lambda _, __, keys: bool(tried.append(keys)))
    mender(source, target).mend([Finding(Pair(0, 0), b"n", Kind.VALUE)])
    assert len(tried) > 1

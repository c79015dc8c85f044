"""Chunks in an object store, log and keys on each host's own disk: hosts that share no directory load one snapshot."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sync_tasks import Client
from sync_tasks.names import node_lease
from sync_tasks.objects import ObjectStore
from sync_tasks.views import STORED
from tests.dataset import fill
from tests.hosts import Host, Installation
from tests.objects import BUCKET, ObjectServer, flip
from tests.scenarios.judge import equal, snapshots
from tests.servers import StartServer
from tests.slow import DAWDLING, RAW, bulk, slowed
from tests.traffic import Traffic
from tests.waiting import until
from workers.spool.stored import Stored


@pytest.fixture
def objects(here: Installation, monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectServer]:
    """The store, of which all hosts know."""
    with ObjectServer() as made:
        for name, value in made.environment.items():
            monkeypatch.setenv(name, value)
        here.settings |= {"KEYFERRY_SPOOL_URL": made.url}
        ObjectStore(f"s3://{BUCKET}")._at("")[0].mkdir(BUCKET)
        yield made


def chunks_on_disk(host: Host) -> list[Path]:
    """Whole chunk files, and what was fetched; files of keys are named otherwise."""
    return [path for path in (host.directory / "spool").rglob("*.chunk") if ".keys." not in path.name]


def of_the_store(here: Installation) -> list[dict[str, Any]]:
    """Chunks of the present snapshot."""
    gen = here.rows("node")[0]["gen"]
    return [row for row in here.rows("chunk") if row["gen"] == gen]


def at_the_end(client: Client, task: int, source: Any) -> bool:
    end = int(source.client().info("replication")["master_repl_offset"])
    progress = client.progress(task)
    return progress.in_sync and (progress.applied_offset or 0) >= end


def test_the_store_goes_away_and_an_object_decays(
    here: Installation, objects: ObjectServer, server: StartServer
) -> None:
    source, target = server("redis-7.0", config=DAWDLING), server("redis-7.0")
    fill(source.client(), 300)
    bulk(source, 8_000)
    here.controlled()
    a, b, s = here.host("a"), here.host("b"), here.host("s")
    for host in (a, b):
        host.start("worker", "--load", "1")
    s.start("worker", "--stream", "1")
    until(lambda: (a.report() + b.report() + s.report()).count("ready.") == 3, "three workers")
    store = ObjectStore(objects.url)

    with Client() as client:
        task = client.create(source.url(), target.url())
        (item,) = [one for one in client.precheck(task).items if one.id == "spool-store"]
        assert item.state == "passed", item
        with Traffic(source, clients=1, rate=300):
            client.start(task)
            until(lambda: here.rows("node")[0]["gen"] == 1, "the snapshot begins")
            objects.stop()
            until(lambda: here.rows("retry_window"), "it is said")
            (window,) = here.rows("retry_window")
            assert (window["kind"], window["side"]) == ("other", "control")
            assert "spool-store" in str(window["error"])
            assert not here.rows("node")[0]["snapshot_done"]
            with slowed(target):
                objects.start()
                until(lambda: here.rows("node")[0]["snapshot_done"], "the whole snapshot in the store")
                rows = of_the_store(here)
                assert {row["spool"] for row in rows} == {None}
                assert all(row["path"].startswith(STORED) for row in rows)
                assert chunks_on_disk(s) == [], "what is there needs no room here"
                waits = next(row for row in reversed(rows) if row["state"] == "ready")
                flip(store, str(Stored(store, Path()).here(waits["path"])))
                until(lambda: here.rows("node")[0]["gen"] == 2, "another snapshot")
            until(lambda: client.progress(task).in_sync, "in sync")
        until(lambda: at_the_end(client, task, source), "the end")
        named = [e.text for e in client.events(task)]
        assert any(Path(waits["path"]).name in text for text in named), "the file is named"
        assert snapshots(source) == 2
        equal(source, target)
        until(lambda: store.below() == [], "what is loaded goes")
        assert chunks_on_disk(a) == chunks_on_disk(b) == []
        assert "of-the-store" not in here.report() + str(here.rows("event")) + str(here.rows("task"))
        store.put(Path(__file__), f"{here.rows('task')[0]['uid']}/0/gen-3/late")
        client.suspend(task, receive=False)
        client.release(task)
        assert store.below() == [], "nothing is left"


def test_the_streams_host_dies_in_mid_load(here: Installation, objects: ObjectServer, server: StartServer) -> None:
    """Another one, which has nothing of what was received, finds in the store which keys were brought: those that the
    source has deleted meanwhile go."""
    source, target = server("redis-7.0", config=RAW), server("redis-7.0")
    fill(source.client(), 300)
    bulk(source, 15_000)
    here.controlled()
    load, a, b = here.host("load"), here.host("a"), here.host("b")
    load.start("worker", "--load", "2")
    a.start("worker", "--stream", "1")
    with Client() as client:
        task = client.create(source.url(), target.url())
        with slowed(target):
            client.start(task)
            until(lambda: here.rows("node")[0]["snapshot_done"], "the whole snapshot in the store")
            until(lambda: any(row["state"] == "done" and row["db"] == 2 for row in of_the_store(here)), "one")
            a.kill()
            assert any(row["state"] != "done" for row in of_the_store(here)), "the load was over before the kill"
            gone = [f"key:{number}" for number in range(15_000)]
            source.client(db=2).delete(*gone)
            b.start("worker", "--stream", "1")
            until(lambda: here.rows("node")[0]["gen"] == 2, "another snapshot", timeout=90)
        assert here.owner(node_lease(1)).startswith("b:")
        until(lambda: at_the_end(client, task, source), "the end")
    assert target.client(db=2).exists(*gone) == 0
    equal(source, target)


@pytest.mark.parametrize("reader", ["scan", "rdb"])
def test_other_readers(
    here: Installation, objects: ObjectServer, server: StartServer, reader: str, tmp_path: Path
) -> None:
    """Ranges that load workers read, a value that is too large to be with others, the chunks of a file; all sealed."""
    here.settings |= {"KEYFERRY_SPOOL_ENCRYPT": "1"}
    source, target = server("redis-7.0"), server("redis-7.0")
    fill(source.client(), 1000)
    bulk(source, 45_000, size=20)
    source.client().rpush("long", *(bytes([97 + number % 26]) * 100_000 for number in range(100)))
    source.client().save()
    (tmp_path / "dump.rdb").write_bytes((source.dir / "dump.rdb").read_bytes())
    here.controlled()
    load, stream = here.host("load"), here.host("stream")
    load.start("worker", "--load", "2")
    stream.start("worker", "--stream", "1")
    with Client() as client:
        url = source.url() if reader == "scan" else str(tmp_path / "dump.rdb")
        task = client.create(url, target.url(), reader=reader, sync_types=["full"])
        client.start(task)
        until(lambda: here.rows("task")[0]["state"] == "finished", "it has ended by itself")
        assert all(row["path"].startswith(STORED) and ".sealed." in row["path"] for row in here.rows("chunk"))
        assert len({row["db"] for row in here.rows("chunk")}) > 1
        until(lambda: ObjectStore(objects.url).below() == [], "what is loaded goes")
    assert chunks_on_disk(load) == chunks_on_disk(stream) == []
    equal(source, target, extended_ms=0)

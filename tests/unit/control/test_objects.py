"""What a store says becomes a typed error without secrets; what is there comes back."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from billiard.exceptions import WorkerLostError

from sync_tasks import names, objects
from sync_tasks.errors import ControlError, Retry, SpoolFull, StoreAway, UsageError
from sync_tasks.objects import ObjectStore
from sync_tasks.precheck.items import item_of
from sync_tasks.settings import Settings
from tests.objects import ObjectServer, flip
from workers import tasks

SECRET = "of-the-store"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Any:
    with ObjectServer() as made:
        for name, value in made.environment.items():
            monkeypatch.setenv(name, value)
        yield made


@pytest.fixture
def store(server: ObjectServer) -> ObjectStore:
    ObjectStore("s3://spool")._at("")[0].mkdir("spool")
    return ObjectStore(server.url)


@pytest.mark.parametrize("size", [0, 10, 70 << 20])
def test_files_of_any_size_come_back(store: ObjectStore, tmp_path: Path, size: int) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    there.write_bytes(os.urandom(size))
    store.put(there, "a/b/file")
    assert store.get("a/b/file", here)
    assert here.read_bytes() == there.read_bytes()
    assert not store.get("a/b/other", here)


def test_names_below_and_what_is_removed(store: ObjectStore, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    for name in ("a/1/x", "a/1/y", "a/11/x", "b/x"):
        store.put(tmp_path / "file", name)
    assert (store.below(), store.below("a"), store.below("none")) == (["a", "b"], ["1", "11"], [])
    store.remove("a/1")
    store.remove("a/1")
    assert store.below("a") == ["11"], "and not what begins alike"


def test_a_store_can_be_tried(store: ObjectStore, server: ObjectServer) -> None:
    store.try_out()
    assert store.below() == []
    with pytest.raises(StoreAway, match="FileNotFoundError") as caught:
        ObjectStore("s3://no-such-bucket/x").try_out()
    assert (caught.value.code, caught.value.retry) == ("spool-store", Retry.OTHER)
    server.stop()
    with pytest.raises(StoreAway) as caught:
        store.try_out()
    assert SECRET not in caught.value.line()
    server.start()
    store.try_out()


def test_a_store_that_is_silent_is_away(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It takes connections, and what is sent, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for name, value in ObjectServer().environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setattr(objects, "PATIENCE_S", 0.5)
        monkeypatch.setattr(objects, "REMOVAL_S", 0.5)
        monkeypatch.setattr(objects, "SLOWEST", 1 << 40)
        store, small, large = ObjectStore("s3://spool"), tmp_path / "small", tmp_path / "large"
        small.write_bytes(b"x")
        large.write_bytes(bytes(objects.WHOLE_BYTES + 1))
        for ask in (
            lambda: store.put(small, "x"), lambda: store.put(large, "x"), lambda: store.get("x", small), store.below,
            lambda: store.remove("x"),
        ):  # fmt: skip
            with pytest.raises(StoreAway, match="Timeout"):
                ask()


def test_a_full_disk_here_is_not_the_stores_fault(
    store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system, _ = store._at("")

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "no room")

    monkeypatch.setattr(system, "get_file", full)
    with pytest.raises(SpoolFull):
        store.get("x", tmp_path / "x", 1)


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StoreAway, match="cannot be opened here") as caught:
        ObjectStore("gs://bucket").below()
    assert "install" in caught.value.hint


@pytest.mark.parametrize(
    "url",
    [
        "s3", "s3://", "s3:///", "s3://who:secret@bucket", "s3://who:a/secret@bucket", "sftp://who:secret@host/x",
        "s3://b?key=secret",
    ],
)  # fmt: skip
def test_urls_that_are_refused(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        Settings(spool_url=url)
    assert "secret" not in caught.value.line()


@pytest.mark.parametrize("url", ["s3://bucket", "abfs://container@account/place", "file:///srv/store"])
def test_urls_that_are_taken(url: str) -> None:
    assert Settings(spool_url=url).spool_url == url


def test_the_precheck_tries_it(tmp_path: Path) -> None:
    from sync_tasks.endpoints import Endpoint
    from sync_tasks.errors import Side
    from sync_tasks.precheck.scene import Scene

    ends = Endpoint.parse("redis://a", Side.SOURCE), Endpoint.parse("redis://b", Side.TARGET)
    item = item_of("spool-store")
    assert item.ask(Scene(*ends)).finding == "skipped"
    assert item.ask(Scene(*ends, store=ObjectStore(f"file://{tmp_path}/store"))).finding == "passed"
    (tmp_path / "file").touch()
    with pytest.raises(ControlError):
        item.ask(Scene(*ends, store=ObjectStore(f"file://{tmp_path}/file/store")))
    scene = Scene(*ends, store=ObjectStore("file:///x"), known={Side.SOURCE: None})  # type: ignore[dict-item]
    assert item_of("spool-space").ask(scene).finding == "skipped"


def test_one_flipped_bit(store: ObjectStore, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(9))
    store.put(tmp_path / "file", "x")
    flip(store, "x")
    store.get("x", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == bytes(4) + b"\x01" + bytes(4)


def test_a_workers_main_process_has_no_thread_that_imports_while_it_forks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A process that is forked meanwhile waits for ever for the lock of a module that its parent's thread had."""
    swept: list[object] = []
    store = SimpleNamespace(owners=lambda *_a, **_k: [], revoked=lambda *_: None, ended=lambda _: set())
    monkeypatch.setattr(tasks.Store, "of", lambda *_: store)
    monkeypatch.setattr(tasks, "sweep_store", lambda *given: swept.append(given))
    settings = Settings(state_dir=tmp_path, spool_url=f"file://{tmp_path}/store", host="h")
    app = SimpleNamespace(keyferry_settings=settings, keyferry_post=SimpleNamespace(send=None))
    for tell in (
        lambda: tasks._died(SimpleNamespace(app=app), exception=WorkerLostError()),
        lambda: tasks._revoked(SimpleNamespace(app=app, name=names.LOAD), SimpleNamespace(args=[1])),
    ):
        monkeypatch.setattr(tasks, "_stores", {})
        tell()
        assert tasks._stores, "it has looked"
        assert swept == []
    monkeypatch.setattr(tasks, "_stores", {})
    tasks._store(app)
    assert len(swept) == 1, "each process of the pool looks"

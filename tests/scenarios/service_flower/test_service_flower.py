"""The real Flower beside a real sync: what it shows, to whom, and what it outlives."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sync_tasks.supervise.service import STOP_WITHIN_S
from tests.dataset import fill
from tests.halting import halt
from tests.run_up import Up
from tests.scenarios.judge import equal
from tests.servers import StartServer
from tests.slow import RAW, bulk
from tests.waiting import until

Tasks = dict[str, dict[str, Any]]


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Up]:
    with Up(tmp_path / "state", "--flower", "--stream", "2") as made:
        yield made


def named(tasks: Tasks, name: str, state: str) -> list[dict[str, Any]]:
    return [task for task in tasks.values() if (task["name"], task["state"]) == (name, state)]


def test_workers_and_jobs_are_seen_by_who_knows_the_password(service: Up, server: StartServer) -> None:
    source, target = server("redis-7.0"), server("redis-7.0")
    fill(source.client(), 1000)
    service.wait_ready()

    for path in ("/api/workers", "/api/tasks", "/workers", "/tasks", "/"):
        assert service.flower_status(path) == 401, path
        assert service.flower_status(path, Authorization="Basic a2V5ZmVycnk6eA==") == 401, path
    until(lambda: len(service.flower("/api/workers")) == 2, "both workers with their details")
    workers = service.flower("/api/workers")
    assert sorted(name.split("@")[0] for name in workers) == ["load", "stream"]
    assert all(service.flower("/api/workers?status=1").values())

    task = service.add_task(source.url(), target.url())
    (stream,) = until(lambda: named(service.flower("/api/tasks"), "stream.follow", "STARTED"), "the stream")
    assert stream["worker"].startswith("stream@")
    assert until(lambda: named(service.flower("/api/tasks"), "load.chunk", "SUCCESS"), "a chunk that is loaded")
    source.client().set("last", "word")
    until(lambda: target.client().get("last"), "the last write")
    store = service.store()
    until(lambda: all(node.in_sync and node.settled for node in store.nodes(task)), "in sync", timeout=60)
    store.dispose()
    begin = time.monotonic()
    assert service.stop() == 130
    assert time.monotonic() - begin < STOP_WITHIN_S, "the stream was not asked to end at a checkpoint"
    equal(source, target)


def test_it_is_replaced_at_the_same_address_and_sees_what_goes_on(service: Up, server: StartServer) -> None:
    source, target = server("redis-7.0"), server("redis-7.0")
    service.wait_ready()
    service.add_task(source.url(), target.url())
    until(lambda: named(service.flower("/api/tasks"), "stream.follow", "STARTED"), "the stream")

    service.one("flower").kill()
    until(lambda: len(service.flower("/api/workers")) == 2, "both workers, after Flower's death")

    service.kill("broker")
    killed = time.time()

    def beating() -> bool:
        beats = [max(worker["heartbeats"], default=0) for worker in service.flower("/workers?json=1")["data"]]
        return len(beats) == 2 and min(beats) > killed + 0.5

    until(beating, "both workers, after the broker's death")
    assert all(service.flower("/api/workers?status=1").values())

    # A silent worker is offline after two missed beats, and online again when it wakes up.
    worker = service.one("load worker")
    halt(worker, service.state / "keyferry.db")
    until(lambda: sorted(service.flower("/api/workers?status=1").values()) == [False, True], "one offline")
    worker.resume()
    until(lambda: all(service.flower("/api/workers?status=1").values()), "both online")
    assert service.stop() == 130


def test_the_brokers_password_is_on_no_page_and_in_no_log(tmp_path: Path, server: StartServer) -> None:
    secret = "s3cret-of-the-broker"
    broker = server("valkey-9.1", config={"requirepass": secret})
    url = f"redis://:{secret}@127.0.0.1:{broker.port}"
    with Up(tmp_path / "state", "--flower", "--stream", "1", env={"KEYFERRY_BROKER_URL": url}) as service:
        service.wait_ready()
        until(lambda: len(service.flower("/api/workers")) == 2, "both workers")
        names = list(service.flower("/api/workers"))
        pages = ("/workers", "/tasks", "/broker", "/api/workers?refresh=1", *(f"/worker/{name}" for name in names))
        for page in pages:
            text = service.flower_page(page)
            assert secret not in text, page
        assert "kf.load" in service.flower_page("/broker")
        assert service.stop() == 130
    for path in (tmp_path / "state").rglob("*"):
        assert not path.is_file() or secret.encode() not in path.read_bytes(), path


def test_progress_is_shown_and_a_revoke_suspends_the_task(service: Up, server: StartServer) -> None:
    source, target = server("redis-7.0"), server("redis-7.0")
    fill(source.client(), 1000)
    service.wait_ready()
    task_id = service.add_task(source.url(), target.url())

    def following() -> list[dict[str, Any]]:
        found = named(service.flower("/api/tasks"), "stream.follow", "STARTED")
        return [stream for stream in found if "in sync" in str(stream["result"])]

    (stream,) = until(following, "the stream's own words")
    assert stream["args"].endswith("'node 0')")
    assert any(
        "chunk 1" in task["args"] for task in service.flower("/api/tasks").values() if task["name"] == "load.chunk"
    )

    service.flower_post(f"/api/task/revoke/{stream['uuid']}?terminate=true")
    until(lambda: service.flower(f"/api/task/info/{stream['uuid']}")["state"] == "REVOKED", "revoked in Flower")
    store = service.store()
    until(lambda: store.task(task_id).state == "suspended", "suspended")
    assert any("revoked" in event.text for event in store.events(task_id))
    source.client().set("while", "it rests")
    time.sleep(5)  # longer than a lease lives: nobody takes it up
    assert not store.owned(task_id)
    assert target.client().get("while") is None
    store.resume(task_id)
    until(lambda: target.client().get("while"), "it goes on")
    store.dispose()
    assert service.stop() == 130
    equal(source, target)


def test_a_chunk_shows_how_far_it_is(service: Up, server: StartServer) -> None:
    source, target = server("redis-7.0", config=RAW), server("redis-7.0")
    bulk(source, 20_000)
    service.wait_ready()

    def told() -> list[str]:
        """What chunks in mid-load say."""
        said = [str(task["result"]) for task in named(service.flower("/api/tasks"), "load.chunk", "STARTED")]
        return [text for text in said if re.search(r"chunk \d+ of \d+: \d+ of \d+ keys", text)]

    task_id = service.add_task(source.url(), target.url())
    store = service.store()
    until(lambda: store.chunks(task_id), "a first chunk")
    target.pause()  # what is in hand now stays there
    (text, *_) = until(told, "a chunk's progress")
    target.resume()
    chunks = len(store.chunks(task_id))
    store.dispose()
    found = re.search(r"chunk (\d+) of (\d+): (\d+) of (\d+) keys", text)
    assert found is not None
    which, total, keys, all_keys = map(int, found.groups())
    assert 1 <= which <= total == chunks
    assert keys <= all_keys

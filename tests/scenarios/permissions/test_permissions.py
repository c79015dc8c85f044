"""Users with the least that `keyferry task check` tells are enough for all of a task."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sync_tasks import Client, TaskState
from sync_tasks.errors import Side
from sync_tasks.precheck.grants import USER, line
from tests.dataset import fill
from tests.run_up import Up
from tests.scenarios.judge import equal, verified
from tests.servers import Server, StartServer
from tests.traffic import Traffic
from tests.waiting import until

PASSWORD = "s3cret"
NAMES = ("acl", "acl|whoami", "config", "config|get")
ASKED = {*NAMES, *(name.encode() for name in NAMES)}


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Up]:
    with Up(tmp_path / "state", "--stream", "1") as made:
        made.wait_ready()
        yield made


def grant(server: Server, side: Side) -> str:
    """Make the user; its URL."""
    server.client().execute_command(*line(side, server.version, PASSWORD).split())
    return server.url().replace("redis://", f"redis://{USER}:{PASSWORD}@")


def denied(server: Server) -> set[bytes]:
    """What the user was not allowed, but for what the precheck would have liked to know."""
    log = server.client().execute_command("ACL", "LOG")
    entries = [entry if isinstance(entry, dict) else dict(zip(entry[::2], entry[1::2], strict=True)) for entry in log]
    said = {(e.get(b"object") or e.get("object"), e.get(b"username") or e.get("username")) for e in entries}
    return {name for name, user in said if user in (USER, USER.encode())} - ASKED


@pytest.mark.parametrize(
    ("source_kind", "target_kind"),
    [("redis-7.0", "valkey-9.1"), ("redis-6.2", "redis-6.2"), ("valkey-9.1", "redis-7.0")],
)
def test_they_are_enough(source_kind: str, target_kind: str, server: StartServer, service: Up) -> None:
    source, target = server(source_kind), server(target_kind)
    ends = grant(source, Side.SOURCE), grant(target, Side.TARGET)
    fill(source.client(), 1000)
    mix = "uncopied-9" if source_kind == "valkey-9.1" else "all"
    with Client(service.state) as client:
        task = client.create(*ends)
        client.ignore(task, ["value-types"])
        with Traffic(source, clients=2, rate=1500, mix=mix):
            client.start(task)
            until(lambda: client.get(task).state is TaskState.SYNCHRONIZING, "it follows", 60)
            time.sleep(2)
            service.kill("stream worker", child=True)
            time.sleep(2)
            target.client().config_set("maxmemory", 1)
            time.sleep(0.5)
            target.client().config_set("maxmemory", 0)
            time.sleep(1)
        until(lambda: client.progress(task).in_sync, "in sync", 60)
        equal(source, target)
        client.finish(task)
        verified(source, target, extended_ms=0)
        client.release(task)
    assert (denied(source), denied(target)) == (set(), set())

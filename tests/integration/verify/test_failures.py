"""Connections that break, servers that restart or refuse, and memory."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from typing import Any

import pytest

from sync_tasks.errors import ConnectionLost, CredentialsRefused, Side
from tests.integration.verify.copies import compare, endpoints, follow
from tests.servers import Server, StartServer
from workers.verify import verify

MEMORY_LIMIT_MB = 150

MEASURE = """
import re, sys
from pathlib import Path
from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import Side
from workers.verify import verify
report = verify(Endpoint.parse(sys.argv[1], Side.SOURCE), Endpoint.parse(sys.argv[2], Side.TARGET), extend_expiry_s=0)
assert report.equal and report.compared == 4, report
# Not ru_maxrss: that begins with what the forking test process had.
print(int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024)
"""


def filled(server: StartServer, keys: int = 20_000) -> tuple[Server, Server]:
    source, target = server("redis-7.0"), server("redis-7.0")
    source.client().execute_command("DEBUG", "POPULATE", keys, "key", 50)
    follow(source, target)
    return source, target


@pytest.mark.parametrize("side", [Side.SOURCE, Side.TARGET])
def test_cut_connections_are_made_again(server: StartServer, side: Side) -> None:
    source, target = filled(server)
    cut: list[int] = []

    def progress(phase: str, done: int, total: int) -> None:
        if done // 6000 > len(cut):
            client = (source if side is Side.SOURCE else target).client()
            cut.append(client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"))

    report = compare(source, target, extend_expiry_s=0, progress=progress)

    assert sum(cut) >= 3
    assert report["keys"] == []
    assert report["compared"] >= 20_000


@pytest.mark.parametrize("side", [Side.SOURCE, Side.TARGET])
def test_a_restarted_server_ends_it(server: StartServer, side: Side) -> None:
    """Its cursors mean nothing any more: keys might be left out in silence."""
    source, target = filled(server)
    done_once = []

    def progress(phase: str, done: int, total: int) -> None:
        if not done_once:
            done_once.append(done)
            (source if side is Side.SOURCE else target).restart(save=True)

    with pytest.raises(ConnectionLost) as caught:
        compare(source, target, extend_expiry_s=0, progress=progress)

    assert caught.value.code == "restarted"
    assert caught.value.side is side


def test_a_server_that_stays_away_is_named(server: StartServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.verify.link.PAUSES_S", (0.1, 0.1))
    source, target = filled(server)

    with pytest.raises(ConnectionLost) as caught:
        compare(source, target, extend_expiry_s=0, progress=lambda *_: target.kill())

    assert caught.value.side is Side.TARGET


def test_a_pause_of_the_target_is_waited_out(server: StartServer) -> None:
    source, target = filled(server)
    target.pause()
    threading.Timer(1.0, target.resume).start()

    began = time.monotonic()
    assert compare(source, target, extend_expiry_s=0)["keys"] == []
    assert time.monotonic() - began > 0.5


@pytest.mark.parametrize(
    ("user", "message"),
    [(["+@all", "-dump", "~*"], "dump"), (["+@all", "-memory", "~*"], "memory"), (["+@all", "~other"], "key")],
    ids=["no DUMP", "no MEMORY", "no keys"],
)
def test_a_missing_permission_is_named_and_no_secret(server: StartServer, user: list[str], message: str) -> None:
    source, target = filled(server, 10)
    target.client().execute_command("ACL", "SETUSER", "reader", "on", ">very-secret", *user)
    ours, theirs = endpoints(source, target)
    theirs = type(theirs).parse(f"redis://reader:very-secret@127.0.0.1:{target.port}", Side.TARGET)


    with pytest.raises(CredentialsRefused) as caught:
        verify(ours, theirs, extend_expiry_s=0)

    assert caught.value.side is Side.TARGET
    assert message in caught.value.message.lower()
    assert "secret" not in caught.value.line()


def test_memory_does_not_depend_on_the_size_of_values(server: StartServer) -> None:
    """A hash, a string, a list and a stream of some 100 MB each."""
    source, target = server("redis-7.0"), server("redis-7.0")
    client: Any = source.client()
    client.setrange("string", 100_000_000, "end")
    for start in range(0, 1000, 100):
        pipe = client.pipeline(transaction=False)
        for i in range(start, start + 100):
            pipe.hset("hash", mapping={f"field {i}:{j}": "x" * 80 for j in range(1000)})
            pipe.rpush("list", *(f"item {i}:{j} " + "x" * 80 for j in range(1000)))
            for j in range(100):
                pipe.xadd("stream", {"f": "x" * 900}, id=f"{i + 1}-{j}")
        pipe.execute()
    follow(source, target)

    command = [sys.executable, "-c", MEASURE, source.url(), target.url()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)

    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < MEMORY_LIMIT_MB

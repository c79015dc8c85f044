"""The source wrote more than its backlog holds while nobody followed: that is said, and nothing is touched."""

from __future__ import annotations

from tests.dataset import fill
from tests.scenarios.conftest import StartFerry
from tests.servers import Server, StartServer

WRITTEN = 5 << 20  # bytes
BLOCK = 1 << 16


def contents(server: Server) -> dict[tuple[int, bytes], bytes | None]:
    """Every key that is not ours, as the server dumps it."""
    found = {}
    for db in range(16):
        with server.client(db=db) as client:
            keys = [key for key in client.scan_iter(count=1000) if not key.startswith(b"keyferry:")]
            found.update({(db, key): client.dump(key) for key in keys})
    return found


def test_it_cannot_continue(server: StartServer, ferry: StartFerry) -> None:
    source, target = server("redis-7.0", config={"repl-backlog-size": "256kb"}), server("redis-7.0")
    fill(source.client(), 300)
    run = ferry(source, target)
    run.wait_in_sync()
    run.kill_tree()
    client = source.client()
    for number in range(WRITTEN // BLOCK):
        client.set(f"block:{number}", bytes(BLOCK))

    before = contents(target)
    run = ferry(source, target)
    assert run.wait() == 3, run.report()

    error = run.last["error"]
    assert run.last["phase"] == "failed"
    assert (error["code"], error["side"]) == ("cannot-continue", "source")
    assert "repl-backlog-size" in error["hint"]
    assert run.errors.startswith("keyferry: source: ")
    assert error["hint"] in run.errors
    assert contents(target) == before

"""Somebody else writes to the target, until it refuses a command of the stream: the task stops and names it."""

from __future__ import annotations

import re

from tests.scenarios.conftest import StartFerry
from tests.servers import Server, StartServer


def offset(source: Server) -> int:
    return int(source.client().info("replication")["master_repl_offset"])


def test_the_command_is_named(server: StartServer, ferry: StartFerry) -> None:
    source, target = server("redis-7.0"), server("redis-7.0")
    source.client().set("stock", 1)
    run = ferry(source, target)
    run.wait_in_sync()

    target.client().delete("stock")
    target.client().rpush("stock", "foreign")
    before = offset(source)
    source.client().execute_command("INCR", "stock")
    assert run.wait() == 4

    error = run.last["error"]
    assert run.last["phase"] == "failed"
    assert (error["code"], error["side"]) == ("refused-command", "target")
    said = re.search(r"INCR stock of the stream at offset (\d+): WRONGTYPE", error["message"])
    assert said, error
    assert before <= int(said[1]) < offset(source)
    assert error["hint"]
    assert error["message"] in run.errors
    assert target.client().lrange("stock", 0, -1) == [b"foreign"]

    again = ferry(source, target)
    assert again.wait() == 4
    assert again.last["error"]["code"] == "refused-command"

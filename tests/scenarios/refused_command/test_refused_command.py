"""Somebody else writes to the target, until it refuses commands of the stream: their keys are copied anew."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.run_keyferry import Keyferry
from tests.scenarios.conftest import StartFerry
from tests.scenarios.judge import equal, snapshots
from tests.servers import Server, StartServer

ROUNDS = 8


def events(state: Path) -> list[str]:
    command = [sys.executable, "-m", "sync_tasks.cli.main", "task", "events", "1", "--json"]
    done = subprocess.run([*command, "--state", str(state)], capture_output=True, text=True, check=True)
    return [json.loads(line)["text"] for line in done.stdout.splitlines()]


def spoil(target: Server, key: str) -> None:
    with target.client() as client, client.pipeline(transaction=True) as pipe:
        pipe.delete(key)
        pipe.rpush(key, "foreign")
        pipe.execute()


def test_the_command_is_named_and_its_key_copied(server: StartServer, ferry: StartFerry, tmp_path: Path) -> None:
    source, target = server("redis-7.0"), server("redis-7.0")
    source.client().set("stock", 1)
    run = ferry(source, target)
    run.wait_in_sync()

    spoil(target, "stock")
    before = int(source.client().info("replication")["master_repl_offset"])
    source.client().execute_command("INCR", "stock")
    run.settle(source)

    equal(source, target)
    assert target.client().get("stock") == b"2"
    assert snapshots(source) == 1
    what = r"INCR stock of the stream at offset (\d+): WRONGTYPE"
    [offset] = [int(found[1]) for text in events(tmp_path / "state") if (found := re.search(what, text))]
    assert before <= offset <= int(source.client().info("replication")["master_repl_offset"])


@pytest.mark.parametrize("kind", ["redis-6.2", "valkey-9.1"])
@pytest.mark.parametrize("killed", [False, True], ids=["alive", "killed"])
def test_among_commands_that_carry_the_foreign_value_on(
    kind: str, killed: bool, server: StartServer, ferry: StartFerry
) -> None:
    """A hot loop of COPY, RENAME, SUNIONSTORE and LMOVE joins spoilt keys with others, while they are copied anew."""
    source, target = server(kind), server(kind)
    rng = random.Random(7)
    with source.client() as client:
        client.mset({f"n{i}": i for i in range(10)})
        client.rpush("l0", *range(50))
        run = ferry(source, target)
        for turn in range(ROUNDS):
            run.settle(source)
            key = f"n{turn}"
            spoil(target, key)
            hot(source, key, rng, run if killed else None)
    run.settle(source)
    equal(source, target)
    assert snapshots(source) == 1


def hot(source: Server, key: str, rng: random.Random, killed: Keyferry | None) -> None:
    """Write to the spoilt key, then much that joins it with others."""
    with source.client() as client:
        for burst in range(20):
            with client.pipeline(transaction=False) as pipe:
                pipe.execute_command("INCR", key)
                for _ in range(100):
                    i, j = rng.randrange(10), rng.randrange(10)
                    pipe.execute_command("INCR", f"n{i}")
                    pipe.execute_command("COPY", key, f"copy{j}", "REPLACE")
                    pipe.execute_command("RENAME", f"copy{j}", f"renamed{i}")
                    pipe.execute_command("APPEND", f"renamed{i}", "x")
                    pipe.execute_command("LMOVE", f"l{i}", f"l{j}", "LEFT", "RIGHT")
                    pipe.execute_command("SADD", f"s{i}", key, i)
                    pipe.execute_command("SUNIONSTORE", f"s{j}", f"s{i}", f"s{j}")
                pipe.execute(raise_on_error=False)
            if killed is not None and burst == 10:
                killed.kill("stream worker", child=True)

"""The walk-through of docs/accounts.md: from nothing to a sync between two accounts, and its end by the owner."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from tests.dataset import fill
from tests.run_up import Up
from tests.servers import StartServer
from tests.waiting import until

Keyferry = Callable[..., str]
PASSWORD = "s3cret-of-alpha"


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Up]:
    with Up(tmp_path / "state", "--stream", "1") as made:
        made.wait_ready()
        yield made


@pytest.fixture
def keyferry(service: Up) -> Keyferry:
    """The command line, as an account; what it says. Fails with what it says when it fails, unless told not to."""

    def run(account: str, *words: str, fails: bool = False) -> str:
        env = {**os.environ, "KEYFERRY_ACCOUNT": account}
        command = [sys.executable, "-m", "sync_tasks.cli.main", *words, "--state", str(service.state)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=90, env=env)
        assert bool(done.returncode) == fails, done.stdout + done.stderr
        assert PASSWORD not in done.stdout + done.stderr
        return done.stdout + done.stderr

    return run


def test_from_nothing_to_a_sync_and_its_end(server: StartServer, service: Up, keyferry: Keyferry) -> None:
    source, target = server("redis-7.0"), server("valkey-9.1")
    source.client().config_set("requirepass", PASSWORD)
    admin = source.client(password=PASSWORD)
    fill(admin, 500)
    theirs = "instance://orders?account=alpha&role=for-beta"

    keyferry("", "account", "add", "alpha")
    keyferry("", "account", "add", "beta")
    keyferry("alpha", "instance", "add", "orders", source.url().replace("redis://", f"redis://:{PASSWORD}@"))
    keyferry("beta", "instance", "add", "orders", target.url())
    denied = keyferry("beta", "task", "check", "--source", theirs, fails=True)
    assert "there is no role for-beta" in denied

    keyferry("alpha", "role", "set", "for-beta", "--trust", "beta", "--policy", "KeyferryReadSource")
    assert "Redis 7.0" in keyferry("beta", "task", "check", "--source", theirs, "--target", "instance://orders")
    keyferry("beta", "task", "create", "--name", "orders-move", "--start", theirs, "instance://orders")
    until(lambda: task(keyferry)["state"] == "synchronizing", "it follows", 60)
    assert json.loads(keyferry("alpha", "task", "list", "--json")) == []
    assert "there is no task orders-move" in keyferry("alpha", "task", "suspend", "orders-move", fails=True)
    admin.set("written", "by alpha")
    until(lambda: target.client().get("written") == b"by alpha", "it is carried", 20)

    keyferry("alpha", "role", "remove", "for-beta")
    over_now(service)
    until(lambda: task(keyferry)["state"] == "failed", "the next renewal ends it", 30)
    assert "there is no role for-beta" in task(keyferry)["error"]["message"]
    entries = json.loads(keyferry("alpha", "account", "audit", "--json"))
    assert {entry["actor"] for entry in entries} == {"beta"}
    assert [entry["allowed"] for entry in entries] == [False, True, True, True, False]
    assert "there is no role" in keyferry("beta", "task", "resume", "orders-move", fails=True)

    admin.set("written", "meanwhile")
    keyferry("alpha", "role", "set", "for-beta", "--trust", "beta", "--policy", "KeyferryReadSource")
    keyferry("beta", "task", "resume", "orders-move")
    until(lambda: target.client().get("written") == b"meanwhile", "it goes on", 30)


def task(keyferry: Keyferry) -> dict[str, dict[str, str]]:
    (found,) = json.loads(keyferry("beta", "task", "show", "orders-move", "--json"))
    assert isinstance(found, dict)
    return found


def over_now(service: Up) -> None:
    """The quarter of an hour for which a grant holds is over."""
    with create_engine(f"sqlite:///{service.state}/keyferry.db").begin() as connection:
        connection.execute(text("UPDATE grant_of_role SET until = 0"))

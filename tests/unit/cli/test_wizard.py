"""`keyferry task create` without addresses: what is asked, what is told of wrong answers, what comes of it."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sync_tasks import Client
from sync_tasks.cli import wizard
from tests.servers import Server, start


@pytest.fixture
def servers() -> Iterator[tuple[Server, Server]]:
    with start("redis-7.0") as source, start("redis-7.0") as target:
        yield source, target


class Answers:
    """Answers by parts of the questions, in their order; the usual one to all others."""

    def __init__(self, *pairs: tuple[str, str]) -> None:
        self.pairs = list(pairs)
        self.said: list[str] = []

    def __call__(self, question: str, usual: str) -> str:
        if self.pairs and self.pairs[0][0] in question:
            return self.pairs.pop(0)[1]
        return usual


def asked(client: Client, *pairs: tuple[str, str]) -> tuple[tuple[str, str, dict[str, object]], list[str]]:
    answers = Answers(*pairs)
    found = wizard.ask(client, answers, answers.said.append)
    assert not answers.pairs, "all were asked for"
    return found, answers.said


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    with Client(tmp_path / "state") as made:
        yield made


def test_whoever_gives_no_answers_gets_what_is_usual(client: Client, servers: tuple[Server, Server]) -> None:
    here, there = (server.url() for server in servers)
    found, said = asked(client, ("Source", here), ("Target", there))
    assert found == (here, there, {})
    assert sum("Redis 7.0, master" in line for line in said) == 2


def test_settings_are_asked_for_and_what_is_wrong_is_told(client: Client, servers: tuple[Server, Server]) -> None:
    here, there = (server.url() for server in servers)
    client.add_instance("orders", here)
    found, said = asked(
        client,
        ("Source", "redis://127.0.0.1:1"), ("Take it all the same", "no"), ("Source", "instance://orders"),
        ("Target", there),
        ("Name", "move"), ("If the target", "overwrite"), ("If the target", "ignore-and-proceed"),
        ("Databases", '{ "0" = 3, "1" = 3 }'), ("begin so alone", '["orders:"]'), ("Commands", '["select"]'),
        ("Commands", '["FLUSHALL"]'), ("Advanced", "yes"), ("failed connections", "5"), ("failed connections", "60"),
        ("Instance class", "small"),
    )  # fmt: skip
    source, target, table = found
    assert (source, target) == ("instance://orders", there)
    task = client.create(source, target, **table)
    spec = task.settings
    assert (task.name, spec.conflict_mode, spec.databases) == ("move", "ignore-and-proceed", {0: 3, 1: 3})
    assert (spec.filter.allow_prefixes, spec.filter.block_commands) == (["orders:"], ["FLUSHALL"])
    assert (spec.retry.connection_min, spec.retry.other_min, spec.instance_class) == (60, 10, "small")
    assert "Registered: instance://orders" in said
    for wrong in ("connection refused", "overwrite", "select", "10..1440"):
        assert any(wrong in line for line in said), wrong


def test_on_a_terminal(tmp_path: Path, servers: tuple[Server, Server]) -> None:
    here, there = (server.url() for server in servers)
    ours, theirs = pty.openpty()
    env = {**os.environ, "TERM": "dumb"}
    command = [sys.executable, "-m", "sync_tasks.cli.main", "task", "create", "--state", str(tmp_path / "state")]
    answers = [here, there, "orders-move", *[""] * 5, "", "y", ""]
    with subprocess.Popen(command, stdin=theirs, stderr=theirs, stdout=subprocess.PIPE, env=env, text=True) as process:
        os.close(theirs)
        os.write(ours, "".join(f"{answer}\n" for answer in answers).encode())
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 0, out
    assert re.search(r"keyferry task create --name orders-move redis://\S+ redis://\S+", out)
    assert "orders-move: task 1 is made" in out
    with Client(tmp_path / "state") as client:
        assert [task.name for task in client.list()] == ["orders-move"]


def test_elsewhere_the_addresses_are_needed(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sync_tasks.cli.main", "task", "create", "--state", str(tmp_path / "state")]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30)
    assert done.returncode == 2
    assert "the addresses are missing" in done.stderr

"""Servers that are known by a name, and the keys that seal them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sync_tasks import Client, ControlError, KeyferryError, Side, UsageError
from sync_tasks.secrets import new_key
from tests.servers import start
from tests.unit.client.conftest import TARGET

OLD = "redis://keyferry:hush-1@old.example:6379"
NEW = "redis://keyferry:hush-2@old.example:6379"


def urls(client: Client, task: Any) -> tuple[str, str]:
    source, target = client._sealing().endpoints(task.id)
    return source.url(), target.url()


def test_a_task_is_made_of_an_instance(client: Client) -> None:
    made = client.add_instance("orders-old", OLD)
    assert (made.name, made.url, made.tasks) == ("orders-old", "redis://keyferry:***@old.example:6379", 0)
    task = client.create("instance://orders-old/3", TARGET, databases={3: 0})
    assert task.source == "redis://keyferry:***@old.example:6379/3"
    assert urls(client, task)[0] == f"{OLD}/3"
    assert [one.tasks for one in client.instances()] == [1]
    whole = client.create(TARGET, "instance://orders-old")
    assert whole.target == "redis://keyferry:***@old.example:6379"
    assert "hush" not in repr(client.instances()) + repr(client.list())


def test_its_tasks_have_its_new_credentials(client: Client) -> None:
    client.add_instance("a", OLD)
    one, other = client.create("instance://a/3", TARGET), client.create(TARGET, "instance://a")
    typed = client.create(OLD, TARGET)
    client.add_instance("a", NEW)
    assert urls(client, one) == (f"{NEW}/3", urls(client, typed)[1])
    assert urls(client, other)[1] == NEW
    assert urls(client, typed)[0] == OLD, "it was typed"


@pytest.mark.parametrize(
    ("do", "code"),
    [
        (lambda c: c.add_instance("a", "redis://new.example"), "in-use"),
        (lambda c: c.remove_instance("a"), "in-use"),
        (lambda c: c.remove_instance("b"), "no-instance"),
        (lambda c: c.create("instance://b", TARGET), "no-instance"),
        (lambda c: c.create("instance://a/x", TARGET), "url"),
        (lambda c: c.create("instance://a/256", TARGET), "url"),
        (lambda c: c.add_instance("no name", OLD), "name"),
        (lambda c: c.add_instance("-a", OLD), "name"),
        (lambda c: c.add_instance("b", f"{OLD}/3"), "databases"),
        (lambda c: c.add_instance("b", "nonsense"), "usage"),
    ],
)
def test_what_is_refused(client: Client, do: Any, code: str) -> None:
    client.add_instance("a", OLD)
    task = client.create("instance://a", TARGET)
    with pytest.raises((UsageError, ControlError)) as caught:
        do(client)
    assert caught.value.code == code or code == "usage"
    assert caught.value.hint
    assert "hush" not in str(caught.value)
    assert (len(client.instances()), urls(client, task)[0]) == (1, OLD)


def test_one_that_nobody_uses_is_forgotten(client: Client) -> None:
    client.add_instance("a", OLD)
    client.remove_instance("a")
    assert client.instances() == []


def test_the_secret_key_is_changed(client: Client, state: Path) -> None:
    client.add_instance("a", OLD)
    task = client.create("instance://a", TARGET)
    client.create(OLD, TARGET)
    file = state / "secret.key"
    old, new = file.read_text().strip(), new_key().decode()
    file.write_text(f"{new}\n{old}\n")
    with Client(state) as both:
        assert both.reseal() == 5
        assert both.reseal() == 5, "it may be done again"
    file.write_text(new)
    with Client(state) as fresh:
        assert urls(fresh, task)[0] == OLD
    file.write_text(old)
    with Client(state) as stale, pytest.raises(KeyferryError, match="another key"):
        stale.reseal()
    file.write_text(new)
    with Client(state) as fresh:
        assert urls(fresh, task)[0] == OLD, "nothing was changed"


def test_whether_it_can_be_reached(client: Client) -> None:
    with start("redis-7.0") as server:
        server.client().set("a", 1)
        client.add_instance("a", server.url())
        told = client.connectivity("instance://a")
        assert (told.address, told.version, told.topology, told.keys) == (
            f"127.0.0.1:{server.port}", "Redis 7.0", "master", 1,
        )  # fmt: skip
    with pytest.raises(KeyferryError) as caught:
        client.connectivity("instance://a", Side.TARGET)
    assert (caught.value.code, caught.value.side) == ("connection", Side.TARGET)


def test_the_command_line(state: Path, client: Client, capsys: pytest.CaptureFixture[str]) -> None:
    from sync_tasks.cli.main import dispatch

    def run(*words: str) -> str:
        assert dispatch([*words, "--state", str(state)]) == 0
        return capsys.readouterr().out

    assert run("instance", "add", "a", OLD) == "a: redis://keyferry:***@old.example:6379\n"
    client.create("instance://a", TARGET)
    assert run("instance", "list") == "a  redis://keyferry:***@old.example:6379  1 task\n"
    (found,) = json.loads(run("instance", "list", "--json"))
    assert (found["name"], found["tasks"]) == ("a", 1)
    assert run("db", "reseal", "--json") == '{"sealed": 3}\n'
    run("instance", "add", "b", OLD)
    assert run("instance", "remove", "b") == "b: removed\n"

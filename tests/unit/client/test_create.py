"""Making tasks and changing their settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_type_hints

import pytest

from sync_tasks import Client, ControlError, TaskSpec, TaskState, UsageError
from sync_tasks.changes import RetryTable, SpecTable
from sync_tasks.spec import RetrySpec
from tests.unit.client.conftest import SECRETS, SOURCE, TARGET


def test_a_new_task(client: Client) -> None:
    task = client.create(SOURCE, TARGET, name="orders-move", databases={0: 3}, retry={"other_min": 5})
    assert client.get(task.id) == client.list()[0] == task
    assert (task.name, task.state, task.finishing, task.error) == ("orders-move", TaskState.NOT_STARTED, False, None)
    assert (task.source, task.target) == ("redis://mover:***@source.example:7000", "redis://:***@target.example:7001")
    assert task.settings.databases == {0: 3}
    assert (task.settings.retry.connection_min, task.settings.retry.other_min) == (720, 5)
    assert task.created_at is not None
    assert task.created_at.tzinfo is not None
    assert {task: 1}[client.get(task)] == 1, "it may be a key"


def test_what_is_handed_out_holds_no_secret(client: Client) -> None:
    task = client.create(SOURCE, TARGET)
    shown = f"{task}{json.dumps(task.as_dict())}{client.events(task)}{client.progress(task)}"
    assert not [secret for secret in SECRETS if secret in shown]


def test_as_dict_is_json_with_the_names_of_the_settings_file(client: Client) -> None:
    found = json.loads(json.dumps(client.create(SOURCE, TARGET, databases={0: 3}).as_dict()))
    assert found["state"] == "not-started"
    assert found["error"] is None
    assert found["settings"] == {
        "environment": None,
        "resource_group": None,
        "conflict_mode": "precheck-and-report",
        "reader": "psync",
        "prefer_replica": False,
        "databases": {"0": 3},
        "extend_expiry_s": 600,
        "reconcile_min": 60,
        "scan_changes": "notifications",
        "filter": {"allow_prefixes": [], "block_prefixes": [], "block_commands": [], "db": {}},
        "retry": {"connection_min": 720, "other_min": 10},
        "throttle": {
            "full": {"source_qps": -1, "target_rps": -1, "mb_per_s": -1},
            "incremental": {"rps": -1, "mb_per_s": -1},
        },
        "instance_class": "unlimited",
        "transform": {"lua": "", "file": None},
        "sync_types": ["full", "incremental"],
        "verify": {
            "mode": "off", "depth": "value", "depth_above_bytes": 0, "sample": 100, "keys_per_s": 100,
            "limits": {"mb_per_s": -1, "rps": -1},
        },
    }


def test_an_unknown_setting_is_told_with_the_nearest_one(client: Client) -> None:
    with pytest.raises(UsageError, match="unknown setting extend_expiri_s") as caught:
        client.create(SOURCE, TARGET, extend_expiri_s=3)  # type: ignore[call-arg]
    assert caught.value.hint == "did you mean extend_expiry_s?"
    with pytest.raises(UsageError, match=r"retry\.othermin") as caught:
        client.create(SOURCE, TARGET, retry={"othermin": 3})  # type: ignore[typeddict-unknown-key]
    assert caught.value.hint == "did you mean retry.other_min?"
    with pytest.raises(UsageError, match=r"create: retry\.other_min = 30 is out of range"):
        client.create(SOURCE, TARGET, retry={"connection_min": 30, "other_min": 30})
    with pytest.raises(UsageError, match='reader = "mirror" is not allowed'):
        client.create(SOURCE, TARGET, reader="mirror")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="reads a file"):
        client.create(SOURCE, TARGET, reader="rdb")
    with pytest.raises(UsageError, match="line 1 of the transform"):
        client.create(SOURCE, TARGET, transform={"lua": "x"})
    assert client.list() == []


@pytest.mark.parametrize(
    ("source", "target", "side"), [("http://x", TARGET, "source"), (SOURCE, "redis://h:x", "target")]
)
def test_a_wrong_url_names_its_side_and_nothing_else(client: Client, source: str, target: str, side: str) -> None:
    with pytest.raises(UsageError, match=f"{side} URL"):
        client.create(source, target)


def test_arguments_count_more_than_a_file_and_that_more_than_defaults(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "orders.toml"
    path.write_text('name = "filed"\nextend_expiry_s = 1\ndatabases = { "0" = 1, "1" = 2 }\n[retry]\nother_min = 3\n')
    task = client.create(SOURCE, TARGET, config=path, extend_expiry_s=2, retry={"connection_min": 20})
    assert (task.name, task.settings.extend_expiry_s, task.settings.databases) == ("filed", 2, {0: 1, 1: 2})
    assert (task.settings.retry.connection_min, task.settings.retry.other_min) == (20, 3)
    task = client.create(SOURCE, TARGET, config=str(path), databases={5: 5})
    assert task.settings.databases == {5: 5}, "what goes where is one value"
    assert client.create(SOURCE, TARGET, config=TaskSpec(extend_expiry_s=9)).settings.extend_expiry_s == 9
    with pytest.raises(UsageError, match=r"none\.toml"):
        client.create(SOURCE, TARGET, config=tmp_path / "none.toml")


def test_passwords_of_the_environment_and_of_files(
    client: Client, state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEYFERRY_SOURCE_PASSWORD", "fromenv")
    (tmp_path / "password").write_text("fromfile\n")
    with Client(state) as other:
        task = other.create("redis://a:1", f"redis://b:2?password_file={tmp_path}/password")
        source, target = other._sealing().endpoints(task.id)
    assert (source.secret(), target.secret()) == ("fromenv", "fromfile")


def test_modify_changes_what_is_named_and_nothing_else(client: Client) -> None:
    made = client.create(SOURCE, TARGET, name="a", extend_expiry_s=5, retry={"other_min": 3})
    changed = client.modify(made, retry={"connection_min": 30})
    assert changed.settings.retry == RetrySpec(connection_min=30, other_min=3)
    assert (changed.name, changed.settings.extend_expiry_s) == ("a", 5)
    assert client.modify("a", name="b").name == "b"
    with pytest.raises(UsageError, match=r"modify: retry\.other_min"):
        client.modify("b", retry={"other_min": 31})
    with pytest.raises(UsageError, match="modify: unknown setting nam") as caught:
        client.modify("b", nam="c")  # type: ignore[call-overload]
    assert caught.value.hint == "did you mean name?"
    assert client.get(made).settings == client.modify(made).settings


def test_modify_of_several(client: Client, tmp_path: Path) -> None:
    tasks = [client.create(SOURCE, TARGET, name=name, retry={"other_min": 2}) for name in "abc"]
    (tmp_path / "all.toml").write_text("[retry]\nconnection_min = 33\n")
    changed = client.modify(tasks, config=tmp_path / "all.toml", extend_expiry_s=7)
    assert [task.name for task in changed] == ["a", "b", "c"]
    assert {(t.settings.extend_expiry_s, *t.settings.retry.model_dump().values()) for t in changed} == {(7, 33, 2)}


def test_the_types_of_arguments_are_those_of_the_settings() -> None:
    assert set(get_type_hints(SpecTable)) == set(TaskSpec.model_fields)
    assert set(get_type_hints(RetryTable)) == set(RetrySpec.model_fields)


def test_a_task_is_found_by_id_uid_and_name(client: Client) -> None:
    one = client.create(SOURCE, TARGET, name="orders move")
    seven = client.create(SOURCE, TARGET, name="7")
    for named in (one.id, str(one.id), one.uid, "orders move", one):
        assert client.get(named) == one
    assert client.get("7") == seven
    while client.create(SOURCE, TARGET).id < 7:
        pass
    assert client.get("7").id == 7, "an id goes before a name"
    assert client.get(seven.uid) == seven
    with pytest.raises(ControlError, match="no task orders-move") as caught:
        client.get("orders-move")
    assert (caught.value.code, caught.value.hint) == ("no-task", "did you mean orders move?")
    with pytest.raises(ControlError, match="no task 99"):
        client.get(99)


def test_a_name_of_several_is_refused_unless_the_others_are_released(client: Client) -> None:
    first, second = (client.create(SOURCE, TARGET, name="n") for _ in range(2))
    with pytest.raises(UsageError, match="2 tasks have the name n") as caught:
        client.get("n")
    assert caught.value.hint == f"give an id: {first.id}, {second.id}"
    client._store.transition(first.id, TaskState.RELEASED, "test")
    assert client.get("n") == second
    client._store.transition(second.id, TaskState.RELEASED, "test")
    with pytest.raises(UsageError, match="2 tasks"):
        client.get("n")


def test_tasks_by_state(client: Client) -> None:
    first, second = (client.create(SOURCE, TARGET) for _ in range(2))
    client._store.transition(first.id, TaskState.RELEASED, "test")
    assert [task.id for task in client.list()] == [first.id, second.id]
    assert [task.id for task in client.list("not-started")] == [second.id]
    assert [task.id for task in client.list(state=TaskState.RELEASED)] == [first.id]
    with pytest.raises(UsageError, match="no state runing"):
        client.list("runing")


def test_tasks_are_listed_by_their_tags(client: Client) -> None:
    one = client.create(SOURCE, TARGET, name="one", environment="online", resource_group="shop")
    client.create(SOURCE, TARGET, name="other", environment="normal")
    client.create(SOURCE, TARGET, name="third")
    assert [task.name for task in client.list(environment="online")] == ["one"]
    assert [task.name for task in client.list(environment="normal", resource_group="shop")] == []
    assert [reading.task.name for reading in client.readings(resource_group="shop")] == ["one"]
    assert len(client.list(environment=None)) == 3
    client.modify(one, environment="normal")
    assert [task.name for task in client.list(environment="normal")] == ["one", "other"]
    with pytest.raises(UsageError, match="no tag enviroment"):
        client.list(enviroment="online")
    with pytest.raises(UsageError, match="environment"):
        client.create(SOURCE, TARGET, environment="")

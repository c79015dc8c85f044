"""What a preview shows makes the same task."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import sync_tasks
from sync_tasks import Client
from sync_tasks.changes import changed
from sync_tasks.cli.task_command import task as command_group
from sync_tasks.cli.task_options import settings_of
from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import Side
from sync_tasks.preview import Preview
from sync_tasks.spec import TaskSpec

SPECS: list[dict[str, Any]] = [
    {},
    {"name": "orders 'move' \u00e9", "databases": {0: 0, 3: 5}, "extend_expiry_s": 0},
    {"retry": {"other_min": 5}, "throttle": {"full": {"target_rps": 100}, "incremental": {"mb_per_s": 2.5}}},
    {"conflict_mode": "ignore-and-proceed", "instance_class": "2xlarge"},
]
SOURCE, TARGET = "redis://mover:p%40ss@source:6379/3", "rediss://:s3cret@[::1]:7000?sni=cache.example"


def shown(spec: TaskSpec) -> Preview:
    return Preview.of(Endpoint.parse(SOURCE, Side.SOURCE), Endpoint.parse(TARGET, Side.TARGET), spec)


@pytest.mark.parametrize("settings", SPECS)
def test_the_command_makes_the_same(settings: dict[str, Any]) -> None:
    spec = TaskSpec.model_validate(settings)
    words = shlex.split(shown(spec).command)
    assert words[:5] == ["KEYFERRY_SOURCE_PASSWORD=...", "KEYFERRY_TARGET_PASSWORD=...", "keyferry", "task", "create"]
    pairs = [words[at + 1] for at, word in enumerate(words) if word == "--set"]
    name = words[words.index("--name") + 1] if "--name" in words else None
    assert changed(TaskSpec(), None, settings_of(pairs, name=name), "test") == spec
    for url, word, side in ((SOURCE, words[-2], Side.SOURCE), (TARGET, words[-1], Side.TARGET)):
        whole = Endpoint.parse(url, side)
        assert Endpoint.parse(word, side, whole.password) == whole


@pytest.mark.parametrize("settings", SPECS)
def test_the_code_makes_the_same(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []

    class Fake:
        def __enter__(self) -> Fake:
            return self

        def __exit__(self, *_: object) -> None: ...

        def create(self, *ends: str, **given: Any) -> str:
            made.append((ends, given))
            return "the task"

        def start(self, task: str) -> None:
            made.append(task)

    monkeypatch.setattr(sync_tasks, "Client", Fake)
    spec = TaskSpec.model_validate(settings)
    exec(shown(spec).python, {})
    (ends, given), started = made
    assert changed(TaskSpec(), None, given, "test") == spec
    assert started == "the task"
    assert ends == ("redis://mover@source:6379/3", "rediss://[::1]:7000?sni=cache.example")


def test_no_password_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = CliRunner().invoke
    arguments = ["--state", str(tmp_path / "state"), "--set", "extend_expiry_s=7", SOURCE, TARGET]
    before = run(command_group, ["create", "--preview", *arguments])
    assert before.exit_code == 0
    assert not (tmp_path / "state").exists(), "nothing is made"
    assert run(command_group, ["create", "--name", "orders", *arguments]).exit_code == 0
    text = run(command_group, ["preview", "--state", str(tmp_path / "state"), "orders"]).output
    told = json.loads(run(command_group, ["preview", "--json", "--state", str(tmp_path / "state"), "orders"]).output)
    for said in (before.output, text, json.dumps(told)):
        assert "extend_expiry_s" in said
        assert "p%40ss" not in said
        assert "p@ss" not in said
        assert "s3cret" not in said
    with Client(tmp_path / "state") as client:
        assert client.preview("orders").command == told[0]["command"]

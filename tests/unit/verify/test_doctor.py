"""`keyferry doctor`: what it says of this machine, and of others that lack something."""

from __future__ import annotations

import json
import resource
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sync_tasks.cli import doctor_command
from sync_tasks.cli.doctor_command import Item, State, examine

COMMAND = [sys.executable, "-m", "sync_tasks.cli.main", "doctor"]


def items(place: Path) -> dict[str, Item]:
    return {item.name: item for item in examine(place)}


def test_it_runs_and_names_everything_that_is_asked_for(tmp_path: Path) -> None:
    done = subprocess.run([*COMMAND, "--json", "--state", str(tmp_path / "new")], capture_output=True, text=True)

    found = json.loads(done.stdout)
    names = {item["name"] for item in found["items"]}
    assert {"python", "keyferry", "core", "broker", "sqlite", "open files", "disk", "flower", "postgresql"} <= names
    assert done.returncode == (0 if found["ok"] else 5)
    assert all(item["hint"] for item in found["items"] if item["state"] != "ok"), "each says what to do"
    words = subprocess.run([*COMMAND, "--state", str(tmp_path)], capture_output=True, text=True).stdout
    assert all(name in words for name in names)


def test_what_is_required_here_is_there(tmp_path: Path) -> None:
    found = items(tmp_path)
    for name in ("python", "keyferry", "dependencies", "broker", "sqlite", "disk"):
        assert found[name].state is State.OK, found[name]
    assert "celery" in found["dependencies"].found
    assert f"redis {metadata.version('redis')}" in found["dependencies"].found


def resolver(core: str, stale: list[str]) -> Callable[[str], Any]:
    return lambda name: (lambda: core) if name.endswith(":core") else (lambda: stale)


def test_a_slow_or_stale_core_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_command.pkgutil, "resolve_name", resolver("python", []))
    assert items(tmp_path)["core"].state is State.SLOW
    monkeypatch.setattr(doctor_command.pkgutil, "resolve_name", resolver("compiled", ["frame_cy"]))
    assert "frame_cy" in items(tmp_path)["core"].found
    monkeypatch.setattr(doctor_command.pkgutil, "resolve_name", resolver("compiled", []))
    assert items(tmp_path)["core"] == Item("core", State.OK, "compiled")


def test_a_missing_dependency_is_required(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    needs = ["celery>=5.5", "not-a-package>=2", "rich>=999", "also-not; extra == 'flower'"]
    monkeypatch.setattr(doctor_command, "_declared", lambda: ("1.0", needs))

    found = items(tmp_path)

    assert found["not-a-package"] == Item(
        "not-a-package", State.MISSING, "not installed", "pip install 'not-a-package>=2'"
    )
    assert found["rich"].state is State.MISSING
    assert "also-not" not in found
    assert doctor_command.doctor(tmp_path, json=False) == 5
    assert "pip install 'not-a-package>=2'" in capsys.readouterr().out


def test_a_broker_that_is_missing_or_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "valkey-server"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr("sync_tasks.supervise.broker.binary", lambda: str(broken))
    assert items(tmp_path)["broker"].state is State.MISSING
    monkeypatch.setattr("sync_tasks.supervise.broker.binary", lambda: str(tmp_path / "none"))
    assert items(tmp_path)["broker"].state is State.MISSING


def test_limits_of_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (256, 4096))
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 34, 0))
    monkeypatch.setattr(doctor_command.shutil, "disk_usage", lambda _place: SimpleNamespace(free=1 << 20))

    found = items(tmp_path / "a" / "b")

    assert found["open files"].state is State.SLOW
    assert found["sqlite"].state is State.MISSING
    assert found["disk"].state is State.SLOW
    assert str(tmp_path) in found["disk"].found


def test_the_object_store_of_the_spool_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "spool store" not in items(tmp_path)
    monkeypatch.setenv("KEYFERRY_SPOOL_URL", f"file://{tmp_path}/store")
    assert items(tmp_path)["spool store"].state is State.OK
    (tmp_path / "file").touch()
    monkeypatch.setenv("KEYFERRY_SPOOL_URL", f"file://{tmp_path}/file/store")
    found = items(tmp_path)["spool store"]
    assert (found.state, bool(found.hint)) == (State.MISSING, True)

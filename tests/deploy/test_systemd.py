"""deploy/systemd: held to systemd's own opinion, and to what the commands are. No systemd has run them here."""

from __future__ import annotations

import configparser
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sync_tasks.settings import PREFIX, Settings
from sync_tasks.supervise.worker import DRAIN_WITHIN_S
from tests.deploy.commands import parses
from tests.deploy.tools import ROOT, program

UNITS = ROOT / "deploy" / "systemd"
SERVICES = sorted(path.name for path in UNITS.glob("*.service"))
BINARY = "/opt/keyferry/bin/keyferry"
EXPOSED = 20
"""The most that `systemd-analyze security` may say, in tenths: 2.0 of 10."""


class Unit(configparser.RawConfigParser):
    """A unit file whose settings come once each, but for Environment."""

    def __init__(self, name: str) -> None:
        super().__init__(strict=False)
        self.optionxform = str  # type: ignore[assignment,method-assign]
        text = (UNITS / name).read_text()
        self.read_string(text)
        pairs = [line.split("=", 1)[1] for line in text.splitlines() if line.startswith("Environment=")]
        self.environment = dict(pair.split("=", 1) for pair in pairs)


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """As they are, but for where the command lies."""
    for path in UNITS.iterdir():
        (tmp_path / path.name).write_text(path.read_text().replace(BINARY, sys.executable))
    return tmp_path


def test_systemd_finds_nothing_wrong(installed: Path) -> None:
    command = [program("systemd-analyze"), "verify", "--man=no", "--recursive-errors=no"]
    files = [str(installed / name) for name in (*SERVICES, "keyferry.target")]
    env = {**os.environ, "SYSTEMD_UNIT_PATH": f"{installed}:"}
    done = subprocess.run([*command, *files], capture_output=True, text=True, timeout=60, env=env)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", SERVICES)
def test_little_is_exposed(installed: Path, name: str) -> None:
    command = [program("systemd-analyze"), "security", "--offline=yes", f"--threshold={EXPOSED}", "--no-pager"]
    done = subprocess.run([*command, str(installed / name)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr


@pytest.mark.parametrize("name", SERVICES)
def test_what_it_starts_is_there(name: str) -> None:
    unit = Unit(name)
    program, *words = unit["Service"]["ExecStart"].split()
    assert program == BINARY
    parses(tuple(unit.environment[word[1:]] if word.startswith("$") else word for word in words))
    known = {f"{PREFIX}{setting.upper()}" for setting in Settings.model_fields}
    assert {key for key in unit.environment if key.startswith(PREFIX)} <= known


@pytest.mark.parametrize("name", ["keyferry-load.service", "keyferry-stream.service"])
def test_workers_have_the_time_that_they_take_to_end(name: str) -> None:
    service = Unit(name)["Service"]
    assert float(service["TimeoutStopSec"]) > DRAIN_WITHIN_S + 5
    assert service["KillMode"] == "mixed", "a pool that is asked beside its worker ends in the midst of its work"
    assert service["LoadCredential"].startswith("secret.key:")


def test_the_target_has_them_all() -> None:
    for name in SERVICES:
        unit = Unit(name)
        assert unit["Install"]["WantedBy"] == unit["Unit"]["PartOf"] == "keyferry.target"

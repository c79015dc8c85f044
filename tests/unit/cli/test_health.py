"""`keyferry health`, and the files that it looks at."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sync_tasks.supervise import pulse
from sync_tasks.supervise.pulse import BEAT_S, LATE_S, STUCK_S, Pulse, Turning, seen
from tests.unit.cli.test_config import keyferry


@pytest.fixture
def beating(tmp_path: Path) -> Iterator[int]:
    """A process that has a pulse of its own, by its number."""
    code = (
        "import sys, time, pathlib; from sync_tasks.supervise.pulse import Pulse;"
        "p = Pulse(pathlib.Path(sys.argv[1]), 'load'); p.beat(True); print('there', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"there\n"
    yield process.pid
    process.kill()
    process.wait()


def test_who_beats_is_well_and_ready_or_not(tmp_path: Path) -> None:
    mine = Pulse(tmp_path, "stream")
    mine.beat(False)
    (found,) = seen(tmp_path)
    assert (found.name, found.ready, found.late) == (f"stream-{os.getpid()}", False, False)
    mine.beat(True)
    assert [one.ready for one in seen(tmp_path)] == [True]
    path = tmp_path / pulse.PLACE / f"stream-{os.getpid()}"
    long_ago = time.time() - LATE_S - 1
    os.utime(path, (long_ago, long_ago))
    mine.beat(True)
    assert seen(tmp_path)[0].late, "a beat a moment after another touches nothing"
    mine.end()
    assert seen(tmp_path) == []


def test_the_dead_and_those_who_have_their_numbers_are_left_out(tmp_path: Path, beating: int) -> None:
    (one,) = seen(tmp_path)
    assert one.name == f"load-{beating}"
    path = tmp_path / pulse.PLACE / one.name
    said = path.read_text()
    path.with_name("load-1").write_text(said)
    assert len(seen(tmp_path)) == 1, "process 1 is not the one that wrote the file"
    path.with_name(f"load-{beating}").write_text("ready\n")
    assert seen(tmp_path) == []


def test_a_disk_that_refuses_ends_nobody(tmp_path: Path) -> None:
    (tmp_path / pulse.PLACE).write_text("no directory")
    Pulse(tmp_path, "load").beat(True)


def test_a_loop_is_stuck_only_while_it_is_connected(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(pulse.time, "monotonic", lambda: now)
    loop = Turning()
    assert loop.ready(True) is True
    now += STUCK_S + BEAT_S
    assert loop.ready(False) is False, "it waits for its broker"
    assert loop.ready(True) is None
    loop.turn()
    assert loop.ready(True) is True


def test_the_command_says_which_is_late(tmp_path: Path, beating: int) -> None:
    done = keyferry("health", "--ready", "--state", str(tmp_path), cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"load-{beating}")
    path = tmp_path / pulse.PLACE / f"load-{beating}"
    path.write_text(path.read_text().replace("ready", "waiting"))
    assert keyferry("health", cwd=tmp_path, KEYFERRY_STATE_DIR=str(tmp_path)).returncode == 0
    assert keyferry("health", "--ready", cwd=tmp_path, KEYFERRY_STATE_DIR=str(tmp_path)).returncode == 5
    os.utime(path, (0, 0))
    done = keyferry("health", "--state", str(tmp_path), cwd=tmp_path)
    assert done.returncode == 5
    assert " late, " in done.stdout


def test_nothing_runs(tmp_path: Path) -> None:
    done = keyferry("health", "--state", str(tmp_path), cwd=tmp_path)
    assert done.returncode == 5
    assert done.stderr.startswith("keyferry: control: no worker or scheduler runs on ")


def test_who_waits_for_its_broker_says_what_that_is(tmp_path: Path) -> None:
    mine = Pulse(tmp_path, "load")
    mine.beat(False)
    words = ("health", "--ready", "--state", str(tmp_path))
    done = keyferry(*words, cwd=tmp_path, KEYFERRY_BROKER_URL="amqp://u:hush@h")
    assert (done.returncode, "waiting for its broker (RabbitMQ)" in done.stdout) == (5, True), done.stdout
    assert "waiting for its broker (Redis, on a socket of this machine)" in keyferry(*words, cwd=tmp_path).stdout
    mine.end()

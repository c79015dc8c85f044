"""The state directory: in use, of a newer version, unusable, on a full disk; and Ctrl-C at any time."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.run_keyferry import Keyferry
from tests.scenarios.errors.command import refused, run, untouched
from tests.servers import Server, start


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MB."""
    path = tmp_path / "small"
    path.mkdir()
    root = os.geteuid() == 0 and shutil.which("mount")
    if not root or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "none", path]).returncode:
        if os.environ.get("CI") == "true":
            pytest.fail("a small file system cannot be mounted here, and CI must not skip this")
        pytest.skip("needs the right to mount a small file system")
    yield path
    subprocess.run(["umount", "-l", path], check=True)


def test_a_directory_in_use(source: Server, target: Server, state: Path) -> None:
    with Keyferry(source.url(), target.url(), state) as first:
        first.wait_phase("initializing", "synchronizing")
        ended = run("sync", source.url(), target.url(), "--state", str(state))
        refused(ended, "control", str(state), f"in use by process {first.process.pid}")
        assert first.alive
        assert first.stop() == 130


def test_a_directory_of_a_newer_version(source: Server, target: Server, state: Path) -> None:
    target.client().flushall()
    assert run("sync", source.url(), target.url(), "--state", str(state), "--until", "in-sync").code == 0
    with sqlite3.connect(state / "keyferry.db") as database:
        database.execute("UPDATE alembic_version SET version_num = '9999_of_tomorrow'")
    ended = run("sync", source.url(), target.url(), "--state", str(state), "--until", "in-sync")
    refused(ended, "control", "newer version", "--state")


def test_a_database_that_is_none(source: Server, target: Server, state: Path) -> None:
    state.mkdir()
    (state / "keyferry.db").write_text("this is no database\n" * 100)
    ended = run("sync", source.url(), target.url(), "--state", str(state))
    refused(ended, "control", "database")
    assert (state / "keyferry.db").read_text().startswith("this is no database")


def test_a_directory_that_cannot_be_made(source: Server, target: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ended = run("sync", source.url(), target.url(), "--state", str(tmp_path / "file" / "state"))
    refused(ended, "control", "cannot use the state directory")


def test_a_disk_without_room_at_the_start(source: Server, target: Server, small_disk: Path) -> None:
    with (small_disk / "ballast").open("wb") as ballast:
        ballast.write(bytes(20 << 20))
    ended = run("sync", source.url(), target.url(), "--state", str(small_disk / "state"), "--json")
    refused(ended, "control", "disk is full", "make room")
    assert ended.lines[-1]["error"]["code"] == "disk-full"


def test_a_disk_that_fills_up_is_said_and_waited_for(target: Server, small_disk: Path) -> None:
    """More data than the disk holds: it waits and says why, and goes on by itself once there is room."""
    target.client().flushall()
    with start("redis-7.0") as source:
        client = source.client()
        with client.pipeline(transaction=False) as many:
            for number in range(400):
                many.set(f"big:{number}", os.urandom(1 << 16))
            many.execute()
        with (small_disk / "ballast").open("wb") as ballast:
            ballast.write(bytes(8 << 20))
        with Keyferry(source.url(), target.url(), small_disk / "state") as ferry:
            line = ferry.wait_for(lambda line: line["error"], 60, what="an error")
            assert line["error"]["code"] == "disk-full"
            assert line["error"]["side"] == "control"
            assert ferry.alive
            subprocess.run(["mount", "-o", "remount,size=128m", small_disk], check=True)
            ferry.wait_in_sync(90)
            ferry.wait_for(lambda line: line["error"] is None, 20, what="no error any more")
            assert ferry.stop() == 130
        assert target.client().get("big:399") == client.get("big:399")
        assert target.client().exists(*(f"big:{number}" for number in range(400))) == 400


@pytest.mark.parametrize(
    ("after_s", "number"),
    [
        (0.0, signal.SIGINT),
        (0.2, signal.SIGTERM),
        (0.5, signal.SIGINT),
        (0.7, signal.SIGTERM),
        (1.0, signal.SIGINT),
        (2.0, signal.SIGTERM),
    ],
)
def test_ctrl_c_at_any_time_leaves_nothing_behind(
    source: Server, target: Server, state: Path, number: signal.Signals, after_s: float
) -> None:
    target.client().flushall()
    with Keyferry(source.url(), target.url(), state) as ferry:
        ferry.wait_begun()
        time.sleep(after_s)
        assert ferry.stop(number) == 128 + number
        assert len(ferry.errors.splitlines()) <= 1
    assert not (state / "broker.sock").exists()
    untouched(source)


def test_the_same_command_goes_on_after_ctrl_c(source: Server, target: Server, state: Path) -> None:
    target.client().flushall()
    source.client().set("a", "1")
    with Keyferry(source.url(), target.url(), state) as ferry:
        ferry.settle(source)
        assert ferry.stop() == 130
        assert str(state) in ferry.errors
    source.client().incr("a")
    ended = run("sync", source.url(), target.url(), "--state", str(state), "--until", "in-sync", "--json")
    assert ended.code == 0, ended
    assert target.client().get("a") == b"2"
    assert ended.err == ""
    source.client().flushall()

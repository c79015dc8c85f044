"""The lock and the directory under it."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest

from sync_tasks.errors import ControlError
from sync_tasks.supervise import directory as module
from sync_tasks.supervise import lock
from sync_tasks.supervise.directory import Directory


def holder(path: Path, seconds: float) -> int:
    """A process that holds the lock for a while, told apart from us as POSIX locks demand."""
    ready, told = os.pipe()
    pid = os.fork()
    if pid == 0:
        lock.take(path)
        os.write(told, b"x")
        time.sleep(seconds)
        os._exit(0)
    os.read(ready, 1)
    os.close(ready)
    os.close(told)
    return pid


def test_a_second_process_is_refused_and_told_who_holds_it(tmp_path: Path) -> None:
    pid = holder(tmp_path / "lock", 5)
    try:
        with pytest.raises(ControlError, match=f"in use by process {pid}") as caught:
            lock.take(tmp_path / "lock", patience_s=0.2)
        assert caught.value.exit_code == 5
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)


def test_a_dying_predecessor_is_waited_for(tmp_path: Path) -> None:
    pid = holder(tmp_path / "lock", 0.3)
    descriptor = lock.take(tmp_path / "lock", patience_s=5)
    os.waitpid(pid, 0)
    assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"
    os.close(descriptor)


def test_a_child_that_ends_does_not_take_the_lock_with_it(tmp_path: Path) -> None:
    descriptor = lock.take(tmp_path / "lock")
    child = os.fork()
    if child == 0:
        os.close(descriptor)
        os._exit(0)
    os.waitpid(child, 0)
    other = os.fork()
    if other == 0:
        try:
            lock.take(tmp_path / "lock", patience_s=0.0)
        except ControlError:
            os._exit(0)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(other, 0)[1]) == 0
    os.close(descriptor)


def test_the_directory_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b"
    Directory(path).open()
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert stat.S_IMODE((path / "logs").stat().st_mode) == 0o700


def test_a_file_in_its_place_is_an_error_with_a_hint(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("")
    with pytest.raises(ControlError, match="cannot use the state directory") as caught:
        Directory(path).open()
    assert caught.value.hint


def test_too_little_room_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LEAST_ROOM", 1 << 62)
    with pytest.raises(ControlError, match="the disk is full") as caught:
        Directory(tmp_path / "d").open()
    assert caught.value.code == "disk-full"


def test_a_long_path_gets_a_short_socket_that_leads_to_the_same_place(tmp_path: Path) -> None:
    long = tmp_path / ("d" * 120)
    directory = Directory(long).open()
    (long / "broker.sock").write_text("here")
    assert len(str(directory.socket())) < 100
    assert directory.socket().read_text() == "here"


def test_a_log_that_grew_long_is_moved_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOG_LIMIT", 10)
    directory = Directory(tmp_path).open()
    (directory.logs / "x.log").write_text("much more than ten")
    assert not directory.log("x").exists()
    assert (directory.logs / "x.log.1").read_text() == "much more than ten"

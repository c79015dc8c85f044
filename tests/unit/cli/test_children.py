"""Real forks: replaced when they die, gone at the end, grandchildren too."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from sync_tasks.errors import ControlError
from sync_tasks.supervise import children as module
from sync_tasks.supervise.children import Children, Role, pause
from sync_tasks.supervise.directory import Directory

AT_ONCE_S = module.KILL_WAIT_S + 1.5  # it waits that long if the tests' own process has other children


class Family:
    def __init__(self, path: Path) -> None:
        self.dead: list[int] = []
        self.forks = 0
        self.directory = Directory(path).open()
        self.children = Children(self.directory, self._count, self.dead.append)

    def _count(self) -> None:
        self.forks += 1

    def tend_until(self, true: Callable[[], bool], seconds: float = 5.0) -> None:
        deadline = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < deadline
            self.children.tend()
            time.sleep(0.01)


@pytest.fixture
def family(tmp_path: Path) -> Iterator[Family]:
    made = Family(tmp_path)
    yield made
    made.children.kill()


def is_gone(process: psutil.Process) -> bool:
    """Not there, or dead and waiting to be buried by init: here, we have not adopted orphans."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    return True


def sleeper() -> None:
    time.sleep(60)


def with_grandchild() -> None:
    if os.fork() == 0:
        time.sleep(60)
    time.sleep(60)


def deaf() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("deaf", flush=True)
    time.sleep(60)


@pytest.mark.parametrize(("deaths", "seconds"), [(1, 0.1), (2, 0.2), (6, 3.2), (7, 5.0), (1000, 5.0)])
def test_pauses_grow_to_five_seconds(deaths: int, seconds: float) -> None:
    assert pause(deaths) == pytest.approx(seconds)


def test_a_killed_child_is_replaced_and_its_death_is_told(family: Family) -> None:
    family.children.start(Role("worker", sleeper))
    first = family.children.pids()["worker"]
    os.kill(first, signal.SIGKILL)
    family.tend_until(lambda: family.children.pids().get("worker") not in (None, first))
    assert family.dead == [first]
    assert family.forks == 2


def test_a_child_has_its_own_group_and_title_and_its_output_in_a_log(family: Family) -> None:
    def run() -> None:
        print(os.getpgid(0) == os.getpid(), flush=True)
        time.sleep(60)

    family.children.start(Role("load worker", run))
    log = family.directory.logs / "load-worker.log"
    family.tend_until(lambda: log.exists() and log.read_text() == "True\n")
    pid = family.children.pids()["load worker"]
    assert psutil.Process(pid).cmdline()[0].startswith("keyferry: load worker")
    assert log.stat().st_mode & 0o077 == 0


def test_a_grandchild_dies_with_the_child_that_was_killed(family: Family) -> None:
    family.children.start(Role("worker", with_grandchild))
    child = psutil.Process(family.children.pids()["worker"])
    family.tend_until(lambda: len(child.children()) == 1)
    grandchild = child.children()[0]
    child.kill()
    family.tend_until(lambda: family.dead == [child.pid] and is_gone(grandchild))


def test_a_stopped_child_is_ended_too(family: Family) -> None:
    family.children.start(Role("worker", with_grandchild))
    child = psutil.Process(family.children.pids()["worker"])
    family.tend_until(lambda: len(child.children()) == 1)
    everybody = [child, *child.children()]
    child.suspend()
    family.children.kill()
    family.tend_until(lambda: all(is_gone(process) for process in everybody))


def test_who_does_not_hear_sigterm_is_killed_when_patience_ends(family: Family) -> None:
    family.children.start(Role("worker", deaf, patience_s=0.3))
    log = family.directory.logs / "worker.log"
    family.tend_until(lambda: log.exists() and log.read_text() == "deaf\n")
    start = time.monotonic()
    family.children.stop(lambda seconds: bool(time.sleep(seconds)))
    assert 0.3 <= time.monotonic() - start < AT_ONCE_S


def test_an_impatient_user_does_not_wait(family: Family) -> None:
    family.children.start(Role("worker", deaf, patience_s=30))
    log = family.directory.logs / "worker.log"
    family.tend_until(lambda: log.exists() and log.read_text() == "deaf\n")
    start = time.monotonic()
    family.children.stop(lambda _seconds: True)
    assert time.monotonic() - start < AT_ONCE_S


def test_some_end_while_the_others_go_on(family: Family) -> None:
    for name in ("first", "second", "broker"):
        family.children.start(Role(name, sleeper))
    before = family.children.pids()
    assert family.children.end(["first"], lambda seconds: bool(time.sleep(seconds))) is False
    family.tend_until(lambda: "first" not in family.children.pids())
    time.sleep(0.3)
    family.children.tend()
    assert family.children.pids() == {"second": before["second"], "broker": before["broker"]}, "it is not replaced"


def test_nobody_waits_when_nothing_is_left_to_wait_for(family: Family) -> None:
    family.children.start(Role("worker", deaf, patience_s=30))
    log = family.directory.logs / "worker.log"
    family.tend_until(lambda: log.exists() and log.read_text() == "deaf\n")
    start = time.monotonic()
    looks = iter([False, False, True])
    assert family.children.end(["worker"], lambda seconds: bool(time.sleep(seconds)), lambda: next(looks)) is False
    assert time.monotonic() - start < AT_ONCE_S
    family.tend_until(lambda: not family.children.pids())


def test_an_impatient_user_is_told_of(family: Family) -> None:
    family.children.start(Role("worker", deaf, patience_s=30))
    assert family.children.end(["worker"], lambda _seconds: True) is True


def test_one_that_ends_each_time_it_is_started_ends_the_run(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSE_FIRST_S", 0.01)
    monkeypatch.setattr(module, "PAUSE_MOST_S", 0.01)

    def broken() -> None:
        raise RuntimeError("what went wrong")

    family.children.start(Role("worker", broken))
    with pytest.raises(ControlError, match="ends each time it is started") as caught:
        family.tend_until(lambda: False)
    log = family.directory.logs / "worker.log"
    assert str(log) in caught.value.hint
    assert log.read_text().count("RuntimeError: what went wrong") == module.HOPELESS


def test_being_killed_often_is_no_reason_to_give_up(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSE_FIRST_S", 0.01)
    monkeypatch.setattr(module, "PAUSE_MOST_S", 0.01)
    family.children.start(Role("worker", sleeper))
    for count in range(module.HOPELESS + 3):
        family.tend_until(lambda: bool(family.children.pids()))
        os.kill(family.children.pids()["worker"], signal.SIGKILL)
        family.tend_until(lambda count=count: len(family.dead) == count + 1)


def test_children_die_with_a_parent_that_was_killed(tmp_path: Path) -> None:
    code = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from tests.unit.cli.test_children import Family, sleeper, Role\n"
        "family = Family(Path(sys.argv[1]))\n"
        "family.children.start(Role('worker', sleeper))\n"
        "print(family.children.pids()['worker'], flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    child = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 3
    while not is_gone(child):
        assert time.monotonic() < deadline
        time.sleep(0.01)

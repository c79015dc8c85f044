"""Parts of the service that need no process: Flower's address, what is free after a power cut, when to stop waiting."""

from __future__ import annotations

import importlib.util
import os
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import setproctitle

from sync_tasks.errors import ControlError
from sync_tasks.migrations import KNOWN
from sync_tasks.settings import Settings
from sync_tasks.spool import identity
from sync_tasks.store import migrate
from sync_tasks.supervise import draining, flower, metrics
from sync_tasks.supervise.directory import Directory
from sync_tasks.supervise.draining import Idle, free_dead
from sync_tasks.supervise.installation import check_database, whole
from sync_tasks.supervise.ready import Ready
from sync_tasks.supervise.worker import DRAIN_WITHIN_S, Ending, Kind, Manner, _be_process, queues


def test_without_flower_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(ControlError, match="Flower is not installed") as caught:
        flower.check()
    assert caught.value.hint == "pip install 'keyferry[flower]'"
    assert caught.value.exit_code == 5


def test_flower_listens_on_the_loopback_address_alone() -> None:
    (listener,) = flower.listen(Settings().flower_address, 0)
    with listener:
        assert listener.getsockname()[0] == "127.0.0.1"
        assert flower.url([listener]) == f"http://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(ControlError, match=r"cannot listen on 127\.0\.0\.1, port") as caught:
            flower.listen("127.0.0.1", listener.getsockname()[1])
        assert "KEYFERRY_FLOWER_PORT" in caught.value.hint
        assert not flower.beyond([listener])


def test_flower_listens_where_it_is_told() -> None:
    (listener,) = flower.listen("0.0.0.0", 0)
    with listener:
        assert flower.beyond([listener])
        assert flower.url([listener]).startswith("http://0.0.0.0:")
    with pytest.raises(ControlError, match=r"cannot listen on 203\.0\.113\.1") as caught:
        flower.listen("203.0.113.1", 0)
    assert "KEYFERRY_FLOWER_ADDRESS" in caught.value.hint


def test_metrics_are_served_where_it_is_told() -> None:
    with metrics.listen(Settings(metrics_address="127.0.0.2"), 0) as listener:
        assert metrics.url(listener).startswith("http://127.0.0.2:")


class Leases:
    """Stands for a store."""

    def __init__(self, *owners: str) -> None:
        self.held = owners
        self.freed: list[str] = []

    def owners(self, prefix: str, ops: bool = False) -> list[str]:
        return [owner for owner in self.held if owner.startswith(prefix)]

    def release_owner(self, prefix: str) -> None:
        self.freed.append(prefix)


def test_what_the_dead_of_this_machine_held_is_freed() -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    store = Leases(
        f"here:{dead.pid}:8:x", f"here:{dead.pid}:9:y", f"here:{os.getpid()}:9:z", f"there:{dead.pid}:9:z", "here:odd"
    )
    free_dead(store, "here")  # type: ignore[arg-type]
    assert store.freed == [f"here:{dead.pid}"]


def test_idle_is_who_has_held_nothing_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(draining.time, "monotonic", lambda: now[0])
    held = [True]
    idle = Idle(lambda: held[0])
    assert not idle()
    held[0] = False
    assert not idle()
    now[0] = 0.3
    held[0] = True
    assert not idle()
    held[0] = False
    assert not idle()
    now[0] = 0.7
    assert not idle(), "it had begun again at 0.3"
    now[0] = 0.9
    assert idle()


def test_children_tell_once_they_are_ready() -> None:
    ready = Ready()
    assert ready.told() == set()
    for name in ("load worker", "flower"):
        pid = os.fork()
        if pid == 0:
            ready.teller(name)()
            os._exit(0)
        os.waitpid(pid, 0)
    assert ready.told() == {"load worker", "flower"}
    for _ in range(100_000):
        ready.teller("stream worker")()  # a full pipe keeps nobody waiting
    assert "stream worker" in ready.told()


def test_settings_are_whole_before_anything_is_forked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = whole(Settings(state_dir=Path("here")), Directory(Path("here")).attach())
    monkeypatch.chdir("/")
    assert found.database() == f"sqlite:///{tmp_path}/here/keyferry.db"
    assert found.broker() == f"redis+socket://{tmp_path}/here/broker.sock"
    assert found.spool == tmp_path / "here" / "spool"
    assert found.host == socket.gethostname()
    assert found.key() == (tmp_path / "here" / "secret.key").read_bytes().strip()


def test_who_opens_no_address_needs_no_key(tmp_path: Path) -> None:
    given = Settings(state_dir=tmp_path / "here", database_url="sqlite:///x.db", broker_url="redis://b")
    assert whole(given, Directory(given.state_dir), keyed=False).key() is None
    assert not (tmp_path / "here").exists()


def test_a_worker_reads_the_common_queues_and_those_of_its_spool(tmp_path: Path) -> None:
    local = Settings(state_dir=tmp_path)
    spool = identity(local)
    assert queues(local, Kind.LOAD) == ["kf.load", f"kf.load.{spool}", "kf.ops"]
    assert queues(local, Kind.STREAM) == ["kf.stream", f"kf.stream.{spool}"]
    shared = Settings(state_dir=tmp_path, spool_shared=True)
    assert queues(shared, Kind.LOAD) == ["kf.load", "kf.ops"]
    assert queues(shared, Kind.STREAM) == ["kf.stream"]


def test_a_worker_that_drains_has_a_deadline() -> None:
    Ending(Settings(), Kind.LOAD, Manner()).begin()
    assert DRAIN_WITHIN_S - 2 < signal.alarm(0) <= DRAIN_WITHIN_S < 30


def test_a_worker_is_woken_by_signals_and_by_deaths_in_its_pool_but_not_by_those_of_its_processes() -> None:
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM, signal.SIGCHLD)
    before = {number: signal.getsignal(number) for number in numbers}
    ending = Ending(Settings(), Kind.STREAM, Manner())
    try:
        ending.install()
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        assert select.select([ending.bell], [], [], 10)[0]
        assert os.waitpid(pid, os.WNOHANG)[0] == pid, "it can be waited for by then"
        os.read(ending.bell, 100)
        _be_process(Kind.STREAM, Settings())
        signal.raise_signal(signal.SIGCHLD)
        assert not select.select([ending.bell], [], [], 0)[0]
    finally:
        signal.set_wakeup_fd(-1)
        for number, handler in before.items():
            signal.signal(number, handler)
        setproctitle.setproctitle("pytest")


@pytest.mark.parametrize(
    ("revision", "message"),
    [("9999", "of a newer version"), (KNOWN[0], "of an older version"), (None, "no tables yet")],
)
def test_a_database_of_another_version_is_refused(
    tmp_path: Path, revision: str | None, message: str
) -> None:
    from sqlalchemy import create_engine, text

    url = f"sqlite:///{tmp_path}/k.db"
    migrate(url)
    check_database(url)
    with create_engine(url).begin() as connection:
        connection.execute(text("DELETE FROM alembic_version"))
        if revision is not None:
            connection.execute(text("INSERT INTO alembic_version VALUES (:v)"), {"v": revision})
    with pytest.raises(ControlError, match=message):
        check_database(url)

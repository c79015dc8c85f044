"""`keyferry up` and its parts as real processes, with stand-ins for data plane and scheduler (see family.py)."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from sync_tasks.app import make_app
from sync_tasks.secrets import new_key
from tests.run_up import Up
from tests.servers import die_with_parent
from tests.unit.cli.test_children import is_gone
from tests.waiting import until

pytestmark = pytest.mark.long

FAMILY = "tests.unit.cli.family"
Start = Callable[..., Up]
StartSingle = Callable[..., subprocess.Popen[str]]
COMMAND = "sync_tasks.cli.main"


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Start]:
    """Starts the service on one state directory, unless another is given; ended with the test."""
    with contextlib.ExitStack() as stack:

        def begin(*options: str, state: Path = tmp_path / "state", **env: str) -> Up:
            return stack.enter_context(Up(state, "--stream", "2", *options, module=FAMILY, env=env))

        yield begin


def lease(service: Up) -> tuple[str | None, int]:
    """Owner and epoch of the first node's lease."""
    from sync_tasks.models import Lease

    store = service.store()
    try:
        with store.database.read() as session:
            found = session.get_one(Lease, "node:1")
            return found.owner, found.epoch
    finally:
        store.dispose()


def owned_by(service: Up, pid: int) -> bool:
    return (lease(service)[0] or "").startswith(f"{socket.gethostname()}:{pid}:")


@pytest.fixture
def single(tmp_path: Path) -> Iterator[StartSingle]:
    """Starts a verb of its own beside the service; killed with the test."""
    with contextlib.ExitStack() as stack:

        def begin(
            verb: str, *options: str, module: str = FAMILY, state: Path = tmp_path / "state", **env: str
        ) -> subprocess.Popen[str]:
            command = [sys.executable, "-m", module, verb, "--state", str(state), *options]
            process = subprocess.Popen(
                command, stderr=subprocess.PIPE, text=True, env={**os.environ, **env}, preexec_fn=die_with_parent
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            return process

        yield begin


def said(process: subprocess.Popen[str], text: str) -> str:
    """The first line on stderr with `text` in it."""
    for line in process.stderr:
        if text in line:
            return line
    raise AssertionError(f"it ended with {process.wait()}")


def test_one_line_when_ready_and_nothing_left_at_the_end(up: Start, tmp_path: Path) -> None:
    service = up("--load", "3")
    line = service.wait_ready()
    assert line.startswith("keyferry: up: 3 load and 2 stream processes; scheduler; ")
    assert str(tmp_path / "state") in line
    assert len(service.find("load worker", child=True)) == 3
    assert len(service.find("stream worker", child=True)) == 2
    assert len(service.find("scheduler")) == len(service.find("broker")) == 1
    logs = {path.name for path in (tmp_path / "state" / "logs").iterdir()}
    assert logs == {"broker.log", "load-worker.log", "stream-worker.log", "scheduler.log"}
    for path in (tmp_path / "state").rglob("*"):
        assert path.is_socket() or stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    assert service.stop(signal.SIGINT) == 130
    assert service.errors == line + "\n"
    assert not (tmp_path / "state" / "broker.sock").exists()


def test_a_task_goes_on_with_the_next_start(up: Start) -> None:
    service = up()
    service.wait_ready()
    service.add_task("redis://a:1", "redis://b:1")
    until(lambda: lease(service)[0])
    first = lease(service)[1]
    assert service.stop(signal.SIGTERM) == 143
    assert lease(service)[0] is None, "what was held is given back"
    again = up()
    until(lambda: lease(again)[1] > first)
    assert again.stop() == 130


def test_what_the_killed_held_is_free_at_once(up: Start) -> None:
    service = up()
    service.wait_ready()
    service.add_task("redis://a:1", "redis://b:1")
    until(lambda: lease(service)[0])
    held, epoch = lease(service)
    service.kill_tree()
    assert lease(service) == (held, epoch)
    again = up()
    again.wait_ready()
    # The stand-in of the scheduler never takes a lease away: the start itself has freed it.
    until(lambda: lease(again)[1] > epoch)


def test_every_child_that_is_killed_is_replaced(up: Start) -> None:
    service = up()
    service.wait_ready()
    service.add_task("redis://a:1", "redis://b:1")
    until(lambda: lease(service)[0])
    epoch = lease(service)[1]
    for role in ("broker", "load worker", "stream worker", "scheduler"):
        pid = service.kill(role)
        until(lambda role=role, pid=pid: [found for found in service.find(role) if found.pid != pid])
    until(lambda: lease(service)[1] > epoch)
    until(lambda: owned_by(service, service.one("stream worker").pid))
    assert service.stop() == 130


def test_a_second_signal_ends_it_at_once(up: Start) -> None:
    service = up()
    service.wait_ready()
    service.add_task("redis://a:1", "redis://b:1")
    until(lambda: lease(service)[0])
    for child in service.find("stream worker", child=True):
        child.suspend()
    service.processes()
    service.process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    begin = time.monotonic()
    assert service.stop() == 130
    assert time.monotonic() - begin < 4


def test_two_at_once_on_one_directory(up: Start) -> None:
    service = up()
    service.wait_ready()
    second = up()
    assert second.wait() == 5
    assert f"in use by process {service.process.pid}" in second.errors
    assert service.alive


def test_a_state_directory_with_a_long_path(up: Start, single: StartSingle, tmp_path: Path) -> None:
    state = tmp_path / ("x" * 100) / "state"
    service = up(state=state)
    service.wait_ready()
    beside = single("worker", "--load", "1", state=state)
    said(beside, "ready.")
    beside.terminate()
    assert beside.wait(15) == 0
    assert service.stop() == 130


def test_a_shared_database_is_not_changed_unasked_and_needs_a_key(up: Start, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/shared.db"
    keyless = up(KEYFERRY_DATABASE_URL=url)
    assert keyless.wait() == 5
    assert "keyferry config new-key" in keyless.errors
    env = {"KEYFERRY_DATABASE_URL": url, "KEYFERRY_SECRET_KEY": new_key().decode()}
    old = up(**env)
    assert old.wait() == 5
    assert "run keyferry db upgrade" in old.errors
    command = [sys.executable, "-m", "sync_tasks.cli.main", "db", "upgrade"]
    done = subprocess.run(command, env={**os.environ, **env}, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout[:27]) == (0, "the database is up to date ")
    now = up(**env)
    now.wait_ready()
    assert now.stop() == 130
    assert not (tmp_path / "state" / "keyferry.db").exists()


def test_nodes_of_two_directories_and_of_single_workers_have_names_of_their_own(
    up: Start, single: StartSingle, tmp_path: Path
) -> None:
    first = up()
    first.wait_ready()
    broker = f"redis+socket://{tmp_path}/state/broker.sock"
    second = up(state=tmp_path / "other", KEYFERRY_BROKER_URL=broker)
    assert "/other" in second.wait_ready()
    assert not second.find("broker")
    workers = [single("worker", "--load", "1") for _ in range(2)]
    for process in workers:
        said(process, "ready.")
    answers = make_app(first.settings()).control.ping(timeout=3)
    nodes = [name for answer in answers for name in answer]
    assert len(nodes) == len(set(nodes)) == 6, nodes
    assert {f"load-{process.pid}@{socket.gethostname()}" for process in workers} < set(nodes)
    assert second.stop() == 130


def test_no_secret_is_readable_anywhere(up: Start, tmp_path: Path) -> None:
    key, password = new_key().decode(), "hush-hush-hush"
    env = {"KEYFERRY_SECRET_KEY": key, "KEYFERRY_FLOWER_PASSWORD": password, "KEYFERRY_FLOWER_USER": "somebody"}
    service = up("--flower", **env)
    service.flower_user = "somebody"
    assert "user somebody, password as set" in service.wait_ready()
    until(lambda: len(service.flower("/api/workers", password)) == 2)
    processes = service.processes()
    assert len(processes) == 10
    for process in processes:
        for name in ("cmdline", "environ"):
            text = Path(f"/proc/{process.pid}/{name}").read_bytes()
            assert key.encode() not in text, (process, name)
            assert password.encode() not in text, (process, name)
    shown = json.dumps(service.flower("/api/workers", password))
    assert service.stop() == 130
    for path in (tmp_path / "state").rglob("*"):
        if path.is_file():
            assert key.encode() not in path.read_bytes(), path
            assert password.encode() not in path.read_bytes(), path
    assert key not in shown + service.errors
    assert password not in shown + service.errors


def test_children_share_what_was_imported(up: Start) -> None:
    """Fifty streams on a machine are fifty processes: what each has alone is what counts."""
    service = up()
    service.wait_ready()
    time.sleep(1)
    alone = [process.memory_full_info().uss / 1e6 for process in service.find("stream worker", child=True)]
    assert max(alone) < 22, alone


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_of_its_own_takes_work_and_ends_when_told(up: Start, single: StartSingle, number: int) -> None:
    service = up()
    service.wait_ready()
    worker = single("worker", "--stream", "1")
    said(worker, "ready.")
    family = [psutil.Process(worker.pid), *psutil.Process(worker.pid).children(recursive=True)]
    titles = ["keyferry: stream worker", "keyferry: stream worker process"]
    until(lambda: [" ".join(process.cmdline()).strip() for process in family] == titles)
    worker.send_signal(number)
    assert worker.wait(15) == 0
    assert all(is_gone(process) for process in family)


def test_a_worker_that_is_told_twice_ends_at_once_and_gives_back_what_it_held(up: Start, single: StartSingle) -> None:
    service = up()
    service.wait_ready()
    worker = single("worker", "--stream", "1")
    said(worker, "ready.")
    child = psutil.Process(worker.pid).children()[0]
    service.one("stream worker").suspend()
    for process in service.find("stream worker", child=True):
        process.suspend()
    service.add_task("redis://a:1", "redis://b:1")
    until(lambda: owned_by(service, worker.pid))
    # The worst moment: in a transaction, so that whoever else would write has to wait for it.
    (service.state / "script.json").write_text('{"hold": true}')
    until(lambda: (service.state / "held").exists())
    child.suspend()
    begin = time.monotonic()
    worker.terminate()
    time.sleep(1.5)
    assert worker.poll() is None, "it waits for its stream"
    worker.terminate()
    assert worker.wait(5) == 143
    assert time.monotonic() - begin < 4
    assert lease(service)[0] is None
    assert is_gone(child)


def test_a_scheduler_of_its_own_leads_and_resigns(up: Start, single: StartSingle) -> None:
    """The real one: the stand-in beside it takes no lease."""
    from sync_tasks.models import Lease

    service = up()
    service.wait_ready()
    store = service.store()

    def leader() -> str | None:
        with store.database.read() as session:
            lease = session.get(Lease, "scheduler")
            return lease.owner if lease else None

    scheduler = single("scheduler", module=COMMAND)
    assert f":{scheduler.pid}:" in until(leader)
    assert " ".join(psutil.Process(scheduler.pid).cmdline()).strip() == "keyferry: scheduler"
    scheduler.terminate()
    assert scheduler.wait(10) == 0
    assert leader() is None
    store.dispose()


def test_flower_of_its_own(up: Start, single: StartSingle) -> None:
    service = up()
    service.wait_ready()
    flower = single("flower", module=COMMAND, KEYFERRY_FLOWER_PORT="0", KEYFERRY_FLOWER_PASSWORD="hush")
    line = said(flower, "http://")
    assert line.startswith("keyferry: http://127.0.0.1:")
    service.flower_at = line.split()[1].rstrip(",")
    assert service.flower_status("/api/workers") == 401
    until(lambda: len(service.flower("/api/workers", "hush")) == 2)
    flower.terminate()
    assert flower.wait(5) == 128 + signal.SIGTERM


def test_flower_where_something_else_listens(up: Start) -> None:
    with socket.create_server(("127.0.0.2", 0)) as taken:
        port = str(taken.getsockname()[1])
        service = up("--flower", KEYFERRY_FLOWER_ADDRESS="127.0.0.2", KEYFERRY_FLOWER_PORT=port)
        assert service.wait() == 5
    assert f"Flower cannot listen on 127.0.0.2, port {port}" in service.errors
    assert not service.find("broker")


@pytest.mark.parametrize("options", [(), ("--load", "1", "--stream", "1")])
def test_a_worker_is_of_one_kind(tmp_path: Path, options: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "sync_tasks.cli.main", "worker", "--state", str(tmp_path), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 2
    assert "give one of --load N and --stream N" in done.stderr


def test_a_worker_without_an_installation_says_what_to_do(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sync_tasks.cli.main", "worker", "--load", "1", "--state", str(tmp_path / "new")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 5
    assert done.stderr.startswith("keyferry: control: the database has no tables yet (run keyferry db upgrade")

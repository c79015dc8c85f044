"""Cut-overs between clusters, taken back: each new master's stream is followed from its own exact place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from sync_tasks import Client, Task, TaskState
from sync_tasks.cutover import Step
from sync_tasks.errors import ControlError
from tests.clusters import Cluster, differences
from tests.run_up import Up
from tests.scenarios.conftest import StartCluster
from tests.scenarios.cutover.applications import Application, Place
from tests.servers import StartServer
from tests.waiting import until
from workers.codec.slots_cy import slot

S = TaskState
MORE = 300
"""Commands that are waited for."""


@contextmanager
def service(path: Path) -> Iterator[tuple[Up, Client]]:
    with Up(path / "state", "--stream", "4") as up:
        up.wait_ready()
        with Client(up.state) as client:
            yield up, client


def follows(client: Client, source: Place, target: Place) -> Task:
    task = client.create(source.url() if isinstance(source, Cluster) else source.url(0), target.url())
    client.start(task)
    until(lambda: client.progress(task).in_sync, "in sync", 60)
    return task


def more(application: Application) -> None:
    begun = application.written
    until(lambda: application.written > begun + MORE, "it writes on", 60)


def reversed_(client: Client, task: Task) -> Task | None:
    with suppress(ControlError):
        return client.reverse(task)
    return None


def back_again(client: Client, back: Task, source: Place, target: Place) -> None:
    """The way back is cut over, too, and both sides are equal."""
    until(lambda: client.progress(back).in_sync, "the way back is in sync", 90)
    assert client.finish(back, 60).state is S.FINISHED
    assert differences(source.client(), target.client(), shift_ms=0) == []
    assert client.progress(back).keys_total == 0, "nothing was loaded"


def test_under_traffic_with_workers_killed(cluster: StartCluster, tmp_path: Path) -> None:
    """What the old masters' clients wait for in the pause goes with them; what the new ones are given comes back."""
    source, target = cluster("redis-7.0"), cluster("valkey-9.1")
    with service(tmp_path) as (up, client):
        task = follows(client, source, target)
        with Application(source) as old:
            more(old)

            def repoint(_name: str, step: Step) -> None:
                if step.name == "close":
                    old.gone()

            done = client.finish(task, 90, pause=True, pause_limit_s=8, way_back=True, told=repoint)
            assert done.state is S.FINISHED
        with Application(target, seed=3) as new:
            more(new)
            with pytest.raises(ControlError, match="paused for another"):
                client.reverse(task)

            back = until(lambda: reversed_(client, task), "the pause is over", 30)
            until(lambda: client.get(back).state is S.SYNCHRONIZING, "it follows", 60)
            for _ in range(3):
                more(new)
                up.kill("stream worker", child=True)
            more(new)
        back_again(client, back, source, target)
        assert [node.slots for node in client.progress(back).nodes] == ["0-5460", "5461-10921", "10922-16383"]


@pytest.mark.parametrize("sides", [("one", "three"), ("three", "one")], ids=["to a cluster", "from a cluster"])
def test_between_one_server_and_a_cluster(
    sides: tuple[str, str], server: StartServer, cluster: StartCluster, tmp_path: Path
) -> None:
    source, target = (server("redis-7.0") if one == "one" else cluster("redis-7.0") for one in sides)
    with service(tmp_path) as (up, client):
        task = follows(client, source, target)
        with Application(source) as old:
            more(old)
        tried = client.try_finish(task, pause=True, reverse=True)
        assert tried.would_pass, tried
        assert client.finish(task, 60, pause=True, reverse=True).state is S.FINISHED
        (back,) = [one for one in client.list() if one.name == f"{task.name}-back"]
        with Application(target, seed=2) as new:
            more(new)
            up.kill("stream worker", child=True)
            more(new)
        back_again(client, back, source, target)


def test_slots_that_have_moved_are_refused_until_they_are_back(cluster: StartCluster, tmp_path: Path) -> None:
    """A slot's writes are in two streams then. Nothing is written to the old master before."""
    source, target = cluster("redis-7.0", masters=1), cluster("redis-7.0")
    key = b"n1"
    with service(tmp_path) as (_, client):
        source.client().set(key, "old")
        task = follows(client, source, target)
        assert client.finish(task, 60, way_back=True).state is S.FINISHED
        target.client().set(key, "new")
        home = target.owner(slot(key))
        target.move(slot(key), next(node for node in target.masters if node is not home))
        target.client().append(key, "er")
        back = client.reverse(task)
        until(lambda: client.get(back).state is S.FAILED, "it fails", 60)
        error = client.get(back).error
        assert error is not None
        assert (error.code, error.side.value) == ("slots-moved", "source")
        assert source.client().get(key) == b"old"
        target.move(slot(key), home)
        client.resume(back)
        until(lambda: source.client().get(key) == b"newer", "it comes back", 60)
        until(lambda: client.progress(back).in_sync, "it follows", 60)
        target.move(slot(key), next(node for node in target.masters if node is not home))
        target.client().append(key, "!")
        until(lambda: source.client().get(key) == b"newer!", "from where the slot is now", 60)
        back_again(client, back, source, target)

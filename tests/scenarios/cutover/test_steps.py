"""The cut-over by steps: who writes is named, writes are paused, what fails is undone, who dies replaced, and back."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import redis

from sync_tasks import Client, Task, TaskState
from sync_tasks.cutover import Step
from sync_tasks.errors import ControlError, KeyferryError, SourceError, TargetError, UsageError
from sync_tasks.states import RUNNING
from tests.compare import same
from tests.dataset import fill
from tests.run_up import Up
from tests.scenarios.judge import equal
from tests.servers import Server, StartServer
from tests.traffic import Traffic
from tests.waiting import until

HOUR_MS = 3_600_000
S = TaskState


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with Up(tmp_path_factory.mktemp("service") / "state", "--stream", "3") as made:
        made.wait_ready()
        yield made


@pytest.fixture
def client(service: Up) -> Iterator[Client]:
    with Client(service.state) as made:
        yield made
        for task in made.list():
            if task.state in RUNNING:
                made.suspend(task, 0, receive=False)


def follows(client: Client, source: Server, target: Server, **settings: Any) -> Task:
    task = client.create(source.url(), target.url(), **settings)
    client.start(task)
    until(lambda: client.progress(task).in_sync, "in sync", 60)
    return task


def steps(client: Client, task: Task) -> dict[str, str]:
    found = client.cut_over(task)
    assert found is not None
    return {step.name: step.state for step in found.steps}


def events(client: Client, task: Task, kind: str) -> list[str]:
    return [event.text for event in client.events(task) if event.kind == kind]


class Writer(threading.Thread):
    """A client with a name that counts, until it is told to stop."""

    def __init__(self, server: Server, db: int = 0, *, reads: bool = False) -> None:
        super().__init__(daemon=True)
        self.reads = reads
        self.client = server.client(db=db, client_name="orders-api")
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.02):
            with suppress(redis.TimeoutError):  # a pause may last for longer than a client waits
                self.client.incr("count")
                if self.reads:
                    self.client.get("count")

    def __enter__(self) -> Writer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.join(30)


def test_who_writes_is_named_and_who_does_not_is_in_nobodys_way(client: Client, server: StartServer) -> None:
    """Also keys that expire all the while, and writes out of scope."""
    source, target = server("redis-7.0"), server("redis-7.0")
    for n in range(400):
        source.client().set(f"short:{n}", n, px=4000 + n * 15)
    task = follows(client, source, target, databases={0: 0})
    until(lambda: source.client().dbsize() < 390, "they begin to expire", 30)
    left = source.client().dbsize()
    assert client.try_finish(task).would_pass, "what expires is written by nobody"
    assert source.client().dbsize() < left
    with Writer(source):
        tried = client.try_finish(task)
        with pytest.raises(SourceError, match=r"INCRBY \d+; by 127\.0\.0\.1:\d+ \(name orders-api\) with INCRBY") as e:
            client.finish(task)
    assert e.value.code == "source-written"
    with Writer(source, reads=True), pytest.raises(SourceError, match=r"orders-api"):
        client.finish(task)
    assert (tried.would_pass, {s.name: s.state for s in tried.steps}["writers"]) == (False, "failed")
    assert (client.get(task).state, client.get(task).finishing) == (S.SYNCHRONIZING, False)
    until(lambda: client.progress(task).in_sync, "it goes on", 30)
    until(lambda: source.client().dbsize() == 1, "all have expired", 30)
    with Writer(source, db=5):  # not in scope
        done = client.finish(task, 60)
    assert done.state is S.FINISHED
    assert steps(client, task)["writers"] == "passed"


def test_a_dry_run_changes_nothing(client: Client, server: StartServer) -> None:
    source, target = server("redis-7.0"), server("valkey-9.1")
    source.client().mset({f"k:{n}": n for n in range(300)})
    source.client().set("timed", 1, px=HOUR_MS)
    task = follows(client, source, target)
    settings = source.client().config_get("min-replicas-*")
    seen = client.events(task)
    offset = source.client().info("replication")["master_repl_offset"]
    tried = client.try_finish(task, pause=True, reverse=True)
    assert tried.would_pass, tried
    assert [step.name for step in tried.steps] == [
        "delay", "writers", "expiries", "way back", "pause", "drain", "verify",
    ]  # fmt: skip
    assert "it would compare" in tried.steps[-1].text
    assert source.client().info("replication")["master_repl_offset"] - offset < 100, "pings alone"
    assert source.client().config_get("min-replicas-*") == settings
    assert source.client().set("not", "paused", px=1)
    assert client.events(task) == seen
    assert (client.get(task).state, client.get(task).finishing) == (S.SYNCHRONIZING, False)
    equal(source, target)  # with the extension


@pytest.mark.parametrize("kind", ["redis-6.2", "valkey-9.1"])
def test_writes_are_paused_for_a_moment_and_late_ones_are_told(
    kind: str, client: Client, server: StartServer, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = server(kind), server(kind)
    fill(source.client(), 1000)
    task = follows(client, source, target)
    with Traffic(source, clients=2, rate=1000):
        told: list[str] = []
        client.finish(task, 120, pause=True, pause_limit_s=20, told=lambda _name, step: told.append(step.name))
        found = client.cut_over(task)
        assert found is not None
        assert found.paused_s is not None
        assert found.verified_s is not None
        beside = found.paused_s - found.verified_s
        with capsys.disabled():
            print(f"\n{kind}: writes were paused for {found.paused_s} s, {beside:.3f} s of that not to verify")
        assert beside < 1.0
        tolerance = 0 if source.version >= (7, 0) else 100
        same(source.url(), target.url(), shift_ms=0, tolerance_ms=tolerance)
        assert told == ["delay", "expiries", "writers", "way back", "pause", "drain", "verify", "close", "finished"]
        assert found.offsets == (client.progress(task).applied_offset,)
        assert events(client, task, "late-writes") == []
        source.client().execute_command("CLIENT", "UNPAUSE")
        until(lambda: events(client, task, "late-writes"), "what is written now is told", 30)
    assert "bytes were written to the source after the cut-over" in events(client, task, "late-writes")[0]
    assert "by 127.0.0.1:" in events(client, task, "late-writes")[0]
    after = client.cut_over(task)
    assert after is not None
    assert after.late


def test_what_fails_is_undone_and_a_second_one_succeeds(client: Client, server: StartServer) -> None:
    source, target = server("redis-7.0"), server("redis-7.0")
    fill(source.client(), 500)
    source.client().set("timed", 1, px=HOUR_MS)
    task = follows(client, source, target)
    target.client().set("planted", 1)
    with Traffic(source, clients=1, rate=300):
        with pytest.raises(TargetError, match="extra db 0 planted") as caught:
            client.finish(task, 60, pause=True)
        assert caught.value.code == "verify-failed"
        assert steps(client, task)["verify"] == "failed"
        assert source.client().set("at", "once")
        assert not client.get(task).finishing
        target.client().delete("planted")
    until(lambda: client.progress(task).in_sync, "it follows on", 60)
    equal(source, target)
    assert len(events(client, task, "finish-failed")) == 1
    with Traffic(source, clients=1, rate=300):  # it waits until the pause is over
        assert client.finish(task, 60, pause=True, pause_limit_s=12).state is S.FINISHED
        same(source.url(), target.url(), shift_ms=0)


def test_it_is_compared_as_deeply_as_was_asked(client: Client, server: StartServer) -> None:
    source, target = server("redis-7.0"), server("redis-7.0")
    source.client().mset({"same length": "a", "longer": "b", "out:of scope": 1})
    overwrites = {"conflict_mode": "ignore-and-proceed", "filter": {"block_prefixes": ["out:"]}}
    task = follows(client, source, target, **overwrites)
    target.client().mset({"same length": "x", "longer": "bb", "the target's own": 1})
    with pytest.raises(TargetError, match=r"1 differences: value db 0 longer"):
        client.finish(task, 60, verify="length")
    target.client().set("longer", "b")
    client.modify(task, verify={"sample": 1e-4})  # none of these
    with pytest.raises(TargetError, match=r"1 differences: value db 0 same length"):
        client.finish(task, 60, verify="full")
    assert client.finish(task, 60).state is S.FINISHED
    assert target.client().get("same length") == b"x"


def test_where_client_pause_is_not_permitted_a_setting_does_it_and_is_put_back(
    client: Client, server: StartServer
) -> None:
    source, target = server("redis-7.0"), server("redis-7.0")
    source.client().execute_command("ACL", "SETUSER", "mover", "on", ">pw", "~*", "+@all", "-client|pause")
    source.client().config_set("min-replicas-max-lag", 7)
    before = source.client().config_get("min-replicas-*")
    source.client().set("k", 1)
    task = client.create(source.url().replace("//", "//mover:pw@"), target.url())
    client.start(task)
    until(lambda: client.progress(task).in_sync, "in sync", 60)
    target.client().set("planted", 1)
    with pytest.raises(TargetError):
        client.finish(task, 60, pause=True)
    assert source.client().config_get("min-replicas-*") == before
    target.client().delete("planted")
    client.finish(task, 60, pause=True, pause_limit_s=3)
    with pytest.raises(Exception, match=r"(?i)not enough good replicas|NOREPLICAS"):
        source.client().set("k", 2)
    with pytest.raises(ControlError, match="paused for another"):
        client.release(task)
    until(lambda: source.client().config_get("min-replicas-*") == before, "it is put back", 30)
    assert source.client().set("k", 2)
    until(lambda: events(client, task, "pause-over"), "and that is told", 30)
    client.release(task)


def test_who_carries_it_out_dies(server: StartServer, tmp_path: Path) -> None:
    """In the pause the load workers: it ends soon, and another one begins again. Then the stream's process."""
    source, target = server("redis-7.0"), server("redis-7.0")
    for n in range(60_000):
        if n % 5000 == 0:
            pipe = source.client().pipeline(transaction=False)
        pipe.set(f"timed:{n}", n, px=HOUR_MS + n)
        if n % 5000 == 4999:
            pipe.execute()
    with Up(tmp_path / "state", "--stream", "1", "--load", "1") as service:
        service.wait_ready()
        with Client(service.state) as client:
            task = follows(client, source, target, verify={"limits": {"rps": 20_000}})
            with Writer(source):
                client.finish(task, 0, pause=True)
                until(lambda: "drain" in steps(client, task), "it verifies", 60)
                service.kill("load worker", child=True)
                killed = time.monotonic()
                source.client(socket_timeout=60).set("paused", "no more")
                assert time.monotonic() - killed < 9, "the pause has ended by itself"
                until(lambda: "interrupted" in steps(client, task), "another one begins again", 60)
                until(lambda: "drain" in steps(client, task), "it verifies again", 60)
                service.kill("stream worker", child=True)
                until(lambda: client.get(task).state is S.FINISHED, "the end", 90)
                same(source.url(), target.url(), shift_ms=0)
                assert steps(client, task)["interrupted"] == "warning"


def test_it_is_taken_back(client: Client, server: StartServer) -> None:
    """What is written to the new master comes to the old one, once and nothing else, and equality holds both ways."""
    source, target = server("redis-7.0"), server("redis-7.0")
    fill(source.client(), 500)
    task = follows(client, source, target, databases={0: 0, 3: 4})
    with Traffic(source, clients=2, rate=500):
        time.sleep(0.5)

    def write(_name: str, step: Step) -> None:
        """As soon as the target is closed, long before the task that goes back begins."""
        if step.name == "close":
            target.client().rpush("at once", *range(10))
            target.client(db=4).incrby("at once", 7)

    assert client.finish(task, 60, pause=True, reverse=True, told=write).state is S.FINISHED
    assert steps(client, task)["reverse"] == "passed"
    (back,) = [one for one in client.list() if one.name == f"{task.name}-back"]
    assert back.settings.databases == {0: 0, 4: 3}
    with Traffic(target, clients=2, rate=500):
        time.sleep(2)
        client.release(task)
    assert target.client().incr("counted") == 1
    target.client(db=4).rpush("list", *range(100))
    until(lambda: client.progress(back).in_sync, "the way back is in sync", 60)
    assert source.client(db=3).llen("list") == 100
    assert (source.client().llen("at once"), source.client(db=3).get("at once")) == (10, b"7")
    assert client.finish(back, 60).state is S.FINISHED
    same(source.url(), target.url(), dbs={0: 0, 3: 4}, shift_ms=0)
    assert not [key for key in source.client().scan_iter(b"keyferry:*") if back.uid.encode() not in key]
    assert client.progress(back).keys_total == 0, "nothing was loaded"


def test_what_is_renewed_before_the_way_back_has_begun_is_there(client: Client, server: StartServer) -> None:
    """Nothing was put on the old master with a hold: it expires keys by itself, whatever the new one says of them."""
    source, target = server("redis-7.0"), server("redis-7.0")
    for key in ("kept", "renewed", "joined", "over"):
        source.client().rpush(key, key)
    task = follows(client, source, target)
    due = time.time() + 10
    for key in ("kept", "renewed", "joined", "over"):
        source.client().pexpireat(key, int(due * 1000))
    assert client.finish(task, 60, way_back=True).state is S.FINISHED
    there = target.client()
    assert (there.persist("kept"), there.expire("renewed", 3600)) == (True, True)
    assert (there.rename("joined", "another"), there.persist("another")) == (True, True)
    assert time.time() < due, "too slow a machine for this test"
    until(lambda: source.client().dbsize() == 0 or not source.client().exists("kept", "renewed", "joined"), "over")
    back = client.reverse(task)
    there.rpush("kept", "more")
    until(lambda: client.progress(back).in_sync, "the way back is in sync", 60)
    assert client.finish(back, 60).state is S.FINISHED
    same(source.url(), target.url(), shift_ms=0)
    assert source.client().lrange("kept", 0, -1) == [b"kept", b"more"]


def test_what_cannot_be_taken_back_says_so(client: Client, server: StartServer) -> None:
    source, target = server("redis-7.0"), server("redis-7.0", config={"repl-backlog-size": "1mb"})
    source.client().set("k", 1)
    merged = client.create(source.url(), target.url(), databases={0: 0, 1: 0})
    with pytest.raises(UsageError, match="merged into 0") as caught:
        client.finish(merged, reverse=True)
    assert caught.value.code == "no-way-back"
    client.release(merged)  # else it would make a loop with the way back
    task = follows(client, source, target)
    with pytest.raises(ControlError, match="cannot be reversed"):
        client.reverse(task)
    client.finish(task, 60, way_back=True)
    for n in range(300):
        target.client().set(f"much:{n}", "x" * 8000)  # more than its backlog
    back = client.reverse(task)
    until(lambda: client.get(back).error is not None, "it fails", 30)
    assert client.get(back).state is S.FAILED, (client.get(back), client.events(back))
    error = client.get(back).error
    assert error is not None
    assert "no longer has its stream from offset" in error.message
    assert "copies everything back" in error.hint
    with pytest.raises(KeyferryError):
        client.resume(back)
    there = [key for key in source.client().scan_iter(count=1000) if not key.startswith(b"keyferry:")]
    assert there == [b"k"], "and nothing was written"

"""A transform whose target is a cluster: what the script returns may go to any master, exactly once, whoever dies."""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import pytest

from sync_tasks.transform.setting import TransformSpec
from tests.clusters import Cluster, differences
from tests.dataset import fill
from tests.run_keyferry import Keyferry, Line
from tests.scenarios.conftest import StartCluster, StartFerry
from tests.scenarios.cutover.test_cutover import ends, finish, store
from tests.scenarios.judge import snapshots
from tests.scenarios.rdb_file.test_rdb_file import dump
from tests.scenarios.transformed.test_transformed import COUNTED, RENAMED, rename
from tests.servers import Server, StartServer
from tests.traffic import Traffic
from tests.waiting import until
from workers.codec.slots_cy import slot

ACCOUNTS = 50


@dataclass(frozen=True)
class One:
    """A server's first database: a cluster has no other."""

    server: Server

    def url(self) -> str:
        return self.server.url(0)


def spec(lua: str) -> str:
    return f"[transform]\nlua = '''\n{lua}\n'''\n"


def change(run: Keyferry, lua: str) -> None:
    with store(run) as opened:
        (task,) = opened.tasks()
        table = task.spec.transform.model_copy(update={"lua": lua})
        opened.modify(task.id, task.spec.model_copy(update={"transform": table}))


def alike(source: Server, target: Cluster) -> None:
    """To the millisecond; what the source lets expire in this moment is gone a moment later."""
    found: list[str] = []

    def same() -> bool:
        found[:] = differences(source.client(), target.client(), shift_ms=0)
        return not found

    with contextlib.suppress(AssertionError):
        until(same, "equal", timeout=20)
    assert not found


def test_every_write_is_transformed_exactly_once(
    server: StartServer, cluster: StartCluster, ferry: StartFerry
) -> None:
    """All that traffic does, RENAME and SUNIONSTORE across slots too, under names of other slots."""
    source, target = server("redis-7.0"), cluster("valkey-9.1")
    client = source.client()
    fill(client, 1000)
    client.mset({f"drop:{i}": i for i in range(200)})
    run = ferry(One(source), target, config=RENAMED)
    with Traffic(source, clients=2, rate=800, mix="unswapped", databases=(0,)):
        until(lambda: run.find("load worker", child=True), "a loader")
        run.kill("load worker", child=True)
        run.wait_phase("synchronizing", timeout=90)
        for _ in range(3):
            time.sleep(1.5)
            run.kill("stream worker", child=True)
    run.settle(source, 120)
    assert snapshots(source) == 1
    finish(run)
    ends(run)
    rename(client)
    alike(source, target)


@pytest.mark.parametrize("reader", ["scan", "rdb"])
def test_what_other_readers_bring_is_transformed_once(
    reader: str, server: StartServer, cluster: StartCluster, tmp_path: Path
) -> None:
    source, target = server("redis-7.0"), cluster("redis-7.0")
    source.client().mset({f"key:{i}": i for i in range(500)})
    url = source.url(0) if reader == "scan" else str(dump(source, tmp_path / "dump.rdb"))
    config = f'reader = "{reader}"\nsync_types = ["full"]\ndatabases = {{0 = 0}}\n{COUNTED}'
    with Keyferry(url, target.url(), tmp_path / "state", config=config) as run:
        assert run.wait(60) == 0, run.report()
    there = target.client()
    assert there.get("total") == b"500"
    assert [there.get(f"key:{i}") for i in range(500)] == [b"%d" % i for i in range(500)]


BOOKED = """
function transform(db, argv)
  if argv[1] == "INCRBY" then return {argv, {"INCRBY", "total", argv[3]}, {"RPUSH", "log:" .. argv[2], argv[3]}} end
  if argv[1] == "SET" then return {argv, {"INCRBY", "total", argv[3]}} end
end
"""


class Bookings:
    """Adds to accounts, one after the other."""

    def __init__(self, source: Server) -> None:
        self._client, self._over, self.made = source.client(), threading.Event(), 0
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while not self._over.wait(0.001):
            pipe = self._client.pipeline(transaction=self.made % 3 == 0)
            for _ in range(10):
                pipe.incrby(f"account:{self.made % ACCOUNTS}", 1 + self.made % 7)
                self.made += 1
            pipe.execute()

    def __enter__(self) -> Bookings:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join(30)


@pytest.mark.parametrize("kind", ["redis-7.0", "redis-6.2"])
def test_sums_over_all_masters_are_right(
    kind: str, server: StartServer, cluster: StartCluster, ferry: StartFerry
) -> None:
    """Each booking is one on its account, one on the sum, and one in a list, in three slots: none twice, none lost."""
    source, target = server(kind), cluster(kind)
    client, there = source.client(), target.client()
    with client.pipeline() as pipe:
        for i in range(20_000):
            pipe.set(f"loaded:{i}", 3)
        pipe.mset({f"account:{i}": 0 for i in range(ACCOUNTS)})
        pipe.execute()
    run = ferry(One(source), target, config=spec(BOOKED))
    with Bookings(source) as bookings:
        run.wait_for(lambda line: line["keys_done"], what="a first chunk's keys")
        for _ in range(2):
            run.kill("load worker", child=True)
        run.wait_phase("synchronizing", timeout=90)
        for _ in range(3):
            begun = bookings.made
            until(lambda begun=begun: bookings.made > begun + 1000, "bookings", 60)  # type: ignore[misc]
            run.kill("stream worker", child=True)
    run.settle(source, 120)
    booked = sum(1 + number % 7 for number in range(bookings.made))
    balances = [int(there.get(f"account:{i}")) for i in range(ACCOUNTS)]
    assert sum(balances) == booked
    # SET of a snapshot is seen, too, and so are the accounts as they were in it.
    lists = sum(sum(map(int, there.lrange(f"log:account:{i}", 0, -1))) for i in range(ACCOUNTS))
    before = booked - lists
    assert int(there.get("total")) == 20_000 * 3 + before + lists
    assert client.info("stats")["sync_full"] == 1


APART = """
function transform(db, argv)
  if argv[2] == "bad" then
    return {"RENAME", "one", "other"}
  end
end
"""
NOTHING = "function transform(db, argv) end"


@pytest.mark.parametrize("loading", [True, False], ids=["load", "stream"])
def test_what_cannot_be_split_is_an_error_until_it_is_corrected(
    loading: bool, server: StartServer, cluster: StartCluster, ferry: StartFerry
) -> None:
    source, target = server("redis-7.0"), cluster("redis-7.0")
    client, there = source.client(), target.client()
    client.mset({f"key:{i}": i for i in range(300)})
    if loading:
        client.set("bad", 1)
        while b"bad" in client.scan(count=200)[1]:  # else the precheck would tell before the start
            client.mset({f"key:{i}": i for i in range(client.dbsize(), 2 * client.dbsize())})
    run = ferry(One(source), target, config=spec(APART))
    if not loading:
        run.wait_in_sync()
        client.set("bad", 1)

    def stuck(line: Line) -> bool:
        retry, error = line["retry"], line["error"]
        said = retry and retry["kind"] == "other" and error and error["message"]
        return bool(said and "at SET bad: transform returned RENAME one, which names keys of several" in said)

    run.wait_for(stuck, what="an open window that names the key", timeout=60)
    client.incr("behind")
    assert (there.get("bad"), there.get("behind")) == (None, None)
    change(run, NOTHING)
    run.settle(source)
    run.wait_for(lambda line: line["error"] is None and not line["retry"], what="the window closed")
    finish(run)
    ends(run)
    alike(source, target)


def test_a_script_is_not_changed_while_the_masters_are_at_different_places(
    server: StartServer, cluster: StartCluster, ferry: StartFerry
) -> None:
    """What lies between would pass the one script here and the other there. With the former one it goes on."""
    source, target = server("redis-7.0"), cluster("redis-7.0")
    client = source.client()
    client.mset({f"key:{i}": i for i in range(300)})
    first = 'function transform(db, argv) argv[2] = "n:" .. argv[2] return argv end'
    run = ferry(One(source), target, config=spec(first))
    run.wait_in_sync()
    late = target.masters[0]
    late.client().config_set("maxmemory", 1)  # it takes no write
    try:
        for i in range(300):
            client.set(f"more:{i}", i)
        owners = target.masters[1].client().execute_command("CLUSTER", "SLOTS")
        others = {port: (first, last) for first, last, (_, port, *_more), *_rest in owners if port != late.port}
        (first_slot, last_slot), other = others[target.masters[1].port], target.masters[1].client()
        there = [f"n:more:{i}" for i in range(300) if first_slot <= slot(b"n:more:%d" % i) <= last_slot]
        last = there[-1]
        until(lambda: other.get(last) is not None, "the others go on")
        change(run, first.replace("n:", "m:"))

        def refused(line: Line) -> bool:
            return bool(line["error"] and line["error"]["code"] == "transform-changed")

        run.wait_for(refused, what="it is refused", timeout=60)
        change(run, first)
    finally:
        late.client().config_set("maxmemory", 0)
    run.settle(source)
    assert not list(target.client().scan_iter("m:*"))
    assert target.client().get("n:more:7") == b"7"
    other_lua = first.replace("n:", "m:")
    change(run, other_lua)  # now they are at one place, and nobody writes
    digest = TransformSpec(lua=other_lua).digest.encode()

    def taken_up() -> bool:
        nodes = [node.client() for node in target.masters]
        said = [node.hget(key, "script") or b"" for node in nodes for key in node.scan_iter("keyferry:*:ck")]
        return len(said) == 3 and all(one.startswith(digest) for one in said)

    until(taken_up, "the script is taken up by all", 60)
    client.set("probe", 1)
    until(lambda: target.client().get("m:probe"), "it is used", 30)
    assert run.stop() == 130


def test_slots_that_move_stop_it_until_they_are_back(
    server: StartServer, cluster: StartCluster, ferry: StartFerry
) -> None:
    source, target = server("redis-7.0"), cluster("redis-7.0")
    client = source.client()
    client.set("there", 0)
    run = ferry(One(source), target, config=RENAMED)
    run.wait_in_sync()
    moved = slot(b"n:there")
    home = target.owner(moved)
    target.move(moved, next(node for node in target.masters if node is not home))
    for _ in range(10):
        client.incr("there")
    run.wait_for(lambda _: run.rows("SELECT text FROM event WHERE kind = 'lanes'"), what="it is told", timeout=60)
    assert target.client().get("n:there") == b"0"
    target.move(moved, home)
    run.settle(source, 120)
    assert target.client().get("n:there") == b"10"
    assert run.stop() == 130

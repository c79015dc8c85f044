"""A transform over all traffic; workers die meanwhile. Then the target has what the script makes of the source."""

from __future__ import annotations

import contextlib
import time

import pytest
import redis

from sync_tasks.spec import TaskSpec
from sync_tasks.transform.setting import TransformSpec
from tests.compare import same
from tests.dataset import fill, sibling
from tests.run_keyferry import Keyferry, Line
from tests.scenarios.conftest import StartFerry
from tests.scenarios.cutover.test_cutover import ends, finish, store
from tests.scenarios.judge import equal, snapshots
from tests.scenarios.kill_load_worker.test_kill_load_worker import kill as kill_loader
from tests.servers import Server, StartServer
from tests.slow import DAWDLING, RAW, bulk, slowed
from tests.traffic import Traffic
from tests.waiting import until

RENAMED = """
[transform]
lua = '''
function transform(db, argv, about)
  if about.key and about.key:sub(1, 5) == "drop:" then return false end
  for _, i in ipairs(about.positions) do argv[i] = "n:" .. argv[i] end
  if about.keys[1] then return argv end
end
'''
"""
COMMANDS = 2500
TARGET = 4
HOUR_MS = 3_600_000
SHORT_S = 3
LATE_MS = 10_000
"""What is written while a worker is replaced comes so much later at most, on a busy machine."""


def more(source: Server) -> None:
    """Wait for so much more of the traffic."""

    def executed() -> int:
        return int(source.client().info("stats")["total_commands_processed"])

    begun = executed()
    until(lambda: executed() > begun + COMMANDS, "traffic goes on", 60)


def rename(client: redis.Redis) -> None:
    """Do to the source what the script does."""
    for db in client.info("keyspace"):
        there = sibling(client, int(db.removeprefix("db")))
        for key in set(there.scan_iter(count=1000)):
            if key.startswith(b"drop:"):
                there.delete(key)
                continue
            with contextlib.suppress(redis.ResponseError):  # it has expired in this moment
                there.rename(key, b"n:" + key)


def close(run: Keyferry) -> None:
    """Cut over: from then on expiries are the source's own."""
    finish(run)
    ends(run)


@pytest.mark.parametrize(
    ("source_kind", "target_kind"),
    [("redis-7.0", "valkey-9.1"), ("redis-6.2", "redis-6.2"), ("valkey-9.1", "valkey-9.1")],
)
def test_every_write_is_transformed_exactly_once(
    source_kind: str, target_kind: str, server: StartServer, ferry: StartFerry
) -> None:
    source, target = server(source_kind, config=RAW), server(target_kind)
    fill(source.client(), 1000)
    bulk(source, 20_000)
    source.client().mset({f"drop:{i}": i for i in range(500)})

    with Traffic(source, clients=3, rate=1000) as traffic:
        with slowed(target):
            run = ferry(source, target, config=RENAMED)
            run.wait_for(lambda line: line["keys_done"], what="a first chunk's keys")
            kill_loader(run, child=True)
        run.wait_phase("synchronizing", timeout=90)
        for _ in range(3):
            more(source)
            source.client().set("drop:later", 1)
            run.kill("stream worker", child=True)
        more(source)
    run.settle(source, 120)
    assert traffic.written > 3000
    assert snapshots(source) == 1
    close(run)
    rename(source.client())
    if source.version < (7, 0):  # times are relative, and count from the moment at which they came
        same(source.url(), target.url(), tolerance_ms=LATE_MS)
    else:
        equal(source, target, extended_ms=0)


COUNTED = """
[transform]
lua = '''
function transform(db, argv, about)
  if argv[1] == "SET" then return {argv, {"INCR", "total"}} end
end
'''
"""


@pytest.mark.parametrize("whole", [False, True], ids=["pool child", "whole worker"])
def test_a_chunk_is_gone_on_with_where_its_loader_died(
    whole: bool, server: StartServer, ferry: StartFerry
) -> None:
    source, target = server("redis-7.0", config=RAW), server("redis-7.0")
    bulk(source, 30_000)
    with slowed(target):
        run = ferry(source, target, config=COUNTED)
        run.wait_for(lambda line: line["keys_done"], what="a first chunk's keys")
        for _ in range(3):
            kill_loader(run, child=not whole)
    run.wait_phase("synchronizing", timeout=90)
    run.settle(source)
    assert any(chunk["epoch"] > 1 for chunk in run.chunks()), "no kill has hit a chunk"
    assert target.client(db=2).get("total") == b"30000"


BROKEN = """
[transform]
lua = '''
function transform(db, argv)
  local key = argv[2]
  if key == "bad" then
    error("not this one")
  end
  argv[2] = "n:" .. key
  return argv
end
'''
"""
CORRECTED = """
function transform(db, argv)
  argv[2] = "n:" .. argv[2]
  return argv
end
"""


def correct(run: Keyferry, extend_s: int = 600) -> None:
    with store(run) as opened:
        spec = TaskSpec(transform=TransformSpec(lua=CORRECTED), extend_expiry_s=extend_s)
        opened.modify(opened.tasks()[0].id, spec)


def stuck(line: Line) -> bool:
    """In the window for other issues, with line and key."""
    retry, error = line["retry"], line["error"]
    said = retry and retry["kind"] == "other" and error and error["message"]
    return bool(said and "line 4 of the transform, at " in said and " bad: not this one" in said)


@pytest.mark.parametrize("loading", [True, False], ids=["load", "stream"])
def test_a_script_that_fails_stops_at_its_command_until_it_is_corrected(
    loading: bool, server: StartServer, ferry: StartFerry
) -> None:
    source, target = server("redis-7.0"), server("redis-7.0")
    client = source.client()
    client.mset({f"key:{i}": i for i in range(500)})
    if loading:
        client.set("bad", "there")
        while b"bad" in client.scan(count=200)[1]:  # the precheck, which tries some keys, would tell before the start
            client.mset({f"key:{i}": i for i in range(client.dbsize(), 2 * client.dbsize())})
    run = ferry(source, target, config=BROKEN)
    if not loading:
        run.wait_in_sync()
        client.incr("counter")
        client.append("bad", "there")
    run.wait_for(stuck, what="an open window that names line and key")
    client.incr("counter")
    assert target.client().mget("n:bad", "n:counter") == [None, None if loading else b"1"]
    correct(run)
    run.settle(source)
    run.wait_for(lambda line: line["error"] is None and not line["retry"], what="the window closed")
    assert target.client().mget("n:bad", "n:counter", "n:key:7") == [b"there", b"1" if loading else b"2", b"7"]
    close(run)
    rename(client)
    equal(source, target, extended_ms=0)


def test_a_key_that_refuses_a_command_is_copied_anew_through_the_script(
    server: StartServer, ferry: StartFerry
) -> None:
    source, target = server("redis-7.0"), server("redis-7.0")
    client = source.client()
    client.rpush("list", *range(2000))
    client.zadd("drop:set", {"a": 1})
    run = ferry(source, target, config=RENAMED)
    run.wait_in_sync()
    target.client().set("n:list", "theirs")
    client.rpush("list", "last")
    client.pexpire("list", 3_600_000)
    run.settle(source)
    assert target.client().llen("n:list") == 2001
    assert run.rows("SELECT text FROM event WHERE kind = 'repaired'")
    close(run)
    rename(client)
    equal(source, target, extended_ms=0)


@pytest.mark.parametrize(
    "result",
    ["{'HSET', 'n:key', 'odd'}", "{{'SET', 'n:x', 1}, {'SADD', 'n:x', 1}}"],
    ids=["when queued", "when executed"],
)
@pytest.mark.parametrize("loading", [True, False], ids=["load", "stream"])
def test_what_the_target_refuses_of_a_script_is_told_and_not_skipped(
    loading: bool, result: str, server: StartServer, ferry: StartFerry
) -> None:
    source, target = server("redis-7.0"), server("redis-7.0")
    client = source.client()
    client.mset({f"key:{i}": i for i in range(300)})
    if loading:
        client.set("key", 1)
    lua = f"function transform(db, argv) if argv[2] == 'key' then return {result} end end"
    run = ferry(source, target, config=f'[transform]\nlua = "{lua}"')
    if not loading:
        run.wait_in_sync()
        client.set("key", 1)
    line = run.wait_for(lambda line: line["retry"] and line["error"], what="an open window")
    assert line["retry"]["kind"] == "other"
    said = line["error"]["message"]
    assert "at SET key: the target refuses " in said
    correct(run)
    run.settle(source)
    assert target.client().get("n:key") == b"1"
    assert run.stop() == 130


def test_a_snapshot_that_breaks_off_leaves_nothing(server: StartServer, ferry: StartFerry) -> None:
    source, target = server("redis-7.0", config=DAWDLING), server("redis-7.0")
    bulk(source, 20_000)
    client = source.client(db=2)
    run = ferry(source, target, config=RENAMED)
    run.wait_for(lambda line: line["keys_done"], what="a first chunk's keys")
    loaded = {key.removeprefix(b"n:") for key in target.client(db=2).scan_iter(count=1000)}
    gone = sorted(loaded)[:1000]
    with client.pipeline() as pipe:
        pipe.delete(*gone)
        pipe.execute()
    assert source.client().execute_command("CLIENT", "KILL", "TYPE", "replica")
    run.wait_phase("synchronizing", timeout=90)
    run.settle(source)
    assert snapshots(source) == 2
    assert run.rows("SELECT text FROM event WHERE kind = 'sweep'")
    close(run)
    rename(client)
    equal(source, target, extended_ms=0)


def test_a_full_sync_in_place_is_refused(server: StartServer, ferry: StartFerry) -> None:
    source, target = server("redis-7.0"), server("redis-7.0")
    source.client().mset({f"key:{i}": i for i in range(100)})
    run = ferry(source, target, config=RENAMED)
    run.wait_in_sync()
    target.client().flushall()
    source.client().set("later", 1)
    assert run.wait() == TARGET
    assert run.last["error"]["code"] == "cannot-continue"
    assert "a transform does not allow" in run.last["error"]["message"]


def test_what_came_late_under_a_transform_that_was_added_is_copied_anew(
    server: StartServer, ferry: StartFerry
) -> None:
    """Expiries that were written before are not held: whether what a script makes of a key is there nobody can say."""
    source, target = server("redis-7.0"), server("redis-7.0")
    client = source.client()
    client.set("key", "v", px=HOUR_MS)
    run = ferry(source, target, config=f"extend_expiry_s = {SHORT_S}")
    run.wait_in_sync()
    correct(run, SHORT_S)
    until(lambda: client.set("probe", 1) and target.client().get("n:probe"), "the script is taken up", 30)
    run.settle(source)
    run.kill_tree()
    client.pexpire("key", 2 * HOUR_MS)
    time.sleep(SHORT_S)  # this late it comes
    run = ferry(source, target, config=f"extend_expiry_s = {SHORT_S}\n[transform]\nlua = '''{CORRECTED}'''")
    run.settle(source)
    assert target.client().mget("key", "n:key") == [b"v", b"v"]
    assert run.rows("SELECT text FROM event WHERE kind = 'repaired'")
    assert run.stop() == 130


def test_a_copy_alone_ends_with_the_sources_times(server: StartServer, ferry: StartFerry) -> None:
    source, target = server("redis-7.0"), server("redis-7.0")
    client = source.client()
    fill(client, 200)
    client.set("key", "v", px=HOUR_MS)
    run = ferry(source, target, config=f'sync_types = ["full"]\n{RENAMED}')
    assert run.wait() == 0
    assert target.client().pttl("n:key") <= HOUR_MS
    rename(client)
    equal(source, target, extended_ms=0)

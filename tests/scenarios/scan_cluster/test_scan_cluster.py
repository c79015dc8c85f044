"""A cluster that forbids PSYNC is read slot by slot, and followed by the notifications of its nodes."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import CredentialsRefused, Side, SourceError
from sync_tasks.precheck.grants import LISTENING, OF_CLUSTER, SCANNING
from sync_tasks.precheck.items import item_of
from sync_tasks.precheck.scene import Scene
from sync_tasks.spec import TaskSpec
from tests.clusters import Cluster, differences
from tests.run_keyferry import Keyferry
from tests.scenarios.cluster_source.test_cluster_source import at_once, few, to_a_new_shard
from tests.scenarios.cluster_source.writers import Writers
from tests.scenarios.cluster_target.test_databases import SEVERAL, unlike
from tests.scenarios.conftest import StartCluster, StartFerry
from tests.scenarios.notified.test_notified import LATER, passes
from tests.servers import StartServer
from tests.waiting import until
from workers.codec.slots_cy import slot

FOLLOWED = 'reader = "scan"\n'
FULL = 'reader = "scan"\nsync_types = ["full"]\n'
TELLS = {"notify-keyspace-events": "KEA"}


class Listener:
    """The source as a user who may read and listen, and nothing else."""

    def __init__(self, source: Cluster) -> None:
        self._source = source
        for node in source.nodes:
            words = [*SCANNING, *OF_CLUSTER, *LISTENING]
            keys = ["%R~*", "%R~"] if node.version >= (7, 0) else ["~*"]
            words = words if node.version >= (7, 0) else [one for one in words if one not in LATER]
            node.client().execute_command("ACL", "SETUSER", "reader", "reset", "on", ">word", *keys, *words)

    def url(self) -> str:
        return self._source.url().replace("://", "://reader:word@")


def quiet(run: Keyferry, source: Cluster, target: Any, *, alone: bool = True) -> None:
    """Until the target has all that the source has told up to now, nothing is held, and both are equal.

    Args:
        alone: the source's masters have had no replicas, and so we were none, either.
    """
    here, there, mark = source.client(), target.client(), b"%d" % time.monotonic_ns()
    here.set("mark", mark)
    until(lambda: there.get("mark") == mark, "what was told is there", 60)
    at = len(run.lines)
    until(lambda: any(line["in_sync"] for line in run.lines[at:]), f"in sync\n{run.report()}", 60)
    with suppress(AssertionError):  # what the source lets expire goes from the target a moment later
        until(lambda: not differences(here, there), "equal", 15)
    assert not differences(here, there)
    assert run.last["error"] is None
    if alone:
        assert not any(int(node.client().info("stats")["sync_full"]) for node in source.masters)


def fill(source: Cluster, keys: int) -> None:
    client: Any = source.client()
    with client.pipeline() as pipe:
        for number in range(keys):
            pipe.set(f"k{number}", number)
            if number % 10 == 0:
                pipe.hset(f"h{number}", mapping={"a": number, "b": "x" * 50})
                pipe.pexpire(f"h{number}", 1_000_000 + number)
        pipe.execute()


@pytest.mark.parametrize("kind", ["redis-7.0", "valkey-9.1", "redis-8.2", "valkey-8.1", "redis-6.2"])
def test_slots_move_under_traffic(kind: str, server: StartServer, cluster: StartCluster, ferry: StartFerry) -> None:
    """Nobody hands anything over: no key goes from the target because it has gone from a node."""
    source, target = cluster(kind, config=TELLS), server(kind)
    fill(source, 1000)
    rests: Any = source.client()
    names = [f"{{n{number}}}rests" for number in range(25)]
    for name in names:
        rests.set(name, "never written to again")
    run = ferry(Listener(source), target, config=FOLLOWED)
    with Writers(source, clients=2):
        run.wait_in_sync()
        missing = list[int]()
        with Looking(target, names, missing):
            few(source)
            run.kill("stream worker", child=True)
            time.sleep(1)
    quiet(run, source, target)
    assert not missing
    assert len(run.last["nodes"]) == 3


class Looking:
    """Whether keys are there all the while."""

    def __init__(self, target: Any, names: list[str], missing: list[int]) -> None:
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(target.client(), names, missing), daemon=True)

    def _run(self, client: Any, names: list[str], missing: list[int]) -> None:
        while not self._over.wait(0.02):
            if (there := client.exists(*names)) < len(names):
                missing.append(len(names) - there)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


@pytest.mark.rare
@pytest.mark.parametrize(("kind", "how"), [("redis-7.0", to_a_new_shard), ("valkey-9.1", at_once)])
def test_to_others_that_were_not_heard(
    kind: str, how: Callable[[Cluster], None], server: StartServer, cluster: StartCluster, ferry: StartFerry
) -> None:
    """They are listened to from then on, and a pass finds what was lost before."""
    source, target = cluster(kind, config=TELLS), server(kind)
    fill(source, 1000)
    run = ferry(source, target, config=FOLLOWED)
    with Writers(source, clients=2):
        run.wait_in_sync()
        how(source)
        until(lambda: passes(run), "a pass", 60)
        time.sleep(1)
    quiet(run, source, target)
    assert len(run.last["nodes"]) == 3, "each has the slots that it began with"


@pytest.mark.rare
def test_a_shard_fails_over(server: StartServer, cluster: StartCluster, ferry: StartFerry) -> None:
    """The subscription goes to the replica that has become the master, and a pass finds what was lost."""
    source, target = cluster("valkey-9.1", replicas=1, config=TELLS), server("valkey-9.1")
    fill(source, 1000)
    run = ferry(source, target, config=FOLLOWED)
    with Writers(source, clients=2):
        run.wait_in_sync()
        source.fail_over(1)
        until(lambda: passes(run), "a pass", 60)
        time.sleep(1)
    quiet(run, source, target, alone=False)


@pytest.mark.rare
def test_a_shard_is_switched_off(server: StartServer, cluster: StartCluster, ferry: StartFerry) -> None:
    """Its slots are at another one; the node that had them goes on with them."""
    source, target = cluster("valkey-9.1", config=TELLS), server("valkey-9.1")
    fill(source, 1000)
    run = ferry(source, target, config=FOLLOWED)
    with Writers(source, clients=2):
        run.wait_in_sync()
        *left, gone = source.masters
        words = ("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", 10922, 16383, "NODE", source.name(left[0]))
        assert gone.client().execute_command(*words)
        until(lambda: source.owner(16383) is left[0], "slots that have moved", 30)
        for node in left:
            node.client().execute_command("CLUSTER", "FORGET", source.name(gone))
        gone.kill()
        source.masters.remove(gone)
        time.sleep(1)
        run.kill("stream worker", child=True)
        time.sleep(1)
    quiet(run, source, target, alone=False)
    assert [node["slots"] for node in run.last["nodes"]] == ["0-5460", "5461-10921", "10922-16383"]


@pytest.mark.rare
def test_to_another_cluster(cluster: StartCluster, ferry: StartFerry) -> None:
    source, target = cluster("redis-7.0", config=TELLS), cluster("redis-7.0", masters=2)
    fill(source, 1000)
    run = ferry(source, target, config=FOLLOWED)
    with Writers(source, clients=2):
        run.wait_in_sync()
        few(source)
        run.kill("stream worker", child=True)
        time.sleep(1)
    rests: Any = source.client()
    rests.set("long", b"x" * (20 << 20), px=1_000_000)
    quiet(run, source, target)
    assert {row["gen"] for row in run.rows("SELECT gen FROM chunk")} == {1}, "nothing was read anew"


@pytest.mark.rare
@pytest.mark.parametrize("to", ["a cluster", "a server"])
def test_all_of_it_together(to: str, server: StartServer, cluster: StartCluster, ferry: StartFerry) -> None:
    """Slots move to and fro, owners are killed, a shard fails over."""
    rng, source = random.Random(0), cluster("redis-7.0", replicas=1, config=TELLS)
    target: Any = cluster("redis-7.0", masters=2) if to == "a cluster" else server("redis-7.0")
    fill(source, 2000)
    run = ferry(source, target, config=FOLLOWED)
    with Writers(source, clients=2):
        run.wait_phase("synchronizing")
        for turn in range(3):
            for _ in range(8):
                moved = slot(b"n%d" % rng.randrange(400))
                source.move(moved, rng.choice(source.masters), between=lambda: time.sleep(0.02))
            run.kill("stream worker", child=True)
            if turn == 1:
                source.fail_over(rng.randrange(3))
            time.sleep(rng.random() * 2)
    quiet(run, source, target, alone=False)


@pytest.mark.rare
def test_each_database_goes_to_its_own(server: StartServer, cluster: StartCluster, ferry: StartFerry) -> None:
    """Valkey's clusters may have several, from 9.0 on; all slots that are given change hands at once."""
    source, target = cluster("valkey-9.1", config=TELLS | SEVERAL), server("valkey-9.1")
    tags = [b"n%d" % number for number in range(60)]

    def write(text: bytes) -> None:
        for tag in tags:
            for db in (0, 3):
                client: Any = source.owner(slot(tag)).client(db=db)
                client.append(tag, text)
                client.hset(b"{%b}h" % tag, text, db)
                client.set(b"{%b}t" % tag, text, ex=3600)

    write(b"a")
    run = ferry(source, target, config=FOLLOWED)
    run.wait_in_sync()
    write(b"b")
    at_once(source)
    write(b"c")
    until(lambda: passes(run), "a pass", 60)
    write(b"d")
    for db in (0, 3):
        until(lambda db=db: not unlike(source, target, db), f"database {db}", timeout=20)  # type: ignore[misc]


@pytest.mark.rare
@pytest.mark.parametrize("kind", ["redis-7.0", "redis-6.2"])
def test_what_one_node_does_not_grant_is_named(kind: str, server: StartServer, cluster: StartCluster) -> None:
    source, target = cluster(kind, config=TELLS), server(kind)
    endpoint = Endpoint.parse(Listener(source).url(), Side.SOURCE)
    scene = Scene(endpoint, Endpoint.parse(target.url(), Side.TARGET), TaskSpec(reader="scan"))
    scene.meet(Side.SOURCE)
    for item in ("source-permissions", "notifications"):
        assert item_of(item).ask(scene).finding == "passed"
    source.masters[2].client().execute_command("ACL", "SETUSER", "reader", "-asking")
    with pytest.raises(CredentialsRefused, match="may not run ASKING") as refused:
        item_of("source-permissions").ask(scene)
    assert "+cluster|getkeysinslot" in refused.value.hint
    source.masters[1].client().config_set("notify-keyspace-events", "")
    scene.meet(Side.SOURCE)
    with pytest.raises(SourceError, match=f"{source.masters[1].port} does not tell"):
        item_of("notifications").ask(scene)


@pytest.mark.parametrize("kind", ["redis-7.0", "valkey-9.1", "redis-8.2", "valkey-8.1", "redis-6.2"])
def test_all_that_is_there(kind: str, server: StartServer, cluster: StartCluster, ferry: StartFerry) -> None:
    """Once: then the target is closed to the task. A loader dies; a slot is on its way all the while."""
    source, target = cluster(kind), server(kind)
    fill(source, 6000)
    client: Any = source.client()
    for number in range(100):
        client.set(f"{{k7}}{number}", number)
    client.set("{k7}huge", b"x" * (9 << 20))
    ran: list[Keyferry] = []

    def between() -> None:
        run = ferry(Listener(source), target, config=FULL + "[throttle.full]\nsource_qps = 8000\n", load_workers=2)
        ran.append(run)
        until(lambda: target.client().dbsize() > 1000, "it loads", 60)
        run.kill("load worker", child=True)
        assert run.wait(90) == 0, run.report()

    giver = source.owner(slot(b"k7"))
    source.move(slot(b"k7"), next(one for one in source.masters if one is not giver), between)
    assert ran
    assert not differences(client, target.client(), shift_ms=0)

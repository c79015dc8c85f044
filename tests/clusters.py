"""Clusters of real servers for tests: on free ports, whole within a second, stopped at the end.

with Cluster("redis-7.0") as cluster:
    cluster.client().set("a", 1)
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any

import redis
from redis.cluster import ClusterNode, RedisCluster

from tests.servers import Server, free_port, start
from tests.unit.control.tls import Authority

SLOTS = 16384
WAIT_S = 30.0
NODE_TIMEOUT_MS = 2000
"""After which a master that does not answer has failed."""


def until(true: Callable[[], object], what: str, timeout: float = WAIT_S) -> None:
    """Wait for something. Raises AssertionError."""
    deadline = time.monotonic() + timeout
    while not true():
        assert time.monotonic() < deadline, f"not within {timeout:g} s: {what}"
        time.sleep(0.05)


class Cluster:
    """Some masters with equal ranges of slots, and as many replicas of each.

    Args:
        kind: as in `tests.servers`.
        masters, replicas: how many; the replicas of each.
        config: of every node.
        tls: an authority, with whose certificates all of them speak TLS, to each other too, and want to see those of
            clients; they speak in the clear, too, for tests.
    """

    def __init__(
        self,
        kind: str,
        masters: int = 3,
        replicas: int = 0,
        config: dict[str, str] | None = None,
        tls: Authority | None = None,
    ) -> None:
        self.kind, self._config, self._tls = kind, config or {}, tls
        self._tls_ports: dict[int, int] = {}  # by the port in the clear
        self.masters = [self._node() for _ in range(masters)]
        self.replicas = [[self._node() for _ in range(replicas)] for _ in range(masters)]
        self._assign()

    def _node(self) -> Server:
        config = {
            "cluster-enabled": "yes",
            "cluster-node-timeout": str(NODE_TIMEOUT_MS),
            "cluster-replica-validity-factor": "0",
            "cluster-config-file": "nodes.conf",
            **self._config,
        }
        port = _port()
        if self._tls is not None:
            self._tls_ports[port] = _port()
            config |= self._tls.config(clients=True) | dict.fromkeys(("tls-cluster", "tls-replication"), "yes")
            config["tls-port"] = str(self._tls_ports[port])
        return start(self.kind, config={**config, "port": str(port)})

    def _inner(self, node: Server) -> int:
        """The port by which nodes reach each other."""
        return self._tls_ports.get(node.port, node.port)

    @property
    def nodes(self) -> list[Server]:
        return [*self.masters, *(one for some in self.replicas for one in some)]

    def _assign(self) -> None:
        count = len(self.masters)
        for number, node in enumerate(self.masters):
            first, last = SLOTS * number // count, SLOTS * (number + 1) // count - 1
            with node.client() as client:
                client.execute_command("CLUSTER", "ADDSLOTS", *range(first, last + 1))
                client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for node in self.nodes[1:]:
            self.meet(node)
        for master, replicas in zip(self.masters, self.replicas, strict=True):
            for node in replicas:
                self.follow(node, master)
        self.settled()

    def meet(self, node: Server) -> None:
        """Make a node known to the others."""
        with self.masters[0].client() as client:
            client.execute_command("CLUSTER", "MEET", "127.0.0.1", self._inner(node))

    def follow(self, node: Server, master: Server) -> None:
        """Make a node a replica of a master."""
        name = self.name(master)

        def done() -> bool:
            try:
                with node.client() as client:
                    return bool(client.execute_command("CLUSTER", "REPLICATE", name))
            except redis.ResponseError:
                return False  # it does not know the master yet

        until(done, "a node that replicates")

    def add(self) -> Server:
        """One more master, without slots."""
        node = self._node()
        self.masters.append(node)
        self.replicas.append([])
        self.meet(node)
        self.settled()
        return node

    @staticmethod
    def name(node: Server) -> str:
        """A node's own name."""
        with node.client() as client:
            return str(client.execute_command("CLUSTER", "MYID").decode())

    def settled(self) -> None:
        """Wait until every node that runs knows all slots served, and all nodes."""
        until(lambda: all(map(self._is_settled, self.running())), "a cluster that is whole")

    def running(self) -> list[Server]:
        return [node for node in self.nodes if node.process is not None]

    def _is_settled(self, node: Server) -> bool:
        with node.client() as client:
            info = client.execute_command("CLUSTER", "INFO").decode()
            known = client.execute_command("CLUSTER", "NODES").decode()
        whole = "cluster_state:ok" in info and "cluster_slots_ok:16384" in info
        return whole and len(known.splitlines()) >= len(self.nodes) and "handshake" not in known

    def url(self, query: str = "") -> str:
        """By which Keyferry finds it: over TLS, if it speaks that."""
        scheme = "redis+cluster" if self._tls is None else "rediss+cluster"
        place = ",".join(f"127.0.0.1:{self._inner(node)}" for node in self.masters[:2])
        return f"{scheme}://{place}" + (f"?{query}" if query else "")

    def client(self) -> Any:
        """A client of the whole, with bytes for answers."""
        nodes = [ClusterNode("127.0.0.1", node.port) for node in self.running()]
        return RedisCluster(startup_nodes=nodes, protocol=2, decode_responses=False)

    def owner(self, slot: int) -> Server:
        """The master that serves a slot, as the first node that runs knows it."""
        if (found := self._owner_by(self.running()[0], slot)) is None:
            raise AssertionError(f"nobody serves slot {slot}")
        return found

    def _owner_by(self, node: Server, slot: int) -> Server | None:
        """The same, as a node knows it."""
        with node.client() as client:
            for first, last, (_, port, *_rest), *_more in client.execute_command("CLUSTER", "SLOTS"):
                if first <= slot <= last:
                    return next(one for one in self.nodes if one.port == port)
        return None

    def owners(self) -> list[int]:
        """Port of the master of each slot."""
        found = [0] * SLOTS
        with self.running()[0].client() as client:
            for first, last, (_, port, *_rest), *_more in client.execute_command("CLUSTER", "SLOTS"):
                found[first : last + 1] = [port] * (last - first + 1)
        return found

    def move(
        self, slot: int, to: Server, between: Callable[[], object] = lambda: None, share: float = 0.5
    ) -> None:
        """Move a slot while it is in use, as redis-cli does.

        Args:
            between: called when so large a share of its keys is there.
        """
        giver = self.owner(slot)
        if giver is to:
            return
        here, there = self.name(giver), self.name(to)
        with giver.client() as old, to.client() as new:
            new.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", here)
            old.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", there)
            some = int(int(old.execute_command("CLUSTER", "COUNTKEYSINSLOT", slot)) * share)
            moved, told = 0, False
            while True:
                if moved >= some and not told:
                    told = True
                    between()
                keys = old.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 10)
                if not keys:
                    break
                old.execute_command("MIGRATE", "127.0.0.1", self._inner(to), "", 0, 5000, "KEYS", *keys)
                moved += len(keys)
            new.execute_command("CLUSTER", "SETSLOT", slot, "NODE", there)
            with suppress(redis.ResponseError):  # it was its last one, and it is a replica by now
                old.execute_command("CLUSTER", "SETSLOT", slot, "NODE", there)
        self._tell(slot, to, [node for node in self.masters if node not in (giver, to)])
        until(lambda: self._is_known(slot, to) and self._is_known(slot, to, after_s=0.01), "a slot that all know of")

    def _tell(self, slot: int, to: Server, nodes: list[Server]) -> None:
        name = self.name(to)
        for node in nodes:
            if node.process is not None:
                with node.client() as client:
                    client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", name)

    def _is_known(self, slot: int, to: Server, after_s: float = 0.0) -> bool:
        """Whether all masters know who has a slot. Two that hand slots to each other in the same moment take the same
        epoch; the one that then gives way takes an old claim to a slot for a new one, and nobody has it: all are told
        once more, and it takes a later epoch."""
        time.sleep(after_s)
        masters = [node for node in self.masters if node.process is not None]
        if all(self._owner_by(node, slot) is to for node in masters):
            return True
        with to.client() as client:
            client.execute_command("CLUSTER", "BUMPEPOCH")
        self._tell(slot, to, [to, *(node for node in masters if node is not to)])
        return False

    def fail_over(self, number: int) -> Server:
        """Kill a master, and wait until a replica of it is the master; it."""
        master = self.masters[number]
        slots = SLOTS * number // len(self.masters)
        master.kill()
        until(lambda: self.owner(slots) is not master, "a replica that takes over")
        heir = self.owner(slots)
        self.replicas[number].remove(heir)
        self.masters[number] = heir
        until(lambda: self._is_ok(heir), "a cluster that serves again")
        return heir

    @staticmethod
    def _is_ok(node: Server) -> bool:
        with node.client() as client:
            return b"cluster_state:ok" in client.execute_command("CLUSTER", "INFO")

    def dump(self) -> dict[bytes, bytes]:
        """Every key to what DUMP gives of it, but those of Keyferry's own."""
        found: dict[bytes, bytes] = {}
        for node in self.masters:
            with node.client() as client:
                for key in client.scan_iter(count=1000):
                    if not key.startswith(b"keyferry:"):
                        found[key] = client.dump(key)
        return found

    def __enter__(self) -> Cluster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        for node in self.nodes:
            node.__exit__(kind, error, where)


def _port() -> int:
    for _ in range(10):
        if (port := free_port()) < 55000:  # the bus has a port of its own, 10000 above
            return port
    raise AssertionError("no port below 55000 is free")


def value(client: Any, key: bytes) -> Any:
    """What a key holds, the same for equal values however they are stored; None: it is not there."""
    kind = client.type(key)
    if kind == b"string":
        return client.get(key)
    if kind == b"list":
        return client.lrange(key, 0, -1)
    if kind == b"set":
        return client.smembers(key)
    if kind == b"zset":
        return client.zrange(key, 0, -1, withscores=True)
    if kind == b"hash":
        return client.hgetall(key)
    if kind == b"stream":
        groups = [{k: v for k, v in one.items() if k != "consumers"} for one in client.xinfo_groups(key)]
        return client.xrange(key), groups, client.xinfo_stream(key)["last-generated-id"]
    return None if kind == b"none" else client.dump(key)


def differences(one: Any, other: Any, shift_ms: int = 600_000) -> list[str]:
    """What two servers, or clusters, at rest do not have in common; a few words of each.

    Args:
        one, other: clients, the source's first.
        shift_ms: what expiries are later at the other one; a server before 7.0 does not tell them exactly.
    """
    mine, theirs = keys(one), keys(other)
    found = [f"{key!r} is missing" for key in mine - theirs] + [f"{key!r} is too much" for key in theirs - mine]
    for key in mine & theirs:
        if value(one, key) != value(other, key):
            found.append(f"{key!r}: {value(one, key)!r:.200} is {value(other, key)!r:.200}")
        left, there = one.pttl(key), other.pttl(key)
        if (left < 0) != (there < 0) or (left >= 0 and abs(there - left - shift_ms) > 1000):
            found.append(f"{key!r}: {left} ms left, {there} ms")
    return found


def keys(client: Any) -> set[bytes]:
    """Of a server or cluster, but Keyferry's own."""
    everywhere = {"target_nodes": RedisCluster.PRIMARIES} if isinstance(client, RedisCluster) else {}
    return {key for key in client.scan_iter(count=1000, **everywhere) if not key.startswith(b"keyferry:")}

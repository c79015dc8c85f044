"""Masters with replicas, watched by three real Sentinels, for tests: on free ports, whole within a second or two.

with Sentinels("redis-7.0", "orders", "bills") as sentinels:
    orders = sentinels["orders"]
    orders.master.client().set("a", 1)
    orders.fail_over()
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import redis

from tests.servers import Server, binary, die_with_parent, free_port, start
from tests.unit.control.tls import Authority
from tests.waiting import until

COUNT = 3
DOWN_AFTER_MS = 500
FAILOVER_MS = 4000
"""A failover that comes to nothing is tried again after twice as long."""


class Group:
    """A master and its replicas. As a server of a scenario it is what Sentinels call the master."""

    def __init__(self, sentinels: Sentinels, name: str, servers: list[Server]) -> None:
        self._sentinels, self.name, self.servers = sentinels, name, servers
        self.master = servers[0]
        self.kind, self.version = self.master.kind, self.master.version

    @property
    def replicas(self) -> list[Server]:
        """Those that run."""
        return [one for one in self.servers if one is not self.master and one.process is not None]

    def url(self, query: str = "", scheme: str = "redis+sentinel") -> str:
        """By which Keyferry finds it."""
        return f"{scheme}://{self._sentinels.address()}/{self.name}" + (f"?{query}" if query else "")

    def client(self, **kw: Any) -> redis.Redis:
        """Of the present master."""
        return self.master.client(**kw)

    def linked(self) -> None:
        """Wait until every replica has all that the master has written until now."""
        offset = int(self.client().info("replication")["master_repl_offset"])
        until(lambda: all(_has(one, offset) for one in self.replicas), f"the replicas of {self.name} are there")

    def fail_over(self) -> Server:
        """Kill the master, and wait until the Sentinels have made a replica the new one; it."""
        self.master.kill()
        return self.heir()

    def heir(self) -> Server:
        """Wait until the Sentinels name another master than before, and it is one; it."""
        until(lambda: self._named() not in (None, self.master), f"another master of {self.name}")
        found = self._named()
        assert found is not None
        until(lambda: found.client().info("replication")["role"] == "master", f"the new master of {self.name} is one")
        self.master = found
        return found

    def _named(self) -> Server | None:
        """The server that all Sentinels name; None: they do not agree."""
        said = {self._sentinels.ask(n, "GET-MASTER-ADDR-BY-NAME", self.name)[1] for n in range(COUNT)}
        if len(said) != 1:
            return None
        port = int(said.pop())
        return next(one for one in self.servers if known_by(one) == port)


class Sentinels:
    """Three of them, and the groups that they watch.

    Args:
        kind: of all servers, as in `tests.servers`.
        names: of the groups.
        replicas: of each master.
        config: of every server.
        tls: an authority, with whose certificates all of them speak TLS; servers speak in the clear, too, for tests.
        settings: of every Sentinel and group, `sentinel <name> <group> <value>`.
        lines: of every Sentinel's configuration.
    """

    def __init__(
        self,
        kind: str,
        *names: str,
        replicas: int = 1,
        config: Mapping[str, str] | None = None,
        tls: Authority | None = None,
        settings: Mapping[str, str] | None = None,
        lines: tuple[str, ...] = (),
    ) -> None:
        self.kind, self._settings, self._lines, self._tls = kind, settings or {}, lines, tls
        self._stack = ExitStack()
        self._dir = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="keyferry-test-")))
        self.ports: list[int] = []
        self.processes: list[subprocess.Popen[bytes]] = []
        self.groups = {name: self._group(name, replicas, dict(config or {})) for name in names}
        for number in range(COUNT):
            self._begin(number)
        until(self._whole, "three Sentinels that know each other and all replicas")

    def __getitem__(self, name: str) -> Group:
        return self.groups[name]

    def address(self) -> str:
        return ",".join(f"127.0.0.1:{port}" for port in self.ports)

    def _group(self, name: str, replicas: int, config: dict[str, str]) -> Group:
        master = self._server(config)
        of = {"replicaof": f"127.0.0.1 {known_by(master)}"}
        return Group(self, name, [master, *(self._server({**config, **of}) for _ in range(replicas))])

    def _server(self, config: dict[str, str]) -> Server:
        if self._tls is not None:
            config = {**config, **self._tls.config(), "tls-port": str(free_port()), "tls-replication": "yes"}
        return self._stack.enter_context(start(self.kind, config=config))

    def _begin(self, number: int) -> None:
        port = free_port()
        self.ports.append(port)
        home = self._dir / str(number)
        home.mkdir()
        lines = [f"port {port}", "bind 127.0.0.1", "protected-mode no", f"dir {home}", *self._lines]
        if self._tls is not None:
            lines[0] = f"port 0\ntls-port {port}\ntls-replication yes"
            lines += [f"{setting} {value}" for setting, value in self._tls.config().items()]
        for name, group in self.groups.items():
            lines += [
                f"sentinel monitor {name} 127.0.0.1 {known_by(group.master)} 2",
                f"sentinel down-after-milliseconds {name} {DOWN_AFTER_MS}",
                f"sentinel failover-timeout {name} {FAILOVER_MS}",
                *(f"sentinel {setting} {name} {value}" for setting, value in self._settings.items()),
            ]
        file = home / "sentinel.conf"
        file.write_text("\n".join(lines) + "\n")
        with (home / "sentinel.log").open("ab") as log:
            process = subprocess.Popen(
                [str(binary(self.kind)), str(file), "--sentinel"],
                env=dict(os.environ), stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=die_with_parent,
            )  # fmt: skip
        self.processes.append(process)

    def ask(self, number: int, *words: str) -> Any:
        """SENTINEL ... of one of them."""
        kw: dict[str, Any] = {} if self._tls is None else {"ssl": True, "ssl_cert_reqs": "none"}
        with redis.Redis(port=self.ports[number], protocol=2, driver_info=None, socket_timeout=5, **kw) as client:
            return client.execute_command("SENTINEL", *words)

    def _whole(self) -> bool:
        try:
            return all(self._knows(number, group) for number in range(COUNT) for group in self.groups.values())
        except redis.RedisError:
            return False

    def _knows(self, number: int, group: Group) -> bool:
        said = self.ask(number, "MASTER", group.name)
        told = said if isinstance(said, dict) else dict(zip(said[::2], said[1::2], strict=True))
        told = {_text(name): _text(value) for name, value in told.items()}
        enough = int(told["num-other-sentinels"]) == COUNT - 1 and int(told["num-slaves"]) == len(group.replicas)
        return enough and told["flags"] == "master"

    def kill(self, number: int) -> None:
        """End one of the Sentinels."""
        self.processes[number].kill()
        self.processes[number].wait()

    def tail(self) -> str:
        """What the first Sentinel has logged last."""
        return (self._dir / "0" / "sentinel.log").read_text(errors="replace")[-3000:]

    def __enter__(self) -> Sentinels:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if error is not None:
            print(self.tail())
        for number in range(COUNT):
            self.kill(number)
        self._stack.__exit__(kind, error, where)


def known_by(server: Server) -> int:
    """The port that others reach it by."""
    return int(server.config.get("tls-port", server.port))


def _has(replica: Server, offset: int) -> bool:
    said = replica.client().info("replication")
    return said.get("master_link_status") == "up" and int(said["slave_repl_offset"]) >= offset


def _text(given: Any) -> str:
    return given.decode() if isinstance(given, bytes) else str(given)

"""The ways to a server: each of receiver, applier, loaders, questions and `verify` takes the one that the URL names."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from sync_tasks.errors import Side
from sync_tasks.precheck.grants import line
from tests.compare import same
from tests.dataset import fill
from tests.scenarios.conftest import StartFerry
from tests.scenarios.replica_source.test_prefer_replica import read_from
from tests.sentinels import Sentinels
from tests.servers import Server, StartServer, free_port
from tests.unit.control.tls import Authority

PAGE = Path(__file__).parents[3] / "docs" / "sentinel.md"
KIND = "redis-7.0"  # of the servers at hand the one that speaks TLS
EXTENDED_MS = 600_000


@dataclass
class Way:
    """To a server."""

    to: str

    def url(self) -> str:
        return self.to


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


def command(*words: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "sync_tasks.cli.main", *words]
    return subprocess.run(line, capture_output=True, text=True, timeout=60)


def goes(ferry: StartFerry, source: Server, target: Server, here: str, there: str, **kw: str) -> None:
    """A snapshot, a stream, and the verdict, by these URLs."""
    fill(source.client(), 200)
    run = ferry(Way(here), Way(there), **kw)
    run.wait_phase("synchronizing")
    with source.client() as client:
        for _ in range(50):
            client.incr("counted")
            client.set("volatile", 1, ex=1000)
    run.settle(source)
    same(source.url(), target.url(), shift_ms=EXTENDED_MS)
    verdict = command("verify", here, there, "--json")
    assert verdict.returncode == 0, verdict.stderr
    assert json.loads(verdict.stdout.splitlines()[-1])["compared"] > 200


def over_tls(port: int, query: str) -> str:
    return f"rediss://127.0.0.1:{port}?{query}"


def test_tls(authority: Authority, server: StartServer, ferry: StartFerry) -> None:
    """The source wants to see our certificate, the target shows its own only."""
    ports = free_port(), free_port()
    source = server(KIND, config={**authority.config(clients=True), "tls-port": str(ports[0])})
    target = server(KIND, config={**authority.config(), "tls-port": str(ports[1])})
    name = f"ca={authority.ca}&sni=redis.test"
    own = f"{name}&cert={authority.cert}&key={authority.key}"
    goes(ferry, source, target, over_tls(ports[0], own), over_tls(ports[1], name))


def test_certificates_that_are_not_in_order(authority: Authority, server: StartServer, tmp_path: Path) -> None:
    port, plain = free_port(), server("valkey-9.1")
    strict = server(KIND, config={**authority.config(clients=True), "tls-port": str(port)})
    own = f"cert={authority.cert}&key={authority.key}"
    good = f"ca={authority.ca}&{own}&sni=redis.test"
    for query, what in (
        (f"ca={authority.ca}&{own}&sni=other.test", "Hostname mismatch"),
        (f"ca={authority.ca}&{own}", "IP address mismatch"),
        (f"{own}&sni=redis.test", "self-signed certificate"),
        (f"ca={authority.ca}&sni=redis.test", ""),  # the server ends the connection, in words of its version
    ):
        wrong = over_tls(port, query)
        for side, words in (("source", (wrong, plain.url())), ("target", (plain.url(), wrong))):
            said = command("sync", *words, "--state", str(tmp_path / "state"))
            assert said.returncode == (3 if side == "source" else 4), said
            assert said.stderr.startswith(f"keyferry: {side}: 127.0.0.1:{port}: "), said.stderr
            assert what in said.stderr
    assert command("task", "check", "--source", over_tls(port, good)).returncode == 0
    assert strict.client().dbsize() == 0


def test_sentinels_over_tls(authority: Authority, ferry: StartFerry, tmp_path: Path) -> None:
    with Sentinels(KIND, "orders", "bills", tls=authority) as sentinels:
        source, target = sentinels["orders"], sentinels["bills"]
        query, scheme = f"ca={authority.ca}&sni=redis.test", "rediss+sentinel"
        ends = source.url(query, scheme), target.url(query, scheme)
        goes(ferry, source.master, target.master, *ends)
        other = query.replace("redis.test", "other.test")
        for code, words in ((3, (source.url(other, scheme), ends[1])), (4, (ends[0], target.url(other, scheme)))):
            said = command("sync", *words, "--state", str(tmp_path / "other"))
            assert said.returncode == code, said
            assert "Hostname mismatch" in said.stderr
            assert "the Sentinel 127.0.0.1:" in said.stderr


def test_sentinels_and_servers_with_users(ferry: StartFerry, tmp_path: Path) -> None:
    """Of each no more than docs/sentinel.md says; the source is read from a replica, which has users of its own."""
    rights = re.search(r"^ACL SETUSER keyferry reset on >PASSWORD (.*)$", PAGE.read_text(), re.MULTILINE)
    assert rights is not None
    (tmp_path / "theirs").write_text("theirs\n")
    with Sentinels(KIND, "orders", "bills", lines=(f"user watcher on >theirs {rights[1]}",)) as sentinels:
        ends = []
        for name, side in (("orders", Side.SOURCE), ("bills", Side.TARGET)):
            for one in sentinels[name].servers:
                one.client().execute_command(*line(side, password="s3cret").split())
            url = sentinels[name].url(f"sentinel_username=watcher&sentinel_password_file={tmp_path}/theirs")
            ends.append(url.replace("://", "://keyferry:s3cret@"))
        source, target = sentinels["orders"], sentinels["bills"]
        goes(ferry, source.master, target.master, *ends, config="prefer_replica = true\n")
        assert read_from(*source.replicas)
        (tmp_path / "theirs").write_text("others\n")
        said = command("task", "check", "--source", ends[0])
        assert said.returncode == 3
        assert "sentinel_password_file" in said.stderr


def test_sockets(server: StartServer, ferry: StartFerry, tmp_path: Path) -> None:
    """Of this machine, with a password from a file, and a user that may do no more than it has to."""
    source, target = (server(KIND, config={"unixsocket": str(tmp_path / name)}) for name in ("here", "there"))
    (tmp_path / "secret").write_text("s3cret\n")
    for one, side in ((source, Side.SOURCE), (target, Side.TARGET)):
        one.client().execute_command(*line(side, password="s3cret").split())
    ends = [f"unix://keyferry@{tmp_path}/{name}?password_file={tmp_path}/secret" for name in ("here", "there")]
    goes(ferry, source, target, *ends)


def test_addresses_of_ipv6(server: StartServer, ferry: StartFerry) -> None:
    source, target = server(KIND, config={"bind": "127.0.0.1 ::1"}), server(KIND, config={"bind": "127.0.0.1 ::1"})
    goes(ferry, source, target, *(f"redis://[::1]:{one.port}" for one in (source, target)))

"""`python -m tests.benchmarks.scale`: the same installation on more hosts, and with more tasks.

hosts    a full sync of a cluster of six shards to one server, by 1, 2 and 4 hosts: each has a directory of its own,
         stream workers for its share of the shards and one load worker; all share PostgreSQL and a broker. The target
         answers late, as one does that is far away; then at once, as one beside us does.
tasks    200 tasks of a few keys: started, followed, suspended, finished; what that asks of database and broker
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import psutil

from sync_tasks import Client
from tests.benchmarks.counted import COUNTING, Counted
from tests.benchmarks.tasks import many
from tests.clusters import Cluster
from tests.hosts import Host, Installation
from tests.postgres import Postgres
from tests.servers import Server, die_with_parent, start
from tests.waiting import until

SHARDS = 6
HOSTS = (1, 2, 4)
WITHIN_S = 900.0
SOURCE = {"rdbcompression": "no", "repl-diskless-sync-delay": "0"}
"""Its values would be pressed together to a fifth; and for more replicas there is no need to wait."""
MB = 1e6


@dataclass(frozen=True, slots=True)
class Run:
    """One full sync: seconds from its start to its end; of these from the first chunk that was taken to the last
    that was loaded; chunks; and CPU seconds of whom."""

    took_s: float
    loading_s: float
    chunks: int
    target_s: float
    load_s: float
    stream_s: float


def cpu_s(processes: list[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def family(host: Host, word: str) -> list[psutil.Process]:
    """The processes of one command of a host."""
    tops = [psutil.Process(one.popen.pid) for one in host.processes if word in one.words]
    return [process for top in tops for process in (top, *top.children(recursive=True))]


@contextmanager
def far(server: Server, late_ms: float) -> Iterator[str]:
    """The server's address from so far away."""
    if not late_ms:
        yield server.url()
        return
    command = [sys.executable, "-m", "tests.benchmarks.distance", str(server.port), str(late_ms)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=die_with_parent) as proxy:
        assert proxy.stdout
        try:
            yield f"redis://127.0.0.1:{int(proxy.stdout.readline())}"
        finally:
            proxy.kill()


@contextmanager
def installation(place: Path, connections: int = 100) -> Iterator[tuple[Installation, Client, Counted]]:
    """PostgreSQL, a broker, a scheduler; its client, and what is asked of the two."""
    with ExitStack() as stack:
        database = stack.enter_context(Postgres({**COUNTING, "max_connections": str(connections)}))
        broker = stack.enter_context(start("valkey-9.1"))
        here = stack.enter_context(Installation(place, database.url, f"redis://127.0.0.1:{broker.port}/0"))
        here.controlled()
        stack.enter_context(patch.dict(os.environ, here.settings))
        yield here, stack.enter_context(Client()), Counted(database.url, broker)


def loaded_by(hosts: int, source: Cluster, target: Server, late_ms: float, keys: int, place: Path) -> Run:
    """One full sync by so many hosts; the target is empty before and after."""
    with installation(place) as (here, client, _), far(target, late_ms) as address:
        machines = [here.host(f"h{number}") for number in range(hosts)]
        for number, machine in enumerate(machines):
            shards = len(range(number, SHARDS, hosts))
            machine.start("worker", "--stream", str(shards))
            machine.start("worker", "--load", "1")
        ready = 2 * hosts
        until(lambda: sum(one.report().count("ready.") for one in machines) == ready, "all workers", timeout=60)
        server = [psutil.Process(target.process.pid)] if target.process else []
        task = client.create(source.url(), address, name=f"hosts-{hosts}")
        before = [cpu_s(server), *(sum(cpu_s(family(m, word)) for m in machines) for word in ("--load", "--stream"))]
        began = time.monotonic()
        client.start(task, wait_s=60)
        until(lambda: any(row["epoch"] for row in here.rows("chunk")), "a chunk is taken", timeout=60)
        first = time.monotonic()
        until(lambda: (client.progress(task).keys_done or 0) >= keys, "all are done", timeout=WITHIN_S)
        loading = time.monotonic() - first
        until(lambda: client.progress(task).phase == "synchronizing", "all is loaded", timeout=WITHIN_S)
        took = time.monotonic() - began
        after = [cpu_s(server), *(sum(cpu_s(family(m, word)) for m in machines) for word in ("--load", "--stream"))]
        chunks = len(here.rows("chunk"))
        there = target.client().dbsize()
        assert keys <= there < keys + 50, f"{there} keys on the target"
    target.client(socket_timeout=600).flushall()
    return Run(took, loading, chunks, *(now - then for now, then in zip(after, before, strict=True)))


def by_hosts(keys: int, late_ms: float, place: Path) -> Iterator[str]:
    """A line for each number of hosts."""
    with Cluster("redis-7.0", masters=SHARDS, config=SOURCE) as source, start("redis-7.0") as target:
        fill(source, keys)
        first = None
        for hosts in HOSTS:
            run = loaded_by(hosts, source, target, late_ms, keys, place / f"{late_ms:g}-{hosts}")
            first = first or run
            shares = f"target {run.target_s / run.took_s:.0%}, loaders {run.load_s:.1f} s, streams {run.stream_s:.1f} s"
            yield (
                f"{keys:,} keys, target {late_ms:g} ms away, {hosts} hosts: {run.took_s:6.1f} s; {run.chunks} chunks "
                f"loaded in {run.loading_s:6.1f} s, {first.loading_s / run.loading_s:4.2f} times as fast; CPU: {shares}"
            )


def fill(source: Cluster, keys: int) -> None:
    """Values of 100 bytes, over all shards; by each node itself."""
    script = """
    local value = string.rep('v', 100)
    for i = tonumber(ARGV[2]), tonumber(ARGV[3]) do
      redis.call('SET', 'key:' .. i .. ':{' .. ARGV[1] .. '}', value)
    end
    """
    tags = [f"t{number}" for number in range(keys // 1000)]
    client = source.client()
    for tag in tags:
        client.eval(script, 1, f"{{{tag}}}", tag, 0, keys // len(tags) - 1)


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench-scale", description=__doc__)
    parser.add_argument("--keys", type=int, default=1_000_000, help="of the full sync")
    parser.add_argument("--late-ms", type=float, default=20.0, help="one way, to the target that is far away")
    parser.add_argument("--tasks", type=int, default=200)
    parser.add_argument("--only", choices=("hosts", "tasks"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="keyferry-bench-") as place:
        if options.only != "tasks":
            for late_ms in (options.late_ms, 0.0):
                for line in by_hosts(options.keys, late_ms, Path(place)):
                    print(line, flush=True)
        if options.only != "hosts":
            with installation(Path(place) / "tasks", connections=4 * options.tasks + 100) as parts:
                for line in many(*parts, options.tasks):
                    print(line, flush=True)


if __name__ == "__main__":
    main()

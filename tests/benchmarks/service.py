"""`python -m tests.benchmarks.service`: what the service costs where little is to do.

many tasks    50 tasks on one machine: memory of all its processes (proportional set size), CPU when idle
a tick        of the scheduler over 1000 tasks that run and are idle
cold start    of `keyferry sync`, until the source begins its snapshot
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from random import Random

from scheduler.leader import Leader
from scheduler.tick import Ticker
from sync_tasks import Client
from sync_tasks.models import Lease, Node, Task
from sync_tasks.secrets import SecretBox, new_key
from sync_tasks.spec import TaskSpec
from sync_tasks.states import TaskState
from sync_tasks.store import Store, migrate
from tests.run_up import Up
from tests.servers import start
from tests.unit.control.conftest import Outbox
from tests.waiting import seconds_until

TASKS = 50
KEYS = 100  # of each
WATCH_S = 20.0
IDLE_TASKS = 1000
TICKS = 40
STARTS = 5
MB = 1e6


@dataclass(frozen=True, slots=True)
class Many:
    """What many tasks cost: seconds until all were in sync, MB of all processes (PSS), cores that they keep busy."""

    took_s: float
    memory_mb: float
    busy: float


def many(place: Path, watch_s: float) -> Many:
    """One source that all follow, a target database for each; watched for so long when idle."""
    with (
        Up(place / "state", "--stream", str(TASKS)) as service,
        start("valkey-9.1") as source,
        start("valkey-9.1", config={"databases": str(TASKS)}) as target,
        Client(place / "state") as client,
    ):
        service.wait_ready()
        source.client().mset({f"key:{number}": number for number in range(KEYS)})
        tasks = [client.create(f"{source.url()}/0", f"{target.url()}/{n}", name=f"task-{n}") for n in range(TASKS)]
        began = time.monotonic()
        client.start(tasks, wait_s=300)
        seconds_until(lambda: all(client.progress(task).in_sync for task in tasks), "all in sync", timeout=300)
        took = time.monotonic() - began
        time.sleep(watch_s / 2)
        family = service.processes()
        before = sum(sum(process.cpu_times()[:2]) for process in family)
        time.sleep(watch_s)
        busy = (sum(sum(process.cpu_times()[:2]) for process in family) - before) / watch_s
        memory = sum(process.memory_full_info().pss for process in family) / MB
        service.stop()
    return Many(took, memory, busy)


def many_tasks(place: Path) -> str:
    found = many(place, WATCH_S)
    share = f"idle {found.busy:.1%} of one core, {found.busy / (os.cpu_count() or 1):.1%} of the machine"
    return f"{TASKS} tasks: in sync after {found.took_s:.1f} s, {found.memory_mb:.0f} MB in all, {share}"


def a_tick(place: Path) -> str:
    """All leases beat between two ticks, as those of living owners do."""
    url = f"sqlite:///{place}/tick.db"
    migrate(url)
    store = Store(url, SecretBox(new_key()))
    spec = TaskSpec().model_dump(mode="json")
    with store.database.write() as session:
        for number in range(1, IDLE_TASKS + 1):
            session.add(
                Task(
                    id=number, uid=f"{number:016x}", name=f"t{number}", state=TaskState.SYNCHRONIZING, source=b"",
                    target=b"", source_safe="", target_safe="", spec=spec,
                )
            )  # fmt: skip
        session.flush()
        for number in range(1, IDLE_TASKS + 1):
            session.add(Node(id=number, task_id=number, number=0, wanted=True, begun=True))
            session.add(Lease(name=f"node:{number}", owner="h:1:2:x", epoch=1))
    ticker = Ticker(store.database, Outbox(), Leader(store.database), time.time, Random(1))
    took = []
    for number in range(TICKS):
        with store.database.write() as session:
            for lease in session.query(Lease).filter(Lease.name.like("node:%")):
                lease.beat += 1
        began = time.perf_counter()
        ticker.tick(100 + number / 4)
        took.append((time.perf_counter() - began) * 1000)
    store.dispose()
    return f"a tick over {IDLE_TASKS} idle tasks: median {statistics.median(took):.1f} ms, most {max(took[1:]):.1f} ms"


def cold_start(place: Path) -> str:
    """From the command to the moment at which the source begins its snapshot."""
    took = []
    with start("redis-7.0") as source, start("redis-7.0") as target, source.client() as watch:
        for number in range(STARTS):
            target.client().flushall()
            snapshots = watch.info("stats")["sync_full"]
            command = [sys.executable, "-m", "sync_tasks.cli.main", "sync", source.url(), target.url()]
            began = time.monotonic()
            quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            run = subprocess.Popen([*command, "--state", str(place / str(number))], **quiet)
            while watch.info("stats")["sync_full"] == snapshots:
                time.sleep(0.005)
            took.append(time.monotonic() - began)
            run.terminate()
            run.wait(20)
    return f"cold start: the source's snapshot begins after {statistics.median(took):.2f} s, at most {max(took):.2f} s"


def main() -> None:
    for measure in (cold_start, a_tick, many_tasks):
        with tempfile.TemporaryDirectory(prefix="keyferry-bench-") as place:
            print(measure(Path(place)), flush=True)


if __name__ == "__main__":
    main()

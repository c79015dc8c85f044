"""Many tasks with next to nothing to do, on two hosts: what following them costs, and whether it stays the same."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import psutil

from sync_tasks import Client
from sync_tasks.task import Task
from tests.benchmarks.counted import Counted, Rates
from tests.hosts import Host, Installation
from tests.servers import Server, start
from tests.waiting import seconds_until

KEYS = 100  # of the source
WATCH_S = 20.0
LOOK_S = 2.0  # between two looks at all tasks, which are statements too
WITHIN_S = 900.0


@dataclass(frozen=True, slots=True)
class Followed:
    """What tasks that only follow ask for, and the memory of all processes (proportional set size)."""

    tasks: int
    rates: Rates
    memory_mb: float
    processes: int

    def __str__(self) -> str:
        memory = f"{self.memory_mb:.0f} MB in {self.processes} processes, {self.memory_mb / self.tasks:.1f} MB a task"
        return f"{self.tasks} tasks follow: {self.rates}; {memory}"


@dataclass(frozen=True, slots=True)
class Step:
    """One thing asked of all tasks at once."""

    what: str
    took_s: float

    def __str__(self) -> str:
        return f"{self.what} after {self.took_s:.0f} s"


class Fleet:
    """Tasks of one source, each into a database of its own.

    Args:
        here, client, counted: an installation.
        source, target: servers.
    """

    def __init__(self, here: Installation, client: Client, counted: Counted, source: Server, target: Server) -> None:
        self.here, self.client, self.counted = here, client, counted
        self.source, self.target = source, target
        self.hosts: list[Host] = []

    def equip(self, tasks: int) -> None:
        for name in ("a", "b"):
            host = self.here.host(name)
            host.start("worker", "--stream", str(-(-tasks // 2)))
            host.start("worker", "--load", "1")
            self.hosts.append(host)

    def create(self, numbers: range) -> list[Task]:
        make, source, target = self.client.create, self.source.url(), self.target.url()
        return [make(f"{source}/0", f"{target}/{number}", name=f"task-{number}") for number in numbers]

    def until_in_sync(self, count: int) -> float:
        """Seconds until so many tasks are; looking seldom."""

        def there() -> bool:
            return sum(one.in_sync for one in self.client.readings()) >= count

        return seconds_until(there, "all in sync", timeout=WITHIN_S, every=LOOK_S)

    def followed(self, count: int, watch_s: float) -> Followed:
        """`count` tasks that only follow, for so long, with a write a second at the source."""
        time.sleep(watch_s / 2)
        before = self.counted.now()
        for number in range(int(watch_s)):
            self.source.client().set("tick", number)
            time.sleep(1)
        rates = self.counted.now().since(before, count)
        tops = [psutil.Process(one.popen.pid) for host in self.hosts for one in host.processes]
        family = [process for top in tops for process in (top, *top.children(recursive=True))]
        return Followed(count, rates, sum(one.memory_full_info().pss for one in family) / 1e6, len(family))


def many(
    here: Installation, client: Client, counted: Counted, tasks: int, watch_s: float = WATCH_S
) -> Iterator[Followed | Step]:
    """A quarter of the tasks, then all of them, that are then suspended, resumed and finished."""
    with (
        start("valkey-9.1") as source,
        start("valkey-9.1", config={"databases": str(tasks)}) as target,
    ):
        source.client().mset({f"key:{number}": number for number in range(KEYS)})
        fleet = Fleet(here, client, counted, source, target)
        fleet.equip(tasks)
        made: list[Task] = []
        for upto in (tasks // 4, tasks):
            new = fleet.create(range(len(made), upto))
            made += new
            client.start(new, wait_s=0)
            yield Step(f"{len(new)} started, all in sync", fleet.until_in_sync(upto))
            yield fleet.followed(upto, watch_s)
        for verb, done in (("suspend", "suspended, all at rest"), ("resume", "followed again"), ("finish", "finished")):
            began = time.monotonic()
            getattr(client, verb)(made, wait_s=WITHIN_S)
            yield Step(done, time.monotonic() - began)
        own = [len(list(target.client(db=n).scan_iter(match="k*:*"))) for n in range(tasks)]
        assert min(own) >= KEYS, f"a database has {min(own)} keys"

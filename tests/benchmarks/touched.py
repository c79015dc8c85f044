"""`python -m tests.benchmarks.touched`: what it costs a stream that what it writes is compared shortly after.

full speed    SETs of 100 bytes as fast as the source takes them: how many a second reach the target
steady        20,000 of them a second: processor time of the stream's process, for a million of them

Of each mode in turn, some rounds, the median.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

from sync_tasks import Client
from tests.benchmarks.storm import start_storm
from tests.run_up import Up
from tests.servers import start
from tests.waiting import until

MODES = ("off", "full+incremental")
ROUNDS = 3
WRITES = 1_000_000
RATE = 20_000
STEADY_S = 15


def one(place: Path, mode: str) -> tuple[float, float, int]:
    """Commands a second at full speed; seconds of the processor for a million at a steady rate; keys compared."""
    with (
        Up(place) as service,
        start("valkey-9.1", config={"repl-backlog-size": "1gb"}) as source,
        start("valkey-9.1") as target,
        Client(place) as client,
    ):
        service.wait_ready()
        task = client.create(source.url(), target.url(), name="a", verify={"mode": mode})  # type: ignore[typeddict-item]
        client.start(task, wait_s=60)
        until(lambda: client.progress(task).in_sync, "in sync")

        def applied() -> bool:
            offset = int(source.client().info("replication")["master_repl_offset"])
            return (client.progress(task).applied_offset or 0) >= offset - 1000

        processes = service.find("stream worker", child=True)  # all but one of them rest

        def used() -> float:
            return sum(sum(process.cpu_times()[:2]) for process in processes)

        before = used()
        start_storm(source, "set", RATE * STEADY_S, RATE).wait()
        until(applied, "applied")
        steady = (used() - before) / (RATE * STEADY_S) * 1e6
        began = time.monotonic()
        start_storm(source, "set", WRITES, 0).wait()
        until(applied, "applied", timeout=120)
        took = time.monotonic() - began
        found = client.touched(task)
        service.stop()
    return WRITES / took, steady, found.compared if found else 0


def main() -> None:
    found: dict[str, list[tuple[float, float, int]]] = {mode: [] for mode in MODES}
    for number in range(ROUNDS):
        for mode in MODES:
            with tempfile.TemporaryDirectory() as place:
                found[mode].append(one(Path(place) / "state", mode))
            print(number, mode, *(f"{value:,.1f}" for value in found[mode][-1]), flush=True)
    for mode, rounds in found.items():
        speed, cost, compared = (statistics.median(column) for column in zip(*rounds, strict=True))
        print(f"{mode}: {speed:,.0f} commands/s; {cost:.2f} s of the processor for a million; {compared:,.0f} compared")


if __name__ == "__main__":
    main()

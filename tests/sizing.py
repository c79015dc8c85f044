"""docs/scaling.md: what was measured, and what follows from it for other sizes.

The numbers are those that `make bench` and `make bench-scale` print; who measures again writes them here, and makes
the pages anew.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

GB = 1e9
MILLION = 1e6
HOUR_S = 3600


@dataclass(frozen=True, slots=True)
class Hosts:
    """A full sync of six shards: seconds in all, and of loading; CPU seconds of load workers and streams."""

    hosts: int
    took_s: float
    loading_s: float
    target: float  # of a core
    load_s: float
    stream_s: float


@dataclass(frozen=True, slots=True)
class Fleet:
    """Tasks that follow: what each asks of the database in a second; connections to it and MB of memory in all."""

    tasks: int
    statements: float
    transactions: float
    connections: int
    memory_mb: float


# -- by `make bench-scale`
KEYS, FAR_MS = 1_000_000, 20
FAR = (
    Hosts(1, 66.7, 64.1, 0.03, 1.5, 15.1),
    Hosts(2, 35.6, 33.2, 0.05, 1.6, 9.5),
    Hosts(4, 25.4, 22.9, 0.07, 1.9, 7.3),
)
NEAR = (
    Hosts(1, 5.2, 4.2, 0.26, 1.3, 2.9),
    Hosts(2, 4.9, 3.9, 0.26, 1.4, 2.8),
    Hosts(4, 5.2, 4.2, 0.25, 1.6, 3.0),
)
FLEETS = (Fleet(50, 3.37, 4.26, 155, 2964), Fleet(200, 3.10, 4.22, 593, 6373))
STARTED = (150, 49)  # tasks beside 50 others, and seconds until all were in sync
STEPS = (("suspended and at rest", 4), ("followed again", 9), ("finished", 331))  # seconds, of all tasks of the last

# -- by `make bench`: 4M mixed keys, 2M writes
LOAD_CORE_S = 4.2 / 4  # a million keys
LOADED = 4 * MILLION / 12.7  # keys a second into one server
KEY_MEMORY, KEY_SNAPSHOT = 300, 115  # bytes of a key, in the source's memory and in its snapshot
WRITE_CORE_S = 1.2 / 2  # a million writes
WRITE_STREAM = 140  # bytes of a SET of 100 bytes in the stream


def page() -> str:
    """docs/scaling.md."""
    return "\n".join([*HEAD.splitlines(), *_hosts(), *_fleets(), *_sizes(), ""])


def _hosts() -> Iterator[str]:
    yield from ("", "## More hosts", "", *HOSTS.format(keys=KEYS, far=FAR_MS).splitlines(), "")
    yield "| target | hosts | full sync | of it loading | as fast | target's core | load workers | streams |"
    yield "|---|---|---|---|---|---|---|---|"
    for where, runs in ((f"{FAR_MS} ms away", FAR), ("beside them", NEAR)):
        for run in runs:
            as_fast = runs[0].loading_s / run.loading_s
            yield (
                f"| {where} | {run.hosts} | {run.took_s:.1f} s | {run.loading_s:.1f} s | {as_fast:.2f} | "
                f"{run.target:.0%} | {run.load_s:.1f} s | {run.stream_s:.1f} s |"
            )
    yield from ("", *AFTER_HOSTS.splitlines())


def _fleets() -> Iterator[str]:
    yield from ("", "## More tasks", "", *FLEET.splitlines(), "")
    yield "| tasks | statements a task and second | transactions | connections | memory | a task |"
    yield "|---|---|---|---|---|---|"
    for one in FLEETS:
        yield (
            f"| {one.tasks} | {one.statements:.1f} | {one.transactions:.1f} | {one.connections} | "
            f"{one.memory_mb / 1000:.1f} GB | {one.memory_mb / one.tasks:.0f} MB |"
        )
    steps = ", ".join(f"{what} after {took} s" for what, took in STEPS)
    yield ""
    yield from _wrapped(
        f"{STARTED[0]} of them, started at once, were in sync {STARTED[1]} s later. All {FLEETS[-1].tasks}, asked for "
        f"at once: {steps}. A cut-over asks both servers for a dozen steps and compares all keys, and two load workers "
        "carried them out one by one."
    )
    yield from ("", *AFTER_FLEET.splitlines())


def _sizes() -> Iterator[str]:
    yield from ("", "## Sizes", "", *SIZES.splitlines(), "")
    yield "| for | cores | time | spool | network |"
    yield "|---|---|---|---|---|"
    yield _loaded("100 GB of small keys in one server", 100 * GB, 1)
    yield _loaded("10 TB in 100 shards, to as many", 10_000 * GB, 100)
    yield _written("100 000 writes a second", 100_000)
    yield _written("5 million writes a second, of 100 shards", 5_000_000)
    yield from ("", *_ten_terabytes(), *_thousand_tasks())


def _loaded(what: str, size: float, targets: int) -> str:
    keys = size / KEY_MEMORY
    took = keys / targets / LOADED
    snapshot = keys * KEY_SNAPSHOT
    cores, rate = keys / MILLION * LOAD_CORE_S / took, snapshot / took * 8 / GB
    return (
        f"| {what}, loaded | {cores:.1f} | {took / 60:.0f} min | {snapshot / GB:,.0f} GB at most | "
        f"{rate:.1f} Gbit/s in, as much out |"
    )


def _written(what: str, writes: float) -> str:
    stream = writes * WRITE_STREAM
    return (
        f"| {what}, followed | {writes / MILLION * WRITE_CORE_S:.2f} | | "
        f"{stream * HOUR_S / GB:,.0f} GB an hour that the target is away | "
        f"{stream * 8 / GB:.2f} Gbit/s in, as much out |"
    )


def _ten_terabytes() -> Iterator[str]:
    keys = 10_000 * GB / KEY_MEMORY / MILLION
    core_s, each = keys * LOAD_CORE_S, keys / 100
    took = each * MILLION / LOADED
    yield from _wrapped(
        f"- **10 TB**: / {KEY_MEMORY} bytes = {keys:,.0f} million keys; x {LOAD_CORE_S:.2f} s a million = "
        f"{core_s:,.0f} seconds of a core. Each of the 100 targets takes {LOADED:,.0f} keys a second, its {each:,.0f} "
        f"million within {took / 60:.0f} minutes, if {core_s / took:.0f} cores are there for load and stream workers; "
        "with half of them it takes twice as long. That is 100 stream processes, and a load process a core, of at most "
        "150 MB each."
    )


def _thousand_tasks() -> Iterator[str]:
    one = FLEETS[-1]
    connections, memory = 1000 * one.connections / one.tasks, one.memory_mb / one.tasks
    yield from _wrapped(
        f"- **1000 tasks** that follow: x {one.statements:.1f} = {1000 * one.statements:,.0f} statements a second in "
        f"{1000 * one.transactions:,.0f} transactions, {connections:,.0f} connections, and {memory:.0f} GB of memory: "
        "ten hosts of 100 tasks each (`keyferry worker --stream 100`), and a PostgreSQL whose `max_connections` is "
        "higher than that."
    )


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, 118, subsequent_indent="  " if text.startswith("- ") else "", break_on_hyphens=False)


HEAD = """# Scaling

A source node is followed by one stream worker, whatever its size; what it sends is loaded by as many load workers as
there are, on as many hosts; tasks share nothing but database and broker. So size goes by three numbers: **source
nodes** (stream workers), **keys to load** (load workers) and **tasks** (database).

All was measured on one machine of two cores, which servers, workers, PostgreSQL and broker share: ratios hold
elsewhere, seconds are those of this machine. `make bench-scale` prints the numbers of the first two tables,
`make bench` those from which the third one is computed."""

HOSTS = """\
Each host has a directory of its own (its spool), stream workers for its share of the shards, and one load worker;
all share PostgreSQL and a broker. A full sync of a cluster of six shards with {keys:,} keys of 100 bytes into one
server, which answers {far} ms late in either direction, as one that is far away does, and then at once:"""

AFTER_HOSTS = """\
Of six shards four hosts have 2, 2, 1 and 1, and their own spools: the largest part is a third of all, so they could
be three times as fast at most. With a shared spool any load worker takes any chunk. A target that is far away is
waited for, and each load worker waits by itself: there their number counts. Beside the target one load worker, busy
for a third of the time, keeps up with the snapshots as they arrive: more of them make nothing faster."""

FLEET = """\
Tasks of 100 keys each that follow one source, which is written to once a second, into a database of their own;
on two hosts, with PostgreSQL:"""

AFTER_FLEET = """\
While a stream only follows, nothing of it goes through the broker, and what it asks of the database does not grow
with the number of tasks. Each stream is a process, and so is each that waits for one: both hosts were told to have
100."""

SIZES = """\
Keys of 300 bytes in the source's memory, which are 115 in its snapshot, and writes of 100 bytes. Cores are those
of load and stream workers together; a target takes its part in one thread, and sets the pace where cores are enough.
The spool holds what has been received and not loaded yet: all of the snapshot at most, next to nothing where the
target keeps up."""

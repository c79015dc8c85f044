"""Differing keys are copied anew, each at a moment when both sides are known to stand at the same place.

    watch    the source is told to watch the keys (WATCH), says where its stream stands, and gives the values
    check    it says where the stream stands now, and an empty transaction of its proves that no key was touched: the
             values are true at both offsets and at all between
    write    the target takes them if the checkpoint of the task that follows lies between these offsets, in one script

So a write that is on its way is neither lost nor done twice, and no process of the task need be asked. Where no task
follows, there is nothing to be in step with. What is touched meanwhile is tried again, by itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sync_tasks.endpoints import SOCKET_TIMEOUT_S
from sync_tasks.errors import TargetError
from sync_tasks.names import KEY_PREFIX
from workers.codec.programs import is_nothing
from workers.codec.reads import Reads
from workers.link import Link
from workers.scope import Scope
from workers.source.ask import Source
from workers.target.knows import reads_of
from workers.times import fitting
from workers.verify.findings import Finding, Pair
from workers.verify.guards import DONE, OTHER, guards, standing, written
from workers.verify.server import NO_EXPIRY, NO_KEY, UNKNOWN, Server
from workers.verify.sides import Sides
from workers.verify.values import DUMP
from workers.verify.wire import arg, each

BATCH = 32
BATCH_BYTES = 8 << 20
MOST_BYTES = 64 << 20
"""Of one value, as the source counts its memory."""
TRIES = 40
PATIENCE_S = 30.0
"""So long the task that follows may take to come to where the values are true, and to settle its expiries."""
POLL_S = 0.02
PROBE = KEY_PREFIX + b"mend"

Key = tuple[Pair, bytes]


@dataclass(frozen=True, slots=True)
class _Read:
    """The commands that write keys as they are from an offset of the source's stream on."""

    since: int
    commands: list[tuple[bytes, list[bytes]]]


class Mender:
    """Args:
    sides: the servers.
    scope: which databases go where.
    progress: told how many keys are done, of how many.

    Raises KeyferryError for what the servers answer; `close` it.
    """

    def __init__(self, sides: Sides, scope: Scope, progress: Callable[[int, int], None]) -> None:
        self._sides, self._shift, self._progress = sides, sides.shift, progress
        self._scope = scope
        self._source = Source(sides.source.endpoint)
        self._watch = Link(sides.source.endpoint, "keyferry-mend", 0, SOCKET_TIMEOUT_S)
        self._target = Link(sides.target.endpoint, "keyferry-mend", 0, SOCKET_TIMEOUT_S)
        self._reads = self._ask_reads()
        self._guards = guards(self._target, _replids(sides.source), sides.shift.ms)
        self._replica = self._source.is_replica()  # it hides keys that its master may still renew

    def close(self) -> None:
        for one in (self._source, self._watch, self._target):
            one.close()

    def _ask_reads(self) -> Reads:
        """By a key of ours that comes and goes in one transaction."""
        commands: list[list[bytes | int]] = [[b"MULTI"], [b"SET", PROBE, b"1"], [b"DUMP", PROBE], [b"UNLINK", PROBE]]
        answers = self._target.ask_all([*commands, [b"EXEC"]])
        return reads_of(answers[-1][1])

    def mend(self, findings: Sequence[Finding]) -> list[Key]:
        """Copy the keys of the findings anew; those that were written. Function libraries are left."""
        keys = list(dict.fromkeys((f.pair, f.key) for f in findings if f.pair is not None))
        by_pair: dict[Pair, list[bytes]] = {}
        for pair, key in keys:
            by_pair.setdefault(pair, []).append(key)
        done: list[Key] = []
        for pair, some in by_pair.items():
            for batch in self._batches(pair, some):
                if self._try(pair, batch):
                    done += [(pair, key) for key in batch]
                else:
                    done += [(pair, key) for key in batch if self._insist(pair, key)]
                self._progress(len(done), len(keys))
        return done

    def _batches(self, pair: Pair, keys: list[bytes]) -> list[list[bytes]]:
        """Of keys that are small enough to be held together; a larger one comes alone, too large a one not at all."""
        out: list[list[bytes]] = []
        size = BATCH_BYTES
        for key, bytes_ in zip(keys, self._source.sizes([(pair.source, key) for key in keys]), strict=True):
            if bytes_ > MOST_BYTES:
                continue
            if not out or len(out[-1]) == BATCH or size + bytes_ > BATCH_BYTES:
                out.append([])
                size = 0
            out[-1].append(key)
            size += bytes_
        return out

    def _insist(self, pair: Pair, key: bytes) -> bool:
        """A key that is written to all the time has moments between the writes."""
        return any(self._try(pair, [key]) for _ in range(TRIES))

    def _try(self, pair: Pair, keys: list[bytes]) -> bool:
        """Whether all of them were written."""
        read = self._read(pair, keys)
        if read is None:
            return False
        self._reach(read.since)
        offset = self._source.offset()
        if not self._is_untouched():
            return False
        answer = written(self._target, self._guards, read.since, offset, pair.target, read.commands)
        if answer == OTHER:
            raise TargetError(
                "the task that follows was ended, or has another source now",
                hint="run the same command again",
                code="moved",
            )
        return answer == DONE

    def _reach(self, since: int) -> None:
        """Wait until the target stands where the values are true."""
        until = time.monotonic() + PATIENCE_S
        while self._guards:
            offset = standing(self._target, self._guards)
            if offset is not None and offset >= since:
                break
            if time.monotonic() > until:
                raise TargetError(
                    "the task that follows does not come to where the source stands: it rests, or is far behind",
                    hint="repair once it is in sync",
                    code="behind",
                )
            time.sleep(POLL_S)

    def _read(self, pair: Pair, keys: list[bytes]) -> _Read | None:
        """Watch and read; None: an expiry could not be read exactly; or a key is not there, but another database
        that is merged into the same one has it, or a replica only hides it, perhaps."""
        source, args = self._sides.source, [arg(key) for key in keys]
        siblings = [db for db in self._scope.sources(pair.target) if db != pair.source]
        watched: list[list[bytes | int]] = [[b"UNWATCH"]]
        for db in (pair.source, *siblings):
            watched += [[b"SELECT", db], [b"WATCH", *keys]]
        self._watch.ask_all(watched)
        since = self._source.offset()
        payloads = source.link.ask(pair.source, each(DUMP, args), len(args))
        expiries = source.expiries(pair.source, args)
        commands: list[tuple[bytes, list[bytes]]] = []
        for key, payload, expiry in zip(keys, payloads, expiries, strict=True):
            if payload is not None and is_nothing(payload):
                payload = None
            if payload is None and (self._replica or self._is_there(siblings, key)):
                return None
            if payload is None:
                commands.append((key, [b"UNLINK", key]))
                continue
            if expiry in (UNKNOWN, NO_KEY):
                return None
            value, _ = fitting(payload, self._reads, self._shift.ms)
            when = [b"0"] if expiry == NO_EXPIRY else [b"%d" % self._shift.key(expiry)]
            tail = [] if expiry == NO_EXPIRY else [b"ABSTTL"]
            commands.append((key, [b"RESTORE", key, *when, value, b"REPLACE", *tail]))
        return _Read(since, commands)

    def _is_there(self, databases: list[int], key: bytes) -> bool:
        """Whether one of these databases of the source has it, which go to the same one of the target."""
        return any(self._source.there(db, [key])[0] for db in databases)

    def _is_untouched(self) -> bool:
        *_, answer = self._watch.ask_all([[b"MULTI"], [b"TIME"], [b"EXEC"]])
        return answer is not None


def _replids(source: Server) -> list[str]:
    """Replication ids of a source: its own, and the one from before it was promoted."""
    info = dict(line.split(":", 1) for line in source.info(b"REPLICATION").decode().splitlines() if ":" in line)
    return [info[name] for name in ("master_replid", "master_replid2") if name in info] or [source.link.info["run_id"]]

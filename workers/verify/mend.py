"""Differing keys are copied anew, each at a moment when both sides are known to stand at the same place.

    watch    the source is told to watch the keys (WATCH), says where its stream stands, and gives the values
    check    it says where the stream stands now, and an empty transaction of its proves that no key was touched: the
             values are true at both offsets and at all between
    write    the target takes them if the checkpoint of the task that follows lies between these offsets, in one script

So a write that is on its way is neither lost nor done twice, and no process of the task need be asked. Where no task
follows, there is nothing to be in step with. What is touched meanwhile is tried again, by itself.

In a target that is a cluster the key's node tells: there is the checkpoint of what it serves, and there the script
goes. The other nodes' are to have come to `since` as well: the slot may have been theirs, with writes on their way.

A source that is a cluster has a stream, and so a checkpoint, for each shard. What counts for a key is the stream of the
shard that has its slot now, if the target says that this stream acts on the slot: then no other one of the task does
(`workers.sharding`). The script sees that the target still says so. While a slot is on its way no stream acts on it for
a while: its keys are left alone if that lasts.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sync_tasks.endpoints import SOCKET_TIMEOUT_S
from sync_tasks.errors import ConnectionLost, KeyferryError, TargetError
from sync_tasks.names import KEY_PREFIX
from sync_tasks.slots import has
from sync_tasks.topology import Address
from workers.codec.programs import is_nothing
from workers.codec.reads import Reads
from workers.codec.slots_cy import slot
from workers.link import Link
from workers.scope import Scope
from workers.source.ask import Source
from workers.target.knows import reads_of
from workers.times import fitting
from workers.verify.findings import Finding, Pair
from workers.verify.guards import DONE, OTHER, SLOTS, Guard, guards, standing, written
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

REPLIDS = re.compile(rb"^master_replid2?:(\w+)", re.MULTILINE)
MOVING_S = 0.2
"""Until it is asked anew who has which slots."""
ON_ITS_WAY = "its slot moves"
HUGE = "it is too large to be copied in one go"
BUSY = "it was written to all the while"
AWAY = re.compile(r"^(MOVED|ASK|TRYAGAIN|CLUSTERDOWN|READONLY)\b|(?i:non local key|slot not served|cluster is down)")
"""In the error of a node that does not serve a key."""

Key = tuple[Pair, bytes]
Node = Address | None
"""A node of a cluster; None: it is one server."""


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

    left: why, of keys that were not written.
    Raises KeyferryError for what the servers answer; `close` it.
    """

    def __init__(self, sides: Sides, scope: Scope, progress: Callable[[int, int], None]) -> None:
        self._sides, self._shift, self._progress = sides, sides.shift, progress
        self._scope = scope
        self._sources: dict[Node, tuple[Source, Link]] = {}
        self._targets: dict[Node, Link] = {}
        self._guards: dict[Node, list[Guard]] = {}
        self.left: dict[Key, str] = {}
        self._away: set[int] = set()  # slots that were on their way for long
        try:
            self._reads = self._ask_reads()
            for node in sides.target.link.masters:
                self._guard(node)
            # A replica hides keys that its master may still renew; of a cluster the masters are asked.
            self._replica = not sides.source.endpoint.is_cluster and self._asked(None)[0].is_replica()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        for source, watch in self._sources.values():
            source.close()
            watch.close()
        for target in self._targets.values():
            target.close()

    def _asked(self, node: Node) -> tuple[Source, Link]:
        """A node of the source."""
        if node not in self._sources:
            endpoint = self._sides.source.endpoint
            endpoint = endpoint if node is None else endpoint.at(*node)
            self._sources[node] = Source(endpoint), Link(endpoint, "keyferry-mend", 0, SOCKET_TIMEOUT_S)
        return self._sources[node]

    def _target(self, node: Node) -> Link:
        if node not in self._targets:
            endpoint = self._sides.target.endpoint
            endpoint = endpoint if node is None else endpoint.at(*node)
            self._targets[node] = Link(endpoint, "keyferry-mend", 0, SOCKET_TIMEOUT_S)
        return self._targets[node]

    def _guard(self, node: Node) -> None:
        """Look for the checkpoints of a node of the target."""
        apart, known = self._sides.source.endpoint.is_cluster, _replids(self._sides.source)
        self._guards[node] = guards(self._target(node), known, self._shift.ms, slots=apart)

    def _watched(self, keys: list[bytes], watch: Link, theirs: Node) -> dict[Node, list[Guard]] | None:
        """The checkpoints that count for keys of one node of the source, by the target's nodes; None: its stream does
        not carry all of them.

        Args:
            watch: to the node.
            theirs: the node of the target that has the keys.
        """
        followed = {node: some for node, some in self._guards.items() if some}
        if not followed or not self._sides.source.endpoint.is_cluster:
            return followed
        known = {said.decode() for said in REPLIDS.findall(watch.ask(b"INFO", b"replication"))}
        own = {node: [guard for guard in some if guard.replid in known] for node, some in followed.items()}
        here = own.get(theirs, [])
        carried = bool(here) and all(any(has(guard.slots, key) for guard in here) for key in keys)
        return {node: some for node, some in own.items() if some} if carried else None

    def _ask_reads(self) -> Reads:
        """By a key of ours that comes and goes in one transaction."""
        commands: list[list[bytes | int]] = [[b"MULTI"], [b"SET", PROBE, b"1"], [b"DUMP", PROBE], [b"UNLINK", PROBE]]
        node = self._sides.target.link.owner(PROBE)
        answers = self._target(node).ask_all([*commands, [b"EXEC"]])
        return reads_of(answers[-1][1])

    def mend(self, findings: Sequence[Finding]) -> list[Key]:
        """Copy the keys of the findings anew; those that were written. Function libraries are left."""
        keys = list(dict.fromkeys((f.pair, f.key) for f in findings if f.pair is not None))
        by_pair: dict[Pair, list[bytes]] = {}
        for pair, key in keys:
            by_pair.setdefault(pair, []).append(key)
        done: list[Key] = []
        for pair, some in by_pair.items():
            for together in self._by_nodes(some).values():
                for batch in self._batches(pair, together):
                    if self._try(pair, batch):
                        done += [(pair, key) for key in batch]
                    else:
                        done += [(pair, key) for key in batch if self._insist(pair, key)]
                    self._progress(len(done), len(keys))
        return done

    def _by_nodes(self, keys: list[bytes]) -> dict[tuple[Node, Node], list[bytes]]:
        """Keys by who has them, of the source and of the target."""
        ours, theirs = self._sides.source.link, self._sides.target.link
        found: dict[tuple[Node, Node], list[bytes]] = {}
        for key in keys:
            found.setdefault((ours.owner(key), theirs.owner(key)), []).append(key)
        return found

    def _batches(self, pair: Pair, keys: list[bytes]) -> list[list[bytes]]:
        """Of keys that are small enough to be held together; a larger one comes alone, too large a one not at all."""
        out: list[list[bytes]] = []
        size = BATCH_BYTES
        for key, bytes_ in zip(keys, self._sides.source.sizes(pair.source, keys), strict=True):
            if bytes_ > MOST_BYTES:
                self.left[pair, key] = HUGE
                continue
            if not out or len(out[-1]) == BATCH or size + bytes_ > BATCH_BYTES:
                out.append([])
                size = 0
            out[-1].append(key)
            size += bytes_
        return out

    def _insist(self, pair: Pair, key: bytes) -> bool:
        """A key that is written to all the time has moments between the writes; a slot arrives."""
        tries = 0 if slot(key) in self._away else TRIES
        self.left[pair, key] = BUSY if tries else ON_ITS_WAY
        for _ in range(tries):
            if self._try(pair, [key]):
                del self.left[pair, key]
                return True
        if self.left[pair, key] == ON_ITS_WAY:
            self._away.add(slot(key))
        return False

    def _try(self, pair: Pair, keys: list[bytes]) -> bool:
        """Whether all of them were written."""
        by_nodes = list(self._by_nodes(keys))
        if len(by_nodes) > 1:
            return False  # slots have moved
        ((ours, theirs),) = by_nodes
        try:
            return self._written(pair, keys, ours, theirs)
        except KeyferryError as error:
            self._look(error)
            if AWAY.search(error.message):
                self.left |= {(pair, key): ON_ITS_WAY for key in keys}
            return False

    def _look(self, error: KeyferryError) -> None:
        """After an error: raise it, unless slots of a cluster have moved, or a node of one is gone."""
        clusters = [s for s in (self._sides.source, self._sides.target) if s.endpoint.is_cluster]
        if not clusters or not (isinstance(error, ConnectionLost) or AWAY.search(error.message)):
            raise error
        time.sleep(MOVING_S)
        for side in clusters:
            side.link.look_patiently()
        self.close()
        self._sources.clear()
        self._targets.clear()
        self._guards.clear()
        for node in self._sides.target.link.masters:
            self._guard(node)

    def _written(self, pair: Pair, keys: list[bytes], ours: Node, theirs: Node) -> bool:
        """`_try`, while a node of the source has the keys, and one of the target."""
        source, watch = self._asked(ours)
        watched = self._watched(keys, watch, theirs)
        if watched is None:
            return self._on_its_way(pair, keys, theirs)
        read = self._read(pair, keys, source, watch)
        if read is None:
            return False
        self._reach(read.since, theirs, watched)
        offset = source.offset()
        *_, untouched = watch.ask_all([[b"MULTI"], [b"TIME"], [b"EXEC"]])
        if untouched is None:
            return False
        link, apart = self._target(theirs), theirs is not None
        answer = written(link, watched.get(theirs, []), read.since, offset, pair.target, read.commands, apart)
        if answer == SLOTS:
            return self._on_its_way(pair, keys, theirs)
        if answer == OTHER:
            raise TargetError(
                "the task that follows was ended, or has another source now",
                hint="run the same command again",
                code="moved",
            )
        return answer == DONE

    def _on_its_way(self, pair: Pair, keys: list[bytes], node: Node) -> bool:
        """Nothing was written; soon it may be another's, and the target says so."""
        self.left |= {(pair, key): ON_ITS_WAY for key in keys}
        time.sleep(MOVING_S)
        self._sides.source.link.look_patiently()
        self._guard(node)
        return False

    def _reach(self, since: int, node: Node, watched: dict[Node, list[Guard]]) -> None:
        """Wait until the target stands where the values are true, in each of its nodes, that of the keys for one.

        Args:
            watched: the checkpoints that count, by its nodes; a new master's is added.
        """
        until = time.monotonic() + PATIENCE_S
        while watched:
            offsets = [standing(self._target(one), some) for one, some in watched.items()]
            if node in watched and all(offset is not None and offset >= since for offset in offsets):
                break
            if node not in watched:  # a new master: its checkpoint is to come
                time.sleep(MOVING_S)
                self._guard(node)
                replids = {guard.replid for some in watched.values() for guard in some}
                if found := [guard for guard in self._guards[node] if guard.replid in replids]:
                    watched[node] = found
            if time.monotonic() > until:
                raise TargetError(
                    "the task that follows does not come to where the source stands: it rests, or is far behind",
                    hint="repair once it is in sync",
                    code="behind",
                )
            time.sleep(POLL_S)

    def _read(self, pair: Pair, keys: list[bytes], asked: Source, watch: Link) -> _Read | None:
        """Watch and read; None: an expiry could not be read exactly; or a key is not there, but another database
        that is merged into the same one has it, or a replica only hides it, perhaps."""
        source, args = self._sides.source, [arg(key) for key in keys]
        siblings = [db for db in self._scope.sources(pair.target) if db != pair.source]
        watched: list[list[bytes | int]] = [[b"UNWATCH"]]
        for db in (pair.source, *siblings):
            watched.append([b"SELECT", db])
            watched += [[b"WATCH", key] for key in keys]
        watch.ask_all(watched)
        since = asked.offset()
        payloads = source.link.ask(pair.source, each(DUMP, args), len(args))
        expiries = source.expiries(pair.source, args)
        commands: list[tuple[bytes, list[bytes]]] = []
        for key, payload, expiry in zip(keys, payloads, expiries, strict=True):
            if payload is not None and is_nothing(payload):
                payload = None
            if payload is None and (self._replica or self._is_there(asked, siblings, key)):
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

    @staticmethod
    def _is_there(asked: Source, databases: list[int], key: bytes) -> bool:
        """Whether one of these databases of the source has it, which go to the same one of the target."""
        return any(asked.there(db, [key])[0] for db in databases)


def _replids(source: Server) -> list[str]:
    """Replication ids of a source, or of all masters of one: its own, and the one from before it was promoted."""
    found = [said.decode() for said in REPLIDS.findall(source.info(b"REPLICATION"))]
    return found or [source.link.info["run_id"]]

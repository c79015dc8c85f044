"""Loading a chunk through a transform to a cluster: what the script makes of a key may belong to any master.

So a chunk goes to one lane after the other, each time all of it through the script, of which the lane keeps what falls
into its slots. A mark on each says that it has all of it there. All of them go by one script: the first that fails has
written nothing to any lane, since the whole chunk is tried before; and one that was changed since then is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import ControlError, Retry
from sync_tasks.lanes import Lane
from sync_tasks.names import marks_key, script_field
from workers.beat import Beat
from workers.codec.resp_cy import encode
from workers.full import FencedBatches, Loader, prove
from workers.load_transformed import rehearse
from workers.pace import Pace
from workers.ports import ChunkPort
from workers.target.claim import STREAMING, look
from workers.target.link import TargetLink


def load_lanes(port: ChunkPort, target: Endpoint, home: int, target_db: int) -> None:
    """As `load_chunk`, of a task with a transform whose target is a cluster."""
    whole, loader, pace = port.task, Loader(port), Pace()
    lanes = [lane for lane in whole.lanes if lane.slots]
    loader.check()

    at = 0  # number of the lane

    def renew() -> None:
        port.renew((at * port.chunk.keys + loader.keys) // len(lanes))
        pace.limits = port.limits

    try:
        with Beat(renew, patient=True) as beat:
            loader.verify(beat.check)
            begun = _begun(port, target, home, lanes)
            for at, lane in enumerate(lanes):  # noqa: B007 - `renew` has it
                loader.keys = 0
                port.task = replace(whole, uid=lane.uid(whole.uid))
                link = TargetLink(target.serving(lane.home), f"keyferry-{port.task.uid}-load", home)
                try:
                    if not begun:
                        rehearse(port, link, home, lane, beat.check)
                        begun = True
                    if not _is_done(port, link):
                        prove(link, target_db, home)
                        _load(port, link, (home, target_db), lane, loader, renew, beat, pace)
                finally:
                    link.close()
    finally:
        port.task = whole
    port.done(port.chunk.keys, loader.left_out)


def _load(
    port: ChunkPort, link: TargetLink, dbs: tuple[int, int], lane: Lane, loader: Loader, renew: Callable[[], None],
    beat: Beat, pace: Pace,
) -> None:  # fmt: skip
    uid, number, gen, seq = port.task.uid, port.node_number, port.chunk.gen, port.chunk.seq
    batches = FencedBatches(link, uid, number, gen, str(seq), *dbs, renew, beat.check, pace)
    marks, digest = marks_key(uid, number, gen), port.task.spec.transform.digest.encode()
    link.ask(b"HSETNX", marks, script_field(seq), digest)
    if link.ask(b"HGET", marks, script_field(seq)) != digest:
        raise _changed(seq)
    loader.load(batches, lane)
    batches.end(encode([b"HSET", marks, seq, port.chunk.keys]), 1)


def _is_done(port: ChunkPort, link: TargetLink) -> bool:
    """Whether the lane has all of it. One that streams does, though a FLUSHALL may have taken its marks since: another
    lane, which does not yet, may have lost the chunk."""
    uid, number, gen = port.task.uid, port.node_number, port.chunk.gen
    if link.ask(b"HEXISTS", marks_key(uid, number, gen), b"%d" % port.chunk.seq):
        return True
    found = look(link, uid, number)
    return found is not None and found.state == STREAMING and found.gen == gen


def _begun(port: ChunkPort, target: Endpoint, home: int, lanes: list[Lane]) -> bool:
    """Whether the chunk was begun in some lane. Raises ControlError: by another script."""
    digest, seq, begun = port.task.spec.transform.digest.encode(), port.chunk.seq, False
    for lane in lanes:
        link = TargetLink(target.serving(lane.home), "keyferry-look", home)
        try:
            marks = marks_key(lane.uid(port.task.uid), port.node_number, port.chunk.gen)
            found = link.ask(b"HGET", marks, script_field(seq))
        finally:
            link.close()
        if found not in (None, digest):
            raise _changed(seq)
        begun = begun or found is not None
    return begun


def _changed(seq: int) -> ControlError:
    return ControlError(
        f"the transform was changed while chunk {seq} of the snapshot was loaded into the masters of the target"
        " cluster: some have it by the former script",
        code="transform-changed",
        retry=Retry.OTHER,
        hint="give the task its former script again until it is synchronizing, or restart it with an empty target",
    )

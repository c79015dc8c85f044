"""Which receiver a task has, and whom its other threads ask, by its setting `reader`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from sync_tasks.endpoints import Endpoint
from workers.continued import ContinuedReceiver
from workers.notified import NotifiedReceiver
from workers.ports import StreamPort
from workers.read_dump import DumpReceiver
from workers.receive import Receiver
from workers.scan import ScanReceiver
from workers.source.ask import Source
from workers.source.cluster_survey import ClusterFollowed
from workers.source.followed import Followed
from workers.source.sources import Sources
from workers.source.still import Still
from workers.told import Told


def receiver_of(port: StreamPort, target: Endpoint) -> Callable[..., Receiver]:
    """What reads the source."""
    if port.task.spec.listens:
        return partial(NotifiedReceiver, target=target)
    if port.task.spec.continues:
        return ContinuedReceiver
    return {"rdb": DumpReceiver, "scan": ScanReceiver}.get(port.task.spec.reader, Receiver)


def sources_of(port: StreamPort, source: Endpoint) -> Sources:
    """Makes what asks it."""
    if port.task.spec.listens:
        told = Told()
        made = ClusterFollowed if source.slots else Followed
        return Sources(lambda: made(source, told))
    if port.task.spec.reader != "psync" and not port.task.spec.continues:
        return Sources(lambda: Still(source, port.node))
    return Sources(lambda: Source(source))

"""The cut-over as a stream's job hears of it: quickly, since writes to the source may be paused meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sync_tasks.views import Orders

if TYPE_CHECKING:
    from workers.stream import StreamJob


def is_near(orders: Orders) -> bool:
    """Whether the end of the stream is asked for, or prepared."""
    return orders.finishing or orders.settling


def obey(job: StreamJob) -> None:
    """Tell the applier. Once the end is near, the database is asked at each tick, not at each beat alone."""
    applier = job.applier
    if is_near(job.orders):
        job.renew()
    wake = False
    if job.orders.finishing:
        job.slots.stand(applier.stands_at)
        if job.slots.closing:
            applier.may_close.set()
    # Of a cluster: what its shard serves is known, and all shards are closed together.
    closes = job.orders.finishing and (job.slots.steady or job.slots.closing)
    for wanted, event in ((closes, applier.finishing), (job.orders.settling, applier.settling)):
        if wanted and not event.is_set():
            event.set()
            wake = True
    if job.orders.finishing and not closes and applier.finishing.is_set():
        applier.finishing.clear()  # slots move again: what they take along is to come first
        wake = True
    if not job.orders.settling and applier.settling.is_set():
        applier.settling.clear()
        wake = True
    if wake or job.orders.finishing:
        job.log.wake()

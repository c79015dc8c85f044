"""Taking a stream over: under which epoch."""

from __future__ import annotations

from workers.ports import StreamPort
from workers.target.claim import Claim, claim, peek_epoch
from workers.target.link import TargetLink

STRIDE = 1 << 20
"""An operator's start takes the next multiple of it, a take-over the next number: so no number of take-overs lets an
older copy of a state directory catch up with a newer one."""


def take_over(port: StreamPort, link: TargetLink, nonce: str) -> Claim:
    """Claim the node's stream for the owner of the job.

    Args:
        link: in the checkpoint's database.
        nonce: of this owner.
    Raises Fenced, and what the link raises.
    """
    node = port.node()
    if node.fresh:
        highest = max(port.epoch, peek_epoch(link, port.task.uid, node.number))
        port.raise_epoch((highest // STRIDE + 1) * STRIDE)
    port.renew()
    return claim(link, port.task.uid, node.number, port.epoch, nonce)

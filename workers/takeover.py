"""Taking a stream over: under which epoch, and what must be true of the checkpoint found."""

from __future__ import annotations

from sync_tasks.errors import CannotContinue, Side
from workers.ports import StreamPort
from workers.target.claim import Checkpoint, Claim, claim, peek_epoch
from workers.target.link import TargetLink

STRIDE = 1 << 20
"""An operator's start takes the next multiple of it, a take-over the next number: so no number of take-overs lets an
older copy of a state directory catch up with a newer one."""


def take_over(port: StreamPort, link: TargetLink, nonce: str, loading: int | None = None) -> Claim:
    """Claim the node's stream for the owner of the job.

    Args:
        link: in the checkpoint's database.
        nonce: of this owner.
        loading: as `claim` takes it.
    Raises Fenced, CannotContinue, and what the link raises.
    """
    node = port.node()
    if node.fresh:
        highest = max(port.epoch, peek_epoch(link, port.task.uid, node.number))
        port.raise_epoch((highest // STRIDE + 1) * STRIDE)
    port.renew()
    claimed = claim(link, port.task.uid, node.number, port.epoch, nonce, loading)
    _check_whole(claimed.found)
    return claimed


def _check_whole(found: Checkpoint | None) -> None:
    """Raise CannotContinue if the target has refused the gate of a window that it then executed wrongly."""
    if found is None or found.number == found.windows:
        return
    missing = found.number - found.windows
    what = (
        f"lacks {missing} windows before offset {found.offset}: it refused them and took those behind them"
        if missing > 0
        else f"has executed {-missing} windows of an owner that was none any more: it had refused what spoils them"
    )
    raise CannotContinue(
        f"the target {what}", side=Side.TARGET, hint="start over with an empty target and a new --state directory"
    )

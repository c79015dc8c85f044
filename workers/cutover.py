"""The cut-over: every expiry on the target becomes the source's own, then the target is closed to the stream.

    drain    everything is settled once more, without the extension
    ask      how far the source has written by then, and go on to there
    close    one last window: what is still held as it is at the source, and a checkpoint nobody goes on from

What the source writes behind that window is not carried.
"""

from __future__ import annotations

from workers.inquire import Inquiry
from workers.settle import Settler
from workers.source.ask import Position
from workers.target.windows import Chain

AGAIN_S = 0.5
"""The source is not asked more often than this."""
TRY_S = 0.05


class CutOver:
    """Ends a stream, once it is asked to.

    Args:
        chain: of this connection.
        settler: of the same.
        inquiry: of the source.
    """

    def __init__(self, chain: Chain, settler: Settler, inquiry: Inquiry) -> None:
        self._chain, self._settler, self._inquiry = chain, settler, inquiry
        self._begun = False
        self._end: Position | None = None  # what must be on the target
        self._not_before = 0.0

    def begin(self, offset: int) -> None:
        """From now on towards the end; to say so again changes nothing.

        Args:
            offset: of the stream, behind the last command that was rewritten with the extension.
        """
        if not self._begun:
            self._begun = True
            self._settler.extend(0, offset)

    @property
    def goal(self) -> int | None:
        """The offset that the target must reach before it is closed, once it is known."""
        return self._end.offset if self._end is not None else None

    def due(self, now: float) -> bool:
        """Whether the last window may be made once nothing is in flight.

        Args:
            now: monotonic seconds.
        """
        if not self._begun:
            return False
        if not self._settler.settled:
            self._end = None  # the source is asked when there is nothing more to settle, not before
            return False
        if now < self._not_before or not self._settler.closable():
            return False
        if self._end is None:
            self._not_before = now + AGAIN_S
            self._end = self._inquiry.position()
        return self._end is not None and self._reached(self._end, now)

    def _reached(self, end: Position, now: float) -> bool:
        offset, _, replid = self._chain.tip
        if offset >= end.offset and replid != end.replid:  # the source was promoted, or restarted
            self._end, self._not_before = None, now + AGAIN_S
            return False
        return offset >= end.offset

    def close(self, now: float) -> None:
        """Push the last window, unless something is still unsure: that is settled first."""
        window = self._chain.own_window()
        if self._settler.last(window):
            self._chain.close(window)
        else:
            self._not_before = now + TRY_S

"""The cut-over: every expiry on the target becomes the source's own, then the target is closed to the stream.

    settle   everything is settled once more, without the extension; the stream goes on, and may go back to how it was
    ask      how far the source has written by then, and go on to there
    mark     where the target's own stream stands, for the way back (`workers.way_back`)
    close    one last window: what is still held as it is at the source, and a checkpoint nobody goes on from

What the source writes behind that window is not carried.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Protocol

from workers.applied import Progress
from workers.clock import Clock
from workers.compose import emit
from workers.inquire import Inquiry
from workers.settle import Settler
from workers.source.ask import Position
from workers.target.windows import Chain, Window
from workers.way_back import FIELD, mark

AGAIN_S = 0.5
"""The source is not asked more often than this."""
TRY_S = 0.05
LONGEST_NAME = 64


class Ordered(Protocol):
    """Who knows what is asked for: the applier."""

    clock: Clock
    finishing: threading.Event
    settling: threading.Event


class CutOver:
    """Ends a stream, once it is asked to.

    Args:
        chain: of this connection.
        settler: of the same.
        inquiry: of the source.
    """

    def __init__(self, chain: Chain, settler: Settler, inquiry: Inquiry) -> None:
        self._chain, self._settler, self._inquiry = chain, settler, inquiry
        self._begun = self._closes = False
        self._end: Position | None = None  # what must be on the target
        self._not_before = self._ask_at = 0.0

    def obey(self, orders: Ordered, offset: int) -> None:
        """Towards the end, or back to following; to say so again changes nothing.

        Args:
            orders: what is asked for.
            offset: of the stream, behind the last command that was rewritten with the extension there was so far.
        """
        clock, self._closes = orders.clock, orders.finishing.is_set()
        if self._closes:
            clock.to_the_end = False
        if self._closes or orders.settling.is_set():
            self.begin(offset)
        elif self._begun:
            self._begun, self._end = False, None
            self._settler.extend(clock.usual_ms, offset)

    def begin(self, offset: int) -> None:
        """From now on every expiry is to be the source's own; to say so again changes nothing."""
        if not self._begun:
            self._begun = True
            self._settler.extend(0, offset)

    @property
    def near(self) -> bool:
        """Whether the end is prepared: bytes that change nothing are checkpointed soon, too."""
        return self._begun

    @property
    def unextended(self) -> bool:
        """Whether every expiry on the target is the source's own, but for those that were written just now."""
        return self._begun and self._settler.settled

    @property
    def goal(self) -> int | None:
        """The offset that the target must reach before it is closed, once it is known."""
        return self._end.offset if self._end is not None else None

    def saw(self, done: Sequence[Window], progress: Progress) -> None:
        """Windows were committed: who asks whether anybody writes to the source is told of them."""
        # Commands out of scope count as changes, and are not in the window; a window of our own leaves the stream where
        # it is.
        changed = next((window for window in reversed(done) if window.commands and window.end > window.start), None)
        if changed is None:
            return
        progress.changed_offset = changed.end
        if self._begun:
            name = changed.command(changed.commands - 1)[0][0]
            progress.changed_by = name[:LONGEST_NAME].decode(errors="replace").upper()

    def due(self, now: float) -> bool:
        """Whether the last window may be made once nothing is in flight.

        Args:
            now: monotonic seconds.
        """
        if not (self._begun and self._closes):
            return False
        if not self._settler.settled:
            self._end = None  # the source is asked when there is nothing more to settle, not before
            return False
        if now < self._not_before or not self._settler.closable():
            return False
        if self._end is None and now >= self._ask_at:
            self._ask_at = now + AGAIN_S
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
        point, window = mark(self._chain), self._chain.own_window()
        emit(window, [b"HSET", self._chain.ck, FIELD, str(point or "").encode()], window.end)
        if self._settler.last(window):
            self._chain.close(window)
        else:
            self._not_before = now + TRY_S

"""What time is written for a source's time: with a hold while behind, with the extension once caught up."""

from __future__ import annotations

from collections.abc import Callable

from workers.expiry import FIELD_HOLD, REAL, REAL_FIELD, hold, hold_field
from workers.moment import now_ms
from workers.spool.log import BACKLOG, Block
from workers.target.claim import ALL_HELD, Checkpoint

MARGIN_MS = 1000
"""A time nearer than this to the target's now is held: on its way it could pass."""
LEAST_LAG_MS = 1000
"""Without an extension, what is older than this is behind."""
CALM_MS = 10_000
"""So long without a surprise halves what was seen of a clock that steps, or of a target slow to answer."""


class Clock:
    """Decides what time is written for a source's time.

    Args:
        extend_ms: what a caught-up task adds to each expiry.
        now_ms: this process' clock; `skew_ms` brings it to the target's.
        blind: the source cannot be asked for the times of keys that the target has, and a time that is only roughly
            known stays so.
        still: no DEL of the source tells that a key's time is over: the target's clock does.
    """

    def __init__(
        self, extend_ms: int, now_ms: Callable[[], int] = now_ms, *, blind: bool = False, still: bool = False
    ) -> None:
        self.still = still
        self.extend_ms = self.usual_ms = extend_ms
        self.now_ms = now_ms
        self.skew_ms = 0  # target's clock minus ours, rather too much than too little
        self.margin_ms = MARGIN_MS  # how far ahead of the target's now a time must lie to be written as it is
        self.loading = True
        self.behind = False
        self.former_ms = extend_ms  # the extension that expiries on the target may still carry, if it is shorter
        self.fresh_ms = 0  # by the target's clock: nothing behind the last block was written before
        self.all_held = False  # nothing that has an expiry was written without the hold so far
        self.own_from = 0  # blocks behind this offset bear a moment of this process' clock
        self.blind = blind
        self.to_the_end = False  # every time keeps its hold until the cut-over: nobody can say what to settle it to
        self._old = False
        self.unsettled: Callable[[], bool] = lambda: True  # whether holds may be left on the target
        self.received_ms = 0
        self._least_ms: int | None = None  # target's clock minus ours, rather too little
        self._observed_ms = 0

    def at(self, received_ms: int, flags: int) -> None:
        """The moment when the commands that follow were received."""
        self.received_ms = received_ms
        self.behind = bool(flags & BACKLOG) or self._old or self.now_ms() - received_ms > self.lag_ms

    def live(self, finishing: bool) -> None:
        """A life begins, in the cut-over or before."""
        self.extend_ms, self.to_the_end = (0 if finishing else self.usual_ms), self.blind and not finishing

    @property
    def lag_ms(self) -> int:
        """What was written longer ago than this counts as behind.

        It may be received late, executed late, and by a clock that differs: a third of the extension for each.
        """
        return min(self.extend_ms, self.former_ms) // 3 or LEAST_LAG_MS

    def is_old(self, block: Block) -> bool:
        """Whether the target may by itself have expired what a command in the block renews."""
        if block.offset >= self.own_from and not block.flags & BACKLOG:
            self.fresh_ms = block.received_ms + self.skew_ms
        self._old = not self.all_held and self.is_past(self.fresh_ms)
        return self._old

    def is_past(self, fresh_ms: int) -> bool:
        """Whether the target may by itself have expired what was renewed at that moment of its clock."""
        return self.target_now() - fresh_ms > self.lag_ms

    def is_late(self, received_ms: int) -> bool:
        """Whether a window with bytes of that moment was answered so late that it may have been executed too late."""
        return not self.all_held and received_ms > 0 and self.now_ms() - received_ms > self.lag_ms

    def begin(self, found: Checkpoint) -> None:
        """A connection's life begins behind this checkpoint."""
        self.loading, self.behind = True, False
        self.former_ms = self.extend_ms if found.extend_ms is None else max(0, found.extend_ms)
        self.all_held = found.fresh_ms == ALL_HELD
        self.fresh_ms = 0 if self.all_held else found.fresh_ms

    def caught_up(self, fresh_ms: int) -> int:
        """From now on times are written without the hold; what `Checkpoint.fresh_ms` is to say, given what it says."""
        self.loading = self.behind = False
        if self.all_held:
            self.all_held, fresh_ms = False, self.fresh_ms
        return fresh_ms

    @property
    def stamp(self) -> int:
        """As `Window.fresh_ms`."""
        return 0 if self.all_held else self.fresh_ms

    @property
    def holding(self) -> bool:
        return self.loading or self.behind or self.to_the_end

    def observe(self, before_ms: int, target_ms: int, after_ms: int) -> None:
        """The target's clock has shown `target_ms` between two moments of ours.

        A clock that has stepped may step again, and a target that took long to answer may let a command lie as
        long: both widen the margin, for a while.
        """
        least, most = target_ms - after_ms, target_ms - before_ms
        seen = most - least
        if self._least_ms is not None:
            seen += max(0, least - self.skew_ms, self._least_ms - most)
        calm = 0.5 ** (max(0, after_ms - self._observed_ms) / CALM_MS)
        self.margin_ms = MARGIN_MS + max(seen, int((self.margin_ms - MARGIN_MS) * calm))
        self._least_ms, self.skew_ms, self._observed_ms = least, most, after_ms

    def target_now(self) -> int:
        return self.now_ms() + self.skew_ms

    def ahead(self, plain_ms: int) -> bool:
        """Whether a time lies so far ahead of the target's now that it may be written as it is."""
        return self.still or plain_ms > self.target_now() + self.margin_ms

    def write(self, time_ms: int, exact: bool) -> int:
        """The time to write for a source's time."""
        plain = self.key(time_ms)
        exact = exact or self.blind
        if not exact or self.holding or not self.ahead(plain):
            return hold(time_ms, exact)
        return plain

    def write_field(self, time_ms: int) -> int:
        """The same for a field of a hash."""
        plain = self.field(time_ms)
        return hold_field(time_ms) if self.holding or not self.ahead(plain) else plain

    def key(self, time_ms: int) -> int:
        """A key's time with the extension; one so far off that it never comes stays as it is."""
        return time_ms + self.extend_ms if time_ms < REAL else time_ms

    def field(self, time_ms: int) -> int:
        """The same for a field of a hash."""
        return min(time_ms + self.extend_ms, FIELD_HOLD - 1) if time_ms < REAL_FIELD else time_ms

    def absolute(self, value: bytes, unit: int, relative: bool) -> int:
        return int(value) * unit + (self.received_ms if relative else 0)

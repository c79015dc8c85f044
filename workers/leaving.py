"""Keys of slots that a source node has given up before its addition of them was done (`workers.adding`).

The addition has put some of them on the target, and the stream did not act on them: what the source has deleted since
is there still. Whoever takes the slot next removes only what its own stream has brought. So these go before the slot is
let go, beside the stream; nobody else may have put keys of it there yet. Where the database has fallen back to before
the slot was let go, the target says that somebody has: while another stream takes the slot up it is waited for what
becomes of that, and of one that it acts on no key goes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from sync_tasks.extent import Extent
from sync_tasks.names import KEY_PREFIX
from workers.brought import Brought
from workers.codec.slots_cy import slot
from workers.compose import emit, select
from workers.difference import Difference
from workers.scope import Scope
from workers.spool.known import Known
from workers.spool.log import Log
from workers.target.expiries import Expiries
from workers.target.windows import Chain, Window

SCANNED = 1000
"""Keys of the target that one SCAN is asked for."""
WAIT_S = 0.2
"""For what is being taken up by another stream."""


class Leaving:
    """One connection's walk over the target, in the place of an addition: it takes turns with the stream as that does.

    Args:
        chain: writes the windows.
        log, known: of the node: which keys it has brought.
        expiries: walks over the target.
        scope: what the stream is to act on; of some of that it may have to be added still.
        former: what the task's run has copied before.
        slots: those that are to be left.
        tell: an event for people: kind and text.
        free: whether no other stream has put keys there; None: one is about to. Asked with nothing in flight.

    `step` raises what the target answers.
    """

    def __init__(
        self,
        chain: Chain,
        log: Log,
        known: Known,
        expiries: Expiries,
        scope: Scope,
        former: Sequence[Extent],
        slots: set[int],
        tell: Callable[[str, str], None],
        free: Callable[[], bool | None],
    ) -> None:
        self._chain, self._log, self._known, self._expiries = chain, log, known, expiries
        self._scope, self.slots, self._tell, self._free = scope, slots, tell, free
        self._again_at = 0.0  # when that is asked once more
        self._brought = Brought(known, former, Difference(scope, scope))
        self._goals: list[int] | None = None  # target databases that are to be walked over, and where in the first one
        self._cursor, self._removed = 0, 0
        self.over = False
        self.number = 0  # of the last window, once it is over

    @property
    def base(self) -> int:
        """The stream offset from which on the log is needed."""
        return self._chain.tip[0]

    def due(self) -> bool:
        """Whether there is something to do now."""
        return not self.over and time.monotonic() >= self._again_at

    def step(self) -> Window | None:
        """The next window, if this step needs one; the last one is committed."""
        if not (free := self._free()):
            self.over, self.number = free is False, self._chain.point().number
            self._again_at = time.monotonic() + WAIT_S
            return None
        if self._goals is None:
            self._known.fold(self._log, self._chain.tip[0])
            self._goals = list(self._expiries.databases(self._scope))
        if not self._goals:
            self.over, self.number = True, self._chain.point().number
            if self._removed:
                self._tell("sweep", f"{self._removed} keys of slots that went on to another shard were removed")
            return None
        to = self._goals[0]
        self._cursor, names = self._expiries.scan(to, self._cursor, SCANNED)
        if self._cursor == 0:
            self._goals.pop(0)
        mine = [name for name in names if slot(name) in self.slots and not name.startswith(KEY_PREFIX)]
        gone = self._brought.of(to, mine)[0] if mine else []
        if not gone:
            return None
        self._removed += len(gone)
        window = self._chain.own_window()
        for name in gone:  # keys of several slots are in no command
            select(window, to, window.end)
            emit(window, [b"UNLINK", name], window.end)
        return window

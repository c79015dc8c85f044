"""Keys of slots that a source node has given up before its addition of them was done (`workers.adding`).

The addition has put some of them on the target, and the stream did not act on them: what the source has deleted since
is there still. Whoever takes the slot next removes only what its own stream has brought. So these go before the slot is
let go, beside the stream; nobody else may have put keys of it there yet. The checkpoint says of which slots that is
still to be done, and from before the first key goes: a target that falls back says it again, and nobody begins with
such a slot. Also where the slot has come back meanwhile all of them go: it may move on before it is begun with.

Where the database has fallen back to before the slot was let go, the target says that somebody has put keys there:
while another stream takes the slot up it is waited for what becomes of that, and of one that it acts on no key goes.
Whoever begins behind that question spoils the window that was to remove them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from sync_tasks.extent import Extent
from sync_tasks.names import KEY_PREFIX
from sync_tasks.slots import Ranges, mask
from workers.brought import Brought
from workers.codec.slots_cy import slot
from workers.compose import emit, select
from workers.difference import Difference
from workers.others import Others, Said
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
        so_far: what it acts on: nothing of that goes.
        former: what the task's run has copied before.
        slots: those that are to be left.
        tell: an event for people: kind and text.
        others: what their streams say of these slots.

    `step` raises what the target answers.
    """

    def __init__(
        self,
        chain: Chain,
        log: Log,
        known: Known,
        expiries: Expiries,
        scope: Scope,
        so_far: Scope,
        former: Sequence[Extent],
        slots: Ranges,
        tell: Callable[[str, str], None],
        others: Others,
    ) -> None:
        self._chain, self._log, self._known, self._expiries = chain, log, known, expiries
        self._scope, self.slots, self._tell, self._others = scope, slots, tell, others
        self._mask = mask(slots)
        self._again_at = 0.0  # when that is asked once more
        self._former = former
        self._brought = Brought(known, former, Difference(scope, so_far))
        self._goals: list[int] | None = None  # target databases that are to be walked over, and where in the first one
        self._cursor, self._removed, self._unknown = 0, 0, 0
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
        said = self._others.watch()
        window = self._next(said)
        if window is None:
            self._others.let_be()
        return window

    def _next(self, said: Said) -> Window | None:
        mine = self._mask & ~said.acts
        if mine & said.takes:
            self._again_at = time.monotonic() + WAIT_S
            return None
        if self._goals is None:
            self._known.fold(self._log, self._chain.tip[0])
            self._goals = self._databases()
        if not mine or not self._goals:
            return self._end()
        to = self._goals[0]
        self._cursor, names = self._expiries.scan(to, self._cursor, SCANNED)
        if self._cursor == 0:
            self._goals.pop(0)
        return self._remove(to, [name for name in names if mine >> slot(name) & 1 and not name.startswith(KEY_PREFIX)])

    def _databases(self) -> list[int]:
        """Those of the target where some may be: also where nothing is copied to any more."""
        full, maps = self._expiries.databases(Scope(None)), [self._scope.databases]
        maps += [one.databases for one in self._former]
        return [to for to in full if any(one is None or to in one.values() for one in maps)]

    def _remove(self, to: int, names: list[bytes]) -> Window | None:
        if not names:
            return None
        gone, unknown = self._brought.of(to, names)
        self._unknown += unknown
        if not gone:
            return None
        self._removed += len(gone)
        window = self._chain.own_window()
        for name in gone:  # keys of several slots are in no command
            select(window, to, window.end)
            emit(window, [b"UNLINK", name], window.end)
        return window

    def _end(self) -> Window:
        if self._removed:
            self._tell("sweep", f"{self._removed} keys of slots that the stream does not carry were removed")
        if self._unknown:
            self._tell(
                "unverified",
                f"{self._unknown} keys of the target are in slots that the stream does not carry; which of them this"
                " task has brought is not known any more: they stay",
            )
        self.over = True
        window = self._chain.own_window()
        self.number = self._chain.point().number + 1
        emit(window, [b"HSET", self._chain.ck, b"leaving", b""], window.end)
        return window

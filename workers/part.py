"""What a job asks of an applier beside its thread: how far it is, and a few things on its part of the target."""

from __future__ import annotations

import threading
from collections.abc import Callable

from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import KeyferryError, Side
from sync_tasks.throttle import Limits
from sync_tasks.views import ChunkView
from workers.applied import Progress
from workers.extending import Extending
from workers.gates import Gates
from workers.huge import remove_pieces
from workers.lane_script import Agreement
from workers.pace import Pace
from workers.ports import StreamPort
from workers.sampling import Sample
from workers.scope import Scope
from workers.source.ask import Source
from workers.target.claim import Checkpoint
from workers.target.link import TargetLink, lost
from workers.target.windows import Chain


class Part(threading.Thread):
    """Of one applier.

    Args:
        endpoint: the target, or what of it the applier writes to.
        port: the claimed job.
        source: ordinary questions to the source.
        scope: what goes there.
        home: database of Keyferry's keys there.
    """

    extending: Extending

    def __init__(self, endpoint: Endpoint, port: StreamPort, source: Source, scope: Scope, home: int) -> None:
        super().__init__(name="applier", daemon=True)
        self.endpoint, self.port, self.source, self.scope, self.home = endpoint, port, source, scope, home
        self.task, self.number = port.task, port.node().number
        self.stop_event, self.loaded = threading.Event(), threading.Event()
        self.finishing = threading.Event()  # the cut-over is asked for
        self.settling = threading.Event()  # it is near: expiries become the source's own, and the stream goes on
        self.stands_at: int | None = None  # offset where it waits for the order to close the target
        self.may_close = threading.Event()  # that order; of a server that stands alone it need not be waited for
        if scope.slots is None or port.task.spec.reader != "psync":  # nor where slots are never another node's
            self.may_close.set()
        self.closed_at: int | None = None  # offset behind which the target takes no more of this stream
        self.border = threading.Lock()
        self.at: str | None = None  # address of the connection that there is, or was last
        self._leave = threading.Event()  # that is a former master
        self.error: BaseException | None = None
        self.ailing = False  # the source's retry window is open: it has not answered a question of ours
        self.progress, self.pace = Progress(), Pace()
        self.gates = Gates(endpoint, self.task.uid, self.number, home)
        self.chain: Chain | None = None
        self.agreement: Agreement | None = None  # by which script it goes, with other lanes
        self.sample: Sample | None = None  # of what it writes; None: nobody looks

    @property
    def lane(self) -> int:
        """Which part of the target it writes to."""
        return self.scope.lane.number if self.scope.lane is not None else 0

    @property
    def gen(self) -> int | None:
        """Number of the snapshot below the stream; None: there is no stream yet."""
        return None if self.chain is None else self.chain.gen

    @property
    def whole(self) -> bool:
        """Whether nothing is being added to what the stream acts on."""
        return self.extending.whole

    def came_by(self, link: TargetLink) -> None:
        """What follows goes over another connection."""
        self.at = link.at
        self._leave.clear()

    def moved(self, address: str) -> None:
        """The target's master is at this address now. From any thread."""
        if self.at not in (None, address):
            self._leave.set()

    def stay(self) -> None:
        """Go on with this connection. Raises ConnectionLost: the target's master is another server now."""
        if self._leave.is_set():
            raise lost(f"{self.at} is not the target's master any more")

    def wait_out(self, error: KeyferryError) -> None:
        """Try again later, as the error's retry window has it. Raises it if that is of no use."""
        self.ailing |= error.side is Side.SOURCE
        self.stop_event.wait(self.port.failing(error))

    def answered(self) -> None:
        """The source has said all that it was asked; nobody else would close the window that was opened by us."""
        if self.ailing:
            self.ailing = False
            self.port.healed("source")

    def agree(self, found: Checkpoint | None, pause: Callable[[float], None]) -> None:
        """A claim has found this: go on once that is known of the other lanes, too. Raises as `Agreement.reach`."""
        if self.agreement is not None:
            self.agreement.reach(self.lane, found, pause)

    def limit(self, limits: Limits) -> None:
        """How fast it may write."""
        self.pace.limits = limits

    def came_to(self, offset: int | None) -> None:
        """Where it goes on."""
        self.progress.committed = offset

    def after(self, border: threading.Lock, offset: int | None) -> None:
        """In the place of another one: its lock, and where it had come to."""
        self.border = border
        self.came_to(offset)

    def number_snapshot(self, last: int) -> int:
        """As `Gates.number`."""
        return self.gates.number(last)

    def close_earlier(self, gen: int) -> None:
        """As `Gates.close_earlier`."""
        self.gates.close_earlier(gen)

    def remove_pieces(self, chunks: list[ChunkView]) -> None:
        """What their loaders were building when they died. Raises what the target answers."""
        link = TargetLink(self.endpoint, "keyferry-tidy", self.home)
        try:
            remove_pieces(link, self.task.uid, self.scope, chunks)
        finally:
            link.close()

    def near(self, offset: int) -> bool:
        """Whether the source has written no more than up to `offset`."""
        try:
            return self.source.position().offset <= offset
        except KeyferryError:
            return False

    def close(self) -> None:
        """Its connection for questions."""
        self.source.close()

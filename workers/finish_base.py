"""What a turn at a cut-over has at hand: both servers, who writes to the source, how that is paused."""

from __future__ import annotations

import time
from collections.abc import Callable

from sync_tasks.cutover import Asked
from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import ControlError, KeyferryError, SourceError
from sync_tasks.states import RUNNING, TaskState
from sync_tasks.views import NodeView
from workers.beat import Beat
from workers.finish_steps import Steps
from workers.hold import Hold, Holds, Means, as_state, means, undo_left, writable
from workers.lanes import checkpoint
from workers.link import Link
from workers.ports import CutOverPort
from workers.target.claim import Checkpoint
from workers.writers import Writers

SEEN_S = 5.0
"""So long it may take until a stream has told what it has seen."""


class Turn:
    """One worker's turn.

    Args:
        port: the claimed operation.
        beat: of it.
        ends: source and target, with credentials.
    """

    def __init__(self, port: CutOverPort, beat: Beat, ends: tuple[Endpoint, Endpoint]) -> None:
        self.port, self.beat = port, beat
        self.source, self.target = ends
        self.asked, self.steps = Asked.of(port.op.options), Steps(port)
        self.task, self.nodes = port.state()
        self.holds: Holds | None = None
        self._links: list[Link] = []
        self._watching: dict[int, Writers] = {}  # by number of the node

    def _undo(self) -> bool:
        """Let writes go on. Whether all is as it was before, or will be by itself."""
        if self.holds is not None:
            return self.holds.undo()
        try:
            for number, left in self.steps.kept.get("held", {}).items():
                undo_left(self._writable(int(number)), left)
        except KeyferryError:
            return False
        return True

    def _writable(self, number: int) -> Endpoint:
        node = next(node for node in self.nodes if node.number == number)
        return writable(source_of(self.source, node))

    def _writers(self, node: NodeView) -> Writers:
        """Who writes to a source node, on a link that lasts as long as this turn."""
        if node.number not in self._watching:
            link = Link(self._writable(node.number), "keyferry-cut-over", 0)
            self._links.append(link)
            self._watching[node.number] = Writers(link)
        return self._watching[node.number]

    def _means(self, node: NodeView) -> Means:
        link = Link(self._writable(node.number), "keyferry-cut-over", 0)
        try:
            return means(link)
        finally:
            link.close()

    def _held(self) -> Holds:
        """What is to be paused, not paused yet; written down, so that whoever goes on can undo it."""
        left = self.steps.kept.get("held")
        holds = []
        for node in self.nodes:
            known = left.get(str(node.number)) if left else None
            how = Means(known["pause"], known["setting"], known["before"]) if known else self._means(node)
            if not how.pause and how.setting is None:
                raise SourceError(
                    how.words, code="pause-refused",
                    hint="grant the user of the source URL +client|pause +client|unpause, or stop the writes yourself",
                )  # fmt: skip
            holds.append(Hold(self._writable(node.number), how))
        self.steps.kept["held"] = {
            str(node.number): as_state(hold) for node, hold in zip(self.nodes, holds, strict=True)
        }
        self.steps.save()
        return Holds(holds, self.asked.pause_limit_s)

    def _running(self) -> None:
        self.task, self.nodes = self.port.state()
        if self.task.state not in RUNNING:
            raise ControlError(
                f"it was {self.task.state.value} before it was cut over", hint="resume it, and ask again",
                code="suspended" if self.task.state is TaskState.SUSPENDED else "transition",
            )  # fmt: skip

    def _sleep(self, seconds: float) -> None:
        self.beat.check()
        time.sleep(seconds)

    def _concerns(self, node: NodeView) -> Callable[[int, int], bool]:
        """Whether what was written between two offsets is in scope: the stream's job says, and twice it must."""
        if self.task.databases is None and not self.task.spec.filter.keys_filtered:
            return lambda _before, _now: True
        times = [0]

        def concerns(before: int, now: int) -> bool:
            by = time.monotonic() + SEEN_S
            while time.monotonic() < by:
                self.beat.check()
                (mine,) = [found for found in self.port.state()[1] if found.number == node.number]
                if (mine.applied_offset or 0) >= now:
                    times[0] += (mine.changed_offset or 0) > before
                    return times[0] > 1
                time.sleep(0.1)
            return True

        return concerns

    def _checkpoint(self, node: NodeView) -> Checkpoint | None:
        return checkpoint(self.task, self.target, node.number)

    def close(self) -> None:
        """Close the connections."""
        for link in self._links:
            link.close()


def source_of(source: Endpoint, node: NodeView) -> Endpoint:
    """The server of one source node: of a cluster the master of its shard, found anew for each connection."""
    return source if node.shard is None else source.of_shard(node.shard.members, node.shard.slots)


def delay_of(node: NodeView) -> float | None:
    """Milliseconds; None: it does not follow yet."""
    if not node.begun or (node.delay_ms is None and not node.in_sync):
        return None
    return 0.0 if node.in_sync else node.delay_ms

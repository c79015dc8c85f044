"""Random histories: what may happen to four tasks, their servers, two schedulers and the clock on the wall."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from hypothesis import strategies as st

from sync_tasks.errors import Retry, Side

TASKS = range(4)
SERVERS = {0: ("s0", "t0"), 1: ("s0", "t1"), 2: ("s1", "t1"), 3: ("s2", "t2")}
"""Sources and targets: task 1 shares with both its neighbours, task 3 with nobody."""

KINDS = (Retry.CONNECTION, Retry.OTHER)
SIDES = (Side.SOURCE, Side.TARGET)
HOUR_S = 3600.0
STALL_S = 5.0

Key = tuple[int, str, str]
"""Task, kind, side: there is one window of each."""


@dataclass(frozen=True)
class Event:
    """What happens, and its arguments."""

    name: str
    args: tuple[Any, ...] = ()

    def __repr__(self) -> str:
        return f"{self.name}{self.args}"


class World(Protocol):
    """What a history happens to."""

    wall: float  # Unix seconds on every host

    def fail(self, task: int, kind: Retry, side: Side) -> float:
        """A job fails, perhaps after its task has come to rest; the pause."""

    def heal(self, task: int, side: Side) -> None:
        """A job works again."""

    def suspend(self, task: int) -> None: ...
    def resume(self, task: int) -> None: ...
    def modify(self, task: int, connection_min: int, other_min: int) -> None: ...

    def hand_over(self) -> None:
        """The scheduler that leads goes, the other leads at once."""

    def crash(self) -> None:
        """The scheduler that leads dies; a new one comes up in its place, and nobody leads for a while."""

    def stall(self) -> None:
        """It is stopped for STALL_S, so that the other leads, and wakes up believing that it still does."""

    def restart(self) -> None:
        """All schedulers die and come up anew."""

    def advance(self, seconds: float) -> None:
        """Time goes by for all clocks; nobody looks."""

    def tick(self) -> set[int]:
        """Schedulers look; tasks that failed."""

    def leading(self) -> object:
        """Who leads, and under which claim; None: nobody."""

    def open(self) -> set[Key]:
        """Windows that are open."""

    def failures(self, task: int) -> int:
        """Events of its failing."""


def _events() -> st.SearchStrategy[Event]:
    task = st.sampled_from(TASKS)
    seconds = st.sampled_from([0.25, 0.7, 2.0, 31.0, 90.0, 301.0, 600.0, 1000.0, 1801.0, 3 * HOUR_S, 11 * HOUR_S])
    kinds = {
        "go": st.tuples(seconds),
        "fail": st.tuples(task, st.sampled_from(KINDS), st.sampled_from(SIDES)),
        "heal": st.tuples(task, st.sampled_from(SIDES)),
        "jump": st.tuples(st.sampled_from([-30.0, -9.0, -1.0, -0.2, 0.2, 1.0, 9.0, 30.0]).map(lambda h: h * HOUR_S)),
        "suspend": st.tuples(task),
        "resume": st.tuples(task),
        "modify": st.tuples(task, st.sampled_from([10, 17, 30, 720]), st.sampled_from([1, 5, 9])),
        "hand_over": st.just(()),
        "crash": st.just(()),
        "stall": st.just(()),
        "restart": st.just(()),
    }
    weights = {"go": 8, "fail": 8, "jump": 3, "heal": 2}
    drawn = [st.builds(Event, st.just(name), args) for name, args in kinds.items() for _ in range(weights.get(name, 1))]
    return st.one_of(drawn)


THERE_AND_BACK = [
    Event("fail", (0, Retry.CONNECTION, Side.TARGET)),
    Event("go", (31.0,)),
    Event("hand_over"),
    Event("go", (11 * HOUR_S,)),
    Event("hand_over"),
    Event("jump", (9 * HOUR_S,)),
    Event("go", (301.0,)),
]
"""Another leads for hours, then the first again: those hours count once. Rare among the random ones."""

HISTORIES = st.lists(_events(), min_size=4, max_size=40)

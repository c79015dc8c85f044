"""A pause outlasts every jump of the wall clock, and ends."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import update

from scheduler.pauses import STEADY_S, Pauses
from sync_tasks import names
from sync_tasks.errors import ConnectionLost, Side
from sync_tasks.models import Node
from sync_tasks.retry_policy import FIRST_S, LONGEST_S
from sync_tasks.store import Store
from tests.unit.control.conftest import Outbox, Wall
from tests.unit.scheduler.conftest import Time

HOUR_S = 3600.0
TICK_S = 0.25


def is_held(held: object, end: float) -> bool:
    return any(low < end <= high for low, high in held)  # type: ignore[attr-defined]


def test_a_steady_clock_holds_nothing() -> None:
    pauses = Pauses()
    for step in range(100):
        assert pauses.held(step * TICK_S, 1e9 + step * (TICK_S + 0.001)) == []
    assert pauses.held(100 * TICK_S, 1e9 + 100 * TICK_S + STEADY_S / 2) == []


@given(
    st.lists(st.tuples(st.floats(0.0, 40.0), st.sampled_from([-5, -2, 1, 3, 9])), min_size=1, max_size=4),
    st.floats(0.0, 60.0),
    st.floats(FIRST_S, LONGEST_S),
)
def test_no_pause_ends_early_or_twice_as_late(jumps: list[tuple[float, int]], failed_at: float, pause: float) -> None:
    """The clock jumps by hours while a job fails and waits; when is it sent again?"""
    pauses, shift, end, sent = Pauses(), 0.0, None, None
    times = sorted(jumps)
    now = 0.0
    while sent is None:
        while times and times[0][0] <= now:
            shift += times.pop(0)[1] * HOUR_S
        wall = 1e9 + now + shift
        held = pauses.held(now, wall)
        if end is None and now >= failed_at:
            end, began = wall + pause, now
        elif end is not None and (end <= wall or end > wall + 2 * LONGEST_S) and not is_held(held, end):
            sent = now
        now += TICK_S
    assert pause - 1e-3 <= sent - began <= pause + 2 * TICK_S


def test_a_job_that_failed_is_not_sent_early_when_the_clock_jumps(
    store: Store, task_id: int, time: Time, outbox: Outbox, wall: Wall
) -> None:
    for jump in (3 * HOUR_S, -7 * HOUR_S):
        handle = store.claim_node(1, "h:1:2:x")
        assert handle is not None
        for _ in range(12):
            handle.failing(ConnectionLost("cut", side=Side.SOURCE))
        store.release_node(1, handle.epoch)
        with store.database.write() as session:
            session.execute(update(Node).where(Node.id == 1).values(next_at=wall.now + 20.0))
        outbox.sent.clear()
        time.live(1)
        wall.now += jump
        time.live(18)
        assert outbox.sent == [], jump
        time.live(2)
        assert outbox.sent == [(names.FOLLOW, 1)], jump

"""The shortest window among running tasks that share a source or a target."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import event

from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import ConnectionLost, Side, TargetBusy
from sync_tasks.server_identity import identity
from sync_tasks.sharing import Share, Shortest, shortest
from sync_tasks.spec import RetrySpec, TaskSpec
from sync_tasks.states import TaskState
from sync_tasks.store import Store
from sync_tasks.store.overview import overview
from sync_tasks.store.stream import StreamHandle
from tests.unit.control.conftest import SOURCE, TARGET, started

CUT = ConnectionLost("connection refused", side=Side.TARGET)


def end(url: str, side: Side) -> Endpoint:
    return Endpoint.parse(url, side)


def task(store: Store, name: str, minutes: int, source: str = "redis://s", target: str = "redis://t") -> int:
    spec = TaskSpec(name=name, retry=RetrySpec(connection_min=minutes, other_min=5))
    return store.create_task(spec, end(source, Side.SOURCE), end(target, Side.TARGET)).id


def running(store: Store, *args: object) -> int:
    return started(store, task(store, *args))  # type: ignore[arg-type]


def claimed(store: Store, task_id: int) -> StreamHandle:
    (node,) = store.nodes(task_id)
    handle = store.claim_node(node.id, f"h:{task_id}:1:x")
    assert handle is not None
    return handle


def held(store: Store, task_id: int) -> tuple[int, int | None]:
    shared = store.task(task_id).shared
    assert shared is not None
    return shared.minutes, shared.by


SAME = [
    ("redis://h", "redis://h:6379/3"),
    ("redis://h:7000", "rediss://u:secret@H:7000?sni=x"),
    ("redis://h.example.", "redis://h.example"),
    ("redis://[::1]:7000", "redis://127.0.0.1:7000"),
    ("redis://localhost", "redis://127.0.0.1"),
    ("redis://[2001:db8:0::1]", "redis://[2001:DB8::1]"),
    ("redis://[::ffff:10.0.0.1]", "redis://10.0.0.1"),
    ("unix:///run/a.sock", "unix:///run/a.sock?db=4"),
]
OTHER = ["redis://h", "redis://h:7000", "redis://h2", "unix:///h", "unix:///h2", "redis://10.0.0.1", "redis://10.0.0.2"]


@pytest.mark.parametrize(("one", "another"), SAME)
def test_one_server_has_one_identity(one: str, another: str) -> None:
    assert end(one, Side.SOURCE).identity() == end(another, Side.TARGET).identity()
    assert "secret" not in end(another, Side.TARGET).identity()


def test_other_servers_have_others() -> None:
    found = [end(url, Side.SOURCE).identity() for url in OTHER]
    assert len(set(found)) == len(OTHER)


def test_groups_are_known_by_their_members_in_any_order_and_by_the_masters_name() -> None:
    nodes = [("a", 1), ("b", 2)]
    assert identity(nodes) == identity(reversed(nodes)) != identity(nodes[:1])
    assert identity(nodes, master="x") != identity(nodes, master="y")


shares = st.builds(
    Share,
    task_id=st.integers(1, 6),
    name=st.just("n"),
    source=st.sampled_from([None, "a", "b"]),
    target=st.sampled_from([None, "a", "c"]),
    connection_min=st.integers(10, 14),
)


@given(st.lists(shares, unique_by=lambda share: share.task_id))
def test_the_shortest_of_those_that_share_a_role_of_a_server_holds(tasks: list[Share]) -> None:
    found = shortest(tasks, tasks)
    for one in tasks:
        near = [
            other for other in tasks
            if other is one
            or (other.source is not None and other.source == one.source)
            or (other.target is not None and other.target == one.target)
        ]  # fmt: skip
        least = min(other.connection_min for other in near)
        assert found[one.task_id].minutes == least
        by = found[one.task_id].by
        assert (by is None) == (least == one.connection_min)
        assert by is None or by in {other.task_id for other in near if other.connection_min == least}


def test_a_task_is_shortened_while_another_runs_on_its_server(store: Store) -> None:
    """It starts, changes its mind, rests, goes on, shares the other side alone: at each look what holds then."""
    one = running(store, "one", 720)
    assert store.task(one).shared == Shortest(720)
    other = task(store, "other", 30, "redis://elsewhere")
    assert held(store, one) == (720, None), "it does not run yet"
    started(store, other)
    assert store.task(one).shared == Shortest(30, other, "other")
    assert held(store, other) == (30, None)
    store.modify(other, TaskSpec(retry=RetrySpec(connection_min=40)))
    assert held(store, one) == (40, other)
    store.halt(other)
    assert held(store, one) == (720, None)
    assert store.task(other).shared is None
    store.resume(other)
    assert held(store, one) == (40, other)
    store.fail(other, TargetBusy("x"))
    assert held(store, one) == (720, None)
    third = running(store, "third", 20, "redis://S:6379/1", "redis://elsewhere")
    assert held(store, one) == (20, third)


def test_who_shares_with_a_neighbour_alone_is_no_neighbour(store: Store) -> None:
    one = running(store, "one", 720, "redis://a", "redis://t1")
    between = running(store, "between", 300, "redis://a", "redis://t2")
    last = running(store, "last", 20, "redis://b", "redis://t2")
    assert held(store, one) == (300, between)
    assert held(store, between) == (20, last)


def test_a_target_that_is_anothers_source_is_no_shared_server(store: Store) -> None:
    one = running(store, "one", 720, "redis://a", "redis://b")
    running(store, "next", 20, "redis://b", "redis://c")
    assert held(store, one) == (720, None)


def test_an_open_window_follows_at_once(store: Store) -> None:
    one = running(store, "one", 720)
    handle = claimed(store, one)
    handle.failing(CUT)
    handle.failing(TargetBusy("OOM"))
    assert [window.seconds_left for window in store.retries(one)] == [5 * 60, 720 * 60]
    other = running(store, "other", 30)
    assert [window.seconds_left for window in store.retries(one)] == [5 * 60, 30 * 60]
    found = {view.id: windows for view, _, windows in overview(store.database)}
    assert {window.kind for window in found[one]} == {"connection", "other"}
    store.halt(other)
    assert [window.seconds_left for window in store.retries(one)] == [5 * 60, 720 * 60]
    store.modify(one, TaskSpec(retry=RetrySpec(connection_min=50, other_min=3)))
    assert [window.seconds_left for window in store.retries(one)] == [3 * 60, 50 * 60]


def test_the_event_says_whose_retry_time_it_is(store: Store) -> None:
    one, other = running(store, "one", 720), running(store, "other", 30)
    claimed(store, one).failing(CUT)
    (said,) = [event.text for event in store.events(one) if event.kind == "retry"]
    assert said.endswith(f"retried for 30 minutes, the retry time of task {other} (other) on the same server")
    claimed(store, other).failing(TargetBusy("OOM"))
    (said,) = [event.text for event in store.events(other) if event.kind == "retry"]
    assert said.endswith("retried for 5 minutes")


def test_all_tasks_cost_as_many_queries_as_one(store: Store) -> None:
    statements: list[str] = []
    running(store, "one", 700)
    event.listen(store.database.engine(), "before_cursor_execute", lambda *args: statements.append(args[2]))
    if store.database._reader is not store.database.engine():
        event.listen(store.database._reader, "before_cursor_execute", lambda *args: statements.append(args[2]))
    counts = []
    for _ in range(2):
        statements.clear()
        store.tasks()
        overview(store.database)
        counts.append(len(statements))
        for number in range(5):
            running(store, f"more {number}", 30 + number)
    assert counts[0] == counts[1]


def test_new_addresses_are_another_server(store: Store) -> None:
    one, other = running(store, "one", 720), running(store, "other", 30)
    assert held(store, one) == (30, other)
    store.set_endpoints(other, end("redis://s2", Side.SOURCE), end("redis://t2", Side.TARGET))
    assert held(store, one) == (720, None)


def test_who_runs_and_who_asks_need_no_key(store: Store) -> None:
    """The identity stands beside the sealed address, which only workers open."""
    one = started(store, store.create_task(TaskSpec(), SOURCE, TARGET).id)
    other = started(
        store, store.create_task(TaskSpec(name="x", retry=RetrySpec(connection_min=30)), SOURCE, TARGET).id
    )
    store._box = None  # type: ignore[assignment]
    assert held(store, one) == (30, other)
    assert store.task(one).state is TaskState.INITIALIZING

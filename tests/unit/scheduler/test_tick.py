"""What the scheduler does as time passes."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from sqlalchemy import select, update

from scheduler import prune
from scheduler.dispatch import FOLLOW_AGAIN_S, LITTLE_BYTES, LOAD_AGAIN_S
from scheduler.leader import Leader
from scheduler.leases import free_chunks, free_leases
from scheduler.offers import HOME_S
from scheduler.tick import GRANTS_EVERY_S
from scheduler.watch import LEASE_TTL_S
from sync_tasks import names
from sync_tasks.access.documents import trusting
from sync_tasks.errors import ConnectionLost, Fenced, Side, TargetBusy
from sync_tasks.models import Chunk, Grant, Lease, Node, Task
from sync_tasks.spec import RetrySpec, TaskSpec
from sync_tasks.states import ChunkState, OpKind, TaskState
from sync_tasks.store import Store, locks
from sync_tasks.store.grants import GRANT_S
from sync_tasks.store.windows import failed as open_window
from tests.unit.control.conftest import SOURCE, TARGET, Outbox, Wall, chunk, started
from tests.unit.control.statements import Statements
from tests.unit.scheduler.conftest import Time

FOLLOW = (names.FOLLOW, 1)


def begin(store: Store, outbox: Outbox, chunks: int = 1) -> tuple[Any, list[int]]:
    handle = store.claim_node(1, "h:1:2:x")
    assert handle is not None
    gen = handle.begin_snapshot("r", 1, 0, None, None)
    ids = [handle.add_chunk(**chunk(seq, gen)) for seq in range(chunks)]  # type: ignore[arg-type]
    outbox.sent.clear()
    return handle, ids


def idle_task(number: int) -> list[Task | Node | Lease]:
    """A task that runs, and whose stream has an owner."""
    spec = TaskSpec().model_dump(mode="json")
    return [
        Task(
            id=number, uid=f"{number:016x}", name=f"t{number}", state=TaskState.SYNCHRONIZING, source=b"", target=b"",
            source_safe="", target_safe="", spec=spec,
        ),
        Node(id=number, task_id=number, number=0, wanted=True, begun=True),
        Lease(name=names.node_lease(number), owner="h:1:2:x", epoch=1),
    ]  # fmt: skip


def beat_all(store: Store) -> None:
    """One beat of every lease of a stream."""
    with store.database.write() as session:
        streams = session.scalars(select(Lease.name).where(Lease.name != names.SCHEDULER_LEASE)).all()
        locks.leases(session, streams)
        session.execute(update(Lease).where(Lease.name.in_(streams)).values(beat=Lease.beat + 1))


def one_minute(store: Store, task_id: int) -> None:
    store.update_spec(task_id, TaskSpec(retry=RetrySpec(other_min=1)))


def test_a_wanted_node_is_sent_at_once_and_again_while_nobody_claims_it(
    store: Store, task_id: int, time: Time, outbox: Outbox
) -> None:
    time.tick()
    assert outbox.sent == [FOLLOW]
    time.live(FOLLOW_AGAIN_S)
    assert outbox.sent == [FOLLOW]
    time.live(0.5)
    assert outbox.sent == [FOLLOW, FOLLOW]
    assert store.claim_node(1, "h:1:2:x") is not None
    time.live(3.5)
    assert len(outbox.sent) == 2


def test_what_is_not_wanted_is_not_sent(store: Store, task_id: int, time: Time, outbox: Outbox) -> None:
    store.stop(task_id)
    time.live(5)
    assert outbox.sent == []


def test_a_silent_owner_is_replaced_within_five_seconds(store: Store, task_id: int, time: Time, outbox: Outbox) -> None:
    handle, _ = begin(store, outbox)
    for _ in range(10):
        handle.renew()
        time.live(1)
    assert FOLLOW not in outbox.sent, "who beats is left alone"
    time.live(LEASE_TTL_S - 1.0)
    assert FOLLOW not in outbox.sent
    time.live(1.5)
    assert FOLLOW in outbox.sent
    newer = store.claim_node(1, "h:3:4:y")
    assert newer is not None
    with pytest.raises(Fenced):
        handle.renew()
    assert newer.renew().wanted


def test_the_wall_clock_takes_no_lease_away(store: Store, task_id: int, time: Time, outbox: Outbox, wall: Wall) -> None:
    handle, _ = begin(store, outbox)
    time.tick()
    wall.now += 100_000
    time.tick()
    wall.now -= 200_000
    time.live(3)
    assert handle.renew().wanted


def test_a_beat_between_look_and_deed_saves_the_lease(store: Store, task_id: int, time: Time, outbox: Outbox) -> None:
    handle, ids = begin(store, outbox)
    taken = store.claim_chunk(ids[0], "h:1:3:x")
    assert taken is not None
    handle.renew()
    taken.renew(1)
    with store.database.write() as session:
        assert free_leases(session, {names.node_lease(1): (handle.epoch, 0)}) == []
    with store.database.write() as session:
        assert free_chunks(session, {ids[0]: (taken.chunk.epoch, 0)}, 0.0, Random(1)) == []
    handle.renew()
    taken.done(10)


def test_a_dead_loaders_chunk_is_loaded_by_another(store: Store, task_id: int, time: Time, outbox: Outbox) -> None:
    handle, ids = begin(store, outbox)
    taken = store.claim_chunk(ids[0], "h:1:3:x")
    assert taken is not None
    for _ in range(6):
        handle.renew()
        taken.renew(1)
        time.live(1)
    assert outbox.sent == []
    for _ in range(5):
        handle.renew()
        time.live(1)
    assert outbox.sent == [(names.LOAD, ids[0])]
    with pytest.raises(Fenced):
        taken.renew(2)
    assert store.claim_chunk(ids[0], "h:9:9:y") is not None


def test_a_lost_chunk_message_is_sent_again_when_its_queue_is_empty(
    store: Store, task_id: int, time: Time, outbox: Outbox
) -> None:
    handle, ids = begin(store, outbox, 3)
    outbox.queued = 3
    for _ in range(12):
        handle.renew()
        time.live(1)
    assert outbox.sent == [], "they only wait for a loader"
    outbox.queued = 0
    time.tick()
    assert outbox.sent == [(names.LOAD, chunk_id) for chunk_id in ids]
    handle.renew()
    time.live(LOAD_AGAIN_S - 1)
    assert len(outbox.sent) == 3


def test_a_message_that_could_not_be_published_is_sent_at_the_next_tick(
    store: Store, task_id: int, time: Time, outbox: Outbox
) -> None:
    handle, _ = begin(store, outbox)
    outbox.broken = True
    chunk_id = handle.add_chunk(**chunk(5))
    outbox.broken = False
    outbox.queued = 100
    time.tick()
    assert outbox.sent == [(names.LOAD, chunk_id)]


def test_a_failed_chunk_is_sent_when_its_pause_is_over(
    store: Store, task_id: int, time: Time, outbox: Outbox, wall: Wall
) -> None:
    handle, ids = begin(store, outbox)
    for _ in range(6):
        taken = store.claim_chunk(ids[0], "h:1:3:x")
        assert taken is not None
        store.chunk_failed(ids[0], taken.chunk.epoch, TargetBusy("LOADING"))
        outbox.sent.clear()
        time.tick()
        assert outbox.sent == []
        for _ in range(40):
            handle.renew()
            time.live(1)
            if outbox.sent:
                break
        assert outbox.sent == [(names.LOAD, ids[0])]


def test_chunks_of_an_old_snapshot_or_a_resting_task_are_not_sent(
    store: Store, task_id: int, time: Time, outbox: Outbox
) -> None:
    handle, _ = begin(store, outbox)
    handle.begin_snapshot("r", 1, 0, None, None)
    handle.add_chunk(**chunk(0, gen=2))
    outbox.sent.clear()
    store.stop(task_id)
    store.transition(task_id, TaskState.SUSPENDED, "test")
    time.live(10)
    assert outbox.sent == []
    assert {c.state for c in handle.chunks(1)} == {ChunkState.VOID}


def test_a_broker_that_is_away_is_tried_again_and_nothing_is_lost(
    store: Store, task_id: int, time: Time, outbox: Outbox
) -> None:
    outbox.broken = True
    time.live(3)
    outbox.broken = False
    time.live(1.5)
    assert outbox.sent == [FOLLOW]
    handle, ids = begin(store, outbox)
    handle.renew()
    time.live(3)
    outbox.broken = True
    handle.renew()
    time.live(3)
    outbox.broken = False
    handle.renew()
    time.live(1.5)
    assert outbox.sent == [(names.LOAD, ids[0])]


def test_a_window_ends_the_task_once_both_clocks_have_seen_it(
    store: Store, task_id: int, time: Time, outbox: Outbox, wall: Wall
) -> None:
    handle, _ = begin(store, outbox)
    one_minute(store, task_id)
    handle.failing(TargetBusy("OOM command not allowed", hint="raise maxmemory"))
    time.live(2)
    wall.now += 1_000_000
    for _ in range(55):
        handle.renew()
        time.now += 1.0
        time.tick()
    assert store.task(task_id).state is TaskState.RETRYING, "the clock on the wall has jumped, that is all"
    for _ in range(15):
        handle.renew()
        time.now += 1.0
        time.tick()
    task = store.task(task_id)
    assert task.state is TaskState.FAILED
    assert task.error == {
        "code": "target-refuses",
        "side": "target",
        "message": "OOM command not allowed, for 1 min",
        "hint": "raise maxmemory",
    }
    assert [found.kind for found in store.events(task_id)].count("failed") == 1
    assert not handle.renew().wanted
    assert store.retries(task_id) == []


def test_a_wall_clock_that_stands_still_ends_no_window(
    store: Store, task_id: int, time: Time, outbox: Outbox, wall: Wall
) -> None:
    handle, _ = begin(store, outbox)
    one_minute(store, task_id)
    handle.failing(TargetBusy("OOM"))
    for _ in range(70):
        handle.renew()
        time.now += 1.0
        time.tick()
    assert store.task(task_id).state is TaskState.RETRYING
    wall.now += 61
    time.now += 1.0
    time.tick()
    assert store.task(task_id).state is TaskState.FAILED


def test_a_scheduler_that_leads_again_does_not_count_the_others_time_again(
    store: Store, task_id: int, time: Time, outbox: Outbox, wall: Wall
) -> None:
    """While another led, that one counted; a jump of the wall clock would then end the window hours early."""
    handle, _ = begin(store, outbox)
    handle.failing(ConnectionLost("cut", side=Side.SOURCE))
    time.tick()
    time.live(2)
    time.leader.resign()
    other = Time(store, outbox, wall)
    other.tick()
    time.tick()
    other.live(2)
    for _ in range(5):
        handle.renew()
        other.now += 3600.0
        wall.now += 3600.0
        other.tick()
    time.tick()
    other.leader.resign()
    time.now += 5 * 3600.0
    wall.now += 1.0
    for _ in range(8):
        handle.renew()
        time.live(1)
    wall.now += 9 * 3600.0
    time.live(1)
    left = store.retries(task_id)[0].seconds_left
    assert 7 * 3600 - 20 < left < 7 * 3600
    assert store.task(task_id).state is TaskState.RETRYING


def test_a_task_fails_by_the_window_of_another_on_its_server_and_says_so(
    store: Store, task_id: int, time: Time, outbox: Outbox, wall: Wall
) -> None:
    handle, _ = begin(store, outbox)
    handle.failing(ConnectionLost("connection refused", hint="start it", side=Side.TARGET))
    other = store.create_task(TaskSpec(name="brief", retry=RetrySpec(connection_min=10, other_min=1)), SOURCE, TARGET)
    started(store, other.id)
    time.tick()
    for seconds, state in ((599.0, TaskState.RETRYING), (2.0, TaskState.FAILED)):
        handle.renew()
        time.now += seconds
        wall.now += seconds
        time.tick()
        assert store.task(task_id).state is state
    error = store.task(task_id).error
    assert error is not None
    assert error["message"] == (
        f"connection refused, for 10 min, the retry time of task {other.id} (brief) on the same server"
    )
    assert [found.kind for found in store.events(task_id)].count("failed") == 1
    assert store.task(other.id).state is TaskState.INITIALIZING


def test_of_two_tasks_that_fail_together_neither_outlives_the_other(
    store: Store, task_id: int, time: Time, outbox: Outbox, wall: Wall
) -> None:
    brief = TaskSpec(retry=RetrySpec(connection_min=10, other_min=1))
    other = started(store, store.create_task(brief, SOURCE, TARGET).id)
    for one in (task_id, other):
        (node,) = store.nodes(one)
        handle = store.claim_node(node.id, "h:1:2:x")
        assert handle is not None
        handle.failing(ConnectionLost("refused", side=Side.TARGET))
    time.tick()
    time.now += 601
    wall.now += 601
    time.tick()
    assert {store.task(one).state for one in (task_id, other)} == {TaskState.FAILED}


def test_a_task_with_two_windows_past_fails_once(
    store: Store, task_id: int, time: Time, outbox: Outbox, wall: Wall
) -> None:
    handle, _ = begin(store, outbox)
    handle.failing(TargetBusy("OOM"))
    handle.failing(ConnectionLost("cut", side=Side.SOURCE))
    time.tick()
    time.now += 721 * 60
    wall.now += 721 * 60
    time.tick()
    assert [found.kind for found in store.events(task_id)].count("failed") == 1
    assert store.task(task_id).state is TaskState.FAILED


def test_time_before_a_window_opened_does_not_count(store: Store, task_id: int, time: Time, outbox: Outbox) -> None:
    handle, _ = begin(store, outbox)
    time.tick()
    handle.failing(ConnectionLost("cut", side=Side.SOURCE))
    time.now += 500
    time.tick()
    (window,) = store.retries(task_id)
    assert window.seconds_left == 720 * 60
    time.now += 10
    time.wall.now += 600
    time.tick()
    assert store.retries(task_id)[0].seconds_left == 720 * 60 - 10


def test_a_tick_asks_as_much_of_many_chunks_as_of_none(
    store: Store, task_id: int, time: Time, outbox: Outbox, statements: Statements
) -> None:
    handle, ids = begin(store, outbox, 40)

    def count() -> int:
        handle.renew()
        statements.clear()
        time.tick()
        return len(statements)

    count()
    idle = count()
    for chunk_id in ids[:20]:
        store.claim_chunk(chunk_id, "h:1:3:x")
    assert count() == idle == 7
    assert not statements.dear
    with store.database.write() as session:
        locks.task(session, task_id)
        session.execute(update(Chunk).where(Chunk.state == ChunkState.READY).values(dispatched_at=None))
    assert count() <= idle + 4
    assert len(outbox.sent) == 20


def test_with_nothing_to_do_a_scheduler_asks_no_dear_questions(
    store: Store, task_id: int, time: Time, outbox: Outbox, statements: Statements
) -> None:
    """A minute of it, beats and all: an idle task is to cost next to no processor time."""
    handle, _ = begin(store, outbox, 0)
    time.tick()
    statements.clear()
    for _second in range(60):
        time.live(1)
        handle.renew()
    assert not statements.dear
    assert len(statements) <= 60 * (4 * 7 + 2 + 2) + 60 / GRANTS_EVERY_S, "ticks, two beats, and roles"
    assert handle.renew().wanted


def test_one_of_two_schedulers_sends(store: Store, task_id: int, time: Time, outbox: Outbox, wall: Wall) -> None:
    other = Time(store, outbox, wall)
    time.tick()
    other.tick()
    assert outbox.sent == [FOLLOW]
    time.leader.resign()
    wall.now += FOLLOW_AGAIN_S + 1
    other.tick()
    assert outbox.sent == [FOLLOW, FOLLOW]


def test_old_events_are_forgotten_every_ten_minutes(
    store: Store, task_id: int, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prune.events, "__defaults__", (10,))
    handle = store.claim_node(1, "h:1:2:x")
    assert handle is not None

    def kept() -> list[str]:
        return [found.text for found in store.events(task_id)]

    def happen(numbers: range) -> list[str]:
        for number in numbers:
            handle.event("x", str(number))
        return [str(number) for number in numbers]

    happen(range(50))
    time.now = prune.EVERY_S
    time.tick()
    assert kept() == [str(number) for number in range(40, 50)]
    more = happen(range(50, 70))
    time.now = 2 * prune.EVERY_S - 1
    time.tick()
    assert kept()[-20:] == more, "not yet"
    assert len(kept()) == 30
    time.now = 2 * prune.EVERY_S
    time.tick()
    assert kept() == more[-10:]


def test_a_stream_is_offered_to_the_host_that_has_its_log_and_soon_to_all(
    store: Store, task_id: int, time: Time, outbox: Outbox
) -> None:
    handle = store.claim_node(1, "h:1:2:x", "0123456789ab")
    assert handle is not None
    assert handle.moved
    handle.moved_in()
    store.release_node(1, handle.epoch)
    time.live(0.25)
    assert [message.queue for message in outbox.messages] == ["kf.stream.0123456789ab"]
    time.live(0.75)
    assert [message.queue for message in outbox.messages] == ["kf.stream.0123456789ab", "kf.stream"]
    time.live(FOLLOW_AGAIN_S - 0.5)
    assert len(outbox.messages) == 2
    time.live(0.5)
    assert [message.queue for message in outbox.messages][2:] == ["kf.stream"]
    again = store.claim_node(1, "h:1:2:y", "0123456789ab")
    assert again is not None
    assert not again.moved


def test_a_stream_in_mid_load_is_offered_to_its_host_for_a_while(
    store: Store, task_id: int, time: Time, outbox: Outbox
) -> None:
    handle = store.claim_node(1, "h:1:2:x", "0123456789ab")
    assert handle is not None
    handle.moved_in()
    handle.begin_snapshot("r", 1, 0, None, None)
    store.release_node(1, handle.epoch)
    time.live(FOLLOW_AGAIN_S + 0.25)
    assert [message.queue for message in outbox.messages] == ["kf.stream.0123456789ab"] * 2
    time.live(HOME_S - FOLLOW_AGAIN_S - 1)
    assert {message.queue for message in outbox.messages} == {"kf.stream.0123456789ab"}
    time.live(FOLLOW_AGAIN_S + 1)
    assert outbox.messages[-1].queue == "kf.stream"
    outbox.messages.clear()

    again = store.claim_node(1, "h:1:2:y", "0123456789ab")
    assert again is not None
    again.begin_stream()
    store.release_node(1, again.epoch)
    time.live(1)
    assert [message.queue for message in outbox.messages] == ["kf.stream.0123456789ab", "kf.stream"]


@pytest.mark.parametrize("resumed", [False, True])
def test_a_stream_received_while_its_task_was_suspended_is_offered_to_its_host_for_a_while(
    store: Store, task_id: int, time: Time, outbox: Outbox, resumed: bool
) -> None:
    """The source may not have that any more."""
    handle = store.claim_node(1, "h:1:2:x", "0123456789ab")
    assert handle is not None
    handle.moved_in()
    handle.end_snapshot(handle.begin_snapshot("r", 1, 0, None, None), 0, 0)
    handle.begin_stream()
    handle.progress({"received_offset": LITTLE_BYTES, "applied_offset": 0})
    store.halt(task_id, receive_bytes=1 << 20)
    store.release_node(1, handle.epoch)
    time.live(1)
    assert [message.queue for message in outbox.messages] == ["kf.stream.0123456789ab", "kf.stream"], "it is little"

    handle = store.claim_node(1, "h:1:2:x", "0123456789ab")
    assert handle is not None
    handle.raise_epoch(handle.epoch)
    handle.progress({"received_offset": LITTLE_BYTES + 1, "applied_offset": 0})
    store.release_node(1, handle.epoch)
    if resumed:
        store.resume(task_id)
    outbox.messages.clear()
    time.live(HOME_S - 1)
    assert {message.queue for message in outbox.messages} == {"kf.stream.0123456789ab"}
    time.live(FOLLOW_AGAIN_S + 1)
    assert outbox.messages[-1].queue == "kf.stream"
    assert store.claim_node(1, "h:1:2:x", "0123456789ab") is not None


def test_chunks_go_to_the_host_that_has_their_files(store: Store, task_id: int, time: Time, outbox: Outbox) -> None:
    handle = store.claim_node(1, "h:1:2:x", "0123456789ab")
    assert handle is not None
    handle.begin_snapshot("r", 1, 0, None, None)
    handle.add_chunk(**chunk(0))  # type: ignore[arg-type]
    handle.end_snapshot(1, 1, 1)
    (message,) = outbox.messages
    assert message.queue == "kf.load.0123456789ab"
    assert message.says[-1] == "chunk 1"
    outbox.messages.clear()
    for _ in range(int(LOAD_AGAIN_S) + 2):
        handle.renew()
        time.live(1)
    assert [(m.queue, m.says[-1]) for m in outbox.messages] == [("kf.load.0123456789ab", "chunk 1 of 1")]


def test_a_leader_that_was_stopped_and_wakes_up_writes_nothing(
    store: Store, task_id: int, time: Time, outbox: Outbox
) -> None:
    """It holds its lease for another second by its own clock; the database knows better."""
    handle, _ = begin(store, outbox)
    time.tick()
    for _ in range(3):
        time.live(1)
    younger = Leader(store.database, host="elsewhere")
    now = 0.0
    while not younger.leads(now):
        now += 0.25
    with pytest.raises(Fenced), store.database.write() as session:
        time.leader.guard(session)
    time.now += 0.25
    time.leader._renewed = time.now  # it believes to have renewed just now
    before = store.nodes(task_id), store.owners("h:"), len(outbox.sent)
    time.now += 10  # every lease looks dead to it
    time.leader._renewed = time.now
    time.tick()
    assert (store.nodes(task_id), store.owners("h:"), len(outbox.sent)) == before
    assert time.leader.epoch is None
    handle.renew()


def test_an_operation_is_sent_and_taken_from_the_dead(store: Store, task_id: int, time: Time, outbox: Outbox) -> None:
    store.halt(task_id)
    op = store.request(task_id, OpKind.RESTART)
    time.tick()
    assert [(m.queue, m.says[-1]) for m in outbox.messages if m.name == names.OPS] == [("kf.ops", "restart")]
    taken = store.claim_op(op.id, "h:1:5:x")
    assert taken is not None
    assert store.claim_op(op.id, "h:1:6:x") is None
    outbox.messages.clear()
    time.live(LEASE_TTL_S + 0.75)
    assert [m.id for m in outbox.messages if m.name == names.OPS] == [op.id]
    with pytest.raises(Fenced):
        taken.done()


def test_parts_of_a_verification_wait_in_the_queue_of_loads(
    store: Store, task_id: int, time: Time, outbox: Outbox
) -> None:
    """Sent once; again only if the queue is empty, so that it does not grow while nobody is free."""
    store.transition(task_id, TaskState.SYNCHRONIZING, "test")
    whole = store.claim_op(store.ask_verify(task_id, repair=False).id, "h:1:5:x")
    assert whole is not None
    whole.divide([{"piece": {}, "round": 0, "says": f"part {number}"} for number in range(2)], whole.op.options)

    def sent() -> list[int]:
        return [m.id for m in outbox.messages if m.name == names.PART]

    parts = [part.id for part in whole.parts()]
    time.tick()
    assert sent() == parts
    outbox.queued = 2
    time.live(2 * LOAD_AGAIN_S)
    assert sent() == parts, "they wait"
    outbox.queued = 0
    time.live(0.5)
    assert sent() == parts * 2, "they were lost"
    taken = store.claim_op(parts[0], "h:1:6:x")
    assert taken is not None
    time.live(LEASE_TTL_S + 0.75)
    assert sent().count(parts[0]) > 2, "its worker is silent"
    with pytest.raises(Fenced):
        taken.renew()


def test_a_tick_asks_as_much_of_many_open_windows_as_of_one(
    store: Store, task_id: int, time: Time, outbox: Outbox, statements: Statements
) -> None:
    """The target of two hundred tasks is down."""
    handle, _ = begin(store, outbox, chunks=0)
    handle.failing(ConnectionLost("refused", side=Side.TARGET))

    def count() -> int:
        beat_all(store)
        time.now += 1.25
        statements.clear()
        time.tick()
        return len(statements)

    count()
    one = count()
    with store.database.write() as session:
        for rows in zip(*(idle_task(number) for number in range(2, 201)), strict=True):
            session.add_all(rows)
            session.flush()
        for number in range(2, 201):
            task = locks.task(session, number)
            task.source_server, task.target_server = f"s{number}", TARGET.identity()
            open_window(session, task, ConnectionLost("refused", side=Side.TARGET), "stream", time.wall.now, Random(1))
    count()
    assert count() == one
    assert len({view.shared for view in store.tasks()}) == 1


def test_a_tick_over_a_thousand_idle_tasks_asks_as_much_as_over_one(
    store: Store, task_id: int, time: Time, outbox: Outbox, statements: Statements
) -> None:
    """And takes milliseconds: the figure is in tests/benchmarks."""
    begin(store, outbox, chunks=0)

    def count() -> int:
        beat_all(store)
        time.live(1)
        statements.clear()
        time.tick()
        return len(statements)

    turns = range(int(max(LEASE_TTL_S, GRANTS_EVERY_S)) + 1)  # not every tick asks about everything
    alone = max([count() for _ in turns])
    with store.database.write() as session:
        for rows in zip(*(idle_task(number) for number in range(2, 1001)), strict=True):
            session.add_all(rows)
            session.flush()
    assert max([count() for _ in turns]) == alone
    assert FOLLOW_AGAIN_S < LEASE_TTL_S
    assert outbox.sent == [], "who beats is left alone"
    time.live(LEASE_TTL_S + 1)
    assert len([sent for sent in outbox.sent if sent[0] == names.FOLLOW]) == 1000, "the joins have found them all"


def granted(store: Store, task_id: int) -> None:
    """The task is beta's, and reads alpha's instance by a role."""
    for name in ("alpha", "beta"):
        store.add_account(name)
    store.put_role("alpha", "for-beta", trusting("beta"), ["KeyferryReadSource"])
    with store.database.write() as session:
        session.execute(update(Task).where(Task.id == task_id).values(account="beta"))
        session.add(Grant(task_id=task_id, side="source", owner="alpha", role="for-beta", instance="old", until=0))


@pytest.mark.parametrize("resting", [False, True])
def test_roles_that_tasks_have_assumed_are_asked_about_again(
    store: Store, task_id: int, time: Time, outbox: Outbox, resting: bool
) -> None:
    begin(store, outbox)
    granted(store, task_id)
    if resting:
        store.halt(task_id)
    time.live(GRANTS_EVERY_S)
    assert [entry.allowed for entry in store.audit("alpha")] == [True]
    time.live(60)
    assert len(store.audit("alpha")) == 1, "it holds for a quarter of an hour"
    store.remove_role("alpha", "for-beta")
    time.wall.now += GRANT_S
    time.live(2 * GRANTS_EVERY_S)
    task = store.task(task_id)
    assert task.state is TaskState.FAILED
    assert task.error is not None
    assert task.error["code"] == "not-granted"
    assert "there is no role for-beta" in task.error["message"]
    assert not store.nodes(task_id)[0].wanted
    assert [entry.allowed for entry in store.audit("alpha")] == [True, False], "and not again and again"

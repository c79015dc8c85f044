"""What a scrape says of a database."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import update

from sync_tasks import names
from sync_tasks.errors import ConnectionLost, ControlError, Side
from sync_tasks.models import Lease, Op, RetryWindow, Task
from sync_tasks.observe import families
from sync_tasks.observe.families import FAMILIES
from sync_tasks.spec import TaskSpec
from sync_tasks.states import OpKind, OpState, TaskState
from sync_tasks.store import Store
from tests.unit.control.conftest import SOURCE, TARGET, Wall, chunk, started
from tests.unit.control.statements import Statements
from tests.unit.observe.conftest import Scraped

Scrape = Callable[[], Scraped]
UNITS = ("_seconds", "_bytes", "_total", "_info")
COUNTS = ("_keys", "_expiries", "_chunks")


def test_names_follow_the_conventions() -> None:
    names_ = [family.name for family in FAMILIES]
    assert len(set(names_)) == len(names_) > 30
    for family in FAMILIES:
        assert re.fullmatch(r"keyferry_[a-z_]+", family.name)
        assert family.name.endswith("_total") == (family.kind == "counter"), family.name
        assert not re.search(r"(_ms|_kb|_mb|_minutes)\b", family.name), family.name
        assert family.help
        assert set(family.labels) <= {*families.NODE, "state", "kind", "side", "version"}, "few, and with few values"


def test_every_metric_is_there_before_it_has_a_value(scrape: Scrape) -> None:
    found = {f"{family.name}_total" if family.type == "counter" else family.name for family in scrape().families}
    assert found == {family.name for family in FAMILIES}


def test_a_stream_is_told_in_base_units(store: Store, task_id: int, scrape: Scrape) -> None:
    handle = store.claim_node(1, "h:1:2:x")
    assert handle is not None
    first = scrape()
    assert first.of("keyferry_delay_seconds") is None, "unknown is not 0"
    assert first.of("keyferry_source_offset_bytes") is None
    assert (first.of("keyferry_stream_wanted"), first.of("keyferry_stream_owned")) == (1, 1)
    gen = handle.begin_snapshot("r", 100, 0, 20, 5000)
    handle.add_chunk(**chunk(0, gen))  # type: ignore[arg-type]
    handle.renew()
    handle.progress(
        {"received_offset": 900, "applied_offset": 400, "source_offset": 1000}
        | {"delay_ms": 1500.0, "held": 3, "windows": 7}
    )
    task = store.task(task_id)
    of = {"task": task.name, "task_id": str(task_id), "node": "0"}
    now = scrape()
    assert now.of("keyferry_delay_seconds", **of) == 1.5
    assert now.of("keyferry_source_offset_bytes", **of) == 1000
    assert now.of("keyferry_received_offset_bytes", **of) == 900
    assert now.of("keyferry_applied_offset_bytes", **of) == 400
    assert now.of("keyferry_unapplied_bytes", **of) == 500
    assert now.of("keyferry_held_expiries", **of) == 3
    assert now.of("keyferry_windows_total", **of) == 7
    assert (now.of("keyferry_snapshot_keys", **of), now.of("keyferry_snapshot_loaded_keys", **of)) == (20, 0)
    assert now.of("keyferry_snapshots_total", **of) == 1
    assert now.of("keyferry_stream_beats_total", **of) == 1
    assert now.of("keyferry_chunks", state="ready") == 1
    assert now.of("keyferry_task_state", state="initializing") == 1
    assert len(now.all("keyferry_task_state")) == 1

    store.release_node(1, handle.epoch)
    dead = scrape()
    assert dead.of("keyferry_delay_seconds") is None, "what a dead owner said last is not the delay"
    assert (dead.of("keyferry_stream_wanted"), dead.of("keyferry_stream_owned")) == (1, 0)


def test_changes_of_hands_count_from_the_last_start(store: Store, task_id: int, scrape: Scrape) -> None:
    handle = store.claim_node(1, "h:1:2:x")
    assert handle is not None
    handle.raise_epoch(3 << 20)
    assert scrape().of("keyferry_lease_changes_total") == 0
    store.release_node(1, handle.epoch)
    assert store.claim_node(1, "h:9:9:y") is not None
    assert scrape().of("keyferry_lease_changes_total") == 1


def test_an_open_window_with_what_is_left_of_it(store: Store, task_id: int, wall: Wall, scrape: Scrape) -> None:
    assert scrape().of("keyferry_retry_windows_open") == 0
    handle = store.claim_node(1, "h:1:2:x")
    assert handle is not None
    handle.begin_snapshot("r", 100, 0, None, None)
    handle.failing(ConnectionLost("cut", side=Side.TARGET))
    wall.now += 60
    with store.database.write() as session:
        session.execute(update(RetryWindow).where(RetryWindow.id == 1).values(seen_s=60.0))
    now = scrape()
    assert now.of("keyferry_retry_windows_open") == 1
    left = now.of("keyferry_retry_window_remaining_seconds", kind="connection", side="target")
    assert left == pytest.approx(720 * 60 - 60, abs=1)
    assert now.of("keyferry_retry_window_attempts", kind="connection", side="target") == 1
    handle.healed("target")
    assert scrape().of("keyferry_retry_windows_open") == 0
    assert not scrape().all("keyferry_retry_window_remaining_seconds")


def test_the_last_verification_that_came_to_an_end(store: Store, task_id: int, scrape: Scrape) -> None:
    def verified(state: OpState, result: dict[str, object] | None) -> None:
        options = {"repair": True, "auto": False, "uid": "x", "tries": 0, "progress": None, "result": result}
        with store.database.write() as session:
            session.add(Op(task_id=task_id, kind=OpKind.VERIFY, state=state, options=options))

    none = {"missing": 0, "extra": 0, "type": 0, "value": 0, "expiry": 0, "keys": []}
    assert not scrape().all("keyferry_verification_differences")
    verified(OpState.DONE, none | {"compared": 10, "missing": 9})
    verified(OpState.DONE, none | {"compared": 100, "value": 2, "extra": 1, "repaired": 1})
    verified(OpState.RUNNING, None)
    now = scrape()
    assert now.of("keyferry_verification_compared_keys") == 100
    assert now.of("keyferry_verification_differences", kind="value") == 2
    assert now.of("keyferry_verification_differences", kind="extra") == 1
    assert now.of("keyferry_verification_differences", kind="missing") == 0
    assert now.of("keyferry_verification_repaired") == 1


def test_who_leads(store: Store, scrape: Scrape) -> None:
    assert scrape().of("keyferry_leader_owned") is None
    with store.database.write() as session:
        session.add(Lease(name=names.SCHEDULER_LEASE, owner="h:1:1:x", epoch=4, beat=7))
    now = scrape()
    assert now.of("keyferry_leader_owned") == 1
    assert now.of("keyferry_leader_beats_total") == 7
    assert now.of("keyferry_leader_changes_total") == 4


def test_no_secret_and_no_address_is_told(store: Store, task_id: int, scrape: Scrape) -> None:
    handle = store.claim_node(1, "h:1:2:x")
    assert handle is not None
    handle.begin_snapshot("r", 100, 0, None, None)
    handle.failing(ConnectionLost("redis://mover:s3cr%40t@source.example:7000 went away", side=Side.SOURCE))
    text = scrape().text
    for secret in ("s3cr", "mover", "hush", "redis://"):
        assert secret not in text, secret


@pytest.mark.parametrize("name", ['say "so"', "back\\slash", "two words", "ключ"])
def test_any_name_of_a_task_can_be_read_back(store: Store, scrape: Scrape, name: str) -> None:
    store.create_task(TaskSpec(name=name), SOURCE, TARGET)
    assert [labels["task"] for labels in scrape().all("keyferry_task_state")] == [name]


def test_tasks_of_one_name_are_told_apart_and_released_ones_left_out(store: Store, scrape: Scrape) -> None:
    ids = [store.create_task(TaskSpec(name="same"), SOURCE, TARGET).id for _ in range(3)]
    with store.database.write() as session:
        session.get_one(Task, ids[0]).state = TaskState.RELEASED
    assert {labels["task_id"] for labels in scrape().all("keyferry_task_state")} == {str(one) for one in ids[1:]}


def test_as_many_queries_for_many_tasks_as_for_one(
    store: Store, task_id: int, scrape: Scrape, statements: Statements
) -> None:
    def queries() -> int:
        statements.clear()
        scrape()
        return len(statements)

    def fail(node_id: int) -> None:
        handle = store.claim_node(node_id, "h:1:2:x")
        assert handle is not None
        gen = handle.begin_snapshot("r", 100, 0, None, None)
        handle.add_chunk(**chunk(0, gen))  # type: ignore[arg-type]
        handle.failing(ConnectionLost("cut", side=Side.TARGET))

    fail(1)
    one = queries()
    for number in range(2, 12):
        started(store, store.create_task(TaskSpec(), SOURCE, TARGET).id)
        fail(number)
    assert queries() == one <= 9
    assert len(scrape().all("keyferry_retry_windows_open")) == 11


def test_without_the_database_the_host_is_still_told(
    store: Store, scrape: Scrape, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert scrape().of("keyferry_database_up") == 1

    def away(*_: object) -> None:
        raise ControlError("the database is away")

    monkeypatch.setattr("sync_tasks.observe.collector.measures", away)
    now = scrape()
    assert now.of("keyferry_database_up") == 0
    assert now.of("keyferry_spool_used_bytes") == 0
    assert not now.all("keyferry_task_state")


def test_the_spool_by_task(store: Store, task_id: int, scrape: Scrape, tmp_path: Path) -> None:
    uid = store.task(task_id).uid
    for place, size in ((f"{uid}/0/log/a.seg", 70), (f"{uid}/0/gen-1/b.chunk", 30), ("0123456789abcdef/0/c", 11)):
        path = tmp_path / "spool" / place
        path.parent.mkdir(parents=True)
        path.write_bytes(bytes(size))
    now = scrape()
    assert now.of("keyferry_spool_task_bytes", task_id=str(task_id)) == 100
    assert now.of("keyferry_spool_used_bytes") == 111
    free, size = now.of("keyferry_spool_free_bytes"), now.of("keyferry_spool_size_bytes")
    assert free is not None
    assert size is not None
    assert 0 < free <= size

"""What is asked of a cut-over, where a way back begins, and the settings that it has."""

from __future__ import annotations

from typing import Any

import pytest

from sync_tasks import reading
from sync_tasks.cutover import Asked
from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import Side, UsageError
from sync_tasks.extent import Names
from sync_tasks.keyfilter import FilterSpec, KeyFilter
from sync_tasks.point import Point
from sync_tasks.reversing import reversed_spec
from sync_tasks.spec import TaskSpec
from sync_tasks.transform.setting import TransformSpec
from workers.scope import Scope
from workers.way_back import point

LUA = TransformSpec(lua="function transform(db, argv) return argv end")


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"pause_limit_s": 0}, "out-of-range"),
        ({"pause_limit_s": 3601}, "out-of-range"),
        ({"pause_limit_s": True}, "out-of-range"),
        ({"delay_threshold_ms": 0}, "out-of-range"),
        ({"verify": "closely"}, "verify"),
    ],
)
def test_what_cannot_be_asked_for(options: dict[str, Any], code: str) -> None:
    with pytest.raises(UsageError) as caught:
        Asked(**options).checked(TaskSpec())
    assert caught.value.code == code
    assert caught.value.hint


def test_a_source_that_is_followed_by_its_notifications_has_no_last_write() -> None:
    with pytest.raises(UsageError, match="is not cut over") as caught:
        Asked().checked(TaskSpec(reader="scan"))
    assert "keyferry verify" in caught.value.hint
    Asked().checked(TaskSpec(reader="scan", sync_types=("full",)))


@pytest.mark.parametrize("spec", [TaskSpec(transform=LUA), TaskSpec(sync_types=("incremental",))])
def test_what_is_not_to_be_equal_is_not_compared(spec: TaskSpec) -> None:
    assert Asked().checked(spec).depth(spec) == "off"
    with pytest.raises(UsageError, match="cannot be verified"):
        Asked(verify="key").checked(spec)
    assert Asked(verify="off").checked(spec).depth(spec) == "off"
    assert Asked().depth(TaskSpec()) == "value"


def test_what_was_asked_is_read_back() -> None:
    asked = Asked(pause=True, pause_limit_s=7, verify="key", dry_run=True)
    assert Asked.of({"asked": {**asked.as_dict(), "of a later version": 1}}) == asked
    assert Asked.of({}) == Asked()


def test_a_place_is_read_back() -> None:
    at = Point("a" * 40, 1 << 40, 15)
    assert Point.parse(str(at)) == at
    for wrong in (None, "", "a:1:2", f"{'a' * 40}:x:0", f"{'a' * 40}:1"):
        assert Point.parse(wrong) is None


INFO = b"# Replication\r\nrole:master\r\nmaster_replid:%s\r\nmaster_repl_offset:77\r\nrepl_backlog_active:%d\r\n"


def test_where_a_target_stands_is_known_if_it_keeps_its_stream() -> None:
    assert point(INFO % (b"b" * 40, 1), 3) == Point("b" * 40, 77, 3)
    assert point(INFO % (b"b" * 40, 0), 3) is None
    assert point(b"role:master\r\nmaster_repl_offset:77\r\nrepl_backlog_active:1\r\n", 3) is None


def test_the_way_back_has_the_settings_turned_round() -> None:
    rules = FilterSpec(block_prefixes=["tmp:"], db={"3": KeyFilter(allow_prefixes=["a:"])})
    spec = TaskSpec(databases={0: 0, 3: 7}, filter=rules, extend_expiry_s=30)
    back = reversed_spec(spec, "orders")
    assert (back.name, back.sync_types, back.databases) == ("orders-back", ("incremental",), {0: 0, 7: 3})
    assert back.filter.block_prefixes == ["tmp:", "keyferry:"]
    assert back.filter.db == {"7": KeyFilter(allow_prefixes=["a:"], block_prefixes=["keyferry:"])}
    assert back.extend_expiry_s == 30
    assert TaskSpec.model_validate(back.model_dump()) == back
    given = TaskSpec(reader="scan", scan_changes="psync", throttle={"full": {"source_qps": 5}})
    scanned = reversed_spec(given, "orders")
    assert (scanned.reader, scanned.scan_changes, scanned.throttle.full.source_qps) == ("psync", "notifications", -1)
    reading.check(scanned, Endpoint.parse("redis://h", Side.SOURCE))


@pytest.mark.parametrize("spec", [TaskSpec(databases={0: 1, 2: 1}), TaskSpec(transform=LUA)])
def test_some_have_no_way_back(spec: TaskSpec) -> None:
    with pytest.raises(UsageError) as caught:
        reversed_spec(spec, "orders")
    assert caught.value.code == "no-way-back"


def test_leaving_out_our_own_keys_alone_divides_nothing() -> None:
    back = Scope(None, reversed_spec(TaskSpec(), "orders").filter)
    assert not back.filtered
    assert not back.takes(0, b"keyferry:1:ck")
    assert back.takes(0, b"keyferr")
    assert Scope(None, FilterSpec(block_prefixes=["a"])).filtered
    assert back.extent.usual == Names((), (b"keyferry:",))

"""Keys that a stream has written are compared by a thread beside it: what lasts is named, nothing else is."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import Fenced, Side
from sync_tasks.spec import TaskSpec, from_table
from sync_tasks.throttle import Limits
from sync_tasks.verification import Touched as Shown
from sync_tasks.verify_spec import VerifyLimits
from tests.dataset import sibling
from tests.integration.verify.copies import QUICK
from tests.servers import Server, StartServer
from tests.unit.protocol.conftest import TASK
from tests.unit.protocol.test_sampling import window
from tests.waiting import until
from workers.touched import Touched
from workers.touching import Touching
from workers.verify.walk import Walk

SPEC = from_table({"verify": {"mode": "full+incremental", "keys_per_s": 500}, "extend_expiry_s": 0}, "test")
LATER_MS = 4_000_000_000_000


class Port:
    """Of the control plane, what the thread asks for."""

    def __init__(self, spec: TaskSpec = SPEC, databases: dict[int, int] | None = None) -> None:
        self.task = replace(TASK, spec=spec, databases=databases)
        self.before: dict[str, Any] | None = None
        self.found: dict[str, Any] = {"compared": 0, "keys": [], "in_flux": 0, "error": None}
        self.events: list[tuple[str, str]] = []
        self.lost = False
        self.rest: list[int] = []  # numbers of the other source nodes

    def others(self) -> list[int]:
        return self.rest

    def found_before(self) -> dict[str, Any] | None:
        return self.before

    def touched(self, found: dict[str, Any]) -> None:
        if self.lost:
            raise Fenced("lost")
        self.found = found

    def event(self, kind: str, text: str) -> None:
        self.events.append((kind, text))

    def named(self) -> list[tuple[str, str]]:
        return [(key["key"], key["kind"]) for key in self.found["keys"]]


class Pair:
    """Two servers, and the thread between them."""

    def __init__(self, source: Server, target: Server, port: Port) -> None:
        self.source, self.target, self.port = source.client(), target.client(), port
        ends = Endpoint.parse(source.url(), Side.SOURCE), Endpoint.parse(target.url(), Side.TARGET)
        self.thread = Touched(port, *ends)  # type: ignore[arg-type]
        self.thread._patience.pauses = QUICK

    def begin(self) -> None:
        self.thread.turn(steady=True, delay_ms=1.0)

    def write(self, *names: str, db: int = 0) -> None:
        self.thread.sample.again([(db, name.encode()) for name in names])

    def compared(self) -> int:
        return int(self.port.found["compared"])


@pytest.fixture
def pair(server: StartServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Pair]]:
    for name, value in (("STEP_S", 0.02), ("LEAST_WAIT_S", 0.0), ("REPORT_S", 0.0), ("PAUSE_S", 0.5)):
        monkeypatch.setattr(f"workers.touched.{name}", value)
    monkeypatch.setattr("workers.touched.SILENT_S", float("inf"))
    made: list[Pair] = []

    def make(port: Port | None = None) -> Pair:
        made.append(Pair(server("valkey-9.1"), server("valkey-9.1"), port or Port()))
        return made[-1]

    yield make
    for one in made:
        one.thread.stop()
        if one.thread.ident is not None:
            one.thread.join(10)
            assert not one.thread.is_alive()


def test_what_lasts_is_named_until_it_is_equal(pair: Callable[..., Pair]) -> None:
    both = pair()
    both.begin()
    names = ["same", "value", "gone", "more", "type"]
    for side in (both.source, both.target):
        side.mset(dict.fromkeys(names, 1))
        side.pexpireat("same", LATER_MS)  # nothing is extended
    both.write(*names)
    until(lambda: both.compared() == 5, "compared")
    assert (both.port.named(), both.port.events) == ([], [])
    both.target.set("value", 2)
    both.target.delete("gone", "type")
    both.target.rpush("type", 1)
    both.source.delete("more")
    both.write(*names)
    wanted = [("gone", "missing"), ("more", "extra"), ("type", "type"), ("value", "value")]
    until(lambda: sorted(both.port.named()) == wanted, "named")
    ((kind, text),) = both.port.events
    assert kind == "differs"
    assert all(f"{what} db 0 {name}" in text for name, what in wanted)
    both.write(*names)
    until(lambda: both.compared() == 15, "compared again")
    assert len(both.port.events) == 1, "it was said"
    shown = Shown.of([both.port.found])
    assert shown is not None
    assert (shown.differences, len(shown.keys)) == (4, 4), "each counts once"
    both.target.delete("more", "type")
    both.target.mset(dict.fromkeys(["value", "gone", "type"], 1))
    both.write(*names)
    until(lambda: not both.port.named(), "equal")
    assert both.port.events[-1][0] == "agrees"


def test_what_was_named_is_looked_at_again_by_itself(
    pair: Callable[..., Pair], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.touched.AGAIN_S", 0.2)
    both = pair()
    both.begin()
    both.target.set("k", 1)
    both.write("k")
    until(lambda: both.port.named() == [("k", "extra")], "named")
    both.target.delete("k")
    until(lambda: not both.port.named(), "equal")


def test_nothing_is_told_of_a_stream_that_was_not_in_step(
    pair: Callable[..., Pair], monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a moment, in the middle of the re-checks: the key is looked at once more."""
    both, whole, looks = pair(), Walk.settle, []

    def settle(walk: Walk) -> None:
        looks.append(both.port.named())
        if len(looks) == 1:
            both.thread.turn(steady=False, delay_ms=1.0)
            both.thread.turn(steady=True, delay_ms=1.0)
        whole(walk)

    monkeypatch.setattr(Walk, "settle", settle)
    both.target.set("k", 1)
    both.write("k")
    both.begin()
    until(lambda: both.port.named() == [("k", "extra")], "named")
    assert looks == [[], []], "the first look has told nothing"
    assert both.port.found["extra"] == 1


def test_a_stream_is_looked_at_if_the_settings_say_so() -> None:
    touching = Touching(Endpoint.parse("redis://a", Side.SOURCE), Endpoint.parse("redis://b", Side.TARGET))
    for spec in (SPEC, from_table({"verify": {"mode": "full"}}, "test")):
        applier = SimpleNamespace(sample=None)
        touching.anew(Port(spec), applier)  # type: ignore[arg-type]
        assert (applier.sample is not None) == (spec is SPEC)


def test_no_more_keys_a_second_are_compared_than_may_be(pair: Callable[..., Pair]) -> None:
    """Of a thousand that are written in a second and a half."""
    few = SPEC.model_copy(update={"verify": SPEC.verify.model_copy(update={"keys_per_s": 20})})
    both = pair(Port(few))
    both.begin()
    began = time.monotonic()
    for number in range(30):
        time.sleep(0.05)
        commands = [[b"SET", b"%d:%d" % (number, n), b"1"] for n in range(33)]
        both.thread.sample.take([window(*commands)], time.monotonic())
    until(lambda: both.compared() >= 20, "compared")
    time.sleep(0.5)
    assert both.compared() < 20 * (time.monotonic() - began + 1)


def test_the_streams_of_a_task_share_what_each_side_may_be_asked(pair: Callable[..., Pair]) -> None:
    limits = VerifyLimits(rps=900, mb_per_s=3)
    port = Port(SPEC.model_copy(update={"verify": SPEC.verify.model_copy(update={"limits": limits})}))
    port.rest = [1, 2]
    both = pair(port)
    sides = both.thread._sides()
    assert sides.source.link.pace.limits == sides.target.link.pace.limits == Limits(300.0, 1e6)


def test_what_changes_without_a_pause_is_let_go(pair: Callable[..., Pair]) -> None:
    both, over = pair(), threading.Event()
    both.begin()

    def writes() -> None:
        number = 0
        while not over.is_set():
            number += 1
            both.source.set("k", number)

    both.target.set("k", "other")
    writer = threading.Thread(target=writes)
    writer.start()
    try:
        until(lambda: both.source.exists("k"), "it is there")
        both.write("k")
        until(lambda: both.port.found["in_flux"], "let go")
        assert both.port.named() == []
    finally:
        over.set()
        writer.join()


def test_a_side_that_is_away_and_another_owner(pair: Callable[..., Pair]) -> None:
    port = Port()
    port.before = {"compared": 7, "in_flux": 1, "missing": 0, "extra": 2, "type": 0, "value": 0, "expiry": 0}
    both = pair(port)
    both.begin()
    both.write("k")
    until(lambda: both.compared() == 8, "counted on from what the last owner had")
    assert (port.found["extra"], port.found["in_flux"]) == (2, 1)
    both.thread._sides().source.link.info["run_id"] = "another"  # as if it had been restarted
    both.thread._sides().source.link._sock.close()  # type: ignore[union-attr]
    both.write("k")
    until(lambda: port.found["error"], "it says why it waits")
    until(lambda: both.compared() == 9 and not port.found["error"], "it goes on")
    port.lost = True
    both.write("k")
    until(lambda: not both.thread.is_alive(), "an owner that is none any more ends")


def test_databases_that_are_merged(pair: Callable[..., Pair]) -> None:
    both = pair(Port(databases={0: 5, 1: 5}))
    both.begin()
    both.source.set("a", 1)
    sibling(both.source, 1).set("b", 1)
    sibling(both.target, 5).mset({"a": 1, "b": 2})
    both.write("a", "b", db=5)
    until(lambda: both.port.named() == [("b", "value")], "named")
    assert both.port.found["keys"][0]["db"] == 1

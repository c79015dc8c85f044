"""When a stream job says that source and target are in sync."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from sync_tasks.errors import ConnectionLost, Side
from workers import in_sync
from workers.applied import Progress
from workers.in_sync import InSync


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_sync, "ASK_S", 0.02)


def made(ours: bool = False, **other: Any) -> InSync:
    """Of a source that is at 1000, and was in sync."""
    source: Any = SimpleNamespace(offset=lambda: 1000, compares=ours)
    slots: Any = SimpleNamespace(look=lambda _: None, steady=True)
    source.__dict__.update(other)
    slots.__dict__.update(other)
    found = InSync(source, slots)
    found._was = True
    return found


def asked(committed: int, settled: int, received: int = 1000, ours: bool = False) -> bool:
    """What it says."""
    found, progress = made(ours), Progress(streaming=True, committed=committed, settled_at=settled)
    found.ask(lambda: progress, lambda: received, connected=True)
    return found.holds(progress, connected=True)


@pytest.mark.parametrize(
    ("committed", "settled", "received", "said"),
    [
        (1000, 1000, 1000, True), (990, 990, 1000, True), (1000, 500, 1000, False), (990, 500, 1000, False),
        (990, 990, 990, False),
    ],
    ids=["all is there", "a PING is missing", "an expiry is held", "both", "it has not come"],
)
def test_it_is_in_sync_only_while_nothing_is_held(committed: int, settled: int, received: int, said: bool) -> None:
    assert asked(committed, settled, received) is said


def test_a_log_of_our_own_has_nothing_that_changes_nothing() -> None:
    assert asked(1000, 1000, ours=True)
    assert not asked(999, 999, ours=True)


def test_a_source_that_does_not_say_its_offset_leaves_no_slot_sure() -> None:
    """The last look at them was before: a stream must not be closed by that."""
    said: list[str] = []

    def offset() -> int:
        raise ConnectionLost("it is cut", side=Side.SOURCE)

    found = made(offset=offset, unsure=lambda: said.append("unsure"))
    progress = Progress(streaming=True, committed=1000)
    found.ask(lambda: progress, lambda: 1000, connected=True)
    assert said == ["unsure"]
    assert not found.holds(progress, connected=True)
    assert found.sample is None

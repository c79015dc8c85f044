"""When a stream job says that source and target are in sync."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from sync_tasks.errors import ConnectionLost, Side
from workers import stream
from workers.stream import StreamJob


def asked(committed: int, settled: int, received: int = 1000, ours: bool = False) -> bool:
    """What a job that was in sync says with the source at 1000."""
    job: Any = SimpleNamespace(
        applier=SimpleNamespace(progress=SimpleNamespace(streaming=True, committed=committed, settled_at=settled)),
        receiver=SimpleNamespace(connected=True),
        source=SimpleNamespace(offset=lambda: 1000, compares=ours),
        log=SimpleNamespace(end=received),
        slots=SimpleNamespace(look=lambda _: None, steady=True),
        _in_sync=True,
    )
    StreamJob._ask(cast("StreamJob", job))
    return bool(job._in_sync)


@pytest.mark.parametrize(
    ("committed", "settled", "received", "said"),
    [
        (1000, 1000, 1000, True), (990, 990, 1000, True), (1000, 500, 1000, False), (990, 500, 1000, False),
        (990, 990, 990, False),
    ],
    ids=["all is there", "a PING is missing", "an expiry is held", "both", "it has not come"],
)
def test_it_is_in_sync_only_while_nothing_is_held(
    monkeypatch: pytest.MonkeyPatch, committed: int, settled: int, received: int, said: bool
) -> None:
    monkeypatch.setattr(stream, "ASK_S", 0.02)
    assert asked(committed, settled, received) is said


def test_a_log_of_our_own_has_nothing_that_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "ASK_S", 0.02)
    assert asked(1000, 1000, ours=True)
    assert not asked(999, 999, ours=True)


def test_a_source_that_does_not_say_its_offset_leaves_no_slot_sure() -> None:
    """The last look at them was before: a stream must not be closed by that."""
    said: list[str] = []

    def offset() -> int:
        raise ConnectionLost("it is cut", side=Side.SOURCE)

    job: Any = SimpleNamespace(
        applier=SimpleNamespace(progress=SimpleNamespace(streaming=True)), receiver=SimpleNamespace(connected=True),
        source=SimpleNamespace(offset=offset), slots=SimpleNamespace(unsure=lambda: said.append("unsure")),
        _in_sync=True,
    )  # fmt: skip
    StreamJob._ask(cast("StreamJob", job))
    assert said == ["unsure"]
    assert not job._in_sync

"""A database that is away ends no job that the target fences: its beat is tried again, and so is what it was told."""

from __future__ import annotations

import time

import pytest

from sync_tasks.errors import DATABASE, ControlError, Fenced, KeyferryError, Retry, is_away
from tests.unit.protocol.conftest import until
from workers import beat
from workers.beat import Beat

AWAY = ControlError("the database answers: closed", code=DATABASE, retry=Retry.OTHER)


@pytest.mark.parametrize(
    ("error", "away"),
    [
        (AWAY, True),
        (ControlError("its driver is missing", code=DATABASE), False),
        (ControlError("another", retry=Retry.OTHER), False),
        (Fenced("lost"), False),
    ],
)
def test_which_errors_say_that_the_database_is_away(error: KeyferryError, away: bool) -> None:
    assert is_away(error) is away


def test_a_patient_beat_goes_on_until_the_lease_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beat, "BEAT_S", 0.01)
    answers: list[KeyferryError | None] = [None, AWAY, AWAY, None]
    beats = 0

    def renew() -> None:
        nonlocal beats
        beats += 1
        if error := answers.pop(0) if answers else Fenced("lost"):
            raise error

    beating = Beat(renew, patient=True)
    with pytest.raises(Fenced), beating:
        assert until(lambda: beats == 5)


def test_another_ends_with_the_first_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beat, "BEAT_S", 0.01)

    def renew() -> None:
        raise AWAY

    with pytest.raises(ControlError), Beat(renew) as beating:
        assert until(lambda: beating._error is not None)


def test_a_pause_ends_with_a_beat_that_brings_something_new_or_is_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beat, "BEAT_S", 0.01)
    beats = 0

    def renew() -> int:
        nonlocal beats
        beats += 1
        if beats > 12:
            raise Fenced("lost")
        return beats // 5

    def pause() -> int:
        beating.pause(30)
        return beats

    began = time.monotonic()
    with pytest.raises(Fenced), Beat(renew) as beating:
        seen = [pause() for _ in range(4)]
    assert time.monotonic() - began < 30
    assert all(found >= least for found, least in zip(seen, (1, 5, 10, 13), strict=True))

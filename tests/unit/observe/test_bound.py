"""What a process works at."""

from __future__ import annotations

from sync_tasks.observe import bound


def test_nothing_is_left_of_a_job() -> None:
    seen = []
    try:
        with bound.job(task="a"):
            bound.note(offset=1)
            seen.append(dict(bound.now()))
            raise RuntimeError
    except RuntimeError:
        seen.append(dict(bound.now()))
    assert seen == [{"task": "a", "offset": 1}, {}]


def test_without_a_job_nothing_is_noted() -> None:
    bound.note(offset=1)
    assert bound.now() == {}

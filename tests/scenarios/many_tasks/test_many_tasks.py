"""Many tasks on one machine, and on two hosts."""

from __future__ import annotations

from pathlib import Path

from tests.benchmarks import tasks
from tests.benchmarks.scale import installation
from tests.benchmarks.service import many

MOST_MB = 1600
STATEMENTS = 10.0  # a task and second; there are 4 to 5


def test_their_memory_in_all(tmp_path: Path) -> None:
    found = many(tmp_path, 1.0)
    print(found)
    assert found.memory_mb < MOST_MB


def test_what_each_asks_of_the_database_is_bounded(tmp_path: Path) -> None:
    """Started, followed, suspended, resumed, finished, with PostgreSQL."""
    with installation(tmp_path, connections=200) as parts:
        said = list(tasks.many(*parts, 24, watch_s=6.0))
    followed = [one for one in said if isinstance(one, tasks.Followed)]
    print(*said, sep="\n")
    assert [one.tasks for one in followed] == [6, 24]
    assert followed[1].rates.statements < STATEMENTS
    assert followed[1].rates.statements < followed[0].rates.statements * 1.2, "it does not grow with their number"
    assert followed[1].rates.messages < 1.0, "a stream that runs needs no messages"

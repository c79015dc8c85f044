"""Fixtures that all tests share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import settings

from tests import postgres as postgresql
from tests.servers import Server, StartServer, start

# A busy machine is no fault of the code: what takes long is not a failure.
settings.register_profile("keyferry", deadline=None)
settings.load_profile("keyferry")

LONG = (
    "tests/scenarios/",
    "tests/integration/",
    "tests/unit/cli/test_children.py",
    "tests/unit/cli/test_command.py",
    "tests/unit/cli/test_service.py",
    "tests/unit/cli/test_task.py",
    "tests/unit/cli/test_up.py",
    "tests/unit/client/",
    "tests/unit/protocol/test_anew.py",
    "tests/unit/protocol/test_cutover.py",
    "tests/unit/protocol/test_job.py",
    "tests/unit/protocol/test_sweep.py",
    "tests/unit/spool/",
    "tests/unit/verify/test_large.py",
)
"""Tests that take minutes together: `make test-long`."""

BRIEF = (
    "full/test_full.py::test_everything_arrives[valkey-9.1-valkey-9.1]",
    "follow/test_follow.py::test_every_write_takes_effect_once[valkey-9.1-valkey-9.1]",
    "kill_tree/test_kill_tree.py::test_while_the_source_is_idle",
    "errors/test_settings.py",
    "life/test_life.py",
)
"""Of those, the ones that `make test` runs all the same."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of `make test-long`."""
    for item in items:
        if item.nodeid.startswith(LONG) and not any(brief in item.nodeid for brief in BRIEF):
            item.add_marker("long")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[StartServer]:
    """Starts servers, `server("redis-6.2", config={...})`; all end with the test, their logs stay."""
    with ExitStack() as stack:

        def begin(kind: str, *, config: Mapping[str, str] | None = None, dir: Path | None = None) -> Server:
            place = dir or tmp_path / f"{kind}-{len(list(tmp_path.iterdir()))}"
            return stack.enter_context(start(kind, config=config, dir=place))

        yield begin


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """URL of a PostgreSQL's database `postgres`, for the tests of one process."""
    with postgresql.start() as url:
        yield url

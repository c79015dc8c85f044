"""Fixtures that all tests share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import settings

from tests import postgres as postgresql
from tests.servers import Server, StartServer, start
from tests.sets import BRIEF, LONG, RARE, SLOW

# A busy machine is no fault of the code: what takes long is not a failure.
settings.register_profile("keyferry", deadline=None)
settings.load_profile("keyferry")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not even read files of which `make test` runs nothing: each of its processes would."""
    name = collection_path.relative_to(config.rootpath).as_posix()
    if collection_path.suffix != ".py" or config.option.markexpr != "not long":
        return None
    return (name.startswith(LONG) and not any(brief.partition("::")[0] in name for brief in BRIEF)) or None


WORKERS = 4
"""pytest-xdist gives each of them a part of the list, in its order, before they take from each other."""


def begin_with_the_slow(items: list[pytest.Item]) -> list[pytest.Item]:
    """As many parts as there are workers, the slow tests dealt out to their beginnings."""
    slow = [item for item in items if any(name in item.nodeid for name in SLOW)]
    rest = [item for item in items if item not in slow]
    ordered: list[pytest.Item] = []
    for number in range(WORKERS):
        mine = slow[number::WORKERS]
        upto = len(items) * (number + 1) // WORKERS - len(ordered) - len(mine)
        ordered += mine + rest[:upto]
        rest = rest[upto:]
    return ordered


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    """Mark the tests of `make test-long`, and those of `make test-all` alone; order those that were asked for."""
    for item in items:
        if item.nodeid.startswith(LONG) and not any(brief in item.nodeid for brief in BRIEF):
            item.add_marker("long")
        if item.get_closest_marker("long") and any(rare in item.nodeid for rare in RARE):
            item.add_marker("rare")
    yield
    items[:] = begin_with_the_slow(items)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[StartServer]:
    """Starts servers, `server("redis-6.2", config={...})`; all end with the test, their logs stay."""
    with ExitStack() as stack:

        def begin(
            kind: str,
            *,
            config: Mapping[str, str] | None = None,
            dir: Path | None = None,
            env: Mapping[str, str] | None = None,
        ) -> Server:
            place = dir or tmp_path / f"{kind}-{len(list(tmp_path.iterdir()))}"
            return stack.enter_context(start(kind, config=config, dir=place, env=env))

        yield begin


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """URL of a PostgreSQL's database `postgres`, for the tests of one process."""
    with postgresql.start() as url:
        yield url

"""Fixtures that all tests share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.servers import Server, StartServer, start


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the long forms, unless markers are chosen: `pytest -m slow`."""
    if not config.getoption("-m"):
        slow = [item for item in items if item.get_closest_marker("slow")]
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in slow]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[StartServer]:
    """Starts servers, `server("redis-6.2", config={...})`; all end with the test, their logs stay."""
    with ExitStack() as stack:

        def begin(kind: str, *, config: Mapping[str, str] | None = None, dir: Path | None = None) -> Server:
            place = dir or tmp_path / f"{kind}-{len(list(tmp_path.iterdir()))}"
            return stack.enter_context(start(kind, config=config, dir=place))

        yield begin

"""Two empty servers for all tests of a module, and a state directory for each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import Server, start


@pytest.fixture(scope="module")
def source() -> Iterator[Server]:
    with start("redis-7.0") as server:
        yield server


@pytest.fixture(scope="module")
def target() -> Iterator[Server]:
    with start("redis-7.0") as server:
        yield server


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"

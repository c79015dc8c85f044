"""A service of its own for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.run_up import Up


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Up]:
    with Up(tmp_path / "state") as made:
        made.wait_ready()
        yield made

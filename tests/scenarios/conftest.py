"""Fixtures of the scenarios."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.proxy import Proxy
from tests.run_keyferry import Keyferry
from tests.servers import Server

StartFerry = Callable[..., Keyferry]


@pytest.fixture
def ferry(tmp_path: Path) -> Iterator[StartFerry]:
    """Starts the command, `ferry(source, target)`, always on one state directory; killed with the test."""
    with ExitStack() as stack:

        def begin(source: Server, target: Server | Proxy, **kw: Any) -> Keyferry:
            run = Keyferry(source.url(), target.url(), tmp_path / "state", **kw)
            stack.callback(lambda: print(run.report()))
            return stack.enter_context(run)

        yield begin

"""Every test of the codec that asks for `codec` runs on both of its forms."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from tests.servers import Server
from tests.unit.codec.forms import form
from workers.codec import core


@pytest.fixture(params=["compiled", "plain"], scope="module")
def codec(request: pytest.FixtureRequest) -> Any:
    if request.param == "compiled" and core() != "compiled":
        if os.environ.get("CI") == "true":
            pytest.fail("the core is not compiled", pytrace=False)
        pytest.skip("the core is not compiled")
    return form(request.param)


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, Server]]:
    """Those that a module's tests have started, by whatever name they give them; stopped at its end."""
    found: dict[str, Server] = {}
    yield found
    for server in found.values():
        server.stop()

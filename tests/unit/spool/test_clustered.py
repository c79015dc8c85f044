"""A node of a cluster counts its cursors in its own way, and is walked over in one go."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from sync_tasks.errors import Side
from tests.servers import StartServer, free_port
from tests.unit.protocol.conftest import endpoint
from workers.scan import ScanReceiver
from workers.source.survey import Survey


@pytest.mark.parametrize("clustered", ["no", "yes"])
def test_it_is_one_range(server: StartServer, clustered: str) -> None:
    config = {"cluster-enabled": clustered, "cluster-port": str(free_port())}
    asks = Survey(endpoint(server("valkey-9.1", config=config), Side.SOURCE))
    task = SimpleNamespace(spec=SimpleNamespace(transform=SimpleNamespace(active=True)), lanes=())
    made: Any = SimpleNamespace(port=SimpleNamespace(task=task), _slots=None)
    found = list(ScanReceiver._parts(made, asks, "run", 0, 100_000))
    assert len(found) == (1 if clustered == "yes" else 4)
    asks.close()

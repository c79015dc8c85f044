"""The verdict that ends every scenario: two judges who share no code must both find the servers equal."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile

from tests.compare import same
from tests.servers import Server

EXTENDED_MS = 600_000  # the default of extend_expiry_s
RELATIVE_MS = 100  # a source before 7.0 sends relative times: what they may be off, on a busy machine


def equal(source: Server, target: Server, timeout_s: float = 120.0, *, extended_ms: int = EXTENDED_MS) -> None:
    """Assert that both hold the same keys, types, values, and expiries `extend_expiry_s` apart."""
    tolerance = RELATIVE_MS if source.version < (7, 0) else 0
    same(source.url(), target.url(), shift_ms=extended_ms, tolerance_ms=tolerance)
    verified(source, target, timeout_s, extended_ms=extended_ms)


def verified(
    source: Server, target: Server, timeout_s: float = 120.0, *, extended_ms: int = EXTENDED_MS, config: str = ""
) -> None:
    """Assert that `keyferry verify` finds them equal. `config`: more settings, TOML."""
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
        file.write(f"extend_expiry_s = {extended_ms // 1000}\n{config}")
        file.flush()
        words = ["verify", source.url(), target.url(), "--config", file.name, "--json"]
        command = [sys.executable, "-m", "sync_tasks.cli.main", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s)
    said = f"exit code {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    assert done.returncode == 0, said
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["compared"] > 0 or source.client().dbsize() == 0, said
    assert found["keys"] == [], said


def snapshots(source: Server) -> int:
    """How many snapshots the source has sent since it started."""
    return int(source.client().info("stats")["sync_full"])

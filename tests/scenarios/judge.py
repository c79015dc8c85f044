"""The verdict that ends every scenario: two judges who share no code must both find the servers equal."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from tests.compare import same
from tests.servers import Server

EXTENDED_MS = 600_000  # the default of extend_expiry_s
RELATIVE_MS = 100  # a source before 7.0 sends relative times: what they may be off, on a busy machine


def equal(source: Server, target: Server) -> None:
    """Assert that both hold the same keys, types, values, and expiries `extend_expiry_s` apart."""
    tolerance = RELATIVE_MS if source.version < (7, 0) else 0
    same(source.url(), target.url(), shift_ms=EXTENDED_MS, tolerance_ms=tolerance)
    verified(source, target)


def verified(source: Server, target: Server) -> None:
    """Assert that `keyferry verify` finds them equal.

    Once nothing follows the source any more, a key that has since expired there lives on for the extension on
    the target. `verify` rightly calls it extra; it is no fault of the sync. The same holds for a field of a hash
    that the source hides and has not yet removed: it tells its replicas only then.
    """
    command = [sys.executable, "-m", "sync_tasks.cli.main", "verify", source.url(), target.url(), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    said = f"exit code {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    assert done.returncode in (0, 1), said
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["compared"] > 0 or source.client().dbsize() == 0, said
    left = [item for item in found["keys"] if not outlived(target, item)]
    counted = sum(found[kind] for kind in ("missing", "extra", "type", "value", "expiry"))
    assert left == [], said
    assert counted <= len(found["keys"]), said


def outlived(target: Server, item: dict[str, Any]) -> bool:
    """An extra key, or field, whose time on the source is over, the extension is not."""
    client = target.client(db=item["db"])
    if item["kind"] == "extra":
        return -1 != client.pttl(item["key"]) <= EXTENDED_MS
    if item["kind"] == "value" and item["field"] and target.kind == "valkey-9.1":
        (left,) = client.execute_command("HPTTL", item["key"], "FIELDS", 1, item["field"])
        return 0 <= left <= EXTENDED_MS
    return False


def snapshots(source: Server) -> int:
    """How many snapshots the source has sent since it started."""
    return int(source.client().info("stats")["sync_full"])

"""What a pause keeps the source from deleting is no difference, also where either side is a cluster."""

from __future__ import annotations

from sync_tasks.endpoints import Endpoint
from sync_tasks.errors import Side
from tests.scenarios.conftest import StartCluster
from tests.servers import StartServer
from workers.expiry import hold, hold_field
from workers.finish_verify import _over
from workers.moment import now_ms
from workers.verify.findings import Finding, Kind, Pair

HOUR_MS = 3_600_000


def test_what_a_paused_cluster_hides_is_no_difference(server: StartServer, cluster: StartCluster) -> None:
    """Keys on the target, and fields of hashes, whose time is over on the source, in every node of a cluster."""
    one, many, pair = server("valkey-9.1"), cluster("valkey-9.1"), Pair(0, 0)
    alone, whole, over, to_come = one.client(), many.client(), now_ms() - 5000, now_ms() + HOUR_MS
    for number in range(30):
        whole.set(f"k{number}", 1)
        whole.execute_command("PEXPIREAT", f"k{number}", hold(over if number else to_come))
        whole.hset(f"h{number}", mapping={"left": 1})
        alone.hset(f"h{number}", mapping={"left": 1, "over": 1})
        when = hold_field(over if number else to_come)
        alone.execute_command("HPEXPIREAT", f"h{number}", when, "FIELDS", 1, "over")
    single, several = Endpoint.parse(one.url(0), Side.SOURCE), Endpoint.parse(many.url(), Side.TARGET)
    keys = [Finding(pair, b"k%d" % number, Kind.EXTRA) for number in range(30)]
    assert _over(single, several, keys) == {*keys[1:]}
    fields = [Finding(pair, b"h%d" % number, Kind.VALUE, b"over") for number in range(30)]
    assert _over(several, single, fields) == {*fields[1:]}

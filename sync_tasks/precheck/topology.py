"""Items: no cluster, a source that can be followed, a target that takes writes, and two different servers."""

from __future__ import annotations

from sync_tasks.errors import Side, UsageError
from sync_tasks.precheck.facts import Facts, refusal


def check(source: Facts, target: Facts) -> None:
    """Raises UsageError when both are one, else SourceError or TargetError."""
    _different(source, target)
    for facts in (source, target):
        if facts.cluster:
            raise refusal(
                facts.endpoint.side,
                f"{facts.endpoint.address()} is a member of a cluster, which is not supported yet",
                "name a server that runs without cluster-enabled",
                "cluster",
            )
    if source.role != "master" and not source.link_up:
        raise refusal(
            Side.SOURCE,
            f"{source.endpoint.address()} is a replica that has lost its master {source.master}",
            "mend its replication, name the master itself, or make it a master (REPLICAOF NO ONE)",
            "replica-without-master",
        )
    if target.role != "master":
        raise refusal(
            Side.TARGET,
            f"{target.endpoint.address()} is a replica of {target.master}",
            "name its master, or make it a master (REPLICAOF NO ONE)",
            "target-is-replica",
        )


def _different(source: Facts, target: Facts) -> None:
    """Run ids tell servers apart, whatever the addresses; a common replication id makes one data set."""
    if source.run_id and source.run_id == target.run_id:
        raise UsageError(
            f"source {source.endpoint.address()} and target {target.endpoint.address()} are the same server",
            hint="name two different servers",
            code="same-server",
        )
    if not source.replid or source.replid != target.replid:
        return
    for one, other in ((source, target), (target, source)):
        if one.role != "master":
            raise UsageError(
                f"the {one.endpoint.side.value} {one.endpoint.address()} is a replica of the same data set"
                f" as the {other.endpoint.side.value} {other.endpoint.address()}",
                hint="name two servers that do not replicate each other",
                code="same-server",
            )

"""Item: versions that this Keyferry knows, and a target that reads what the source writes."""

from __future__ import annotations

from sync_tasks.errors import KeyferryError, Side
from sync_tasks.precheck.facts import Facts, refusal

OLDEST = {"Redis": (6, 2), "Valkey": (7, 2)}
SOURCE_BEFORE = {"Redis": (7, 4)}  # its hash field expiry has a format of its own
FORK = (7, 2)  # up to here Valkey and Redis are one line


def check(source: Facts, target: Facts) -> None:
    """Raises SourceError or TargetError."""
    for facts in (source, target):
        if facts.version < OLDEST[facts.product]:
            oldest = ".".join(map(str, OLDEST[facts.product]))
            raise _unsupported(facts, f"name a server of {facts.product} {oldest} or later")
    before = SOURCE_BEFORE.get(source.product)
    if before is not None and source.version >= before:
        raise _unsupported(source, "as a source: Redis 6.2 to 7.2, or Valkey 7.2 and later")
    if not reads(source, target):
        raise refusal(
            Side.TARGET,
            f"{target.endpoint.address()} is {target.name}, which is older than the source or of another line"
            f" ({source.name})",
            "name a target of the same or a later version; conversion is not supported yet",
            "target-version",
        )


def reads(source: Facts, target: Facts) -> bool:
    """Whether the target is of the source's line and not older."""
    if target.version < source.version:
        return False
    same_line = target.product == source.product or source.version <= FORK
    return same_line and not (source.product == "Valkey" and target.product == "Redis" and target.version > FORK)


def _unsupported(facts: Facts, hint: str) -> KeyferryError:
    return refusal(
        facts.endpoint.side,
        f"{facts.endpoint.address()} is {facts.name}, which is not supported yet",
        hint,
        f"{facts.endpoint.side.value}-version",
    )
